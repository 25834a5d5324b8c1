"""What is said of a Droplet, and in which order Droplets are named."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import pytest
from msgspec.structs import replace

from exporter.fleet.model import GIB, Backup, Description, Droplet, Policy, Verdict, Window
from exporter.fleet.schedule import DAY, HOUR, WEEK
from exporter.fleet.state import State
from exporter.reports.phrases import (
    brief,
    headline,
    instant_words,
    missed_windows_of,
    moment,
    next_window_of,
    next_window_words,
    plan_words,
    policy_words,
    size_words,
    span,
    state_of,
    tally,
    verdict_of,
    weekday_number,
    worst_first,
)

MIDNIGHT = 1_790_812_800.0
"""Thursday, 2026-10-01 00:00 UTC."""
NOW = MIDNIGHT + 12 * HOUR + 30 * 60
DAILY = Policy(
    enabled=True,
    plan="daily",
    hour=4,
    window_length=4 * HOUR,
    retention_days=7.0,
    next_window=Window(MIDNIGHT + 28 * HOUR, MIDNIGHT + 32 * HOUR),
)
WEEKLY = Policy(
    enabled=True,
    plan="weekly",
    weekday="SUN",
    hour=20,
    window_length=4 * HOUR,
    retention_days=28.0,
    next_window=Window(MIDNIGHT + 3 * DAY + 20 * HOUR, MIDNIGHT + 4 * DAY),
)
OFF = Policy(enabled=False)


def backups(*ages: float, size: float | None = 2.0) -> tuple[Backup, ...]:
    """Of these ages in hours, in any order."""
    made = [Backup(int(age), NOW - age * HOUR, None if size is None else size * GIB) for age in ages]
    return tuple(sorted(made, key=lambda backup: backup.created_at))


def droplet(
    policy: Policy | None = DAILY,
    kept: Sequence[Backup] | None = backups(8, 32),
    *,
    missed: int | None = 0,
    unjudged: bool = False,
    expected: bool | None = True,
    age: float | None = 30 * DAY,
    name: str = "web",
) -> Droplet:
    intervals = {"daily": DAY, "weekly": WEEK, "intra_daily_4h": 4 * HOUR}
    return Droplet(
        1,
        Description(name, created_at=None if age is None else NOW - age),
        policy,
        None if kept is None else tuple(kept),
        expected=expected,
        interval=intervals.get(policy.plan or "") if policy else None,
        retention_days=policy.retention_days if policy else None,
        verdict=Verdict(missed, unjudged),
    )


@pytest.mark.parametrize(
    ("subject", "state"),
    [
        (droplet(), State.PROTECTED),
        (droplet(missed=1), State.OVERDUE),
        (droplet(missed=2), State.MISSING),
        (droplet(missed=2, unjudged=True), State.MISSING),
        (droplet(missed=1, kept=(), age=90 * DAY), State.OVERDUE),
        (droplet(missed=None, unjudged=True), State.UNJUDGED),
        (droplet(missed=0, unjudged=True), State.UNJUDGED),
        (droplet(kept=(), age=2 * DAY + 1), State.NEVER_TAKEN),
        (droplet(kept=(), age=2 * DAY), State.WAITING),
        (droplet(kept=(), age=None), State.WAITING),
        (droplet(kept=(), age=2 * DAY + 1, missed=None, unjudged=True), State.NEVER_TAKEN),
        (droplet(WEEKLY, kept=(), age=9 * DAY), State.WAITING),
        (droplet(WEEKLY, kept=(), age=9 * DAY + 1), State.NEVER_TAKEN),
        (droplet(kept=None, missed=None, unjudged=True), State.UNJUDGED),
        (droplet(kept=None, missed=0), State.PROTECTED),
        (droplet(kept=None, missed=None), State.GONE),
        (droplet(replace(DAILY, plan="monthly"), missed=None), State.UNJUDGED),
        (droplet(OFF, missed=None), State.UNPROTECTED),
        (droplet(OFF, missed=None, expected=False), State.NOT_EXPECTED),
        (droplet(OFF, missed=None, expected=None), State.UNJUDGED),
        (droplet(None, missed=None), State.UNJUDGED),
        (droplet(None, missed=None, expected=False), State.NOT_EXPECTED),
        (droplet(Policy(), missed=None), State.UNJUDGED),
        (droplet(expected=False), State.PROTECTED),
        (droplet(missed=3, expected=False), State.MISSING),
    ],
)
def test_state(subject: Droplet, state: State) -> None:
    """Every Droplet is in one state: the worst that the contract of `check` allows."""
    assert state_of(subject, NOW) is state


def test_worst_first() -> None:
    """Missing, overdue, never taken, unjudged, unprotected, then by age: the longest without a backup first."""
    fleet = [
        droplet(name="fresh"),
        droplet(kept=backups(30), name="older"),
        droplet(OFF, missed=None, expected=False, name="k8s"),
        droplet(OFF, missed=None, name="off"),
        droplet(missed=None, unjudged=True, name="unread"),
        droplet(kept=(), name="never"),
        droplet(missed=1, kept=backups(60), name="one"),
        droplet(missed=2, kept=backups(80), name="two"),
        droplet(missed=2, kept=backups(90), name="two, longer"),
        droplet(missed=2, kept=(), name="two, none left"),
        droplet(kept=(), age=HOUR, name="new"),
    ]
    ordered = sorted(fleet, key=lambda one: worst_first(one, state_of(one, NOW)))
    assert [one.name for one in ordered] == [
        "two, none left",
        "two, longer",
        "two",
        "one",
        "never",
        "unread",
        "off",
        "new",
        "older",
        "fresh",
        "k8s",
    ]


def test_ties_go_by_name_then_id() -> None:
    """The order of Droplets that are equally bad does not change from poll to poll."""
    one, other = droplet(name="a"), replace(droplet(name="a"), id=2)
    later = droplet(name="b")
    keys = [worst_first(each, State.PROTECTED) for each in (one, other, later)]
    assert all(first < second for first, second in pairwise(keys))


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (droplet(kept=backups(8)), "backed up on time"),
        (droplet(missed=1, kept=backups(32)), "no backup since yesterday's window, 1 missed"),
        (droplet(missed=2, kept=backups(56)), "no backup since Tuesday's window, 2 missed"),
        # Five past midnight, and so of the window that began at 20:00 the day before.
        (
            droplet(replace(DAILY, hour=20, next_window=Window(NOW + DAY, NOW + DAY)), backups(30), missed=1),
            "no backup since Tuesday's window, 1 missed",
        ),
        (droplet(missed=9, kept=backups(240)), "no backup since the window of 21 Sep, 9 missed"),
        (droplet(missed=300, kept=backups(24 * 300)), "no backup since the window of 5 Dec 2025, 300 missed"),
        (droplet(missed=2, kept=()), "no backup, 2 missed"),
        (
            droplet(missed=2, kept=backups(56), unjudged=True),
            "no backup since Tuesday's window, 2 missed, and the last window could not be judged",
        ),
        (
            droplet(
                Policy(enabled=True, plan="intra_daily_4h", hour=0, window_length=4 * HOUR), backups(8.4), missed=1
            ),
            "no backup since today's 04:00 window, 1 missed",
        ),
        (droplet(kept=(), age=6.5 * DAY), "backups are on, and none was ever taken; created 6 days ago"),
        (droplet(missed=None, unjudged=True), "a backup is due, and its backups could not be read since"),
        (droplet(kept=None, missed=None, unjudged=True), "its backups could not be read yet"),
        (droplet(None, missed=None), "the API does not say whether backups are on"),
        (droplet(replace(DAILY, plan="monthly"), missed=None), 'the plan "monthly" is not known'),
        (droplet(replace(DAILY, plan=None), missed=None), "the API does not name its plan"),
        (
            droplet(replace(DAILY, hour=None, next_window=None), missed=None),
            "the API does not say when its windows are",
        ),
        (droplet(OFF, (), missed=None), "backups are off, though expected"),
        (droplet(OFF, backups(80), missed=None), "backups are off, though expected; 1 old backup left"),
        (droplet(OFF, (), missed=None, expected=None), "backups are off, and whether they are expected is not known"),
        (droplet(OFF, (), missed=None, expected=False), "backups are off, and none are expected"),
        (droplet(None, (), missed=None, expected=False), "no backups, and none are expected"),
        (droplet(kept=(), age=HOUR), "no backup yet, its first is still to come"),
        (droplet(kept=None, missed=None), "the API names a policy, and no longer knows the droplet's backups"),
    ],
)
def test_verdict(subject: Droplet, words: str) -> None:
    """A verdict says what was found, in a sentence that people understand."""
    assert verdict_of(subject, state_of(subject, NOW), NOW) == words


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "No droplet was looked at"),
        ([State.PROTECTED], "The one droplet is protected"),
        ([State.PROTECTED] * 2, "All 2 droplets are protected"),
        ([State.PROTECTED] * 1200, "All 1,200 droplets are protected"),
        ([State.PROTECTED] * 2 + [State.NOT_EXPECTED], "All 2 droplets that should have backups are protected"),
        ([State.PROTECTED, State.NOT_EXPECTED], "The one droplet that should have backups is protected"),
        ([State.PROTECTED, State.GONE], "The one droplet is protected"),
        ([State.NOT_EXPECTED] * 3, "None of 3 droplets is expected to have backups"),
        ([State.PROTECTED, State.WAITING], "Nothing is missing: 1 protected, 1 waiting for their first backup"),
        (
            [State.PROTECTED, State.UNJUDGED],
            "1 of 2 droplets could not be judged; nothing is known to be missing",
        ),
        ([State.OVERDUE, State.PROTECTED], "1 of 2 droplets needs attention: 1 overdue"),
        (
            [State.OVERDUE, State.MISSING, State.MISSING, State.NEVER_TAKEN, State.UNPROTECTED, State.UNJUDGED],
            "5 of 6 droplets need attention: 2 missing, 1 overdue, 1 never taken, 1 unprotected; 1 could not be judged",
        ),
    ],
)
def test_headline(states: list[State], words: str) -> None:
    """One line answers whether all backups are all right, and says all right only where they are."""
    assert headline(tally(states)) == words


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        (DAILY, "daily, 04:00-08:00 UTC, kept 7 days"),
        (WEEKLY, "weekly, Sundays 20:00-24:00 UTC, kept 28 days"),
        (replace(WEEKLY, weekday=None), "weekly, Sundays 20:00-24:00 UTC, kept 28 days"),
        (replace(DAILY, hour=0), "daily, 00:00-04:00 UTC, kept 7 days"),
        (replace(DAILY, hour=22), "daily, 22:00-02:00 UTC, kept 7 days"),
        (replace(DAILY, hour=None), "daily, 04:00-08:00 UTC, kept 7 days"),
        (replace(DAILY, hour=None, next_window=None), "daily, kept 7 days"),
        (replace(DAILY, window_length=None, next_window=None), "daily, 04:00 UTC, kept 7 days"),
        (replace(DAILY, retention_days=1.0), "daily, 04:00-08:00 UTC, kept 1 day"),
        (replace(DAILY, retention_days=None), "daily, 04:00-08:00 UTC"),
        (Policy(enabled=True, plan="intra_daily_4h", hour=0, retention_days=7.0), "every 4 hours, kept 7 days"),
        (replace(DAILY, plan="monthly"), "monthly, 04:00-08:00 UTC, kept 7 days"),
        (replace(DAILY, plan=None), "plan not known, 04:00-08:00 UTC, kept 7 days"),
        (OFF, "off"),
        (None, "not known"),
        (Policy(), "not known"),
        (replace(WEEKLY, weekday="FUNDAY"), "weekly, FUNDAY 20:00-24:00 UTC, kept 28 days"),
    ],
)
def test_policy(policy: Policy | None, words: str) -> None:
    """A policy in words says how often, when in UTC, and for how long backups are kept, as far as is known."""
    assert policy_words(droplet(policy)) == words


@pytest.mark.parametrize(
    ("plan", "words"),
    [
        ("intra_daily_1h", "every 1 hour"),
        ("intra_daily_12h", "every 12 hours"),
        (None, "plan not known"),
        ("x", "x"),
    ],
)
def test_plan(plan: str | None, words: str) -> None:
    """A plan that is not known is named as the API names it."""
    assert plan_words(plan) == words


@pytest.mark.parametrize(
    ("policy", "window"),
    [
        (DAILY, (28, 32)),
        (replace(DAILY, next_window=Window(MIDNIGHT + 12 * HOUR, MIDNIGHT + 16 * HOUR)), (12, 16)),
        # Past: the first that has not ended is counted on from it.
        (replace(DAILY, next_window=Window(MIDNIGHT - 68 * HOUR, MIDNIGHT - 64 * HOUR)), (28, 32)),
        (replace(DAILY, next_window=Window(MIDNIGHT - 60 * HOUR, MIDNIGHT - 56 * HOUR)), (12, 16)),
        (replace(DAILY, plan="monthly", next_window=Window(MIDNIGHT, MIDNIGHT + HOUR)), None),
        (replace(DAILY, plan="monthly", next_window=Window(MIDNIGHT + 20 * HOUR, MIDNIGHT + DAY)), (20, 24)),
        # None named: the hour tells.
        (replace(DAILY, next_window=None), (28, 32)),
        (replace(DAILY, next_window=None, hour=None), None),
        (OFF, None),
        (None, None),
    ],
)
def test_next_window(policy: Policy | None, window: tuple[float, float] | None) -> None:
    """The next window is the one named, or counted on from it once it has closed; the open one as long as it is."""
    found = next_window_of(droplet(policy), NOW)
    assert (found and ((found.start - MIDNIGHT) / HOUR, (found.end - MIDNIGHT) / HOUR)) == window


@pytest.mark.parametrize(
    ("start", "end", "words"),
    [
        (20, 24, "today 20:00, in 7 h 30 min"),
        (12, 16, "open until 16:00"),
        (12, 26, "open until tomorrow 02:00"),
        (28, 32, "tomorrow 04:00, in 15 h"),
        (68, 72, "Saturday 20:00, in 2 d 7 h"),
        (24 * 20, 24 * 20 + 4, "21 Oct 00:00, in 19 d"),
    ],
)
def test_next_window_words(start: float, end: float, words: str) -> None:
    """A window is named by its weekday and time in UTC, and by how far away it is."""
    window = Window(MIDNIGHT + start * HOUR, MIDNIGHT + end * HOUR)
    assert next_window_words(window, NOW) == words


def test_no_window_is_no_words() -> None:
    """Where no window is known nothing is said."""
    assert next_window_words(None, NOW) == ""


def test_missed_windows() -> None:
    """The windows that were missed are those after the newest backup's own."""
    starts = missed_windows_of(droplet(missed=2, kept=backups(56)), NOW)
    assert [(start - MIDNIGHT) / HOUR for start in starts] == [-20, 4]


