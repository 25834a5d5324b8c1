"""What the chart makes for the Prometheus Operator and Grafana: ServiceMonitor, rules and dashboards."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml

from tests.deploy.chart_values import CHART
from tests.deploy.helm_chart import EVERYTHING, Manifest, of_kind, only, render
from tests.deploy.image import ROOT
from tests.support import processes
from tests.support.prometheus_server import running

RULES = ROOT / "deploy" / "prometheus" / "rules"
DASHBOARDS = ROOT / "deploy" / "grafana" / "dashboards"
PROMETHEUS = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
JOB = PROMETHEUS["scrape_configs"][0]["job_name"]


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


def test_the_service_monitor_has_the_usual_keys() -> None:
    """Limits, labels, proxy, parameters and switches stand where the operator looks for them, false ones too."""
    chosen = EVERYTHING["serviceMonitor"]
    spec = only(render(EVERYTHING), "ServiceMonitor")["spec"]
    limits = {"sampleLimit", "targetLimit", "labelLimit", "labelNameLengthLimit", "labelValueLengthLimit"}
    for key in limits | {"targetLabels", "podTargetLabels", "attachMetadata"}:
        assert spec[key] == chosen[key]
    (endpoint,) = spec["endpoints"]
    for key in ("proxyUrl", "params", "honorTimestamps", "enableHttp2", "followRedirects", "basicAuth"):
        assert endpoint[key] == chosen[key]
    assert endpoint["path"] == EVERYTHING["telemetryPath"]
    plain = only(render({"serviceMonitor": {"enabled": True}}), "ServiceMonitor")["spec"]
    assert plain.keys() == {"selector", "namespaceSelector", "endpoints"}
    (endpoint,) = plain["endpoints"]
    assert endpoint.keys() == {
        "port", "path", "scheme", "interval", "scrapeTimeout", "honorLabels", "relabelings",
    }  # fmt: skip


def test_path_scheme_and_labels_of_the_endpoint_can_be_chosen() -> None:
    """Path, scheme and honorLabels can be set, for a proxy in front of the exporter and for the target's labels."""
    values = {"serviceMonitor": {"enabled": True, "path": "/x", "scheme": "https", "honorLabels": False}}
    (endpoint,) = only(render(values), "ServiceMonitor")["spec"]["endpoints"]
    assert (endpoint["path"], endpoint["scheme"], endpoint["honorLabels"]) == ("/x", "https", False)


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


# Rules


def rules_of(manifests: list[Manifest]) -> list[dict[str, Any]]:
    """All rules that are made."""
    groups = [group for made in of_kind(manifests, "PrometheusRule") for group in made["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"]]


def alerts_of(prometheus_rule: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The alerts that are made with these values below `prometheusRule`."""
    made = rules_of(render({"prometheusRule": {"enabled": True, **prometheus_rule}}))
    return [rule for rule in made if "alert" in rule]


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
    alerts = alerts_of({"runbooksUrl": address})
    assert alerts
    for alert in alerts:
        assert alert["annotations"]["runbook_url"] == f"{address}#{alert['alert'].lower()}"


def test_a_single_alert_can_be_switched_off() -> None:
    """All rules of that name go, and no other; a group that holds nothing else goes with them."""
    shipped = [alert["alert"] for alert in alerts_of({})]
    off = {"DropletBackupShrunk": {"enabled": False}, "BackupExporterDown": {"enabled": False}}
    assert off.keys() <= set(shipped)
    assert [alert["alert"] for alert in alerts_of({"alerts": off})] == [name for name in shipped if name not in off]
    everything = {name: {"enabled": False} for name in shipped}
    left = render({"prometheusRule": {"enabled": True, "alerts": everything}})
    assert all("record" in rule for rule in rules_of(left))
    for made in of_kind(left, "PrometheusRule"):
        assert made["spec"]["groups"]
        assert all(group["rules"] for group in made["spec"]["groups"])


def test_severity_labels_annotations_and_for_of_an_alert_can_be_set() -> None:
    """An alert's own values go before those for every alert, and these before the shipped ones."""
    given = {
        "additionalRuleLabels": {"team": "platform", "pager": "none"},
        "additionalRuleAnnotations": {"dashboard": "https://grafana.example.com"},
        "alerts": {
            "DropletBackupOverdue": {
                "severity": "critical", "labels": {"team": "storage"}, "annotations": {"summary": "x"}, "for": "3h",
            }
        },
    }  # fmt: skip
    shipped = {alert["alert"]: alert for alert in alerts_of({})}
    for alert in alerts_of(given):
        usual = shipped[alert["alert"]]
        if alert["alert"] == "DropletBackupOverdue":
            assert alert["labels"] == {**usual["labels"], "severity": "critical", "team": "storage", "pager": "none"}
            assert (alert["annotations"]["summary"], alert["for"]) == ("x", "3h")
        else:
            assert alert["labels"] == {**usual["labels"], "team": "platform", "pager": "none"}
            assert alert["annotations"]["summary"] == usual["annotations"]["summary"]
        assert alert["annotations"]["dashboard"] == "https://grafana.example.com"
        assert alert["expr"] == usual["expr"]


def test_recording_rules_get_no_labels_of_the_alerts() -> None:
    """The dashboards look for their series by the labels they have."""
    given = {"enabled": True, "additionalRuleLabels": {"team": "platform"}}
    recorded = [rule for rule in rules_of(render({"prometheusRule": given})) if "record" in rule]
    assert recorded
    assert recorded == [rule for rule in rules_of(render(EVERYTHING)) if "record" in rule]


def test_the_jobs_selector_can_be_set() -> None:
    """Every rule that looks for the job asks for the one of the values, and promtool's parser takes it."""
    job = r"exporters/do-\w+"

    def expressions(**values: str) -> str:
        rules = rules_of(render({"prometheusRule": {"enabled": True, **values}}))
        return "\n".join(rule["expr"] for rule in rules)

    made, usual = expressions(job=job), expressions()
    selector = re.compile(r'\bjob(=~?)"((?:[^"\\]|\\.)*)"')
    assert {json.loads(f'"{value}"') for _, value in selector.findall(made)} == {job}
    assert len(selector.findall(made)) == len(selector.findall(usual)) > 0


# Dashboards and packages


def test_the_dashboards_are_the_shipped_ones_for_grafanas_sidecar() -> None:
    """Each file of deploy/grafana/dashboards becomes a ConfigMap that the sidecar looks for, byte by byte the same."""
    values = {**EVERYTHING, "extraManifests": []}
    made = [one for one in of_kind(render(values), "ConfigMap") if "config.yaml" not in one["data"]]
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
