"""The Helm chart: rendered by Helm's own engine, validated against Kubernetes' schemas, and what it would run, run."""

from __future__ import annotations

import copy
import json
import re
import signal
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from kubernetes_validate.utils import all_versions, validate  # type: ignore[import-untyped]

import exporter
from tests.deploy.image import ROOT, Image
from tests.support import processes
from tests.support import sandbox as sandboxes
from tests.support.prometheus_server import running
from tests.support.sandbox import Mount, Network

CHART = ROOT / "deploy" / "helm" / "digitalocean-backup-exporter"
RULES = ROOT / "deploy" / "prometheus" / "rules"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
PROMETHEUS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
JOB = PROMETHEUS["scrape_configs"][0]["job_name"]

EVERYTHING: dict[str, Any] = {
    "nameOverride": "backups",
    "image": {
        "repository": "registry.example.com/backup-exporter",
        "tag": "1.2.3",
        "digest": "sha256:" + 64 * "a",
        "pullPolicy": "Always",
        "pullSecrets": [{"name": "regcred"}],
    },
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
    "extraEnv": [{"name": "HTTPS_PROXY", "value": "http://proxy.example.com:3128"}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "company-ca"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/etc/ssl/company", "readOnly": True}],
    "service": {"type": "NodePort", "port": 80, "annotations": {"a": "b"}, "labels": {"c": "d"}},
    "serviceAccount": {"create": True, "name": "backups", "annotations": {"e": "f"}},
    "podAnnotations": {"g": "h"},
    "podLabels": {"i": "j"},
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
        "labels": {"release": "kube-prometheus-stack"},
        "annotations": {"k": "l"},
        "tlsConfig": {"insecureSkipVerify": True},
        "basicAuth": {"username": {"name": "scrape", "key": "user"}, "password": {"name": "scrape", "key": "password"}},
        "relabelings": [{"targetLabel": "cluster", "replacement": "ams3"}],
        "metricRelabelings": [{"sourceLabels": ["__name__"], "regex": "python_.*", "action": "drop"}],
    },
    "prometheusRule": {"enabled": True, "labels": {"release": "kube-prometheus-stack"}},
    "dashboards": {"annotations": {"grafana_folder": "DigitalOcean"}},
    "networkPolicy": {
        "ingress": {"from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "observability"}}}]},
        "egress": {"extra": [{"ports": [{"port": 3128, "protocol": "TCP"}]}]},
    },
}
"""Every switch on, and every list and map with something in it."""

Manifest = dict[str, Any]


def render(values: Mapping[str, Any] | None = None, name: str = "demo", chart: Path = CHART) -> list[Manifest]:
    """What `helm install` would send to the cluster."""
    manifests: list[Manifest] = json.loads(_rendered(json.dumps(values or {}), name, chart))
    return manifests


@cache
def _rendered(values: str, name: str, chart: Path) -> str:
    with helm.Chart.load(chart) as loaded:
        rendered = loaded.render(json.loads(values), name=name, namespace="monitoring")
    texts = [text for path, text in rendered.items() if not path.endswith("NOTES.txt")]
    return json.dumps([one for text in texts for one in yaml.load_all(text, yaml.CSafeLoader) if one])


def of_kind(manifests: list[Manifest], kind: str) -> list[Manifest]:
    return [manifest for manifest in manifests if manifest["kind"] == kind]


def only(manifests: list[Manifest], kind: str) -> Manifest:
    (found,) = of_kind(manifests, kind)
    return found


def pod(manifests: list[Manifest]) -> Manifest:
    found: Manifest = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return found


def container(manifests: list[Manifest]) -> Manifest:
    (found,) = pod(manifests)["containers"]
    return dict(found)


def configuration(manifests: list[Manifest]) -> dict[str, Any]:
    """The exporter's configuration file, as the chart writes it."""
    (text,) = [
        config["data"]["config.yaml"] for config in of_kind(manifests, "ConfigMap") if "config.yaml" in config["data"]
    ]
    read: dict[str, Any] = yaml.safe_load(text)
    return read


CASES = {"defaults": {}, "everything": EVERYTHING, "demo": {"demo": True}}


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_chart_passes_helms_lint(values: dict[str, Any]) -> None:
    """`helm lint --strict` has neither errors nor warnings."""
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", [all_versions()[0], all_versions()[-1]])
@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_what_the_chart_makes_is_valid_kubernetes(values: dict[str, Any], version: str) -> None:
    """Every manifest meets the strict schema of the oldest Kubernetes the chart allows, and of the newest known."""
    kinds = set()
    for manifest in render(values):
        if manifest["apiVersion"] != "monitoring.coreos.com/v1":
            validate(manifest, version, strict=True)
        kinds.add(manifest["kind"])
    assert {"Deployment", "Service", "ServiceAccount", "NetworkPolicy"} <= kinds


def test_everything_on_makes_every_kind() -> None:
    """Each kind that the chart can make is among those validated with everything on."""
    kinds = {manifest["kind"] for manifest in render(EVERYTHING)}
    written = set(re.findall(r"(?m)^kind: (\w+)", "\n".join(p.read_text() for p in CHART.glob("templates/*.yaml"))))
    assert kinds == written


def test_names_and_namespaces_are_valid_and_unique_for_a_release_with_a_long_name() -> None:
    """No two objects of a kind collide, and no name is longer than a label may be."""
    manifests = render({**EVERYTHING, "nameOverride": ""}, name="a-release-with-the-longest-name-that-helm-allows-here")
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for _, name in names)


