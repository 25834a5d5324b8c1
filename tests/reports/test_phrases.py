"""The sentences about a Droplet, and the order in which Droplets are listed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import pytest
from msgspec.structs import replace

from exporter.fleet.model import GIB, Backup, Description, Droplet, Policy, Schedule, Verdict, Window
from exporter.fleet.schedule import DAY, HOUR, WEEK
from exporter.fleet.state import Reason, State
from exporter.reports.phrases import (
    count_states,
    duration_words,
    headline,
    instant_words,
    missed_windows_of,
    moment_words,
    next_window_of,
    plan_words,
    policy_words,
    short_duration,
    size_words,
    verdict_sentence,
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
SCHEDULE = Schedule(MIDNIGHT + 4 * HOUR, DAY, 4 * HOUR)


def backups(*ages: float, size: float | None = 2.0) -> tuple[Backup, ...]:
    """Of these ages in hours, in any order."""
    made = [Backup(int(age), NOW - age * HOUR, None if size is None else size * GIB) for age in ages]
    return tuple(sorted(made, key=lambda backup: backup.created_at))


def droplet(
    policy: Policy | None = DAILY,
    kept: Sequence[Backup] | None = backups(8, 32),
    *,
    state: State = State.PROTECTED,
    reason: Reason | None = None,
    missed: tuple[float, ...] | None = (),
    max_age: float | None = None,
    schedule: Schedule | None = SCHEDULE,
    first_counted: float | None = None,
    age: float | None = 30 * DAY,
    name: str = "web",
    tags: tuple[str, ...] | None = (),
    lost: int | None = 0,
    **told: Any,
) -> Droplet:
    intervals = {"daily": DAY, "weekly": WEEK, "intra_daily_4h": 4 * HOUR}
    newest = max((backup.created_at for backup in kept or ()), default=None)
    given = {
        "newest_ever": newest,
        "ever_backed_up": newest is not None,
        "first_seen": NOW - 20 * DAY,
        "on_since": NOW - 20 * DAY,
        **told,
    }
    return Droplet(
        1,
        Description(name, created_at=None if age is None else NOW - age, tags=tags),
        policy,
        None if kept is None else tuple(kept),
        expected=True,
        interval=intervals.get(policy.plan or "") if policy else None,
        retention_days=policy.retention_days if policy else None,
        verdict=Verdict(
            state,
            reason,
            missed,
            max_age,
            lost=lost,
            schedule=schedule,
            slack=4 * HOUR,
            first_counted=first_counted,
        ),
        **given,
    )


def test_worst_first() -> None:
    """Droplets go by their state, the worst first, then the longest without a backup, those without any in front."""
    fleet = [
        droplet(name="fresh"),
        droplet(kept=backups(30), name="older"),
        *(droplet(kept=backups(40), state=state, name=state.value) for state in State if state is not State.PROTECTED),
        droplet(kept=backups(90), state=State.MISSING, name="missing, longer"),
        droplet(kept=(), state=State.MISSING, name="missing, none left"),
    ]
    assert [one.name for one in sorted(fleet, key=worst_first)] == [
        "missing, none left",
        "missing, longer",
        "missing",
        "overdue",
        "stale",
        "never-taken",
        "unjudged",
        "unprotected",
        "waiting",
        "older",
        "fresh",
        "not-expected",
        "gone",
    ]


def test_ties_go_by_name_then_id() -> None:
    """The order of Droplets that are equally bad does not change from poll to poll."""
    one, other = droplet(name="a"), replace(droplet(name="a"), id=2)
    later = droplet(name="b")
    keys = [worst_first(each) for each in (one, other, later)]
    assert all(first < second for first, second in pairwise(keys))


def missing(policy: Policy = DAILY, *ages: float, windows: int, **told: Any) -> Droplet:
    """With so many missed windows, and backups of so many hours ago."""
    starts = tuple(MIDNIGHT + 4 * HOUR - day * DAY for day in reversed(range(windows)))
    state = State.MISSING if windows > 1 else State.OVERDUE
    return droplet(policy, backups(*ages), state=state, missed=starts, **told)


class TestWhyMissed:
    @pytest.mark.parametrize(
        ("subject", "words"),
        [
            (missing(DAILY, 32, windows=1), "no backup since yesterday's window, 1 missed"),
            (missing(DAILY, 56, windows=2), "no backup since Tuesday's window, 2 missed"),
            (missing(DAILY, 240, windows=9), "no backup since the window of 21 Sep, 9 missed"),
            (missing(DAILY, 24 * 300, windows=300), "no backup since the window of 5 Dec 2025, 300 missed"),
            (missing(windows=2), "no backup, 2 missed"),
            # Made five past midnight, so of the window that began at 20:00 the day before.
            (
                missing(DAILY, 36.4, windows=1, schedule=Schedule(MIDNIGHT - 4 * HOUR, DAY, 4 * HOUR)),
                "no backup since Tuesday's window, 1 missed",
            ),
            (
                missing(
                    Policy(enabled=True, plan="intra_daily_4h"),
                    8.4,
                    windows=1,
                    schedule=Schedule(MIDNIGHT, 4 * HOUR, 4 * HOUR),
                ),
                "no backup since today's 04:00 window, 1 missed",
            ),
        ],
    )
    def test_since_when(self, subject: Droplet, words: str) -> None:
        """The last window that was answered is named by its day, and the misses since are counted."""
        assert verdict_sentence(subject, NOW) == words

    def test_of_one_that_is_kept_no_more(self) -> None:
        """A backup that is gone still counts as made."""
        subject = missing(windows=2, newest_ever=NOW - 56 * HOUR)
        assert verdict_sentence(subject, NOW) == "no backup since Tuesday's window, 2 missed"

    def test_while_it_cannot_be_judged(self) -> None:
        """A miss that stands while nothing new can be judged says why that is."""
        subject = missing(DAILY, 56, windows=2, reason=Reason.CLOCK, clock_ahead=2 * DAY)
        assert verdict_sentence(subject, NOW) == (
            "no backup since Tuesday's window, 2 missed; "
            "later windows are not judged, because the API's clock is 2 days ahead of this host's: set the clock"
        )


class TestWhyStale:
    def stale(self, *ages: float, **told: Any) -> Droplet:
        return droplet(kept=backups(*ages), state=State.STALE, max_age=26 * HOUR, **told)

    def test_too_old(self) -> None:
        """The age is said, and the limit that it is over."""
        assert verdict_sentence(self.stale(27), NOW) == "the newest backup is 1 d 3 h old, over its limit of 1 d 2 h"

    @pytest.mark.parametrize(("gone", "words"), [(1, "1 newer backup is gone"), (3, "3 newer backups are gone")])
    def test_newer_ones_are_gone(self, gone: int, words: str) -> None:
        """Where newer backups were deleted, that is the cause, and it is said."""
        subject = self.stale(80, newer_gone=gone, newest_ever=NOW - 8 * HOUR)
        assert verdict_sentence(subject, NOW) == f"the newest backup is 3 d 8 h old; {words}"

    def test_a_newer_one_was_turned_into_a_snapshot(self) -> None:
        """If the age counts from a snapshot, the sentence names the snapshot."""
        subject = self.stale(90, newest_snapshot=NOW - 11 * DAY / 4)
        said = verdict_sentence(subject, NOW)
        assert said == "the newest backup is 3 d 18 h old; a newer one, of 28 Sep, was turned into a snapshot"

    def test_none_is_kept(self) -> None:
        """The newest that was seen is named by its day, and that it is gone."""
        subject = self.stale(newest_ever=NOW - 11 * DAY, ever_backed_up=True)
        assert verdict_sentence(subject, NOW) == "no backup is kept; the newest that was seen, of 20 Sep, is gone"

    def test_it_was_turned_into_a_snapshot(self) -> None:
        """A backup that became a snapshot is not called gone."""
        subject = self.stale(newest_ever=NOW - 11 * DAY, newest_snapshot=NOW - 11 * DAY, ever_backed_up=True)
        said = verdict_sentence(subject, NOW)
        assert said == "no backup is kept; the newest that was seen, of 20 Sep, was turned into a snapshot"


class TestWhyWaiting:
    def waiting(self, kept: Sequence[Backup] = (), **told: Any) -> Droplet:
        return droplet(kept=kept, state=State.WAITING, **told)

    def test_switched_on(self) -> None:
        """Backups that were seen to be switched on: how long ago, and when the first window opens."""
        subject = self.waiting(on_since=NOW - 3 * HOUR, first_seen=NOW - 400 * DAY, first_counted=MIDNIGHT + 20 * HOUR)
        assert verdict_sentence(subject, NOW) == "backups were switched on 3 hours ago; the first window opens at 20:00"

    @pytest.mark.parametrize(
        ("first", "words"),
        [
            (20 * HOUR, "the first window opens at 20:00"),
            (28 * HOUR, "the first window opens tomorrow 04:00"),
            (92 * HOUR, "the first window opens on Sunday 20:00"),
            (12 * HOUR, "the first window is open until 16:00"),
            (5 * HOUR, "the first window has ended; its backup is due at 13:00"),
            (None, "its first window is not known"),
        ],
    )
    def test_its_first_window(self, first: float | None, words: str) -> None:
        """A new Droplet's first window is to come, open, or over with its backup still due."""
        subject = self.waiting(first_counted=None if first is None else MIDNIGHT + first)
        assert verdict_sentence(subject, NOW) == f"no backup is kept yet; {words}"

    def test_switched_on_just_now(self) -> None:
        """Less than a minute is not counted in seconds."""
        subject = self.waiting(on_since=NOW - 9, first_seen=NOW - 400 * DAY, first_counted=MIDNIGHT + 20 * HOUR)
        assert verdict_sentence(subject, NOW) == "backups were switched on just now; the first window opens at 20:00"

    def test_its_newest_was_turned_into_a_snapshot(self) -> None:
        """Long after the first window that counted, the next one is what is waited for."""
        subject = self.waiting(ever_backed_up=True, first_counted=MIDNIGHT - 9 * DAY)
        assert verdict_sentence(subject, NOW) == "no backup is kept now; the next window opens tomorrow 04:00"

    def test_the_settings_changed(self) -> None:
        """After another hour was chosen, its first window is waited for."""
        subject = self.waiting(backups(40), settings_changed_at=NOW - 2 * HOUR, first_counted=MIDNIGHT + 20 * HOUR)
        assert verdict_sentence(subject, NOW) == "the settings changed 2 hours ago; the first window opens at 20:00"


