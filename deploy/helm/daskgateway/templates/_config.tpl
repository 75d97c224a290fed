{{/* daskgateway_config.py of the server. */}}
{{- define "daskgateway.serverConfig" -}}
import json

c = get_config()
c.DaskGateway.backends = ["kubernetes"]
c.DaskGateway.start_proxy = False
c.DaskGateway.state_dir = "/var/lib/daskgateway"
c.DaskGateway.address = "0.0.0.0:8001"
c.DaskGateway.agent_address = {{ printf "https://%s:8001" (include "daskgateway.serverHost" .) | toJson }}
c.DaskGateway.check_agent_address = False  # the Service leads here once this runs
c.DaskGateway.tls_cert = "/etc/daskgateway/keys/tls.crt"
c.DaskGateway.tls_key = "/etc/daskgateway/keys/tls.key"
c.DaskGateway.tls_ca = "/etc/daskgateway/keys/ca.crt"
c.DaskGateway.public_url = {{ include "daskgateway.publicUrl" . | toJson }}
c.DaskGateway.log_level = {{ .Values.server.logLevel | toJson }}
{{- with .Values.database.url }}
c.DaskGateway.database = {{ . | toJson }}
{{- end }}
{{- with .Values.edge.schedulerNetworks }}
c.Proxy.scheduler_networks = {{ include "daskgateway.python" . }}  # the server tells users where no edge goes
{{- end }}
{{ include "daskgateway.authConfig" . }}
{{ include "daskgateway.clustersConfig" . }}
{{- range $class, $settings := .Values.config }}
{{- if ne $class "Proxy" }}
c[{{ $class | toJson }}].update({{ include "daskgateway.python" $settings }})
{{- end }}
{{- end }}
{{ include "daskgateway.extraConfig" . }}
{{- end -}}

{{- define "daskgateway.authConfig" -}}
c.DaskGateway.authenticator = {{ .Values.auth.type | toJson }}
{{- if eq .Values.auth.type "password" }}
c.PasswordAuthenticator.users = {{ include "daskgateway.python" .Values.auth.password.users }}
c.PasswordAuthenticator.admins = set({{ include "daskgateway.python" .Values.auth.password.admins }})
c.PasswordAuthenticator.groups = {{ include "daskgateway.python" .Values.auth.password.groups }}
{{- else if eq .Values.auth.type "jupyterhub" }}
c.JupyterHubAuthenticator.api_url = {{ .Values.auth.jupyterhub.apiUrl | toJson }}
c.JupyterHubAuthenticator.service_name = {{ .Values.auth.jupyterhub.serviceName | toJson }}
c.JupyterHubAuthenticator.hub_admins = {{ include "daskgateway.python" .Values.auth.jupyterhub.hubAdmins }}
{{- end }}
{{- end -}}

{{- define "daskgateway.clustersConfig" -}}
{{- $own := .Values.clusters -}}
c.KubernetesBackend.namespace = {{ include "daskgateway.clustersNamespace" . | toJson }}
c.KubernetesBackend.tag = {{ include "daskgateway.tag" . | toJson }}
c.KubernetesBackend.image = {{ $own.image | toJson }}
{{- with $own.imagePullSecrets }}
c.KubernetesBackend.image_pull_secrets = {{ include "daskgateway.python" . }}
{{- end }}
c.ClusterConfig.worker_cores = {{ $own.worker.cores }}
c.ClusterConfig.worker_memory = {{ $own.worker.memory | toJson }}
c.ClusterConfig.worker_gpus = {{ int $own.worker.gpus }}
c.ClusterConfig.scheduler_cores = {{ $own.scheduler.cores }}
c.ClusterConfig.scheduler_memory = {{ $own.scheduler.memory | toJson }}
{{- with $own.limits }}
c.ClusterConfig.max_workers = {{ include "daskgateway.python" .workers }}
c.ClusterConfig.max_cores = {{ include "daskgateway.python" .cores }}
c.ClusterConfig.max_memory = {{ include "daskgateway.python" .memory }}
c.ClusterConfig.max_gpus = {{ include "daskgateway.python" .gpus }}
{{- end }}
{{- end -}}

{{/* Tells this release's pods from another's in the same namespace; the same for ever. */}}
{{- define "daskgateway.tag" -}}
{{ printf "d%s" (printf "%s/%s" .Release.Namespace .Release.Name | sha256sum | trunc 7) }}
{{- end -}}

{{- define "daskgateway.extraConfig" -}}
{{- if kindIs "string" .Values.extraConfig }}
{{- .Values.extraConfig }}
{{- else }}
{{- range $name, $text := .Values.extraConfig }}
# {{ $name }}
{{ $text }}
{{- end }}
{{- end }}
{{- end -}}

{{/* daskgateway_config.py of the edge: nothing secret, and nothing of the server's. */}}
{{- define "daskgateway.edgeConfig" -}}
import json

c = get_config()
c.Proxy.address = "0.0.0.0:8000"
c.Proxy.admin_address = "0.0.0.0:9101"
c.Proxy.server_address = {{ printf "https://%s:8001" (include "daskgateway.serverHost" .) | toJson }}
c.Proxy.server_ca = "/etc/daskgateway/keys/ca.crt"
c.Proxy.token_file = "/etc/daskgateway/keys/edge-token"
c.Proxy.state_dir = "/var/lib/daskgateway"
c.Proxy.processes = {{ int .Values.edge.processes }}
c.Proxy.log_level = {{ .Values.edge.logLevel | toJson }}
{{- if eq .Values.edge.tls.mode "none" }}
c.Proxy.insecure_ok = True  # what stands before it ends TLS
{{- else }}
c.Proxy.tls_cert = "/etc/daskgateway/tls/tls.crt"
c.Proxy.tls_key = "/etc/daskgateway/tls/tls.key"
{{- end }}
{{- $url := urlParse (include "daskgateway.publicUrl" .) }}
c.Proxy.prefix = {{ default (trimSuffix "/" $url.path) .Values.edge.prefix | toJson }}
c.Proxy.allowed_origins = [{{ printf "%s://%s" $url.scheme $url.host | toJson }}]
{{- with .Values.edge.trustedProxies }}
c.Proxy.trusted_proxies = {{ include "daskgateway.python" . }}
{{- end }}
{{- with .Values.edge.schedulerNetworks }}
c.Proxy.scheduler_networks = {{ include "daskgateway.python" . }}
{{- end }}
{{- with .Values.config.Proxy }}
c.Proxy.update({{ include "daskgateway.python" . }})
{{- end }}
{{- end -}}
