"""Weeks of an account under one condition at a time, beside the truth: for every window, whether a backup was made.

The truth is drawn first, and the API's answers are derived from it. The real Poller polls them in simulated time. What
it says of each Droplet is compared with the truth after every poll.
"""

from __future__ import annotations

import asyncio
import math
import random
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path

from msgspec import structs
from structlog.testing import capture_logs

from exporter.clock import Clock
from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.digitalocean.client import ImagePage
from exporter.digitalocean.errors import ApiError
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import BackupRecord, DropletRecord, NamedWindow, PolicyRecord
from exporter.fleet.model import Droplet
from exporter.fleet.state import State
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.reliability.section import Section, Told, row, table
from tests.support.api_records import image_record
from tests.support.cloud import EPOCH_WEEKDAYS, Cloud, FakePlan, Fate, Machine, MemoryClient, in_memory
from tests.support.world import DAY, HOUR, MONDAY, HandClock

WEEK = 7 * DAY
MINUTE = 60.0
WINDOW = 4 * HOUR
GRACE = 4 * HOUR
LONGEST_SLACK = GRACE + 25 * 3 * MINUTE
"""Of the disk of 25 GiB, where no backup was seen yet."""
DROPLETS = 16
"""Of each simulated account."""
WEEKS = 4
EVERY = 30 * MINUTE
FATES = 200
"""More than any Droplet has windows."""
FAILING = 0.12
"""The share of windows whose backup fails."""
CHANCE = 0.004
"""The share of polls at which something happens to a Droplet, where a condition is of such events."""


UNTOLD = PolicyRecord()
"""Stands in for a record that the listing lacks."""


class TrueMachine(Machine):
    """A Droplet that remembers what became of each of its windows, and whose policy may be told oddly."""

    made_at: dict[float, float | None]
    """The instant at which each window's backup was made, by the window's start."""
    settled_at: float
    """From when on, with certainty, the exporter knows the settings: a window that starts later counts."""
    looked_at: float
    """From when on the exporter knows the Droplet: what was missed before is no miss that must be shown."""
    tells: Callable[[PolicyRecord, float], PolicyRecord | None]
    listed_after: float
    """How long after its creation a backup is in the own list."""
    snapshots: list[int]
    """Those of its backups that became snapshots."""
    phantoms: tuple[int, ...]
    """Ids that the listing names and that are no backups."""

    def live(self, now: float, next_id: Iterable[int]) -> None:
        turn = len(self.lived)
        fates, first = self.fates, self.turn
        super().live(now, next_id)  # type: ignore[arg-type]
        for number, start in enumerate(self.lived[turn:]):
            fate = fates[(first + number) % len(fates)]
            self.made_at[start] = start + fate.offset if fate.made else None

    def policy(self, now: float) -> PolicyRecord:
        told = self.tells(super().policy(now), now)
        return UNTOLD if told is None else told


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportersClock(Clock):
    """The exporter's own clock, which may be wrong."""

    scene: Scene

    def now(self) -> float:
        return self.scene.clock.now() + self.scene.skew

    async def sleep(self, seconds: float) -> None:
        await self.scene.clock.sleep(seconds)


