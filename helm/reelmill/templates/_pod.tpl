{{/* What the pods of all components have in common. */}}

{{/* Metadata of a pod. Arguments: root, component, group, settings. */}}
{{- define "reelmill.podMetadata" -}}
labels:
  {{- $labels := dict }}
  {{- range $key, $value := .root.Values.podLabels }}{{ $_ := set $labels $key $value }}{{ end }}
  {{- range $key, $value := .settings.podLabels }}{{ $_ := set $labels $key $value }}{{ end }}
  {{- range $key, $value := include "reelmill.labels" . | fromYaml }}{{ $_ := set $labels $key $value }}{{ end }}
  {{- toYaml $labels | nindent 2 }}
{{- $annotations := dict }}
{{- range $key, $value := .root.Values.podAnnotations }}{{ $_ := set $annotations $key $value }}{{ end }}
{{- range $key, $value := .settings.podAnnotations }}{{ $_ := set $annotations $key $value }}{{ end }}
{{- with .root.Values.config }}{{ $_ := set $annotations "checksum/config" (toYaml . | sha256sum) }}{{ end }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* The pod around its containers and volumes. Arguments as above. */}}
{{- define "reelmill.podSettings" -}}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
serviceAccountName: {{ include "reelmill.serviceAccountName" .root | quote }}
automountServiceAccountToken: {{ .root.Values.serviceAccount.automount }}
enableServiceLinks: false
securityContext:
  {{- toYaml .root.Values.podSecurityContext | nindent 2 }}
terminationGracePeriodSeconds: {{ .settings.terminationGracePeriodSeconds | int }}
{{- with .settings.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .settings.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with .settings.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .settings.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
topologySpreadConstraints:
{{- if .settings.topologySpreadConstraints }}
  {{- toYaml .settings.topologySpreadConstraints | nindent 2 }}
{{- else }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "reelmill.selectorLabels" . | nindent 8 }}
{{- end }}
{{- end -}}

{{/* Arguments: root, port (its name). */}}
{{- define "reelmill.probes" -}}
startupProbe:
  httpGet:
    path: /readyz
    port: {{ .port }}
  {{- toYaml .root.Values.probes.startup | nindent 2 }}
readinessProbe:
  httpGet:
    path: /readyz
    port: {{ .port }}
  {{- toYaml .root.Values.probes.readiness | nindent 2 }}
livenessProbe:
  httpGet:
    path: /livez
    port: {{ .port }}
  {{- toYaml .root.Values.probes.liveness | nindent 2 }}
{{- end -}}

{{/* Arguments: root, settings. */}}
{{- define "reelmill.volumeMounts" -}}
- name: tmp
  mountPath: /tmp
{{- with .root.Values.storage }}
{{- if .existingClaim }}
- name: storage
  mountPath: {{ trimPrefix "file://" .url | quote }}
{{- end }}
{{- end }}
{{- with .settings.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "reelmill.volumes" -}}
- name: tmp
  emptyDir:
    sizeLimit: 1Gi
{{- with .root.Values.storage.existingClaim }}
- name: storage
  persistentVolumeClaim:
    claimName: {{ . | quote }}
{{- end }}
{{- with .settings.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* A PodDisruptionBudget. Arguments: root, component, group, settings, name. */}}
{{- define "reelmill.podDisruptionBudget" -}}
{{- $budget := default dict .settings.podDisruptionBudget }}
{{- if $budget.enabled }}
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name | quote }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    {{- include "reelmill.labels" . | nindent 4 }}
spec:
  {{- if hasKey $budget "minAvailable" }}
  minAvailable: {{ $budget.minAvailable }}
  {{- else if hasKey $budget "maxUnavailable" }}
  maxUnavailable: {{ $budget.maxUnavailable }}
  {{- else }}
  maxUnavailable: 1
  {{- end }}
  selector:
    matchLabels:
      {{- include "reelmill.selectorLabels" . | nindent 6 }}
{{- end }}
{{- end -}}
