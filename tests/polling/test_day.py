"""What polls cost in the long run, request by request: each count exactly."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from exporter.config.model import Poll, RateLimit
from exporter.polling.state_file import StateFile
from tests.support.day import BigAccount, BigWorld
from tests.support.world import DAY, HOUR, MONDAY

POLLS = 288
UNPACED = RateLimit(per_minute=10**6, per_hour=10**7, reserve=0.0)
NO_TURNS = Poll(verify_every=1e9)
"""Without the readings that verify, which come evenly whatever happens."""


async def test_healthy_day() -> None:
    """A day costs the listings at every poll, a reading for each new backup and one for each Droplet's turn."""
    world = BigWorld(BigAccount(30))
    await world.poll()
    asked = await world.live(DAY)
    new_backups = 20 + 1  # one of each daily Droplet, and of the weekly ones whose day it is
    assert asked == {
        "policies": POLLS,
        "droplets": 2 * POLLS,
        "backups": new_backups + 30,
        "supported_policies": 1,
    }
    assert world.results == {"success": POLLS + 1}
    assert world.overdue == 0


async def test_missed_window() -> None:
    """A missed window costs nothing before it is due, and from then on a reading at each poll until a backup comes."""
    world = BigWorld(BigAccount(1, stale=frozenset({1})), poll=NO_TURNS)
    await world.poll()
    # The window is from 04:00 to 08:00, and due four hours and three minutes a gigabyte later.
    due = (
        MONDAY + 12 * HOUR + 180 * (world.account.machines[1].made[max(world.account.machines[1].made)].fate.size or 0)
    )
    before = int((due - MONDAY) // 300)
    assert await world.live(before * 300) == {"policies": before, "droplets": 2 * before}
    assert world.overdue == 0
    assert await world.live(3 * 300) == {"policies": 3, "droplets": 6, "backups": 3}
    assert world.overdue == 1


@pytest.mark.parametrize(("count", "images"), [(200, 7), (1_000, 31)])
async def test_cold_start_with_a_sweep(count: int, images: int) -> None:
    """Where the images list the backups, a cold start costs the listings and the images' pages, at any size."""
    pages = count // 200
    world = BigWorld(BigAccount(count), rate_limit=UNPACED, poll=NO_TURNS)
    assert await world.poll() == {
        "policies": pages,
        "droplets": pages + 1,
        "supported_policies": 1,
        "images": images,
    }


async def test_cold_start_without_a_sweep() -> None:
    """Where they do not, it costs the listings, one look at the images and a reading for each Droplet."""
    world = BigWorld(BigAccount(1_000), rate_limit=UNPACED, poll=NO_TURNS, images_list_backups=False)
    assert await world.poll() == {
        "policies": 5,
        "droplets": 6,
        "supported_policies": 1,
        "images": 1,
        "backups": 1_000,
    }


async def test_restart_with_a_state_file(tmp_path: Path) -> None:
    """A restart costs a steady poll, and shows the same fleet."""
    account = BigAccount(1_000)
    with closing(StateFile(tmp_path / "state")) as store:
        world = BigWorld(account, rate_limit=UNPACED, poll=NO_TURNS, store=store)
        await world.poll()
        await world.poll(HOUR)
    before = [(droplet.id, droplet.verdict, droplet.backups) for droplet in world.poller.fleet.droplets]
    with closing(StateFile(tmp_path / "state")) as store:
        world = BigWorld(account, at=world.clock.now(), rate_limit=UNPACED, poll=NO_TURNS, store=store)
        assert await world.poll() == {"policies": 5, "droplets": 6}
    assert [(droplet.id, droplet.verdict, droplet.backups) for droplet in world.poller.fleet.droplets] == before


async def test_budget_that_is_just_enough() -> None:
    """Listings that come evenly make room for each other in the budget, so all lists are read in time."""
    # An hour takes 36 requests for the listings, 6 for new backups and 8 for turns.
    world = BigWorld(BigAccount(200), rate_limit=RateLimit(per_minute=250, per_hour=60, reserve=0.0))
    await world.live(4 * HOUR)
    world.results.clear()
    await world.live(4 * HOUR)
    assert world.results == {"success": 48}
