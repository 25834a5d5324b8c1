"""Reports laid out for people: a table as columns of words, written plainly here and in colour by `terminal`."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from exporter.console import printable
from exporter.fleet.model import AccountDroplet
from exporter.fleet.state import State
from exporter.reports.check_report import CheckReport
from exporter.reports.phrases import brief, next_window_of, plan_words, verdict_of

Tone = Literal["plain", "bad", "warn", "good", "dim"]

TONES: dict[State, Tone] = {
    State.MISSING: "bad",
    State.OVERDUE: "bad",
    State.STALE: "bad",
    State.NEVER_TAKEN: "bad",
    State.UNJUDGED: "warn",
    State.UNPROTECTED: "warn",
    State.WAITING: "plain",
    State.PROTECTED: "good",
    State.NOT_EXPECTED: "dim",
    State.GONE: "dim",
}
GAP = "  "


@dataclass(frozen=True, slots=True)
class TextColumn:
    """What stands under one title; all columns of a table are of one length."""

    title: str
    cells: list[str]
    right: bool = False
    shrinks: bool = False
    """Whether a terminal may cut its cells short."""
    spare: int = 0
    """Where there is not enough room, the highest is left out first; 0 stays."""

    @property
    def width(self) -> int:
        return max(map(cells_of, (self.title, *self.cells)))


@dataclass(frozen=True, slots=True)
class TextTable:
    """The last column holds sentences, which a terminal may wrap."""

    columns: tuple[TextColumn, ...]
    tones: list[Tone]
    """Of each row."""


def check_table(report: CheckReport) -> TextTable:
    """Every Droplet of the survey, one a row."""
    entries, at = report.droplets, report.at
    columns = [
        TextColumn("STATE", [entry.state.value for entry in entries]),
        TextColumn("ID", [str(entry.droplet.id) for entry in entries], right=True),
        TextColumn("DROPLET", [printable(entry.droplet.name) or "-" for entry in entries], shrinks=True),
        TextColumn("PLAN", [_plan(entry) for entry in entries], spare=4),
        TextColumn("NEWEST", [newest_words(entry, at) for entry in entries], spare=1),
        TextColumn("KEPT", [_kept(entry) for entry in entries], spare=3, right=True),
        TextColumn("NEXT", [_next(entry, at) for entry in entries], spare=2),
        TextColumn("VERDICT", [printable(verdict_of(entry.droplet, at)) for entry in entries]),
    ]
    if len(report.accounts) > 1:
        columns.insert(2, TextColumn("ACCOUNT", [printable(entry.account) for entry in entries], shrinks=True))
    return TextTable(tuple(columns), [TONES[entry.state] for entry in entries])


def _plan(entry: AccountDroplet) -> str:
    policy = entry.droplet.policy
    if policy is None or (policy.enabled is None and policy.plan is None):
        return "?"
    return printable(plan_words(policy.plan)) if policy.enabled is not False else "off"


def newest_words(entry: AccountDroplet, at: float) -> str:
    droplet = entry.droplet
    if droplet.newest is not None:
        return brief(at - droplet.newest.created_at)
    return "?" if droplet.backups is None else "none"


def _kept(entry: AccountDroplet) -> str:
    return "?" if entry.droplet.backups is None else str(len(entry.droplet.backups))


def _next(entry: AccountDroplet, at: float) -> str:
    window = next_window_of(entry.droplet, at)
    if window is None:
        return "-"
    return "open" if window.start <= at else f"in {brief(window.start - at)}"


def plain(table: TextTable) -> str:
    """Every column at its full width, for pipes and files."""
    laid = []
    for column in table.columns:
        width = column.width
        laid.append([_padded(text, width, right=column.right) for text in (column.title, *column.cells)])
    return "".join(GAP.join(row).rstrip() + "\n" for row in zip(*laid, strict=True))


def facts(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what is to be said of each."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name:<{width}}  {text}\n" for name, text in rows)


def cells_of(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - cells_of(text))
    return space + text if right else text + space