class TestWhyUnjudged:
    @pytest.mark.parametrize(
        ("reason", "told", "words"),
        [
            (Reason.CLOCK, {"clock_ahead": 2 * DAY}, "the API's clock is 2 days ahead of this host's: set the clock"),
            (Reason.CLOCK, {"clock_ahead": -3 * HOUR}, "the API's clock is 3 hours behind this host's: set the clock"),
            (Reason.UNKNOWN_POLICY, {"policy": None}, "the API does not say whether backups are on"),
            (Reason.UNKNOWN_POLICY, {"policy": Policy()}, "the API does not say whether backups are on"),
            (
                Reason.UNKNOWN_POLICY,
                {"policy": OFF},
                "backups are off, and whether they are expected is not known",
            ),
            (
                Reason.UNKNOWN_POLICY,
                {"policy": OFF, "tags": None},
                "backups are off, and whether they are expected is not known, because the API shows no tags",
            ),
            (
                Reason.NO_SCHEDULE,
                {"policy": replace(DAILY, plan="x")},
                'how often the plan "x" makes a backup is not known',
            ),
            (Reason.NO_SCHEDULE, {"policy": replace(DAILY, plan=None)}, "the API does not name its plan"),
            (
                Reason.NO_SCHEDULE,
                {"policy": replace(DAILY, hour=None, next_window=None)},
                "the API does not say when its windows are",
            ),
            (Reason.UNREAD, {"kept": None}, "its backups could not be read yet"),
            (Reason.UNREAD, {}, "a backup is due, and its list of backups could not be read"),
            (
                Reason.FIRST_LOOK,
                {"kept": backups(240), "first_seen": NOW - 2 * HOUR, "first_counted": MIDNIGHT + 92 * HOUR},
                "first seen 2 hours ago with its newest backup 10 d old; the window of Sunday 20:00 will tell",
            ),
            (Reason.FIRST_LOOK, {"kept": (), "first_seen": NOW - 2 * HOUR}, "first seen 2 hours ago with no backup"),
        ],
    )
    def test_reason(self, reason: Reason, told: dict[str, Any], words: str) -> None:
        """Each reason is a sentence that says what is not known, and what to do or to wait for."""
        assert verdict_sentence(droplet(state=State.UNJUDGED, reason=reason, missed=None, **told), NOW) == words

    @pytest.mark.parametrize("reason", Reason)
    def test_every_reason_has_its_own_words(self, reason: Reason) -> None:
        """No two reasons have the same sentence."""
        said = {
            each: verdict_sentence(droplet(state=State.UNJUDGED, reason=each, missed=None, clock_ahead=DAY), NOW)
            for each in Reason
        }
        assert [each for each in Reason if said[each] == said[reason]] == [reason]


