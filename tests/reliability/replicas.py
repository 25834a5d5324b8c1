"""What one exporter and what two cost the token, in the long run, by a simulated account."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from exporter import log
from tests.reliability.section import Section, Told, table
from tests.support.day import BigAccount, BigWorld, SharedToken
from tests.support.world import HOUR

INTERVAL = 300.0
HOURS = 4
"""Windows begin every four hours, evenly spread, so that each four hours of the day are like the others."""


@dataclass(frozen=True, slots=True)
class Cost:
    droplets: int
    exporters: int
    an_hour: float
    """Requests, of all exporters together."""
    least: int
    """What was left of the token's hour when that was least; of each token, where they have one each."""
    postponed: int
    """Polls that left a list they had to read to a later one."""


async def cost(droplets: int, exporters: int, *, one_token: bool = True) -> Cost:
    """What so many exporters of one account ask once all know it, polling in turn through the interval."""
    account, token = BigAccount(droplets), SharedToken()
    tokens = [token if one_token else SharedToken() for _ in range(exporters)]
    worlds = [BigWorld(account, shared=token) for token in tokens]
    begin = worlds[0].clock.now()

    async def live(first: int, last: int) -> None:
        for number in range(first, last):
            for turn, world in enumerate(worlds):
                at = begin + INTERVAL * (number + turn / exporters)
                await world.poll(max(0.0, at - world.clock.now()))

    # Until the requests of their start are no longer counted.
    polls_an_hour = int(HOUR / INTERVAL)
    await live(0, 2 * polls_an_hour)
    for world in worlds:
        world.asked.clear()
        world.results.clear()
    for one in tokens:
        one.least = one.per_hour
    await live(2 * polls_an_hour, (2 + HOURS) * polls_an_hour)
    assert not any(world.results["failure"] for world in worlds)
    return Cost(
        droplets,
        exporters,
        sum(world.asked.total() for world in worlds) / HOURS,
        min(one.least for one in tokens),
        sum(world.results["partial"] for world in worlds),
    )


FLEETS = (1_000, 10_000)
WAYS = {"one": (1, True), "two, a token each": (2, False), "two, on one token": (2, True)}
"""How many exporters, and whether on one token."""
_COLUMNS = (
    "Droplets, exporters",
    "requests an hour",
    "of a token's 5,000",
    "least left of a token",
    "lists put off",
)


def costs(droplets: int, way: str) -> Cost:
    log.configure("error", "logfmt")
    exporters, one_token = WAYS[way]
    return asyncio.run(cost(droplets, exporters, one_token=one_token))


def _told(found: Sequence[Cost]) -> Told:
    rows = []
    for (droplets, way), one in zip(_COSTS, found, strict=True):
        exporters, one_token = WAYS[way]
        share = one.an_hour / 5000 / (1 if one_token else exporters)
        rows.append((_name(droplets, way), f"{one.an_hour:,.0f}", f"{share:.0%}", f"{one.least:,}", str(one.postponed)))
    return Told(table(_COLUMNS, rows))


def _name(droplets: int, way: str) -> str:
    return f"{droplets:,}, {way}"


_COSTS = [(droplets, way) for droplets in FLEETS for way in WAYS]
SECTION = Section(
    "What two exporters cost",
    planned=[f"| {_name(*one)} |" for one in _COSTS],
    jobs=[partial(costs, *one) for one in _COSTS],
    tell=_told,
)
