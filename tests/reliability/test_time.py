"""Time as it comes: leap days, years' ends, local time, clocks set back and forward, a day asleep."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from tests.support.lookalike import Fault, policy
from tests.support.world import DAY, HOUR, MONDAY, World, healthy, take_backup

NOON = MONDAY + 12 * HOUR
SKEW = "exporter_api_clock_skew_seconds{}"


def at(text: str) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


@pytest.fixture(params=["Pacific/Kiritimati", "America/New_York", "Asia/Kathmandu"])
def zone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setenv("TZ", request.param)
    time.tzset()
    yield request.param
    monkeypatch.undo()
    time.tzset()


async def next_windows(world: World, day: float) -> None:
    for droplet_id in range(1, 3):
        world.account.policy_map[str(droplet_id)] = policy(droplet_id, hour=0, next_window=day + DAY)


async def miss_one_day(first: float) -> None:
    """Over the three days from `first` on, Droplet 1 is backed up daily and Droplet 2 not on the second."""
    async with World(healthy(2, now=first + 12 * HOUR), at=first + 12 * HOUR) as world:
        await world.poll()
        for day in (first + DAY, first + 2 * DAY):
            take_backup(world.account, 1, day + HOUR)
            await next_windows(world, day)
            await world.poll(day + 7 * HOUR)
            assert [world.missed(1), world.missed(2)] == [0, (day - first) / DAY - 1], "not due yet"
            await world.poll(day + 10 * HOUR)
            assert [world.missed(1), world.missed(2)] == [0, (day - first) / DAY]
            assert world.samples()['hours_until_next_window{droplet_id="1"}'] == 14


@pytest.mark.parametrize("day", ["2028-02-28", "2028-02-29", "2027-02-28", "2026-12-30", "2026-12-31", "2100-02-28"])
async def test_calendar(day: str) -> None:
    """A leap day and a year's end are days like others."""
    await miss_one_day(at(day))


@pytest.mark.parametrize("day", ["2026-03-07", "2026-10-31"])
async def test_local_time(zone: str, day: str) -> None:
    """Neither the local time zone nor its changes to and from daylight saving move a window."""
    assert time.tzname[0] != "UTC", zone
    await miss_one_day(at(day))


@pytest.mark.parametrize("step", [-HOUR, HOUR], ids=["back", "forward"])
async def test_clock_that_is_set(step: float) -> None:
    """A clock set by an hour while the exporter runs makes no alarm and no age below 0, and the next polls go on."""
    async with World(healthy(2, now=NOON), at=NOON) as world:
        await world.poll()
        take_backup(world.account, 1, MONDAY + DAY + HOUR)
        take_backup(world.account, 2, MONDAY + DAY + HOUR)
        await next_windows(world, MONDAY + DAY)
        await world.poll(MONDAY + DAY + HOUR + 60)
        for _ in range(3):
            assert await world.poll(after=step) == "success"
            samples = world.samples()
            assert samples['overdue{droplet_id="1"}'] == 0
            assert samples['newest_age_seconds{droplet_id="1"}'] >= 0
            assert world.unjudged() == 0
            world.clock.set(world.clock.now() - step)
            await world.poll(after=300)
        await world.poll(MONDAY + 2 * DAY + 10 * HOUR)
        assert [world.missed(1), world.missed(2)] == [1, 1], "a true miss shows all the same"


async def test_asleep_for_a_day() -> None:
    """After a day of suspension the first poll tells what was missed, and what was not."""
    async with World(healthy(2, now=NOON), at=NOON) as world:
        await world.poll()
        take_backup(world.account, 1, MONDAY + DAY + HOUR)
        await next_windows(world, MONDAY + DAY)
        assert await world.poll(after=DAY) == "success"
        assert [world.missed(1), world.missed(2)] == [0, 1]


async def test_clock_of_the_api() -> None:
    """The API's clock against ours is served; a difference above a minute is logged, once until it changes."""
    async with World(healthy(1, now=NOON), at=NOON) as world:
        with capture_logs() as log:
            await world.poll()
            assert abs(world.samples()[SKEW]) <= 1
            world.api.faults.append(Fault(headers={"date": "Mon, 28 Sep 2026 13:05:00 GMT"}))
            for _ in range(3):
                await world.poll(NOON + 300)
            assert world.samples()[SKEW] == 3600
            world.api.faults.clear()
            await world.poll(after=300)
        told = [(entry["log_level"], entry["ahead_seconds"]) for entry in log if "clock" in entry["event"]]
        assert told == [("warning", 3600), ("info", 0)]
