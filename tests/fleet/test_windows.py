"""Intervals, and the hours until the next window."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.fleet.model import Policy, Schedule, SupportedPolicy, Window
from exporter.fleet.schedule import hours_until_next_window, interval_of, schedule_of
from tests.fleet.life import at
from tests.fleet.oracle import DAY, HOUR, WEEK


@pytest.mark.parametrize(
    ("plan", "seconds"),
    [
        ("daily", 86_400),
        ("weekly", 604_800),
        ("intra_daily_1h", 3_600),
        ("intra_daily_4h", 14_400),
        ("intra_daily_12h", 43_200),
        ("intra_daily_48h", 172_800),
    ],
)
def test_interval_of_plans(plan: str, seconds: float) -> None:
    """Expected time between backups: `daily` 86400, `weekly` 604800, `intra_daily_Nh` N*3600."""
    assert interval_of(plan) == seconds


@pytest.mark.parametrize(
    "plan",
    [
        None,
        "",
        "monthly",
        "Daily",
        "daily ",
        "daily\n",
        "biweekly",
        "intra_daily_0h",
        "intra_daily_00h",
        "intra_daily_-4h",
        "intra_daily_+4h",
        "intra_daily_4.5h",
        "intra_daily_4_0h",
        "intra_daily_ 4h",
        "intra_daily_4h\n",
        "intra_daily_4hh",
        "intra_daily_4m",
        "intra_daily_4",
        "intra_daily_h",
        "xintra_daily_4h",
        "intra_daily_٤h",
        "intra_daily_²h",
        "intra_daily_nanh",
        "intra_daily_1e1h",
    ],
)
def test_interval_of_a_plan_not_known(plan: str | None) -> None:
    """An unknown plan, or one of zero hours, has no interval."""
    assert interval_of(plan) is None


@pytest.mark.parametrize("digits", [3, 30, 400, 5000])
def test_interval_of_a_giant(digits: int) -> None:
    """A plan with a huge number has a finite interval, or none."""
    interval = interval_of(f"intra_daily_{'9' * digits}h")
    assert interval is None or 0 < interval < float("inf")


@given(st.text(alphabet="intra_daily_0123456789hwekdl .-\n") | st.text())
def test_interval_of_anything(plan: str) -> None:
    """For any text as the plan, the interval is positive or absent."""
    interval = interval_of(plan)
    assert interval is None or interval > 0


def daily(start: str, hours: float = 4.0) -> Schedule:
    return Schedule(at(start), DAY, hours * HOUR)


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-03-10 03:00", 1.0),
        ("2026-03-10 03:59:59", 1 / 3600),
        ("2026-03-08 16:00", 12.0),
        ("2026-03-10 04:00", 0.0),
        ("2026-03-10 07:59:59", 0.0),
        ("2026-03-10 08:00:01", 20 - 1 / 3600),
        ("2026-03-11 09:00", 19.0),
        ("2027-03-10 03:30", 0.5),
    ],
)
def test_hours_by_the_schedule(now: str, hours: float) -> None:
    """Hours to the start of the next window of the schedule, forwards and backwards; 0 while one is open."""
    assert hours_until_next_window(daily("2026-03-10 04:00"), None, at(now)) == pytest.approx(hours)


def test_todays_window_is_open_though_the_api_names_tomorrows() -> None:
    """The schedule decides, not the window that the API names."""
    named = Window(at("2026-03-11 04:00"), at("2026-03-11 08:00"))
    assert hours_until_next_window(daily("2026-03-10 04:00"), named, at("2026-03-10 05:00")) == 0


@pytest.mark.parametrize(
    ("now", "hours"),
    [("2026-03-09 04:00", 24.0), ("2026-03-10 06:00", 0.0), ("2026-03-10 08:00", None), ("2026-03-10 09:00", None)],
)
def test_without_a_schedule(now: str, hours: float | None) -> None:
    """By the window that the API names while that is open or to come, else absent."""
    named = Window(at("2026-03-10 04:00"), at("2026-03-10 08:00"))
    assert hours_until_next_window(None, named, at(now)) == hours
    assert hours_until_next_window(None, None, at(now)) is None


def test_across_a_leap_day() -> None:
    """29 February is a day like any other."""
    assert hours_until_next_window(daily("2028-02-28 04:00"), None, at("2028-02-29 03:00")) == pytest.approx(1)
    assert hours_until_next_window(daily("2028-02-28 04:00"), None, at("2028-03-01 03:00")) == pytest.approx(1)


def test_longer_than_the_interval() -> None:
    """Windows longer than their interval overlap, so one is always open."""
    schedule = Schedule(at("2026-03-10 00:00"), 4 * HOUR, 23 * HOUR)
    for hour in range(0, 200, 7):
        assert hours_until_next_window(schedule, None, at("2026-03-10 00:00") + hour * HOUR) == 0


@given(start=st.floats(-1e11, 1e11), length=st.floats(0, 1e6), interval=st.floats(1, 1e9), now=st.floats(-1e11, 1e11))
def test_hours_are_never_negative(start: float, length: float, interval: float, now: float) -> None:
    """The hours are from 0 to one interval, also with fractions of seconds."""
    hours = hours_until_next_window(Schedule(start, interval, length), None, now)
    assert hours is not None
    assert 0 <= hours * HOUR <= interval * (1 + 1e-6) + 1e-3


FOUR_HOURS = SupportedPolicy("daily", window_length=4 * HOUR)


@pytest.mark.parametrize(
    ("policy", "named", "start", "length"),
    [
        (Policy(True, "daily", hour=4), None, "2026-03-10 04:00", 4),
        (Policy(True, "daily", hour=4, window_length=23 * HOUR), None, "2026-03-10 04:00", 23),
        (Policy(True, "daily", hour=4), "2026-03-11 04:00", "2026-03-10 04:00", 4),
        (Policy(True, "daily"), "2026-03-11 04:16", "2026-03-10 04:16", 4),
        (Policy(True, "daily", hour=4), "2026-03-11 08:00", "2026-03-10 04:00", 8),
        (Policy(True, "daily", hour=4), "2026-03-11 01:00", "2026-03-10 01:00", 7),
        (Policy(True, "weekly", "SUN", 20), None, "2026-03-08 20:00", 4),
    ],
)
def test_schedule(policy: Policy, named: str | None, start: str, length: float) -> None:
    """By hour and weekday, else by the named start; where both lie apart, from the earlier start to the later end."""
    found = schedule_of(policy, FOUR_HOURS, None if named is None else at(named))
    assert found is not None
    assert found.start(found.window_at(at(start))) == at(start)
    assert found.length == length * HOUR
    assert found.interval == (WEEK if policy.plan == "weekly" else DAY)


@pytest.mark.parametrize(
    ("policy", "supported"),
    [
        (None, FOUR_HOURS),
        (Policy(True, "monthly", hour=4), FOUR_HOURS),
        (Policy(True, "daily"), FOUR_HOURS),
        (Policy(True, "daily", hour=4), None),
        (Policy(True, "intra_daily_5h", hour=4), FOUR_HOURS),
    ],
    ids=["no policy", "plan", "phase", "length", "an interval that does not divide the day"],
)
def test_no_schedule(policy: Policy | None, supported: SupportedPolicy | None) -> None:
    """Without interval, phase or length there is no schedule."""
    assert schedule_of(policy, supported) is None
