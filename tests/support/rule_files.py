"""The shipped rules and their promtool tests, as values: what the tests of rules, runbooks and Alertmanager read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
TESTS = DEPLOY / "prometheus" / "tests"
RULE_FILES = sorted(RULES.glob("*.yml"))
TEST_FILES = sorted(TESTS.glob("*.yml"))

SEVERITIES = {
    "DropletBackupOverdue": "warning",
    "DropletBackupMissing": "critical",
    "DropletBackupStale": "warning",
    "DropletBackupNeverTaken": "warning",
    "DropletBackupsLost": "warning",
    "DropletBackupsDisabled": "warning",
    "DropletBackupShrunk": "warning",
    "DropletBackupsUnjudged": "warning",
    "BackupExporterDown": "critical",
    "BackupExporterReplicaDown": "warning",
    "BackupExporterListingFailing": "warning",
    "BackupExporterDataStale": "critical",
    "BackupExporterUnauthorized": "critical",
    "BackupExporterFleetShrank": "warning",
    "BackupExporterAccountClash": "warning",
    "BackupExporterClockSkew": "warning",
    "BackupExporterRateLimitLow": "warning",
    "BackupExporterRecordsRejected": "warning",
    "BackupExporterReloadFailed": "warning",
}
"""The alerts of the interface contract."""


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule: `name` is the alert's or the recorded series', `body` the rest as the file has it."""

    file: Path
    name: str
    body: dict[str, Any]

    @property
    def expr(self) -> str:
        return str(self.body["expr"])

    @property
    def is_alert(self) -> bool:
        return "alert" in self.body


@dataclass(frozen=True, slots=True)
class Story:
    """One promtool test: its name, the alerts that it names before the colon, and the variant after it."""

    file: Path
    alerts: tuple[str, ...]
    variant: str
    body: dict[str, Any]

    def series(self) -> Iterator[tuple[dict[str, str], str]]:
        """The labels and the values of every input series."""
        for entry in self.body["input_series"]:
            yield dict(re.findall(r'(\w+)="([^"]*)"', entry["series"])), entry["values"]

    def firing(self, alert: str) -> list[dict[str, str]]:
        """The labels of the alerts that a test expects to fire."""
        found = [
            {label: str(value) for label, value in expected["exp_labels"].items()}
            for case in self.body.get("alert_rule_test", ())
            if case["alertname"] == alert
            for expected in case["exp_alerts"]
        ]
        for case in self.body.get("promql_expr_test", ()):
            for sample in case["exp_samples"]:
                labels = dict(re.findall(r'(\w+)="([^"]*)"', sample["labels"]))
                if labels.get("alertname") == alert and sample["value"] != 0:
                    found.append(labels)
        return found


def rules() -> list[Rule]:
    return [
        Rule(path, rule.get("alert") or rule["record"], rule)
        for path in RULE_FILES
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    ]


def alerts() -> list[Rule]:
    return [rule for rule in rules() if rule.is_alert]


@cache
def stories() -> list[Story]:
    found = []
    for path in TEST_FILES:
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            named, _, variant = test["name"].rpartition(": ")
            found.append(Story(path, tuple(re.findall(r"[A-Z]\w+", named)), variant, test))
    return found
