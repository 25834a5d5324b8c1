"""A day of a large account, without sockets: what the API would be asked is counted, page by page.

Backups are made in their windows and take a while to finish; some windows bring none, if told so. The budget is the
real one, and so is everything above the client; the clock is set by hand.
"""

from __future__ import annotations

import heapq
import math
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from exporter.clock import Clock
from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.digitalocean.budget import Budget, BudgetSpent
from exporter.digitalocean.client import Client, ImagePage
from exporter.digitalocean.errors import NotFound, OutOfBudget
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import (
    PER_PAGE,
    BackupRecord,
    DropletRecord,
    ImageRecord,
    PolicyRecord,
    SupportedPolicyRecord,
    unix_seconds,
)
from exporter.fleet.model import Fleet
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.support.api_records import backup_record, droplet_record, policy_record
from tests.support.world import DAY, HOUR, MONDAY, HandClock

WEEKDAYS = ("THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED")
"""From the Unix epoch on."""
KEPT = {"daily": 7, "weekly": 4}
PLANS = {
    number: SupportedPolicyRecord(name, tuple(range(0, 24, 4)), (), 4.0, days)
    for number, (name, days) in enumerate((("weekly", 28.0), ("daily", 7.0)), 1)
}

_T = TypeVar("_T")


class BigAccount:
    """Healthy Droplets, two thirds daily and one third weekly, their windows spread evenly, as they are at `now`.

    `sizes` and times are made up, the same each time. Droplets whose number is in `stale` miss every window to come.
    """

    def __init__(self, count: int, now: float = MONDAY, *, stale: frozenset[int] = frozenset()) -> None:
        self.droplets: dict[int, DropletRecord] = {}
        self.policies: dict[int, PolicyRecord] = {}
        self.backups: dict[int, list[BackupRecord]] = {}
        self._dice = random.Random(count)
        self._stale = stale
        self._windows: dict[int, float] = {}
        self._coming: list[tuple[float, int, BackupRecord]] = []
        self._ids = 1000
        for number in range(1, count + 1):
            weekly = number % 3 == 0
            interval = 7 * DAY if weekly else DAY
            anchor = (number * 4 % 24) * HOUR + (number // 3 % 7 * DAY if weekly else 0.0)
            last = anchor + math.floor((now - 5 * HOUR - anchor) / interval) * interval
            self.backups[number] = [
                self._made(last - age * interval) for age in reversed(range(KEPT["weekly" if weekly else "daily"]))
            ]
            self._name_window(number, last + interval, weekly=weekly)
            self._list(number)
            self._await_window(number, last + interval)

    def live(self, now: float) -> None:
        """Makes what the time until now brings."""
        while self._coming and self._coming[0][0] <= now:
            _, number, backup = heapq.heappop(self._coming)
            start = self._windows[number]
            weekly = number % 3 == 0
            following = start + (7 * DAY if weekly else DAY)
            if number not in self._stale:
                self.backups[number] = [*self.backups[number][1:], backup]
                self._list(number)
            self._name_window(number, following, weekly=weekly)
            self._await_window(number, following)

    def back_up(self, numbers: Iterable[int], now: float) -> None:
        """Makes a backup of each of these Droplets, out of turn."""
        for number in numbers:
            self._ids += 1
            self.backups[number] = [*self.backups[number], backup_record(self._ids, now, 3.0)]
            self._list(number)

    @property
    def images(self) -> list[BackupRecord]:
        return [backup for made in self.backups.values() for backup in made]

    def _made(self, start: float) -> BackupRecord:
        self._ids += 1
        created_at = start + 300 + 3 * HOUR * self._dice.random()
        return backup_record(self._ids, created_at, round(1 + 9 * self._dice.random(), 2))

    def _await_window(self, number: int, start: float) -> None:
        backup = self._made(start)
        heapq.heappush(self._coming, ((unix_seconds(backup.created_at) or 0.0) + 600, number, backup))

    def _name_window(self, number: int, start: float, *, weekly: bool) -> None:
        self._windows[number] = start
        self.policies[number] = policy_record(
            "weekly" if weekly else "daily",
            WEEKDAYS[int(start // DAY) % 7] if weekly else None,
            int(start % DAY // HOUR),
            4.0,
            28.0 if weekly else 7.0,
            start,
        )

    def _list(self, number: int) -> None:
        ids = tuple(backup.id for backup in self.backups[number])
        self.droplets[number] = droplet_record(
            number,
            MONDAY - 400 * DAY,
            disk=50.0,
            tags=("team:web",),
            backup_ids=ids,
            region="fra1",
            size="s-1vcpu-2gb",
        )


class SharedToken:
    """What the API counts of a token that several exporters use, and tells each of them in its answers."""

    def __init__(self, per_hour: int = 5000) -> None:
        self.per_hour = per_hour
        self.least = per_hour
        """What was left of an hour when that was least."""
        self._sent: deque[float] = deque()

    def spend(self, now: float) -> tuple[float, float, float]:
        """One request; the limit, what remains of it, and when the oldest request counts no more."""
        while self._sent and self._sent[0] <= now - HOUR:
            self._sent.popleft()
        self._sent.append(now)
        left = self.per_hour - len(self._sent)
        assert left >= 0, "the API would have refused this one"
        self.least = min(self.least, left)
        return self.per_hour, left, self._sent[0] + HOUR


class CountingClient(Client):
    """The client, answered by a `BigAccount`; every page is a request of the budget and is counted."""

    def __init__(self, account: BigAccount, budget: Budget, clock: Clock, asked: Counter[str]) -> None:
        super().__init__("http://127.0.0.1", str, budget, clock)
        self._of = account
        self._spent = budget
        self._asked = asked
        self.images_list_backups = True
        self.shared: SharedToken | None = None

    async def refresh_token(self) -> None: ...

    async def _ask(self, endpoint: str, keep: int, pages: int = 1) -> None:
        for _ in range(pages):
            try:
                ticket = await self._spent.acquire(self.http.deadline, keep)
            except BudgetSpent as error:
                raise OutOfBudget(endpoint, str(error), error.until) from error
            told = (None, None, None) if self.shared is None else self.shared.spend(self._clock.now())
            self._spent.learn(ticket, *told)
            self._asked[endpoint] += 1

    async def _all(self, endpoint: str, records: dict[int, _T], keep: int) -> Pages[_T]:
        now = self._clock.now()
        try:
            await self._ask(endpoint, keep, max(1, math.ceil(len(records) / PER_PAGE)))
        except OutOfBudget as error:
            return Pages(now, error=error)
        return Pages(now, records, total=len(records))

    async def droplets(self, *, gpus: bool = False, keep: int = 0) -> Pages[DropletRecord]:
        return await self._all("droplets", {} if gpus else self._of.droplets, keep)

    async def policies(self, *, keep: int = 0) -> Pages[PolicyRecord]:
        return await self._all("policies", self._of.policies, keep)

    async def supported_policies(self, *, keep: int = 0) -> Pages[SupportedPolicyRecord]:
        return await self._all("supported_policies", PLANS, keep)

    async def backups(self, droplet_id: int, *, keep: int = 0) -> Pages[BackupRecord]:
        made = self._of.backups.get(droplet_id)
        if made is None:
            return Pages(self._clock.now(), error=NotFound("backups", "answered 404"))
        return await self._all("backups", {backup.id: backup for backup in made}, keep)

    async def images(self, number: int, *, keep: int = 0) -> ImagePage:
        await self._ask("images", keep)
        images = self._of.images if self.images_list_backups else []
        pages = max(1, math.ceil(len(images) / PER_PAGE))
        page = images[(number - 1) * PER_PAGE : number * PER_PAGE]
        return ImagePage(
            {one.id: ImageRecord(one.id, "backup", "available", one.created_at, one.size_gigabytes) for one in page},
            pages,
        )


class BigWorld:
    """The poller of one big account; `asked` counts its requests by endpoint."""

    def __init__(
        self,
        account: BigAccount,
        *,
        at: float = MONDAY,
        poll: Poll | None = None,
        rate_limit: RateLimit | None = None,
        store: StateFile | None = None,
        images_list_backups: bool = True,
        shared: SharedToken | None = None,
        on_fleet: Callable[[Fleet], Awaitable[None]] | None = None,
    ) -> None:
        self.clock = HandClock()
        self.clock.set(at)
        self.account = account
        self.asked: Counter[str] = Counter()
        self.results: Counter[str] = Counter()
        limit = rate_limit or RateLimit()
        config = Config(accounts=(), poll=poll or Poll(), rate_limit=limit)
        self.telemetry = Telemetry("0", process=False)
        self.poller = Poller(
            Account("prod", TokenSource(env="TOKEN_OF_THE_TESTS")),
            config,
            self.telemetry.account("prod", config.poll.interval),
            self.clock,
            store=store,
            on_fleet=on_fleet,
        )
        client = CountingClient(account, self.poller._budget, self.clock, self.asked)
        client.images_list_backups = images_list_backups
        client.shared = shared
        self.poller._client = self.poller._lister._client = self.poller._reader._client = client

    async def poll(self, after: float = 0.0) -> Counter[str]:
        """One poll, so many seconds later; what it asked."""
        self.clock.set(self.clock.now() + after)
        self.account.live(self.clock.now())
        before = self.asked.copy()
        self.results[await self.poller.poll()] += 1
        return self.asked - before

    async def live(self, seconds: float, interval: float = 300.0) -> Counter[str]:
        """Polls for so long on the interval; what it asked in all."""
        before = self.asked.copy()
        start = self.clock.now()
        for number in range(1, int(seconds // interval) + 1):
            await self.poll(max(0.0, start + number * interval - self.clock.now()))
        return self.asked - before

    @property
    def overdue(self) -> int:
        return sum(droplet.verdict.overdue is True for droplet in self.poller.fleet.droplets)
