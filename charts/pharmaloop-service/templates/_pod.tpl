{{/* The pod: restricted by the Pod Security Standards, probes that tell the truth, state where it is kept. */}}

{{- define "pharmaloop-service.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "pharmaloop-service.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
runAsNonRoot: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* Where a process connects to, by its user (the service's name). `site` is its entry, or nothing. */}}
{{- define "pharmaloop-service.connections" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $mongodb := .root.Values.mongodb -}}
{{- $site := .site | default dict -}}
- name: KAFKA_BOOTSTRAP_SERVERS
  value: {{ dig "kafka" "bootstrapServers" "" $site | default $kafka.bootstrapServers | quote }}
- name: KAFKA_SECURITY_PROTOCOL
  value: {{ $kafka.securityProtocol }}
{{- if $kafka.saslMechanism }}
{{- $secret := include "pharmaloop-service.secret" (dict "of" $kafka.credentials "user" .user) }}
- name: KAFKA_SASL_MECHANISM
  value: {{ $kafka.saslMechanism }}
- name: KAFKA_SASL_USERNAME
  {{- if $kafka.credentials.usernameKey }}
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $kafka.credentials.usernameKey }}}
  {{- else }}
  value: {{ $secret }}
  {{- end }}
- name: KAFKA_SASL_PASSWORD
  valueFrom:
    secretKeyRef: {name: {{ $secret }}, key: {{ $kafka.credentials.passwordKey }}}
{{- end }}
{{- if $kafka.ca.secretName }}
- name: KAFKA_SSL_CA_LOCATION
  value: /etc/pharmaloop/kafka-ca/{{ $kafka.ca.key }}
{{- end }}
{{- if $kafka.clientCertificate.secretName }}
- name: KAFKA_SSL_CERTIFICATE_LOCATION
  value: /etc/pharmaloop/kafka-client/{{ $kafka.clientCertificate.certificateKey }}
- name: KAFKA_SSL_KEY_LOCATION
  value: /etc/pharmaloop/kafka-client/{{ $kafka.clientCertificate.keyKey }}
{{- end }}
{{- if .database }}
{{- $own := dig "mongodb" "uri" dict $site }}
{{- $uri := ternary $own $mongodb.uri (not (empty $own.secretName)) }}
- name: MONGODB_URI
  valueFrom:
    secretKeyRef: {name: {{ include "pharmaloop-service.secret" (dict "of" $uri "user" .user) }}, key: {{ $uri.key | default "uri" }}}
{{- if $mongodb.ca.secretName }}
- name: MONGODB_TLS_CA_FILE
  value: /etc/pharmaloop/mongodb-ca/{{ $mongodb.ca.key }}
{{- end }}
{{- if $mongodb.clientCertificate.secretName }}
- name: MONGODB_TLS_CERTIFICATE_KEY_FILE
  value: /etc/pharmaloop/mongodb-client/{{ $mongodb.clientCertificate.key }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Name of a Secret: one for all, or one for each service with the given name before it. */}}
{{- define "pharmaloop-service.secret" -}}
{{ .of.secretName }}{{ if .of.perService }}-{{ .user }}{{ end }}
{{- end -}}

{{/* Certificates of gRPC: where a process finds its own and the authority of all others. */}}
{{- define "pharmaloop-service.grpcTls" -}}
{{- with .Values.grpcTls }}
- name: PHARMALOOP_TLS_CERT
  value: /etc/pharmaloop/grpc/{{ .certificateKey }}
- name: PHARMALOOP_TLS_KEY
  value: /etc/pharmaloop/grpc/{{ .keyKey }}
- name: PHARMALOOP_TLS_CA
  value: /etc/pharmaloop/grpc/{{ .caKey }}
{{- end }}
{{- end -}}

{{/* Name of the Secret with the certificate of a user: a service, at its site if it has sites; portal, test, world. */}}
{{- define "pharmaloop-service.grpcSecret" -}}
{{ .root.Values.grpcTls.secretName | default (printf "%s-grpc" (include "pharmaloop-service.fullname" .root)) }}-{{ .user }}
{{- end -}}

{{/* The same as a mount and as a volume, for pods that only call. */}}
{{- define "pharmaloop-service.grpcMount" -}}
- {name: grpc, mountPath: /etc/pharmaloop/grpc, readOnly: true}
{{- end -}}
{{- define "pharmaloop-service.grpcVolume" -}}
- name: grpc
  secret: {secretName: {{ include "pharmaloop-service.grpcSecret" . }}, defaultMode: 0440}
{{- end -}}

