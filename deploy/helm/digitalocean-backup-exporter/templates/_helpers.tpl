{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* 50, to leave room for the suffixes of dashboards and rules. */ -}}
{{- define "exporter.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- $name := include "exporter.name" . -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "exporter.image" -}}
{{- $image := printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- if .Values.image.digest -}}
{{- $image = printf "%s@%s" $image .Values.image.digest -}}
{{- end -}}
{{- $image -}}
{{- end -}}

{{- /* The exporter's configuration file: the values' `config`, the accounts with their mounted tokens, the state file. */ -}}
{{- define "exporter.config" -}}
{{- $accounts := list -}}
{{- range $index, $account := .Values.accounts -}}
{{- $file := printf "/var/run/secrets/digitalocean/%d/token" $index -}}
{{- $accounts = append $accounts (merge (dict "token_file" $file) (omit $account "existingSecret" "key")) -}}
{{- end -}}
{{- $own := dict "accounts" $accounts "state_file" "/var/lib/digitalocean-backup-exporter/state.json" -}}
{{- merge $own .Values.config | toYaml -}}
{{- end -}}

{{- /* What no schema can say. */ -}}
{{- define "exporter.check" -}}
{{- if and (gt (int .Values.replicas) 1) .Values.state.persistence.enabled (not .Values.demo) -}}
{{- fail (printf "replicas is %d and state.persistence.enabled is true: replicas cannot share one state file. Set replicas to 1, or state.persistence.enabled to false" (int .Values.replicas)) -}}
{{- end -}}
{{- if not .Values.demo -}}
{{- $names := list -}}
{{- range .Values.accounts -}}
{{- if has .name $names -}}
{{- fail (printf "accounts: the name %q comes twice; give each account its own" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- if and (or .Values.webConfig.tls .Values.webConfig.basicAuth) (not .Values.webConfig.existingSecret) -}}
{{- fail "webConfig.tls or webConfig.basicAuth is set without webConfig.existingSecret: name the Secret that holds the web configuration file" -}}
{{- end -}}
{{- end -}}
