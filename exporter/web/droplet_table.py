"""All Droplets of all accounts, counted and sorted once for each change of a fleet. The page selects its rows from it.

Work over a whole fleet is done with pauses, in which scrapes are answered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from math import inf
from operator import attrgetter
from typing import Any

from exporter.cooperative import sorted_with_pauses, with_pauses
from exporter.fleet.model import AccountDroplet, Fleet
from exporter.fleet.state import State
from exporter.reports.phrases import count_states, next_window_of, weekday_number, worst_first


class SortColumn(StrEnum):
    """The columns by which the table can be sorted. The values are used in the query string."""

    STATE = "state"
    NAME = "name"
    PLAN = "plan"
    NEXT = "next"
    AGE = "age"
    KEPT = "kept"
    SIZE = "size"

    @property
    def descends_first(self) -> bool:
        """Whether the first click on the column shows the largest value first."""
        return self in (SortColumn.AGE, SortColumn.SIZE)


@dataclass(frozen=True, slots=True, repr=False)
class DropletTable:
    """All Droplets, the worst first, with their totals."""

    fleets: tuple[Fleet, ...]
    droplets: Sequence[AccountDroplet]
    states: dict[State, int]
    kept: int
    """Backups of all Droplets."""
    size: float
    """Bytes of the backups whose size is known."""
    made_at: float
    _orders: dict[SortColumn, tuple[list[int], list[int]]] = field(default_factory=dict)
    """For each column, the indexes of the Droplets with a value, in ascending order, and of those without one."""
    _texts: list[str] = field(default_factory=list)
    """For each Droplet, the text that is searched, in lower case. Made at the first search."""

    def is_of(self, fleets: Sequence[Fleet]) -> bool:
        """Whether the table was made from these very fleets."""
        return len(fleets) == len(self.fleets) and all(a is b for a, b in zip(fleets, self.fleets, strict=True))

    async def select(
        self,
        column: SortColumn = SortColumn.STATE,
        *,
        descending: bool = False,
        words: Sequence[str] = (),
        states: frozenset[State] | None = None,
        account: str | None = None,
    ) -> list[AccountDroplet]:
        """The Droplets that contain every word and are in one of the states, sorted by a column.

        `words` are in lower case. Droplets without a value in the column come last in both orders.
        """
        if words and not self._texts:
            texts = [_search_text(entry) async for entry in with_pauses(self.droplets)]
            self._texts[:] = texts  # All at once: another search may do the same at the same time.
        selected: list[AccountDroplet] = []
        async for place in with_pauses(await self._order(column, descending=descending)):
            entry = self.droplets[place]
            if account is not None and entry.account != account:
                continue
            if states is not None and entry.state not in states:
                continue
            if all(word in self._texts[place] for word in words):
                selected.append(entry)
        return selected

    async def _order(self, column: SortColumn, *, descending: bool) -> Sequence[int]:
        places = range(len(self.droplets))
        if column is SortColumn.STATE:
            return places[::-1] if descending else places
        if column not in self._orders:
            self._orders[column] = await self._sorted_by(_KEYS[column])
        with_value, without = self._orders[column]
        return [*(reversed(with_value) if descending else with_value), *without]

    async def _sorted_by(self, key: Callable[[AccountDroplet, float], Any]) -> tuple[list[int], list[int]]:
        keyed: list[tuple[Any, int]] = []
        without: list[int] = []
        async for place in with_pauses(range(len(self.droplets))):
            value = key(self.droplets[place], self.made_at)
            if value is None:
                without.append(place)
            else:
                keyed.append((value, place))
        return [place for _, place in await sorted_with_pauses(keyed)], without


async def make_table(fleets: tuple[Fleet, ...], now: float) -> DropletTable:
    """The table of these fleets. `now`: the time that ages are computed for."""
    keyed: list[tuple[Any, ...]] = []
    droplets: list[AccountDroplet] = []
    kept, size = 0, 0.0
    for fleet in fleets:
        async for droplet in with_pauses(fleet.droplets):
            keyed.append((*worst_first(droplet), len(droplets)))
            droplets.append(AccountDroplet(fleet.account, droplet))
            backups = droplet.backups or ()
            kept += len(backups)
            size += sum([backup.size or 0.0 for backup in backups])
    return DropletTable(
        fleets=fleets,
        droplets=[droplets[key[-1]] for key in await sorted_with_pauses(keyed)],
        states=count_states(map(attrgetter("state"), droplets)),
        kept=kept,
        size=size,
        made_at=now,
    )


class CurrentTable:
    """The table of the current fleets. It is made once for all readers."""

    def __init__(self, fleets: Callable[[], tuple[Fleet, ...]], now: Callable[[], float]) -> None:
        self._fleets = fleets
        self._now = now
        self._table: DropletTable | None = None
        self._making: asyncio.Task[DropletTable] | None = None

    async def current(self) -> DropletTable:
        """The table of the fleets as they were when this was called, or newer.

        A reader waits for at most two tables: the one that is being made, and another one if the fleets changed after
        the first was begun. So a reader does not wait for ever if fleets change faster than a table is made.
        """
        fleets = self._fleets()
        if self._table is not None and self._table.is_of(fleets):
            return self._table
        # A reader that leaves must not cancel the work that others wait for.
        table = await asyncio.shield(self._make())
        if not table.is_of(fleets):
            table = await asyncio.shield(self._make())
        return table

    def prepare(self) -> None:
        """Begins to make the new table after a fleet has changed, if anybody has ever asked for a table."""
        if self._table is not None and not self._table.is_of(self._fleets()):
            self._make()

    def _make(self) -> asyncio.Task[DropletTable]:
        """The task that makes a table. Never a finished one, because awaiting it would not let other tasks run."""
        if self._making is None or self._making.done():
            self._making = asyncio.create_task(self._made(self._fleets()), name="make the table of droplets")
        return self._making

    async def _made(self, fleets: tuple[Fleet, ...]) -> DropletTable:
        self._table = await make_table(fleets, self._now())
        return self._table


def _search_text(entry: AccountDroplet) -> str:
    description, policy = entry.droplet.description, entry.droplet.policy
    words = [entry.account, str(entry.droplet.id)]
    if description is not None:
        words += (description.name, description.region, description.size, description.status, *(description.tags or ()))
    if policy is not None and policy.enabled and policy.plan:
        words.append(policy.plan)
    return "\n".join(words).casefold()


def _plan_key(entry: AccountDroplet, _: float) -> tuple[float, str, int, float, float] | None:
    """Sorts by the time between two backups, then by weekday and hour."""
    policy, retention = entry.droplet.policy, entry.droplet.retention_days
    if policy is None or not policy.enabled:
        return None
    hour = -1 if policy.hour is None else policy.hour
    return (entry.droplet.interval or inf, policy.plan or "", weekday_number(policy.weekday), hour, retention or 0.0)


def _next_start(entry: AccountDroplet, now: float) -> float | None:
    window = next_window_of(entry.droplet, now)
    return window.start if window else None


def _newest_age(entry: AccountDroplet, now: float) -> float | None:
    newest = entry.droplet.newest
    return None if newest is None else now - newest.created_at


_KEYS: dict[SortColumn, Callable[[AccountDroplet, float], Any]] = {
    SortColumn.NAME: lambda entry, _: entry.droplet.name.casefold() or None,
    SortColumn.PLAN: _plan_key,
    SortColumn.NEXT: _next_start,
    SortColumn.AGE: _newest_age,
    SortColumn.KEPT: lambda entry, _: None if entry.droplet.backups is None else len(entry.droplet.backups),
    SortColumn.SIZE: lambda entry, _: entry.droplet.kept_size if entry.droplet.backups else None,
}
