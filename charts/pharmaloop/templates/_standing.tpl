{{/* What stands in the cluster already and does not go with these values. Kubernetes would say so too, when the
     upgrade is half done, or never: a pod whose Secret is missing waits in silence. Where there is no cluster to look
     at (`helm template`), nothing is found. Each as field: rule; next step. */}}

{{- define "pharmaloop.standing" -}}
{{- $wrong := list -}}
{{- $namespace := .Release.Namespace -}}

{{- /* two releases in one namespace; one that would be called otherwise */ -}}
{{- $there := lookup "v1" "ConfigMap" $namespace "pharmaloop-installation" | default dict -}}
{{- $owner := dig "metadata" "annotations" "meta.helm.sh/release-name" "" $there -}}
{{- $called := dig "data" "name" "" $there -}}
{{- $name := include "pharmaloop-service.fullname" . -}}
{{- if and $owner (ne $owner .Release.Name) -}}
{{- $wrong = append $wrong (printf "namespace %s: the release %q has an installation here, and two would share its consumer groups and databases; upgrade that one, or choose another namespace, Kafka and MongoDB" $namespace $owner) -}}
{{- else if and $called (ne $called $name) -}}
{{- $wrong = append $wrong (printf "fullnameOverride: what is installed here is called %s, and under another name its volumes with keys would be new and empty; set it to %s" $called $called) -}}
{{- end -}}

