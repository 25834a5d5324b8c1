"""The Helm chart as a whole: what it makes is valid, named well, and what Chart.yaml says is true."""

from __future__ import annotations

import re
from typing import Any

import helm_python as helm
import pytest
import yaml
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

import exporter
from tests.deploy.chart_values import CHART
from tests.deploy.helm_chart import (
    CASES,
    EVERYTHING,
    REPLICAS,
    VALUES,
    container,
    notes,
    of_kind,
    only,
    pod,
    render,
    validate,
)
from tests.deploy.image import ROOT


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_chart_passes_helms_lint(values: dict[str, Any]) -> None:
    """`helm lint --strict` finds no errors and no warnings."""
    report = helm.lint(CHART, values, strict=True)
    assert report["errors"] == []
    assert [message for message in report["messages"] if message["severity"] > 1] == []


@pytest.mark.parametrize("version", [all_versions()[0], all_versions()[-1]])
@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_what_the_chart_makes_is_valid_kubernetes(values: dict[str, Any], version: str) -> None:
    """Every manifest meets the strict schema of the oldest Kubernetes the chart allows, and of the newest known."""
    kinds = set()
    for manifest in render(values):
        validate(manifest, version)
        kinds.add(manifest["kind"])
    assert {"Deployment", "Service", "ServiceAccount"} <= kinds


def test_every_kind_is_validated_once() -> None:
    """Each kind that the chart can make is among those that the cases above make."""
    kinds = {manifest["kind"] for values in CASES.values() for manifest in render(values)}
    written = set(re.findall(r"(?m)^kind: (\w+)", "\n".join(p.read_text() for p in CHART.glob("templates/*.yaml"))))
    assert kinds == written


def test_names_and_namespaces_are_valid_and_unique_for_a_release_with_a_long_name() -> None:
    """No two objects of a kind collide, and no name is longer than a label may be."""
    manifests = render({**EVERYTHING, "nameOverride": ""}, name="a-release-with-the-longest-name-that-helm-allows-here")
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in manifests]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name) for _, name in names)


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_common_labels_and_namespace_are_on_every_object_of_the_chart(values: dict[str, Any]) -> None:
    """`commonLabels` and `namespaceOverride` reach each object and the pods, but not the selectors."""
    moved = {**values, "namespaceOverride": "elsewhere", "commonLabels": {"cost-center": "storage"}}
    moved["extraManifests"] = []
    moved["serviceMonitor"] = {**values.get("serviceMonitor", {}), "namespace": ""}
    manifests = render(moved)
    for manifest in manifests:
        assert manifest["metadata"]["labels"]["cost-center"] == "storage", manifest["kind"]
        assert manifest["metadata"]["namespace"] == "elsewhere", manifest["kind"]
    for monitor in of_kind(manifests, "ServiceMonitor"):
        assert monitor["spec"]["namespaceSelector"] == {"matchNames": ["elsewhere"]}
    deployment = only(manifests, "Deployment")["spec"]
    assert deployment["template"]["metadata"]["labels"]["cost-center"] == "storage"
    assert "cost-center" not in deployment["selector"]["matchLabels"]


def test_extra_manifests_are_installed_with_their_templates_filled_in() -> None:
    """Maps and texts, both."""
    names = {config["metadata"]["name"] for config in of_kind(render(EVERYTHING), "ConfigMap")}
    assert {"demo-more", "demo-backups-text"} <= names


def test_the_chart_installs_the_version_of_this_package() -> None:
    """appVersion, the image's tag by default, is the package's version."""
    with helm.Chart.load(CHART) as chart:
        assert chart.metadata["appVersion"] == exporter.__version__
    assert container(render())["image"].endswith(f":{exporter.__version__}")


