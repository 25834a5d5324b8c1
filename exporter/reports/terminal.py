"""Writes reports to a terminal, in colour and fitted to its width. Only this module and the progress bar use rich."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.padding import Padding
from rich.segment import Segment
from rich.style import Style
from rich.table import Table
from rich.text import Text

from exporter.reports.droplet_report import DropletReport
from exporter.reports.table import GAP, TextColumn, TextTable, Tone

STYLES: dict[Tone, Style] = {
    "plain": Style(),
    "bad": Style(color="red", bold=True),
    "warn": Style(color="yellow"),
    "good": Style(color="green"),
    "dim": Style(dim=True),
}
HEADER = Style(bold=True)
NAME_WIDTH, NAME_ENOUGH, NAME_LEAST = 32, 20, 12
"""The width of a name, which can have 255 letters: the most it gets; the width to which it shrinks before other columns
are left out; and the least."""
SENTENCE_WIDTH, SENTENCE_LEAST = 36, 20
"""The width that a sentence should have, and the least. With less, a list is shown instead of the table."""


def terminal_console(*, stderr: bool = False) -> Console:
    """The terminal. If `NO_COLOR` is set, bold is not used either: no escape sequence is written."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, color_system=None if plain else "auto", highlight=False, markup=False, emoji=False)


def show_table(target: Console, table: TextTable) -> None:
    """Shows as many columns as fit; the last one wraps. If there is no room for a table, shows a list."""
    *columns, last = table.columns
    widths = [min(column.width, NAME_WIDTH) if column.shrinks else column.width for column in columns]

    def room() -> int:
        """The width that is left for the last column."""
        return target.width - sum(widths) - len(GAP) * len(widths)

    def shrink(to: int) -> None:
        for place, column in enumerate(columns):
            if column.shrinks:
                widths[place] = max(min(widths[place], to), widths[place] - max(0, wanted - room()))

    wanted = min(last.width, SENTENCE_WIDTH)
    shrink(NAME_ENOUGH)
    _leave_out(columns, widths, lambda: room() >= wanted)
    shrink(NAME_LEAST)
    if room() < min(wanted, SENTENCE_LEAST):
        _show_list(target, table)
        return
    target.print(_LaidOutTable([*columns, last], [*widths, min(room(), last.width)], table.tones))


def _leave_out(columns: list[TextColumn], widths: list[int], fits: Callable[[], bool]) -> None:
    """Removes columns, the highest `left_out` first, until the rest fits. Columns with 0 stay."""
    while not fits() and any(column.left_out for column in columns):
        place = max(range(len(columns)), key=lambda place: columns[place].left_out)
        del columns[place], widths[place]


@dataclass(frozen=True, slots=True)
class _LaidOutTable:
    """A table whose columns have fixed widths. rich's own tables take a second for every 2,000 rows."""

    columns: Sequence[TextColumn]
    widths: Sequence[int]
    tones: Sequence[Tone]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Segment]:
        yield from self._row(console, [column.title for column in self.columns], HEADER, HEADER)
        for number, tone in enumerate(self.tones):
            yield from self._row(console, [column.cells[number] for column in self.columns], STYLES[tone], Style.null())

    def _row(self, console: Console, cells: Sequence[str], first: Style, others: Style) -> Iterator[Segment]:
        *short, sentence = cells
        laid = [
            _fitted(cell, width, right=column.right)
            for cell, width, column in zip(short, self.widths[:-1], self.columns[:-1], strict=True)
        ]
        right = self.columns[-1].right
        head, *lines = [sentence.rjust(self.widths[-1])] if right else _wrapped(console, sentence, self.widths[-1])
        yield Segment(laid[0], first)
        yield Segment("".join(f"{GAP}{cell}" for cell in (*laid[1:], head)), others)
        indent = "\n" + " " * (sum(self.widths[:-1]) + len(GAP) * len(short))
        for line in lines:
            yield Segment(indent + line, others)
        yield Segment.line()


def _fitted(cell: str, width: int, *, right: bool = False) -> str:
    if cell_len(cell) > width:
        cut = Text(cell)
        cut.truncate(width, overflow="ellipsis")
        cell = cut.plain
    space = " " * (width - cell_len(cell))
    return space + cell if right else cell + space


def _wrapped(target: Console, sentence: str, width: int) -> list[str]:
    if cell_len(sentence) <= width:
        return [sentence]
    return [line.plain.rstrip() for line in Text(sentence).wrap(target, width, overflow="fold")]


def _show_list(target: Console, table: TextTable) -> None:
    *columns, last = (column for column in table.columns if not column.left_out)
    for number, tone in enumerate(table.tones):
        first, *others = (column.cells[number] for column in columns)
        target.print(Text(first, STYLES[tone]), *others)
        target.print(Padding(Text(last.cells[number]), (0, 0, 0, len(GAP))))


def show_droplet(target: Console, report: DropletReport) -> None:
    """Shows the report of `show`."""
    target.print(Text(report.title, HEADER))
    grid = Table.grid(padding=(0, len(GAP), 0, 0))
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, text in report.facts:
        grid.add_row(Text(f"  {name}"), Text(text, STYLES[report.tone] if name == "verdict" else Style()))
    target.print(grid)
    if report.line:
        target.print()
        for line in report.line:
            target.print(Text(f"  {line}", no_wrap=True, overflow="crop"))
    if report.backups is not None:
        target.print()
        columns = list(report.backups.columns)
        widths = [column.width for column in columns]
        _leave_out(columns, widths, lambda: sum(widths) + len(GAP) * len(widths) <= target.width)
        target.print(Padding(_LaidOutTable(columns, widths, report.backups.tones), (0, 0, 0, len(GAP))))
