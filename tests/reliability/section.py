"""One part of RESULTS.md: what is run for it, and the lines that tell what came of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Told:
    """What a section's runs came to."""

    lines: Sequence[str]
    """Markdown: the section's text, below its title."""
    wrong: Sequence[str] = ()
    """What must not be. Nothing is written to RESULTS.md while there is any."""


@dataclass(frozen=True, slots=True)
class Section:
    """A part of RESULTS.md.

    Jobs and what they return cross to another process, so they are pickled: functions of a module, or partials of them.
    """

    title: str
    planned: Sequence[str]
    """What the code's constants say of the size of the run. The section's text must hold each of these to the letter,
    so that a shorter run, or one of earlier constants, is never taken for the whole."""
    jobs: Sequence[Callable[[], Any]]
    tell: Callable[[Sequence[Any]], Told]
    """Makes the text from what the jobs returned, in their order."""
    alone: bool = False
    """Whether its jobs run one at a time, with nothing beside them: it measures time."""


def table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table whose first column holds words and whose others hold figures."""
    rule = "|".join(["---", *["---:"] * (len(columns) - 1)])
    return [f"| {' | '.join(columns)} |", f"|{rule}|", *(f"| {' | '.join(row)} |" for row in rows)]


def row(what: str, value: str) -> str:
    """A row of a table of figures, as `table` makes it and as the README's figures are looked up."""
    return f"| {what} | {value} |"