@pytest.mark.parametrize(
    ("subject", "words"),
    [
        (droplet(), "backed up on time"),
        (droplet(lost=1), "backed up on time; 1 backup is gone before its time"),
        (droplet(lost=3), "backed up on time; 3 backups are gone before their time"),
        (
            droplet(kept=(), state=State.NEVER_TAKEN, age=6.5 * DAY),
            "backups are on, and none was ever seen; created 6 days ago",
        ),
        (
            droplet(kept=(), state=State.NEVER_TAKEN, on_since=NOW - 3 * DAY, first_seen=NOW - 400 * DAY),
            "backups are on, and none was ever seen; they were switched on 3 days ago",
        ),
        (droplet(OFF, (), state=State.UNPROTECTED), "backups are off, though expected"),
        (droplet(OFF, backups(80), state=State.UNPROTECTED), "backups are off, though expected; 1 old backup left"),
        (droplet(OFF, (), state=State.NOT_EXPECTED), "backups are off, and none are expected"),
        (droplet(None, (), state=State.NOT_EXPECTED), "no backups, and none are expected"),
        (
            droplet(kept=None, state=State.GONE),
            "the droplet is gone; the API still names its policy",
        ),
    ],
)
def test_other_states(subject: Droplet, words: str) -> None:
    """States without a reason have a sentence, too."""
    assert verdict_sentence(subject, NOW) == words


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("kept", [None, (), backups(30)], ids=["unknown", "none", "one"])
def test_a_sentence_whatever_is_known(state: State, kept: Sequence[Backup] | None) -> None:
    """A Droplet of which hardly anything is known has a sentence in every state."""
    bare = Droplet(1, backups=None if kept is None else tuple(kept), verdict=Verdict(state))
    assert len(verdict_sentence(bare, NOW).split()) > 2