def test_the_chart_installs_the_version_of_this_package() -> None:
    """appVersion, the image's tag by default, is the package's version."""
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == exporter.__version__
    assert container(render())["image"].endswith(f":{exporter.__version__}")


# Values


def keys(values: Mapping[str, Any], schema: Mapping[str, Any], path: str = "") -> list[str]:
    """Where defaults and schema hold different keys, down to objects that the schema leaves open."""
    if "properties" not in schema:
        return []
    known = schema["properties"]
    wrong = [f"{path}.{key} is not in the schema" for key in values.keys() - known.keys()]
    for key in values.keys() & known.keys():
        if isinstance(values[key], dict):
            wrong += keys(values[key], known[key], f"{path}.{key}")
    return wrong


def test_every_default_is_in_the_schema_and_every_key_of_it_is_in_the_values() -> None:
    """values.yaml and values.schema.json describe the same keys."""
    assert keys(VALUES, SCHEMA) == []
    assert SCHEMA["properties"].keys() - VALUES.keys() == {"global", "enabled"}


def test_it_can_be_a_part_of_another_chart() -> None:
    """What Helm hands down to a dependency, and the condition by which most charts take one in, are no wrong values."""
    assert render({"global": {"imageRegistry": "registry.example.com"}, "enabled": True}) == render()


def test_every_object_of_the_schema_refuses_keys_it_does_not_know() -> None:
    """A misspelt value is an error, not ignored; only Kubernetes' own structures are left to Kubernetes."""

    def closed(schema: Any) -> bool:
        if isinstance(schema, list):
            return all(map(closed, schema))
        if not isinstance(schema, dict):
            return True
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            named = set(schema["properties"]) == {"name"} and schema.get("required") == ["name"]
            if schema.get("additionalProperties") is not False and not named:
                return False
        return all(map(closed, schema.values()))

    assert closed(SCHEMA)


