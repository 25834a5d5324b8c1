"""Reports on a terminal: in colour, fitted to its width, with a bar while a poll goes on. The only user of rich."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Sequence

from rich import box
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.style import Style
from rich.table import Table as RichTable
from rich.text import Text

from exporter.polling.status import Status
from exporter.reports.card import Card
from exporter.reports.table import GAP, Table, Tone, cells_of

STYLES: dict[Tone, Style] = {
    "plain": Style(),
    "bad": Style(color="red", bold=True),
    "warn": Style(color="yellow"),
    "good": Style(color="green"),
    "dim": Style(dim=True),
}
HEADER = Style(bold=True)
NAME_WIDTH = 32
"""Columns that a name gets at most; it may have 255 letters."""
REFRESH = 0.1
"""Seconds between two looks at how the poll is getting on."""


def console(*, stderr: bool = False) -> Console:
    """The terminal. With `NO_COLOR` set not even bold is used: what cannot bear one escape cannot bear another."""
    plain = bool(os.environ.get("NO_COLOR"))
    return Console(stderr=stderr, color_system=None if plain else "auto", highlight=False, markup=False, emoji=False)


def show_table(target: Console, table: Table) -> None:
    """As many of the columns as the terminal has room for; the last one wraps."""
    columns = [column for column in table.columns if column.from_width <= target.width]
    laid = RichTable(box=None, padding=(0, len(GAP), 0, 0), pad_edge=False, header_style=HEADER, show_edge=False)
    for column in columns:
        last = column is columns[-1]
        widest = max(map(cells_of, (column.title, *column.cells)))
        laid.add_column(
            column.title,
            justify="right" if column.right else "left",
            no_wrap=not last,
            overflow="fold" if last else "ellipsis",
            # Told, so that rich need not measure every cell of every column.
            width=None if last else min(widest, NAME_WIDTH) if column.shrinks else widest,
            ratio=1 if last else None,
        )
    laid.expand = True
    for number, tone in enumerate(table.tones):
        cells = [Text(column.cells[number]) for column in columns]
        cells[0].stylize(STYLES[tone])
        laid.add_row(*cells)
    target.print(laid)


def show_card(target: Console, card: Card) -> None:
    target.print(Text(card.title, HEADER))
    laid = RichTable.grid(padding=(0, len(GAP), 0, 0))
    laid.add_column(no_wrap=True)
    laid.add_column(overflow="fold")
    for name, text in card.facts:
        laid.add_row(Text(f"  {name}"), Text(text, STYLES[card.tone] if name == "verdict" else Style()))
    target.print(laid)
    if card.line:
        target.print()
        for line in card.line:
            target.print(Text(f"  {line}", no_wrap=True, overflow="crop"))
    if card.backups is not None:
        target.print()
        rows = RichTable(box=box.SIMPLE_HEAD, header_style=HEADER, pad_edge=False, show_edge=False)
        for column in card.backups.columns:
            rows.add_column(column.title, justify="right" if column.right else "left", no_wrap=True)
        for number in range(len(card.backups.tones)):
            rows.add_row(*(Text(column.cells[number]) for column in card.backups.columns))
        target.print(rows)


@contextlib.asynccontextmanager
async def progress(statuses: Callable[[], Sequence[Status]]) -> AsyncIterator[None]:
    """A bar on stderr while the context lasts, which leaves nothing behind."""
    target = console(stderr=True)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=target,
        transient=True,
        disable=target.is_dumb_terminal,
    ) as bar:
        task = bar.add_task("listing droplets and policies", total=None)

        async def follow() -> None:
            while True:
                planned, done = _far(statuses())
                if planned:
                    bar.update(task, description="reading backups", total=planned, completed=done)
                await asyncio.sleep(REFRESH)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()


def _far(statuses: Sequence[Status]) -> tuple[int, int]:
    """Readings planned and done, of all accounts."""
    planned = sum(status.readings_planned for status in statuses)
    return planned, min(planned, sum(status.readings_done for status in statuses))
