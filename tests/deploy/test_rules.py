"""The shipped rules: whole, tried by promtool in every way that the contract names, and asking only what is served."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import promql_parser as promql
import pytest
import yaml

from exporter.metrics.families import EXPORTER_FAMILIES, FAMILIES
from exporter.reports.textfile import OWN_FAMILIES
from tests.deploy.promql_labels import labels
from tests.support.generations import Generation
from tests.support.rule_files import (
    DEPLOY,
    RULE_FILES,
    RULES,
    SEVERITIES,
    TEST_FILES,
    TESTS,
    Rule,
    Story,
    alerts,
    rules,
    stories,
)

VARIANTS = ("fires and stays silent", "two replicas", "ten-minute gap", "restart")
PER_INSTANCE = ("BackupExporterReplicaDown", "BackupExporterClockSkew", "BackupExporterReloadFailed")
SUBJECT = {
    alert: "instance"
    if alert in PER_INSTANCE and alert != "BackupExporterClockSkew"
    else "job"
    if alert == "BackupExporterDown"
    else "droplet_id"
    if alert.startswith("Droplet") and alert != "DropletBackupsUnjudged"
    else "account"
    for alert in SEVERITIES
}
"""By which label the things that an alert may fire for are told apart."""
TARGET = frozenset({"job", "instance"})
CLUSTER = frozenset({"cluster"})
SERVED = {
    series: frozenset(family.labels)
    | TARGET
    | CLUSTER
    | ({"le"} if series.endswith("_bucket") else set())
    | ({"team"} if series == "digitalocean_backup_droplet_info" else set())
    for family in FAMILIES
    for series in family.series
}
SERVED |= {
    "up": TARGET | CLUSTER,
    "ALERTS": TARGET
    | CLUSTER
    | {"alertname", "alertstate", "severity", "product", "account", "droplet_id", "endpoint"},
}
LONGEST_FOR = 5


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False)


def known() -> dict[str, frozenset[str]]:
    """What is served, and what the rules record of it: the recorded series' labels come from their expressions."""
    series = dict(SERVED)
    waiting = [rule for rule in rules() if not rule.is_alert]
    while waiting:
        for rule in waiting:
            if {s.name for s in selectors(promql.parse(rule.expr))} <= series.keys():
                series[rule.name] = labels(rule.expr, series)
                waiting.remove(rule)
                break
        else:
            names = ", ".join(rule.name for rule in waiting)
            raise LookupError(f"neither served nor recorded is what these are made of: {names}")
    return series


def selectors(node: Any) -> Iterator[promql.VectorSelector]:
    """Every selector of an expression."""
    if isinstance(node, promql.VectorSelector):
        yield node
    elif isinstance(node, promql.MatrixSelector):
        yield node.vector_selector
    elif isinstance(node, promql.BinaryExpr):
        yield from selectors(node.lhs)
        yield from selectors(node.rhs)
    elif isinstance(node, promql.Call):
        for arg in node.args:
            yield from selectors(arg)
    elif hasattr(node, "expr"):
        yield from selectors(node.expr)


def queries(rule: Rule) -> Iterator[str]:
    """The expressions that an alert's texts ask Prometheus for, with a value in place of each label."""
    for text in rule.body.get("annotations", {}).values():
        for quoted in re.findall(r'query \(printf ("(?:[^"\\]|\\.)*")', text):
            yield quoted[1:-1].replace('\\"', '"').replace("%q", '"x"')


def grouping(node: Any) -> Iterator[tuple[bool, frozenset[str], str]]:
    """Of every aggregation and every join: whether it names the labels that it keeps, those labels, and its text."""
    if isinstance(node, promql.AggregateExpr):
        if node.modifier is None:
            yield True, frozenset(), str(node)
        else:
            yield node.modifier.type == promql.AggModifierType.By, frozenset(node.modifier.labels), str(node)
    if isinstance(node, promql.BinaryExpr):
        if node.modifier is not None and node.modifier.matching is not None:
            yield True, frozenset(node.modifier.matching.labels), str(node)
        yield from grouping(node.lhs)
        yield from grouping(node.rhs)
    elif isinstance(node, promql.Call):
        for arg in node.args:
            yield from grouping(arg)
    elif hasattr(node, "expr"):
        yield from grouping(node.expr)


def outermost_labels(text: str) -> set[str]:
    """The labels of the alert that its texts use."""
    return set(re.findall(r"\$labels\.(\w+)", text))


