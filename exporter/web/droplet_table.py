"""Every Droplet of every account, judged, counted and sorted once for each change of the fleet.

A page picks its rows from what is ready. Work over a whole fleet is done in steps, between which scrapes have the loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from exporter.fleet.model import Droplet, Fleet
from exporter.fleet.state import State
from exporter.reports.phrases import next_window_of, tally, weekday_number, worst_first

_T = TypeVar("_T")

STEP = 500
"""Droplets worked on in one go: about a millisecond."""


class Column(StrEnum):
    """What the table can be sorted by; the value is what the query string says."""

    STATE = "state"
    NAME = "name"
    PLAN = "plan"
    NEXT = "next"
    AGE = "age"
    KEPT = "kept"
    SIZE = "size"

    @property
    def descends_first(self) -> bool:
        """Whether the largest comes first at the first click."""
        return self in (Column.AGE, Column.SIZE)


class Entry(NamedTuple):
    """A Droplet of the table."""

    account: str
    droplet: Droplet
    state: State


@dataclass(frozen=True, slots=True, repr=False)
class Board:
    """All entries, the worst first, and what they come to."""

    fleets: tuple[Fleet, ...]
    entries: Sequence[Entry]
    states: dict[State, int]
    kept: int
    """Backups of all Droplets."""
    size: float
    """Bytes of those whose size is known."""
    made_at: float
    _orders: dict[Column, tuple[list[int], list[int]]] = field(default_factory=dict)
    """By column: the places of the entries with a value, ascending, and of those without."""
    _texts: list[str] = field(default_factory=list)
    """For each entry what a search looks through, in lower case; made at the first search."""

    def is_of(self, fleets: Sequence[Fleet]) -> bool:
        return len(fleets) == len(self.fleets) and all(a is b for a, b in zip(fleets, self.fleets, strict=True))

    async def found(
        self,
        column: Column = Column.STATE,
        *,
        descending: bool = False,
        words: Sequence[str] = (),
        states: frozenset[State] | None = None,
        account: str | None = None,
    ) -> list[Entry]:
        """The entries that hold every word, given in lower case, and are in one of the states, by a column.

        Those that have no value in the column come last, whichever way it is sorted.
        """
        entries = self.entries
        if words and not self._texts:
            texts: list[str] = []
            async for some in _in_steps(entries):
                texts += [_text(entry) for entry in some]
            self._texts[:] = texts  # At once: another search may have been at it meanwhile.
        picked: list[Entry] = []
        async for places in _in_steps(await self._order(column, descending=descending), 4 * STEP):
            some_places: Sequence[int] = places
            if account is not None:
                some_places = [place for place in some_places if entries[place].account == account]
            if states is not None:
                some_places = [place for place in some_places if entries[place].state in states]
            for word in words:
                some_places = [place for place in some_places if word in self._texts[place]]
            picked += [entries[place] for place in some_places]
        return picked

    async def _order(self, column: Column, *, descending: bool) -> Sequence[int]:
        places = range(len(self.entries))
        if column is Column.STATE:
            return places[::-1] if descending else places
        if column not in self._orders:
            self._orders[column] = await self._sorted_by(_KEYS[column])
        with_value, without = self._orders[column]
        return [*(reversed(with_value) if descending else with_value), *without]

    async def _sorted_by(self, key: Callable[[Entry, float], Any]) -> tuple[list[int], list[int]]:
        keyed: list[tuple[Any, int]] = []
        without: list[int] = []
        place = 0
        async for some in _in_steps(self.entries):
            for entry in some:
                value = key(entry, self.made_at)
                if value is None:
                    without.append(place)
                else:
                    keyed.append((value, place))
                place += 1
        return [place for _, place in await _sorted(keyed)], without


async def board_of(fleets: tuple[Fleet, ...], now: float) -> Board:
    """The entries of the fleets, judged at `now`."""
    keyed: list[tuple[Any, ...]] = []
    entries: list[Entry] = []
    kept, size = 0, 0.0
    for fleet in fleets:
        async for some in _in_steps(fleet.droplets):
            for droplet in some:
                state = droplet.verdict.state
                keyed.append((*worst_first(droplet), len(entries)))
                entries.append(Entry(fleet.account, droplet, state))
                backups = droplet.backups or ()
                kept += len(backups)
                size += sum([backup.size or 0.0 for backup in backups])
    return Board(
        fleets=fleets,
        entries=[entries[key[-1]] for key in await _sorted(keyed)],
        states=tally(map(attrgetter("state"), entries)),
        kept=kept,
        size=size,
        made_at=now,
    )


class Boards:
    """The board of the fleets as they are now, made once however many ask."""

    def __init__(self, fleets: Callable[[], tuple[Fleet, ...]], now: Callable[[], float]) -> None:
        self._fleets = fleets
        self._now = now
        self._board: Board | None = None
        self._making: asyncio.Task[Board] | None = None

    async def current(self) -> Board:
        while self._board is None or not self._board.is_of(self._fleets()):
            # A reader who leaves must not take the others' board with them.
            await asyncio.shield(self._make())
        return self._board

    def prepare(self) -> None:
        """The fleets are new: begins their board, if anybody ever looked at one."""
        if self._board is not None and not self._board.is_of(self._fleets()):
            self._make()

    def _make(self) -> asyncio.Task[Board]:
        if self._making is None:
            self._making = asyncio.create_task(board_of(self._fleets(), self._now()))
            self._making.add_done_callback(self._made)
        return self._making

    def _made(self, task: asyncio.Task[Board]) -> None:
        self._making = None
        if not task.cancelled() and task.exception() is None:
            self._board = task.result()


def _text(entry: Entry) -> str:
    what, policy = entry.droplet.description, entry.droplet.policy
    words = [entry.account, str(entry.droplet.id)]
    if what is not None:
        words += (what.name, what.region, what.size, what.status, *(what.tags or ()))
    if policy is not None and policy.enabled and policy.plan:
        words.append(policy.plan)
    return "\n".join(words).casefold()


def _plan(entry: Entry, _: float) -> tuple[float, str, int, float, float] | None:
    """The more often a backup is taken the earlier, then by weekday and hour as the API names them."""
    policy, retention = entry.droplet.policy, entry.droplet.retention_days
    if policy is None or not policy.enabled:
        return None
    hour = -1 if policy.hour is None else policy.hour
    return (entry.droplet.interval or inf, policy.plan or "", weekday_number(policy.weekday), hour, retention or 0.0)


def _next_start(entry: Entry, now: float) -> float | None:
    window = next_window_of(entry.droplet, now)
    return window.start if window else None


def _created_before(entry: Entry, now: float) -> float | None:
    newest = entry.droplet.newest
    return None if newest is None else now - newest.created_at


_KEYS: dict[Column, Callable[[Entry, float], Any]] = {
    Column.NAME: lambda entry, _: entry.droplet.name.casefold() or None,
    Column.PLAN: _plan,
    Column.NEXT: _next_start,
    Column.AGE: _created_before,
    Column.KEPT: lambda entry, _: None if entry.droplet.backups is None else len(entry.droplet.backups),
    Column.SIZE: lambda entry, _: entry.droplet.kept_size if entry.droplet.backups else None,
}


async def _in_steps(items: Sequence[_T], step: int = STEP) -> AsyncIterator[Sequence[_T]]:
    """The items, some at a time."""
    for start in range(0, len(items), step):
        yield items[start : start + step]
        await asyncio.sleep(0)


async def _sorted(items: Sequence[Any]) -> list[Any]:
    """The items sorted, in steps: sorting two runs as one is a merge, which is quick."""
    runs = [sorted(items[start : start + 2 * STEP]) for start in range(0, len(items), 2 * STEP)]
    while len(runs) > 1:
        await asyncio.sleep(0)
        pairs: Iterator[list[Any]] = iter(runs)
        merged = []
        for one in pairs:
            merged.append(sorted(one + next(pairs, [])))
            await asyncio.sleep(0)
        runs = merged
    return runs[0] if runs else []
