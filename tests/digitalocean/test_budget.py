"""The budget keeps the minute, the hour and the reserve, in a time that no test waits for."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections import deque
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.digitalocean.budget import Budget, BudgetSpent, utc_text
from tests.digitalocean.clocks import NOON, EventClock, JumpClock

HOUR = 3600.0
DAY = 86400.0


def budget(clock: JumpClock, per_minute: int = 10, per_hour: int = 100, reserve: float = 0.2) -> Budget:
    return Budget(per_minute, per_hour, reserve, clock)


async def send(budget: Budget, deadline: float = math.inf, keep: int = 0) -> None:
    """A request whose answer comes at once and has no headers."""
    budget.learn(await budget.acquire(deadline, keep), None, None, None)


async def told(budget: Budget, limit: float | None, remaining: float | None, reset: float | None) -> None:
    budget.learn(await budget.acquire(math.inf), limit, remaining, reset)


# The minute and the hour ----------------------------------------------------------------------------------------------


async def test_a_burst_of_a_minute_goes_at_once_and_the_next_waits_for_the_first_to_expire() -> None:
    """The minute's requests may be sent together; one more waits until a minute after the first."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=3)
    await send(pacing)
    clock.set(NOON + 20)
    for _ in range(2):
        await send(pacing)
    assert clock.now() == NOON + 20
    await send(pacing)
    assert clock.now() == NOON + 60
    await send(pacing)
    assert clock.now() == NOON + 80


async def test_the_hour_holds_less_the_reserve() -> None:
    """Of a hundred an hour with a reserve of a fifth, the eighty-first waits for the first to expire."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1000)
    for _ in range(80):
        await send(pacing)
    assert clock.now() == NOON
    assert pacing.spare() == 0
    await send(pacing)
    assert clock.now() == NOON + HOUR


async def test_a_request_counts_until_an_hour_after_its_answer() -> None:
    """The API may have counted a slow request at any moment up to its answer."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1)
    ticket = await pacing.acquire(math.inf)
    clock.set(NOON + 9)
    pacing.learn(ticket, None, None, None)
    await pacing.acquire(math.inf)
    assert clock.now() == NOON + 69


async def test_a_wait_beyond_the_deadline_is_refused_at_once_and_says_until_when() -> None:
    """Nothing is slept for what cannot be had in time."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1)
    await send(pacing)
    with pytest.raises(
        BudgetSpent, match=r"1 requests were sent in the last minute; the next request may be sent at .* UTC"
    ) as spent:
        await pacing.acquire(clock.now() + 59)
    assert spent.value.until == NOON + 60
    assert clock.now() == NOON
    await pacing.acquire(clock.now() + 60)


async def test_after_the_deadline_nothing_is_sent() -> None:
    """After the poll's end no request is sent, whatever the limits allow."""
    clock = JumpClock()
    with pytest.raises(BudgetSpent, match="the time of this poll is over"):
        await budget(clock).acquire(NOON - 1)


async def test_time_held_back_is_reported_as_it_passes() -> None:
    """The seconds of a wait are reported in parts, so that a counter moves meanwhile."""
    clock = JumpClock()
    held: list[float] = []
    pacing = Budget(1, 100, 0.2, clock, held.append)
    await send(pacing)
    assert held == []
    await send(pacing)
    assert sum(held) == 60
    assert max(held) <= 15


async def test_callers_are_served_in_order() -> None:
    """Requests are sent in the order in which they were asked for."""
    clock = EventClock()
    pacing = budget(clock, per_minute=1)
    served: list[int] = []

    async def ask(number: int) -> None:
        await send(pacing)
        served.append(number)

    tasks = [asyncio.create_task(ask(number)) for number in range(5)]
    await clock.run(NOON + 300)
    await asyncio.gather(*tasks)
    assert served == [0, 1, 2, 3, 4]


async def test_a_caller_that_gives_up_does_not_block_the_next() -> None:
    """A cancelled wait takes nothing and leaves its place."""
    clock = EventClock()
    pacing = budget(clock, per_minute=1)
    await send(pacing)
    first, second = (asyncio.create_task(send(pacing)) for _ in range(2))
    await clock.run(NOON + 5)
    first.cancel()
    await clock.run(NOON + 100)
    assert first.cancelled()
    assert second.done()
    assert pacing.spare() == 78


# What the headers tell ------------------------------------------------------------------------------------------------


