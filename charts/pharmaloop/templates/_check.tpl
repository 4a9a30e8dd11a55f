{{/* What contradicts itself is refused before anything is installed: every trouble at once, each as
     field: rule; next step. What a value may be by itself is said by values.schema.json. */}}

{{- define "pharmaloop.check" -}}
{{- $wrong := list -}}
{{- $kafka := .Values.kafka -}}
{{- $mongodb := .Values.mongodb -}}
{{- $catalogue := include "pharmaloop.catalogue" . | fromYaml -}}
{{- $services := .Values.services -}}

{{- /* What stands in the cluster already */ -}}
{{- $wrong = concat $wrong (include "pharmaloop.standing" . | fromYaml).wrong -}}

{{- /* Kafka */ -}}
{{- if not $kafka.bootstrapServers -}}
{{- $wrong = append $wrong "kafka.bootstrapServers: no brokers are named; give host:port, several with commas between them" -}}
{{- end -}}
{{- $sasl := hasPrefix "SASL_" $kafka.securityProtocol -}}
{{- $tls := hasSuffix "SSL" $kafka.securityProtocol -}}
{{- if and $sasl (or (not $kafka.saslMechanism) (not $kafka.credentials.secretName)) -}}
{{- $wrong = append $wrong (printf "kafka.securityProtocol: %s needs a login; set kafka.saslMechanism and kafka.credentials.secretName" $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $sasl) (or $kafka.saslMechanism $kafka.credentials.secretName) -}}
{{- $wrong = append $wrong (printf "kafka.credentials: a login has no effect with kafka.securityProtocol=%s; choose SASL_SSL or SASL_PLAINTEXT, or leave saslMechanism and credentials out" $kafka.securityProtocol) -}}
{{- end -}}
{{- if and (not $tls) (or $kafka.ca.secretName $kafka.clientCertificate.secretName) -}}
{{- $wrong = append $wrong (printf "kafka.ca, kafka.clientCertificate: certificates have no effect with kafka.securityProtocol=%s; choose SSL or SASL_SSL, or leave them out" $kafka.securityProtocol) -}}
{{- end -}}
{{- if gt (int $kafka.minInsyncReplicas) (int $kafka.replicationFactor) -}}
{{- $wrong = append $wrong (printf "kafka.minInsyncReplicas: %d copies of a record cannot be in step where kafka.replicationFactor is %d; set it to %d or less" (int $kafka.minInsyncReplicas) (int $kafka.replicationFactor) (max 1 (sub (int $kafka.replicationFactor) 1))) -}}
{{- end -}}

{{- /* MongoDB */ -}}
{{- $named := not (empty $mongodb.uri.secretName) -}}
{{- range (include "pharmaloop.units" . | fromYaml).units -}}
  {{- if not (or $named (dig "mongodb" "uri" "secretName" "" (.entry | default dict))) -}}
  {{- $named = true -}}
  {{- $wrong = append $wrong "mongodb.uri.secretName: no database is named; create a Secret with the connection string of a replica set (key uri) and name it here" -}}
  {{- end -}}
{{- end -}}

{{- /* Sites and their keys */ -}}
{{- $names := list -}}
{{- $keys := list -}}
{{- range $number, $site := .Values.sites -}}
  {{- if has $site.name $names -}}
  {{- $wrong = append $wrong (printf "sites[%d].name: there are two sites %q; give each its own name" $number $site.name) -}}
  {{- end -}}
  {{- $names = append $names $site.name -}}
  {{- $key := dig "exposureKey" "secretName" "" $site -}}
  {{- if and (not $key) (or $services.clinical.enabled $services.traceability.enabled) -}}
  {{- $wrong = append $wrong (printf "sites[%d].exposureKey: site %q has no key, so its exposures could never be acknowledged; create a Secret of 32 random bytes (head -c 32 /dev/urandom > key; kubectl create secret generic exposure-%s --from-file=key) and name it in exposureKey.secretName" $number $site.name $site.name) -}}
  {{- end -}}
  {{- if $key -}}
    {{- $which := printf "%s/%s" $key (dig "exposureKey" "key" "key" $site) -}}
    {{- if has $which $keys -}}
    {{- $wrong = append $wrong (printf "sites[%d].exposureKey: another site has the key %s too; each site needs one of its own" $number $which) -}}
    {{- end -}}
    {{- $keys = append $keys $which -}}
  {{- end -}}
{{- end -}}
{{- range $service, $entry := $catalogue -}}
  {{- if and $entry.site (index $services $service).enabled (not $.Values.sites) -}}
  {{- $wrong = append $wrong (printf "sites: services.%s runs once for each site, and there is none; name a site, or set services.%s.enabled=false" $service $service) -}}
  {{- end -}}
{{- end -}}
{{- if and $services.traceability.enabled (not .Values.exposure.masterKey.secretName) -}}
{{- $wrong = append $wrong "exposure.masterKey.secretName: traceability derives the digest keys of runs from it; create a Secret of 32 random bytes (head -c 32 /dev/urandom > key; kubectl create secret generic exposure-master --from-file=key) and name it here" -}}
{{- end -}}
{{- if and .Values.exposure.masterKey.secretName (has (printf "%s/%s" .Values.exposure.masterKey.secretName .Values.exposure.masterKey.key) $keys) -}}
{{- $wrong = append $wrong "exposure.masterKey: a site has this key too, and could make the keys of all others from it; give traceability one of its own" -}}
{{- end -}}

