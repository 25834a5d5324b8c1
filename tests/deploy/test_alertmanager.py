"""The shipped Alertmanager configuration: who hears of what, as amtool and the real Alertmanager tell it."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.prometheus_server import free_port
from tests.support.rule_files import DEPLOY, SEVERITIES

CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
RECEIVERS = {"critical": "on-call", "warning": "office-hours"}
EVIDENCE = ("DropletBackupMissing", "DropletBackupOverdue")
"""The alerts that nothing may silence, but for Overdue the same droplet's Missing."""


def labels_of(alert: str, droplet: str = "1", account: str = "production") -> dict[str, str]:
    """The labels with which the rules send an alert."""
    found = {"alertname": alert, "severity": SEVERITIES[alert]}
    if alert in ("BackupExporterDown", "BackupExporterReloadFailed"):
        return found | {"job": "digitalocean-backups", "instance": "localhost:9819"}
    if alert.startswith("Droplet") and alert != "DropletBackupsUnjudged":
        found |= {"droplet_id": droplet, "droplet_name": f"web-{droplet}"}
    return found | {"account": account}


def amtool(tool: Callable[[str], str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([tool("amtool"), *arguments], capture_output=True, text=True, check=False)


def test_amtool_accepts_the_configuration(tool: Callable[[str], str]) -> None:
    """The configuration is valid."""
    done = amtool(tool, "check-config", str(CONFIG))
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_examples_in_its_comments_work(tool: Callable[[str], str], tmp_path: Path) -> None:
    """The receivers that stand in comments are valid once the comment signs are taken away."""
    text, count = re.subn(
        r"(?m)^    # (pagerduty_configs|slack_configs|email_configs|  )", r"    \1", CONFIG.read_text()
    )
    assert count > 15
    path = tmp_path / "alertmanager.yml"
    path.write_text(text)
    done = amtool(tool, "check-config", str(path))
    assert done.returncode == 0, done.stdout + done.stderr
    kinds = {kind for receiver in yaml.safe_load(text)["receivers"] for kind in receiver} - {"name"}
    assert kinds == {"webhook_configs", "pagerduty_configs", "slack_configs", "email_configs"}


@pytest.mark.parametrize("alert", SEVERITIES)
def test_every_alert_goes_to_the_receiver_of_its_severity(alert: str, tool: Callable[[str], str]) -> None:
    """Critical alerts wake someone, warnings wait for the morning."""
    labels = [f"{name}={value}" for name, value in labels_of(alert).items()]
    wanted = RECEIVERS[SEVERITIES[alert]]
    done = amtool(tool, "config", "routes", "test", f"--config.file={CONFIG}", f"--verify.receivers={wanted}", *labels)
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_alert_of_another_severity_is_not_lost(tool: Callable[[str], str]) -> None:
    """What someone adds with a severity of their own, or none, is told all the same."""
    done = amtool(
        tool, "config", "routes", "test", f"--config.file={CONFIG}", "--verify.receivers=office-hours", "severity=page"
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_notices_are_grouped_by_account() -> None:
    """All routes group by the account, and by nothing that would split one event into many notices."""
    config = yaml.safe_load(CONFIG.read_text())
    assert config["route"]["group_by"] == ["account"]
    assert not any("group_by" in route for route in config["route"]["routes"])


def test_placeholders_reach_nobody() -> None:
    """Until they are replaced, receivers call loopback only."""
    config = yaml.safe_load(CONFIG.read_text())
    assert {r["name"] for r in config["receivers"]} == set(RECEIVERS.values())
    for receiver in config["receivers"]:
        assert receiver.keys() == {"name", "webhook_configs"}
        for webhook in receiver["webhook_configs"]:
            assert webhook["url"].startswith("http://127.0.0.1:")


class Alertmanager:
    """The real one, with the shipped configuration on a free port of loopback."""

    def __init__(self, program: str, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "alertmanager.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={CONFIG}",
                    f"--storage.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--cluster.listen-address=",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait(lambda: self._open("/-/ready") is not None)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 30
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                if done():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def _open(self, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=10) as answer:
            return bytes(answer.read())

    def fire(self, *alerts: Mapping[str, str]) -> None:
        self._open("/api/v2/alerts", [{"labels": dict(labels)} for labels in alerts])

    def silenced(self, *, told: int) -> dict[tuple[str, str, str], set[str]]:
        """What is silenced, as account, droplet and alert, each with the alerts that silence it."""
        found: list[dict[str, Any]] = []

        def judged() -> bool:
            nonlocal found
            found = json.loads(self._open("/api/v2/alerts"))
            return len(found) == told and all(a["status"]["state"] != "unprocessed" for a in found)

        self._wait(judged)
        name = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in found}
        return {
            (
                alert["labels"].get("account", ""),
                alert["labels"].get("droplet_id", ""),
                alert["labels"]["alertname"],
            ): {name[by] for by in alert["status"]["inhibitedBy"]}
            for alert in found
            if alert["status"]["inhibitedBy"]
        }


@pytest.fixture
def alertmanager(tool: Callable[[str], str], tmp_path: Path) -> Iterator[Alertmanager]:
    """The project's own archive calls it alertmanager, Debian prometheus-alertmanager."""
    program = shutil.which("alertmanager") or tool("prometheus-alertmanager")
    with closing(Alertmanager(program, tmp_path)) as running:
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
    # While it silences, the droplet is renamed: the alerts still belong together.
    renamed = labels_of("DropletBackupOverdue", droplet="3") | {"droplet_name": "old"}
    renamed_missing = labels_of("DropletBackupMissing", droplet="3") | {"droplet_name": "new"}
    alertmanager.fire(*every, *others, renamed, renamed_missing)
    silenced = alertmanager.silenced(told=len(every) + len(others) + 2)
    by_droplet = {key[2] for key in silenced if key[:2] == ("production", "1")}
    assert by_droplet == {
        "DropletBackupOverdue",
        "DropletBackupNeverTaken",
        "DropletBackupsDisabled",
        "DropletBackupShrunk",
    }
    assert all(silenced["production", "1", alert] == {"DropletBackupMissing"} for alert in by_droplet)
    assert ("production", "3", "DropletBackupOverdue") in silenced
    assert {key for key in silenced if key[1] == ""} == {
        ("production", "", "BackupExporterListingFailing"),
        ("production", "", "DropletBackupsUnjudged"),
    }
    assert not any(key[0] == "staging" or key[1] == "2" for key in silenced)


def test_nothing_else_silences_what_rests_on_evidence(alertmanager: Alertmanager) -> None:
    """However many other alerts fire, Overdue is told without Missing, and Missing always."""
    others = [labels_of(alert) for alert in SEVERITIES if alert not in EVIDENCE]
    foreign = [
        {"alertname": "TargetDown", "severity": "critical"},
        {"alertname": "Custom", "severity": "critical", "account": "production", "droplet_id": "1"},
        {"alertname": "InfoInhibitor", "severity": "none", "account": "production"},
    ]
    overdue = labels_of("DropletBackupOverdue")
    missing = labels_of("DropletBackupMissing", droplet="2")
    alertmanager.fire(*others, *foreign, overdue, missing)
    silenced = alertmanager.silenced(told=len(others) + len(foreign) + 2)
    assert silenced, "some alert is silenced, or this test would see nothing"
    assert not any(key[2] in EVIDENCE for key in silenced)