class TrueClient(MemoryClient):
    """The client of such an account."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(scene.cloud, ExportersClock(scene=scene))
        self.scene = scene

    def _error(self, endpoint: str, droplet_id: int | None = None) -> ApiError | None:
        self.http.clock_skew = self.scene.clock.now() - self.our_clock.now()
        if self.scene.answers_after:
            self.scene.clock.set(self.scene.clock.now() + self.scene.answers_after)
            self.cloud.live()
        return super()._error(endpoint, droplet_id)

    def _droplet(self, machine: Machine) -> DropletRecord:
        told = super()._droplet(machine)
        assert isinstance(machine, TrueMachine)
        return structs.replace(
            told, backup_ids=(*(told.backup_ids or ()), *machine.phantoms), snapshot_ids=list(machine.snapshots)
        )

    async def images(self, number: int, *, keep: int = 0) -> ImagePage:
        page = await super().images(number, keep=keep)
        if self.scene.images_show_phantoms:
            made = {one: image_record(one, self.cloud.now - DAY, 2.0) for one in self._phantoms()}
            page = ImagePage({**page.records, **made}, page.pages)
        return page

    def _phantoms(self) -> Iterable[int]:
        return (phantom for machine in self.scene.machines for phantom in machine.phantoms)

    async def policies(self, *, keep: int = 0) -> Pages[PolicyRecord]:
        pages = await super().policies(keep=keep)
        told = {droplet_id: one for droplet_id, one in pages.records.items() if one is not UNTOLD}
        return Pages(pages.started_at, told, total=len(told), error=pages.error)

    async def backups(self, droplet_id: int, *, keep: int = 0) -> Pages[BackupRecord]:
        pages = await super().backups(droplet_id, keep=keep)
        machine = self.cloud.machines.get(droplet_id)
        if not isinstance(machine, TrueMachine) or pages.error is not None:
            return pages
        shown = {
            backup_id: one
            for backup_id, one in pages.records.items()
            if one.created_at.timestamp() + machine.listed_after <= self.cloud.now
        }
        return Pages(pages.started_at, shown, total=len(shown))


@dataclass
class Tally:
    """What came of one condition."""

    droplet_weeks: float = 0.0
    windows: int = 0
    misses: int = 0
    """Windows that brought no backup and stood so until they were due; each must be shown."""
    false_alarms: int = 0
    """Windows that were shown as missed and were not, or were not windows at all."""
    never_shown: int = 0
    never_shown_hours: float = 0.0
    """How long these stood, due, before a later backup was made."""
    delays: list[float] = field(default_factory=list)
    """From the end of each missed window until it was shown, in seconds."""
    protected_hours: float = 0.0
    """Droplet-hours in which a miss that was due was called protected, though the own list could be read."""
    unjudged_hours: float = 0.0
    examples: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        self.droplet_weeks += other.droplet_weeks
        self.windows += other.windows
        self.misses += other.misses
        self.false_alarms += other.false_alarms
        self.never_shown += other.never_shown
        self.never_shown_hours += other.never_shown_hours
        self.delays += other.delays
        self.protected_hours += other.protected_hours
        self.unjudged_hours += other.unjudged_hours
        self.examples += other.examples


class Scene:
    """An account under a condition, the exporters that watch it, and the truth."""

    def __init__(self, name: str, seed: int) -> None:
        self.dice = random.Random(f"{name} {seed}")
        self.clock = HandClock()
        self.clock.set(MONDAY)
        self.cloud = Cloud(self.clock)
        self.rate_limit = RateLimit()
        self.every = EVERY
        self.exporters = 1
        self.keeps_state = False
        self.readable = True
        """Whether the exporter could learn all that it needs at this poll."""
        self.fails_for = 0
        """Polls until an endpoint that fails works again."""
        self.skew = 0.0
        """By how much the exporter's clock is ahead of the API's."""
        self.answers_after = 0.0
        """Seconds that each request takes."""
        self.images_show_phantoms = False
        self.machines: list[TrueMachine] = []
        for number in range(1, DROPLETS + 1):
            self.add(number)
        self.fates()

    def add(self, number: int) -> TrueMachine:
        dice = self.dice
        name = dice.choice(["daily", "daily", "daily", "weekly", "intra_daily_4h"])
        plan = FakePlan(
            name, 0 if name == "intra_daily_4h" else dice.choice([0, 4, 8, 20]), dice.choice(EPOCH_WEEKDAYS)
        )
        machine = TrueMachine(number, MONDAY - 400 * DAY, plan)
        machine.made_at, machine.settled_at, machine.looked_at, machine.listed_after = {}, MONDAY, MONDAY, 0.0
        machine.tells = lambda policy, _: policy
        machine.snapshots, machine.phantoms = [], ()
        machine.reached = MONDAY - 5 * WEEK
        self.machines.append(machine)
        self.cloud.add(machine)
        return machine

    def fates(self, failing: float = FAILING, **over: float | bool | None) -> None:
        """Draws what becomes of the windows of all Droplets, from now on; those before the start were all made."""
        for machine in self.machines:
            machine.fates = tuple(self.fate(failing, **over) for _ in range(FATES))
            machine.turn = 0

    def fate(self, failing: float, **over: float | bool | None) -> Fate:
        usual = Fate(self.dice.random() >= failing, offset=self.dice.uniform(0, WINDOW - 20 * MINUTE))
        return replace(usual, **over)  # type: ignore[arg-type]

    def changed(self, machine: TrueMachine) -> None:
        """The owner changed its settings: windows count again from when the exporter has seen that."""
        machine.settled_at = self.clock.now() + 2 * self.every
        machine.coming.clear()
        machine.made_at = {start: at for start, at in machine.made_at.items() if at is None or at <= self.clock.now()}

    def changes_unseen(self, now: float) -> None:
        """The policies cannot be read, so what the exporter may not have seen yet it will see later."""
        for machine in self.machines:
            if machine.settled_at > now:
                machine.settled_at = now + 2 * self.every

    def live_before(self) -> None:
        """Five weeks in which every backup was made."""
        fates = [machine.fates for machine in self.machines]
        for machine in self.machines:
            machine.fates = (Fate(),)
            machine.live(MONDAY, self.cloud.next_id)
        for machine, drawn in zip(self.machines, fates, strict=True):
            machine.fates, machine.turn = drawn, 0


@dataclass(frozen=True)
class Condition:
    """What is odd, from the beginning on or before each poll."""

    name: str
    begin: Callable[[Scene], None] = lambda _: None
    poll: Callable[[Scene, Watch], None] = lambda _, __: None
    left: bool = False
    """Whether false alarms remain by contract: settings count "as far as was seen", and here they cannot be seen."""


class Watch:
    """The exporters that watch a scene."""

    def __init__(self, scene: Scene, directory: Path) -> None:
        self.scene = scene
        self.directory = directory
        self.pollers: dict[int, tuple[Poller, StateFile]] = {}
        self.loop = asyncio.new_event_loop()
        for number in range(scene.exporters):
            self.start(number)

    def start(self, number: int, *, keeps_state: bool = True) -> None:
        """Starts an exporter, or starts it again."""
        scene, path = self.scene, self.directory / f"state-{number}"
        if number in self.pollers:
            poller, store = self.pollers[number]
            self.loop.run_until_complete(poller.close())
            store.close()
        if not keeps_state:
            path.unlink(missing_ok=True)
        store = StateFile(path if self.scene.keeps_state else None)
        client = TrueClient(scene)
        poller = Poller(
            Account("prod", TokenSource()),
            Config(accounts=(), poll=Poll(interval=scene.every), rate_limit=scene.rate_limit, grace=GRACE),
            Telemetry("0", process=False).account("prod", scene.every),
            client.our_clock,
            store=store,
        )
        self.pollers[number] = in_memory(poller, client), store

    def poll(self) -> Mapping[int, list[Droplet]]:
        """What each exporter says of each Droplet after one poll of each."""
        found: dict[int, list[Droplet]] = {}
        for poller, _ in self.pollers.values():
            self.loop.run_until_complete(poller.poll())
            assert not [problem for problem in poller.status.problems if "bug" in problem], poller.status.problems
            for droplet in poller.fleet.droplets:
                found.setdefault(droplet.id, []).append(droplet)
        return found

    def close(self) -> None:
        for poller, store in self.pollers.values():
            self.loop.run_until_complete(poller.close())
            store.close()
        self.loop.close()


def try_condition(condition: Condition, seed: int, weeks: float = WEEKS) -> Tally:
    """Lives through so many weeks of one account under the condition."""
    scene = Scene(condition.name, seed)
    condition.begin(scene)
    scene.live_before()
    for one in scene.machines:
        one.looked_at = MONDAY + scene.every
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    tally = Tally()
    judge: dict[int, Comparison] = {}
    watch = Watch(scene, directory)
    try:
        with capture_logs():
            for number in range(1, math.ceil(weeks * WEEK / scene.every) + 1):
                scene.clock.set(max(scene.clock.now(), MONDAY + number * scene.every))
                scene.cloud.live()
                scene.readable = True
                condition.poll(scene, watch)
                scene.cloud.before_poll()
                begun = scene.clock.now()
                if scene.cloud.fails("policies"):
                    scene.changes_unseen(begun)
                found = watch.poll()
                for machine in scene.cloud.machines.values():
                    assert isinstance(machine, TrueMachine)
                    comparison = judge.setdefault(machine.id, Comparison(machine))
                    comparison.compare(scene, found.get(machine.id, []), begun, tally)
    finally:
        watch.close()
        shutil.rmtree(directory)
    for comparison in judge.values():
        comparison.end(tally)
    tally.droplet_weeks = weeks * len(scene.cloud.machines)
    return tally


class Comparison:
    """One Droplet's truth, and what was said of it so far."""

    def __init__(self, machine: TrueMachine) -> None:
        self.machine = machine
        self.standing: dict[float, float] = {}
        """Misses that are due and that no later backup answers, by when each was first so."""
        self.last_seen: dict[float, float] = {}
        self.shown: set[float] = set()
        self.false: set[float] = set()

    def compare(self, scene: Scene, droplets: list[Droplet], begun: float, tally: Tally) -> None:
        """Of several exporters the one that says the worst is believed, as the rules do. `begun`: when they polled."""
        machine, now, hours = self.machine, scene.clock.now(), scene.every / HOUR
        state = min((one.verdict.state for one in droplets), key=lambda one: one.rank, default=State.WAITING)
        self._compare_misses({start for one in droplets for start in one.verdict.missed or ()}, now, tally)
        kept = max((one.created_at for one in machine.made.values()), default=-math.inf)
        if state in (State.STALE, State.NEVER_TAKEN) and now - kept < 2 * machine.plan.interval + WINDOW:
            self._false(f"{state} with a backup of {kept:.0f}", now, tally)
        answered = max((at for at in machine.made_at.values() if at is not None and at <= now), default=MONDAY)
        due = [
            start
            for start, at in machine.made_at.items()
            if max(machine.settled_at, answered) < start <= begun - WINDOW - LONGEST_SLACK and (at is None or at > now)
        ]
        if scene.readable:
            for start in due:
                if start > machine.looked_at:
                    self.standing.setdefault(start, now)
                    self.last_seen[start] = now
            if due and machine.enabled and state in (State.PROTECTED, State.WAITING):
                tally.protected_hours += hours
                tally.examples.append(f"droplet {machine.id} is {state} at {now:.0f}, missed {due}")
        if state is State.UNJUDGED:
            tally.unjudged_hours += hours

    def _compare_misses(self, shown: set[float], now: float, tally: Tally) -> None:
        for start in shown:
            window = self._window(start)
            at = None if window is None else self.machine.made_at[window]
            if window is None or (at is not None and at <= now):
                self._false(f"{start:.0f} is no miss", now, tally, start)
            elif window not in self.shown:
                self.shown.add(window)
                tally.delays.append(now - window - WINDOW)

    def _false(self, what: str, now: float, tally: Tally, start: float | None = None) -> None:
        """One alarm for each window, and one for each time since the newest backup."""
        key = max(self.machine.made_at, default=0.0) if start is None else start
        if key not in self.false:
            self.false.add(key)
            tally.examples.append(f"droplet {self.machine.id} {self.machine.plan}: {what}, at {now:.0f}")

    def _window(self, start: float) -> float | None:
        """The true window of a start that is shown."""
        near = min(self.machine.made_at, key=lambda one: abs(one - start), default=None)
        return near if near is not None and abs(near - start) < self.machine.plan.interval / 2 else None

    def end(self, tally: Tally) -> None:
        tally.windows += sum(1 for start in self.machine.made_at if start > MONDAY)
        tally.misses += len(self.standing)
        tally.false_alarms += len(self.false)
        for start, since in self.standing.items():
            if start not in self.shown:
                tally.never_shown += 1
                tally.never_shown_hours += (self.last_seen[start] - since) / HOUR


