"""Weeks in the life of an account: whatever happens, nothing is lost and nothing invented.

A failure is told as the steps that led to it.
"""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from hypothesis import Phase, event, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.fleet.history import EARLY
from exporter.fleet.model import Droplet
from exporter.fleet.state import Reason
from exporter.metrics.exposition import render
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.reliability.section import Section, Told, row, table
from tests.support.cloud import EPOCH_WEEKDAYS, HOUR, WINDOW, Cloud, FakePlan, Fate, Machine, MemoryClient, in_memory
from tests.support.world import MONDAY, HandClock

GRACE = 4 * HOUR
SHORTEST_SLACK = GRACE + 2 * 180.0
"""Of a backup of 2 GiB, as all of them are."""
LONGEST_SLACK = GRACE + 25 * 180.0
"""Of the disk, where no backup was seen yet."""
WRONG = HOUR
"""By how much the exporter's clock is wrong at most."""
MARGIN = 3 * WRONG

which = st.integers(0, 3)
plans = st.builds(
    FakePlan,
    st.sampled_from(["daily", "daily", "weekly", "intra_daily_4h"]),
    st.sampled_from([0, 4, 20]),
    st.sampled_from(EPOCH_WEEKDAYS),
)


@dataclass(slots=True)
class Seen:
    """What the exporter could know of a Droplet, and what it cannot."""

    changed_at: float = 0.0
    """When the policy last changed."""
    change_unseen: bool = False
    policy_known: bool = False
    excused: int = -1
    """Until more backups than these were seen nothing is asked of the verdict: the contract admits that it may err."""
    counted: int = 0
    """How many backups had been made when the exporter last could see them all."""
    first_seen: float | None = None
    """By the exporter's clock, as are the next two."""
    watched_since: float | None = None
    """From when on every miss must be shown."""
    read_at: float | None = None
    """When its own list was last read."""
    made_by_then: float = float("-inf")
    """The newest backup that had been made by then."""
    off_at: float = float("-inf")
    """When backups were last seen to be off, which forgives all misses before."""
    shown: int = 0
    """How many misses were shown by the last poll; they stand until another backup is made."""
    made_then: int = 0
    """How many backups had been made by the last poll that could see them all."""
    absences: int = 0
    """Complete listings since it was destroyed."""


@dataclass(slots=True)
class Lived:
    """How much was gone through."""

    accounts: int = 0
    weeks: float = 0.0
    polls: int = 0


