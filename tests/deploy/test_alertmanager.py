"""The routes of the shipped Alertmanager configuration, tried by amtool and the real Alertmanager."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.alertmanager import Alertmanager, with_examples
from tests.support.generations import Generation
from tests.support.rule_files import DEPLOY, SEVERITIES

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"critical": "on-call", "warning": "office-hours"}
EVIDENCE = ("DropletBackupMissing", "DropletBackupOverdue")
"""The alerts that nothing may silence, but for Overdue the same droplet's Missing."""


def labels_of(alert: str, droplet: str = "1", account: str = "production") -> dict[str, str]:
    """The labels with which the rules send an alert."""
    found = {"alertname": alert, "severity": SEVERITIES[alert], "product": "digitalocean-backup"}
    if alert in ("BackupExporterDown", "BackupExporterReplicaDown", "BackupExporterReloadFailed"):
        return found | {"job": "digitalocean-backups", "instance": "localhost:9819"}
    if alert.startswith("Droplet") and alert != "DropletBackupsUnjudged":
        found |= {"droplet_id": droplet}
    return found | {"account": account}


def amtool(generation: Generation, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([generation.amtool, *arguments], capture_output=True, text=True, check=False)


def test_amtool_accepts_the_configuration(generation: Generation) -> None:
    """The configuration is valid."""
    done = amtool(generation, "check-config", str(CONFIG))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_in_its_comments_work(generation: Generation, tmp_path: Path) -> None:
    """The receivers that stand in comments are valid once the comment signs are taken away."""
    text = with_examples(CONFIG.read_text())
    path = tmp_path / "alertmanager.yml"
    path.write_text(text)
    shutil.copy(CONFIG.with_name("digitalocean-backup.tmpl"), tmp_path)
    done = amtool(generation, "check-config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = {kind for receiver in yaml.safe_load(text)["receivers"] for kind in receiver} - {"name"}
    assert kinds == {"webhook_configs", "pagerduty_configs", "slack_configs", "email_configs"}


def test_it_can_be_merged_into_a_file_that_routes_other_things(generation: Generation, tmp_path: Path) -> None:
    """Merged into another configuration, its alerts and the others still go to their own receivers."""
    ours = yaml.safe_load(CONFIG.read_text())
    theirs: dict[str, Any] = {
        "route": {"receiver": "theirs", "group_by": ["team"], "routes": [*ours["route"]["routes"]]},
        "receivers": [{"name": "theirs"}, *ours["receivers"]],
        "inhibit_rules": ours["inhibit_rules"],
        "templates": ours["templates"],
    }
    path = tmp_path / "alertmanager.yml"
    path.write_text(yaml.safe_dump(theirs))
    shutil.copy(CONFIG.with_name("digitalocean-backup.tmpl"), tmp_path)
    for labels, receiver in (
        (labels_of("DropletBackupMissing"), "on-call"),
        (labels_of("DropletBackupOverdue"), "office-hours"),
        ({"alertname": "TargetDown", "severity": "critical"}, "theirs"),
    ):
        told = [f"{name}={value}" for name, value in labels.items()]
        arguments = ("config", "routes", "test", f"--config.file={path}", f"--verify.receivers={receiver}", *told)
        done = amtool(generation, *arguments)
        assert done.returncode == 0, done.stdout + done.stderr
    for rule in ours["inhibit_rules"]:
        assert all('product="digitalocean-backup"' in rule[f"{side}_matchers"] for side in ("source", "target"))
        assert "cluster" in rule["equal"]


@pytest.mark.parametrize("alert", SEVERITIES)
def test_every_alert_goes_to_the_receiver_of_its_severity(alert: str, generation: Generation) -> None:
    """Critical alerts wake someone, warnings wait for the morning."""
    labels = [f"{name}={value}" for name, value in labels_of(alert).items()]
    wanted = RECEIVERS[SEVERITIES[alert]]
    done = amtool(
        generation, "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={wanted}", *labels
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_of_another_severity_is_not_lost(generation: Generation) -> None:
    """An alert with another severity, or none, still reaches a receiver."""
    done = amtool(
        generation,
        "config",
        "routes",
        "test",
        f"--config.file={CONFIG}",
        "--verify.receivers=office-hours",
        "product=digitalocean-backup",
        "severity=page",
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_notices_are_grouped_by_account_and_kind() -> None:
    """Each kind of alert of an account is one notification; a later alert of another kind is a separate one."""
    (route,) = yaml.safe_load(CONFIG.read_text())["route"]["routes"]
    assert route["matchers"] == ['product="digitalocean-backup"']
    assert route["group_by"] == ["cluster", "account", "alertname"]
    assert not any("group_by" in inner for inner in route["routes"])


def test_placeholders_are_no_receivers() -> None:
    """Until they are replaced, receivers call loopback only."""
    config = yaml.safe_load(CONFIG.read_text())
    assert {r["name"] for r in config["receivers"]} == set(RECEIVERS.values())
    for receiver in config["receivers"]:
        assert receiver.keys() == {"name", "webhook_configs"}
        for webhook in receiver["webhook_configs"]:
            assert webhook["url"].startswith("http://127.0.0.1:")


@pytest.fixture
def alertmanager(generation: Generation, tmp_path: Path) -> Iterator[Alertmanager]:
    with closing(Alertmanager(generation.alertmanager, CONFIG, tmp_path)) as running:
        yield running


def test_the_graver_alert_silences_the_milder_within_a_droplet(alertmanager: Alertmanager) -> None:
    """With every alert firing at once for droplet 1, its Missing silences its warnings, and no other droplet's."""
    every = [labels_of(alert) for alert in SEVERITIES]
    others = [
        labels_of("DropletBackupOverdue", droplet="2"),
        labels_of("DropletBackupOverdue", droplet="1", account="staging"),
        labels_of("DropletBackupsDisabled", droplet="2"),
        labels_of("BackupExporterListingFailing", account="staging"),
        labels_of("DropletBackupsUnjudged", account="staging"),
    ]
    # The same droplet of another cluster, and one that is overdue and stale.
    others.append(labels_of("DropletBackupOverdue") | {"cluster": "eu"})
    overdue, stale = labels_of("DropletBackupOverdue", droplet="4"), labels_of("DropletBackupStale", droplet="4")
    silenced = alertmanager.silenced(*every, *others, overdue, stale)
    assert silenced.pop(("production", "4", "DropletBackupStale")) == {"DropletBackupOverdue"}
    by_droplet = {key[2] for key in silenced if key[:2] == ("production", "1")}
    assert by_droplet == {
        "DropletBackupOverdue",
        "DropletBackupStale",
        "DropletBackupNeverTaken",
        "DropletBackupsDisabled",
        "DropletBackupShrunk",
    }
    assert all("DropletBackupMissing" in silenced["production", "1", alert] for alert in by_droplet)
    assert {key for key in silenced if key[1] == ""} == {
        ("production", "", "BackupExporterListingFailing"),
        ("production", "", "DropletBackupsUnjudged"),
    }
    assert not any(key[0] == "staging" or key[1] == "2" for key in silenced)


def test_nothing_else_silences_what_rests_on_evidence(alertmanager: Alertmanager) -> None:
    """Only Missing inhibits Overdue, and nothing inhibits Missing."""
    others = [labels_of(alert) for alert in SEVERITIES if alert not in EVIDENCE]
    foreign = [
        {"alertname": "TargetDown", "severity": "critical"},
        {"alertname": "Custom", "severity": "critical", "account": "production", "droplet_id": "1"},
        {"alertname": "InfoInhibitor", "severity": "none", "account": "production"},
    ]
    overdue = labels_of("DropletBackupOverdue")
    missing = labels_of("DropletBackupMissing", droplet="2")
    silenced = alertmanager.silenced(*others, *foreign, overdue, missing)
    assert silenced, "some alert is silenced, or this test would see nothing"
    assert not any(key[2] in EVIDENCE for key in silenced)
