"""The runbooks: a section for every alert, and nothing in them that cannot be asked."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from exporter.cli import arguments
from tests.deploy.promql_labels import labels
from tests.deploy.test_rules import known
from tests.support.rule_files import DEPLOY, SEVERITIES, alerts

RUNBOOKS = DEPLOY / "runbooks.md"
AVAILABILITY = DEPLOY / "high-availability.md"
REFERENCE = DEPLOY.parent / "exporter" / "metrics" / "README.md"
COLUMNS = {
    "backups": {"ID", "Name", "Type", "Distribution", "Slug", "Public", "MinDisk", "Created"},
    "get": {"ID", "Name", "PublicIPv4", "PrivateIPv4", "PublicIPv6", "Memory", "VCPUs", "Disk", "Region", "Image"}
    | {"VPCUUID", "Status", "Tags", "Features", "Volumes", "SizeSlug"},
}
COLUMNS["list"] = COLUMNS["get"]
"""What the reference of `doctl compute droplet` lists for --format: it ends with an error at any other."""


def sections() -> dict[str, str]:
    """The text under each heading of the second level."""
    _, *parts = re.split(r"(?m)^## ", RUNBOOKS.read_text(encoding="utf-8"))
    return {part.partition("\n")[0]: part.partition("\n")[2] for part in parts}


def anchor(heading: str) -> str:
    """The anchor that GitHub, GitLab and most renderers make of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_every_runbook_url_ends_in_a_section() -> None:
    """The anchor of every alert is the anchor of a heading in the runbooks, and of one only."""
    anchors = [anchor(heading) for heading in sections()]
    assert len(anchors) == len(set(anchors))
    for rule in alerts():
        assert urlsplit(rule.body["annotations"]["runbook_url"]).fragment in anchors, rule.name


def test_every_alert_has_a_section_of_the_three_parts() -> None:
    """Each alert has a section that says what it means, how to check and how to fix it; no section is left over."""
    found = sections()
    assert list(found) == list(SEVERITIES)
    for alert, text in found.items():
        assert [f"**{part}.**" in text for part in ("Meaning", "Check", "Mend")] == [True] * 3, alert
        assert re.search(r"`[^`]+`|```", text.partition("**Check.**")[2]), f"{alert}: nothing to type"


def test_the_table_names_every_alert_with_its_severity() -> None:
    """The table at the top is the list of alerts."""
    rows = re.findall(r"(?m)^\| \[(\w+)\]\(#(\w+)\) \| (\w+) \|", RUNBOOKS.read_text(encoding="utf-8"))
    assert rows == [(alert, alert.lower(), severity) for alert, severity in SEVERITIES.items()]


@pytest.mark.parametrize("page", [RUNBOOKS, AVAILABILITY, REFERENCE], ids=lambda page: page.stem)
def test_what_the_pages_ask_is_served(page: Path) -> None:
    """Every PromQL expression of the pages names only families and labels that are served, or that the rules record."""
    text = page.read_text(encoding="utf-8")
    series = known()
    series["digitalocean_backup_droplet_info"] |= {"region"}
    asked = 0
    for block in re.findall(r"(?ms)^ *```promql\n(.*?)```", text):
        for expression in re.split(r"\n\s*\n", block.strip()):
            labels(expression, series)
            asked += 1
    assert asked >= 2


@pytest.mark.parametrize("page", [RUNBOOKS, AVAILABILITY], ids=lambda page: page.stem)
def test_what_the_pages_name_is_served(page: Path) -> None:
    """Every family and every recorded series that is named is there."""
    series = known()
    for name in set(re.findall(r"\b(digitalocean_backup_\w+|account:\w+(?::\w+)*)", page.read_text(encoding="utf-8"))):
        assert name in series, name


def test_the_exporters_commands_are_what_it_takes() -> None:
    """Each command of the runbooks is valid, and names the configuration where there is one."""
    text = RUNBOOKS.read_text(encoding="utf-8")
    called = re.findall(r"(?m)(.*)digitalocean-backup-exporter ((?:show|check|check-config)\b[^`\n]*)", text)
    assert {words.split()[0] for _, words in called} == {"show", "check", "check-config"}
    for before, words in called:
        options = arguments.parse(shlex.split(words.replace("$ID", "386734086").replace("$CONFIG", "config.yaml")))
        without = "docker compose" in before or "for one account" in before
        assert (options.source.config_file is None) == without, words
    (config,) = re.findall(r"(?m)^CONFIG=(\S+)", text)
    assert config in (DEPLOY / "systemd" / "config.yaml").read_text().splitlines()[0]


def test_the_runbook_says_where_a_new_token_needs_a_restart() -> None:
    """The unit hands over a copy of the token that systemd made at the start: the runbook names file and command."""
    unit = (DEPLOY / "systemd" / "digitalocean-backup-exporter.service").read_text(encoding="utf-8")
    credential = re.search(r"(?m)^LoadCredential=token:(\S+)$", unit)
    assert credential is not None
    mend = sections()["BackupExporterUnauthorized"].partition("**Mend.**")[2]
    assert f"`{credential[1]}`" in mend
    assert "systemctl restart digitalocean-backup-exporter" in mend


def test_doctl_is_asked_for_columns_that_it_has() -> None:
    """What is typed at night ends in no "unknown column"."""
    asked = re.findall(r"doctl compute droplet (\w+)[^\n]* --format (\S+)", RUNBOOKS.read_text(encoding="utf-8"))
    assert asked
    for command, columns in asked:
        assert set(columns.split(",")) <= COLUMNS[command], f"droplet {command}: {columns}"
