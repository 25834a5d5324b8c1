"""Weeks of an account under one condition at a time, beside the truth: for every window, whether a backup was made.

The truth is drawn first, and the API's answers are derived from it. The real Poller polls them in simulated time. What
it says of each Droplet is compared with the truth after every poll.
"""

from __future__ import annotations

import asyncio
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

from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import BackupRecord, NamedWindow, PolicyRecord
from exporter.fleet.model import Droplet
from exporter.fleet.state import State
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.reliability.section import Section, Told, row, table
from tests.support.cloud import EPOCH_WEEKDAYS, Cloud, FakePlan, Fate, Machine, MemoryClient
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
    """From when on, with certainty, the exporter knows the settings: windows that start later must be judged."""
    tells: Callable[[PolicyRecord, float], PolicyRecord | None]
    listed_after: float
    """How long after its creation a backup is in the own list."""

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


class TrueClient(MemoryClient):
    """The client of such an account."""

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
        self.machines: list[TrueMachine] = []
        for number in range(1, DROPLETS + 1):
            self._add(number)
        self.fates()

    def _add(self, number: int) -> None:
        dice = self.dice
        name = dice.choice(["daily", "daily", "daily", "weekly", "intra_daily_4h"])
        plan = FakePlan(
            name, 0 if name == "intra_daily_4h" else dice.choice([0, 4, 8, 20]), dice.choice(EPOCH_WEEKDAYS)
        )
        machine = TrueMachine(number, MONDAY - 400 * DAY, plan)
        machine.made_at, machine.settled_at, machine.listed_after = {}, MONDAY, 0.0
        machine.tells = lambda policy, _: policy
        machine.reached = MONDAY - 5 * WEEK
        self.machines.append(machine)
        self.cloud.add(machine)

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
    """What is odd, and whether the contract names it as left: then a miss may pass unseen."""

    name: str
    begin: Callable[[Scene], None] = lambda _: None
    poll: Callable[[Scene, Watch], None] = lambda _, __: None
    excused: bool = False


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
        poller = Poller(
            Account("prod", TokenSource()),
            Config(accounts=(), poll=Poll(interval=scene.every), rate_limit=scene.rate_limit, grace=GRACE),
            Telemetry("0", process=False).account("prod", scene.every),
            scene.clock,
            store=store,
        )
        poller._client = poller._lister._client = poller._reader._client = TrueClient(scene.cloud, scene.clock)
        self.pollers[number] = poller, store

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
    memory = Path("/dev/shm")
    directory = Path(tempfile.mkdtemp(dir=memory if memory.is_dir() else None))
    tally, judge = Tally(), {machine.id: Comparison(machine) for machine in scene.machines}
    watch = Watch(scene, directory)
    try:
        with capture_logs():
            while scene.clock.now() < MONDAY + weeks * WEEK:
                scene.clock.set(scene.clock.now() + scene.every)
                scene.cloud.live()
                scene.readable = True
                condition.poll(scene, watch)
                scene.cloud.before_poll()
                found = watch.poll()
                for droplet_id, droplets in found.items():
                    judge[droplet_id].compare(scene, droplets, tally)
    finally:
        watch.close()
        shutil.rmtree(directory)
    for comparison in judge.values():
        comparison.end(tally)
    tally.droplet_weeks = weeks * len(scene.machines)
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

    def compare(self, scene: Scene, droplets: list[Droplet], tally: Tally) -> None:
        """Of several exporters the one that says the worst is believed, as the rules do."""
        machine, now, hours = self.machine, scene.clock.now(), scene.every / HOUR
        worst = min(droplets, key=lambda one: one.verdict.state.rank)
        missed = {start for one in droplets for start in one.verdict.missed or ()}
        made = [at for at in machine.made_at.values() if at is not None and at <= now]
        newest = max(made, default=MONDAY)
        for start in missed:
            window = self._window(start)
            truly = window is not None and (at := machine.made_at[window], at is None or at > now)[1]
            if not truly and start not in self.false:
                self.false.add(start)
                tally.examples.append(f"droplet {machine.id} {machine.plan}: {start:.0f} is no miss, at {now:.0f}")
            elif window is not None and window not in self.shown:
                self.shown.add(window)
                tally.delays.append(now - window - WINDOW)
        due = [
            start
            for start, at in machine.made_at.items()
            if start > machine.settled_at
            and start + WINDOW + LONGEST_SLACK <= now
            and (at is None or at > now)
            and newest < start
        ]
        for start in due if scene.readable else ():
            self.standing.setdefault(start, now)
            self.last_seen[start] = now
        calm = worst.verdict.state in (State.PROTECTED, State.WAITING)
        if due and calm and machine.enabled and scene.readable:
            tally.protected_hours += hours
            tally.examples.append(f"droplet {machine.id} is {worst.verdict.state} at {now:.0f}, missed {due}")
        if worst.verdict.state is State.UNJUDGED:
            tally.unjudged_hours += hours

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


