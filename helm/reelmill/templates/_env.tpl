{{/* Environment variables. */}}

{{/*
A list of lists of variables as one list in which each name stands once: at the
place where it first came up, with the value that came last. With server-side
apply a second entry of a name is an error.
*/}}
{{- define "reelmill.mergedEnv" -}}
{{- $names := list -}}
{{- $entries := dict -}}
{{- range $variables := . -}}
{{- range $variable := $variables -}}
{{- if not (hasKey $entries $variable.name) }}{{ $names = append $names $variable.name }}{{ end -}}
{{- $_ := set $entries $variable.name $variable -}}
{{- end -}}
{{- end -}}
{{- $merged := list -}}
{{- range $names }}{{ $merged = append $merged (get $entries .) }}{{ end -}}
{{- toYaml $merged -}}
{{- end -}}

{{/* A variable from a Secret. Arguments: name, secret, key. */}}
{{- define "reelmill.fromSecret" -}}
- name: {{ .name | quote }}
  valueFrom:
    secretKeyRef:
      name: {{ .secret | quote }}
      key: {{ .key | quote }}
{{- end -}}

{{/* What every component needs. */}}
{{- define "reelmill.commonEnv" -}}
{{- with .Values.database }}
{{ include "reelmill.fromSecret" (dict "name" "REELMILL_DATABASE_URL" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- with .Values.amqp }}
{{- if .existingSecret }}
{{ include "reelmill.fromSecret" (dict "name" "REELMILL_AMQP_URL" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- end }}
{{- with .Values.storage }}
- name: REELMILL_STORAGE_URL
  value: {{ .url | quote }}
{{- with .region }}
- name: AWS_REGION
  value: {{ . | quote }}
{{- end }}
{{- with .endpoint }}
- name: AWS_ENDPOINT
  value: {{ . | quote }}
{{- if hasPrefix "http://" . }}
- name: AWS_ALLOW_HTTP
  value: "true"
{{- end }}
{{- end }}
{{- if .existingSecret }}
{{- $secret := .existingSecret }}
{{- range .variables }}
{{ include "reelmill.fromSecret" (dict "name" .name "secret" $secret "key" .key) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.publicUrl }}
- name: REELMILL_PUBLIC_URL
  value: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* Not for workers: they open what strangers send. */}}
{{- define "reelmill.secretKeyEnv" -}}
{{- with .Values.secretKey }}
{{- include "reelmill.fromSecret" (dict "name" "REELMILL_SECRET_KEY" "secret" .existingSecret "key" .key) }}
{{- end }}
{{- end -}}

{{/*
The `env` and `envFrom` of a container. Arguments: root, own (the component's
variables as YAML), extra (its extraEnv), and inline: true where the chart's
ConfigMap does not exist yet.
*/}}
{{- define "reelmill.environment" -}}
{{- $common := include "reelmill.commonEnv" .root | fromYamlArray -}}
{{- $own := default "" .own | fromYamlArray -}}
{{- $plain := list -}}
{{- if .inline -}}
{{- range $name, $value := .root.Values.config }}{{ $plain = append $plain (dict "name" $name "value" $value) }}{{ end -}}
{{- end -}}
env:
  {{- include "reelmill.mergedEnv" (list $plain $common $own .root.Values.extraEnv (default list .extra)) | nindent 2 }}
{{- if or .root.Values.existingConfigMap (and .root.Values.config (not .inline)) }}
envFrom:
  {{- with .root.Values.existingConfigMap }}
  - configMapRef:
      name: {{ . | quote }}
  {{- end }}
  {{- if and .root.Values.config (not .inline) }}
  - configMapRef:
      name: {{ include "reelmill.fullname" .root }}
  {{- end }}
{{- end }}
{{- end -}}