{{- /* Roles, replicas, autoscaling */ -}}
{{- range $service, $entry := $catalogue -}}
  {{- $values := index $services $service -}}
  {{- $at := printf "services.%s" $service -}}
  {{- if $values.enabled -}}
    {{- $split := eq ($values.roles | default "together") "split" -}}
    {{- $auto := dig "autoscaling" "enabled" false $values -}}
    {{- $most := int $values.replicas -}}
    {{- if $auto }}{{ $most = int $values.autoscaling.maxReplicas }}{{ end -}}
    {{- $pods := add $most (ternary (int (dig "api" "replicas" 1 $values)) 0 $split) | int -}}
    {{- if and $split $entry.whole -}}
    {{- $wrong = append $wrong (printf "%s.roles: %s cannot be split: %s; set it to together" $at $service $entry.whole) -}}
    {{- end -}}
    {{- if and $entry.alone (gt $most 1) -}}
    {{- $wrong = append $wrong (printf "%s.replicas: %s runs as one process: %s; set it to 1 and leave autoscaling off" $at $service $entry.alone) -}}
    {{- else if and (not $auto) (gt $most (int $entry.cap)) -}}
    {{- $wrong = append $wrong (printf "%s.replicas: %d processes share %d partitions at most, and the others would idle; set it to %d or less" $at $most (int $entry.cap) (int $entry.cap)) -}}
    {{- else if and $auto (gt $most (int $entry.cap)) -}}
    {{- $wrong = append $wrong (printf "%s.autoscaling.maxReplicas: %d processes share %d partitions at most, and the others would idle; set it to %d or less" $at $most (int $entry.cap) (int $entry.cap)) -}}
    {{- end -}}
    {{- if and $auto (gt (int $values.autoscaling.minReplicas) $most) -}}
    {{- $wrong = append $wrong (printf "%s.autoscaling.minReplicas: %d is more than maxReplicas, %d; lower it" $at (int $values.autoscaling.minReplicas) $most) -}}
    {{- end -}}
    {{- if and $auto (not $.Values.autoscaling.prometheusServer) -}}
    {{- $wrong = append $wrong (printf "%s.autoscaling: lag is read from Prometheus; name it in autoscaling.prometheusServer (http://host:port)" $at) -}}
    {{- end -}}
    {{- if and $entry.keys (not $entry.alone) (gt $pods 1) (ne (dig "persistence" "accessMode" "" $values) "ReadWriteMany") -}}
    {{- $wrong = append $wrong (printf "%s.persistence.accessMode: %d pods of %s open values with the same keys; use a storage class that many nodes may write and set it to ReadWriteMany, or run one pod (replicas 1, roles together)" $at $pods $service) -}}
    {{- end -}}
    {{- if and $entry.site (dig "persistence" "existingClaim" "" $values) (gt (len $.Values.sites) 1) -}}
    {{- $wrong = append $wrong (printf "%s.persistence.existingClaim: one claim would hold the keys of %d sites, and no site may have another's; leave it out" $at (len $.Values.sites)) -}}
    {{- end -}}
    {{- range $called := $entry.calls -}}
      {{- if not (or (index $services $called).enabled (hasKey $.Values.endpoints $called)) -}}
      {{- $wrong = append $wrong (printf "%s: it calls %s, which is not deployed here; say where it listens in endpoints.%s (host:port), or set %s.enabled=false" $at $called $called $at) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if and $values.enabled (hasKey $.Values.endpoints $service) -}}
  {{- $wrong = append $wrong (printf "endpoints.%s: this release deploys %s itself; leave the address out, or set %s.enabled=false" $service $service $at) -}}
  {{- end -}}
{{- end -}}
{{- if not (include "pharmaloop.units" . | fromYaml).units -}}
{{- $wrong = append $wrong "services: none is enabled; enable one at least" -}}
{{- end -}}

{{- /* The image */ -}}
{{- if and .Values.image.tag .Values.image.digest -}}
{{- $wrong = append $wrong "image.tag: a digest is given too, and says everything; leave one of them out" -}}
{{- end -}}

{{- /* Certificates of gRPC */ -}}
{{- $grpc := .Values.grpcTls -}}
{{- if and (not $grpc.enabled) (or $grpc.issuer.name $grpc.secretName) -}}
{{- $wrong = append $wrong "grpcTls: an issuer or Secrets have no effect with grpcTls.enabled=false; enable it, or leave them out" -}}
{{- end -}}
{{- if and $grpc.issuer.name (or (ne $grpc.certificateKey "tls.crt") (ne $grpc.keyKey "tls.key") (ne $grpc.caKey "ca.crt")) -}}
{{- $wrong = append $wrong "grpcTls.certificateKey: cert-manager writes tls.crt, tls.key and ca.crt; leave the keys out where grpcTls.issuer is named" -}}
{{- end -}}

