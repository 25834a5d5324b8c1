"""What a poll costs, counted at the API: each figure exactly."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.config.model import Config, Poll, RateLimit
from exporter.fleet.state import Reason
from tests.support.lookalike import Fault, Fixture, backup, disabled, policy
from tests.support.world import DAY, HOUR, MONDAY, World, add, healthy, take_backup

pytestmark = pytest.mark.slow  # whole days of large fleets

NOON = MONDAY + 12 * HOUR
NO_TURNS = Config(accounts=(), poll=Poll(verify_every=1e9))
"""Without the readings that verify, which come evenly whatever happens."""


class TestListings:
    async def test_steady_poll(self) -> None:
        """A poll with nothing new and nothing due costs only the listings."""
        async with World(healthy(400, now=NOON, days=2), at=NOON, config=NO_TURNS) as world:
            await world.poll()
            assert await world.requests(after=300) == {"policies": 2, "droplets": 3}

    async def test_expired_backup(self) -> None:
        """A backup that the listing names no longer is gone without a request."""
        account = healthy(200, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            account.droplet_list[4]["backup_ids"] = account.droplet_list[4]["backup_ids"][:-1]
            assert await world.requests(after=300) == {"policies": 1, "droplets": 2}
            assert world.samples()['kept{droplet_id="5"}'] == 6

    async def test_window_with_its_backup(self) -> None:
        """A due window whose backup the listing showed costs nothing more."""
        account = healthy(3, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            for droplet_id in (1, 2, 3):
                take_backup(account, droplet_id, MONDAY + DAY + HOUR)
            await world.poll(MONDAY + DAY + 2 * HOUR)
            assert await world.requests(MONDAY + DAY + 10 * HOUR) == {"policies": 1, "droplets": 2}
            assert world.missed(1) == 0

    async def test_overdue(self) -> None:
        """A window due without its backup costs one reading to prove it, and one at each poll while it lasts."""
        account = healthy(3, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            for droplet_id in (2, 3):
                take_backup(account, droplet_id, MONDAY + DAY + HOUR)
            await world.poll(MONDAY + DAY + 2 * HOUR)
            for later in (0, 300, 300):
                when = MONDAY + DAY + 10 * HOUR if not later else world.clock.now() + later
                assert await world.requests(when) == {"policies": 1, "droplets": 2, "backups": 1}
                assert world.missed(1) == 1


class TestColdStart:
    async def test_with_a_sweep(self) -> None:
        """Where the images list the backups, a cold start costs the listings, the images' pages and the plans."""
        async with World(healthy(400, now=NOON), at=NOON, config=NO_TURNS) as world:
            assert await world.requests() == {"policies": 2, "droplets": 3, "supported_policies": 1, "images": 14}
            assert world.samples()['kept{droplet_id="400"}'] == 7

    async def test_images_without_backups(self) -> None:
        """Where they do not, it costs one look at them and a reading for each Droplet."""
        account = healthy(400, now=NOON)
        account.image_list.clear()
        async with World(account, at=NOON, config=NO_TURNS, per_minute=None) as world:
            assert await world.requests() == {
                "policies": 2,
                "droplets": 3,
                "supported_policies": 1,
                "images": 1,
                "backups": 400,
            }
            assert world.samples()['kept{droplet_id="400"}'] == 7

    async def test_many_images_without_backups(self) -> None:
        """A sweep that shows no backup is given up in time."""
        account = healthy(400, now=NOON)
        for record in account.image_list:
            record["id"] += 10_000_000
        async with World(account, at=NOON, config=NO_TURNS, per_minute=None) as world:
            requests = await world.requests()
            assert requests["backups"] == 400
            assert requests["images"] <= 40

    async def test_pending_images(self) -> None:
        """An image that is not available yet, or has no size, is left to the Droplet's own list."""
        account = healthy(400, now=NOON)
        account.image_list[0]["status"] = "pending"
        account.image_list[7]["size_gigabytes"] = None
        async with World(account, at=NOON, config=NO_TURNS) as world:
            requests = await world.requests()
            assert (requests["images"], requests["backups"]) == (14, 2)

    async def test_sweep_then_proof(self) -> None:
        """A Droplet that a sweep shows to be behind is asked for its own list, in the same poll and not again."""
        account = healthy(100, now=NOON)
        add(account, 900, account.backup_lists[1][1:], policy(900, hour=0, next_window=MONDAY + DAY))  # type: ignore[index]
        async with World(account, at=NOON, config=NO_TURNS) as world:
            requests = await world.requests()
            assert (requests["images"], requests["backups"]) == (4, 1)
            assert world.reason(900) == Reason.FIRST_LOOK
            assert await world.requests(after=300) == {"policies": 1, "droplets": 2}


