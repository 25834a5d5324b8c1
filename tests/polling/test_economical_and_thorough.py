"""The economical poller agrees with one that reads every list at every poll, on random histories.

Run with `HYPOTHESIS_PROFILE=thorough` for thousands of them.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Literal

import pytest
from hypothesis import event, given, note
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.fleet.assemble import Rules
from exporter.fleet.model import Backup, Droplet
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from tests.polling.thorough import Thorough
from tests.support.cloud import (
    DAY,
    EPOCH_WEEKDAYS,
    HOUR,
    WINDOW,
    Cloud,
    FakePlan,
    Fate,
    Machine,
    Made,
    MemoryClient,
    in_memory,
)
from tests.support.world import MONDAY, HandClock

pytestmark = pytest.mark.slow  # whole days, twice over

DAILY = FakePlan()
MINUTE = 60.0
GRACE = 4 * HOUR
SPARING = RateLimit(per_hour=40)
"""So little that nothing is read on the mere chance that it changed, as with many Droplets."""


@dataclass(frozen=True)
class Step:
    """A poll: how long after the one before, and what happened first."""

    gap: float | Literal["due"]
    what: str = "nothing"
    which: int = 0
    plan: FakePlan = DAILY
    lag: int = 0


plans = st.builds(
    FakePlan,
    st.sampled_from(["daily", "daily", "weekly", "intra_daily_4h"]),
    st.sampled_from([0, 0, 4, 20]),
    st.sampled_from(EPOCH_WEEKDAYS),
)
fates = st.one_of(
    st.just(Fate()),
    st.just(Fate(made=False)),
    st.builds(
        Fate,
        offset=st.sampled_from([-10 * MINUTE, 0.0, HOUR, 4 * HOUR, 9 * HOUR, 20 * HOUR]),
        size=st.sampled_from([None, 0.0, 2.0, 100.0]),
        pending=st.sampled_from([0.0, HOUR, 3 * HOUR]),
        unsized=st.sampled_from([0.0, HOUR]),
        hidden=st.booleans(),
    ),
)
machines = st.builds(
    lambda plan, turns, age, enabled, named: Machine(
        0, MONDAY - age * DAY, plan, tuple(turns), enabled, 25.0, named, reached=MONDAY - age * DAY
    ),
    plans,
    st.lists(fates, min_size=1, max_size=6),
    st.sampled_from([0, 1, 3, 10, 40]),
    st.sampled_from([True, True, True, False]),
    st.sampled_from([True, True, False]),
)
gaps = st.sampled_from([5 * MINUTE, HOUR, HOUR, 4 * HOUR, 10 * HOUR, DAY, 3 * DAY, "due", "due"])
CHANGES = [
    *["nothing"] * 4,
    *["snapshot newest", "snapshot oldest", "plan", "switch", "destroy", "create", "no window"],
]
FAULTS = ["list fails", "all fails", "droplets fails", "policies fails", "images fails", "droplet fails", "works"]


def steps(*what: str) -> st.SearchStrategy[list[Step]]:
    return st.lists(
        st.builds(Step, gaps, st.sampled_from(what), st.integers(0, 5), plans, st.sampled_from([0, 0, 1, 2, 6, 40])),
        min_size=2,
        max_size=25,
    )


class Race:
    """Both pollers on one account."""

    def __init__(self, fleet: list[Machine], poll: Poll, rate_limit: RateLimit) -> None:
        self.clock = HandClock()
        self.clock.set(MONDAY)
        self.cloud = Cloud(self.clock)
        self.poll_config = poll
        self.sparing = rate_limit == SPARING
        self.most_missed = 0
        # An account whose listing names no ids at all is one that does not tell them: this Droplet always has one.
        self.cloud.add(Machine(0, MONDAY - DAY, FakePlan("intra_daily_4h"), reached=MONDAY - DAY))
        for number, machine in enumerate(fleet, 1):
            # Strategies may give the same value twice, and these are changed.
            turns = machine.fates
            if self.sparing:
                # Sizes that come late cost a reading more, which is not made where budget is short.
                turns = tuple(replace(fate, unsized=0.0) for fate in turns)
            self.cloud.add(replace(machine, id=number, fates=turns, made={}, coming=[], lived=[], ever=[]))
        self._next_id = len(fleet) + 1
        config = Config(accounts=(), poll=poll, rate_limit=rate_limit, grace=GRACE)
        self.economical = in_memory(
            Poller(
                Account("prod", TokenSource()),
                config,
                Telemetry("0", process=False).account("prod", poll.interval),
                self.clock,
            ),
            MemoryClient(self.cloud, self.clock),
        )
        self.thorough = Thorough(self.cloud, self.clock, Rules(grace=GRACE))

    def happens(self, step: Step) -> None:
        self.clock.set(self.clock.now() + self._gap(step))
        cloud = self.cloud
        # First the windows since the last poll, by the plans that they had.
        cloud.live()
        machine = self._machine(step)
        match step.what:
            case "lag":
                cloud.lag = step.lag
            case "works":
                cloud.failing.clear()
            case "list fails":
                cloud.failing.add(f"backups {machine.id}" if machine else "backups")
            case "create":
                cloud.add(Machine(self._next_id, cloud.now, step.plan))
                self._next_id += 1
            case "droplets fails" if self.sparing:
                # What own lists told meanwhile and the listing does not name then may be late or gone: that is read
                # at once only where budget is plenty.
                pass
            case fault if fault.endswith(" fails"):
                cloud.failing.add(fault.removesuffix(" fails"))
            case change if machine is not None:
                self._changes(machine, change, step.plan)
        cloud.before_poll()

    def _changes(self, machine: Machine, change: str, plan: FakePlan) -> None:
        match change:
            case "snapshot newest":
                self._snapshot(machine, machine.newest)
            case "snapshot oldest":
                self._snapshot(machine, machine.oldest)
            case "plan":
                machine.plan = plan
            case "switch":
                machine.enabled = not machine.enabled
            case "no window":
                machine.named = not machine.named
            case "destroy":
                del self.cloud.machines[machine.id]

    def _snapshot(self, machine: Machine, backup: Made | None) -> None:
        # The economical one does not read a list again at the very poll at which a size has come.
        if backup is not None and (not backup.fate.unsized or backup is not machine.newest):
            self.cloud.snapshot(machine, backup)

    def _machine(self, step: Step) -> Machine | None:
        everyone = [machine for machine in self.cloud.machines.values() if machine.id]
        return everyone[step.which % len(everyone)] if everyone else None

    def _gap(self, step: Step) -> float:
        if step.gap != "due":
            return step.gap
        now, machine = self.clock.now(), self._machine(step)
        if machine is None:
            return HOUR
        newest = machine.newest
        size = newest.fate.size if newest and newest.fate.size is not None else 25.0
        slack = WINDOW + GRACE + size * 3 * MINUTE
        return machine.plan.start_at(now - slack) + machine.plan.interval + slack - now

    async def poll(self) -> None:
        """Both poll; what is overdue must be so for both."""
        await self.economical.poll()
        await self.thorough.poll()
        for droplet in self.economical.fleet.droplets:
            other = self.thorough.droplets.get(droplet.id)
            if droplet.verdict.overdue:
                assert other is not None
                # What it could not read it cannot say; it must never call it on time.
                late = other.verdict.overdue is not False
                assert late, f"droplet {droplet.id} is not overdue at {self.clock.now() - MONDAY:.0f}"
            self.most_missed = max(self.most_missed, droplet.verdict.missed_windows or 0)

    def agree(self) -> None:
        """Both show the same."""
        found = {droplet.id: figures(droplet) for droplet in self.economical.fleet.droplets}
        assert found == {droplet.id: figures(droplet) for droplet in self.thorough.droplets.values()}


def figures(droplet: Droplet) -> dict[str, object]:
    backup: Backup | None = droplet.newest
    return {
        "kept": None if droplet.backups is None else len(droplet.backups),
        "newest": backup and (backup.id, backup.created_at),
        "missed_windows": droplet.verdict.missed_windows,
        "overdue": droplet.verdict.overdue,
        "reason": droplet.verdict.reason,
        "state": droplet.verdict.state,
    }


@given(
    fleet=st.lists(machines, min_size=1, max_size=6),
    history=steps(*CHANGES),
    rate_limit=st.sampled_from([SPARING, RateLimit()]),
)
def test_ids_that_do_not_lag(fleet: list[Machine], history: list[Step], rate_limit: RateLimit) -> None:
    """Where the listing's ids are never late, both pollers show the same at every poll."""

    async def run() -> None:
        race = Race(fleet, Poll(interval=HOUR), rate_limit)
        for step in [Step(0.0), *history]:
            race.happens(step)
            note(f"{race.clock.now() - MONDAY:.0f}: {step}")
            await race.poll()
            race.agree()
        event(f"missed {race.most_missed}")

    with capture_logs():
        asyncio.run(run())


