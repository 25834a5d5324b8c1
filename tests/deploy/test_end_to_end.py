"""What `deploy/` ships, running: a Droplet of the demo misses its window, and the notice of it reaches a webhook.

The exporter, Prometheus and Alertmanager are the real ones; their configuration and rules are the shipped ones, with
other addresses and with intervals sixty times shorter (tests/deploy/quickened.py).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from exporter.demo.fleet import demo_fleet
from tests.deploy.quickened import FACTOR, quickened, seconds
from tests.deploy.stack import PATIENCE, Notice, Stack, running
from tests.support.generations import Generation
from tests.support.processes import until
from tests.support.rule_files import DEPLOY, RULE_FILES, alerts

SPEED = 4000
"""Of the demo whose Droplet recovers: the 56 hours that it takes at most pass in 51 seconds, and the 24 hours in which
one window is missed and not yet the second in 22, so that a busy machine has time to tell of the first."""
EVIDENCE = ("DropletBackupOverdue", "DropletBackupMissing")
STANDS = "30m"
"""How long the last value stands for these two when there is no scrape, as the comment in their file says."""
STEP = 0.25


@dataclass(frozen=True, slots=True)
class Stacks:
    """Two of them at the same time, because they mostly wait."""

    lively: Stack
    """Its demo runs at SPEED."""
    orphaned: Stack
    """Its demo ran at life's pace, until it was killed."""
    scraped_at: float
    """When that one was last scraped, as far as Prometheus could tell just before."""
    missing: Notice
    overdue: Notice
    """What had been told by then."""


@pytest.fixture(scope="module")
def stacks(generation: Generation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stacks]:
    """Both, of one generation of Prometheus and Alertmanager."""
    directory = tmp_path_factory.mktemp("stacks")
    with ExitStack() as stack:
        lively = stack.enter_context(running(generation, directory / "lively", f"--demo.speed={SPEED}"))
        orphaned = stack.enter_context(running(generation, directory / "orphaned"))
        ids = {name: str(demo_fleet(0).id_of(name)) for name in ("db-analytics", "db-replica")}
        missing = orphaned.webhook.first("DropletBackupMissing", "firing", droplet_id=ids["db-analytics"])
        overdue = orphaned.webhook.first("DropletBackupOverdue", "firing", droplet_id=ids["db-replica"])
        last_scrape = "max(timestamp(digitalocean_backup_missed_windows))"
        scraped_at = until(lambda: orphaned.value(last_scrape) or 0.0, "a scrape", PATIENCE)
        orphaned.exporter.process.kill()
        yield Stacks(lively, orphaned, scraped_at, missing, overdue)


def test_a_missed_window_a_second_one_and_the_recovery_send_notices(stacks: Stacks) -> None:
    """The first miss is a warning, the second critical, and both are resolved once a backup is there, no sooner."""
    stack, name = stacks.lively, "shop-checkout"
    droplet = str(demo_fleet(0).id_of(name))
    labels = {"account": "demo", "droplet_id": droplet, "product": "digitalocean-backup"}

    overdue = stack.webhook.first("DropletBackupOverdue", "firing", droplet_id=droplet)
    assert (overdue.path, overdue.receiver) == ("/warning", "office-hours")
    assert overdue.labels == {"alertname": "DropletBackupOverdue", "severity": "warning", **labels}
    assert overdue.annotations["summary"] == f"Droplet {name} in account demo missed its backup window"
    assert_acted_on(overdue, next_step="doctl compute droplet-action snapshot")

    missing = stack.webhook.first("DropletBackupMissing", "firing", droplet_id=droplet)
    assert (missing.path, missing.receiver) == ("/critical", "on-call")
    assert missing.labels == {"alertname": "DropletBackupMissing", "severity": "critical", **labels}
    assert missing.annotations["summary"] == f"Droplet {name} in account demo missed 2 backup windows in a row"
    assert_acted_on(missing, next_step="open a ticket with DigitalOcean")
    assert overdue.at < missing.at

    resolved = [stack.webhook.first(alert, "resolved", droplet_id=droplet) for alert in EVIDENCE]
    assert [notice.path for notice in resolved] == ["/warning", "/critical"]
    # None came at the step to critical, or anywhere before the new backup was seen.
    well_at = seen_well(stack, name, missing.at, resolved[0].at)
    for notice in resolved:
        assert notice.at >= well_at + keep_firing_for(notice.alert) - STEP
    # While the graver alert stands, the milder is silent.
    told = stack.webhook.having("DropletBackupOverdue", "firing", droplet_id=droplet)
    assert not [notice for notice in told if missing.at < notice.at < resolved[0].at]