# --- The conditions ---


def _policy(
    change: Callable[[Scene, TrueMachine], Callable[[PolicyRecord, float], PolicyRecord | None]],
) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        for machine in scene.machines:
            machine.tells = change(scene, machine)

    return begin


def _named(change: Callable[[Scene, TrueMachine, NamedWindow, float], NamedWindow | None]) -> Callable[[Scene], None]:
    """Windows that are named oddly."""

    def told(scene: Scene, machine: TrueMachine) -> Callable[[PolicyRecord, float], PolicyRecord]:
        def tell(policy: PolicyRecord, now: float) -> PolicyRecord:
            if policy.next_backup_window is None:
                return policy
            return structs.replace(policy, next_backup_window=change(scene, machine, policy.next_backup_window, now))

        return tell

    return _policy(told)


def _shifted(window: NamedWindow, by: float) -> NamedWindow:
    assert window.start is not None
    assert window.end is not None
    return NamedWindow(window.start + timedelta(seconds=by), window.end + timedelta(seconds=by))


def _sometimes(happens: Callable[[Scene, TrueMachine], None], chance: float = CHANCE) -> Callable[[Scene, Watch], None]:
    def poll(scene: Scene, _: Watch) -> None:
        for machine in scene.machines:
            if scene.dice.random() < chance:
                happens(scene, machine)

    return poll


