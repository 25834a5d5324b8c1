"""The chart's values: what the schema says of them, what is refused, and that null removes a default."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python as helm
import pytest
import yaml
from kubernetes_validate.utils import all_versions  # type: ignore[import-untyped]

from tests.deploy import chart_values
from tests.deploy.chart_values import SCHEMA, Schema, described, is_group
from tests.deploy.helm_chart import (
    EVERYTHING,
    VALUES,
    configuration,
    container,
    only,
    pod,
    render,
    validate,
    volume,
)
from tests.deploy.image import ROOT
from tests.support.configuration_keys import configuration_keys


def test_values_and_readme_are_made_from_the_schema() -> None:
    """`make readme` would change nothing."""
    assert chart_values.VALUES.read_text() == chart_values.values_file(), "run `make readme`"
    assert chart_values.README.read_text() == chart_values.readme(), "run `make readme`"
    assert "| `serviceMonitor.sampleLimit` | `0` |" in chart_values.table()


def test_every_value_has_a_meaning() -> None:
    """No value, and no group of them, is without a description."""

    def bare(schema: Schema, path: str = "") -> list[str]:
        found = [f"{path}{key}" for key, value in described(schema) if not value["description"].strip()]
        return found + [name for key, value in described(schema) if is_group(value) for name in bare(value, f"{key}.")]

    assert bare(SCHEMA) == []
    assert SCHEMA["properties"].keys() - VALUES.keys() == {"enabled"}


def test_the_readme_says_what_the_defaults_are() -> None:
    """Dashboards are on, ServiceMonitor and rules a choice; and an account's name is unique per Prometheus."""
    introduction, *_ = chart_values.README.read_text().split("## Install")
    assert (
        "Installs the exporter and the dashboards, and by choice a ServiceMonitor and the alert rules" in introduction
    )
    assert (VALUES["dashboards"]["enabled"], VALUES["serviceMonitor"]["enabled"]) == (True, False)
    assert VALUES["prometheusRule"]["enabled"] is False
    names = chart_values.README.read_text().split("## Account names")[1].split("## ")[0]
    assert "unique among all exporters that one Prometheus scrapes" in " ".join(names.split())


def test_the_values_of_the_readmes_commands_and_examples_are_accepted() -> None:
    """What a reader copies is rendered without a complaint."""
    text = chart_values.README.read_text()
    examples = [yaml.safe_load(block) for block in re.findall(r"(?s)```yaml\n(.*?)```", text)]
    for pair in re.findall(r"--set (\S+?)[`\s]", text):
        path, _, value = pair.partition("=")
        example: Any = yaml.safe_load(value)
        for key in reversed(path.split(".")):
            example = {key: example}
        if "webConfig" in example:
            example["webConfig"]["existingSecret"] = "backups-web"
        examples.append(example)
    assert len(examples) > 10
    for example in examples:
        render(example)


def test_it_can_be_a_part_of_another_chart() -> None:
    """Globals of the parent that are not this chart's, and the usual condition, are no wrong values."""
    assert render({"global": {"storageClass": "fast"}, "enabled": True}) == render()


