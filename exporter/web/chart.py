"""A Droplet's backups as a small SVG drawing: one bar for each backup, over the retention period."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from exporter.fleet.model import Droplet
from exporter.fleet.schedule import DAY
from exporter.reports.phrases import missed_windows_of, plural, short_duration

WIDTH, HEIGHT = 160.0, 28.0
"""In units of the drawing."""
_GROUND = HEIGHT - 3
_TALLEST, _SHORTEST = _GROUND - 2, 5.0
_CROSS = 2.6
"""Half the width of the mark of a missed window."""
_USUAL_SPAN = 7 * DAY


@dataclass(frozen=True, slots=True)
class Chart:
    """The paths of an SVG drawing of `WIDTH` by `HEIGHT`, and a title that says the same in words."""

    bars: str
    """One bar for each backup. Its height is the backup's size relative to the largest."""
    missed: str
    """A cross for each missed window."""
    stroke: float
    """The width of a bar."""
    title: str


def chart_of(droplet: Droplet, now: float) -> Chart | None:
    """The drawing of a Droplet's backups over the retention period; `None` if there is nothing to draw."""
    backups = droplet.backups or ()
    missed = missed_windows_of(droplet)
    if not backups and not missed:
        return None
    span = _period(droplet, now)
    largest = max((backup.size or 0.0 for backup in backups), default=0.0)
    stroke = min(5.0, max(1.5, 0.55 * WIDTH / max(len(backups), 1)))
    bars = []
    for backup in backups:
        tall = _TALLEST if backup.size is None or not largest else _TALLEST * backup.size / largest
        bars.append(f"M{_x(backup.created_at, now, span):.1f} {_GROUND:g}v-{max(_SHORTEST, tall):.1f}")
    crosses = [
        f"M{_x(start, now, span) - _CROSS:.1f} {_GROUND - 2 * _CROSS - 2:.1f}l{2 * _CROSS} {2 * _CROSS}"
        f"m0-{2 * _CROSS}l-{2 * _CROSS} {2 * _CROSS}"
        for start in missed
    ]
    return Chart("".join(bars), "".join(crosses), round(stroke, 1), _title(droplet, now, span))


def _period(droplet: Droplet, now: float) -> float:
    """Seconds that the drawing covers."""
    retention = droplet.retention_days
    if retention is not None and isfinite(retention) and retention > 0:
        return retention * DAY
    oldest = droplet.oldest
    return max(_USUAL_SPAN, now - oldest.created_at if oldest else 0.0)


def _x(instant: float, now: float, span: float) -> float:
    """The place of a time from left to right. Anything older than the period is at the left edge.

    The drawing covers 4 % more than the period, because backups are usually kept half a day longer than they must be.
    """
    return 4 + (WIDTH - 8) * min(1.0, max(0.0, 1 - (now - instant) / (1.04 * span)))


def _title(droplet: Droplet, now: float, span: float) -> str:
    backups, missed = droplet.backups or (), droplet.verdict.missed_windows
    text = f"{plural(len(backups), 'backup')} in the last {short_duration(span)}"
    if droplet.newest and droplet.oldest:
        newest, oldest = (
            short_duration(now - droplet.newest.created_at),
            short_duration(now - droplet.oldest.created_at),
        )
        text += f", {newest} old" if len(backups) == 1 else f", {newest} to {oldest} old"
    return text + (f"; {plural(missed, 'window')} missed" if missed else "")