def _move_hour(scene: Scene, machine: TrueMachine) -> None:
    if machine.plan.name != "intra_daily_4h":
        machine.plan = replace(machine.plan, hour=scene.dice.choice([2, 6, 10, 14, 18, 22]))
        scene.changed(machine)


def _change_plan(scene: Scene, machine: TrueMachine) -> None:
    name = scene.dice.choice(["daily", "weekly"])
    machine.plan = FakePlan(name, scene.dice.choice([1, 5, 13]), scene.dice.choice(EPOCH_WEEKDAYS))
    scene.changed(machine)


def _switch(scene: Scene, machine: TrueMachine) -> None:
    machine.enabled = not machine.enabled
    scene.changed(machine)


def _flaky(what: str, chance: float, length: int) -> Callable[[Scene, Watch], None]:
    """An endpoint that fails for so many polls at a time."""
    left = [0]

    def poll(scene: Scene, _: Watch) -> None:
        if not left[0] and scene.dice.random() < chance:
            left[0] = length
        scene.cloud.failing = {what} if left[0] else set()
        scene.readable = not left[0]
        left[0] = max(0, left[0] - 1)

    return poll


def _restarts(chance: float, number: int, *, keeps_state: bool) -> Callable[[Scene, Watch], None]:
    def poll(scene: Scene, watch: Watch) -> None:
        if scene.dice.random() < chance:
            watch.start(number, keeps_state=keeps_state)
            if not keeps_state and scene.exporters == 1:
                for machine in scene.machines:
                    machine.settled_at = scene.clock.now() + scene.every

    return poll


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
    Condition("newest leaves the lists now and then", poll=_sometimes(_delete_newest)),
    Condition("no window is named", _named(lambda *_: None)),
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
    Condition("every fifth listing lacks the record", _policy(_missing_record)),
    Condition("every fifth listing lacks the flag", _policy(_missing_flag)),
    Condition("hours are changed", poll=_sometimes(_move_hour)),
    Condition("plans are changed", poll=_sometimes(_change_plan)),
    Condition("backups are switched off and on", poll=_sometimes(_switch)),
    Condition("the API fails for 8 hours", poll=_flaky("all", 0.01, 16)),
    Condition("own lists fail for 8 hours", poll=_flaky("backups", 0.01, 16)),
    Condition("policies fail for 8 hours", poll=_flaky("policies", 0.01, 16)),
    Condition("ids of backups lag by 6 polls", _cloud(lag=6)),
    Condition("ids of backups are never told", _cloud(tells_ids=False)),
    Condition("restarts with the state file", _set(keeps_state=True), _restarts(0.02, 0, keeps_state=True)),
    Condition("restarts without state", poll=_restarts(0.005, 0, keeps_state=False), excused=True),
    Condition("two replicas, one restarted cold", _set(exporters=2), _restarts(0.02, 1, keeps_state=False)),
    Condition("a poll every 2 hours", _set(every=2 * HOUR)),
    Condition("40 requests an hour", _set(rate_limit=RateLimit(per_hour=40))),
)


ACCOUNTS = 6
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
        if one.false_alarms or (not condition.excused and (one.never_shown or one.protected_hours)):
            wrong += [f"{condition.name}: {example}" for example in one.examples or ("a miss was never shown",)]
    sums = [
        ("conditions", f"{len(found)}"),
        (_WEEKS, f"{sum(one.droplet_weeks for one in found):,.0f}"),
        ("false alarms", f"{sum(one.false_alarms for one in found)}"),
        ("misses never shown", f"{sum(one.never_shown for one in found)}"),
    ]
    return Told([*table(("what", "measured"), sums), "", *table(_COLUMNS, rows)], wrong)


def _begin(condition: Condition, weeks: float) -> tuple[str, str]:
    return condition.name + (" (left by the contract)" if condition.excused else ""), f"{weeks:,.0f}"


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
