"""How many requests one token may still send: the minute's limit, the hour's, and the share of the token's other users.

Facts of the API: each request expires an hour after it was made; `ratelimit-remaining` tells how many are left to the
token, all its users together, and `ratelimit-reset` when the oldest expires. A request counts at the API at some moment
between its sending and its answer, so here it counts from its sending until a minute, or an hour, after its answer.
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
"""How far the API's clock may be ahead of ours before its reset is not believed."""
_SLICE = 15.0
"""The longest sleep before looking again: an answer may have brought better news."""


class BudgetSpent(Exception):  # noqa: N818 - reads as what happened
    """No request may be sent before the deadline."""

    def __init__(self, until: float, why: str) -> None:
        super().__init__(f"{why}; the next may go at {moment(until)}")
        self.until = until
        """When one may be, as far as is known, in Unix seconds."""


def moment(instant: float) -> str:
    """An instant for people; a bare number where the calendar ends."""
    try:
        return datetime.fromtimestamp(instant, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(instant)


class _Answered(NamedTuple):
    at: float
    sent_at: float
    heard: bool


@dataclass(slots=True)
class _Told:
    """What an answer's headers said, and what has become of it since."""

    at: float
    ticket: int
    limit: int
    remaining: int
    reset: float | None
    unheard: int
    """Requests sent before that one and not yet answered: the API may have counted them later."""
    expired: int = 0
    """Own requests counted in it that have expired since."""


def _nothing(seconds: float) -> None:
    """Reports to nobody."""


class Budget:
    """Shared by all requests of one account.

    Three rules, kept together: at most `per_minute` requests in any 60 s; at most (1 - reserve) x limit in any hour,
    the limit being the lower of `per_hour` and what the API says; and the token's remaining requests, as last told and
    reckoned on, never below reserve x limit.
    """

    def __init__(
        self,
        per_minute: int,
        per_hour: int,
        reserve: float,
        clock: Clock,
        throttled: Callable[[float], None] = _nothing,
    ) -> None:
        """`throttled` is told the seconds that sending was held back, as they pass."""
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
        self._hour: deque[_Answered] = deque()
        self._told: _Told | None = None
        self._held_until = -math.inf
        self._wary = False
        self._held_since: float | None = None

    def limit(self, per_minute: int, per_hour: int, reserve: float) -> None:
        """Other limits from now on; what was sent and told stays known."""
        self._per_minute = per_minute
        self._per_hour = per_hour
        self._reserve = reserve

    def report_to(self, throttled: Callable[[float], None]) -> None:
        """Another account uses the same token: what is held back is held back from both."""
        if throttled not in self._listeners:
            self._listeners.append(throttled)

    def _throttled(self, seconds: float) -> None:
        for listener in self._listeners:
            listener(seconds)

    # Before a request ----------------------------------------------------------------------------------------------

    async def acquire(self, deadline: float, keep: int = 0) -> int:
        """Wait until one more request may be sent, leaving `keep` of the hour to others of ours; its ticket.

        Callers are served in order. Each ticket is to be given back by `learn` or `close`.
        Raises BudgetSpent at once where the wait would end after the deadline.
        """
        async with self._turn:
            while True:
                now = self._now()
                if self._wary and self._in_flight:
                    # After a 429 one request at a time finds out whether the others may follow.
                    self._hold(now)
                    self._settled.clear()
                    await self._settled.wait()
                    continue
                at, why = self._earliest(now, keep)
                if now > deadline:
                    raise BudgetSpent(max(at, now), "the poll's time is over")
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
        """A request cannot go now: the time until one can is time held back, also where nobody waits for it."""
        if self._held_since is not None:
            self._throttled(max(0.0, now - self._held_since))
        self._held_since = now

    def spare(self, keep: int = 0) -> int:
        """How many requests the hour allows now, `keep` of them left to others of ours."""
        now = self._now()
        spare = self.allowance - len(self._hour) - len(self._in_flight) - keep
        if self._told is not None:
            spare = min(spare, self._remaining(self._told) - self._floor(self._told) - keep)
        return max(0, spare) if self._held_until <= now + HOUR else 0

    def minute_wait(self, requests: int) -> float:
        """Seconds until the minute's limit has room for so many requests, or for all that it ever has."""
        now = self._now()
        surplus = len(self._minute) + len(self._in_flight) + min(requests, self._per_minute) - self._per_minute
        if surplus <= 0 or not self._minute:
            return 0.0
        return max(0.0, self._minute[min(surplus, len(self._minute)) - 1] + MINUTE - now)

    # After a request -----------------------------------------------------------------------------------------------

    def learn(self, ticket: int, limit: float | None, remaining: float | None, reset: float | None) -> None:
        """An answer came, with these in its `ratelimit-` headers; `None` for each that is missing or no number."""
        self._close(ticket, heard=True)
        now = self._latest
        if limit is None and remaining is None:
            if self._told is not None and self._told.reset is not None and self._told.reset <= now:
                self._told = None
            return
        believable = (
            limit is not None
            and remaining is not None
            and 1 <= limit < math.inf
            and 0 <= remaining <= limit
            and (reset is None or now - HOUR <= reset <= now + HOUR + _SKEW)
        )
        if not believable:
            self._told = None
        elif self._told is None or ticket > self._told.ticket:
            assert limit is not None
            assert remaining is not None
            unheard = sum(1 for other in self._in_flight if other < ticket)
            self._told = _Told(now, ticket, int(limit), int(remaining), reset, unheard)

    def close(self, ticket: int) -> None:
        """No answer came; the API may have counted the request all the same."""
        self._close(ticket, heard=False)

    def hold_until(self, instant: float) -> None:
        """The API asked to send nothing before this instant."""
        self._held_until = max(self._held_until, instant)
        self._wary = True

    def welcome(self) -> None:
        """A request was let through: the 429s are over."""
        self._wary = False

    def forget(self) -> None:
        """The token is another: what the API told of the last one says nothing of it."""
        self._told = None
        self._held_until = -math.inf
        self._wary = False

    # Reckoning -----------------------------------------------------------------------------------------------------

    def _close(self, ticket: int, *, heard: bool) -> None:
        sent_at = self._in_flight.pop(ticket, None)
        self._settled.set()
        if sent_at is not None:
            now = self._now()
            self._minute.append(now)
            self._hour.append(_Answered(now, sent_at, heard))

    def _now(self) -> float:
        """The clock, expired requests put away. Where it was set back, all that is remembered goes with it."""
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
            if self._told is not None and gone.heard and gone.sent_at + HOUR > self._told.at:
                self._told.expired += 1
        if self._told is not None and self._told.at + HOUR < now:
            self._told = None
        return now

    def _shift(self, step: float) -> None:
        self._minute = deque(at + step for at in self._minute)
        self._hour = deque(_Answered(one.at + step, one.sent_at + step, one.heard) for one in self._hour)
        self._in_flight = {ticket: at + step for ticket, at in self._in_flight.items()}
        self._held_until += step
        self._last_sent += step
        if self._told is not None:
            self._told.at += step
            if self._told.reset is not None:
                self._told.reset += step

    def _limit(self) -> int:
        return self._per_hour if self._told is None else min(self._per_hour, self._told.limit)

    @property
    def allowance(self) -> int:
        """How many of the hour's requests may be ours."""
        limit = self._limit()
        return max(1, limit - math.ceil(limit * self._reserve))

    def _floor(self, told: _Told) -> int:
        """What of the token's requests is left to its other users."""
        return math.ceil(told.limit * self._reserve)

    def _remaining(self, told: _Told) -> int:
        """The token's remaining requests, if only we have sent any since it was told."""
        return told.remaining - told.unheard - (self._tickets - told.ticket) + told.expired

    def _earliest(self, now: float, keep: int) -> tuple[float, str]:
        """When the next request may be sent, and what holds it back until then."""
        holds = [
            (self._held_until, "the API asked to wait (429)"),
            (self._minute_free(now), f"{self._per_minute} requests were sent in the last minute"),
            (
                self._own_free(now, keep),
                f"this exporter's share of the hour, {self.allowance} of {self._limit()} requests, is spent"
                + (f", but for the {keep} that coming listings need" if keep else ""),
            ),
        ]
        told = self._told
        if told is not None:
            why = (
                f"{max(0, self._remaining(told))} of the token's {told.limit} requests an hour are left, of which"
                f" {self._floor(told) + keep} are kept back"
            )
            holds.append((self._told_free(now, keep, told), why))
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

    def _told_free(self, now: float, keep: int, told: _Told) -> float:
        lacking = self._floor(told) + keep + 1 - self._remaining(told)
        if lacking <= 0:
            return now
        free = told.at + HOUR
        for one in self._hour:
            if one.heard and one.sent_at + HOUR > told.at:
                lacking -= 1
                if lacking == 0:
                    free = min(free, one.at + HOUR)
                    break
        if keep == 0:
            free = min(free, self._probe_at(now, told))
        return max(now, free)

    def _probe_at(self, now: float, told: _Told) -> float:
        """When one request may be sent, at the floor, to learn anew.

        After the reset, if that promised anything; a minute later where it lay in the past, is missing, where the
        token's other users have taken more than theirs, or where requests since went unanswered, so that probing
        does not eat the reserve.
        """
        at = told.reset if told.reset is not None else told.at
        if at <= told.at or told.remaining < self._floor(told) or self._tickets > told.ticket:
            at = max(at, told.at + MINUTE, self._last_sent + MINUTE)
        return max(at, now + 1.0) if self._in_flight else at


class Budgets:
    """One budget for each token, however many accounts and pollers use it. Tokens are held as digests."""

    def __init__(self, new: Callable[[], Budget]) -> None:
        self._new = new
        self._of: WeakValueDictionary[tuple[str, str], Budget] = WeakValueDictionary()

    def of(self, api_url: str, token: str, present: Budget) -> Budget:
        """The token's budget. `present` becomes it where the token is not known yet and it is no other token's."""
        key = api_url, hashlib.sha256(token.encode()).hexdigest()
        found = self._of.get(key)
        if found is None:
            taken = any(present is budget for budget in self._of.values())
            found = self._of[key] = self._new() if taken else present
        return found
