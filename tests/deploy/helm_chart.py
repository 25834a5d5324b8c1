"""The Helm chart, rendered by Helm's own engine, and how to find one's way in what it makes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import helm_python as helm
import yaml
from kubernetes_validate import utils as kubernetes  # type: ignore[import-untyped]

from tests.deploy.chart_values import CHART

VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())

EVERYTHING: dict[str, Any] = {
    "nameOverride": "backups",
    "image": {
        "repository": "backup-exporter",
        "tag": "1.2.3",
        "digest": "sha256:" + 64 * "a",
        "registry": "registry.example.com",
        "pullPolicy": "Always",
    },
    "imagePullSecrets": [{"name": "regcred"}],
    "commonLabels": {"cost-center": "storage"},
    "accounts": [
        {"name": "shop", "existingSecret": "do-shop", "key": "api-token", "select": {"droplet_ids": [512345678901]}},
        {"name": "lab", "existingSecret": "do-lab", "exclude": {"tags": ["scratch"], "names": ["tmp-.*"]}},
    ],
    "config": {
        "poll": {"interval": "10m", "timeout": "15s", "concurrency": 4, "verify_every": "12h"},
        "rate_limit": {"per_minute": 100, "per_hour": 2500, "reserve": 0.5},
        "expect_backups": {"exclude": {"tags": ["k8s", "scratch"]}},
        "overdue": {"grace": "1h30m"},
        "labels": {"tags": {"team": "team:"}},
    },
    "state": {
        "persistence": {
            "enabled": True,
            "storageClass": "do-block-storage",
            "size": "1Gi",
            "annotations": {"helm.sh/resource-policy": "keep"},
        }
    },
    "webConfig": {"existingSecret": "backups-web", "tls": True, "basicAuth": True},
    "log": {"level": "debug", "format": "json"},
    "extraArgs": ["--web.enable-lifecycle"],
    "containerPort": 9100,
    "telemetryPath": "/backup-metrics",
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/company", "readOnly": True}],
    "extraEnvFrom": [{"secretRef": {"name": "proxy"}}],
    "initContainers": [{"name": "wait", "image": "busybox:1.36", "command": ["true"]}],
    "extraContainers": [{"name": "proxy", "image": "oauth2-proxy:7", "ports": [{"containerPort": 4180}]}],
    "service": {
        "type": "LoadBalancer",
        "port": 80,
        "nodePort": 30080,
        "loadBalancerClass": "example.com/internal",
        "loadBalancerSourceRanges": ["192.0.2.0/24"],
        "externalTrafficPolicy": "Local",
        "internalTrafficPolicy": "Cluster",
        "ipDualStack": {"enabled": True},
        "annotations": {"a": "b"},
        "labels": {"c": "d"},
    },
    "serviceAccount": {
        "create": True,
        "name": "backups",
        "annotations": {"e": "f"},
        "imagePullSecrets": [{"name": "regcred"}],
    },
    "automountServiceAccountToken": True,
    "deploymentAnnotations": {"reloader": "true"},
    "podAnnotations": {"g": "h"},
    "podLabels": {"i": "j"},
    "revisionHistoryLimit": 3,
    "strategy": {"type": "Recreate"},
    "startupProbe": {"periodSeconds": 1, "failureThreshold": 30},
    "dnsPolicy": "None",
    "dnsConfig": {"nameservers": ["192.0.2.53"], "options": [{"name": "ndots", "value": "1"}]},
    "hostAliases": [{"ip": "192.0.2.1", "hostnames": ["proxy.example.com"]}],
    "priorityClassName": "system-cluster-critical",
    "nodeSelector": {"kubernetes.io/os": "linux"},
    "tolerations": [{"key": "monitoring", "operator": "Exists", "effect": "NoSchedule"}],
    "affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [{}]}}},
    "topologySpreadConstraints": [
        {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "ScheduleAnyway"}
    ],
    "serviceMonitor": {
        "enabled": True,
        "namespace": "observability",
        "additionalLabels": {"release": "kube-prometheus-stack"},
        "annotations": {"k": "l"},
        "tlsConfig": {"insecureSkipVerify": True},
        "basicAuth": {"username": {"name": "scrape", "key": "user"}, "password": {"name": "scrape", "key": "password"}},
        "sampleLimit": 500_000,
        "targetLimit": 2,
        "labelLimit": 30,
        "labelNameLengthLimit": 100,
        "labelValueLengthLimit": 300,
        "targetLabels": ["c"],
        "podTargetLabels": ["i"],
        "attachMetadata": {"node": True},
        "proxyUrl": "http://proxy.example.com:3128",
        "params": {"name[]": ["digitalocean_backup_state"]},
        "honorTimestamps": False,
        "enableHttp2": False,
        "followRedirects": False,
        "relabelings": [{"targetLabel": "cluster", "replacement": "ams3"}],
        "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "python_.*", "action": "drop"}],
    },
    "prometheusRule": {"enabled": True, "additionalLabels": {"release": "kube-prometheus-stack"}},
    "dashboards": {"annotations": {"grafana_folder": "DigitalOcean"}},
    "networkPolicy": {
        "enabled": True,
        "ingress": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}]},
        "egress": {"extra": [{"ports": [{"port": 3128, "protocol": "TCP"}]}]},
    },
    "extraManifests": [
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "{{ .Release.Name }}-more"}, "data": {"a": "b"}},
        'apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: {{ include "exporter.fullname" . }}-text\ndata: {a: b}\n',
    ],
}
"""Every switch on, and every list and map with something in it."""

REPLICAS: dict[str, Any] = {"replicas": 2}
CASES = {"defaults": {}, "everything": EVERYTHING, "demo": {"demo": True}, "two replicas": REPLICAS}

Manifest = dict[str, Any]


def render(values: Mapping[str, Any] | None = None, name: str = "demo", chart: Path = CHART) -> list[Manifest]:
    """What `helm install` would send to the cluster. Raises `HelmValuesError` or `HelmRenderError` as Helm would."""
    manifests: list[Manifest] = json.loads(_rendered(json.dumps(values or {}), name, chart))
    return manifests


@cache
def _rendered(values: str, name: str, chart: Path) -> str:
    with helm.Chart.load(chart) as loaded:
        rendered = loaded.render(json.loads(values), name=name, namespace="monitoring")
    texts = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    return json.dumps([one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one])


def validate(manifest: Manifest, version: str) -> None:
    """Raise `ValidationError` unless it meets the strict schema of that Kubernetes; the operator's kinds have none."""
    if manifest["apiVersion"] != "monitoring.coreos.com/v1":
        _validate(json.dumps(manifest), version)


@cache
def _validate(manifest: str, version: str) -> None:
    kubernetes.validate(json.loads(manifest), version, strict=True)


def notes(values: Mapping[str, Any]) -> str:
    """What Helm prints after an install."""
    with helm.Chart.load(CHART) as chart:
        text: str = chart.render(dict(values), name="demo", namespace="monitoring")[
            "digitalocean-backup-exporter/templates/NOTES.txt"
        ]
    return text


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = of_kind(manifests, kind)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    found: Manifest = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    """The exporter's own."""
    (found,) = [one for one in pod(manifests)["containers"] if one["name"] == "exporter"]
    return dict(found)


def volume(manifests: list[Manifest], name: str) -> Manifest:
    (found,) = [one for one in pod(manifests)["volumes"] if one["name"] == name]
    return dict(found)


def configuration(manifests: list[Manifest]) -> dict[str, Any]:
    """The exporter's configuration file, as the chart writes it."""
    (text,) = [
        config["data"]["config.yaml"] for config in of_kind(manifests, "ConfigMap") if "config.yaml" in config["data"]
    ]
    read: dict[str, Any] = yaml.safe_load(text)
    return read
