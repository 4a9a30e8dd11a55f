{{/* The workloads of the installation, from the catalogue (files/catalogue.yaml) and the values. */}}

{{- define "pharmaloop.catalogue" -}}
{{- .Files.Get "files/catalogue.yaml" -}}
{{- end -}}

{{/* Where every service listens: those that are deployed here, and those that are said to be elsewhere.
     The first site's services go by the service's name alone, the others' by name and site. */}}
{{- define "pharmaloop.endpoints" -}}
{{- $full := include "pharmaloop-service.fullname" . -}}
{{- $found := dict -}}
{{- range $service, $entry := include "pharmaloop.catalogue" . | fromYaml -}}
  {{- if (index $.Values.services $service).enabled -}}
    {{- if $entry.site -}}
      {{- range $number, $site := $.Values.sites -}}
        {{- if or (ne $service "agent") (ne $site.agent false) -}}
          {{- $name := ternary $service (printf "%s.%s" $service $site.name) (eq $number 0) -}}
          {{- $_ := set $found $name (printf "%s-%s-%s:50051" $full $service $site.name) -}}
        {{- end -}}
      {{- end -}}
    {{- else -}}
      {{- $_ := set $found $service (printf "%s-%s:50051" $full $service) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $name, $address := .Values.endpoints }}{{ $_ := set $found $name $address }}{{ end -}}
{{- $found | toYaml -}}
{{- end -}}

{{/* Every unit: one service, at one site if it has sites, in one role. */}}
{{- define "pharmaloop.units" -}}
{{- $units := list -}}
{{- $full := include "pharmaloop-service.fullname" . -}}
{{- range $service, $entry := include "pharmaloop.catalogue" . | fromYaml -}}
  {{- $values := index $.Values.services $service -}}
  {{- if $values.enabled -}}
    {{- range $place := ternary $.Values.sites (list dict) $entry.site -}}
      {{- if or (ne $service "agent") (ne $place.agent false) -}}
      {{- $site := $place.name | default "" -}}
      {{- $base := ternary (printf "%s-%s" $service $site) $service (ne $site "") -}}
      {{- $calls := list -}}
      {{- range $called := $entry.calls -}}
        {{- $name := $called -}}
        {{- if eq $called "clinical" }}{{ $name = printf "%s-%s" $called $site }}{{ end -}}
        {{- $address := index $.Values.endpoints $called | default (printf "%s-%s:50051" $full $name) -}}
        {{- $calls = append $calls (dict "service" $called "address" $address) -}}
      {{- end -}}
      {{- $secretKeys := list -}}
      {{- if eq $service "traceability" -}}
        {{- $secretKeys = append $secretKeys (dict "volume" "key-master" "id" "traceability/exposure" "secretName" $.Values.exposure.masterKey.secretName "key" $.Values.exposure.masterKey.key) -}}
        {{- range $.Values.sites -}}
          {{- $secretKeys = append $secretKeys (dict "volume" (printf "key-%s" .name) "id" (printf "exposure/%s" .name) "secretName" (dig "exposureKey" "secretName" "" .) "key" (dig "exposureKey" "key" "key" .)) -}}
        {{- end -}}
      {{- else if eq $service "clinical" -}}
        {{- $secretKeys = append $secretKeys (dict "volume" "key-exposure" "id" (printf "exposure/%s" $site) "secretName" (dig "exposureKey" "secretName" "" $place) "key" (dig "exposureKey" "key" "key" $place)) -}}
      {{- end -}}
      {{- $settings := deepCopy ($values.settings | default dict) -}}
      {{- if eq $service "agent" }}{{ $settings = mergeOverwrite $settings (deepCopy ($place.agentSettings | default dict)) }}{{ end -}}
      {{- $common := dict "service" $service "site" $site "user" $base "entry" $place "module" $entry.module "keys" $entry.keys "tables" false "calls" $calls "secretKeys" $secretKeys "settings" $settings "persistence" ($values.persistence | default dict) -}}
      {{- $resources := $values.resources | default (dict "requests" (dict "cpu" $entry.cpu "memory" $entry.memory.request) "limits" (dict "memory" $entry.memory.limit "cpu" "2")) -}}
      {{- $scaled := ternary $values.autoscaling (dict) (dig "enabled" false ($values.autoscaling | default dict)) -}}
      {{- if eq ($values.roles | default "together") "split" -}}
        {{- /* The relay moves what is sealed already: it is given no key. */ -}}
        {{- $units = append $units (merge (dict "name" (printf "%s-api" $base) "role" "api" "kind" "Deployment" "replicas" (dig "api" "replicas" 1 $values) "serves" true "resources" (dig "api" "resources" dict $values | default $resources) "autoscaling" dict) $common) -}}
        {{- $units = append $units (merge (dict "name" (printf "%s-worker" $base) "role" "worker" "kind" "StatefulSet" "replicas" $values.replicas "serves" false "resources" $resources "autoscaling" $scaled "tables" $entry.tables) $common) -}}
        {{- $units = append $units (merge (dict "name" (printf "%s-relay" $base) "role" "relay" "kind" "Deployment" "replicas" (dig "relay" "replicas" 1 $values) "serves" false "resources" (dig "relay" "resources" dict $values | default $resources) "autoscaling" dict "keys" false "secretKeys" list) (omit $common "keys" "secretKeys")) -}}
      {{- else -}}
        {{- $units = append $units (merge (dict "name" $base "role" "all" "kind" "StatefulSet" "replicas" $values.replicas "serves" true "resources" $resources "autoscaling" $scaled "tables" $entry.tables) $common) -}}
      {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- dict "units" $units | toYaml -}}
{{- end -}}

