"""The line through the retention period: what is on it, and where."""

from __future__ import annotations

from exporter.fleet.model import GIB, Backup, Description, Droplet, Policy, Window
from exporter.fleet.schedule import DAY, HOUR, WEEK
from exporter.reports.timeline import Timeline, timeline
from tests.support.world import MONDAY

AT = MONDAY + 12 * HOUR
GRACE = 4 * HOUR
NEXT = Window(MONDAY + DAY, MONDAY + DAY + 4 * HOUR)


def droplet(*ages: float, created_at: float = 0.0, size: float = 0.0, plan: str = "daily") -> Droplet:
    """Windows at midnight; backups three hours after the windows of so many days ago."""
    made = sorted(MONDAY - age * DAY + 3 * HOUR for age in ages)
    return Droplet(
        1,
        description=Description(created_at=created_at),
        policy=Policy(enabled=True, plan=plan, hour=0, weekday="MON", window_length=4 * HOUR, next_window=NEXT),
        backups=tuple(Backup(number, instant, size) for number, instant in enumerate(made)),
        interval=DAY,
        retention_days=7,
    )


def gaps(one: Droplet, at: float = AT) -> list[float]:
    """How many days ago the windows without a backup were."""
    drawn = timeline(one, None, GRACE, at)
    assert drawn is not None
    return [(MONDAY - gap) / DAY for gap in drawn.gaps]


def test_windows_without_a_backup() -> None:
    """A window is a gap if no backup belongs to it, were it between others or the last."""
    assert gaps(droplet(0, 1, 2, 3, 4, 5, 6)) == []
    assert gaps(droplet(1, 2, 4, 5, 6)) == [3, 0]


def test_a_window_that_is_not_due() -> None:
    """A window whose backup may still come is none yet: that takes its end, the grace, and 3 minutes a GiB."""
    one = droplet(1, 2, 3, 4, 5, 6, size=10 * GIB)
    due = MONDAY + 4 * HOUR + GRACE + 30 * 60
    assert gaps(one, due - 1) == []
    assert gaps(one, due) == [0]


def test_windows_before_the_droplet() -> None:
    """Before the Droplet was there nothing could be taken."""
    assert gaps(droplet(0, 1, created_at=MONDAY - 2.5 * DAY)) == [2]


def test_nothing_to_draw() -> None:
    """Backups that are not known make no line, and neither does a Droplet with neither backups nor a retention."""
    known = droplet(1)
    unknown = Droplet(1, policy=known.policy, retention_days=7)
    assert timeline(unknown, None, GRACE, AT) is None
    assert timeline(Droplet(1, backups=()), None, GRACE, AT) is None
    assert timeline(Droplet(1, backups=(), retention_days=7), None, GRACE, AT) is not None


def test_beyond_the_retention() -> None:
    """A backup kept longer than the policy says, as a snapshot may be, is on the line, which reaches back to it."""
    drawn = timeline(droplet(0, 20), None, GRACE, AT)
    assert drawn is not None
    assert drawn.start == MONDAY - 20 * DAY + 3 * HOUR
    assert drawn.lines(40)[1].startswith("|o")


def test_every_plan_fits() -> None:
    """A plan that makes far more backups than there are columns fills them, and no more."""
    one = Droplet(1, backups=(Backup(1, 0.0),), retention_days=28, policy=droplet(plan="intra_daily_1h").policy)
    drawn = timeline(one, None, GRACE, AT)
    assert drawn is not None
    head, line = drawn.lines(30)
    assert len(head) == len(line) == 32


def test_places() -> None:
    """The line's ends are its start and now; what is to come, by a clock that is wrong, is at its end."""
    drawn = Timeline(0.0, WEEK, backups=(0.0, WEEK / 2, WEEK + 1), gaps=(WEEK / 2,))
    assert drawn.lines(21) == ["7 days ago" + " " * 10 + "now", "|o---------o---------o|"]