def test_every_value_has_its_meaning_beside_it() -> None:
    """In values.yaml each group of keys is led by a comment, or, where its name says all, has them within."""
    groups = re.split(r"\n\s*\n", (CHART / "values.yaml").read_text())
    bare = [group for group in groups if not group.lstrip().startswith("#")]
    assert {group.split(":")[0] for group in bare} <= {"image", "log", "service", "serviceAccount", "podAnnotations"}


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"confg": {}}, "confg"),
        ({"config": {"poll": {"intervall": "5m"}}}, "intervall"),
        ({"config": {"poll": {"interval": "5 minutes"}}}, "/config/poll/interval"),
        ({"config": {"accounts": []}}, "accounts"),
        ({"config": {"state_file": "/tmp/x"}}, "state_file"),
        ({"accounts": []}, "/accounts"),
        ({"accounts": [{"name": "a"}]}, "existingSecret"),
        ({"accounts": [{"name": "a", "existingSecret": "b", "token": "dop_v1_x"}]}, "token"),
        ({"accounts": [{"name": "a", "existingSecret": "Not A Secret"}]}, "existingSecret"),
        ({"replicas": "2"}, "/replicas"),
        ({"image": {"digest": "latest"}}, "/image/digest"),
        ({"log": {"level": "warning"}}, "/log/level"),
        ({"service": {"port": 0}}, "/service/port"),
        ({"resources": {"limit": {}}}, "limit"),
        ({"networkPolicy": {"egress": {"ports": []}}}, "/networkPolicy/egress/ports"),
        ({"dashboards": {"labels": {"grafana_dashboard": 1}}}, "grafana_dashboard"),
    ],
)
def test_a_wrong_value_is_refused_by_name(values: dict[str, Any], told: str) -> None:
    """The error names the key that is wrong."""
    with pytest.raises(helm.HelmValuesError, match=re.escape(told)):
        render(values)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"replicas": 2, "state": {"persistence": {"enabled": True}}}, "replicas is 2.*Set replicas to 1"),
        (
            {"accounts": [{"name": "a", "existingSecret": "b"}, {"name": "a", "existingSecret": "c"}]},
            '"a" comes twice',
        ),
        ({"webConfig": {"tls": True}}, "webConfig.existingSecret"),
        ({"webConfig": {"basicAuth": True}}, "webConfig.existingSecret"),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(values: dict[str, Any], told: str) -> None:
    """What a schema cannot say is refused when the chart is rendered."""
    with pytest.raises(helm.HelmRenderError, match=told):
        render(values)