def test_every_object_of_the_schema_refuses_keys_it_does_not_know() -> None:
    """A misspelt value is an error, not ignored; only Kubernetes' own structures and globals are open."""

    def closed(schema: Any) -> bool:
        if isinstance(schema, list):
            return all(map(closed, schema))
        if not isinstance(schema, dict):
            return True
        if isinstance(schema.get("properties"), dict) and schema.get("type") == "object":
            named = set(schema["properties"]) == {"name"} and schema.get("required") == ["name"]
            shared = "imageRegistry" in schema["properties"]
            if schema.get("additionalProperties") is not False and not named and not shared:
                return False
        return all(map(closed, schema.values()))

    assert closed(SCHEMA)


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
        ({"networkPolicy": {"egress": {"except": ["ten"]}}}, "/networkPolicy/egress/except"),
        ({"dashboards": {"labels": {"grafana_dashboard": 1}}}, "grafana_dashboard"),
        ({"containerPort": 80}, "/containerPort"),
        ({"telemetryPath": "metrics"}, "/telemetryPath"),
        ({"telemetryPath": "/-/healthy"}, "/telemetryPath"),
        ({"nameOverride": "My backups"}, "/nameOverride"),
        ({"fullnameOverride": 51 * "a"}, "/fullnameOverride"),
        ({"fullnameOverride": "1st"}, "/fullnameOverride"),
        ({"namespaceOverride": "a.b"}, "/namespaceOverride"),
        ({"serviceAccount": {"name": "a b"}}, "/serviceAccount/name"),
        ({"commonLabels": {"team": "storage and backups"}}, "/commonLabels/team"),
        ({"extraEnv": [{"name": "TIMES", "value": 5}]}, "/extraEnv/0/value"),
        ({"resources": {"limits": {"memory": "512MB"}}}, "/resources/limits/memory"),
        ({"strategy": {"type": "Rolling"}}, "/strategy/type"),
        ({"serviceMonitor": {"interval": "0s"}}, "/serviceMonitor/interval"),
        ({"prometheusRule": {"additionalRuleLabels": {"cost-center": "x"}}}, "cost-center"),
        ({"accounts": [{"name": "a", "existingSecret": "b", "api_url": "http://192.0.2.1"}]}, "api_url"),
        ({"serviceMonitor": {"labels": {"release": "x"}}}, "labels"),
        ({"prometheusRule": {"alerts": {"DropletBackupMissing": {"enable": False}}}}, "enable"),
        ({"image": {"pullSecrets": []}}, "pullSecrets"),
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
        ({"webConfig": {"clientCertificate": {"required": True}}}, "Set webConfig.tls to true"),
        (
            {"strategy": {"type": "RollingUpdate"}, "state": {"persistence": {"enabled": True}}},
            "strategy.type is RollingUpdate.*Leave strategy empty",
        ),
        ({"accounts": None}, "accounts is empty.*or set demo to true"),
        (
            {"serviceMonitor": {"enabled": True, "job": "backups"}, "prometheusRule": {"enabled": True}},
            'Set prometheusRule.job to "backups"',
        ),
        (
            {"prometheusRule": {"enabled": True, "alerts": {"DropletBackupMising": {"enabled": False}}}},
            '"DropletBackupMising", which is no alert.*DropletBackupMissing',
        ),
        ({"prometheusRule": {"enabled": True, "job": "("}}, "prometheusRule.job.*error parsing regexp"),
        (
            {"webConfig": {"existingSecret": "web", "basicAuth": True}, "serviceMonitor": {"enabled": True}},
            "answered by 401.*Set serviceMonitor.basicAuth",
        ),
        (
            {"serviceMonitor": {"enabled": True, "interval": "1m", "scrapeTimeout": "1m30s"}},
            "scrapeTimeout is 1m30s, longer than serviceMonitor.interval, which is 1m.*Shorten scrapeTimeout",
        ),
    ],
)
def test_values_that_contradict_each_other_are_refused_with_the_remedy(values: dict[str, Any], told: str) -> None:
    """What a schema cannot say is refused when the chart is rendered."""
    with pytest.raises(helm.HelmRenderError, match=told):
        render(values)


@pytest.mark.parametrize("release", ["2nd", "backups.production", "a" * 48 + "--b"])
def test_a_release_whose_name_makes_no_name_for_a_service_is_refused(release: str) -> None:
    """Helm allows more in a release's name than Kubernetes in a Service's; another name can be given."""
    with pytest.raises(helm.HelmRenderError, match="Set fullnameOverride"):
        render(name=release)
    assert only(render({"fullnameOverride": "backups"}, name=release), "Service")["metadata"]["name"] == "backups"


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("--web.listen-address=:9000", "containerPort"),
        ("--web.systemd-socket", "containerPort"),
        ("--web.telemetry-path", "telemetryPath"),
        ("--web.config.file=/x", "webConfig.existingSecret"),
        ("--config.file=/x", "accounts and config"),
        ("--demo", "demo"),
        ("--log.level=debug", "log.level"),
        ("--log.format=json", "log.format"),
    ],
)
def test_a_flag_that_a_value_sets_is_refused_with_the_value_to_use(argument: str, value: str) -> None:
    """Otherwise probes, Service and scrapes would go on asking the old port or path."""
    with pytest.raises(helm.HelmRenderError, match=f"{argument}.*Use the value {value}"):
        render({"extraArgs": [argument]})