def _delete_newest(scene: Scene, machine: TrueMachine) -> None:
    scene.cloud.snapshot(machine, machine.newest)


def _delete_all(scene: Scene, machine: TrueMachine) -> None:
    if scene.cloud.told.issuperset(machine.made):
        machine.made.clear()


def _turn_into_snapshot(scene: Scene, machine: TrueMachine) -> None:
    newest = machine.newest
    if newest is not None and scene.cloud.snapshot(machine, newest):
        machine.snapshots.append(newest.id)


def _replace_droplet(scene: Scene, machine: TrueMachine) -> None:
    """It is destroyed, and another is created."""
    if scene.cloud.machines.pop(machine.id, None) is not None:
        now = scene.clock.now()
        other = scene.add(len(scene.machines) + 1)
        other.since = other.reached = now
        other.fates = tuple(scene.fate(FAILING) for _ in range(FATES))
        other.settled_at = other.looked_at = now + 2 * scene.every


def _phantom_ids(scene: Scene) -> None:
    for machine in scene.machines:
        machine.phantoms = (10**10 + machine.id,)


def _phantom_images(scene: Scene) -> None:
    """The ids change every other hour, so that each is new to the exporter."""
    scene.images_show_phantoms = True


def _new_phantoms(scene: Scene, _: Watch) -> None:
    for machine in scene.machines:
        machine.phantoms = (10**10 + 1000 * int(scene.clock.now() // (2 * HOUR)) + machine.id,)


def _move_hour(scene: Scene, machine: TrueMachine) -> None:
    if machine.plan.name != "intra_daily_4h":
        _set_plan(scene, machine, replace(machine.plan, hour=scene.dice.choice([2, 6, 10, 14, 18, 22])))


def _change_plan(scene: Scene, machine: TrueMachine) -> None:
    name = scene.dice.choice(["daily", "weekly"])
    _set_plan(scene, machine, FakePlan(name, scene.dice.choice([1, 5, 13]), scene.dice.choice(EPOCH_WEEKDAYS)))


def _set_plan(scene: Scene, machine: TrueMachine, plan: FakePlan) -> None:
    if not machine.plan.same_windows(plan):
        machine.plan = plan
        scene.changed(machine)


def _switch(scene: Scene, machine: TrueMachine) -> None:
    machine.enabled = not machine.enabled
    scene.changed(machine)


def _flaky(what: str, chance: float, length: int) -> Callable[[Scene, Watch], None]:
    """An endpoint that fails for so many polls at a time."""

    def poll(scene: Scene, _: Watch) -> None:
        if not scene.fails_for and scene.dice.random() < chance:
            scene.fails_for = length
        scene.cloud.failing = {what} if scene.fails_for else set()
        scene.readable = not scene.fails_for
        scene.fails_for = max(0, scene.fails_for - 1)

    return poll


def _failing(what: str) -> Callable[[Scene, Watch], None]:
    def poll(scene: Scene, _: Watch) -> None:
        scene.cloud.failing = {what}

    return poll


def _restarts(chance: float, number: int, *, keeps_state: bool) -> Callable[[Scene, Watch], None]:
    def poll(scene: Scene, watch: Watch) -> None:
        if scene.dice.random() < chance:
            watch.start(number, keeps_state=keeps_state)
            if not keeps_state and scene.exporters == 1:
                for machine in scene.machines:
                    machine.looked_at = scene.clock.now() + scene.every
        if not scene.readable and not keeps_state and scene.exporters == 1:
            # It has seen nothing yet.
            for machine in scene.machines:
                machine.looked_at = scene.clock.now() + scene.every

    return poll


def _both(*polls: Callable[[Scene, Watch], None]) -> Callable[[Scene, Watch], None]:
    def poll(scene: Scene, watch: Watch) -> None:
        for one in polls:
            one(scene, watch)

    return poll


def _flip_hours(scene: Scene, _: Watch) -> None:
    """Two tools fight over the hour, for half an hour twice a day."""
    at = scene.clock.now() % DAY
    if at % (DAY / 2) in (6 * HOUR, 6 * HOUR + EVERY):
        by = 2 if at % (DAY / 2) == 6 * HOUR else -2
        for machine in scene.machines:
            if machine.plan.name != "intra_daily_4h":
                machine.plan = replace(machine.plan, hour=(machine.plan.hour + by) % 24)
                scene.changed(machine)


def _clock_wrong_for_days(scene: Scene, _: Watch) -> None:
    """By two days, for two days of each week."""
    scene.skew = 2 * DAY if 3 * DAY <= (scene.clock.now() - MONDAY) % WEEK < 5 * DAY else 0.0
    scene.readable = not scene.skew


def _clock_jumps(scene: Scene, _: Watch) -> None:
    scene.skew = scene.dice.uniform(-50, 50) * MINUTE


def _all_listed_late(scene: Scene) -> None:
    for machine in scene.machines:
        machine.listed_after = 3 * HOUR


def _set(**values: object) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        for name, value in values.items():
            setattr(scene, name, value)

    return begin


def _cloud(**values: object) -> Callable[[Scene], None]:
    def begin(scene: Scene) -> None:
        for name, value in values.items():
            setattr(scene.cloud, name, value)

    return begin


def _stuck(scene: Scene, _: TrueMachine) -> Callable[[PolicyRecord, float], PolicyRecord]:
    """The window that was named first is named for ever."""
    named: list[NamedWindow] = []

    def tell(policy: PolicyRecord, now: float) -> PolicyRecord:
        if policy.next_backup_window is not None:
            named.append(policy.next_backup_window)
        return structs.replace(policy, next_backup_window=named[0]) if named else policy

    return tell


def _no_hour(policy: PolicyRecord) -> PolicyRecord:
    settings = policy.backup_policy
    return (
        policy
        if settings is None
        else structs.replace(policy, backup_policy=structs.replace(settings, hour=None, weekday=None))
    )


def _no_length(scene: Scene, _: TrueMachine) -> Callable[[PolicyRecord, float], PolicyRecord]:
    def tell(policy: PolicyRecord, now: float) -> PolicyRecord:
        settings = policy.backup_policy
        if settings is None:
            return policy
        return structs.replace(
            policy, backup_policy=structs.replace(settings, window_length_hours=None, retention_period_days=None)
        )

    return tell


def _jitters(policy: PolicyRecord, now: float, by: float) -> PolicyRecord:
    window = policy.next_backup_window
    return (
        policy
        if window is None or int(now // EVERY) % 2
        else structs.replace(policy, next_backup_window=_shifted(window, by))
    )


def _missing_record(scene: Scene, _: TrueMachine) -> Callable[[PolicyRecord, float], PolicyRecord | None]:
    return lambda policy, now: None if int(now // EVERY) % 5 == 0 else policy


def _missing_flag(scene: Scene, _: TrueMachine) -> Callable[[PolicyRecord, float], PolicyRecord | None]:
    return lambda policy, now: structs.replace(policy, backup_enabled=None) if int(now // EVERY) % 5 == 0 else policy


CONDITIONS = (
    Condition("nothing odd"),
    Condition("backups made at the very start", lambda scene: scene.fates(offset=-10 * MINUTE)),
    Condition("backups made at the very end", lambda scene: scene.fates(offset=WINDOW - 20 * MINUTE)),
    Condition("backups 6 hours late", lambda scene: scene.fates(offset=10 * HOUR)),
    Condition("backups listed 3 hours late", _all_listed_late),
    Condition("sizes come 2 hours late", lambda scene: scene.fates(unsized=2 * HOUR, pending=2 * HOUR)),
    Condition("images never show the backups", lambda scene: scene.fates(hidden=True)),
    Condition("sizes never come", lambda scene: scene.fates(unsized=WEEK * 99, pending=WEEK * 99)),
    Condition("the newest is turned into a snapshot now and then", poll=_sometimes(_turn_into_snapshot)),
    Condition("the newest is deleted now and then", poll=_sometimes(_delete_newest)),
    Condition("all are deleted now and then", poll=_sometimes(_delete_all)),
    Condition("the listing names ids that are no backups", _phantom_ids),
    Condition("new ids all day that are no backups, with images", _phantom_images, _new_phantoms),
    Condition("no window is named", _named(lambda *_: None)),
    Condition("one window is named for ever", _policy(_stuck)),
    Condition("a window of long ago is named", _named(lambda _, machine, window, __: _shifted(window, -WEEK))),
    Condition("the window after next is named", _named(lambda _, one, window, __: _shifted(window, one.plan.interval))),
    Condition(
        "the named start jitters by 16 minutes",
        _named(lambda _, __, window, now: _shifted(window, int(now // EVERY) % 2 * 16 * MINUTE)),
    ),
    Condition(
        "one answer in 50 names a window 4 hours later",
        _named(lambda scene, _, window, __: _shifted(window, 4 * HOUR if scene.dice.random() < 0.02 else 0.0)),
    ),
    Condition("neither hour nor weekday", _policy(lambda _, __: lambda policy, ___: _no_hour(policy))),
    Condition(
        "neither hour nor weekday, and the named start jitters by 10 minutes",
        _policy(lambda _, __: lambda policy, now: _jitters(_no_hour(policy), now, 10 * MINUTE)),
    ),
    Condition("neither length nor retention", _policy(_no_length)),
    Condition("every fifth listing lacks the record", _policy(_missing_record)),
    Condition("every fifth listing lacks the flag", _policy(_missing_flag)),
    Condition("hours are changed", poll=_sometimes(_move_hour)),
    Condition("plans are changed", poll=_sometimes(_change_plan)),
    Condition("backups are switched off and on", poll=_sometimes(_switch)),
    Condition("the hour is flipped for half an hour, twice a day", poll=_flip_hours),
    Condition("Droplets are destroyed and created", poll=_sometimes(_replace_droplet)),
    Condition("the exporter's clock is 50 minutes ahead", _set(skew=50 * MINUTE)),
    Condition("the exporter's clock is 50 minutes behind", _set(skew=-50 * MINUTE)),
    Condition("the exporter's clock jumps by up to 50 minutes", poll=_clock_jumps),
    Condition("the exporter's clock is two days ahead for two days", poll=_clock_wrong_for_days),
    Condition("the API fails for 8 hours", poll=_flaky("all", 0.01, 16)),
    Condition("own lists fail for 8 hours", poll=_flaky("backups", 0.01, 16)),
    Condition("policies fail for 8 hours", poll=_flaky("policies", 0.01, 16)),
    Condition(
        "policies fail for 8 hours, and hours are changed",
        poll=_both(_flaky("policies", 0.01, 16), _sometimes(_move_hour)),
    ),
    Condition(
        "policies fail for 2 days, and hours are changed",
        poll=_both(_flaky("policies", 0.02, 96), _sometimes(_move_hour)),
        left=True,
    ),
    Condition(
        "policies fail for 8 hours, backups are switched off and on, and restarts without state",
        poll=_both(_flaky("policies", 0.01, 16), _sometimes(_switch), _restarts(0.02, 0, keeps_state=False)),
    ),
    Condition("the listing of Droplets fails for 8 hours", poll=_flaky("droplets", 0.01, 16)),
    Condition("images cannot be read", poll=_failing("images")),
    Condition("ids of backups lag by 6 polls", _cloud(lag=6)),
    Condition("ids of backups are never told", _cloud(tells_ids=False)),
    Condition("restarts with the state file", _set(keeps_state=True), _restarts(0.02, 0, keeps_state=True)),
    Condition("restarts without state", poll=_restarts(0.005, 0, keeps_state=False)),
    Condition(
        "outages, and restarts with the state file",
        _set(keeps_state=True),
        _both(_flaky("all", 0.01, 16), _restarts(0.1, 0, keeps_state=True)),
    ),
    Condition(
        "outages, and restarts without state",
        poll=_both(_flaky("all", 0.01, 16), _restarts(0.02, 0, keeps_state=False)),
    ),
    Condition(
        "the newest turned into a snapshot, and restarts without state",
        poll=_both(_sometimes(_turn_into_snapshot), _restarts(0.005, 0, keeps_state=False)),
    ),
    Condition("two replicas, one restarted cold", _set(exporters=2), _restarts(0.02, 1, keeps_state=False)),
    Condition(
        "two replicas, one restarted cold in outages",
        _set(exporters=2),
        _both(_flaky("all", 0.01, 16), _restarts(0.1, 1, keeps_state=False)),
    ),
    Condition("a poll every 5 minutes", _set(every=5 * MINUTE)),
    Condition("a poll every 2 hours", _set(every=2 * HOUR)),
    Condition("a poll every 6 hours", _set(every=6 * HOUR)),
    Condition("each request takes 2 minutes", _set(answers_after=2 * MINUTE)),
    Condition("40 requests an hour", _set(rate_limit=RateLimit(per_hour=40))),
)


ACCOUNTS = 3
"""Of each condition."""
_COLUMNS = (
    "condition",
    "droplet-weeks",
    "windows",
    "misses",
    "false alarms",
    "never shown (hours)",
    "hours to the first word, median / longest",
    "protected, though missed (hours)",
    "unjudged (hours)",
)


def live_through(place: int) -> Tally:
    """All accounts of one condition."""
    tally = Tally()
    for seed in range(ACCOUNTS):
        tally.add(try_condition(CONDITIONS[place], seed))
    return tally


def _told(found: Sequence[Tally]) -> Told:
    rows, wrong = [], []
    for condition, one in zip(CONDITIONS, found, strict=True):
        delays = sorted(one.delays)
        rows.append(
            (
                *_begin(condition, one.droplet_weeks),
                f"{one.windows:,}",
                f"{one.misses:,}",
                f"{one.false_alarms}",
                f"{one.never_shown} ({one.never_shown_hours:.0f})" if one.never_shown else "0",
                f"{delays[len(delays) // 2] / HOUR:.1f} / {delays[-1] / HOUR:.1f}" if delays else "",
                f"{one.protected_hours:.0f}",
                f"{one.unjudged_hours:,.0f}",
            )
        )
        if (one.false_alarms and not condition.left) or one.never_shown or one.protected_hours:
            wrong += [f"{condition.name}: {example}" for example in one.examples or ("a miss was never shown",)]
    sums = [
        ("conditions", f"{len(found)}"),
        (_WEEKS, f"{sum(one.droplet_weeks for one in found):,.0f}"),
        ("false alarms", f"{_false_alarms(found, left=False)}"),
        (
            "false alarms where settings changed for days while they could not be read, left by contract",
            f"{_false_alarms(found, left=True)}",
        ),
        ("misses never shown", f"{sum(one.never_shown for one in found)}"),
    ]
    return Told([*table(("what", "measured"), sums), "", *table(_COLUMNS, rows)], wrong)


def _false_alarms(found: Sequence[Tally], *, left: bool) -> int:
    return sum(one.false_alarms for condition, one in zip(CONDITIONS, found, strict=True) if condition.left == left)


def _begin(condition: Condition, weeks: float) -> tuple[str, str]:
    return condition.name, f"{weeks:,.0f}"


_WEEKS = "droplet-weeks simulated"
SECTION = Section(
    "Weeks under one condition at a time",
    planned=(
        row(_WEEKS, f"{len(CONDITIONS) * ACCOUNTS * DROPLETS * WEEKS:,.0f}"),
        *(row(*_begin(one, ACCOUNTS * DROPLETS * WEEKS)) for one in CONDITIONS),
    ),
    jobs=[partial(live_through, place) for place in range(len(CONDITIONS))],
    tell=_told,
)
