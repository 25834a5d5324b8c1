{{- define "exporter.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- /* At most 50 characters, to leave room for the suffixes of dashboards and rules. */ -}}
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

{{- define "exporter.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- define "exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end -}}

{{- /* Several maps of labels or annotations merged into one. For a key in several maps, the first one counts. Null values are left out. */ -}}
{{- define "exporter.merged" -}}
{{- $merged := dict -}}
{{- range . -}}
{{- range $key, $value := . -}}
{{- if not (or (kindIs "invalid" $value) (hasKey $merged $key)) -}}
{{- $_ := set $merged $key $value -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- toYaml $merged -}}
{{- end -}}

{{- /* The chart's labels, those of the argument `labels`, and commonLabels. */ -}}
{{- define "exporter.allLabels" -}}
{{- include "exporter.merged" (list (include "exporter.labels" .root | fromYaml) .labels .root.Values.commonLabels) -}}
{{- end -}}

{{- /* The metadata of an object. Arguments: `root`, and if they differ from the usual ones `name`, `namespace`, `labels`, `annotations`. */ -}}
{{- define "exporter.metadata" -}}
name: {{ .name | default (include "exporter.fullname" .root) | quote }}
namespace: {{ .namespace | default (include "exporter.namespace" .root) | quote }}
labels:
  {{- include "exporter.allLabels" . | nindent 2 }}
{{- with include "exporter.merged" (list .annotations) | fromYaml }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "exporter.serviceAccountName" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "exporter.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "exporter.image" -}}
{{- with (.Values.global).imageRegistry | default .Values.image.registry -}}
{{- trimSuffix "/" . }}/
{{- end -}}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion -}}
{{- with .Values.image.digest -}}
@{{ . }}
{{- end -}}
{{- end -}}

{{- /* Secrets for the registry, in the pod's format. The global ones may be only names. */ -}}
{{- define "exporter.imagePullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.imagePullSecrets | default list) ((.Values.global).imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- with $secrets | uniq -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- /* The exporter's configuration file: the values' `config`, the accounts with their mounted tokens, the state file. */ -}}
{{- define "exporter.config" -}}
{{- $accounts := list -}}
{{- range $index, $account := .Values.accounts -}}
{{- $file := printf "/var/run/secrets/digitalocean/%d/token" $index -}}
{{- $accounts = append $accounts (merge (dict "token_file" $file) (omit $account "existingSecret" "key")) -}}
{{- end -}}
{{- $own := dict "accounts" $accounts "state_file" "/var/lib/digitalocean-backup-exporter/state.json" -}}
{{- merge $own (.Values.config | default dict) | toYaml -}}
{{- end -}}

{{- /* A probe with the given `timings`. They may contain a handler; if not, the probe requests `path`. */ -}}
{{- define "exporter.probe" -}}
{{- $web := .root.Values.webConfig -}}
{{- $probe := .timings -}}
{{- if not (or $probe.httpGet $probe.exec $probe.tcpSocket $probe.grpc) -}}
{{- if $web.clientCertificate.required -}}
{{- $folder := "/etc/digitalocean-backup-exporter-web" -}}
{{- $script := include "exporter.probeScript" .root -}}
{{- $port := .root.Values.containerPort | int | toString -}}
{{- $cert := printf "%s/%s" $folder $web.clientCertificate.cert -}}
{{- $key := printf "%s/%s" $folder $web.clientCertificate.key -}}
{{- $probe = merge (dict "exec" (dict "command" (list "python" "-I" "-c" $script $port .path $cert $key))) $probe -}}
{{- else -}}
{{- $get := dict "path" .path "port" "metrics" "scheme" (ternary "HTTPS" "HTTP" ($web.tls | default false)) -}}
{{- $probe = merge (dict "httpGet" $get) $probe -}}
{{- end -}}
{{- end -}}
{{- toYaml $probe -}}
{{- end -}}

{{- /* Like the kubelet, the script does not verify the server's certificate: the server is its own container. */ -}}
{{- define "exporter.probeScript" -}}
import http.client, ssl, sys
port, path, cert, key = sys.argv[1:]
context = ssl.create_default_context()
context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
context.load_cert_chain(cert, key)
connection = http.client.HTTPSConnection("localhost", int(port), timeout=4, context=context)
connection.request("GET", path)
sys.exit(connection.getresponse().status != 200)
{{- end -}}

{{- /* The affinity of the values. With several replicas, an anti-affinity is added if it has none. */ -}}
{{- define "exporter.affinity" -}}
{{- $affinity := .Values.affinity | default dict -}}
{{- if and (gt (int .Values.replicas) 1) .Values.podAntiAffinity (not $affinity.podAntiAffinity) -}}
{{- $selector := dict "matchLabels" (include "exporter.selectorLabels" . | fromYaml) -}}
{{- $term := dict "topologyKey" "kubernetes.io/hostname" "labelSelector" $selector -}}
{{- $rule := dict "requiredDuringSchedulingIgnoredDuringExecution" (list $term) -}}
{{- if eq .Values.podAntiAffinity "soft" -}}
{{- $rule = dict "preferredDuringSchedulingIgnoredDuringExecution" (list (dict "weight" 100 "podAffinityTerm" $term)) -}}
{{- end -}}
{{- $affinity = merge (dict "podAntiAffinity" $rule) $affinity -}}
{{- end -}}
{{- with $affinity -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- define "exporter.topologySpreadConstraints" -}}
{{- $constraints := list -}}
{{- if gt (int .Values.replicas) 1 -}}
{{- range .Values.topologySpreadConstraints -}}
{{- $selector := dict "matchLabels" (include "exporter.selectorLabels" $ | fromYaml) -}}
{{- $constraints = append $constraints (hasKey . "labelSelector" | ternary . (merge (dict "labelSelector" $selector) .)) -}}
{{- end -}}
{{- end -}}
{{- with $constraints -}}
{{- toYaml . -}}
{{- end -}}
{{- end -}}

{{- /* Checks of the values that the schema cannot express. */ -}}
{{- define "exporter.check" -}}
{{- $name := include "exporter.fullname" . -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" $name) -}}
{{- fail (printf "%q, made of the names of the release and the chart, is no valid name for a Service (a letter, then letters, digits and -, no - at the end, all in lower case). Set fullnameOverride" $name) -}}
{{- end -}}
{{- $claim := and .Values.state.persistence.enabled (not .Values.demo) -}}
{{- if and (gt (int .Values.replicas) 1) $claim -}}
{{- fail (printf "replicas is %d and state.persistence.enabled is true: replicas cannot share one state file. Set replicas to 1, or state.persistence.enabled to false" (int .Values.replicas)) -}}
{{- end -}}
{{- if and $claim (eq (dig "type" "Recreate" (.Values.strategy | default dict)) "RollingUpdate") -}}
{{- fail "strategy.type is RollingUpdate and state.persistence.enabled is true: the new pod cannot take over the state while the old one runs. Leave strategy empty, or set state.persistence.enabled to false" -}}
{{- end -}}
{{- if not .Values.demo -}}
{{- if not .Values.accounts -}}
{{- fail "accounts is empty: name at least one account and the Secret that holds its token, or set demo to true" -}}
{{- end -}}
{{- $names := list -}}
{{- range .Values.accounts -}}
{{- if has .name $names -}}
{{- fail (printf "accounts: the name %q comes twice; give each account its own" .name) -}}
{{- end -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- end -}}
{{- $web := .Values.webConfig -}}
{{- if and (or $web.tls $web.basicAuth) (not $web.existingSecret) -}}
{{- fail "webConfig.tls or webConfig.basicAuth is set without webConfig.existingSecret: name the Secret that holds the web configuration file" -}}
{{- end -}}
{{- if and $web.clientCertificate.required (not $web.tls) -}}
{{- fail "webConfig.clientCertificate.required is true and webConfig.tls is false: only TLS knows client certificates. Set webConfig.tls to true" -}}
{{- end -}}
{{- /* Each flag that this chart sets, and the value that sets it. */ -}}
{{- $flags := dict
      "--web.listen-address" "containerPort"
      "--web.systemd-socket" "containerPort"
      "--web.telemetry-path" "telemetryPath"
      "--web.config.file" "webConfig.existingSecret"
      "--config.file" "accounts and config"
      "--demo" "demo"
      "--log.level" "log.level"
      "--log.format" "log.format" -}}
{{- range .Values.extraArgs -}}
{{- $flag := regexFind "^--[^= ]+" . -}}
{{- if hasKey $flags $flag -}}
{{- fail (printf "extraArgs has %q: this chart sets that flag itself, so that probes, Service and scrapes agree with it. Use the value %s" . (get $flags $flag)) -}}
{{- end -}}
{{- end -}}
{{- $monitor := .Values.serviceMonitor -}}
{{- if and $monitor.enabled $web.basicAuth (not (or $monitor.basicAuth $monitor.authorization $monitor.oauth2 $monitor.bearerTokenSecret)) -}}
{{- fail "webConfig.basicAuth is true and serviceMonitor.basicAuth is empty: every scrape would be answered by 401. Set serviceMonitor.basicAuth to a user's name and password" -}}
{{- end -}}
{{- if and $monitor.enabled $monitor.interval $monitor.scrapeTimeout -}}
{{- /* Helm cannot compare durations, but it can compare dates that were moved by them. */ -}}
{{- $start := toDate "2006-01-02" "2000-01-01" -}}
{{- $next := $start | mustDateModify (printf "+%s" $monitor.interval) | unixEpoch | int64 -}}
{{- if lt $next ($start | mustDateModify (printf "+%s" $monitor.scrapeTimeout) | unixEpoch | int64) -}}
{{- fail (printf "serviceMonitor.scrapeTimeout is %s, longer than serviceMonitor.interval, which is %s: the operator would ignore such a ServiceMonitor. Shorten scrapeTimeout" $monitor.scrapeTimeout $monitor.interval) -}}
{{- end -}}
{{- end -}}
{{- if and $monitor.enabled .Values.prometheusRule.enabled -}}
{{- $wanted := .Values.prometheusRule.job | default ".*digitalocean-backup.*" -}}
{{- if not (mustRegexMatch (printf "^(?:%s)$" $wanted) $monitor.job) -}}
{{- fail (printf "serviceMonitor.job is %q, which prometheusRule.job does not match (%s): the rules would not find the exporter. Set prometheusRule.job to %q" $monitor.job $wanted $monitor.job) -}}
{{- end -}}
{{- end -}}
{{- end -}}
