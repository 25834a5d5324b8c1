"""How many requests one token may still send: limits per minute and per hour, and a share for its other users.

Facts about the API: each request expires an hour after it was made. `ratelimit-remaining` is how many requests are left
to all users of the token together; `ratelimit-reset` is when the oldest request expires. The API counts a request at
some moment between its sending and its answer. So here it counts from its sending until a minute, or an hour, after its
answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple
from weakref import WeakValueDictionary

from exporter.clock import Clock

MINUTE = 60.0
HOUR = 3600.0

_SKEW = 300.0
"""A reset that lies further ahead than an hour and so many seconds is ignored: the clocks may differ by so much."""
_SLICE = 15.0
"""Seconds of sleep after which it looks again, because an answer may have raised the limit meanwhile."""


class BudgetSpent(Exception):  # noqa: N818  # the name says what happened
    """No request may be sent before the deadline."""

    def __init__(self, until: float, why: str) -> None:
        super().__init__(f"{why}; the next request may be sent at {utc_text(until)}")
        self.until = until
        """When a request may be sent, as far as is known, in Unix seconds."""


def utc_text(instant: float) -> str:
    """An instant as a date and time; a number if it is beyond the calendar."""
    try:
        return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(instant)


class _SentRequest(NamedTuple):
    """A request that is over."""

    at: float
    """When its answer came, or the wait for it ended."""
    sent_at: float
    answered: bool


@dataclass(slots=True)
class _LimitHeaders:
    """The latest `ratelimit-` headers, and what has changed since."""

    at: float
    ticket: int
    limit: int
    remaining: int
    reset: float | None
    unanswered: int
    """Requests sent before that one and not answered by then: the API may have counted them later."""
    expired: int = 0
    """How many of the exporter's own requests that it counts have expired since."""


def _nothing(seconds: float) -> None:
    """Does nothing."""


