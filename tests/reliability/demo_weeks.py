"""The demo at speed, watched from outside for days of its time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from prometheus_client.parser import text_string_to_metric_families

from exporter.demo.fleet import DROPLETS, MOVED_AFTER
from tests.reliability.section import Section, Told, row, table
from tests.support.processes import Exporter, exporter
from tests.support.world import DAY, HOUR

MISSES = frozenset(row.name for row in DROPLETS if "x" in row.past + row.future and row.record != "disabled")
"""The Droplets whose story tells of a window without a backup."""
MOVED = frozenset(row.name for row in DROPLETS if "m" in row.future)
"""Those whose backups become snapshots now and then: one that came and went between two polls was never seen."""
SWITCHED_ON = frozenset(row.name for row in DROPLETS if row.switched_on > 0)
"""Those whose backups are switched on after the start: at speed, the first poll may see them on without a backup."""
IN_A_WEEK = frozenset(("shop-checkout", "shop-search", "db-replica", "db-analytics", "warehouse", "vpn-gateway"))
"""Those that go overdue, or are, within a week of the start, whatever its hour."""


@dataclass(slots=True)
class Watched:
    """What was seen."""

    days: float = 0.0
    polls: int = 0
    polled_at: float | None = None
    gap: float = 0.0
    """The longest time from poll to poll, by the demo's clock."""
    overdue: set[str] = field(default_factory=set)
    """The Droplets that ever were."""
    wrong: list[str] = field(default_factory=list)


def watch_the_demo(*, speed: int, days: float) -> Watched:
    watched = Watched()
    with exporter("--demo", f"--demo.speed={speed}") as running:
        running.line('event="poll finished"')
        begun = time.monotonic()
        while (lived := (time.monotonic() - begun) * speed) < days * DAY:
            _look(running, watched)
            time.sleep(0.2)
        watched.days = lived / DAY
        watched.wrong += [line for line in running.log if "level=info" not in line]
        assert running.stop() == 0
    return watched


def _look(running: Exporter, watched: Watched) -> None:
    samples = {
        (sample.name.removeprefix("digitalocean_backup_"), sample.labels.get("droplet_name", "")): sample
        for family in text_string_to_metric_families(running.get("/metrics"))
        for sample in family.samples
    }
    polled_at = samples["exporter_last_poll_timestamp_seconds", ""].value
    watched.gap = max(watched.gap, polled_at - (watched.polled_at or polled_at))
    watched.polled_at = polled_at
    may_miss = MISSES | SWITCHED_ON
    if watched.gap > MOVED_AFTER - HOUR:
        may_miss |= MOVED
    overdue = {name for (family, name), sample in samples.items() if family == "overdue" and sample.value}
    if not overdue <= may_miss:
        watched.wrong.append(f"overdue without a reason: {sorted(overdue - may_miss)}")
    if samples["exporter_up", ""].value != 1:
        watched.wrong.append("not up")
    for (family, name), sample in samples.items():
        if family.endswith(("age_seconds", "_missed_windows", "_hours_until_next_window")) and sample.value < 0:
            watched.wrong.append(f"{family} of {name} is {sample.value}")
    watched.overdue |= overdue
    watched.polls = int(samples["exporter_poll_duration_seconds_count", ""].value)


DAYS, SPEED = 7, 8_000
"""A minute and a quarter."""


def _told(found: Sequence[Watched]) -> Told:
    (demo,) = found
    rows = [("days watched", f"{demo.days:.0f}"), ("polls", f"{demo.polls}"), ("warnings", f"{len(demo.wrong)}")]
    return Told(table(("what", "measured"), rows), demo.wrong)


SECTION = Section(
    "The demo at speed",
    planned=(row("days watched", f"{DAYS}"),),
    jobs=(partial(watch_the_demo, speed=SPEED, days=DAYS),),
    tell=_told,
    alone=True,
)