def test_chart_yaml_has_what_a_catalogue_needs() -> None:
    """Home, sources, maintainers, icon, and Artifact Hub's annotations, of which some are YAML within YAML."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    home = re.search(r'(?m)^Homepage = "(.*)"$', (ROOT / "pyproject.toml").read_text())
    assert home is not None
    assert chart["home"] == home[1]
    assert chart["sources"] == [home[1]]
    assert (ROOT / chart["icon"].removeprefix(f"{home[1]}/")).is_file()
    assert chart["maintainers"][0]["name"]
    assert chart["kubeVersion"] == ">=1.25.0-0"
    links = yaml.safe_load(chart["annotations"]["artifacthub.io/links"])
    assert all(link["name"] and link["url"].startswith(home[1]) for link in links)
    assert chart["annotations"]["artifacthub.io/license"] == "Apache-2.0"


def test_more_than_one_replica_spreads_and_survives_a_drain() -> None:
    """Two replicas prefer nodes and zones of their own and have a budget for disruptions; one has none of it."""
    one, two = render(), render(REPLICAS)
    assert of_kind(one, "PodDisruptionBudget") == []
    assert not pod(one).keys() & {"affinity", "topologySpreadConstraints"}
    selector = only(two, "Deployment")["spec"]["selector"]
    assert only(two, "PodDisruptionBudget")["spec"] == {"selector": selector, "maxUnavailable": 1}
    (preferred,) = pod(two)["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    term = {"topologyKey": "kubernetes.io/hostname", "labelSelector": selector}
    assert preferred["podAffinityTerm"] == term
    (spread,) = pod(two)["topologySpreadConstraints"]
    assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("topology.kubernetes.io/zone", "ScheduleAnyway")
    assert spread["labelSelector"] == selector
    hard = pod(render({**REPLICAS, "podAntiAffinity": "hard"}))["affinity"]["podAntiAffinity"]
    assert hard == {"requiredDuringSchedulingIgnoredDuringExecution": [term]}


def test_what_spreads_replicas_can_be_replaced_and_switched_off() -> None:
    """Values that spread replicas can be replaced, emptied, and removed by null."""
    own: dict[str, Any] = {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": []}}
    node = {"nodeAffinity": EVERYTHING["affinity"]["nodeAffinity"]}
    spread = {"maxSkew": 2, "topologyKey": "rack", "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {}}
    assert pod(render({**REPLICAS, "affinity": own}))["affinity"] == own
    assert pod(render({**REPLICAS, "affinity": node}))["affinity"].keys() == {"nodeAffinity", "podAntiAffinity"}
    assert pod(render({**REPLICAS, "topologySpreadConstraints": [spread]}))["topologySpreadConstraints"] == [spread]
    off = render(
        {**REPLICAS, "podAntiAffinity": "", "topologySpreadConstraints": [], "podDisruptionBudget": None},
    )
    assert not pod(off).keys() & {"affinity", "topologySpreadConstraints"}
    assert of_kind(off, "PodDisruptionBudget") == []
    budget = only(render({**REPLICAS, "podDisruptionBudget": {"minAvailable": "50%"}}), "PodDisruptionBudget")["spec"]
    assert (budget["minAvailable"], "maxUnavailable" in budget) == ("50%", False)


def test_the_service_selects_the_pod_before_it_is_ready_too() -> None:
    """The Service also selects pods that are not ready, because their metrics show why."""
    for values in (CASES["defaults"], EVERYTHING):
        manifests = render(values)
        service = only(manifests, "Service")
        labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert only(manifests, "Deployment")["spec"]["selector"]["matchLabels"].items() <= labels.items()
        assert service["spec"]["publishNotReadyAddresses"] is True
        assert service["spec"]["ports"][0]["targetPort"] == "metrics"


def test_the_service_has_the_usual_choices() -> None:
    """A plain ClusterIP by default; a load balancer with a class, sources, policies and both families by choice."""
    plain = only(render(), "Service")["spec"]
    assert plain.keys() == {"type", "publishNotReadyAddresses", "selector", "ports"}
    chosen = only(render(EVERYTHING), "Service")["spec"]
    assert (chosen["ipFamilies"], chosen["ipFamilyPolicy"]) == (["IPv6", "IPv4"], "PreferDualStack")
    assert (chosen["loadBalancerClass"], chosen["loadBalancerSourceRanges"]) == (
        "example.com/internal",
        ["192.0.2.0/24"],
    )
    assert (chosen["externalTrafficPolicy"], chosen["internalTrafficPolicy"]) == ("Local", "Cluster")
    assert (chosen["ports"][0]["port"], chosen["ports"][0]["nodePort"]) == (80, 30080)
    assert only(render({"service": {"clusterIP": "None"}}), "Service")["spec"]["clusterIP"] == "None"


@pytest.mark.parametrize("values", [{}, {"demo": True}])
def test_there_is_no_network_policy_unless_it_is_asked_for(values: dict[str, Any]) -> None:
    """There is no network policy by default, because it could cut off scrapes or DNS."""
    assert of_kind(render(values), "NetworkPolicy") == []


def test_the_network_policy_lets_in_scrapes_and_out_names_and_the_api() -> None:
    """Only the metrics port is open inwards; outwards the cluster's DNS, and 443 beyond private networks."""
    manifests = render({"networkPolicy": {"enabled": True}})
    policy = only(manifests, "NetworkPolicy")["spec"]
    labels = only(manifests, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert policy["podSelector"]["matchLabels"].items() <= labels.items()
    assert policy["policyTypes"] == ["Ingress", "Egress"]
    assert policy["ingress"] == [{"ports": [{"port": "metrics", "protocol": "TCP"}]}]
    names, api = policy["egress"]
    assert {(one["port"], one["protocol"]) for one in names["ports"]} == {
        (port, protocol) for port in (53, 5353) for protocol in ("UDP", "TCP")
    }
    assert {
        "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
        "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
    } in names["to"]
    assert api["ports"] == [{"port": 443, "protocol": "TCP"}]
    assert [one["ipBlock"]["cidr"] for one in api["to"]] == ["0.0.0.0/0", "::/0"]
    assert "10.0.0.0/8" in api["to"][0]["ipBlock"]["except"]
    assert api["to"][1]["ipBlock"]["except"] == ["fc00::/7", "fe80::/10"]


def test_the_network_policy_can_be_widened_and_narrowed() -> None:
    """The network policy takes sources, further rules, other name servers and exceptions; a demo needs nothing."""
    everything = only(render(EVERYTHING), "NetworkPolicy")["spec"]
    assert everything["ingress"][0]["from"] == EVERYTHING["networkPolicy"]["ingress"]["from"]
    assert everything["egress"][2:] == EVERYTHING["networkPolicy"]["egress"]["extra"]
    egress = {"except": ["192.0.2.0/24", "2001:db8::/32"], "dns": {"ports": [5300], "to": []}}
    names, api = only(render({"networkPolicy": {"enabled": True, "egress": egress}}), "NetworkPolicy")["spec"]["egress"]
    assert names == {"ports": [{"port": 5300, "protocol": "UDP"}, {"port": 5300, "protocol": "TCP"}]}
    assert [one["ipBlock"]["except"] for one in api["to"]] == [["192.0.2.0/24"], ["2001:db8::/32"]]
    demo = only(render({"demo": True, "networkPolicy": {"enabled": True}}), "NetworkPolicy")["spec"]
    assert "egress" not in demo
    assert "Egress" in demo["policyTypes"]


@pytest.mark.parametrize("values", CASES.values(), ids=CASES)
def test_the_notes_name_what_is_left_to_do(values: dict[str, Any]) -> None:
    """After an install the notes name the Secret to make, how to reach the exporter, and that names must be unique."""
    told = notes(values)
    assert "port-forward service/demo-" in told
    accounts = values.get("accounts", [] if values.get("demo") else VALUES["accounts"])
    for account in accounts:
        assert f"Secret {account['existingSecret']}, key {account.get('key', 'token')}" in told
    assert ("must be unique" in told) == bool(accounts)


def test_notes_and_readme_make_the_secret_in_the_same_way() -> None:
    """Both by a file that is typed, so that the token is in no shell history."""
    (command,) = re.findall(r"(?m)^ +(kubectl .*create secret generic digitalocean-token.*)$", notes({}))
    readme = (CHART / "README.md").read_text()
    assert re.findall(r"(?m)^ +(kubectl .*create secret generic digitalocean-token.*)$", readme) == [command]
    assert "--from-file=token=/dev/stdin" in command
