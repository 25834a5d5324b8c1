"""A DigitalOcean account in memory, and a client that it answers without a socket.

Droplets have plans and make backups as time passes. The account can be told how the API shows them: late, wrongly, or
not at all. Requests are counted, page by page, and may be paced by a real budget.
"""

from __future__ import annotations

import math
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TypeVar

from exporter.clock import Clock
from exporter.digitalocean.budget import Budget, BudgetSpent
from exporter.digitalocean.client import Client, ImagePage
from exporter.digitalocean.errors import ApiError, NotFound, OutOfBudget, ServerError, Unauthorized
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import (
    PER_PAGE,
    BackupRecord,
    DropletRecord,
    PolicyRecord,
    SupportedPolicyRecord,
)
from exporter.polling.poller import Poller
from exporter.polling.read_plan import pages_of
from tests.support.api_records import backup_record, droplet_record, image_record, policy_record

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
EPOCH_WEEKDAYS = ("THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED")
"""The weekdays from the Unix epoch on."""
INTERVALS = {"daily": DAY, "weekly": WEEK, "intra_daily_4h": 4 * HOUR}
RETENTION_DAYS = {"daily": 7, "weekly": 28, "intra_daily_4h": 7}
WINDOW = 4 * HOUR
LONGEST_LAG = 500
"""Polls."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class FakePlan:
    """When a Droplet's backups are made."""

    name: str = "daily"
    hour: int = 0
    weekday: str = "SUN"

    @property
    def interval(self) -> float:
        return INTERVALS[self.name]

    @property
    def anchor(self) -> float:
        """The start of some window."""
        if self.name == "weekly":
            return EPOCH_WEEKDAYS.index(self.weekday) * DAY + self.hour * HOUR
        return self.hour * HOUR

    def same_windows(self, other: FakePlan) -> bool:
        return self.name == other.name and (self.anchor - other.anchor) % self.interval == 0

    def start_at(self, instant: float) -> float:
        """The start of the latest window that has started by the instant."""
        return self.anchor + math.floor((instant - self.anchor) / self.interval) * self.interval

    def starts(self, after: float, until: float) -> Iterator[float]:
        """The starts after the one instant and until the other."""
        start = self.start_at(after) + self.interval
        while start <= until:
            yield start
            start += self.interval


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of one window's backup."""

    made: bool = True
    offset: float = HOUR
    """From the window's start to the backup's creation."""
    size: float | None = 2.0
    """Gigabytes."""
    pending: float = 0.0
    """How long its image is in the making."""
    unsized: float = 0.0
    """How long the Droplet's own list shows it without a size."""
    hidden: bool = False
    """Whether the images never show it."""


@dataclass(frozen=True, slots=True)
class Made:
    """A backup that exists."""

    id: int
    created_at: float
    fate: Fate


@dataclass(slots=True)
class Machine:
    """A Droplet as it truly is."""

    id: int
    since: float
    plan: FakePlan = FakePlan()
    fates: tuple[Fate, ...] = (Fate(),)
    """Of its windows, by turns."""
    enabled: bool = True
    disk: float | None = 25.0
    named: bool = True
    """Whether its policy record names the next window."""
    made: dict[int, Made] = field(default_factory=dict)
    turn: int = 0
    coming: list[tuple[float, Fate]] = field(default_factory=list)
    """Backups of windows that have begun."""
    reached: float = 0.0
    """Until when windows have begun."""
    lived: list[float] = field(default_factory=list)
    """The starts of its windows so far."""
    ever: list[Made] = field(default_factory=list)
    """All backups that were ever made, in that order."""
    _policy: tuple[object, PolicyRecord] | None = None

    def live(self, now: float, next_id: Iterator[int]) -> None:
        """Makes what the windows until now bring, and lets what is too old expire."""
        if self.enabled:
            for start in self.plan.starts(self.reached, now):
                fate = self.fates[self.turn % len(self.fates)]
                self.turn += 1
                self.lived.append(start)
                if fate.made:
                    self.coming.append((start + fate.offset, fate))
        self.reached = max(self.reached, now)
        for created_at, fate in [one for one in self.coming if one[0] <= now]:
            self.coming.remove((created_at, fate))
            backup = Made(next(next_id), created_at, fate)
            self.made[backup.id] = backup
            self.ever.append(backup)
        kept_for = RETENTION_DAYS[self.plan.name] * DAY
        for backup in list(self.made.values()):
            if backup.created_at + kept_for < now:
                del self.made[backup.id]

    @property
    def newest(self) -> Made | None:
        return max(self.made.values(), key=lambda backup: backup.created_at, default=None)

    @property
    def oldest(self) -> Made | None:
        return min(self.made.values(), key=lambda backup: backup.created_at, default=None)

    def policy(self, now: float) -> PolicyRecord:
        if not self.enabled:
            return PolicyRecord(False)
        start = self.plan.start_at(now)
        if start + WINDOW <= now:
            start += self.plan.interval
        facts = self.plan, self.named, start
        if self._policy is None or self._policy[0] != facts:
            record = policy_record(
                self.plan.name,
                self.plan.weekday if self.plan.name == "weekly" else None,
                self.plan.hour,
                WINDOW / HOUR,
                RETENTION_DAYS[self.plan.name],
                start if self.named else None,
            )
            self._policy = facts, record
        return self._policy[1]