{{- /* The portal */ -}}
{{- $ingress := .Values.portal.ingress -}}
{{- if $ingress.enabled -}}
  {{- if not .Values.portal.enabled -}}
  {{- $wrong = append $wrong "portal.ingress.enabled: there is no portal to lead to; set portal.enabled=true, or leave the ingress off" -}}
  {{- end -}}
  {{- if not $ingress.host -}}
  {{- $wrong = append $wrong "portal.ingress.host: no name is given under which people find the portal; give one" -}}
  {{- end -}}
  {{- if not (or $ingress.tlsSecret $ingress.plain) -}}
  {{- $wrong = append $wrong "portal.ingress.tlsSecret: pages about patients would travel in the clear; name a Secret with the certificate (cert-manager fills it where issuer.name is given), or set portal.ingress.plain=true where TLS ends before" -}}
  {{- end -}}
  {{- if and $ingress.plain (or $ingress.tlsSecret $ingress.issuer.name) -}}
  {{- $wrong = append $wrong "portal.ingress.plain: a certificate is named too; choose one of both" -}}
  {{- end -}}
{{- end -}}

{{- /* The network */ -}}
{{- if .Values.networkPolicy.enabled -}}
  {{- range $engine := list "kafka" "mongodb" -}}
    {{- if not (index $.Values.networkPolicy $engine).to -}}
    {{- $wrong = append $wrong (printf "networkPolicy.%s.to: everything is denied that is not named, and %s is not; name its pods (podSelector, namespaceSelector) or addresses (ipBlock), or set networkPolicy.enabled=false" $engine $engine) -}}
    {{- end -}}
  {{- end -}}
  {{- $ports := .Values.networkPolicy.kafka.ports -}}
  {{- $brokers := dict "kafka.bootstrapServers" $kafka.bootstrapServers -}}
  {{- range $number, $site := .Values.sites }}{{ $_ := set $brokers (printf "sites[%d].kafka.bootstrapServers" $number) (dig "kafka" "bootstrapServers" "" $site) }}{{ end -}}
  {{- range $at, $addresses := $brokers -}}
    {{- range $address := splitList "," $addresses | compact -}}
      {{- if not (has (regexFind "[0-9]+$" $address) (toStrings $ports)) -}}
      {{- $wrong = append $wrong (printf "networkPolicy.kafka.ports: %s names %s, and nobody may reach that port; add it to %v" $at $address $ports) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
  {{- if and (dig "podMonitor" "enabled" false .Values.monitoring) (not .Values.networkPolicy.monitoring) -}}
  {{- $wrong = append $wrong "networkPolicy.monitoring: metrics are to be collected, and nobody may reach them; name the collector's pods" -}}
  {{- end -}}
  {{- if and (.Values.tracing | default dict).endpoint (not .Values.networkPolicy.traces) -}}
  {{- $wrong = append $wrong "networkPolicy.traces: spans are to be sent, and nobody may reach their collector; name its pods or addresses (ipBlock)" -}}
  {{- end -}}
  {{- if and .Values.endpoints (not .Values.networkPolicy.elsewhere) -}}
  {{- $wrong = append $wrong "networkPolicy.elsewhere: services of endpoints are called, and nobody may reach them; name their addresses (ipBlock) or pods" -}}
  {{- end -}}
  {{- if and $ingress.enabled (not .Values.networkPolicy.ingressController) -}}
  {{- $wrong = append $wrong "networkPolicy.ingressController: the portal has an ingress, and nobody may reach it; name the controller's pods" -}}
  {{- end -}}
{{- end -}}

{{- /* Dashboards */ -}}
{{- $links := .Values.monitoring.rules -}}
{{- if and (dig "dashboards" "enabled" false .Values.monitoring) (not (and $links.portal $links.runbooks)) -}}
{{- $wrong = append $wrong "monitoring.dashboards.enabled: panels lead to pages of the portal and to runbooks, and nobody says where these are; give monitoring.rules.portal and monitoring.rules.runbooks" -}}
{{- end -}}

{{- /* The simulated industry */ -}}
{{- if .Values.demo.enabled -}}
  {{- range $service, $entry := $catalogue -}}
    {{- if not (index $services $service).enabled -}}
    {{- $wrong = append $wrong (printf "demo.enabled: the simulated industry plays with every service, and services.%s is off; enable it, or leave the demo off" $service) -}}
    {{- end -}}
  {{- end -}}
  {{- if not .Values.demo.clock.anchor -}}
  {{- $wrong = append $wrong "demo.clock.anchor: platform time starts there and must never jump; give the present moment (2026-11-27T09:00:00+00:00) and keep it through upgrades" -}}
  {{- end -}}
{{- end -}}

{{- if $wrong -}}
{{- fail (printf "\n\nThese values cannot be installed:\n  - %s\n" (join "\n  - " $wrong)) -}}
{{- end -}}
{{- end -}}
