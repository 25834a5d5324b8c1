"""What `show` reports about a Droplet: policy, next window, verdict, and its backups as a line and as a table."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo

from exporter.console import printable
from exporter.fleet.model import AccountDroplet, Droplet, Window
from exporter.reports.phrases import (
    duration_words,
    next_window_of,
    plural,
    policy_words,
    short_duration,
    size_words,
    verdict_sentence,
)
from exporter.reports.table import TONES, TextColumn, TextTable, Tone
from exporter.reports.timeline import LEGEND, timeline

LINE_WIDTH = 60
"""Characters of the line on which the backups are drawn, if the terminal is not narrower."""


@dataclass(frozen=True, slots=True)
class DropletReport:
    """What `show` prints about a Droplet."""

    title: str
    facts: tuple[tuple[str, str], ...]
    """Names and what is said about each: `("policy", "daily")`."""
    tone: Tone
    """The tone of the last fact, the verdict."""
    line: tuple[str, ...]
    """The backups drawn on a line, with a legend: the lines of text. Empty if there is nothing to draw."""
    backups: TextTable | None


def droplet_report(
    entry: AccountDroplet,
    at: float,
    *,
    watched: bool = True,
    width: int = LINE_WIDTH,
    zone: tzinfo | None = None,
) -> DropletReport:
    """The report about a Droplet at the time `at`.

    `watched`: whether the configuration selects the Droplet. `width`: characters for the line. `zone`: the time zone of
    the reader; `None`: the machine's.
    """
    droplet = entry.droplet
    facts = [("account", printable(entry.account)), ("droplet", _described(droplet, at))]
    if not watched:
        facts.append(("selected", "no: the configuration leaves it out, so no metric is served for it"))
    facts.append(("policy", printable(policy_words(droplet))))
    window = next_window_of(droplet, at)
    if window is not None:
        facts.append(("next window", window_words(window, at, zone)))
    facts.append(("backups", _kept(droplet)))
    limit = droplet.verdict.max_age
    if limit is not None:
        facts.append(("age limit", f"{duration_words(limit)} for the newest backup"))
    volumes = droplet.description.volumes if droplet.description else None
    if volumes:
        facts.append(("volumes", f"{plural(volumes, 'attached volume')}, which are not in the backups"))
    facts.append(("verdict", f"{entry.state.words}: {printable(verdict_sentence(droplet, at))}"))
    drawn = timeline(droplet, at)
    line = (*drawn.lines(width), LEGEND) if drawn is not None else ()
    return DropletReport(
        f"{printable(droplet.name) or 'a droplet without a name'} ({droplet.id})",
        tuple(facts),
        TONES[entry.state],
        line,
        _backups(droplet, at),
    )


def _described(droplet: Droplet, at: float) -> str:
    described = droplet.description
    if described is None:
        return "not among the droplets; only a policy names it"
    parts = [described.status, described.size, described.region]
    if described.created_at is not None:
        parts.append(f"created {duration_words(at - described.created_at)} ago")
    if described.tags:
        parts.append(f"tags {' '.join(described.tags)}")
    return printable(", ".join(filter(None, parts)))


def _kept(droplet: Droplet) -> str:
    if droplet.backups is None:
        return "not known"
    if not droplet.backups:
        return "none"
    return f"{len(droplet.backups)} kept, {size_words(droplet.kept_size)} together"


def _backups(droplet: Droplet, at: float) -> TextTable | None:
    if not droplet.backups:
        return None
    newest_first = droplet.backups[::-1]
    return TextTable(
        (
            TextColumn("CREATED (UTC)", [_stamp(backup.created_at) for backup in newest_first]),
            TextColumn(
                "AGE", [short_duration(at - backup.created_at) for backup in newest_first], right=True, left_out=1
            ),
            TextColumn("SIZE", [size_words(backup.size) for backup in newest_first], right=True),
            TextColumn("ID", [str(backup.id) for backup in newest_first], right=True, left_out=2),
        ),
        ["plain"] * len(newest_first),
    )


def window_words(window: Window, at: float, zone: tzinfo | None = None) -> str:
    """`Wed 25 Nov 00:00-04:00 UTC, in 14 h (01:00-05:00 CET here)`."""
    when = f"in {short_duration(window.start - at)}"
    if window.start <= at:
        when = f"open for another {short_duration(window.end - at)}" if at < window.end else "open"
    try:
        utc = _range(window, UTC)
        local = _range(window, zone)
    except (OverflowError, ValueError, OSError):  # years beyond Python's calendar
        return "at an unknown time"
    here = f" ({local} here)" if _clock(local) != _clock(utc) else ""
    return f"{utc}, {when}{here}"


def _range(window: Window, zone: tzinfo | None) -> str:
    start, end = (datetime.fromtimestamp(instant, UTC).astimezone(zone) for instant in (window.start, window.end))
    names = [start.tzname(), end.tzname()]
    first = f"{start:%a} {start.day} {start:%b %H:%M}"
    # When summer time begins or ends, a window can start in one zone and end in the other.
    return f"{first} {names[0]} - {end:%H:%M} {names[1]}" if names[0] != names[1] else f"{first}-{end:%H:%M} {names[0]}"


def _clock(text: str) -> str:
    """The text without the zone's name. If local time is UTC under another name, it is not written twice."""
    return text.rpartition(" ")[0]


def _stamp(instant: float) -> str:
    try:
        return f"{datetime.fromtimestamp(instant, UTC):%Y-%m-%d %H:%M:%S}"
    except (OverflowError, ValueError, OSError):
        return "unknown"
