{{/* The resources of one workload. */}}

{{/* How many: as asked for; where an autoscaler counts, as many as run now, so that nothing drops. */}}
{{- define "pharmaloop-service.replicas" -}}
{{- if .unit.autoscaling -}}
{{- $live := lookup "apps/v1" .unit.kind .root.Release.Namespace (include "pharmaloop-service.name" .) -}}
{{- $now := dig "spec" "replicas" 0 ($live | default dict) | int -}}
{{- min (max $now (int .unit.autoscaling.minReplicas)) (int .unit.autoscaling.maxReplicas) -}}
{{- else -}}
{{- int .unit.replicas -}}
{{- end -}}
{{- end -}}

{{- define "pharmaloop-service.workload" -}}
{{- $unit := .unit -}}
apiVersion: apps/v1
kind: {{ $unit.kind }}
metadata:
  name: {{ include "pharmaloop-service.name" . }}
  labels:
    {{- include "pharmaloop-service.labels" . | nindent 4 }}
spec:
  replicas: {{ include "pharmaloop-service.replicas" . }}
  revisionHistoryLimit: 5
  {{- if eq $unit.kind "StatefulSet" }}
  serviceName: {{ include "pharmaloop-service.host" . }}
  podManagementPolicy: Parallel
  updateStrategy:
    type: RollingUpdate
  {{- else }}
  strategy:
    rollingUpdate: {maxUnavailable: 0, maxSurge: 1}
  {{- end }}
  selector:
    matchLabels:
      {{- include "pharmaloop-service.selector" . | nindent 6 }}
  template:
    {{- include "pharmaloop-service.pod" . | nindent 4 }}
  {{- if and $unit.tables (eq $unit.kind "StatefulSet") }}
  # Tables of loops: Kafka can restore them, so they go with the workload.
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Delete, whenScaled: Delete}
  volumeClaimTemplates:
    - metadata:
        name: tables
        labels:
          {{- include "pharmaloop-service.selector" . | nindent 10 }}
      spec:
        accessModes: [ReadWriteOnce]
        {{- with $unit.persistence.storageClass }}
        storageClassName: {{ . }}
        {{- end }}
        resources:
          requests: {storage: {{ $unit.persistence.size }}}
  {{- end }}
{{- end -}}

{{- define "pharmaloop-service.serviceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "pharmaloop-service.host" . }}
  labels:
    {{- include "pharmaloop-service.common" .root | nindent 4 }}
automountServiceAccountToken: false
{{- end -}}

{{- define "pharmaloop-service.service" -}}
apiVersion: v1
kind: Service
metadata:
  name: {{ include "pharmaloop-service.host" . }}
  labels:
    {{- include "pharmaloop-service.common" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .unit.service }}
spec:
  selector:
    {{- include "pharmaloop-service.selector" . | nindent 4 }}
  ports:
    - {name: grpc, port: 50051, targetPort: grpc, appProtocol: grpc}
{{- end -}}

{{- define "pharmaloop-service.budget" -}}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ include "pharmaloop-service.name" . }}
  labels:
    {{- include "pharmaloop-service.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "pharmaloop-service.selector" . | nindent 6 }}
{{- end -}}

{{/* Keys are patients' data: without them what was sealed is gone. They outlive the release. */}}
{{- define "pharmaloop-service.keys" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ include "pharmaloop-service.host" . }}-keys
  labels:
    {{- include "pharmaloop-service.common" .root | nindent 4 }}
    app.kubernetes.io/component: {{ .unit.service }}
  {{- if .root.Values.keepKeys }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes: [{{ .unit.persistence.accessMode }}]
  {{- with .unit.persistence.storageClass }}
  storageClassName: {{ . }}
  {{- end }}
  resources:
    requests: {storage: {{ .unit.persistence.size }}}
{{- end -}}

{{/* On time lag: how many seconds of work wait at the present pace. Where nothing is taken (a poison
     message, a broker that is away) more processes would not help, and none are added. */}}
{{- define "pharmaloop-service.scaler" -}}
{{- $unit := .unit -}}
{{- $these := printf "namespace=%q,service=%q" .root.Release.Namespace $unit.service -}}
{{- with $unit.site }}{{ $these = printf "%s,site=%q" $these . }}{{ end -}}
apiVersion: keda.sh/v1alpha1
kind: ScaledObject
metadata:
  name: {{ include "pharmaloop-service.name" . }}
  labels:
    {{- include "pharmaloop-service.labels" . | nindent 4 }}
spec:
  scaleTargetRef:
    kind: {{ $unit.kind }}
    name: {{ include "pharmaloop-service.name" . }}
  minReplicaCount: {{ int $unit.autoscaling.minReplicas }}
  maxReplicaCount: {{ int $unit.autoscaling.maxReplicas }}
  pollingInterval: 15
  cooldownPeriod: 300
  advanced:
    horizontalPodAutoscalerConfig:
      behavior:
        scaleDown:
          stabilizationWindowSeconds: 600
          policies: [{type: Pods, value: 1, periodSeconds: 120}]
        scaleUp:
          stabilizationWindowSeconds: 60
          policies: [{type: Pods, value: 2, periodSeconds: 60}]
  triggers:
    - type: prometheus
      metricType: Value
      metadata:
        serverAddress: {{ .root.Values.autoscaling.prometheusServer | quote }}
        threshold: {{ int $unit.autoscaling.lagSeconds | quote }}
        ignoreNullValues: "true"
        query: >-
          max(
          sum by (runner) (pharmaloop_runner_lag_records{ {{- $these -}} })
          / (sum by (runner) (rate(pharmaloop_runner_records_total{ {{- $these -}} }[5m])) > 0)
          )
{{- end -}}