@pytest.mark.parametrize("path", TEST_FILES, ids=lambda path: path.stem)
def test_promtool_tests(path: Path, generation: Generation) -> None:
    """Every unit test of the rules passes in the real rule engine, of both generations."""
    done = run(generation.promtool, "test", "rules", str(path))
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_file_of_once_counts_as_an_exporter_that_is_there() -> None:
    """Of what may be absent for BackupExporterDown, `once` writes something; no test gives it what it does not write.

    Whoever runs `once` for the textfile collector alone would be paged otherwise.
    """
    served = {series for family in EXPORTER_FAMILIES for series in family.series}
    written = {family.name for family in OWN_FAMILIES}
    (down,) = [rule for rule in alerts() if rule.name == "BackupExporterDown"]
    absent = set(re.findall(r"absent_over_time\((\w+)", down.expr))
    assert absent
    assert absent <= written
    of_files = {
        entry["series"].partition("{")[0]
        for story in stories()
        for entry in story.body["input_series"]
        if 'job="node"' in entry["series"]
    }
    assert of_files & served
    assert of_files & served <= written


def test_the_unit_tests_are_given_only_what_is_served() -> None:
    """Every input series is one that the exporter serves or a rule records, with no label that it does not have."""
    series = known()
    for story in stories():
        for entry in story.body["input_series"]:
            name, _, written = entry["series"].partition("{")
            # `pod`, as the Prometheus Operator adds it.
            assert set(re.findall(r'(\w+)="', written)) <= series[name] | TARGET | CLUSTER | {"pod"}, entry["series"]


@pytest.mark.parametrize("job", ["backup-.*", r"exporters/do-\w+", "a|b&c#d", "o'clock", 'say "x"'])
def test_make_rules_writes_any_regular_expression_of_a_job(job: str, tmp_path: Path) -> None:
    """Backslashes, quotes and what the shell or sed read as their own arrive in the rule, and can be replaced again."""
    rules_file = Path("deploy", "prometheus", "rules", "exporter-down.yml")
    (tmp_path / rules_file).parent.mkdir(parents=True)
    shutil.copy(DEPLOY.parent / rules_file, tmp_path / rules_file)
    shutil.copy(DEPLOY.parent / "Makefile", tmp_path)
    for wanted in (job, job, ".*digitalocean-backup.*"):
        done = run("make", "--directory", str(tmp_path), "rules", f"JOB={wanted}")
        assert done.returncode == 0, done.stderr
        groups = yaml.safe_load((tmp_path / rules_file).read_text())["groups"]
        exprs = [promql.parse(rule["expr"]) for group in groups for rule in group["rules"]]
        found = [
            matcher.value for e in exprs for s in selectors(e) if s.name == "up" for matcher in s.matchers.matchers
        ]
        assert found == [wanted]
    assert (tmp_path / rules_file).read_text() == (DEPLOY.parent / rules_file).read_text()


