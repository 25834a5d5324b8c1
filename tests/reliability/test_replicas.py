"""Two exporters of one account, which know nothing of each other."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import TracebackType
from typing import Self

from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.fleet.state import Reason
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.reliability.replicas import cost
from tests.support.cloud import EPOCH_WEEKDAYS, Cloud, FakePlan, Fate, Machine, MemoryClient, in_memory
from tests.support.lookalike import Fixture
from tests.support.world import DAY, HOUR, MONDAY, HandClock, World, healthy, take_backup

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


plans = st.builds(
    FakePlan,
    st.sampled_from(["daily", "weekly", "intra_daily_4h"]),
    st.sampled_from([0, 4, 20]),
    st.sampled_from(EPOCH_WEEKDAYS),
)
fates = st.builds(
    Fate,
    made=st.booleans(),
    offset=st.sampled_from([-0.1 * HOUR, HOUR, 3.9 * HOUR, 9 * HOUR]),
    pending=st.sampled_from([0.0, 2 * HOUR]),
    unsized=st.sampled_from([0.0, 2 * HOUR]),
    hidden=st.booleans(),
)


def _nothing(cloud: Cloud, machine: Machine) -> None:
    pass


def _snapshot(cloud: Cloud, machine: Machine) -> None:
    cloud.snapshot(machine, machine.newest)


def _switch(cloud: Cloud, machine: Machine) -> None:
    machine.enabled = not machine.enabled
    machine.coming.clear()


def _change_hour(cloud: Cloud, machine: Machine) -> None:
    machine.plan = FakePlan(machine.plan.name, (machine.plan.hour + 8) % 24, machine.plan.weekday)


def _fail(*endpoints: str) -> Callable[[Cloud, Machine], None]:
    return lambda cloud, _: cloud.failing.update(endpoints)


def _heal(cloud: Cloud, machine: Machine) -> None:
    cloud.failing.clear()


def _lag(cloud: Cloud, machine: Machine) -> None:
    cloud.lag = 3 - cloud.lag


events = st.sampled_from(
    [
        *[_nothing] * 6,
        *[_snapshot, _switch, _change_hour, _lag],
        *[_fail("all"), _fail("backups"), _fail("policies"), _heal, _heal, _heal],
    ]
)
steps = st.lists(
    st.tuples(st.sampled_from([0.5, 4, 8, 24, 72]), events, st.sampled_from([False, False, True])),
    min_size=5,
    max_size=40,
)


@given(plan=plans, made=st.lists(fates, min_size=1, max_size=5), steps=steps)
def test_one_that_is_restarted_cold_invents_nothing(
    plan: FakePlan, made: list[Fate], steps: list[tuple[float, Callable[[Cloud, Machine], None], bool]]
) -> None:
    """Whenever one of two exporters is restarted without its state, it never says more misses than the other."""
    clock = HandClock()
    clock.set(MONDAY)
    cloud = Cloud(clock)
    machine = cloud.add(Machine(1, MONDAY - 30 * DAY, plan, tuple(made), disk=2.0))

    def started() -> Poller:
        config = Config(accounts=(), poll=Poll(interval=HOUR))
        telemetry = Telemetry("0", process=False).account("prod", HOUR)
        poller = Poller(Account("prod", TokenSource()), config, telemetry, clock, store=StateFile(None))
        return in_memory(poller, MemoryClient(cloud, clock))

    def missed(poller: Poller) -> int:
        loop.run_until_complete(poller.poll())
        return sum(one.verdict.missed_windows or 0 for one in poller.fleet.droplets)

    loop = asyncio.new_event_loop()
    lasting, restarted = started(), started()
    with capture_logs():
        for hours, event, restarts in steps:
            clock.set(clock.now() + hours * HOUR)
            event(cloud, machine)
            cloud.live()
            cloud.before_poll()
            if restarts:
                loop.run_until_complete(restarted.close())
                restarted = started()
            alone = missed(lasting)
            assert missed(restarted) <= alone
        loop.run_until_complete(lasting.close())
        loop.run_until_complete(restarted.close())
    loop.close()