@pytest.mark.parametrize(
    ("states", "words"),
    [
        ([], "There is no droplet to look at"),
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
            [State.OVERDUE, State.MISSING, State.STALE, State.NEVER_TAKEN, State.UNPROTECTED, State.UNJUDGED],
            (
                "5 of 6 droplets need attention: 1 missing, 1 overdue, 1 stale, 1 never taken, 1 unprotected; "
                "1 could not be judged"
            ),
        ),
    ],
)
def test_headline(states: list[State], words: str) -> None:
    """One line answers whether all backups are all right, and says all right only where they are."""
    assert headline(count_states(states)) == words


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
    """The text of a policy says how often, when (UTC), and for how long backups are kept, as far as known."""
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
    ("schedule", "named", "window"),
    [
        (SCHEDULE, None, (28, 32)),
        (replace(SCHEDULE, anchor=MIDNIGHT - 60 * HOUR), None, (12, 16)),
        (replace(SCHEDULE, anchor=MIDNIGHT + 20 * HOUR), None, (20, 24)),
        # The API names the one after next: the schedule tells the next.
        (SCHEDULE, (52, 56), (28, 32)),
        (None, (20, 24), (20, 24)),
        (None, (12, 16), (12, 16)),
        (None, (0, 1), None),
        (None, None, None),
    ],
)
def test_next_window(
    schedule: Schedule | None, named: tuple[float, float] | None, window: tuple[float, float] | None
) -> None:
    """The next window is that of the schedule a Droplet is judged by; without one, the one named until it is over."""
    given = Window(MIDNIGHT + named[0] * HOUR, MIDNIGHT + named[1] * HOUR) if named else None
    found = next_window_of(droplet(replace(DAILY, next_window=given), schedule=schedule), NOW)
    assert (found and ((found.start - MIDNIGHT) / HOUR, (found.end - MIDNIGHT) / HOUR)) == window


def test_next_window_without_a_policy() -> None:
    """Where nothing is known of a policy, no window is."""
    assert next_window_of(Droplet(1), NOW) is None


def test_missed_windows() -> None:
    """The windows that are marked are those of the verdict, wherever its schedule lies by now."""
    starts = (MIDNIGHT - 77 * HOUR, MIDNIGHT - 3 * HOUR)
    assert missed_windows_of(droplet(state=State.MISSING, missed=starts)) == starts
    assert missed_windows_of(droplet()) == missed_windows_of(droplet(missed=None)) == ()


def test_missed_windows_are_bounded() -> None:
    """Of years of missed windows the latest are marked."""
    starts = tuple(MIDNIGHT - day * DAY for day in reversed(range(5000)))
    assert missed_windows_of(droplet(state=State.MISSING, missed=starts)) == starts[-60:]


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
    assert (duration_words(seconds), short_duration(seconds)) == (long, short)


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
    """A size is written in gigabytes of 1024^3 bytes, as the API does."""
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
    """An instant is written by the day, the weekday, the date or the year, depending on how near it is."""
    assert moment_words(instant, NOW) == words


def test_instants_in_full() -> None:
    """An instant in full names its time zone, and one that no calendar has does no harm."""
    assert instant_words(NOW) == "2026-10-01 12:30:00 UTC"
    assert instant_words(-1e18) == "at an unknown time"


@pytest.mark.parametrize(
    ("weekday", "number"), [("MON", 0), ("sun", 6), ("SUNDAY", 6), ("", -1), (None, -1), ("FUN", -1)]
)
def test_weekdays(weekday: str | None, number: int) -> None:
    """Weekdays count from Monday; any other text has no number."""
    assert weekday_number(weekday) == number
