"""A Droplet's backups and missed windows, drawn with characters on a line that covers the retention period."""

from __future__ import annotations

from dataclasses import dataclass

from exporter.fleet.model import Droplet
from exporter.fleet.schedule import DAY
from exporter.reports.phrases import duration_words, missed_windows_of

BACKUP, MISSED, LINE, END = "o", "x", "-", "|"
LEGEND = f"{BACKUP} backup   {MISSED} missed window"


@dataclass(frozen=True, slots=True)
class Timeline:
    """What is drawn on the line. All times are in Unix seconds."""

    start: float
    end: float
    backups: tuple[float, ...]
    missed: tuple[float, ...]
    """The starts of the missed windows."""

    def lines(self, width: int) -> list[str]:
        """Two lines of text: the labels, and the line itself, `width` characters between its ends."""
        left, right = f"{duration_words(self.end - self.start)} ago", "now"
        marks = [LINE] * width
        for mark, instants in ((MISSED, self.missed), (BACKUP, self.backups)):
            for instant in instants:
                marks[self._place(instant, width)] = mark
        return [left + right.rjust(width + 2 - len(left)), END + "".join(marks) + END]

    def _place(self, instant: float, width: int) -> int:
        share = (instant - self.start) / (self.end - self.start)
        return min(width - 1, max(0, round(share * (width - 1))))


def timeline(droplet: Droplet, at: float) -> Timeline | None:
    """The timeline; `None` if the backups are not known, or there are no backups and no retention period.

    It begins before the retention period if a backup or a missed window does.
    """
    made = tuple(backup.created_at for backup in droplet.backups or ())
    missed = missed_windows_of(droplet)
    start = min([at - (droplet.retention_days or 0.0) * DAY, *made, *missed])
    if not start < at or droplet.backups is None:
        return None
    return Timeline(start, at, made, tuple(missed))
