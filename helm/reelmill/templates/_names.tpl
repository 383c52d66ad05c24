{{/* Names and labels. Quoted, for a release may be called 2026 and a group on. */}}

{{- define "reelmill.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 35 | trimSuffix "-" -}}
{{- end -}}

{{/* At most 35 characters: "-worker-" and a group's name of 20 still make a label. */}}
{{- define "reelmill.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 35 | trimSuffix "-" -}}
{{- else if contains (include "reelmill.name" .) .Release.Name -}}
{{- .Release.Name | trunc 35 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "reelmill.name" .) | trunc 35 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "reelmill.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "reelmill.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{/* Arguments: root, component, and for a worker group. */}}
{{- define "reelmill.selectorLabels" -}}
app.kubernetes.io/name: {{ include "reelmill.name" .root | quote }}
app.kubernetes.io/instance: {{ .root.Release.Name | quote }}
app.kubernetes.io/component: {{ .component }}
{{- with .group }}
reelmill/group: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "reelmill.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "reelmill.selectorLabels" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{- end -}}

{{/* Arguments: root, and what differs from .Values.image. */}}
{{- define "reelmill.image" -}}
{{- $image := dict -}}
{{- range $key, $value := .root.Values.image }}{{ $_ := set $image $key $value }}{{ end -}}
{{- range $key, $value := default dict .differs }}{{ $_ := set $image $key $value }}{{ end -}}
{{- /* A group's own tag is not to lose against the digest of the others. */ -}}
{{- if and .differs (hasKey .differs "tag") (not (hasKey .differs "digest")) }}{{ $_ := set $image "digest" "" }}{{ end -}}
{{- $repository := $image.repository -}}
{{- with $image.registry }}{{ $repository = printf "%s/%s" . $repository }}{{ end -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .root.Chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "reelmill.pullPolicy" -}}
{{- default .root.Values.image.pullPolicy (get (default dict .differs) "pullPolicy") -}}
{{- end -}}