async def test_the_remaining_requests_limit_the_budget_if_others_use_the_token() -> None:
    """Twenty-two left with a floor of twenty: two more go, the third waits for the reset."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 22, NOON + 100)
    assert pacing.spare() == 2
    await pacing.acquire(math.inf)
    await pacing.acquire(math.inf)
    assert pacing.spare() == 0
    with pytest.raises(
        BudgetSpent, match=r"20 of the token's 100 requests an hour are left, of which 20 are kept in reserve"
    ):
        await pacing.acquire(NOON + 99)


async def test_what_is_kept_for_others_of_ours_is_left_alone() -> None:
    """With `keep`, so many more requests stay unused, by the API's headers and by own counting."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=100)
    assert pacing.spare(keep=10) == 70
    await told(pacing, 100, 30, NOON + 100)
    assert pacing.spare(keep=8) == 2
    with pytest.raises(BudgetSpent):
        await pacing.acquire(NOON + 50, keep=10)
    await pacing.acquire(NOON + 50, keep=9)


async def test_own_counting_keeps_back_as_well() -> None:
    """Of eighty requests with ten kept back, the seventy-first that keeps them has to wait."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1000)
    for _ in range(70):
        await send(pacing, NOON, keep=10)
    with pytest.raises(BudgetSpent, match="this exporter's share of the hour, 80 of 100 requests, is used up"):
        await pacing.acquire(NOON, keep=10)
    await pacing.acquire(NOON)


async def test_only_requests_without_keep_get_new_headers() -> None:
    """What is kept back is not spent on asking whether there is more."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 20, NOON + 30)
    clock.set(NOON + 60)
    with pytest.raises(BudgetSpent):
        await pacing.acquire(NOON + 300, keep=1)
    await pacing.acquire(NOON + 300)
    assert clock.now() == NOON + 60


async def test_answers_out_of_order_do_not_bring_old_news() -> None:
    """The answer of an earlier request, arriving later, changes nothing."""
    clock = JumpClock()
    pacing = budget(clock)
    first, second = await pacing.acquire(math.inf), await pacing.acquire(math.inf)
    pacing.learn(second, 100, 25, NOON + 100)
    assert pacing.spare() == 4  # the first may have been counted after the second
    pacing.learn(first, 100, 60, NOON + 100)
    assert pacing.spare() == 4


async def test_at_the_reserve_one_request_is_sent_after_the_reset() -> None:
    """Exactly one is sent once the oldest request has expired; the others wait for its answer."""
    clock = EventClock()
    pacing = budget(clock)
    await told(pacing, 100, 20, NOON + 90)
    sent: list[tuple[float, int]] = []

    async def ask() -> None:
        ticket = await pacing.acquire(math.inf)
        sent.append((clock.now(), ticket))

    tasks = [asyncio.create_task(ask()) for _ in range(3)]
    await clock.run(NOON + 200)
    assert [at for at, _ in sent] == [NOON + 90]
    pacing.learn(sent[0][1], 100, 40, NOON + 1000)
    await clock.run(NOON + 230)
    assert len(sent) == 3
    await asyncio.gather(*tasks)


async def test_where_others_took_the_reserve_probing_is_once_a_minute_at_most() -> None:
    """Below the floor a reset that is always just ahead does not become a stream of requests."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 5, clock.now() + 1)
    for _ in range(5):
        before = clock.now()
        await told(pacing, 100, 5, clock.now() + 1)
        assert clock.now() >= before + 60


async def test_own_requests_that_expire_are_free_again_without_asking() -> None:
    """If no one else uses the token, own requests that expire are counted as free without asking the API."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1000, reserve=0.5)
    await told(pacing, 100, 99, NOON + HOUR)
    clock.set(NOON + 1800)
    await told(pacing, 100, 51, NOON + HOUR)
    assert pacing.spare() == 1
    await pacing.acquire(math.inf)
    assert pacing.spare() == 0
    clock.set(NOON + HOUR)
    assert pacing.spare() == 1


async def test_a_lower_limit_than_configured_is_learned() -> None:
    """The API's limit of ten counts, though a hundred were configured."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 10, 9, NOON + HOUR)
    assert pacing.spare() == 7


@pytest.mark.parametrize("limit", [0.0, -5.0, None, math.inf, math.nan])
async def test_an_absurd_limit_is_ignored(limit: float | None) -> None:
    """No header makes the exporter fall silent by claiming that nothing is allowed."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, limit, 0, NOON + HOUR)
    assert pacing.spare() == 79


