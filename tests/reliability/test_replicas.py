"""Two exporters of one account, which know nothing of each other."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from exporter.fleet.state import Reason
from tests.reliability.replicas import cost
from tests.support.lookalike import Fixture
from tests.support.world import DAY, HOUR, MONDAY, World, healthy, take_backup

NOON = MONDAY + 12 * HOUR


class Replica(World):
    """Another exporter that asks the same API by the same clock."""

    def __init__(self, first: World) -> None:
        super().__init__(first.account, at=first.clock.now())
        self.api, self.clock = first.api, first.clock

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.poller.close()
        self.store.close()


def of_droplets(world: World) -> dict[str, float]:
    """What is served of the fleet, but for when it was read."""
    return {
        name: value for name, value in world.samples().items() if not name.startswith(("exporter_", "refreshed_timest"))
    }


async def test_replicas_agree() -> None:
    """One that was just started serves what the other does, but for a miss of before, which it cannot judge."""
    account: Fixture = healthy(20, now=NOON)
    async with World(account, at=NOON) as old:
        await old.poll()
        for droplet_id in range(2, 21):
            take_backup(account, droplet_id, MONDAY + DAY + HOUR)
        await old.poll(MONDAY + DAY + 3 * HOUR)
        await old.poll(MONDAY + DAY + 10 * HOUR)
        async with Replica(old) as new:
            await new.poll()
            ours, theirs = of_droplets(new), of_droplets(old)
            differing = {name for name in ours.keys() | theirs.keys() if ours.get(name) != theirs.get(name)}
            assert {name for name in differing if 'droplet_id="1"' not in name} == {
                'unjudged_droplets{reason="first-look"}'
            }
            assert (old.missed(1), new.missed(1), new.reason(1)) == (1, None, Reason.FIRST_LOOK)
            assert new.missed(2) == 0


async def test_replicas_cost_twice() -> None:
    """Two ask twice what one asks, at their polls and for new backups; the token's rest is what both are told."""
    account: Fixture = healthy(20, now=NOON)
    async with World(account, at=NOON) as one, Replica(one) as other:
        costs = []
        for world in (one, other):
            one.api.forget()
            await world.poll()
            await world.poll(after=300)
            costs.append(one.api.count())
        assert costs[0] == costs[1]
        left = "exporter_api_rate_limit_remaining{}"
        assert one.samples()[left] - other.samples()[left] == sum(costs[1].values())
        assert other.samples()[left] == 5000 - sum(sum(cost.values()) for cost in costs)


async def test_replicas_in_the_long_run() -> None:
    """Two ask twice what one does for hours on end; on one token each is told what the other has spent."""
    one, two, on_one = await cost(200, 1), await cost(200, 2, one_token=False), await cost(200, 2)
    # 36 for the listings, some 13 for new backups and turns, which fall into the four hours of one or just after.
    assert one.an_hour == 48.75
    assert two.an_hour == on_one.an_hour == 97.5
    assert (one.least, two.least, on_one.least) == (4943, 4943, 4886)