class Cloud:
    """The account and what its API is like at the moment."""

    def __init__(self, clock: Clock) -> None:
        self.machines: dict[int, Machine] = {}
        self.failing: set[str] = set()
        """Endpoints that answer 500; `backups 3` is that of Droplet 3's list alone, and `all` is every one."""
        self.lag = 0
        """By how many polls the ids of backups in the droplet listing are late."""
        self.tells_ids = True
        self.read: Callable[[int], None] = lambda _: None
        """Told of each Droplet whose own list was read."""
        self.told: set[int] = set()
        """The backups that a listing named while the Droplet's own list could be read."""
        self._clock = clock
        self.next_id = iter(range(1001, 10**9))
        self._listed: deque[dict[int, tuple[int, ...]]] = deque(maxlen=LONGEST_LAG)

    @property
    def now(self) -> float:
        return self._clock.now()

    def add(self, machine: Machine) -> Machine:
        machine.reached = max(machine.reached, machine.since)
        self.machines[machine.id] = machine
        return machine

    def live(self) -> None:
        """Makes what the time since brings."""
        for machine in self.machines.values():
            machine.live(self.now, self.next_id)

    def before_poll(self) -> None:
        """Records which ids the droplet listing shows at the next poll."""
        self._listed.append({machine.id: tuple(sorted(machine.made)) for machine in self.machines.values()})
        listed = self.listed()
        if not self.failing & {"all", "token", "droplets", "policies"} and self.tells_ids:
            for machine in self.machines.values():
                if not self.fails("backups", machine.id):
                    self.told.update(set(listed.get(machine.id, ())) & machine.made.keys())

    def images(self) -> list[Made]:
        """The backups that the images show."""
        return [one for machine in self.machines.values() for one in machine.made.values() if not one.fate.hidden]

    def listed(self) -> dict[int, tuple[int, ...]]:
        """The ids that the droplet listing names."""
        return self._listed[max(0, len(self._listed) - 1 - self.lag)]

    def snapshot(self, machine: Machine, backup: Made | None) -> bool:
        """Makes a snapshot of a backup that a listing has shown, so that it leaves the lists."""
        if backup is None or backup.id not in self.told:
            return False
        del machine.made[backup.id]
        return True

    def fails(self, endpoint: str, droplet_id: int | None = None) -> bool:
        return not self.failing.isdisjoint({"all", endpoint, f"{endpoint} {droplet_id}"})


