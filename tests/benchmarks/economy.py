"""How many requests are sent, beside those that must be and beside reading everything at every poll."""

from __future__ import annotations

import asyncio
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path

from exporter import log
from exporter.config.model import Poll, RateLimit
from exporter.polling.state_file import StateFile
from tests.support.day import BigAccount, BigWorld
from tests.support.world import HOUR

ALLOWED = 24 * 5000
"""What a token may send in a day."""
LARGE = 10_000
SIZES = (100, 300, 1_000, 3_000, LARGE, 20_000)
UNPACED = RateLimit(per_minute=10**6, per_hour=10**7, reserve=0.0)
NO_TURNS = Poll(verify_every=1e9)


@dataclass(frozen=True, slots=True)
class Count:
    """Requests: ours, those that must be, and those of reading every Droplet's list at every poll."""

    what: str
    droplets: int
    ours: int
    floor: int
    plain: int
    images: int = 0
    """Pages of the account's images."""


def listings(count: int) -> int:
    """What it takes to list so many Droplets and their policies; the GPU Droplets have a listing of their own."""
    return 2 * math.ceil(count / 200) + 1


async def polls(count: int) -> list[Count]:
    """What single polls cost."""
    account = BigAccount(count)
    images = math.ceil(len(account.images()) / 200)
    all_lists = listings(count) + count
    rows = []
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory, "state")
        with closing(StateFile(path)) as store:
            world = BigWorld(account, rate_limit=UNPACED, poll=NO_TURNS, store=store)
            asked = (await world.poll()).total()
            rows.append(Count("cold start, by the images", count, asked, listings(count) + images, all_lists))
            asked = (await world.poll()).total()
            rows.append(Count("poll with nothing new", count, asked, listings(count), all_lists))
        with closing(StateFile(path)) as store:
            world = BigWorld(account, at=world.clock.now(), rate_limit=UNPACED, poll=NO_TURNS, store=store)
            asked = (await world.poll()).total()
            rows.append(Count("restart with a state file", count, asked, listings(count), all_lists))
        for some in (10, count // 2):
            account.back_up(range(1, some + 1), world.clock.now())
            asked = (await world.poll()).total()
            floor = listings(count) + math.ceil(some / 200)
            rows.append(Count(f"poll with {some:,} new backups", count, asked, floor, all_lists, images))
    world = BigWorld(BigAccount(count), rate_limit=UNPACED, poll=NO_TURNS, images_list_backups=False)
    asked = (await world.poll()).total()
    rows.append(Count("cold start, images without backups", count, asked, all_lists, all_lists))
    return rows


async def day(count: int) -> Count:
    """What a day costs at five minutes, cold start apart; of other sizes than `LARGE` from four of its hours.

    Windows begin every four hours, evenly spread, so that each four hours of the day are like the others.
    """
    hours = 24 if count == LARGE else 4
    world = BigWorld(BigAccount(count))
    # A fleet that the budget does not let in at once is given the time.
    while (await world.poll(300))["images"] or world.results["success"] < 2:
        pass
    ids = {image.id for image in world.account.images()}
    asked = (await world.live(hours * HOUR)).total()
    new = sum(image.id not in ids for image in world.account.images())
    # Beyond LARGE the budget has little left, and one poll or another leaves a list to the next.
    assert not world.results["failure"], world.results
    assert count > LARGE or world.results["success"] == world.results.total(), world.results
    scale = 24 // hours
    floor = (listings(count) * 12 * hours + math.ceil(new / 200)) * scale
    return Count("day", count, asked * scale, floor, 288 * (listings(count) + count))


def main(sizes: Sequence[int]) -> None:
    """For a process of its own, beside other measurements: counts do not depend on who else computes."""
    log.configure("error", "logfmt")
    found = asyncio.run(polls(LARGE))
    found += [asyncio.run(day(count)) for count in sizes]
    sys.stdout.write(json.dumps([asdict(count) for count in found]))


if __name__ == "__main__":
    main([int(argument) for argument in sys.argv[1:]] or SIZES)