class TestChanges:
    async def test_few(self) -> None:
        """Few new backups are read from their Droplets' own lists."""
        account = healthy(400, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            for droplet_id in range(1, 6):
                take_backup(account, droplet_id, MONDAY + DAY + HOUR)
            requests = await world.requests(MONDAY + DAY + 2 * HOUR)
            assert requests == {"policies": 2, "droplets": 3, "backups": 5}

    async def test_many(self) -> None:
        """Many are read by one sweep."""
        account = healthy(400, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            for droplet_id in range(1, 101):
                take_backup(account, droplet_id, MONDAY + DAY + HOUR)
            requests = await world.requests(MONDAY + DAY + 2 * HOUR)
            assert requests == {"policies": 2, "droplets": 3, "images": 15}
            assert world.missed(100) == 0
            assert world.samples()['kept{droplet_id="100"}'] == 8

    async def test_sweep_fails(self) -> None:
        """A sweep that fails is made good by the Droplets' own lists."""
        account = healthy(100, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            world.api.faults.append(Fault("images", status=403))
            requests = await world.requests()
            assert requests["backups"] == 100
            assert world.samples()['kept{droplet_id="100"}'] == 7

    async def test_phantom_id(self) -> None:
        """An id that the listing names and the Droplet's own list denies is not asked for at every poll."""
        account = healthy(3, now=NOON)
        account.droplet_list[0]["backup_ids"] = [*account.droplet_list[0]["backup_ids"], 424242]
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            assert await world.requests(after=300) == {"policies": 1, "droplets": 2}
            assert world.samples()['kept{droplet_id="1"}'] == 7


class TestVerification:
    async def test_every_list_in_its_turn(self) -> None:
        """Each Droplet's own list is read once in `verify_every`, about as many at each poll."""
        account = healthy(48, now=NOON)
        for record in account.policy_map.values():
            record["backup_policy"]["plan"] = "one that has no windows"
        config = Config(accounts=(), poll=Poll(interval=3600.0, verify_every=25 * HOUR))
        async with World(account, at=NOON, config=config) as world:
            await world.poll()
            read = [(await world.requests(after=HOUR)).get("backups", 0) for _ in range(24)]
            assert sum(read) == 48
            assert max(read) <= 4


class TestRestart:
    async def test_costs_a_steady_poll(self, tmp_path: Path) -> None:
        """With a state file a restart costs only the listings, and no verdict changes."""
        account = healthy(400, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS, state_file=tmp_path / "state") as world:
            await world.poll()
            for droplet_id in range(1, 399):
                take_backup(account, droplet_id, MONDAY + DAY + HOUR)
            await world.poll(MONDAY + DAY + 10 * HOUR)
            before = {droplet.id: droplet.verdict for droplet in world.poller.fleet.droplets}
            assert world.missed(399) == 1
            await world.restart()
            requests = await world.requests(after=300)
            assert requests == {"policies": 2, "droplets": 3, "backups": 2}
            assert {droplet.id: droplet.verdict for droplet in world.poller.fleet.droplets} == before


class TestUnsureLists:
    async def test_read_while_budget_is_plenty(self) -> None:
        """If the listing shows no ids, every list is read at each poll while the budget is plenty."""
        account = healthy(3, now=NOON)
        for record in account.droplet_list:
            record["backup_ids"] = []
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            assert (await world.requests(after=300))["backups"] == 3

    async def test_left_alone_otherwise(self) -> None:
        """A poll spends at most a fortieth of the spare budget on them, and reads the longest unread first."""
        account = healthy(90, now=NOON, days=1)
        for record in account.droplet_list:
            record["backup_ids"] = []
        config = Config(accounts=(), poll=Poll(verify_every=1e9), rate_limit=RateLimit(per_hour=1500))
        async with World(account, at=NOON, config=config) as world:
            await world.poll()
            read = [(await world.requests(after=300))["backups"] for _ in range(4)]
            assert all(0 < count <= 1200 // 40 for count in read)

    async def test_idle_lists(self) -> None:
        """If the listing shows no ids, one poll also reads the lists of Droplets without enabled backups."""
        account = Fixture()
        for droplet_id in range(1, 31):
            add(account, droplet_id, [backup(droplet_id, MONDAY)], disabled(droplet_id))
            account.droplet_list[-1]["backup_ids"] = []
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            kept = [value for name, value in world.samples().items() if name.startswith("kept{")]
            assert kept == [1.0] * 30

    async def test_none_by_the_listing(self) -> None:
        """That a Droplet with enabled backups has none is not left to a listing that may lag: its list is read once."""
        account = healthy(3, now=NOON)
        account.droplet_list[1]["backup_ids"] = []
        async with World(account, at=NOON, config=NO_TURNS) as world:
            await world.poll()
            assert world.samples()['kept{droplet_id="2"}'] == 7

    async def test_really_none(self) -> None:
        """Where it has none indeed, it is not read again."""
        account = healthy(3, now=NOON)
        add(account, 9, [], policy(9, hour=0, next_window=MONDAY + DAY))
        async with World(account, at=NOON, config=NO_TURNS) as world:
            assert (await world.requests())["backups"] == 1
            assert await world.requests(after=300) == {"policies": 1, "droplets": 2}
            assert world.samples()['kept{droplet_id="9"}'] == 0
