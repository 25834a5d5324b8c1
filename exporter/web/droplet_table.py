"""All Droplets of all accounts, judged, counted and sorted once for each change of a fleet.

The page selects its rows from this table. Work over a whole fleet is done in steps, and scrapes run between the steps.
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
"""Droplets in one step: about a millisecond of work."""


class SortColumn(StrEnum):
    """What the table can be sorted by. The values are those of the query string."""

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
        return self in (SortColumn.AGE, SortColumn.SIZE)


class JudgedDroplet(NamedTuple):
    """A Droplet with its account and its state."""

    account: str
    droplet: Droplet
    state: State


@dataclass(frozen=True, slots=True, repr=False)
class DropletTable:
    """All Droplets, the worst first, with their totals."""

    fleets: tuple[Fleet, ...]
    droplets: Sequence[JudgedDroplet]
    states: dict[State, int]
    kept: int
    """Backups of all Droplets."""
    size: float
    """Bytes of the backups whose size is known."""
    made_at: float
    _orders: dict[SortColumn, tuple[list[int], list[int]]] = field(default_factory=dict)
    """By column: the indexes of the Droplets that have a value, ascending, and of those that have none."""
    _texts: list[str] = field(default_factory=list)
    """The text that a search looks at, for each Droplet, in lower case. Made at the first search."""

    def is_of(self, fleets: Sequence[Fleet]) -> bool:
        return len(fleets) == len(self.fleets) and all(a is b for a, b in zip(fleets, self.fleets, strict=True))

    async def found(
        self,
        column: SortColumn = SortColumn.STATE,
        *,
        descending: bool = False,
        words: Sequence[str] = (),
        states: frozenset[State] | None = None,
        account: str | None = None,
    ) -> list[JudgedDroplet]:
        """The Droplets that contain every word and are in one of the states, sorted by a column.

        `words` are in lower case. Droplets without a value in the column come last in both orders.
        """
        droplets = self.droplets
        if words and not self._texts:
            texts: list[str] = []
            async for some in _in_steps(droplets):
                texts += [_text(entry) for entry in some]
            self._texts[:] = texts  # All at once: another search may do the same at the same time.
        picked: list[JudgedDroplet] = []
        async for places in _in_steps(await self._order(column, descending=descending), 4 * STEP):
            some_places: Sequence[int] = places
            if account is not None:
                some_places = [place for place in some_places if droplets[place].account == account]
            if states is not None:
                some_places = [place for place in some_places if droplets[place].state in states]
            for word in words:
                some_places = [place for place in some_places if word in self._texts[place]]
            picked += [droplets[place] for place in some_places]
        return picked

    async def _order(self, column: SortColumn, *, descending: bool) -> Sequence[int]:
        places = range(len(self.droplets))
        if column is SortColumn.STATE:
            return places[::-1] if descending else places
        if column not in self._orders:
            self._orders[column] = await self._sorted_by(_KEYS[column])
        with_value, without = self._orders[column]
        return [*(reversed(with_value) if descending else with_value), *without]

    async def _sorted_by(self, key: Callable[[JudgedDroplet, float], Any]) -> tuple[list[int], list[int]]:
        keyed: list[tuple[Any, int]] = []
        without: list[int] = []
        place = 0
        async for some in _in_steps(self.droplets):
            for entry in some:
                value = key(entry, self.made_at)
                if value is None:
                    without.append(place)
                else:
                    keyed.append((value, place))
                place += 1
        return [place for _, place in await _sorted(keyed)], without


async def table_of(fleets: tuple[Fleet, ...], now: float) -> DropletTable:
    """The table of these fleets, judged at `now`."""
    keyed: list[tuple[Any, ...]] = []
    droplets: list[JudgedDroplet] = []
    kept, size = 0, 0.0
    for fleet in fleets:
        async for some in _in_steps(fleet.droplets):
            for droplet in some:
                state = droplet.verdict.state
                keyed.append((*worst_first(droplet), len(droplets)))
                droplets.append(JudgedDroplet(fleet.account, droplet, state))
                backups = droplet.backups or ()
                kept += len(backups)
                size += sum([backup.size or 0.0 for backup in backups])
    return DropletTable(
        fleets=fleets,
        droplets=[droplets[key[-1]] for key in await _sorted(keyed)],
        states=tally(map(attrgetter("state"), droplets)),
        kept=kept,
        size=size,
        made_at=now,
    )


class NewestTable:
    """The table of the current fleets. It is made once, however many readers ask."""

    def __init__(self, fleets: Callable[[], tuple[Fleet, ...]], now: Callable[[], float]) -> None:
        self._fleets = fleets
        self._now = now
        self._table: DropletTable | None = None
        self._making: asyncio.Task[DropletTable] | None = None

    async def current(self) -> DropletTable:
        """The table of the fleets as they were when the reader asked, or newer.

        A reader waits for two tables at most: the one being made, and one more if that was begun before the fleets
        changed. Fleets that change faster than a table is made therefore never keep a reader waiting for ever.
        """
        fleets = self._fleets()
        if self._table is not None and self._table.is_of(fleets):
            return self._table
        # A reader that leaves must not cancel the table that others wait for.
        table = await asyncio.shield(self._make())
        if not table.is_of(fleets):
            table = await asyncio.shield(self._make())
        return table

    def prepare(self) -> None:
        """A fleet has changed: begins to make the new table, if anybody has ever asked for one."""
        if self._table is not None and not self._table.is_of(self._fleets()):
            self._make()

    def _make(self) -> asyncio.Task[DropletTable]:
        """The task that makes a table; never one that is done, because awaiting that does not yield to other tasks."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._made(self._fleets()), name="make the table of droplets")
        return self._making

    async def _made(self, fleets: tuple[Fleet, ...]) -> DropletTable:
        self._table = await table_of(fleets, self._now())
        return self._table