@given(
    fleet=st.lists(machines, min_size=1, max_size=6),
    history=steps(*CHANGES, *FAULTS),
    rate_limit=st.sampled_from([SPARING, RateLimit()]),
)
def test_faults(fleet: list[Machine], history: list[Step], rate_limit: RateLimit) -> None:
    """Lists that fail and outages bring no alarm of their own, and both pollers agree as soon as all works again."""

    async def run() -> None:
        race = Race(fleet, Poll(interval=HOUR), rate_limit)
        for step in [Step(0.0), *history, Step(HOUR, "works")]:
            race.happens(step)
            note(f"{race.clock.now() - MONDAY:.0f}: {step}")
            await race.poll()
            if not race.cloud.failing:
                race.agree()
        event(f"missed {race.most_missed}")

    with capture_logs():
        asyncio.run(run())


@given(
    fleet=st.lists(machines, min_size=1, max_size=6),
    history=steps(*CHANGES, *FAULTS, *["lag"] * 6),
    rate_limit=st.sampled_from([SPARING, RateLimit()]),
    verify_every=st.sampled_from([4 * HOUR, DAY]),
)
def test_ids_that_lag(fleet: list[Machine], history: list[Step], rate_limit: RateLimit, verify_every: float) -> None:
    """Late ids cause no alarm; both pollers agree after the lag and `verify_every` have passed."""

    async def run() -> None:
        race = Race(fleet, Poll(interval=HOUR, verify_every=verify_every), rate_limit)
        for step in [Step(0.0), *history]:
            race.happens(step)
            note(f"{race.clock.now() - MONDAY:.0f}: {step}")
            await race.poll()
        race.cloud.lag = 0
        race.cloud.failing.clear()
        for _ in range(int(verify_every / HOUR) + 1):
            race.happens(Step(HOUR))
            await race.poll()
        race.agree()
        event(f"missed {race.most_missed}")

    with capture_logs():
        asyncio.run(run())