# The pod


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_pod_meets_the_restricted_pod_security_standard(values: dict[str, Any]) -> None:
    """No root, no capability, no way to gain one, a read-only root, the default seccomp profile, no cluster token."""
    spec, main = pod(render(values)), container(render(values))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    assert all((volume.keys() - {"name"}) <= allowed for volume in spec.get("volumes", []))
    assert main["resources"]["limits"]["memory"]
    assert main["resources"]["requests"]["cpu"]
    for account in of_kind(render(values), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_pod_runs_as_the_user_of_the_image(image: Image) -> None:
    """The numbers in the values are those the image prepares its folders for."""
    assert pod(render())["securityContext"]["runAsUser"] == image.user


def test_the_probes_ask_the_two_paths_of_the_contract() -> None:
    """Liveness asks /-/healthy, readiness /-/ready; with users, who may not ask that, both ask /-/healthy."""
    main = container(render())
    assert main["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics", "scheme": "HTTP"}
    assert main["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "metrics", "scheme": "HTTP"}
    assert main["ports"] == [{"name": "metrics", "containerPort": 9819, "protocol": "TCP"}]
    main = container(render(EVERYTHING))
    assert main["readinessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics", "scheme": "HTTPS"}
    assert main["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_tokens_come_from_existing_secrets_as_files() -> None:
    """The chart makes no Secret and sets no token in the environment: it mounts each account's key as a file."""
    manifests = render(EVERYTHING)
    assert of_kind(manifests, "Secret") == []
    assert {variable["name"] for variable in container(manifests)["env"]} == {"HTTPS_PROXY"}
    (tokens,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "tokens"]
    assert [source["secret"] for source in tokens["projected"]["sources"]] == [
        {"name": "do-shop", "items": [{"key": "api-token", "path": "0/token"}]},
        {"name": "do-lab", "items": [{"key": "token", "path": "1/token"}]},
    ]
    assert tokens["projected"]["defaultMode"] == 0o440
    (mount,) = [mount for mount in container(manifests)["volumeMounts"] if mount["name"] == "tokens"]
    assert mount["readOnly"] is True
    files = [account["token_file"] for account in configuration(manifests)["accounts"]]
    assert files == [f"{mount['mountPath']}/0/token", f"{mount['mountPath']}/1/token"]


def test_state_is_kept_on_an_empty_dir_by_default() -> None:
    """Without a choice the state file lies on an emptyDir, and no claim is made."""
    manifests = render()
    (state,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "state"]
    assert "emptyDir" in state
    assert of_kind(manifests, "PersistentVolumeClaim") == []
    (mount,) = [mount for mount in container(manifests)["volumeMounts"] if mount["name"] == "state"]
    assert configuration(manifests)["state_file"].startswith(mount["mountPath"] + "/")
    assert "strategy" not in only(manifests, "Deployment")["spec"]


def test_state_is_kept_on_a_claim_by_choice() -> None:
    """A claim is made and mounted, and the old pod ends before the new one wants it."""
    manifests = render(EVERYTHING)
    claim = only(manifests, "PersistentVolumeClaim")
    (state,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "state"]
    assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == "do-block-storage"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_state_is_kept_on_a_claim_that_exists_by_choice() -> None:
    """An existing claim is mounted and none is made."""
    manifests = render({"state": {"persistence": {"enabled": True, "existingClaim": "backups"}}})
    (state,) = [volume for volume in pod(manifests)["volumes"] if volume["name"] == "state"]
    assert state["persistentVolumeClaim"]["claimName"] == "backups"
    assert of_kind(manifests, "PersistentVolumeClaim") == []


@pytest.mark.parametrize(("given", "made"), [("", None), ("-", ""), ("fast", "fast")])
def test_the_storage_class_can_be_the_default_none_or_named(given: str, made: str | None) -> None:
    """Empty leaves the class to the cluster, "-" asks for none."""
    manifests = render({"state": {"persistence": {"enabled": True, "storageClass": given}}})
    assert only(manifests, "PersistentVolumeClaim")["spec"].get("storageClassName") == made


def test_two_replicas_have_a_state_each() -> None:
    """Several replicas are allowed with an emptyDir, which each pod has for itself."""
    manifests = render({"replicas": 2})
    assert only(manifests, "Deployment")["spec"]["replicas"] == 2


def test_a_changed_configuration_starts_new_pods() -> None:
    """The pod template carries the configuration's checksum."""

    def checksum(values: dict[str, Any]) -> str:
        template = only(render(values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) != checksum({"config": {"poll": {"interval": "10m"}}})
    assert checksum({}) == checksum({"podLabels": {"a": "b"}})


def test_the_configuration_is_the_values_to_the_letter() -> None:
    """`config` and `accounts` arrive whole; a long droplet id is not turned into a float."""
    made = configuration(render(EVERYTHING))
    assert {key: made[key] for key in EVERYTHING["config"]} == EVERYTHING["config"]
    assert [account["name"] for account in made["accounts"]] == ["shop", "lab"]
    assert made["accounts"][0]["select"] == {"droplet_ids": [512345678901]}
    assert made["accounts"][1]["exclude"] == {"tags": ["scratch"], "names": ["tmp-.*"]}


def test_the_chart_takes_every_key_of_the_exporters_own_example() -> None:
    """All that config.example.yaml shows is a value, but the places of token and state, which are the chart's."""
    example = yaml.safe_load((ROOT / "config.example.yaml").read_text())
    del example["state_file"]
    accounts = example.pop("accounts")
    (account,) = [{key: value for key, value in accounts[0].items() if key not in ("token_file", "token_env")}]
    values = {"config": example, "accounts": [{**account, "existingSecret": "digitalocean-token"}]}
    made = configuration(render(values))
    assert {key: made[key] for key in example} == example


# In the cluster


def test_the_service_selects_the_pod_before_it_is_ready_too() -> None:
    """A pod whose token is refused is never ready, and its metrics are what says so."""
    for values in (CASES["defaults"], EVERYTHING):
        manifests = render(values)
        service = only(manifests, "Service")
        labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert only(manifests, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert service["spec"]["publishNotReadyAddresses"] is True
        assert service["spec"]["ports"][0]["targetPort"] == "metrics"


def test_the_service_monitor_finds_the_service_and_names_the_job_that_the_rules_expect() -> None:
    """Whatever release, name or namespace is chosen, it selects the Service, its port, and sets the rules' job."""
    manifests = render(EVERYTHING)
    monitor, service = only(manifests, "ServiceMonitor"), only(manifests, "Service")
    assert monitor["apiVersion"] == "monitoring.coreos.com/v1"
    assert monitor["metadata"]["namespace"] == "observability"
    assert monitor["metadata"]["labels"]["release"] == "kube-prometheus-stack"
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert monitor["spec"]["namespaceSelector"] == {"matchNames": [service["metadata"]["namespace"]]}
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] in [port["name"] for port in service["spec"]["ports"]]
    assert (endpoint["scheme"], endpoint["interval"], endpoint["scrapeTimeout"]) == ("https", "60s", "10s")
    assert {"targetLabel": "job", "replacement": JOB} in endpoint["relabelings"]
    assert endpoint["relabelings"][-1:] == EVERYTHING["serviceMonitor"]["relabelings"]
    assert endpoint["tlsConfig"] == {"insecureSkipVerify": True}
    assert endpoint["metricRelabelings"] == EVERYTHING["serviceMonitor"]["metricRelabelings"]
    rules = "\n".join(path.read_text() for path in RULES.glob("*.yml"))
    asked = re.findall(r'\bjob(=~?)"([^"]+)"', rules)
    assert asked
    assert all(re.fullmatch(wanted if match == "=~" else re.escape(wanted), JOB) for match, wanted in asked)


@pytest.mark.parametrize("honoured", [True, False], ids=["as rendered", "where the operator overrides honorLabels"])
def test_what_the_operator_adds_to_a_target_hides_no_label_of_the_exporter(
    honoured: bool, tool: Callable[[str], str], tmp_path: Path
) -> None:
    """The operator labels a target with its `endpoint`, and some clusters theirs with a `team`: the exporter's stay."""
    (monitor,) = only(render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]["endpoints"]

    def snake(keys: Mapping[str, Any]) -> dict[str, Any]:
        return {re.sub("[A-Z]", lambda letter: f"_{letter[0].lower()}", key): value for key, value in keys.items()}

    added = {"job": "backups", "namespace": "monitoring", "pod": "backups-1", "endpoint": "metrics", "team": "sre"}
    scrape = {
        "honor_labels": honoured and monitor.get("honorLabels", False),
        "relabel_configs": [
            *({"target_label": label, "replacement": value} for label, value in added.items()),
            *map(snake, monitor["relabelings"]),
        ],
    }
    with (
        processes.exporter("--demo") as demo,
        running(
            tool("prometheus"), tmp_path, targets={"any": [demo.url.removeprefix("http://")]}, scrape=scrape
        ) as prometheus,
    ):

        def labels(family: str) -> list[dict[str, str]]:
            return [one["metric"] for one in prometheus.instant(f"digitalocean_backup_{family}", time.time())]

        requests = processes.until(lambda: labels("exporter_api_requests_total"), "a scrape of the exporter")
        assert {"droplets", "policies"} <= {one["endpoint"] for one in requests}
        assert {one["job"] for one in requests} == {JOB}
        teams = {one.get("team") for one in labels("droplet_info")}
        assert ("sre" in teams) != honoured


def test_the_rules_are_the_shipped_ones_untouched_by_helms_templates() -> None:
    """Each file of deploy/prometheus/rules becomes a PrometheusRule with its very groups, `{{ $labels }}` and all."""
    made = of_kind(render(EVERYTHING), "PrometheusRule")
    shipped = [yaml.safe_load(path.read_text()) for path in sorted(RULES.glob("*.yml"))]
    assert shipped
    assert [rule["spec"] for rule in made] == shipped
    assert "{{ $labels." in json.dumps([rule["spec"] for rule in made])
    for rule in made:
        assert rule["apiVersion"] == "monitoring.coreos.com/v1"
        assert rule["metadata"]["labels"]["release"] == "kube-prometheus-stack"
        for group in rule["spec"]["groups"]:
            # What the operator's schema knows; it prunes or refuses the rest.
            assert group.keys() <= {"name", "labels", "interval", "query_offset", "rules", "limit"}
            known = {"record", "alert", "expr", "for", "keep_firing_for", "labels", "annotations"}
            assert all(entry.keys() <= known for entry in group["rules"])


def test_the_runbooks_address_can_be_set() -> None:
    """Every alert links to its section of the page that the values name."""
    address = "https://wiki.example.com/backups"
    values = {"prometheusRule": {"enabled": True, "runbooksUrl": address}}
    groups = [group for rule in of_kind(render(values), "PrometheusRule") for group in rule["spec"]["groups"]]
    alerts = [rule for group in groups for rule in group["rules"] if "alert" in rule]
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"{address}#{alert['alert'].lower()}"


def test_the_dashboards_are_the_shipped_ones_for_grafanas_sidecar() -> None:
    """Each file of deploy/grafana/dashboards becomes a ConfigMap that the sidecar looks for, byte by byte the same."""
    made = [config for config in of_kind(render(EVERYTHING), "ConfigMap") if "config.yaml" not in config["data"]]
    shipped = {path.name: path.read_text() for path in DASHBOARDS.glob("*.json")}
    assert shipped
    assert {name: text for config in made for name, text in config["data"].items()} == shipped
    for config in made:
        assert len(config["data"]) == 1
        assert config["metadata"]["labels"]["grafana_dashboard"] == "1"
        assert config["metadata"]["annotations"] == {"grafana_folder": "DigitalOcean"}
        assert len(json.dumps(config)) < 900_000  # a ConfigMap's limit is a mebibyte


def test_a_packaged_chart_carries_rules_and_dashboards_of_its_own(tmp_path: Path) -> None:
    """`helm package` follows the chart's links, so the archive renders the same far from this repository."""
    with helm.Chart.load(CHART) as chart:
        archive = Path(chart.save(tmp_path))
    assert render(EVERYTHING, chart=archive) == render(EVERYTHING)


@pytest.mark.parametrize(
    ("folder", "values"),
    [("rules", {"prometheusRule": {"enabled": True}, "dashboards": {"enabled": False}}), ("dashboards", {})],
)
def test_a_copy_without_the_linked_files_says_so(tmp_path: Path, folder: str, values: dict[str, Any]) -> None:
    """A tool that drops links, as some that fetch from Git do, gets an error and not a chart without alerts."""
    with helm.Chart.load(CHART) as chart:
        copied = Path(chart.save_dir(tmp_path))
    for path in (copied / "files" / folder).iterdir():
        path.unlink()
    with pytest.raises(helm.HelmRenderError, match=f"files/{folder} is a link"):
        render(values, chart=copied)


def test_the_network_policy_lets_in_scrapes_and_out_names_and_the_api() -> None:
    """Only the metrics port is open inwards; outwards DNS and 443 beyond private networks; for the demo, nothing."""
    manifests = render()
    policy = only(manifests, "NetworkPolicy")["spec"]
    labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    names, api = policy["egress"]
    assert names == {"ports": [{"port": 53, "protocol": "UDP"}, {"port": 53, "protocol": "TCP"}]}
    assert api["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert "10.0.0.0/8" in api["to"][0]["ipBlock"]["except"]
    everything = only(render(EVERYTHING), "NetworkPolicy")["spec"]
    assert everything["ingress"][0]["from"] == EVERYTHING["networkPolicy"]["ingress"]["from"]
    assert everything["egress"][2:] == EVERYTHING["networkPolicy"]["egress"]["extra"]
    demo = only(render({"demo": True}), "NetworkPolicy")["spec"]
    assert "egress" not in demo
    assert "Egress" in demo["policyTypes"]
    assert of_kind(render({"networkPolicy": {"enabled": False}}), "NetworkPolicy") == []


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_notes_name_what_is_left_to_do(values: dict[str, Any]) -> None:
    """After an install the notes name the Secret to make and how to reach the exporter."""
    with helm.Chart.load(CHART) as chart:
        rendered = chart.render(values, name="demo", namespace="monitoring")
    notes = rendered["digitalocean-backup-exporter/templates/NOTES.txt"]
    assert "port-forward service/demo-" in notes
    for account in values.get("accounts", [] if values.get("demo") else VALUES["accounts"]):
        assert f"Secret {account['existingSecret']}, key {account.get('key', 'token')}" in notes


# What would run


def run_pod(
    manifests: list[Manifest],
    image: Image,
    network: Network,
    folder: Path,
    check: Callable[[], None],
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Run the pod's container: its arguments, its volumes with the content of ConfigMaps and Secrets, its probes."""
    main, spec = container(manifests), pod(manifests)
    configs = {config["metadata"]["name"]: config["data"] for config in of_kind(manifests, "ConfigMap")}
    mounts = []
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in main.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        source = folder / mount["name"]
        source.mkdir()
        if "configMap" in volume:
            for name, text in configs[volume["configMap"]["name"]].items():
                (source / name).write_text(text)
        elif "projected" in volume:
            for secret in volume["projected"]["sources"]:
                for item in secret["secret"]["items"]:
                    (source / item["path"]).parent.mkdir(exist_ok=True)
                    (source / item["path"]).write_text("dop_v1_made_up\n")
        elif "secret" in volume:
            for name, text in (secrets or {})[volume["secret"]["secretName"]].items():
                (source / name).write_text(text)
        if "emptyDir" in volume:
            mounts.append(Mount(mount["mountPath"]))
        else:
            mounts.append(Mount(mount["mountPath"], source, writable=not mount.get("readOnly", False)))
    box = image.sandbox(network, *mounts)
    log = folder / "log"
    with box.started([*image.entrypoint, *main["args"]], image.env, log) as process:
        for probe in ("livenessProbe", "readinessProbe"):
            url = f"http://127.0.0.1:9819{main[probe]['httpGet']['path']}"
            sandboxes.wait_for(probe, partial(network.answers, url), process=process, logs=[log])
        check()
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=10) == 0
    assert "dop_v1_made_up" not in log.read_text()


def test_the_pod_of_the_defaults_serves_the_tokens_account(image: Image, network: Network, tmp_path: Path) -> None:
    """With the Secret's token, the chart's arguments and mounts poll the API and turn both probes good."""
    with sandboxes.lookalike(network, "dop_v1_made_up") as url:
        account = copy.deepcopy(VALUES["accounts"][0])
        manifests = render({"accounts": [{**account, "api_url": url}]})

        def check() -> None:
            metrics = network.get("http://127.0.0.1:9819/metrics")
            assert 'digitalocean_backup_enabled{account="default"' in metrics

        run_pod(manifests, image, network, tmp_path, check)


def test_the_pod_of_the_demo_serves_the_made_up_fleet(image: Image, network: Network, tmp_path: Path) -> None:
    """`demo: true` needs no Secret and turns both probes good."""

    def check() -> None:
        assert "digitalocean_backup_overdue{" in network.get("http://127.0.0.1:9819/metrics")

    run_pod(render({"demo": True}), image, network, tmp_path, check)


def test_the_pod_with_users_keeps_its_probes_and_guards_its_metrics(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """The web configuration of the named Secret is in force, and both probes still pass without a password."""
    values = {"demo": True, "webConfig": {"existingSecret": "web", "basicAuth": True}}
    hashed = "$2y$04$EG8SgQN0VoXZ4FA4iPt/dOA8qvbDeBgJ0J6lsOk9xJqP2Vn0ZQ9xO"
    secrets = {"web": {VALUES["webConfig"]["key"]: json.dumps({"basic_auth_users": {"prometheus": hashed}})}}

    def check() -> None:
        with pytest.raises(ConnectionError, match="401"):
            network.get("http://127.0.0.1:9819/metrics")

    run_pod(render(values), image, network, tmp_path, check, secrets)


def test_the_exporter_accepts_the_configuration_with_everything_on(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """What the chart writes with everything on is good by the exporter's own `check-config`."""
    manifests = render(EVERYTHING)
    made = configuration(manifests)
    mounts = []
    for account in made["accounts"]:
        token = tmp_path / account["name"]
        token.write_text("dop_v1_made_up")
        mounts.append(Mount(account["token_file"], token))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(made))
    mounts.append(Mount("/etc/digitalocean-backup-exporter/config.yaml", tmp_path / "config.yaml"))
    box = image.sandbox(network, *mounts)
    flag = "--config.file=/etc/digitalocean-backup-exporter/config.yaml"
    result = box.run([*image.entrypoint, "check-config", flag], image.env)
    assert result.stderr == ""
    assert result.returncode == 0
    assert "shop" in result.stdout
    assert "lab" in result.stdout
