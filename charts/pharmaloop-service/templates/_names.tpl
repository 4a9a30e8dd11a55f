{{/* Names and labels. Every template takes (dict "root" $ "unit" $unit); a unit is one workload: see the
     umbrella's `pharmaloop.units`. */}}

{{- define "pharmaloop-service.fullname" -}}
{{- $name := .Values.fullnameOverride | default .Release.Name -}}
{{- $name | trunc 18 | trimSuffix "-" -}}
{{- end -}}

{{/* Name of the workload, of its pods and its budget. */}}
{{- define "pharmaloop-service.name" -}}
{{ include "pharmaloop-service.fullname" .root }}-{{ .unit.name }}
{{- end -}}

{{/* Name under which a service is called, whichever of its workloads answers. */}}
{{- define "pharmaloop-service.host" -}}
{{ include "pharmaloop-service.fullname" .root }}-{{ .unit.service }}{{ with .unit.site }}-{{ . }}{{ end }}
{{- end -}}

{{/* What all pods of a release have in common, and nobody else's. */}}
{{- define "pharmaloop-service.ours" -}}
app.kubernetes.io/part-of: pharmaloop
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{/* The pods of one service at one site. */}}
{{- define "pharmaloop-service.peer" -}}
{{ include "pharmaloop-service.ours" .root }}
app.kubernetes.io/component: {{ .unit.service }}
{{- with .unit.site }}
pharmaloop/site: {{ . }}
{{- end }}
{{- end -}}

{{- define "pharmaloop-service.selector" -}}
{{ include "pharmaloop-service.peer" . }}
pharmaloop/role: {{ .unit.role }}
{{- end -}}

{{/* Labels of every resource. */}}
{{- define "pharmaloop-service.common" -}}
{{ include "pharmaloop-service.ours" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pharmaloop-service.labels" -}}
{{ include "pharmaloop-service.common" .root }}
app.kubernetes.io/component: {{ .unit.service }}
{{- with .unit.site }}
pharmaloop/site: {{ . }}
{{- end }}
pharmaloop/role: {{ .unit.role }}
{{- end -}}

{{/* Labels of pods: without the chart's version, so that a new chart alone restarts nothing. */}}
{{- define "pharmaloop-service.podLabels" -}}
{{ include "pharmaloop-service.selector" . }}
{{- with .root.Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "pharmaloop-service.image" -}}
{{- $image := .Values.image -}}
{{- with $image.registry }}{{ . }}/{{ end }}{{ $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default .Chart.AppVersion }}{{ end }}
{{- end -}}