@pytest.mark.parametrize("reset", [1_420_070_400.0, -1.0, 0.0, NOON + 2 * HOUR, NOON - 2 * HOUR, 1e18, math.nan])
async def test_a_reset_that_cannot_be_makes_the_remaining_incredible(reset: float) -> None:
    """With an impossible reset the remaining requests are ignored; own counting still holds."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 0, reset)
    assert pacing.spare() == 79
    await pacing.acquire(clock.now())


@pytest.mark.parametrize("remaining", [-1.0, 101.0, math.nan])
async def test_a_remaining_that_cannot_be_is_ignored(remaining: float) -> None:
    """A negative value, or one above the limit, is ignored."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, remaining, NOON + 10)
    assert pacing.spare() == 79


async def test_a_probe_that_learns_nothing_ends_the_old_figure() -> None:
    """If the API stops sending its headers, the exporter does not wait for ever."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 20, NOON + 30)
    await send(pacing)
    assert clock.now() == NOON + 30
    assert pacing.spare() == 78


async def test_a_figure_is_forgotten_after_an_hour() -> None:
    """By then every request that it counted has expired."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 0, NOON + HOUR)
    clock.set(NOON + HOUR + 1)
    assert pacing.spare() == 80


async def test_probes_without_an_answer_are_tried_again_after_a_minute() -> None:
    """A request without an answer is tried again after a minute, and not more often."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 20, NOON + 30)
    for lost in range(3):
        pacing.close(await pacing.acquire(math.inf))
        assert clock.now() == NOON + 30 + lost * 60


async def test_another_token_starts_with_a_clean_slate_but_for_own_requests() -> None:
    """Headers and a 429 for one token do not count for the next token."""
    clock = JumpClock()
    pacing = budget(clock)
    await told(pacing, 100, 20, NOON + 100)
    pacing.hold_until(NOON + 1000)
    pacing.forget_headers()
    assert pacing.spare() == 79
    await pacing.acquire(clock.now())


# 429 ------------------------------------------------------------------------------------------------------------------


async def test_nothing_is_sent_before_the_end_of_a_429() -> None:
    """The API's wait binds every caller, not only the one that was refused."""
    clock = JumpClock()
    pacing = budget(clock)
    pacing.hold_until(NOON + 500)
    pacing.hold_until(NOON + 400)
    with pytest.raises(BudgetSpent, match="the API asked to wait") as spent:
        await pacing.acquire(NOON + 499)
    assert spent.value.until == NOON + 500
    await pacing.acquire(NOON + 500)
    assert clock.now() == NOON + 500


async def test_after_a_429_one_request_finds_out_whether_the_others_may_follow() -> None:
    """A storm of refusals is not answered with a storm of requests."""
    clock = EventClock()
    pacing = budget(clock)
    pacing.hold_until(NOON + 10)
    tickets: list[int] = []

    async def ask() -> None:
        tickets.append(await pacing.acquire(math.inf))

    tasks = [asyncio.create_task(ask()) for _ in range(4)]
    await clock.run(NOON + 20)
    assert len(tickets) == 1
    pacing.learn(tickets[0], None, None, None)
    pacing.hold_until(NOON + 30)
    await clock.run(NOON + 40)
    assert len(tickets) == 2
    pacing.learn(tickets[1], None, None, None)
    pacing.accepted()
    await clock.run(NOON + 40)
    assert len(tickets) == 4
    await asyncio.gather(*tasks)


# The clock ------------------------------------------------------------------------------------------------------------


async def test_a_clock_set_back_does_not_stop_the_sending() -> None:
    """What is remembered goes back with the clock: an hour back is no hour of silence."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=2)
    pacing.hold_until(NOON + 5)
    await send(pacing)
    await send(pacing)
    clock.set(NOON - HOUR)
    await send(pacing)
    assert clock.now() <= NOON - HOUR + 61


async def test_a_clock_set_forward_does_not_crash() -> None:
    """A day's leap lets everything expire."""
    clock = JumpClock()
    pacing = budget(clock, per_minute=1)
    await told(pacing, 100, 20, NOON + 100)
    ticket = await pacing.acquire(math.inf)
    clock.set(NOON + DAY)
    pacing.close(ticket)
    await send(pacing)
    assert clock.now() <= NOON + DAY + 60


@pytest.mark.parametrize(("instant", "text"), [(0.0, "1970-01-01 00:00:00 UTC"), (1e300, "1e+300"), (math.inf, "inf")])
def test_any_instant_has_a_text(instant: float, text: str) -> None:
    """An instant beyond the calendar is written as a number."""
    assert utc_text(instant) == text


# Simulated time with other users --------------------------------------------------------------------------------------