def _text(entry: JudgedDroplet) -> str:
    what, policy = entry.droplet.description, entry.droplet.policy
    words = [entry.account, str(entry.droplet.id)]
    if what is not None:
        words += (what.name, what.region, what.size, what.status, *(what.tags or ()))
    if policy is not None and policy.enabled and policy.plan:
        words.append(policy.plan)
    return "\n".join(words).casefold()


def _plan(entry: JudgedDroplet, _: float) -> tuple[float, str, int, float, float] | None:
    """Sorts by how often a backup is made, then by weekday and hour."""
    policy, retention = entry.droplet.policy, entry.droplet.retention_days
    if policy is None or not policy.enabled:
        return None
    hour = -1 if policy.hour is None else policy.hour
    return (entry.droplet.interval or inf, policy.plan or "", weekday_number(policy.weekday), hour, retention or 0.0)


def _next_start(entry: JudgedDroplet, now: float) -> float | None:
    window = next_window_of(entry.droplet, now)
    return window.start if window else None


def _created_before(entry: JudgedDroplet, now: float) -> float | None:
    newest = entry.droplet.newest
    return None if newest is None else now - newest.created_at


_KEYS: dict[SortColumn, Callable[[JudgedDroplet, float], Any]] = {
    SortColumn.NAME: lambda entry, _: entry.droplet.name.casefold() or None,
    SortColumn.PLAN: _plan,
    SortColumn.NEXT: _next_start,
    SortColumn.AGE: _created_before,
    SortColumn.KEPT: lambda entry, _: None if entry.droplet.backups is None else len(entry.droplet.backups),
    SortColumn.SIZE: lambda entry, _: entry.droplet.kept_size if entry.droplet.backups else None,
}


async def _in_steps(items: Sequence[_T], step: int = STEP) -> AsyncIterator[Sequence[_T]]:
    """The items, `step` at a time; other tasks run in between."""
    for start in range(0, len(items), step):
        yield items[start : start + step]
        await asyncio.sleep(0)


async def _sorted(items: Sequence[Any]) -> list[Any]:
    """Sorts in steps. Python sorts two sorted runs by merging them, which is quick."""
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