def test_promtool_accepts_the_configuration(generation: Generation) -> None:
    """The configuration is valid and finds every rule file, wherever Prometheus is started."""
    done = run(generation.promtool, "check", "config", str(DEPLOY / "prometheus" / "prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr
    for path in RULE_FILES:
        assert f"Checking {path}" in done.stdout


def test_promtool_finds_no_fault_with_the_rules(generation: Generation) -> None:
    """The rules are valid, and no rule is there twice."""
    done = run(generation.promtool, "check", "rules", "--lint=all", "--lint-fatal", *map(str, RULE_FILES))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_alerts_are_those_of_the_contract() -> None:
    """Every alert of the contract is shipped, once, with its severity, and with the product that routes go by."""
    assert sorted(rule.name for rule in alerts()) == sorted(SEVERITIES)
    assert {rule.name: rule.body["labels"] for rule in alerts()} == {
        alert: {"severity": severity, "product": "digitalocean-backup"}
        # An empty label takes the name out of the alert.
        | ({"droplet_name": ""} if SUBJECT[alert] == "droplet_id" else {})
        for alert, severity in SEVERITIES.items()
    }


def test_every_alert_can_be_acted_on() -> None:
    """Every alert has a summary of one line, a description that says what to do next, and its runbook."""
    bases = set()
    for rule in alerts():
        notes = rule.body["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url"}, rule.name
        assert "\n" not in notes["summary"], rule.name
        assert "Next: " in notes["description"], rule.name
        base, _, anchor = notes["runbook_url"].partition("#")
        assert anchor == rule.name.lower()
        bases.add(base)
    assert len(bases) == 1, "one place holds all runbooks, so that one replacement moves them"


def test_every_alert_says_what_it_is_about() -> None:
    """The texts name the droplet and account, the account, or the instance that the alert is about."""
    for rule in alerts():
        subject = SUBJECT[rule.name]
        wanted = {"droplet_id", "account", "cluster"} if subject == "droplet_id" else {subject}
        assert wanted <= outermost_labels(rule.body["annotations"]["description"]), rule.name
        assert wanted <= outermost_labels(rule.body["annotations"]["summary"]), rule.name


def test_the_texts_ask_for_no_more_than_one_thing() -> None:
    """All texts of an alert hold one query at most, and none if it is about a droplet: thousands may fire at once."""
    for rule in alerts():
        assert len(list(queries(rule))) <= (SUBJECT[rule.name] != "droplet_id"), rule.name


def test_a_name_is_no_part_of_an_alert() -> None:
    """The name is only in an alert's texts, so a rename neither ends the alert nor sends a notification."""
    for rule in alerts():
        carried = labels(rule.expr, known())
        assert ("droplet_name" in carried) == (SUBJECT[rule.name] == "droplet_id"), rule.name
        assert ("{{ or $labels.droplet_name $labels.droplet_id }}" in rule.body["annotations"]["summary"]) == (
            "droplet_name" in carried
        ), rule.name


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_one_ruler_can_hold_many_clusters(rule: Rule) -> None:
    """Each rule that keeps the account, the job or the instance also keeps the cluster."""
    told_apart_by = {"account", "job", "instance"}
    for kept, named, text in grouping(promql.parse(rule.expr)):
        if kept:
            assert "cluster" in named or not named & told_apart_by, text
            assert named or not isinstance(promql.parse(text), promql.AggregateExpr), text
        else:
            assert not named & {"cluster", "account"}, text


def test_no_alert_waits_long_in_one_piece() -> None:
    """No `for` is long, as any gap resets it, and every alert outlives a gap by keep_firing_for."""
    for rule in alerts():
        assert re.fullmatch(rf"[1-{LONGEST_FOR}]m", rule.body.get("for", "1m")), rule.name
        assert re.fullmatch(r"(1[5-9]|[2-9]\d)m", rule.body["keep_firing_for"]), rule.name


def test_every_alert_is_tried_in_every_way() -> None:
    """Each alert has tests in which it fires and stays silent: alone, with two replicas, a gap and a restart."""
    for alert in SEVERITIES:
        for variant in VARIANTS:
            found = [s for s in stories() if alert in s.alerts and s.variant == variant]
            assert found, f"{alert}: no test of the variant {variant}"
            for story in found:
                check_variant(alert, story)


def check_variant(alert: str, story: Story) -> None:
    """What a variant's name promises is in its data."""
    where = f"{story.file.name}: {alert}: {story.variant}"
    subject = SUBJECT[alert]
    there = {found[subject] for found, _ in story.series() if subject in found}
    firing = {found[subject] for found in story.firing(alert)}
    assert firing & there, f"{where}: fires for none of {there}"
    assert there - firing, f"{where}: is silent for none of {there}"
    values = [given for _, given in story.series()]
    if story.variant == "two replicas":
        assert len({found["instance"] for found, _ in story.series()}) >= 2, where
    if story.variant == "ten-minute gap":
        minutes = int(story.body["interval"].removesuffix("m"))
        gaps = [max((int(n) for n in re.findall(r"_x(\d+)", given)), default=0) for given in values]
        assert all(missing * minutes >= 10 for missing in gaps), where
    if story.variant == "restart":
        restarted = [given for given in values if "stale" in given]
        assert restarted or alert in ("BackupExporterDown", "BackupExporterReplicaDown"), where
        assert subject in ("instance", "job") or len(restarted) == len(values), where


def test_what_must_not_fire_is_tried_with_all_rules() -> None:
    """The stories in which nothing may fire run against every rule file, so a new rule is included."""
    told = [story for story in stories() if story.file.name.startswith("must-not-fire")]
    for word in ("outage", "Kubernetes", "hour ago", "today", "renamed", "keeps failing"):
        assert any(word in story.body["name"] for story in told), word
    for path in TESTS.glob("must-not-fire*.yml"):
        assert "rule_files: [../rules/*.yml]" in path.read_text()


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_nothing_is_asked_that_is_not_served(rule: Rule) -> None:
    """Rules and the texts of alerts name only families, and labels of them, that the exporter serves."""
    series = known()
    carried = labels(rule.expr, series)
    for query in queries(rule):
        assert labels(query, series) is not None
    for text in rule.body.get("annotations", {}).values():
        assert outermost_labels(text) <= carried
        assert len(list(re.findall(r"query \(", text))) == len(list(re.findall(r'query \(printf "', text)))


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.name)
def test_replicas_are_reduced(rule: Rule) -> None:
    """Only rules about a single exporter distinguish two exporters of the same account."""
    about_one = {*PER_INSTANCE, "BackupExporterDown", "instance:digitalocean_backup_exporter_answers:max5m"}
    assert (TARGET & labels(rule.expr, known()) == frozenset()) == (rule.name not in about_one)


def test_no_number_is_repeated_that_a_metric_serves() -> None:
    """Intervals, limits and plans come from metrics; their values and names are in no rule."""
    for rule in rules():
        numbers = set(re.findall(r"(?<![\w.])\d+(?![\w.])", rule.expr))
        assert not numbers & {"300", "5000", "250", "604800", "4"}, rule.name
        assert "plan=" not in rule.expr


def test_the_stated_alert_files_are_one_to_one_with_their_tests() -> None:
    """Every rule file has a test file of its name."""
    assert {path.name for path in RULES.glob("*.yml")} <= {path.name for path in TESTS.glob("*.yml")}
