"""A Droplet's backups on a line through the retention period."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.fleet.history import EARLY, BackupHistory, due_window, slack_of
from exporter.fleet.model import Droplet, SupportedPolicy
from exporter.fleet.schedule import DAY, schedule_of
from exporter.reports.phrases import span

BACKUP, WITHOUT, LINE, END = "o", "x", "-", "|"
LEGEND = f"{BACKUP} backup   {WITHOUT} window without one"


@dataclass(frozen=True, slots=True)
class Timeline:
    """From `start` to `end`, in Unix seconds."""

    start: float
    end: float
    backups: tuple[float, ...]
    gaps: tuple[float, ...]
    """The starts of windows that are due and have no backup."""

    def lines(self, width: int) -> list[str]:
        """What stands above the line, and the line, so many columns wide."""
        left, right = f"{span(self.end - self.start)} ago", "now"
        marks = [LINE] * width
        for mark, instants in ((WITHOUT, self.gaps), (BACKUP, self.backups)):
            for instant in instants:
                marks[self._place(instant, width)] = mark
        return [left + right.rjust(width + 2 - len(left)), END + "".join(marks) + END]

    def _place(self, instant: float, width: int) -> int:
        share = (instant - self.start) / (self.end - self.start)
        return min(width - 1, max(0, round(share * (width - 1))))


def timeline(droplet: Droplet, supported: SupportedPolicy | None, grace: float, at: float) -> Timeline | None:
    """The line, or `None` where there is nothing to draw: the backups are not known, or there is no retention to show.

    It reaches back beyond the retention period where a backup does. Windows before the Droplet was created are not on
    it, nor are those that are not due yet.
    """
    made = tuple(backup.created_at for backup in droplet.backups or ())
    retention = (droplet.retention_days or 0.0) * DAY
    start = min([at - retention, *made])
    if not start < at or droplet.backups is None:
        return None
    return Timeline(start, at, made, _gaps(droplet, supported, grace, start, at))


def _gaps(
    droplet: Droplet, supported: SupportedPolicy | None, grace: float, start: float, at: float
) -> tuple[float, ...]:
    policy = droplet.policy
    schedule = schedule_of(policy, supported) if policy and policy.enabled else None
    if schedule is None or droplet.backups is None:
        return ()
    described = droplet.description
    if described is not None and described.created_at is not None:
        start = max(start, described.created_at)
    slack = slack_of(BackupHistory(0.0, droplet.newest), described.disk if described else None, grace)
    taken = {schedule.window_at(backup.created_at + EARLY) for backup in droplet.backups}
    first, last = schedule.window_at(start) + 1, due_window(schedule, slack, at)
    # A schedule can be as odd as the API likes; more windows than a line has room for tell nothing.
    return tuple(schedule.start(number) for number in range(max(first, last - 999), last + 1) if number not in taken)