def test_other_flags_are_passed_on() -> None:
    """A flag is passed on although it begins like a refused one."""
    given = ["--web.enable-lifecycle", "--demo.speed=60", "--log.levels"]
    assert container(render({"extraArgs": given}))["args"][-3:] == given


# null


def paths(schema: Schema, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Where every value and every group is."""
    for key, value in described(schema):
        yield (*above, key)
        if is_group(value):
            yield from paths(value, (*above, key))


def needed(path: tuple[str, ...]) -> bool:
    """Whether the schema wants a value: groups, and what nothing can be made without."""
    at = SCHEMA
    for key in path[:-1]:
        at = at["properties"][key]
    return path[-1] in at.get("required", []) or path == ("accounts",)


@pytest.mark.parametrize("path", list(paths(SCHEMA)), ids=".".join)
def test_null_removes_a_default_or_is_refused_by_name(path: tuple[str, ...]) -> None:
    """Any value may be null: the result is valid, or the error names the value."""
    everything_on = {
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
        "networkPolicy": {"enabled": True},
    }
    for case in ({**everything_on, "replicas": 2}, {**everything_on, "state": {"persistence": {"enabled": True}}}):
        values: dict[str, Any] = copy.deepcopy(case)
        at = values
        for key in path[:-1]:
            at = at.setdefault(key, {})
        at[path[-1]] = None
        if needed(path):
            with pytest.raises((helm.HelmValuesError, helm.HelmRenderError), match=path[-1]):
                render(values)
            continue
        for manifest in render(values):
            validate(manifest, all_versions()[-1])


def test_a_null_probe_is_no_probe_and_a_null_label_no_label() -> None:
    """Labels and annotations, too, can be taken away one by one."""
    manifests = render({
        "livenessProbe": None,
        "readinessProbe": {"periodSeconds": None},
        "podLabels": {"a": None, "b": "c"},
        "podAnnotations": {"d": None},
        "podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None},
        "nodeSelector": {"e": None, "f": "g"},
    })  # fmt: skip
    main = container(manifests)
    assert "livenessProbe" not in main
    assert "periodSeconds" not in main["readinessProbe"]
    assert "runAsUser" not in pod(manifests)["securityContext"]
    assert pod(manifests)["nodeSelector"] == {"f": "g"}
    (deployment,) = [manifest for manifest in manifests if manifest["kind"] == "Deployment"]
    template = deployment["spec"]["template"]["metadata"]
    assert "a" not in template["labels"]
    assert template["labels"]["b"] == "c"
    assert "d" not in template["annotations"]


# Names that look like other things


@pytest.mark.parametrize("text", ["123", "true", "null", "1e3"])
def test_a_name_that_yaml_could_take_for_a_number_stays_text(text: str) -> None:
    """Kubernetes refuses a number or a boolean where it wants a name or a label."""
    values = {
        "nameOverride": text,
        "fullnameOverride": "backups",
        "namespaceOverride": text,
        "commonLabels": {"cost-center": text},
        "nodeSelector": {"gpus": text},
        "serviceAccount": {"name": text},
        "webConfig": {"existingSecret": text},
        "state": {"persistence": {"enabled": True, "existingClaim": text}},
        "accounts": [{"name": text, "existingSecret": text, "key": text}],
        "extraEnv": [{"name": "A", "value": text}],
        "networkPolicy": {"enabled": True},
        "serviceMonitor": {"enabled": True},
        "prometheusRule": {"enabled": True},
    }
    manifests = render(values, name=text)
    for manifest in manifests:
        validate(manifest, all_versions()[-1])
        assert manifest["metadata"]["namespace"] == text
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == text
    spec = pod(manifests)
    assert spec["serviceAccountName"] == text
    assert volume(manifests, "state")["persistentVolumeClaim"]["claimName"] == text
    assert only(manifests, "ServiceMonitor")["spec"]["namespaceSelector"]["matchNames"] == [text]


@pytest.mark.parametrize(
    "name", ['a"b', "a: b", "a\nb", "#a", "- a", "{{ .Values }}", "'", "\\", "ä€", " a ", "|", "*a"]
)
def test_an_account_may_have_any_name(name: str) -> None:
    """What YAML or Helm could read as their own stays the name, next to a second account."""
    accounts = [{"name": one, "existingSecret": "token"} for one in (name, "other")]
    assert [one["name"] for one in configuration(render({"accounts": accounts}))["accounts"]] == [name, "other"]


def test_an_annotation_of_the_pod_replaces_the_charts_own() -> None:
    """The container that kubectl takes first can be another; the checksum of the configuration cannot be replaced."""
    usual = only(render(), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    given = {"kubectl.kubernetes.io/default-container": "proxy", "checksum/config": "0"}
    made = only(render({"podAnnotations": given}), "Deployment")["spec"]["template"]["metadata"]["annotations"]
    assert made == {**usual, "kubectl.kubernetes.io/default-container": "proxy"}


# The image


@pytest.mark.parametrize(
    ("values", "image"),
    [
        ({"image": {"repository": "a/b", "tag": "1"}}, "a/b:1"),
        ({"image": {"registry": "r.example.com", "repository": "a/b", "tag": "1"}}, "r.example.com/a/b:1"),
        (
            {
                "global": {"imageRegistry": "mirror.example.com"},
                "image": {"registry": "r.example.com", "repository": "b", "tag": "1"},
            },
            "mirror.example.com/b:1",
        ),
        (
            {"image": {"repository": "b", "tag": "1", "digest": "sha256:" + 64 * "a"}},
            "b:1@sha256:" + 64 * "a",
        ),
    ],
)
def test_the_image_is_named_by_registry_repository_tag_and_digest(values: dict[str, Any], image: str) -> None:
    """A parent chart's registry goes before the chart's own."""
    assert container(render(values))["image"] == image


def test_pull_secrets_of_the_chart_and_of_its_parent_are_both_used() -> None:
    """As objects or as bare names, each once."""
    values = {"global": {"imagePullSecrets": ["a", {"name": "b"}]}, "imagePullSecrets": [{"name": "b"}, {"name": "c"}]}
    assert pod(render(values))["imagePullSecrets"] == [{"name": "b"}, {"name": "c"}, {"name": "a"}]


# The exporter's configuration


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


def test_config_takes_every_key_of_the_configuration_file(tmp_path: Path) -> None:
    """Below `config` are the keys that the loader knows; accounts and state are values of their own."""
    keys = configuration_keys(tmp_path)
    assert keys.pop("") - {"accounts", "state_file"} == SCHEMA["properties"]["config"]["properties"].keys()
    for place, known in keys.items():
        section, *path = place.replace("[0]", ".items").split(".")
        schema = SCHEMA["properties"] if section == "accounts" else SCHEMA["properties"]["config"]["properties"]
        found = schema[section]
        for step in path:
            found = resolved(found["items"] if step == "items" else found["properties"][step])
        # The chart makes token_file from the Secret that it is given instead.
        own = {"existingSecret", "key"} if place == "accounts[0]" else set()
        assert found["properties"].keys() - own == known - {"token_file", "token_env"}, place


def resolved(schema: Schema) -> Schema:
    """The schema, or the definition that it refers to."""
    (reference,) = re.findall(r"#/definitions/(\w+)", str(schema.get("$ref", schema.get("allOf", "")))) or [""]
    return SCHEMA["definitions"][reference] if reference else schema
