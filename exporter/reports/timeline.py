"""A Droplet's backups on a line through the retention period."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.fleet.model import Droplet
from exporter.fleet.schedule import DAY
from exporter.reports.phrases import missed_windows_of, span

BACKUP, WITHOUT, LINE, END = "o", "x", "-", "|"
LEGEND = f"{BACKUP} backup   {WITHOUT} missed window"


@dataclass(frozen=True, slots=True)
class Timeline:
    """From `start` to `end`, in Unix seconds."""

    start: float
    end: float
    backups: tuple[float, ...]
    gaps: tuple[float, ...]
    """The starts of the windows that were missed."""

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


def timeline(droplet: Droplet, at: float) -> Timeline | None:
    """The line, or `None` where there is nothing to draw: the backups are not known, or there is no retention to show.

    It reaches back beyond the retention period where a backup or a missed window does.
    """
    made = tuple(backup.created_at for backup in droplet.backups or ())
    missed = missed_windows_of(droplet)
    start = min([at - (droplet.retention_days or 0.0) * DAY, *made, *missed])
    if not start < at or droplet.backups is None:
        return None
    return Timeline(start, at, made, tuple(missed))