class Budget:
    """The budget of one token, shared by all requests that use it.

    It keeps three rules: at most `per_minute` requests in any 60 s; at most (1 - reserve) x limit in any hour, where
    limit is the lower of `per_hour` and the API's own; and the token's remaining requests, computed from the latest
    headers, never fall below reserve x limit.
    """

    def __init__(
        self,
        per_minute: int,
        per_hour: int,
        reserve: float,
        clock: Clock,
        throttled: Callable[[float], None] = _nothing,
    ) -> None:
        """`throttled` is called with the seconds for which requests were delayed, as they pass."""
        self._per_minute = per_minute
        self._per_hour = per_hour
        self._reserve = reserve
        self._clock = clock
        self._listeners = [throttled]
        self._turn = asyncio.Lock()
        self._latest = clock.now()
        self._tickets = 0
        self._last_sent = -math.inf
        self._in_flight: dict[int, float] = {}
        self._settled = asyncio.Event()
        self._minute: deque[float] = deque()
        self._hour: deque[_SentRequest] = deque()
        self._headers: _LimitHeaders | None = None
        self._held_until = -math.inf
        self._one_at_a_time = False
        self._held_since: float | None = None

    def set_limits(self, per_minute: int, per_hour: int, reserve: float) -> None:
        """Changes the limits. The requests that were sent still count."""
        self._per_minute = per_minute
        self._per_hour = per_hour
        self._reserve = reserve

    def report_to(self, throttled: Callable[[float], None]) -> None:
        """Another account uses the same token: reports delays to it as well."""
        if throttled not in self._listeners:
            self._listeners.append(throttled)

    def _throttled(self, seconds: float) -> None:
        for listener in self._listeners:
            listener(seconds)

    # Before a request ----------------------------------------------------------------------------------------------

    async def acquire(self, deadline: float, keep: int = 0) -> int:
        """Waits until one more request may be sent, and returns its ticket. `keep` requests of the hour stay unused.

        Callers are served in order. Each ticket must be given back by `learn` or `close`. Raises BudgetSpent at once if
        the wait would end after the deadline.
        """
        async with self._turn:
            while True:
                now = self._now()
                if self._one_at_a_time and self._in_flight:
                    # After a 429 one request at a time finds out whether the others may follow.
                    self._hold(now)
                    self._settled.clear()
                    await self._settled.wait()
                    continue
                at, why = self._earliest(now, keep)
                if now > deadline:
                    raise BudgetSpent(max(at, now), "the time of this poll is over")
                if at <= now:
                    break
                self._hold(now)
                if at > deadline:
                    raise BudgetSpent(at, why)
                await self._clock.sleep(min(at - now, _SLICE))
            if self._held_since is not None:
                self._hold(now)
                self._held_since = None
            self._tickets += 1
            self._in_flight[self._tickets] = self._last_sent = now
            return self._tickets

    def _hold(self, now: float) -> None:
        """Counts the time during which no request may be sent as delay, also when none waits."""
        if self._held_since is not None:
            self._throttled(max(0.0, now - self._held_since))
        self._held_since = now

    def spare(self, keep: int = 0) -> int:
        """How many requests the hour still allows now, besides `keep`."""
        now = self._now()
        spare = self.allowance - len(self._hour) - len(self._in_flight) - keep
        if self._headers is not None:
            spare = min(spare, self._remaining(self._headers) - self._reserved(self._headers) - keep)
        return max(0, spare) if self._held_until <= now + HOUR else 0

    def minute_wait(self, requests: int) -> float:
        """Seconds until the minute's limit has room for so many requests, or for `per_minute` if that is less."""
        now = self._now()
        surplus = len(self._minute) + len(self._in_flight) + min(requests, self._per_minute) - self._per_minute
        if surplus <= 0 or not self._minute:
            return 0.0
        return max(0.0, self._minute[min(surplus, len(self._minute)) - 1] + MINUTE - now)

    # After a request -----------------------------------------------------------------------------------------------

    def learn(self, ticket: int, limit: float | None, remaining: float | None, reset: float | None) -> None:
        """An answer came. The other values are its `ratelimit-` headers; `None`: missing, or not a number."""
        self._close(ticket, answered=True)
        now = self._latest
        if limit is None and remaining is None:
            if self._headers is not None and self._headers.reset is not None and self._headers.reset <= now:
                self._headers = None
            return
        believable = (
            limit is not None
            and remaining is not None
            and 1 <= limit < math.inf
            and 0 <= remaining <= limit
            and (reset is None or now - HOUR <= reset <= now + HOUR + _SKEW)
        )
        if not believable:
            self._headers = None
        elif self._headers is None or ticket > self._headers.ticket:
            assert limit is not None
            assert remaining is not None
            unanswered = sum(1 for other in self._in_flight if other < ticket)
            self._headers = _LimitHeaders(now, ticket, int(limit), int(remaining), reset, unanswered)

    def close(self, ticket: int) -> None:
        """No answer came. The API may have counted the request nevertheless."""
        self._close(ticket, answered=False)

    def hold_until(self, instant: float) -> None:
        """The API asked to send nothing before this instant (429)."""
        self._held_until = max(self._held_until, instant)
        self._one_at_a_time = True

    def accepted(self) -> None:
        """The API accepted a request: the 429s are over."""
        self._one_at_a_time = False

    def forget_headers(self) -> None:
        """Forgets what the API said about the last token, because the token is another one."""
        self._headers = None
        self._held_until = -math.inf
        self._one_at_a_time = False

    # Counting ------------------------------------------------------------------------------------------------------

    def _close(self, ticket: int, *, answered: bool) -> None:
        sent_at = self._in_flight.pop(ticket, None)
        self._settled.set()
        if sent_at is not None:
            now = self._now()
            self._minute.append(now)
            self._hour.append(_SentRequest(now, sent_at, answered))

    def _now(self) -> float:
        """The current time. Drops expired requests. If the clock was set back, moves all remembered times with it."""
        now = self._clock.now()
        step = now - self._latest
        if -1.0 < step < 0:
            return self._latest
        if step < 0:
            self._shift(step)
        self._latest = now
        while self._minute and self._minute[0] + MINUTE <= now:
            self._minute.popleft()
        while self._hour and self._hour[0].at + HOUR <= now:
            gone = self._hour.popleft()
            if self._headers is not None and gone.answered and gone.sent_at + HOUR > self._headers.at:
                self._headers.expired += 1
        if self._headers is not None and self._headers.at + HOUR < now:
            self._headers = None
        return now

    def _shift(self, step: float) -> None:
        self._minute = deque(at + step for at in self._minute)
        self._hour = deque(_SentRequest(one.at + step, one.sent_at + step, one.answered) for one in self._hour)
        self._in_flight = {ticket: at + step for ticket, at in self._in_flight.items()}
        self._held_until += step
        self._last_sent += step
        if self._headers is not None:
            self._headers.at += step
            if self._headers.reset is not None:
                self._headers.reset += step

    def _limit(self) -> int:
        return self._per_hour if self._headers is None else min(self._per_hour, self._headers.limit)

    @property
    def allowance(self) -> int:
        """How many of the hour's requests this exporter may send."""
        limit = self._limit()
        return max(1, limit - math.ceil(limit * self._reserve))

    def _reserved(self, headers: _LimitHeaders) -> int:
        """How many of the token's requests are left for its other users."""
        return math.ceil(headers.limit * self._reserve)

    def _remaining(self, headers: _LimitHeaders) -> int:
        """The token's remaining requests now, if nothing else has sent requests since those headers."""
        return headers.remaining - headers.unanswered - (self._tickets - headers.ticket) + headers.expired

    def _earliest(self, now: float, keep: int) -> tuple[float, str]:
        """When the next request may be sent, and what delays it until then."""
        holds = [
            (self._held_until, "the API asked to wait (429)"),
            (self._minute_free(now), f"{self._per_minute} requests were sent in the last minute"),
            (
                self._own_free(now, keep),
                f"this exporter's share of the hour, {self.allowance} of {self._limit()} requests, is used up"
                + (f", except for {keep} requests that coming listings need" if keep else ""),
            ),
        ]
        headers = self._headers
        if headers is not None:
            why = (
                f"{max(0, self._remaining(headers))} of the token's {headers.limit} requests an hour are left, of which"
                f" {self._reserved(headers) + keep} are kept in reserve; if other programs use this token, give the"
                " exporter one of its own"
            )
            holds.append((self._free_by_headers(now, keep, headers), why))
        return max(holds)

    def _minute_free(self, now: float) -> float:
        surplus = len(self._minute) + len(self._in_flight) - self._per_minute + 1
        if surplus <= 0:
            return now
        return self._minute[surplus - 1] + MINUTE if surplus <= len(self._minute) else now + MINUTE

    def _own_free(self, now: float, keep: int) -> float:
        surplus = len(self._hour) + len(self._in_flight) + keep - self.allowance + 1
        if surplus <= 0:
            return now
        return self._hour[surplus - 1].at + HOUR if surplus <= len(self._hour) else now + HOUR

    def _free_by_headers(self, now: float, keep: int, headers: _LimitHeaders) -> float:
        lacking = self._reserved(headers) + keep + 1 - self._remaining(headers)
        if lacking <= 0:
            return now
        free = headers.at + HOUR
        for one in self._hour:
            if one.answered and one.sent_at + HOUR > headers.at:
                lacking -= 1
                if lacking == 0:
                    free = min(free, one.at + HOUR)
                    break
        if keep == 0:
            free = min(free, self._probe_at(now, headers))
        return max(now, free)

    def _probe_at(self, now: float, headers: _LimitHeaders) -> float:
        """When one request may be sent although nothing above the reserve is left, to get new headers.

        That is at the reset. It is a minute after the last headers or request if the reset lay in the past or is
        missing, if the token's other users have used the reserve, or if requests since had no answer: otherwise such
        requests would use up the reserve.
        """
        at = headers.reset if headers.reset is not None else headers.at
        if at <= headers.at or headers.remaining < self._reserved(headers) or self._tickets > headers.ticket:
            at = max(at, headers.at + MINUTE, self._last_sent + MINUTE)
        return max(at, now + 1.0) if self._in_flight else at


class Budgets:
    """One budget for each token, however many accounts and pollers use it. It holds digests of tokens only."""

    def __init__(self, new: Callable[[], Budget]) -> None:
        self._new = new
        self._of: WeakValueDictionary[tuple[str, str], Budget] = WeakValueDictionary()

    def of(self, api_url: str, token: str, present: Budget) -> Budget:
        """The token's budget. A new token gets `present`, or a new budget if `present` belongs to another token."""
        key = api_url, hashlib.sha256(token.encode()).hexdigest()
        found = self._of.get(key)
        if found is None:
            taken = any(present is budget for budget in self._of.values())
            found = self._of[key] = self._new() if taken else present
        return found
