"""Reports as tables of text. This module writes them without colour; `terminal` writes them in colour."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from exporter.console import printable
from exporter.fleet.model import AccountDroplet
from exporter.fleet.state import State
from exporter.reports.check_report import CheckReport
from exporter.reports.phrases import next_window_of, plan_words, short_duration, verdict_sentence

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
    """A column: its title, and the text of each row."""

    title: str
    cells: list[str]
    right: bool = False
    shrinks: bool = False
    """Whether a narrow terminal may cut its cells."""
    left_out: int = 0
    """If a terminal is too narrow, the column with the highest number is left out first; 0: never left out."""

    @property
    def width(self) -> int:
        """Columns of a terminal that the longest text takes."""
        return max(map(display_width, (self.title, *self.cells)))


@dataclass(frozen=True, slots=True)
class TextTable:
    """A table. The last column contains sentences, which a terminal may wrap."""

    columns: tuple[TextColumn, ...]
    tones: list[Tone]
    """The tone of each row."""


def check_table(report: CheckReport) -> TextTable:
    """The table of `check`: one row for each Droplet of the report."""
    entries, at = report.droplets, report.at
    columns = [
        TextColumn("STATE", [entry.state.value for entry in entries]),
        TextColumn("ID", [str(entry.droplet.id) for entry in entries], right=True),
        TextColumn("DROPLET", [printable(entry.droplet.name) or "-" for entry in entries], shrinks=True),
        TextColumn("PLAN", [_plan(entry) for entry in entries], left_out=4),
        TextColumn("NEWEST", [_newest(entry, at) for entry in entries], left_out=1),
        TextColumn("KEPT", [_kept(entry) for entry in entries], left_out=3, right=True),
        TextColumn("NEXT", [_next(entry, at) for entry in entries], left_out=2),
        TextColumn("VERDICT", [printable(verdict_sentence(entry.droplet, at)) for entry in entries]),
    ]
    if len(report.accounts) > 1:
        columns.insert(2, TextColumn("ACCOUNT", [printable(entry.account) for entry in entries], shrinks=True))
    return TextTable(tuple(columns), [TONES[entry.state] for entry in entries])


def _plan(entry: AccountDroplet) -> str:
    policy = entry.droplet.policy
    if policy is None or (policy.enabled is None and policy.plan is None):
        return "?"
    return printable(plan_words(policy.plan)) if policy.enabled is not False else "off"


def _newest(entry: AccountDroplet, at: float) -> str:
    droplet = entry.droplet
    if droplet.newest is not None:
        return short_duration(at - droplet.newest.created_at)
    return "?" if droplet.backups is None else "none"


def _kept(entry: AccountDroplet) -> str:
    return "?" if entry.droplet.backups is None else str(len(entry.droplet.backups))


def _next(entry: AccountDroplet, at: float) -> str:
    window = next_window_of(entry.droplet, at)
    if window is None:
        return "-"
    return "open" if window.start <= at else f"in {short_duration(window.start - at)}"


def plain_text(table: TextTable) -> str:
    """The table with every column at its full width, for pipes and files."""
    laid = []
    for column in table.columns:
        width = column.width
        laid.append([_padded(text, width, right=column.right) for text in (column.title, *column.cells)])
    return "".join(GAP.join(row).rstrip() + "\n" for row in zip(*laid, strict=True))


def facts_text(rows: Sequence[tuple[str, str]]) -> str:
    """Names and what is said about each, one line for each."""
    width = max(len(name) for name, _ in rows)
    return "".join(f"  {name:<{width}}  {text}\n" for name, text in rows)


def display_width(text: str) -> int:
    """How many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1 for char in text
    )


def _padded(text: str, width: int, *, right: bool) -> str:
    space = " " * (width - display_width(text))
    return space + text if right else text + space