{{/* Who has a certificate for gRPC: by user, the names under which it is called ("" for who only calls). */}}
{{- define "pharmaloop.grpcUsers" -}}
{{- $found := dict -}}
{{- range $unit := (include "pharmaloop.units" . | fromYaml).units -}}
  {{- $_ := set $found $unit.user (include "pharmaloop-service.host" (dict "root" $ "unit" $unit)) -}}
{{- end -}}
{{- if .Values.portal.enabled }}{{ $_ := set $found "portal" "" }}{{ end -}}
{{- if .Values.test.enabled }}{{ $_ := set $found "test" "" }}{{ end -}}
{{- if .Values.demo.enabled }}{{ $_ := set $found "world" "" }}{{ end -}}
{{- $found | toYaml -}}
{{- end -}}

{{/* Secrets that the installation names and does not make: yours to bring, with what each holds. */}}
{{- define "pharmaloop.secrets" -}}
{{- $kafka := .Values.kafka -}}
{{- $mongodb := .Values.mongodb -}}
{{- $found := dict -}}
{{- range .Values.image.pullSecrets }}{{ $_ := set $found .name "pull secret of the image's registry" }}{{ end -}}
{{- if $kafka.ca.secretName }}{{ $_ := set $found $kafka.ca.secretName (printf "%s: authority of the brokers' certificates, PEM" $kafka.ca.key) }}{{ end -}}
{{- if $mongodb.ca.secretName }}{{ $_ := set $found $mongodb.ca.secretName (printf "%s: authority of the database's certificates, PEM" $mongodb.ca.key) }}{{ end -}}
{{- if $mongodb.clientCertificate.secretName }}{{ $_ := set $found $mongodb.clientCertificate.secretName (printf "%s: certificate and key for the database, one PEM" $mongodb.clientCertificate.key) }}{{ end -}}
{{- $users := list -}}
{{- range (include "pharmaloop.units" . | fromYaml).units -}}
  {{- $users = append $users .user -}}
  {{- $own := dig "mongodb" "uri" dict (.entry | default dict) -}}
  {{- $uri := ternary $own $mongodb.uri (not (empty $own.secretName)) -}}
  {{- $_ := set $found (include "pharmaloop-service.secret" (dict "of" $uri "user" .user)) (printf "%s: connection string of MongoDB" ($uri.key | default "uri")) -}}
  {{- range .secretKeys -}}
    {{- $what := printf "%s: 32 random bytes, the key %s" .key .id -}}
    {{- $before := index $found .secretName | default "" -}}
    {{- if not (contains $what $before) }}{{ $_ := set $found .secretName (list $before $what | compact | join "; ") }}{{ end -}}
  {{- end -}}
{{- end -}}
{{- if .Values.migration.enabled }}{{ $users = append $users "migrate" }}{{ end -}}
{{- range $user := uniq $users -}}
  {{- if $kafka.credentials.secretName }}{{ $_ := set $found (include "pharmaloop-service.secret" (dict "of" $kafka.credentials "user" $user)) (printf "%s: who logs in to Kafka" (list $kafka.credentials.usernameKey $kafka.credentials.passwordKey | compact | join ", ")) }}{{ end -}}
  {{- if $kafka.clientCertificate.secretName }}{{ $_ := set $found (include "pharmaloop-service.secret" (dict "of" $kafka.clientCertificate "user" $user)) (printf "%s, %s: certificate and key for Kafka, PEM" $kafka.clientCertificate.certificateKey $kafka.clientCertificate.keyKey) }}{{ end -}}
{{- end -}}
{{- $grpc := .Values.grpcTls -}}
{{- if and $grpc.enabled (not $grpc.issuer.name) -}}
  {{- range $user, $host := include "pharmaloop.grpcUsers" . | fromYaml -}}
    {{- $for := ternary "it only calls" (printf "for the name %s" $host) (empty $host) -}}
    {{- $_ := set $found (include "pharmaloop-service.grpcSecret" (dict "root" $ "user" $user)) (printf "%s, %s, %s: certificate and key for gRPC (%s), and the authority" $grpc.certificateKey $grpc.keyKey $grpc.caKey $for) -}}
  {{- end -}}
{{- end -}}
{{- $ingress := .Values.portal.ingress -}}
{{- if and .Values.portal.enabled $ingress.enabled $ingress.tlsSecret (not $ingress.issuer.name) }}{{ $_ := set $found $ingress.tlsSecret "tls.crt, tls.key: certificate of the portal" }}{{ end -}}
{{- $found | toYaml -}}
{{- end -}}