{{/* Files of connections, as volumes: list of (name, secret, folder). */}}
{{- define "pharmaloop-service.files" -}}
{{- $kafka := .root.Values.kafka -}}
{{- $mongodb := .root.Values.mongodb -}}
{{- $files := list -}}
{{- if $kafka.ca.secretName }}
{{- $files = append $files (dict "name" "kafka-ca" "secret" $kafka.ca.secretName) -}}
{{- end }}
{{- if $kafka.clientCertificate.secretName }}
{{- $files = append $files (dict "name" "kafka-client" "secret" (include "pharmaloop-service.secret" (dict "of" $kafka.clientCertificate "user" .user))) -}}
{{- end }}
{{- if and .database $mongodb.ca.secretName }}
{{- $files = append $files (dict "name" "mongodb-ca" "secret" $mongodb.ca.secretName) -}}
{{- end }}
{{- if and .database $mongodb.clientCertificate.secretName }}
{{- $files = append $files (dict "name" "mongodb-client" "secret" $mongodb.clientCertificate.secretName) -}}
{{- end }}
{{- if and .database .root.Values.grpcTls.enabled }}
{{- $files = append $files (dict "name" "grpc" "secret" (include "pharmaloop-service.grpcSecret" (dict "root" .root "user" .user))) -}}
{{- end }}
{{- dict "files" $files | toYaml -}}
{{- end -}}

{{/* What every process of the installation is told. */}}
{{- define "pharmaloop-service.platform" -}}
- name: PHARMALOOP_STATE_DIR
  value: /var/lib/pharmaloop
- name: PHARMALOOP_SITES
  value: {{ .Values.sites | default list | include "pharmaloop-service.siteNames" | quote }}
- name: PHARMALOOP_LOG_LEVEL
  value: {{ .Values.logLevel }}
{{- with (.Values.tracing | default dict).endpoint }}
- name: PHARMALOOP_OTLP_ENDPOINT
  value: {{ . | quote }}
- name: PHARMALOOP_TRACE_RATIO
  value: {{ $.Values.tracing.ratio | toString | quote }}
{{- end }}
- name: PYTHONUNBUFFERED
  value: "1"
{{- end -}}

{{- define "pharmaloop-service.siteNames" -}}
{{- $names := list -}}
{{- range . }}{{ $names = append $names .name }}{{ end -}}
{{- $names | toJson -}}
{{- end -}}

