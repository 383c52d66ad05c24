{{/*
What the schema cannot say, all of it at once. The chart takes secrets only by
reference, so a missing reference is the mistake that is made most.
*/}}

{{- define "reelmill.secretVariables" -}}
- REELMILL_DATABASE_URL
- REELMILL_AMQP_URL
- REELMILL_ADMIN_KEY
- REELMILL_SECRET_KEY
- AWS_ACCESS_KEY_ID
- AWS_SECRET_ACCESS_KEY
- AWS_SESSION_TOKEN
- AZURE_STORAGE_ACCOUNT_KEY
- AZURE_STORAGE_CLIENT_SECRET
- GOOGLE_SERVICE_ACCOUNT_KEY
{{- end -}}

{{/* Variables that have a value of their own in values.yaml. */}}
{{- define "reelmill.chartVariables" -}}
REELMILL_STORAGE_URL: storage.url
REELMILL_PUBLIC_URL: publicUrl
REELMILL_LEASE_SECONDS: leaseSeconds
REELMILL_WORKER_SLOTS: workers[].slots
REELMILL_API_LISTEN: nothing, the chart's probes and Service rely on it
REELMILL_WORKER_LISTEN: nothing, the chart's probes rely on it
REELMILL_SCHEDULER_LISTEN: nothing, the chart's probes rely on it
REELMILL_SCRATCH_DIR: workers[].scratch
REELMILL_CACHE_BYTES: workers[].scratch.size, of which the cache takes half
REELMILL_DRAIN_SECONDS: workers[].terminationGracePeriodSeconds
{{- end -}}

{{- define "reelmill.validate" -}}
{{- $errors := list -}}
{{- $secret := include "reelmill.secretVariables" . | fromYamlArray -}}
{{- $own := include "reelmill.chartVariables" . | fromYaml -}}
{{- with .Values -}}

{{- if not .database.existingSecret -}}
{{- $errors = append $errors "database.existingSecret is missing: name the Secret whose key database.key holds PostgreSQL's URL" -}}
{{- end -}}
{{- if not .secretKey.existingSecret -}}
{{- $errors = append $errors "secretKey.existingSecret is missing: name the Secret whose key secretKey.key holds the key that signs tokens (kubectl create secret generic reelmill --from-literal=secret-key=\"$(openssl rand -hex 32)\")" -}}
{{- end -}}

{{- if not .storage.url -}}
{{- $errors = append $errors "storage.url is missing: say where media is kept, as in s3://bucket/prefix" -}}
{{- else if and (hasPrefix "file://" .storage.url) (not .storage.existingClaim) -}}
{{- $errors = append $errors "storage.url is a file:// URL: name a ReadWriteMany PersistentVolumeClaim in storage.existingClaim, for pods share no disk" -}}
{{- else if and .storage.existingClaim (not (hasPrefix "file://" .storage.url)) -}}
{{- $errors = append $errors "storage.existingClaim only goes with a file:// URL in storage.url" -}}
{{- end -}}

{{- $extra := dict "extraEnv" .extraEnv "api.extraEnv" .api.extraEnv "scheduler.extraEnv" .scheduler.extraEnv "workerDefaults.extraEnv" .workerDefaults.extraEnv -}}
{{- $components := dict "api" .api "scheduler" .scheduler "workerDefaults" .workerDefaults -}}
{{- $names := list -}}
{{- range $index, $group := .workers -}}
{{- if has $group.name $names -}}
{{- $errors = append $errors (printf "workers[%d]: there is another group named %s" $index $group.name) -}}
{{- end -}}
{{- $names = append $names $group.name -}}
{{- $_ := set $extra (printf "workers[%d].extraEnv" $index) (default list $group.extraEnv) -}}
{{- $_ := set $components (printf "workers[%d]" $index) $group -}}
{{- end -}}

{{- range $where, $variables := $extra -}}
{{- range $variables -}}
{{- if and (has .name $secret) (hasKey . "value") -}}
{{- $errors = append $errors (printf "%s: %s is a secret: give it with valueFrom.secretKeyRef, not as a value" $where .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- range $name, $_ := .config -}}
{{- if has $name $secret -}}
{{- $errors = append $errors (printf "config: %s is a secret, and a ConfigMap is readable to many: use existingSecret" $name) -}}
{{- else if hasKey $own $name -}}
{{- $errors = append $errors (printf "config: %s is set by the chart; what to change is %s" $name (get $own $name)) -}}
{{- end -}}
{{- end -}}

{{- range $where, $component := $components -}}
{{- range (default list $component.extraVolumes) -}}
{{- if has .name (list "tmp" "scratch" "storage") -}}
{{- $errors = append $errors (printf "%s.extraVolumes: the chart has a volume named %s already" $where .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- if le (int .api.terminationGracePeriodSeconds) (int .api.preStopSleepSeconds) -}}
{{- $errors = append $errors "api.terminationGracePeriodSeconds has to be longer than api.preStopSleepSeconds" -}}
{{- end -}}
{{- if and .api.ingress.enabled (not .api.ingress.hosts) -}}
{{- $errors = append $errors "api.ingress.hosts is empty: name at least one host, or turn api.ingress.enabled off" -}}
{{- end -}}

{{- end -}}
{{- if $errors -}}
{{- fail (printf "these values cannot work:\n  - %s" (join "\n  - " $errors)) -}}
{{- end -}}
{{- end -}}