def test_a_killed_exporter_sends_a_notice_and_resolves_nothing(stacks: Stacks) -> None:
    """After the exporter is killed, BackupExporterDown fires, and overdue Droplets do not resolve too early."""
    stack = stacks.orphaned
    for notice, text in (
        (stacks.missing, "missed 4 backup windows in a row"),
        (stacks.overdue, "missed its backup window"),
    ):
        assert notice.annotations["summary"] == f"Droplet {notice.droplet} in account demo {text}"

    # Prometheus waits five seconds before its first scrape: by the quickened rules that is five minutes without a
    # target, of which it tells, too, but of no instance.
    down = stack.webhook.first("BackupExporterDown", "firing", job="digitalocean-backups")
    assert (down.path, down.receiver) == ("/critical", "on-call")
    assert down.labels == {
        "alertname": "BackupExporterDown",
        "severity": "critical",
        "job": "digitalocean-backups",
        "product": "digitalocean-backup",
    }
    assert down.annotations["summary"] == "No backup exporter of job digitalocean-backups answers"
    assert "no missed backup will be noticed" in down.annotations["description"]
    assert down.annotations["runbook_url"].endswith("#backupexporterdown")
    assert down.at > stacks.scraped_at

    # That they are resolved in the end shows that the notice of it would have come.
    for told in (stacks.missing, stacks.overdue):
        resolved = stack.webhook.first(
            told.alert, "resolved", timeout=seconds(STANDS) + PATIENCE, droplet_id=told.labels["droplet_id"]
        )
        assert resolved.at >= stacks.scraped_at + seconds(STANDS) + keep_firing_for(told.alert)


def test_only_addresses_and_intervals_are_changed() -> None:
    """What runs here differs from what is shipped only by its durations, all of them by the same factor."""
    duration = re.compile(r"\b(?:\d+(?:ms|[smhdw]))+\b")
    count = 0
    for path in (*RULE_FILES, DEPLOY / "prometheus" / "prometheus.yml", DEPLOY / "alertmanager" / "alertmanager.yml"):
        shipped = path.read_text(encoding="utf-8")
        for before, after in zip(shipped.splitlines(), quickened(shipped, {}).splitlines(), strict=True):
            assert duration.sub("", before) == duration.sub("", after)
            settings = [re.sub(r"(^|\s)#.*", "", line) for line in (before, after)]
            lengths = [[seconds(one) for one in duration.findall(line)] for line in settings]
            assert [length / FACTOR for length in lengths[0]] == pytest.approx(lengths[1]), after
            count += len(lengths[0])
    assert count > 80


def assert_acted_on(notice: Notice, next_step: str) -> None:
    """The text names the Droplet and the next step, and links to the alert's runbook."""
    text = notice.annotations["description"]
    assert f"droplet {notice.labels['droplet_id']} in account demo" in text
    assert f"digitalocean-backup-exporter show {notice.labels['droplet_id']}" in text
    assert next_step in text
    assert notice.annotations["runbook_url"].endswith(f"runbooks.md#{notice.alert.lower()}")


def seen_well(stack: Stack, name: str, start: float, end: float) -> float:
    """When Prometheus first saw no missed window of this Droplet, to a quarter of a second."""
    expr = f'digitalocean_backup_missed_windows{{droplet_name="{name}"}} == 0'
    found = stack.prometheus.over_time(expr, start, end, STEP)
    assert found, "resolved, and windows are missed"
    return float(found[0]["values"][0][0])


def keep_firing_for(alert: str) -> float:
    (rule,) = [rule for rule in alerts() if rule.name == alert]
    return seconds(rule.body["keep_firing_for"])