class Weeks(RuleBasedStateMachine):
    lived = Lived()

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        # In memory, for a disk would take its time over each of thousands of writes.
        memory = Path("/dev/shm")
        self.directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
        self.truth, self.clock = HandClock(), HandClock()
        self.truth.set(MONDAY)
        self.clock.set(MONDAY)
        self.cloud = Cloud(self.truth)
        self.cloud.read = self.was_read
        self.machines: dict[int, Machine] = {}
        """All that ever were."""
        self.seen: dict[int, Seen] = {}
        self.skew = 0.0
        self.served: set[int] = set()
        self.counters: dict[tuple[str, frozenset[tuple[str, str]]], float] = {}
        self.poll_config = Poll(interval=HOUR)
        self.rate_limit = RateLimit()
        self.begin()

    def teardown(self) -> None:
        self.lived.weeks += (self.truth.now() - MONDAY) / (7 * 24 * HOUR)
        self.loop.run_until_complete(self.poller.close())
        self.store.close()
        self.loop.close()
        shutil.rmtree(self.directory)

    def begin(self, successor_of: Poller | None = None) -> None:
        if successor_of is None:
            self.store = StateFile(self.directory / "state")
            self.telemetry = Telemetry("0", process=False)
            self.counters.clear()
        config = Config(accounts=(), poll=self.poll_config, rate_limit=self.rate_limit, grace=GRACE)
        poller = Poller(
            Account("prod", TokenSource()),
            config,
            self.telemetry.account("prod", self.poll_config.interval),
            self.clock,
            store=self.store,
            successor_of=successor_of,
        )
        self.poller = in_memory(poller, MemoryClient(self.cloud, self.clock))

    # What happens

    @initialize(fleet=st.lists(plans, min_size=1, max_size=3), sparing=st.booleans())
    def an_account(self, fleet: list[FakePlan], sparing: bool) -> None:
        for plan in fleet:
            self.droplet_created(plan)
        if sparing:
            self.rate_limit = RateLimit(per_hour=40)
            self.exporter_restarts(keeps_state=False)
        self.poll()

    @rule(days=st.sampled_from([1, 2, 3, 9]), every=st.sampled_from([2, 4, 7]))
    def days_pass(self, days: int, every: int) -> None:
        for _ in range(days * 24 // every):
            self.pass_time(every * HOUR)
            self.poll()

    @rule()
    def a_week_passes(self) -> None:
        self.days_pass(7, 8)

    @rule(hours=st.sampled_from([0.1, 1, 5, 24, 72]))
    def time_passes_without_a_poll(self, hours: float) -> None:
        self.pass_time(hours * HOUR)

    @rule(which=which)
    def window_comes_due(self, which: int) -> None:
        """A poll at the very second."""
        machine = self.machine(which)
        if machine is not None:
            slack = WINDOW + (SHORTEST_SLACK if machine.ever else LONGEST_SLACK)
            now = self.clock.now()
            start = machine.plan.start_at(now - slack) + machine.plan.interval
            self.pass_time(start + slack - now)
        self.poll()

    @precondition(lambda self: len(self.cloud.machines) < 4)
    @rule(plan=plans)
    def droplet_created(self, plan: FakePlan) -> None:
        droplet_id = len(self.machines) + 1
        self.machines[droplet_id] = self.cloud.add(Machine(droplet_id, self.truth.now(), plan))
        self.seen[droplet_id] = Seen()
        self.window_under_way(self.machines[droplet_id])

    @rule(which=which)
    def droplet_destroyed(self, which: int) -> None:
        machine = self.machine(which)
        if machine is not None:
            del self.cloud.machines[machine.id]

    @rule(which=which, windows=st.integers(1, 5))
    def backups_fail(self, which: int, windows: int) -> None:
        machine = self.machine(which)
        if machine is not None:
            machine.fates, machine.turn = (Fate(made=False),) * windows + (Fate(),) * 99, 0

    @rule(which=which, hours=st.sampled_from([-0.1, 3.9, 8, 9, 15]))
    def backups_come_late(self, which: int, hours: float) -> None:
        machine = self.machine(which)
        if machine is not None:
            machine.fates, machine.turn = (Fate(offset=hours * HOUR), Fate()), 0

    @rule(which=which, plan=plans)
    def plan_changes(self, which: int, plan: FakePlan) -> None:
        machine = self.machine(which)
        if machine is not None:
            same, machine.plan = machine.plan.same_windows(plan), plan
            if not same:
                self.policy_changed(machine)

    @rule(which=which)
    def backups_switched_off_or_on(self, which: int) -> None:
        machine = self.machine(which)
        if machine is not None:
            machine.enabled = not machine.enabled
            machine.coming.clear()
            self.policy_changed(machine)

    @rule(which=which)
    def newest_becomes_a_snapshot(self, which: int) -> None:
        machine = self.machine(which)
        if machine is not None:
            self.cloud.snapshot(machine, machine.newest)

    @rule(fault=st.sampled_from(["all", "droplets", "policies", "backups", "images", "droplet", "token"]))
    def api_fails(self, fault: str) -> None:
        self.cloud.failing.add(fault)

    @rule(which=which)
    def one_list_fails(self, which: int) -> None:
        machine = self.machine(which)
        if machine is not None:
            self.cloud.failing.add(f"backups {machine.id}")

    @rule()
    def api_works(self) -> None:
        self.cloud.failing.clear()
        self.cloud.lag = 0
        self.poll()

    @rule(polls=st.integers(1, 9))
    def ids_lag(self, polls: int) -> None:
        self.cloud.lag = polls

    @rule(polls=st.integers(1, 3))
    def token_is_of_another_team(self, polls: int) -> None:
        """Which has no Droplets."""
        ours, self.cloud.machines = self.cloud.machines, {}
        for _ in range(polls):
            for seen in self.seen.values():
                # Its policy is not known any more, so its misses are not shown.
                seen.shown = 0
            self.pass_time(HOUR)
            for machine in ours.values():
                machine.live(self.truth.now(), self.cloud.next_id)
            self.poll()
        self.cloud.machines = ours

    @rule(minutes=st.sampled_from([-60, -3, 0, 3, 60]))
    def clock_steps(self, minutes: float) -> None:
        self.skew = minutes * 60
        for seen in self.seen.values():
            # What was judged in times yet to come is judged anew.
            seen.shown = 0
        self.pass_time(0.0)

    @rule(keeps_state=st.booleans())
    def exporter_restarts(self, keeps_state: bool) -> None:
        self.loop.run_until_complete(self.poller.close())
        self.store.close()
        if not keeps_state:
            (self.directory / "state").unlink(missing_ok=True)
            for droplet_id in self.seen:
                self.forgotten(droplet_id)
        self.served.clear()
        self.begin()

    @rule(verify_every=st.sampled_from([4, 24]))
    def configuration_reloaded(self, verify_every: int) -> None:
        self.poll_config = Poll(interval=HOUR, verify_every=verify_every * HOUR)
        old = self.poller
        self.begin(successor_of=old)
        self.loop.run_until_complete(old.close())

    # How it happens

    def machine(self, which: int) -> Machine | None:
        everyone = list(self.cloud.machines.values())
        return everyone[which % len(everyone)] if everyone else None

    def pass_time(self, seconds: float) -> None:
        self.truth.set(self.truth.now() + max(0.0, seconds))
        self.clock.set(self.truth.now() + self.skew)
        self.cloud.live()

    def policy_changed(self, machine: Machine) -> None:
        seen = self.seen[machine.id]
        if seen.change_unseen:
            # A change and back again between two looks is none to the exporter.
            seen.excused = len(machine.ever)
        seen.changed_at, seen.change_unseen = self.truth.now(), True
        self.window_under_way(machine)

    def window_under_way(self, machine: Machine) -> None:
        """A clock that falls back makes what the exporter saw lately that much older: a window may seem to be later."""
        start = machine.plan.start_at(self.truth.now())
        if start >= self.truth.now() - WRONG:
            machine.lived.append(start)

    def forgotten(self, droplet_id: int) -> None:
        """The exporter knows nothing of the Droplet any more."""
        seen = self.seen[droplet_id]
        seen.first_seen = seen.watched_since = seen.read_at = None
        seen.policy_known, seen.shown = False, 0

    def policy_seen_anew(self, droplet_id: int) -> None:
        """What was before is only guessed: by its newest backup, and by the schedule as it is now."""
        seen, machine = self.seen[droplet_id], self.machines[droplet_id]
        newest = max(machine.ever, key=lambda backup: backup.created_at, default=None)
        if newest is not None and (newest.created_at < seen.changed_at or newest.id not in machine.made):
            seen.excused = len(machine.ever)

    def was_read(self, droplet_id: int) -> None:
        seen = self.seen[droplet_id]
        seen.read_at = self.clock.now()
        seen.made_by_then = newest_made(self.machines[droplet_id])
        seen.counted = len(self.machines[droplet_id].ever)

    def poll(self) -> None:
        self.cloud.live()
        self.cloud.before_poll()
        with capture_logs():
            result = self.loop.run_until_complete(self.poller.poll())
        works = self.cloud.failing <= {"images", "droplet"}
        listed = self.cloud.failing.isdisjoint({"all", "token", "droplets", "policies"})
        policies_listed = self.cloud.failing.isdisjoint({"all", "token", "policies"})
        now = self.clock.now()
        self.check_membership(listed, policies_listed)
        for droplet in self.poller.fleet.droplets:
            machine, seen = self.machines[droplet.id], self.seen[droplet.id]
            if seen.watched_since is None:
                seen.first_seen = seen.watched_since = now
            if policies_listed and droplet.id in self.cloud.machines:
                if not seen.policy_known:
                    self.policy_seen_anew(droplet.id)
                    seen.first_seen = seen.watched_since = now
                if seen.change_unseen:
                    seen.watched_since = now
                seen.policy_known, seen.change_unseen = True, False
                if not machine.enabled:
                    seen.off_at, seen.shown = now, 0
            elif seen.change_unseen:
                # It was judged by settings that stand no more.
                seen.excused = len(machine.ever)
            if works and not self.cloud.lag:
                seen.counted = len(machine.ever)
            if seen.policy_known and not seen.change_unseen and seen.counted > seen.excused:
                self.check_nothing_invented(droplet, machine, seen)
                self.check_nothing_forgiven(droplet, machine, seen)
                if works and droplet.id in self.cloud.machines:
                    self.check_nothing_missed(droplet, machine, seen)
        if works:
            assert result == "success"
        assert not [problem for problem in self.poller.status.problems if "bug" in problem]
        self.lived.polls += 1

    # What must hold

    def check_membership(self, listed: bool, policies_listed: bool) -> None:
        """Series of what was destroyed end with the second listing, and no others end."""
        served = {droplet.id for droplet in self.poller.fleet.droplets}
        for droplet_id, seen in self.seen.items():
            there = droplet_id in self.cloud.machines
            seen.absences = 0 if there else seen.absences + listed
            if there and (policies_listed or droplet_id in self.served):
                assert droplet_id in served, f"droplet {droplet_id} is lost"
            if seen.absences == 1 and droplet_id in self.served and self.cloud.fails("droplet"):
                assert droplet_id in served, f"droplet {droplet_id} is gone by one listing alone"
            if seen.absences >= 2:
                assert droplet_id not in served, f"droplet {droplet_id} is a ghost"
            if seen.absences >= 2 or (listed and not there and not self.cloud.fails("droplet")):
                self.forgotten(droplet_id)
        self.served = served

    def check_nothing_invented(self, droplet: Droplet, machine: Machine, seen: Seen) -> None:
        """No more windows are missed than were due and had brought no backup when the list was last read."""
        shown = droplet.verdict.missed_windows or 0
        allowed = 0
        if seen.read_at is not None:
            due = min(seen.read_at, self.clock.now()) - WINDOW - SHORTEST_SLACK
            since = max(seen.made_by_then + EARLY, seen.off_at - WRONG)
            allowed = sum(since < start <= due for start in machine.lived)
        assert shown <= allowed, f"droplet {droplet.id}: {shown} missed, and no more than {allowed} are"

    def check_nothing_forgiven(self, droplet: Droplet, machine: Machine, seen: Seen) -> None:
        """Misses stand until a backup is made, whatever becomes of settings, listings and the exporter."""
        shown = droplet.verdict.missed_windows or 0
        if len(machine.ever) == seen.made_then:
            assert shown >= seen.shown, f"droplet {droplet.id}: {seen.shown} missed, and then {shown}"
        seen.shown = shown
        if seen.counted == len(machine.ever):
            seen.made_then = seen.counted

    def check_nothing_missed(self, droplet: Droplet, machine: Machine, seen: Seen) -> None:
        """Every window that was due and had brought no backup is missed, unless it began before the first look."""
        reason, now = droplet.verdict.reason, self.clock.now()
        assert reason in (None, Reason.FIRST_LOOK), f"droplet {droplet.id}: {reason}"
        if machine.enabled and seen.watched_since is not None:
            since = max(seen.watched_since, seen.changed_at) + MARGIN
            demanded = missed(machine, newest_made(machine), since, now, LONGEST_SLACK)
            shown = droplet.verdict.missed_windows
            assert shown is not None or reason is not None
            shown = shown or 0
            assert shown >= demanded, f"droplet {droplet.id}: {shown} missed, and at least {demanded} are"
            event(f"misses that had to be shown: {demanded if demanded < 3 else 'many'}")
        if reason is Reason.FIRST_LOOK:
            assert seen.first_seen is not None
            assert machine.plan.start_at(now - WINDOW - LONGEST_SLACK) <= seen.first_seen + WRONG, "first seen long ago"
            made, due = newest_made(machine), machine.plan.start_at(now - WINDOW - SHORTEST_SLACK)
            assert made + EARLY < due, "the last window that is due has its backup"

    @invariant()
    def figures_make_sense(self) -> None:
        """No value is ever negative or not a number, and counters only grow."""
        text = render([self.poller.fleet], self.clock.now())
        assert b"} -" not in text
        assert b"nan" not in text.lower()
        for family in self.telemetry.registry.collect():
            if family.type == "counter":
                for sample in family.samples:
                    series = (sample.name, frozenset(sample.labels.items()))
                    assert sample.value >= self.counters.get(series, 0.0), series
                    self.counters[series] = sample.value


def newest_made(machine: Machine) -> float:
    return max((backup.created_at for backup in machine.ever), default=float("-inf"))


def missed(machine: Machine, newest: float, since: float, now: float, slack: float) -> int:
    """How many windows since that instant are due now and came after the newest backup's own."""
    answered = machine.plan.start_at(newest + EARLY) if newest > float("-inf") else newest
    starts = sorted(machine.lived)
    return max(0, bisect_right(starts, now - WINDOW - slack) - bisect_right(starts, max(since, answered)))


def live_through(accounts: int, *, shrink: bool) -> Lived:
    """So many accounts, each with its own story of weeks; raises what a story shows, told as its steps.

    `shrink`: a story that shows something is made as short as it can be, which takes minutes.
    """
    lived = Lived(accounts)

    class Story(Weeks):
        pass

    Story.lived = lived
    # Explaining a failure traces every line, which takes most of an hour before Python 3.12.
    phases = [Phase.reuse, Phase.generate, *([Phase.shrink] if shrink else [])]
    run_state_machine_as_test(
        Story, settings=settings(max_examples=accounts, stateful_step_count=40, deadline=None, phases=phases)
    )
    return lived


ACCOUNTS, SHARES = 120, 8
"""Whose weeks are lived through, and in how many parts, so that all processors are busy."""


def _told(found: Sequence[Lived]) -> Told:
    rows = [
        ("accounts, each with a story of its own", f"{sum(one.accounts for one in found)}"),
        ("weeks of random events simulated", f"{sum(one.weeks for one in found):,.0f}"),
        ("polls in them", f"{sum(one.polls for one in found):,}"),
        ("misses invented, forgotten or never shown; series lost or left behind", "none"),
    ]
    return Told(table(("what", "measured"), rows))


SECTION = Section(
    "Weeks of random events",
    planned=(row("accounts, each with a story of its own", f"{ACCOUNTS}"),),
    jobs=[partial(live_through, ACCOUNTS // SHARES, shrink=True)] * SHARES,
    tell=_told,
)