class MemoryClient(Client):
    """The client, answered by a `Cloud`. With a budget, each page of an answer is a request that the budget allows."""

    def __init__(
        self,
        cloud: Cloud,
        clock: Clock,
        budget: Budget | None = None,
        *,
        images_list_backups: bool = True,
        spend: Callable[[float], tuple[float, float, float]] | None = None,
    ) -> None:
        """`spend` counts a request at an instant as the API does, and gives the `ratelimit-` headers of the answer."""
        super().__init__("http://127.0.0.1", str, budget or Budget(250, 5000, 0.2, clock, lambda _: None), clock)
        self.cloud = cloud
        self.our_clock = clock
        self.asked: Counter[str] = Counter()
        self._paced = budget is not None
        self._images_list_backups = images_list_backups
        self._spend = spend
        self._droplets: dict[int, tuple[object, DropletRecord]] = {}

    async def refresh_token(self) -> None:
        if self.cloud.fails("token"):
            raise Unauthorized("token", "the token is empty")

    def _error(self, endpoint: str, droplet_id: int | None = None) -> ApiError | None:
        return ServerError(endpoint, f"{endpoint} answered 500") if self.cloud.fails(endpoint, droplet_id) else None

    async def _ask(self, endpoint: str, keep: int, pages: int = 1) -> None:
        for _ in range(pages):
            if self._paced:
                try:
                    ticket = await self.http.budget.acquire(self.http.deadline, keep)
                except BudgetSpent as error:
                    raise OutOfBudget(endpoint, str(error), error.until) from error
                headers = (None, None, None) if self._spend is None else self._spend(self.our_clock.now())
                self.http.budget.learn(ticket, *headers)
            self.asked[endpoint] += 1

    async def _all(
        self, endpoint: str, records: Callable[[], dict[int, _T]], keep: int, droplet_id: int | None = None
    ) -> Pages[_T]:
        error = self._error(endpoint, droplet_id)
        found = {} if error else records()
        try:
            await self._ask(endpoint, keep, pages_of(len(found)))
        except OutOfBudget as unasked:
            error = unasked
        now = self.our_clock.now()
        return Pages(now, error=error) if error else Pages(now, found, total=len(found))

    async def droplets(self, *, gpus: bool = False, keep: int = 0) -> Pages[DropletRecord]:
        machines = {} if gpus else self.cloud.machines
        return await self._all("droplets", lambda: {one.id: self._droplet(one) for one in machines.values()}, keep)

    def _droplet(self, machine: Machine) -> DropletRecord:
        ids = self.cloud.listed().get(machine.id, ()) if self.cloud.tells_ids else ()
        facts = machine.since, machine.disk, ids
        before = self._droplets.get(machine.id)
        if before is None or before[0] != facts:
            record = droplet_record(machine.id, machine.since, disk=machine.disk, backup_ids=ids)
            before = self._droplets[machine.id] = facts, record
        return before[1]

    async def policies(self, *, keep: int = 0) -> Pages[PolicyRecord]:
        machines = self.cloud.machines
        return await self._all(
            "policies", lambda: {one.id: one.policy(self.cloud.now) for one in machines.values()}, keep
        )

    async def backups(self, droplet_id: int, *, keep: int = 0) -> Pages[BackupRecord]:
        pages = await self._all("backups", lambda: self._backups(droplet_id), keep, droplet_id)
        if pages.error is None and droplet_id not in self.cloud.machines:
            return Pages(pages.started_at, error=NotFound("backups", "answered 404"))
        if pages.error is None:
            self.cloud.read(droplet_id)
        return pages

    def _backups(self, droplet_id: int) -> dict[int, BackupRecord]:
        machine = self.cloud.machines.get(droplet_id)
        records = {}
        for one in (machine.made if machine else {}).values():
            whole = one.created_at + one.fate.unsized <= self.cloud.now
            records[one.id] = backup_record(one.id, one.created_at, one.fate.size if whole else None)
        return records

    async def supported_policies(self, *, keep: int = 0) -> Pages[SupportedPolicyRecord]:
        return await self._all("supported_policies", lambda: _SUPPORTED, keep)

    async def images(self, number: int, *, keep: int = 0) -> ImagePage:
        error = self._error("images")
        if error is not None:
            raise error
        await self._ask("images", keep)
        made = self.cloud.images() if self._images_list_backups else []
        records = {}
        for one in made[(number - 1) * PER_PAGE : number * PER_PAGE]:
            done = one.created_at + one.fate.pending <= self.cloud.now
            status, size = ("available", one.fate.size) if done else ("pending", None)
            records[one.id] = image_record(one.id, one.created_at, size, status)
        return ImagePage(records, pages_of(len(made)))

    async def _single(self, endpoint: str, droplet_id: int, keep: int) -> Machine:
        error = self._error(endpoint, droplet_id)
        await self._ask(endpoint, keep)
        machine = self.cloud.machines.get(droplet_id)
        if error is None and machine is not None:
            return machine
        raise error or NotFound(endpoint, "answered 404")

    async def droplet(self, droplet_id: int, *, keep: int = 0) -> DropletRecord:
        return self._droplet(await self._single("droplet", droplet_id, keep))

    async def policy(self, droplet_id: int, *, keep: int = 0) -> PolicyRecord:
        return (await self._single("policy", droplet_id, keep)).policy(self.cloud.now)


_SUPPORTED = {
    number: SupportedPolicyRecord(name, tuple(range(0, 24, 4)), (), WINDOW / HOUR, RETENTION_DAYS[name])
    for number, name in enumerate(("weekly", "daily"), 1)
}


def in_memory(poller: Poller, client: Client) -> Poller:
    """The poller, asking this client."""
    poller._client = poller._lister._client = poller._reader._client = client
    return poller
