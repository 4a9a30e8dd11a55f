{{- define "plain.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
securityContext:
  runAsNonRoot: {{ not .Values.runAsRoot }}
  seccompProfile: {type: RuntimeDefault}
{{- end }}
{{- define "plain.container" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
resources:
  requests: {cpu: 100m, memory: 64Mi}
  limits: {memory: 64Mi}
{{- end }}