@dataclass
class Token:
    """The API's own account of a token: each request expires an hour after it was made, whoever made it."""

    clock: JumpClock
    limit: int
    all: deque[float] = field(default_factory=deque)
    own: list[float] = field(default_factory=list)

    def expire(self) -> None:
        while self.all and self.all[0] + HOUR <= self.clock.now():
            self.all.popleft()

    def spend(self, *, own: bool) -> tuple[int, int, float]:
        self.expire()
        self.all.append(self.clock.now())
        if own:
            self.own.append(self.clock.now())
        return self.limit, max(0, self.limit - len(self.all)), math.ceil(self.all[0] + HOUR)


def most_in_any(times: list[float], span: float) -> int:
    """How many lie in the fullest span."""
    most = start = 0
    for end, time in enumerate(times):
        while times[start] <= time - span:
            start += 1
        most = max(most, end - start + 1)
    return most


async def ask_until(budget: Budget, token: Token, clock: JumpClock, deadline: float, latency: float) -> None:
    """A worker of a poll: request after request until the budget ends it."""
    while True:
        try:
            ticket = await budget.acquire(deadline)
        except BudgetSpent:
            return
        await clock.sleep(latency / 2)
        headers = token.spend(own=True)
        await clock.sleep(latency / 2)
        budget.learn(ticket, *headers)


async def test_over_a_day_alone_on_a_token_everything_but_the_reserve_is_used_and_no_more() -> None:
    """A greedy poller spends its share of each hour and never more of any hour or minute; the token keeps its floor."""
    clock = EventClock()
    token, pacing = Token(clock, 200), Budget(20, 200, 0.2, clock)
    lowest = 200
    for poll in range(288):
        begun = NOON + poll * 300
        workers = [asyncio.create_task(ask_until(pacing, token, clock, begun + 290, 0.3)) for _ in range(4)]
        await clock.run(begun + 300)
        await asyncio.gather(*workers)
        token.expire()
        lowest = min(lowest, 200 - len(token.all))
    assert most_in_any(token.own, 60) <= 20
    assert most_in_any(token.own, HOUR) <= 160
    assert lowest >= 40
    assert len(token.own) >= 160 * 23


@settings(max_examples=25)
@given(
    others=st.lists(st.tuples(st.floats(0, 2 * HOUR), st.integers(1, 120)), max_size=12),
    latency=st.sampled_from([0.0, 0.2, 9.0]),
    reserve=st.sampled_from([0.0, 0.2, 0.5]),
    actual=st.sampled_from([60, 100, 400]),
)
async def test_with_other_users_the_reserve_is_theirs(
    others: list[tuple[float, int]], latency: float, reserve: float, actual: int
) -> None:
    """Whatever others spend, after an answer that shows no more than the reserve nothing is sent until something
    can have expired; where they took of the reserve, at most one request a minute asks."""
    clock = EventClock()
    token, pacing = Token(clock, actual), Budget(10, 100, reserve, clock)
    floor = math.ceil(actual * reserve)
    history: list[tuple[float, int, float, float]] = []

    async def spend_elsewhere() -> None:
        for at, count in sorted(others):
            await clock.sleep(NOON + at - clock.now())
            for _ in range(count):
                token.spend(own=False)

    async def poll(deadline: float) -> None:
        while True:
            try:
                ticket = await pacing.acquire(deadline)
            except BudgetSpent:
                return
            sent_at = clock.now()
            await clock.sleep(latency / 2)
            limit, remaining, reset = token.spend(own=True)
            await clock.sleep(latency / 2)
            history.append((sent_at, remaining, reset, clock.now()))
            pacing.learn(ticket, limit, remaining, reset)

    elsewhere = asyncio.create_task(spend_elsewhere())
    for number in range(48):
        begun = NOON + number * 300
        worker = asyncio.create_task(poll(begun + 290))
        await clock.run(begun + 300)
        await worker
    await elsewhere
    assert most_in_any(token.own, 60) <= 10
    # Before the first answer, and once a figure is an hour old, one request goes without knowing the API's own limit.
    assert most_in_any(token.own, HOUR) <= max(1, min(100, actual) - math.ceil(min(100, actual) * reserve)) + 1
    own = [sent_at for sent_at, *_ in history]
    for (_, remaining, reset, answered_at), (sent_at, *_) in itertools.pairwise(history):
        if remaining <= floor:
            expiries = [at + HOUR for at in own if at + HOUR >= answered_at]
            assert sent_at >= min([reset, answered_at + HOUR, *expiries])
        if remaining < floor:
            expired = [at for at in own if answered_at - HOUR <= at <= sent_at - HOUR]
            assert sent_at >= answered_at + 60 or len(expired) > floor - remaining
    # All others are silent for the last two hours: the exporter has found its way back.
    assert [at for at in own if at > NOON + 3 * HOUR]
