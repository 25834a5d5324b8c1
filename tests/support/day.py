"""A large account in memory for long runs: what the API would be asked is counted, page by page.

The budget is the real one, and so is everything above the client; the clock is set by hand.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Awaitable, Callable, Iterable

from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.fleet.model import Fleet
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.support.cloud import (
    EPOCH_WEEKDAYS,
    RETENTION_DAYS,
    Cloud,
    FakePlan,
    Fate,
    Machine,
    Made,
    MemoryClient,
    in_memory,
)
from tests.support.world import DAY, HOUR, MONDAY, HandClock


class BigAccount(Cloud):
    """Healthy Droplets, two thirds daily and one third weekly, their windows spread evenly, as they are at `now`.

    Backups are made within three hours of the window's start, evenly spread, too. Droplets whose number is in `stale`
    miss every window to come.
    """

    def __init__(self, count: int, now: float = MONDAY, *, stale: frozenset[int] = frozenset()) -> None:
        self.clock = HandClock(hand=[now])
        super().__init__(self.clock)
        for number in range(1, count + 1):
            plan = FakePlan("weekly" if number % 3 == 0 else "daily", number * 4 % 24, EPOCH_WEEKDAYS[number // 3 % 7])
            part = number * 0.618034 % 1
            fates = (Fate(offset=900 + 3 * HOUR * part, size=round(1 + 9 * part, 2)),)
            begin = now - (RETENTION_DAYS[plan.name] + 1) * DAY
            self.add(Machine(number, MONDAY - 400 * DAY, plan, fates, disk=50.0, reached=begin))
        self.live()
        for number in stale:
            self.machines[number].fates = (Fate(made=False),)

    def live_until(self, now: float) -> None:
        """Makes what the time until now brings."""
        self.clock.set(max(now, self.clock.now()))
        self.live()
        self.before_poll()

    def back_up(self, numbers: Iterable[int], now: float) -> None:
        """Makes a backup of each of these Droplets, out of turn."""
        for number in numbers:
            made = Made(next(self.next_id), now, Fate(size=3.0))
            self.machines[number].made[made.id] = made


class SharedToken:
    """The API's count of requests by all exporters that share a token, as its headers show it."""

    def __init__(self, per_hour: int = 5000) -> None:
        self.per_hour = per_hour
        self.least = per_hour
        """What was left of an hour when that was least."""
        self._sent: deque[float] = deque()

    def spend(self, now: float) -> tuple[float, float, float]:
        """Counts one request; gives the limit, the remaining requests, and when the oldest request expires."""
        while self._sent and self._sent[0] <= now - HOUR:
            self._sent.popleft()
        self._sent.append(now)
        left = self.per_hour - len(self._sent)
        assert left >= 0, "the API would have refused this one"
        self.least = min(self.least, left)
        return self.per_hour, left, self._sent[0] + HOUR


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
        client = MemoryClient(
            account,
            self.clock,
            self.poller._budget,
            images_list_backups=images_list_backups,
            spend=None if shared is None else shared.spend,
        )
        self.asked = client.asked
        in_memory(self.poller, client)

    async def poll(self, after: float = 0.0) -> Counter[str]:
        """One poll, so many seconds later; what it asked."""
        self.clock.set(self.clock.now() + after)
        self.account.live_until(self.clock.now())
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