{{/* Everything but containers that a pod says. */}}
{{- define "pharmaloop-service.placement" -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  {{- include "pharmaloop-service.podSecurity" .root | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .root.Values.scheduling.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- end -}}

{{- define "pharmaloop-service.spread" -}}
topologySpreadConstraints:
  {{- range $key := list "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ $key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "pharmaloop-service.selector" $ | nindent 8 }}
  {{- end }}
{{- end -}}

{{/* Environment of a service's process. */}}
{{- define "pharmaloop-service.environment" -}}
{{- $unit := .unit -}}
{{- $prefix := printf "PHARMALOOP_%s" (upper $unit.service) -}}
{{ include "pharmaloop-service.connections" (dict "root" .root "user" $unit.user "site" $unit.entry "database" true) }}
{{ include "pharmaloop-service.platform" .root }}
{{- if .root.Values.grpcTls.enabled }}
{{ include "pharmaloop-service.grpcTls" .root | trim }}
- name: {{ $prefix }}_HEALTH_PORT
  value: "50052"
{{- end }}
- name: PHARMALOOP_ENDPOINTS
  value: {{ include "pharmaloop.endpoints" .root | fromYaml | toJson | quote }}
- name: {{ $prefix }}_INSTANCE
  valueFrom:
    fieldRef: {fieldPath: metadata.name}
{{- range $kind, $port := dict "GRPC" "50051" "METRICS" "9464" }}
- name: {{ $prefix }}_{{ $kind }}_HOST
  value: "0.0.0.0"
- name: {{ $prefix }}_{{ $kind }}_PORT
  value: {{ $port | quote }}
{{- end }}
{{- with $unit.entry }}
- name: {{ $prefix }}_SITE
  value: {{ .name | quote }}
- name: {{ $prefix }}_SITE_NAME
  value: {{ .displayName | quote }}
{{- end }}
{{- range $unit.calls }}
- name: {{ $prefix }}_{{ upper .service }}
  value: {{ .address | quote }}
{{- end }}
{{- range $name, $value := $unit.settings }}
- name: {{ $prefix }}_{{ upper $name }}
  value: {{ if kindIs "string" $value }}{{ $value | quote }}{{ else }}{{ $value | toJson | quote }}{{ end }}
{{- end }}
{{- end -}}

{{- define "pharmaloop-service.pod" -}}
{{- $root := .root -}}
{{- $unit := .unit -}}
{{- $files := (include "pharmaloop-service.files" (dict "root" $root "user" $unit.user "database" true) | fromYaml).files -}}
metadata:
  labels:
    {{- include "pharmaloop-service.podLabels" . | nindent 4 }}
  {{- with $root.Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "pharmaloop-service.host" . }}
  terminationGracePeriodSeconds: {{ int $root.Values.terminationGracePeriodSeconds }}
  {{- include "pharmaloop-service.placement" . | nindent 2 }}
  {{- include "pharmaloop-service.spread" . | nindent 2 }}
  containers:
    - name: {{ $unit.service }}
      image: {{ include "pharmaloop-service.image" $root }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      command: [python, -m, {{ $unit.module }}, --role, {{ $unit.role }}]
      env:
        {{- include "pharmaloop-service.environment" . | nindent 8 }}
      ports:
        - {name: grpc, containerPort: 50051}
        - {name: metrics, containerPort: 9464}
        {{- if $root.Values.grpcTls.enabled }}
        - {name: health, containerPort: 50052}
        {{- end }}
      # Started: the process has written that its loops turn. Only then is it asked for more.
      startupProbe:
        exec:
          command: [python, -m, services.kit.alive, --older-than, "120"]
        periodSeconds: 5
        timeoutSeconds: 5
        failureThreshold: {{ div (int $root.Values.probes.startSeconds) 5 }}
      # Ready: nothing keeps it from its work (Kafka, database, state folder, certificates, each of its runners).
      {{- if $root.Values.grpcTls.enabled }}
      # Probes of Kubernetes have no certificate: a port of its own answers health, in plain text and nothing else.
      {{- end }}
      readinessProbe:
        grpc: {port: {{ ternary 50052 50051 $root.Values.grpcTls.enabled }}}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      # Alive: its slowest loop has turned; trouble outside the process does not kill it.
      livenessProbe:
        exec:
          command: [python, -m, services.kit.alive, --older-than, {{ int $root.Values.probes.silentSeconds | quote }}]
        periodSeconds: 20
        timeoutSeconds: 10
        failureThreshold: 3
      {{- if has $unit.role (list "api" "all") }}
      # Callers are sent elsewhere before the process stops listening.
      lifecycle:
        preStop:
          sleep: {seconds: 3}
      {{- end }}
      resources:
        {{- toYaml $unit.resources | nindent 8 }}
      securityContext:
        {{- include "pharmaloop-service.containerSecurity" $root | nindent 8 }}
      volumeMounts:
        - {name: state, mountPath: /var/lib/pharmaloop}
        - {name: tmp, mountPath: /tmp}
        {{- if $unit.keys }}
        - {name: keys, mountPath: /var/lib/pharmaloop/keys}
        {{- end }}
        {{- if $unit.tables }}
        - {name: tables, mountPath: /var/lib/pharmaloop/loops}
        {{- end }}
        {{- range $unit.secretKeys }}
        - {name: {{ .volume }}, mountPath: /var/lib/pharmaloop/keys/{{ .id | sha256sum }}, subPath: key, readOnly: true}
        {{- end }}
        {{- range $files }}
        - {name: {{ .name }}, mountPath: /etc/pharmaloop/{{ .name }}, readOnly: true}
        {{- end }}
        {{- if $root.Values.demo.enabled }}
        - {name: clock, mountPath: /var/lib/pharmaloop/clock.json, subPath: clock.json, readOnly: true}
        {{- end }}
  volumes:
    - name: state
      emptyDir: {sizeLimit: 64Mi}
    - name: tmp
      emptyDir: {sizeLimit: 64Mi}
    {{- if $unit.keys }}
    - name: keys
      persistentVolumeClaim:
        claimName: {{ $unit.persistence.existingClaim | default (printf "%s-keys" (include "pharmaloop-service.host" .)) }}
    {{- end }}
    {{- if and $unit.tables (ne $unit.kind "StatefulSet") }}
    - name: tables
      emptyDir: {}
    {{- end }}
    {{- range $unit.secretKeys }}
    - name: {{ .volume }}
      secret:
        secretName: {{ .secretName }}
        defaultMode: 0440
        items: [{key: {{ .key }}, path: key}]
    {{- end }}
    {{- range $files }}
    - name: {{ .name }}
      secret: {secretName: {{ .secret }}, defaultMode: 0440}
    {{- end }}
    {{- if $root.Values.demo.enabled }}
    - name: clock
      configMap: {name: {{ include "pharmaloop-service.fullname" $root }}-clock}
    {{- end }}
{{- end -}}