def test_missed_windows_without_any_backup() -> None:
    """Where no backup is left they are the last that have ended."""
    assert [(start - MIDNIGHT) / HOUR for start in missed_windows_of(droplet(missed=2, kept=()), NOW)] == [-44, -20]


@pytest.mark.parametrize(
    "subject",
    [droplet(), droplet(missed=None), droplet(None, missed=2), droplet(replace(DAILY, plan="monthly"), missed=2)],
)
def test_no_missed_windows(subject: Droplet) -> None:
    """Where none was missed, or nobody knows where the windows lie, none is named."""
    assert missed_windows_of(subject, NOW) == []


def test_missed_windows_are_bounded() -> None:
    """Years of missed windows are not all named."""
    assert len(missed_windows_of(droplet(missed=5000, kept=backups(24 * 5000)), NOW)) <= 60


@pytest.mark.parametrize(
    ("seconds", "long", "short"),
    [
        (-5, "0 seconds", "0 s"),
        (1, "1 second", "1 s"),
        (59.9, "59 seconds", "59 s"),
        (60, "1 minute", "1 min"),
        (HOUR, "1 hour", "1 h"),
        (3 * HOUR + 59, "3 hours", "3 h"),
        (3 * HOUR + 5 * 60, "3 hours", "3 h 5 min"),
        (11 * HOUR + 5 * 60, "11 hours", "11 h"),
        (DAY, "24 hours", "1 d"),
        (2 * DAY + 5 * HOUR, "2 days", "2 d 5 h"),
        (45.9 * DAY, "45 days", "45 d"),
        (4000 * DAY, "4,000 days", "4,000 d"),
    ],
)
def test_durations(seconds: float, long: str, short: str) -> None:
    """A length of time is rounded down to what matters."""
    assert (span(seconds), brief(seconds)) == (long, short)


