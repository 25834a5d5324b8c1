"""The line through the retention period: what is on it, and where."""

from __future__ import annotations

from exporter.fleet.model import Backup, Droplet, Policy, Verdict
from exporter.fleet.schedule import DAY, HOUR, WEEK
from exporter.fleet.state import State
from exporter.reports.timeline import Timeline, timeline
from tests.support.world import MONDAY

AT = MONDAY + 12 * HOUR


def droplet(*ages: float, missed: tuple[float, ...] | None = (), plan: str = "daily") -> Droplet:
    """Windows at midnight; backups three hours after the windows of so many days ago."""
    made = sorted(MONDAY - age * DAY + 3 * HOUR for age in ages)
    state = State.MISSING if missed else State.PROTECTED
    return Droplet(
        1,
        policy=Policy(enabled=True, plan=plan, hour=0),
        backups=tuple(Backup(number, instant) for number, instant in enumerate(made)),
        retention_days=7,
        verdict=Verdict(state, missed=missed),
    )


def test_missed_windows() -> None:
    """The marks are the very windows that the verdict says were missed, and no other gap between backups."""
    missed = (MONDAY - 2 * DAY, MONDAY + 5 * HOUR)
    drawn = timeline(droplet(3, 4, 6, missed=missed), AT)
    assert drawn is not None
    assert drawn.missed == missed
    for none in ((), None):
        drawn = timeline(droplet(3, 4, 6, missed=none), AT)
        assert drawn is not None
        assert drawn.missed == ()


def test_missed_windows_beyond_the_retention() -> None:
    """The line reaches back to the first of the missed windows that it marks."""
    drawn = timeline(droplet(missed=(MONDAY - 20 * DAY, MONDAY)), AT)
    assert drawn is not None
    assert drawn.start == MONDAY - 20 * DAY
    assert drawn.lines(40)[1].startswith("|x")


def test_nothing_to_draw() -> None:
    """There is no line without known backups, or with neither backups nor a retention."""
    known = droplet(1)
    unknown = Droplet(1, policy=known.policy, retention_days=7)
    assert timeline(unknown, AT) is None
    assert timeline(Droplet(1, backups=()), AT) is None
    assert timeline(Droplet(1, backups=(), retention_days=7), AT) is not None


def test_beyond_the_retention() -> None:
    """A backup kept longer than the policy says, as a snapshot may be, is on the line, which reaches back to it."""
    drawn = timeline(droplet(0, 20), AT)
    assert drawn is not None
    assert drawn.start == MONDAY - 20 * DAY + 3 * HOUR
    assert drawn.lines(40)[1].startswith("|o")


def test_every_plan_fits() -> None:
    """A plan with far more backups than columns fills the columns."""
    one = Droplet(1, backups=(Backup(1, 0.0),), retention_days=28, policy=droplet(plan="intra_daily_1h").policy)
    drawn = timeline(one, AT)
    assert drawn is not None
    head, line = drawn.lines(30)
    assert len(head) == len(line) == 32


def test_places() -> None:
    """The line's ends are its start and now; what is to come, by a clock that is wrong, is at its end."""
    drawn = Timeline(0.0, WEEK, backups=(0.0, WEEK / 2, WEEK + 1), missed=(WEEK / 2,))
    assert drawn.lines(21) == ["7 days ago" + " " * 10 + "now", "|o---------o---------o|"]