async def test_last_backup_of_an_account() -> None:
    """An account that names no ids any more is looked at while budget is plenty: its last backup may be gone."""
    race = Race([Machine(0, MONDAY - DAY, enabled=False)], Poll(interval=HOUR), RateLimit())
    del race.cloud.machines[0]
    machine = race.cloud.machines[1]
    machine.made[1] = Made(1, MONDAY - HOUR, Fate())
    with capture_logs():
        race.happens(Step(0.0))
        await race.poll()
        race.agree()
        machine.made.clear()
        race.happens(Step(HOUR))
        await race.poll()
    assert race.economical.fleet.droplets[0].backups == ()


async def test_id_ahead_of_the_own_list() -> None:
    """A listed id that the Droplet's own list lacks is asked for again an hour later: it may only be late there."""
    race = Race([Machine(0, MONDAY - 3 * DAY, DAILY, enabled=False)], Poll(interval=HOUR), SPARING)
    machine = race.cloud.machines[1]
    backup = Made(1, MONDAY - HOUR, Fate(offset=-HOUR))
    with capture_logs():
        machine.made[1] = backup
        race.cloud.live()
        race.cloud.before_poll()
        machine.made.clear()
        await race.economical.poll()
        assert race.economical.fleet.droplets[1].backups == ()
        machine.made[1] = backup
        for _ in range(2):
            race.happens(Step(0.6 * HOUR))
            await race.poll()
    race.agree()


async def test_reload_during_an_outage() -> None:
    """The poller of a new configuration serves what the old one knew, although it learns nothing itself."""
    race = Race([Machine(0, MONDAY - 3 * DAY, DAILY, reached=MONDAY - 3 * DAY)], Poll(interval=HOUR), RateLimit())
    with capture_logs():
        race.happens(Step(0.0))
        await race.poll()
        race.cloud.failing.add("all")
        account, telemetry = race.economical.account, Telemetry("0", process=False).account("prod", HOUR)
        config = Config(accounts=(), poll=Poll(interval=HOUR), grace=GRACE)
        heir = Poller(account, config, telemetry, race.clock, successor_of=race.economical)
        await in_memory(heir, MemoryClient(race.cloud, race.clock)).poll()
    assert heir.fleet == race.economical.fleet