@pytest.mark.parametrize(
    ("size", "words"),
    [
        (None, "not known"),
        (0.0, "0.0 GiB"),
        (2.34 * GIB, "2.3 GiB"),
        (0.05 * GIB, "51.2 MiB"),
        (999.9 * GIB, "999.9 GiB"),
        (2048.0 * GIB, "2.0 TiB"),
        (float("inf"), "not known"),
    ],
)
def test_sizes(size: float | None, words: str) -> None:
    """A size is told in the API's gigabytes, which are of 1024^3 bytes."""
    assert size_words(size) == words


def test_kept_size_needs_every_size() -> None:
    """The size of all backups is not known where one of them is not."""
    assert droplet(kept=backups(8, 32)).kept_size == 4 * GIB
    assert droplet(kept=(*backups(32), *backups(8, size=None))).kept_size is None
    assert droplet(kept=()).kept_size == 0
    assert droplet(kept=None).kept_size is None


@pytest.mark.parametrize(
    ("instant", "words"),
    [
        (NOW, "today 12:30"),
        (MIDNIGHT - 1, "yesterday 23:59"),
        (MIDNIGHT - 3 * DAY, "Monday 00:00"),
        (MIDNIGHT - 7 * DAY, "24 Sep 00:00"),
        (MIDNIGHT - 300 * DAY, "5 Dec 2025"),
        (1e15, "at an unknown time"),
    ],
)
def test_moments(instant: float, words: str) -> None:
    """An instant is told by what is nearest: the day, the weekday, the date, the year."""
    assert moment(instant, NOW) == words


def test_instants_in_full() -> None:
    """An instant in full names its time zone, and one that no calendar has does no harm."""
    assert instant_words(NOW) == "2026-10-01 12:30:00 UTC"
    assert instant_words(-1e18) == "at an unknown time"


@pytest.mark.parametrize(
    ("weekday", "number"), [("MON", 0), ("sun", 6), ("SUNDAY", 6), ("", -1), (None, -1), ("FUN", -1)]
)
def test_weekdays(weekday: str | None, number: int) -> None:
    """Weekdays count from Monday; what is none has no number."""
    assert weekday_number(weekday) == number
