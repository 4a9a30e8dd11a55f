{{- define "pharmaloop-kafka.labels" -}}
app.kubernetes.io/part-of: pharmaloop
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
strimzi.io/cluster: {{ .Values.cluster.name }}
{{- end -}}

{{- define "pharmaloop-kafka.keep" -}}
{{- if .Values.keep }}
annotations:
  helm.sh/resource-policy: keep
{{- end }}
{{- end -}}

{{/* Names at every site of those that hold {site}: (dict "names" LIST "sites" LIST). */}}
{{- define "pharmaloop-kafka.names" -}}
{{- $found := list -}}
{{- range $name := .names -}}
  {{- if contains "{site}" $name -}}
    {{- range $site := $.sites }}{{ $found = append $found ($name | replace "{site}" $site) }}{{ end -}}
  {{- else -}}
    {{- $found = append $found $name -}}
  {{- end -}}
{{- end -}}
{{- dict "names" $found | toYaml -}}
{{- end -}}

{{- define "pharmaloop-kafka.check" -}}
{{- $wrong := list -}}
{{- if gt (int .Values.minInsyncReplicas) (int .Values.replicationFactor) -}}
{{- $wrong = append $wrong (printf "minInsyncReplicas: %d copies cannot be in step where replicationFactor is %d; lower it" (int .Values.minInsyncReplicas) (int .Values.replicationFactor)) -}}
{{- end -}}
{{- if and .Values.cluster.create (gt (int .Values.replicationFactor) (int .Values.cluster.brokers.replicas)) -}}
{{- $wrong = append $wrong (printf "replicationFactor: %d copies need as many brokers, and cluster.brokers.replicas is %d; raise that, or lower this" (int .Values.replicationFactor) (int .Values.cluster.brokers.replicas)) -}}
{{- end -}}
{{- if and .Values.cluster.create (eq (mod (int .Values.cluster.controllers.replicas) 2) 0) -}}
{{- $wrong = append $wrong (printf "cluster.controllers.replicas: %d controllers stand no more losses than %d; give an odd number" (int .Values.cluster.controllers.replicas) (sub (int .Values.cluster.controllers.replicas) 1)) -}}
{{- end -}}
{{- if ne (len .Values.sites) (len (uniq .Values.sites)) -}}
{{- $wrong = append $wrong "sites: a site is named twice; name each once" -}}
{{- end -}}
{{- if $wrong -}}
{{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