{{- range $unit := (include "pharmaloop.units" . | fromYaml).units -}}
  {{- $both := dict "root" $ "unit" $unit -}}
  {{- $at := printf "services.%s.persistence" $unit.service -}}
  {{- $size := $unit.persistence.size | default "" -}}
  {{- $class := $unit.persistence.storageClass | default "" -}}

  {{- /* A claim keeps its access and its class for good, and never shrinks. */ -}}
  {{- if and $unit.keys $unit.serves (not $unit.persistence.existingClaim) -}}
    {{- $claim := printf "%s-keys" (include "pharmaloop-service.host" $both) -}}
    {{- $live := lookup "v1" "PersistentVolumeClaim" $namespace $claim | default dict -}}
    {{- $spec := $live.spec | default dict -}}
    {{- /* Was its class asked for by name, or is it the cluster's default? Helm applied the one and not the other. */ -}}
    {{- $named := false -}}
    {{- range dig "metadata" "managedFields" list $live -}}
      {{- if and (eq .operation "Apply") (hasKey (dig "fieldsV1" "f:spec" dict .) "f:storageClassName") }}{{ $named = true }}{{ end -}}
    {{- end -}}
    {{- $access := first ($spec.accessModes | default (list $unit.persistence.accessMode)) -}}
    {{- if and (eq $access "ReadWriteOnce") (ne $unit.persistence.accessMode $access) -}}
    {{- $wrong = append $wrong (printf "%s.accessMode: the claim %s was made for one pod (ReadWriteOnce), and a claim cannot be changed; leave it at ReadWriteOnce with one pod (replicas 1, roles together), or stop %s, make the claim anew with %s, and copy the keys into it before you upgrade" $at $claim $unit.service $unit.persistence.accessMode) -}}
    {{- else if ne $unit.persistence.accessMode $access -}}
    {{- $wrong = append $wrong (printf "%s.accessMode: the claim %s was made with %s, and a claim cannot be changed; set it to %s" $at $claim $access $access) -}}
    {{- end -}}
    {{- if and $class $spec.storageClassName (ne $class $spec.storageClassName) -}}
    {{- $wrong = append $wrong (printf "%s.storageClass: the claim %s is of the class %s, and a claim cannot be changed; set it to %s" $at $claim $spec.storageClassName $spec.storageClassName) -}}
    {{- else if and (not $class) $named -}}
    {{- $wrong = append $wrong (printf "%s.storageClass: the claim %s was made with the class %s, and a claim cannot be changed; set it to %s" $at $claim $spec.storageClassName $spec.storageClassName) -}}
    {{- end -}}
    {{- $has := dig "resources" "requests" "storage" "" $spec | toString -}}
    {{- if lt (include "pharmaloop.mebibytes" $size | int) (include "pharmaloop.mebibytes" $has | int) -}}
    {{- $wrong = append $wrong (printf "%s.size: the claim %s has %s, and a claim never shrinks; set it to %s or more" $at $claim $has $has) -}}
    {{- end -}}
  {{- end -}}

  {{- /* The volumes of a StatefulSet are as they were when it was made. */ -}}
  {{- if and $unit.tables (eq $unit.kind "StatefulSet") -}}
    {{- $set := include "pharmaloop-service.name" $both -}}
    {{- range dig "spec" "volumeClaimTemplates" list (lookup "apps/v1" "StatefulSet" $namespace $set | default dict) -}}
      {{- $next := printf "or run: kubectl -n %s delete statefulset %s, and upgrade again (its tables come back from Kafka)" $namespace $set -}}
      {{- $has := dig "resources" "requests" "storage" "" .spec | toString -}}
      {{- if not (has (include "pharmaloop.mebibytes" $has) (list "0" (include "pharmaloop.mebibytes" $size))) -}}
      {{- $wrong = append $wrong (printf "%s.size: the volumes of the StatefulSet %s were made with %s, and it cannot change them; set it to %s, %s" $at $set $has $has $next) -}}
      {{- end -}}
      {{- if ne $class (.spec.storageClassName | default "") -}}
      {{- $wrong = append $wrong (printf "%s.storageClass: the volumes of the StatefulSet %s were made with the class %q, and it cannot change them; set it to %q, %s" $at $set (.spec.storageClassName | default "") (.spec.storageClassName | default "") $next) -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- /* Secrets. Every namespace has this account, so where it is seen, a Secret that is not seen is not there. */ -}}
{{- if lookup "v1" "ServiceAccount" $namespace "default" -}}
  {{- range $secret, $holds := include "pharmaloop.secrets" . | fromYaml -}}
    {{- $live := lookup "v1" "Secret" $namespace $secret -}}
    {{- if not $live -}}
    {{- $wrong = append $wrong (printf "Secret %s: it is not in the namespace %s, and pods would wait for it; create it with %s" $secret $namespace $holds) -}}
    {{- else -}}
      {{- range $part := splitList "; " $holds -}}
        {{- $keys := ternary (splitList ": " $part | first | splitList ", ") list (contains ": " $part) -}}
        {{- range $key := $keys -}}
          {{- $value := index ($live.data | default dict) $key | default "" | b64dec -}}
          {{- if not $value -}}
          {{- $wrong = append $wrong (printf "Secret %s: it has no %s, or that is empty; give it %s" $secret $key $part) -}}
          {{- else if and (contains "random bytes" $part) (ne (len $value) 32) -}}
          {{- $wrong = append $wrong (printf "Secret %s: %s has %d bytes, and a key has 32; make it anew (head -c 32 /dev/urandom > key) unless something was sealed with it" $secret $key (len $value)) -}}
          {{- else if and (has $key (list $.Values.kafka.credentials.usernameKey $.Values.kafka.credentials.passwordKey "uri")) (hasSuffix "\n" $value) -}}
          {{- $wrong = append $wrong (printf "Secret %s: %s ends with a line break, which would be taken for a part of it; create it anew from a file without one (printf %%s instead of echo)" $secret $key) -}}
          {{- end -}}
        {{- end -}}
      {{- end -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- dict "wrong" $wrong | toYaml -}}
{{- end -}}

{{/* Whole mebibytes of a size (512Mi, 2Gi, 1Ti); 0 where it is written otherwise. */}}
{{- define "pharmaloop.mebibytes" -}}
{{- if regexMatch "^[0-9]+(Mi|Gi|Ti)$" . -}}
{{- mul (regexFind "^[0-9]+" . | int) (index (dict "Mi" 1 "Gi" 1024 "Ti" 1048576) (regexFind "[MGT]i$" .)) -}}
{{- else -}}
0
{{- end -}}
{{- end -}}
