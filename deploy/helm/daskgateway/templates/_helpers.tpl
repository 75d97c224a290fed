{{/* Name of everything that belongs to the release. */}}
{{- define "daskgateway.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "daskgateway.selector" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "daskgateway.labels" -}}
{{ include "daskgateway.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | quote }}
{{- end -}}

{{- define "daskgateway.image" -}}
{{ printf "%s:%s" .Values.image.name (default .Chart.AppVersion .Values.image.tag) | quote }}
{{- end -}}

{{- define "daskgateway.serviceAccount" -}}
{{ default (include "daskgateway.fullname" .) .Values.serviceAccount.name }}
{{- end -}}

{{- define "daskgateway.secret" -}}
{{ default (printf "%s-keys" (include "daskgateway.fullname" .)) .Values.secrets.existingSecret }}
{{- end -}}

{{- define "daskgateway.clustersNamespace" -}}
{{ default .Release.Namespace .Values.clusters.namespace }}
{{- end -}}

{{/* Where agents and the edge find the server. */}}
{{- define "daskgateway.serverHost" -}}
{{ printf "%s-server.%s.svc" (include "daskgateway.fullname" .) .Release.Namespace }}
{{- end -}}

{{/* Where users find the edge, if nothing else is said. */}}
{{- define "daskgateway.publicUrl" -}}
{{- if .Values.publicUrl -}}
{{ .Values.publicUrl }}
{{- else if and .Values.ingress.enabled .Values.ingress.host -}}
{{ printf "%s://%s%s" (ternary "https" "http" (ne .Values.ingress.tlsSecretName "")) .Values.ingress.host .Values.edge.prefix }}
{{- else -}}
{{- $port := int .Values.edge.service.port -}}
{{- $clear := eq .Values.edge.tls.mode "none" -}}
{{- $usual := eq $port (ternary 80 443 $clear) -}}
{{ printf "%s://%s.%s.svc%s%s" (ternary "http" "https" $clear) (include "daskgateway.fullname" .) .Release.Namespace (ternary "" (printf ":%d" $port) $usual) .Values.edge.prefix }}
{{- end -}}
{{- end -}}

{{/* A value as Python reads it: JSON within a text, as both languages write texts alike. */}}
{{- define "daskgateway.python" -}}
json.loads({{ toJson . | toJson }})
{{- end -}}

{{/* Restricted, as the Pod Security Standards have it. */}}
{{- define "daskgateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 1000
runAsGroup: 1000
fsGroup: 1000
fsGroupChangePolicy: OnRootMismatch
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "daskgateway.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{/* What server and edge have in common, of their place in the cluster. */}}
{{- define "daskgateway.placement" -}}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . | quote }}
{{- end }}
{{- end }}
{{- with .own.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with .own.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .own.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
