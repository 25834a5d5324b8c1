"""Intervals, and the hours until the next window."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from tests.fleet.story import DAY, HOUR, MINUTE, WEEK, at, window

from exporter.fleet.model import Window
from exporter.fleet.schedule import hours_until_next_window, interval_of
from tests.fleet import oracle


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
    """Absent for a plan not known, however much it looks like one; an interval of nothing is none."""
    assert interval_of(plan) is None


@pytest.mark.parametrize("digits", [3, 30, 400, 5000])
def test_interval_of_a_giant(digits: int) -> None:
    """A number that no clock could count to costs nobody the poll: an interval that is finite, or none."""
    interval = interval_of(f"intra_daily_{'9' * digits}h")
    assert interval is None or 0 < interval < float("inf")


@given(st.text(alphabet="intra_daily_0123456789hwekdl .-\n") | st.text())
def test_interval_of_anything(plan: str) -> None:
    """Whatever text the API gives as the plan, the interval is the oracle's, which reads it letter by letter."""
    expected = oracle.interval(plan)
    assert interval_of(plan) == (None if expected is None else expected.total_seconds())


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-03-10 03:00", 1.0),
        ("2026-03-10 03:59:59", 1 / 3600),
        ("2026-03-08 16:00", 36.0),
        ("2026-02-10 04:00", 28 * 24.0),
    ],
)
def test_hours_to_the_named_window(now: str, hours: float) -> None:
    """Hours from now to the start of the window that the API names, be it further away than the interval."""
    assert hours_until_next_window(window("2026-03-10 04:00"), DAY, at(now)) == pytest.approx(hours)


@pytest.mark.parametrize("now", ["2026-03-10 04:00", "2026-03-10 06:00", "2026-03-10 07:59:59"])
def test_open(now: str) -> None:
    """0 while that window is open, from its first moment, whether or not the interval is known."""
    assert hours_until_next_window(window("2026-03-10 04:00"), DAY, at(now)) == 0
    assert hours_until_next_window(window("2026-03-10 04:00"), None, at(now)) == 0


@pytest.mark.parametrize(
    ("now", "hours"),
    [
        ("2026-03-10 08:00:01", 20 - 1 / 3600),
        ("2026-03-11 03:00", 1.0),
        ("2026-03-11 04:00", 0.0),
        ("2026-03-11 07:00", 0.0),
        ("2026-03-11 09:00", 19.0),
        ("2027-03-10 03:30", 0.5),
        ("2027-03-10 05:00", 0.0),
    ],
)
def test_closed(now: str, hours: float) -> None:
    """Once it has closed, the same for the first window counted on from it that is open or to come."""
    assert hours_until_next_window(window("2026-03-10 04:00"), DAY, at(now)) == pytest.approx(hours)


def test_closed_with_unknown_interval() -> None:
    """Absent once it has closed if the interval is unknown; before that the named window is all it takes."""
    assert hours_until_next_window(window("2026-03-10 04:00"), None, at("2026-03-10 08:00:01")) is None
    assert hours_until_next_window(window("2026-03-10 04:00"), None, at("2026-03-10 02:00")) == pytest.approx(2)


def test_no_window() -> None:
    """No window named: absent, though the interval is known."""
    assert hours_until_next_window(None, DAY, at("2026-03-10 08:00")) is None


def test_weekly_over_the_year_end() -> None:
    """A weekly window named before the year's end is counted on into the next year."""
    named = window("2027-12-26 20:00")
    assert hours_until_next_window(named, WEEK, at("2028-01-01 20:00")) == pytest.approx(24)


def test_across_a_leap_day() -> None:
    """29 February is a day like any other."""
    assert hours_until_next_window(window("2028-02-28 04:00"), DAY, at("2028-02-29 03:00")) == pytest.approx(1)
    assert hours_until_next_window(window("2028-02-28 04:00"), DAY, at("2028-03-01 03:00")) == pytest.approx(1)


def test_23_hours_long() -> None:
    """Of daily windows 23 hours long, the hour between two is the only time that is not open."""
    named = window("2026-03-10 04:00", 23)
    assert hours_until_next_window(named, DAY, at("2026-03-11 02:59:59")) == 0
    assert hours_until_next_window(named, DAY, at("2026-03-11 03:15")) == pytest.approx(0.75)
    assert hours_until_next_window(named, DAY, at("2026-03-11 04:00")) == 0


def test_zero_length() -> None:
    """A window of no length is 0 hours away at its moment, and the next one is a whole interval away just after."""
    named = window("2026-03-10 04:00", 0)
    assert hours_until_next_window(named, DAY, at("2026-03-10 03:00")) == pytest.approx(1)
    assert hours_until_next_window(named, DAY, at("2026-03-10 04:00")) == 0
    assert hours_until_next_window(named, DAY, at("2026-03-10 04:00:01")) == pytest.approx(24, abs=0.001)
    assert hours_until_next_window(named, None, at("2026-03-10 04:00:01")) is None
    assert hours_until_next_window(named, DAY, at("2026-03-12 04:00")) == 0


def test_longer_than_the_interval() -> None:
    """Windows longer than their interval overlap, so one is always open once the first has started."""
    named = window("2026-03-10 00:00", 23)
    for hour in range(0, 200, 7):
        assert hours_until_next_window(named, 4 * HOUR, at("2026-03-10 00:00") + hour * HOUR) == 0


instants = st.builds(
    lambda quarters, nudge: at("2024-02-20 00:00") + quarters * 15 * MINUTE + nudge,
    st.integers(-2000, 2000),
    st.sampled_from([0.0, 0.0, 1.0, -1.0, 0.5, 100.0]),
)


@given(
    start=instants,
    length=st.sampled_from([0.0, 0.25, 1, 4, 4, 23, 30]),
    interval=st.none() | st.sampled_from([HOUR, 4 * HOUR, 5 * HOUR, 12 * HOUR, DAY, WEEK]),
    now=instants,
)
@example(start=0.0, length=4, interval=DAY, now=4 * HOUR)
@example(start=0.0, length=0.0, interval=DAY, now=DAY)
def test_hours_against_the_oracle(start: float, length: float, interval: float | None, now: float) -> None:
    """At any time, the hours are those that one finds by walking on from window to window."""
    named = Window(start, start + length * HOUR)
    hours = hours_until_next_window(named, interval, now)
    expected = oracle.hours_until(named, interval, now)
    if expected is None or hours is None:
        assert hours is expected
    else:
        assert hours == pytest.approx(expected, abs=1e-9)
        assert hours >= 0
        assert interval is None or now < start or hours * HOUR <= interval


@given(
    start=st.floats(-1e11, 1e11),
    length=st.floats(0, 1e6),
    interval=st.floats(1, 1e9),
    now=st.floats(-1e11, 1e11),
)
def test_hours_are_never_negative(start: float, length: float, interval: float, now: float) -> None:
    """Never negative, nor beyond the named window or one interval, whatever fractions of seconds do."""
    hours = hours_until_next_window(Window(start, start + length), interval, now)
    assert hours is not None
    assert 0 <= hours * HOUR <= max(start - now, interval) * (1 + 1e-9)
