"""When a backup is overdue, sentence by sentence of the metrics contract, in stories with real dates.

Every verdict asked for here is also put to the oracle (see `story.py`). Backups weigh nothing unless a story is about
their size, so a window of four hours is due eight hours after its start: four for the window, four of grace.
"""

from __future__ import annotations

import pickle

import pytest
from msgspec.structs import replace

from exporter.fleet.model import GIB, Backup, Policy, SupportedPolicy, Verdict
from tests.fleet.story import DAY, GRACE, HOUR, MINUTE, WEEK, Story, at, backup, window

DAILY = Policy(True, "daily", hour=4, window_length=4 * HOUR, next_window=window("2026-03-10 04:00"))
DAILY_BY_CLOCK = replace(DAILY, next_window=None)
WEEKLY = Policy(True, "weekly", "SUN", 20, window_length=4 * HOUR, next_window=window("2026-03-15 20:00"))
WEEKLY_BY_CLOCK = replace(WEEKLY, next_window=None)
FOUR_HOURLY = Policy(True, "intra_daily_4h", None, 0, window_length=4 * HOUR, next_window=window("2026-03-10 00:00"))
FOUR_HOURLY_BY_CLOCK = replace(FOUR_HOURLY, next_window=None)
OFF = Policy(enabled=False)


class TestWindows:
    """Where windows lie and how long they are."""

    @pytest.mark.parametrize(
        ("policy", "last_backup", "last_minute", "due"),
        [
            (DAILY, "2026-03-12 04:30", "2026-03-13 11:59", "2026-03-13 12:00"),
            (WEEKLY, "2026-03-22 20:30", "2026-03-30 03:59", "2026-03-30 04:00"),
            (FOUR_HOURLY, "2026-03-12 04:30", "2026-03-12 15:59", "2026-03-12 16:00"),
        ],
        ids=["daily", "weekly", "every four hours"],
    )
    def test_repeat_forwards(self, policy: Policy, last_backup: str, last_minute: str, due: str) -> None:
        """*Windows* repeat every interval, forwards from the policy's `next_backup_window`: here days or weeks old."""
        story = Story("2026-03-01 00:00", policy)
        story.reads(last_minute, last_backup)
        assert story.missed(last_minute) == 0
        story.reads(due, last_backup)
        assert story.missed(due) == 1

    def test_repeat_backwards(self) -> None:
        """*Windows* repeat every interval backwards too: the API names tomorrow's, today's was missed."""
        story = Story("2026-03-01 00:00", replace(DAILY, next_window=window("2026-03-11 04:00")))
        story.reads("2026-03-10 12:00", "2026-03-09 04:10")
        assert story.missed("2026-03-10 12:00") == 1

    def test_named_window_weeks_past(self) -> None:
        """A `next_backup_window` that the API has not renewed for weeks still tells when today's window was."""
        story = Story("2026-03-01 00:00", replace(DAILY, next_window=window("2025-11-02 04:00")))
        story.reads("2026-03-10 11:59", "2026-03-09 04:10")
        assert story.missed("2026-03-10 11:59") == 0
        story.reads("2026-03-10 12:00", "2026-03-09 04:10")
        assert story.missed("2026-03-10 12:00") == 1

    def test_open_window_is_not_missed(self) -> None:
        """A window that is open right now is missed by nobody, and yesterday's backup answers yesterday's."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 06:00", "2026-03-09 05:00")
        assert story.verdict("2026-03-10 06:00") == Verdict(0)

    @pytest.mark.parametrize(
        ("policy", "last_backup", "due"),
        [
            (DAILY_BY_CLOCK, "2026-03-09 04:10", "2026-03-10 12:00"),
            (replace(DAILY_BY_CLOCK, hour=0), "2026-03-09 00:10", "2026-03-10 08:00"),
            (replace(DAILY_BY_CLOCK, hour=23), "2026-03-08 23:10", "2026-03-10 07:00"),
            (WEEKLY_BY_CLOCK, "2026-03-08 20:10", "2026-03-16 04:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="MON", hour=0), "2026-03-02 00:10", "2026-03-09 08:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="TUE"), "2026-03-03 20:10", "2026-03-11 04:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="WED"), "2026-03-04 20:10", "2026-03-12 04:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="THU"), "2026-03-05 20:10", "2026-03-13 04:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="FRI"), "2026-03-06 20:10", "2026-03-14 04:00"),
            (replace(WEEKLY_BY_CLOCK, weekday="SAT"), "2026-03-07 20:10", "2026-03-15 04:00"),
            (FOUR_HOURLY_BY_CLOCK, "2026-03-10 08:10", "2026-03-10 20:00"),
            (replace(FOUR_HOURLY_BY_CLOCK, plan="intra_daily_12h"), "2026-03-10 00:10", "2026-03-10 20:00"),
        ],
    )
    def test_by_the_clock(self, policy: Policy, last_backup: str, due: str) -> None:
        """Where `next_backup_window` is null: from the policy's hour and weekday; midnight is an hour."""
        story = Story("2026-03-01 00:00", policy)
        story.reads(at(due) - 1, last_backup)
        assert story.missed(at(due) - 1) == 0
        story.reads(due, last_backup)
        assert story.missed(due) == 1

    def test_daily_plan_minds_no_weekday(self) -> None:
        """`daily` has no weekday; one that is told all the same does not make it weekly."""
        story = Story("2026-03-01 00:00", replace(DAILY_BY_CLOCK, weekday="SUN"))
        story.reads("2026-03-12 12:00", "2026-03-09 04:10")
        assert story.missed("2026-03-12 12:00") == 3

    @pytest.mark.parametrize(
        ("named_hours", "policy_length", "due"),
        [
            (4, 23 * HOUR, "2026-03-11 07:00"),
            (23, 4 * HOUR, "2026-03-11 07:00"),
            (4, 4 * HOUR, "2026-03-10 12:00"),
            (6, None, "2026-03-10 14:00"),
            (0, 4 * HOUR, "2026-03-10 12:00"),
            (0, 0.0, "2026-03-10 08:00"),
            (0, None, "2026-03-10 08:00"),
        ],
    )
    def test_length_is_the_longer(self, named_hours: float, policy_length: float | None, due: str) -> None:
        """Their length is the longer of the named window's and the policy's `window_length_hours`: 0 to 23 hours."""
        policy = replace(DAILY, window_length=policy_length, next_window=window("2026-03-10 04:00", named_hours))
        supported = SupportedPolicy("daily", window_length=9 * HOUR)
        story = Story("2026-03-01 00:00", policy, supported=supported)
        story.reads(at(due) - 1, "2026-03-09 04:00")
        assert story.missed(at(due) - 1) == 0
        story.reads(due, "2026-03-09 04:00")
        assert story.missed(due) == 1

    def test_length_by_the_supported_policy(self) -> None:
        """With neither, the supported policy's."""
        policy = replace(DAILY_BY_CLOCK, window_length=None)
        story = Story("2026-03-01 00:00", policy, supported=SupportedPolicy("daily", window_length=6 * HOUR))
        story.reads("2026-03-10 13:59", "2026-03-09 04:00")
        assert story.missed("2026-03-10 13:59") == 0
        story.reads("2026-03-10 14:00", "2026-03-09 04:00")
        assert story.missed("2026-03-10 14:00") == 1

    @pytest.mark.parametrize(
        ("policy", "supported"),
        [
            (replace(DAILY_BY_CLOCK, window_length=None), None),
            (replace(DAILY_BY_CLOCK, window_length=None), SupportedPolicy("daily")),
            (replace(DAILY, plan=None), SupportedPolicy("daily", window_length=4 * HOUR)),
            (replace(DAILY, plan="fortnightly"), None),
            (replace(DAILY, plan="intra_daily_0h"), None),
        ],
        ids=["no length", "no length anywhere", "no plan", "plan not known", "interval of nothing"],
    )
    def test_nothing_to_judge_by(self, policy: Policy, supported: SupportedPolicy | None) -> None:
        """With none of them, or no interval, nothing can be judged: absent, and no reading would help."""
        story = Story("2026-03-01 00:00", policy, supported=supported)
        story.reads("2026-03-10 12:00", "2026-02-20 04:00")
        verdict = story.verdict("2026-03-20 12:00")
        assert verdict == Verdict(None, unjudged=False)
        assert verdict.overdue is None

    @pytest.mark.parametrize(
        "policy",
        [
            replace(DAILY_BY_CLOCK, hour=None),
            replace(WEEKLY_BY_CLOCK, weekday=None),
            replace(DAILY_BY_CLOCK, plan="intra_daily_48h"),
            replace(DAILY_BY_CLOCK, plan="intra_daily_5h"),
        ],
        ids=["no hour", "no weekday", "every second day", "other hours every day"],
    )
    def test_no_place_in_time(self, policy: Policy) -> None:
        """With no named window, and no hour or for a weekly plan no weekday, there is nothing to judge."""
        story = Story("2026-03-01 00:00", policy)
        story.reads("2026-03-10 12:00", "2026-02-20 04:00")
        assert story.verdict("2026-03-20 12:00") == Verdict(None, unjudged=False)

    def test_leap_day(self) -> None:
        """29 February has its window like any other day, and a weekly one keeps its weekday across it."""
        daily = Story("2028-02-01 00:00", DAILY_BY_CLOCK)
        daily.reads("2028-03-01 11:59", "2028-02-28 04:05")
        assert daily.missed("2028-03-01 11:59") == 1
        daily.reads("2028-03-01 12:00", "2028-02-28 04:05")
        assert daily.missed("2028-03-01 12:00") == 2
        weekly = Story("2028-02-01 00:00", replace(WEEKLY_BY_CLOCK, weekday="TUE"))
        weekly.reads("2028-03-08 04:00", "2028-02-29 20:05")
        assert weekly.missed("2028-03-08 04:00") == 1

    def test_year_end(self) -> None:
        """A window that opens in one year and closes in the next is one window."""
        story = Story("2026-12-01 00:00", replace(DAILY_BY_CLOCK, hour=22))
        story.reads("2027-01-01 06:00", "2026-12-31 22:10")
        assert story.missed("2027-01-01 06:00") == 0
        story.reads("2027-01-01 06:00", "2027-01-01 01:50")
        assert story.missed("2027-01-02 05:59") == 0
        story.reads("2027-01-02 06:00", "2027-01-01 01:50")
        assert story.missed("2027-01-02 06:00") == 1


class TestBelonging:
    """Which window a backup answers."""

    @pytest.mark.parametrize(
        ("created", "missed"),
        [
            ("2026-03-10 03:45", 0),
            ("2026-03-10 03:50", 0),
            ("2026-03-10 04:00", 0),
            ("2026-03-10 07:59", 0),
            ("2026-03-10 08:01", 0),
            ("2026-03-11 03:44", 0),
            ("2026-03-10 03:44", 1),
            ("2026-03-09 07:00", 1),
        ],
    )
    def test_fifteen_minutes_early(self, created: str, missed: int) -> None:
        """A backup belongs to the latest window that starts no later than 15 minutes after its `created_at`."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-11 03:50", created)
        assert story.missed("2026-03-11 03:50") == missed

    def test_late_backup(self) -> None:
        """A backup created hours after its window closed belongs to it still, and mends what was missed."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 12:30", "2026-03-09 04:05")
        assert story.missed("2026-03-10 12:30") == 1
        story.reads("2026-03-10 23:00", "2026-03-09 04:05", "2026-03-10 22:40")
        assert story.missed("2026-03-10 23:00") == 0

    def test_zero_length_window(self) -> None:
        """Of a window of no length, backups around its one moment are its own."""
        policy = replace(DAILY, window_length=0.0, next_window=window("2026-03-10 04:00", 0))
        for created in ("2026-03-10 03:50", "2026-03-10 04:00", "2026-03-10 04:07"):
            story = Story("2026-03-01 00:00", policy)
            story.reads("2026-03-10 08:00", created)
            assert story.missed("2026-03-10 08:00") == 0

    def test_turned_into_a_snapshot(self) -> None:
        """The *newest ever seen* is the evidence: a backup turned into a snapshot was made all the same."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 05:00", "2026-03-09 04:05", "2026-03-10 04:05")
        story.reads("2026-03-10 12:00", "2026-03-09 04:05")
        assert story.missed("2026-03-10 12:00") == 0
        story.reads("2026-03-11 12:00", "2026-03-09 04:05")
        assert story.missed("2026-03-11 12:00") == 1

    def test_all_backups_gone(self) -> None:
        """An empty list does not undo what was seen: the newest counts after every backup expired."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 05:00", "2026-03-10 04:05")
        story.reads("2026-03-12 12:00")
        assert story.missed("2026-03-12 12:00") == 2

    def test_order_of_the_list_means_nothing(self) -> None:
        """The newest is the latest created, wherever in the list: an older one seen later changes nothing."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 12:00", "2026-03-10 04:05", "2026-03-08 04:05", "2026-03-09 04:05")
        story.glimpses("2026-03-10 12:05", "2026-03-07 04:05")
        assert story.missed("2026-03-10 12:05") == 0

    def test_from_the_future(self) -> None:
        """A backup created more than a day after now is no evidence of anything."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 12:00", "2026-03-09 04:05", "2036-03-10 04:05")
        assert story.missed("2026-03-10 12:00") == 1


class TestDue:
    """When a window is due."""

    @pytest.mark.parametrize(
        ("grace", "due"), [(0.0, "2026-03-10 08:00"), (GRACE, "2026-03-10 12:00"), (30 * HOUR, "2026-03-11 14:00")]
    )
    def test_end_and_grace(self, grace: float, due: str) -> None:
        """A window is *due* at its end plus the grace; due exactly now is due."""
        story = Story("2026-03-01 00:00", DAILY, grace=grace)
        story.reads(at(due) - 1, "2026-03-09 04:05")
        assert story.verdict(at(due) - 1) == Verdict(0)
        story.reads(due, "2026-03-09 04:05")
        assert story.verdict(due) == Verdict(1)

    @pytest.mark.parametrize(
        ("size_gib", "disk_gib", "due"),
        [
            (40.0, None, "2026-03-10 14:00"),
            (0.5, 160.0, "2026-03-10 12:01:30"),
            (None, 160.0, "2026-03-10 20:00"),
            (None, None, "2026-03-10 12:00"),
        ],
        ids=["of the newest backup", "not of the disk then", "of the disk where the size is null", "of neither"],
    )
    def test_three_minutes_a_gib(self, size_gib: float | None, disk_gib: float | None, due: str) -> None:
        """Plus 3 minutes for each GiB of the newest backup ever seen, or of the disk where its size is unknown."""
        story = Story("2026-03-01 00:00", DAILY, disk_gib=disk_gib)
        newest = backup("2026-03-09 04:05", gib=size_gib)
        story.reads(at(due) - 1, backup("2026-03-08 04:05", gib=999), newest)
        assert story.verdict(at(due) - 1) == Verdict(0)
        story.reads(due, newest)
        assert story.verdict(due) == Verdict(1)

    def test_disk_where_there_is_no_backup(self) -> None:
        """Or of the droplet's disk where there is none."""
        story = Story("2026-03-09 12:00", DAILY, disk_gib=80)
        story.reads("2026-03-10 15:59")
        assert story.verdict("2026-03-10 15:59") == Verdict(0)
        story.reads("2026-03-10 16:00")
        assert story.verdict("2026-03-10 16:00") == Verdict(1)

    def test_size_told_later(self) -> None:
        """A backup still being made has no size yet; once told, its size takes the place of the disk's."""
        story = Story("2026-03-01 00:00", DAILY, disk_gib=160)
        story.reads("2026-03-09 05:00", backup("2026-03-09 04:05", gib=None))
        story.reads("2026-03-10 12:30", backup("2026-03-09 04:05", gib=10))
        assert story.missed("2026-03-10 12:29") == 0
        assert story.missed("2026-03-10 12:30") == 1

    def test_size_told_once(self) -> None:
        """A size once told stays known: a list that shows null for it later takes no miss back."""
        story = Story("2026-03-01 00:00", DAILY, disk_gib=160)
        story.reads("2026-03-10 12:30", backup("2026-03-09 04:05", gib=10))
        assert story.missed("2026-03-10 12:30") == 1
        story.reads("2026-03-10 12:35", backup("2026-03-09 04:05", gib=None))
        assert story.missed("2026-03-10 12:35") == 1

    def test_finishing_after_the_window(self) -> None:
        """A backup starts in its window and finishes later: until it had the time, nothing is missed."""
        story = Story("2026-03-01 00:00", DAILY, disk_gib=320)
        story.reads("2026-03-10 17:00", backup("2026-03-09 07:50", gib=200))
        assert story.verdict("2026-03-10 17:00") == Verdict(0)
        story.reads("2026-03-10 17:30", backup("2026-03-09 07:50", gib=200), backup("2026-03-10 07:55", gib=201))
        assert story.verdict("2026-03-11 21:00") == Verdict(0)


CHANGES = {
    "plan": replace(DAILY, plan="intra_daily_12h"),
    "phase": replace(DAILY, hour=5, next_window=window("2026-03-10 05:00")),
    "phase by 15 minutes": replace(DAILY, next_window=window("2026-03-10 04:15")),
    "length": replace(DAILY, window_length=6 * HOUR),
    "length of the named window": replace(DAILY, next_window=window("2026-03-10 04:00", 4.25)),
    "enabled": OFF,
}
NO_CHANGES = {
    "none": DAILY,
    "no record": None,
    "no plan": replace(DAILY, plan=None),
    "no word on enabled": replace(DAILY, enabled=None),
    "no named window": DAILY_BY_CLOCK,
    "no hour": replace(DAILY, hour=None),
    "no length": replace(DAILY, window_length=None),
    "nothing but enabled": Policy(enabled=True),
    "start later by under 15 minutes": replace(DAILY, next_window=window("2026-03-10 04:14:59")),
    "start earlier by under 15 minutes": replace(DAILY, next_window=window("2026-03-10 03:45:01")),
    "length by under 15 minutes": replace(DAILY, window_length=4 * HOUR + 14 * MINUTE),
    "the next window": replace(DAILY, next_window=window("2026-03-17 04:00")),
    "the next window, a little early": replace(DAILY, next_window=window("2026-03-17 03:50")),
    "a shorter named window": replace(DAILY, next_window=window("2026-03-10 04:00", 1)),
    "retention": replace(DAILY, retention_days=28),
    "hour while a window is named": replace(DAILY, hour=9),
}


class TestChangeOfPolicy:
    """Baseline 1: the last change of the policy that the exporter saw."""

    def stale(self) -> Story:
        """Two windows were missed, on 8 and 9 March."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 12:00", "2026-03-07 04:05")
        assert story.missed("2026-03-09 12:00") == 2
        return story

    @pytest.mark.parametrize("changed", CHANGES.values(), ids=CHANGES.keys())
    def test_resets(self, changed: Policy) -> None:
        """Windows count from the last change of the policy that the exporter saw (plan, phase, length, enabled)."""
        story = self.stale()
        story.shows("2026-03-09 18:00", changed)
        if changed.enabled:
            assert story.verdict("2026-03-09 18:00") == Verdict(0)
        story.shows("2026-03-09 18:05", DAILY)
        assert story.verdict("2026-03-09 18:05") == Verdict(0)
        story.reads("2026-03-10 12:00", "2026-03-07 04:05")
        assert story.verdict("2026-03-10 12:00") == Verdict(1)

    @pytest.mark.parametrize("shown", NO_CHANGES.values(), ids=NO_CHANGES.keys())
    def test_stays(self, shown: Policy | None) -> None:
        """Each value is compared with its own last known one: missing, or moved by under 15 minutes, is no change."""
        story = self.stale()
        story.shows("2026-03-09 18:00", shown)
        story.shows("2026-03-09 18:05", DAILY)
        assert story.missed("2026-03-09 18:05") == 2

    def test_since_an_earlier_run(self) -> None:
        """In this run or, by the state file, since an earlier one: what is kept is all that the comparison needs."""
        story = self.stale()
        story.evidence = pickle.loads(pickle.dumps(story.evidence))
        story.shows("2026-03-09 18:00", replace(DAILY, next_window=window("2026-03-10 09:00")))
        assert story.missed("2026-03-09 18:00") == 0
        story.evidence = pickle.loads(pickle.dumps(story.evidence))
        story.reads("2026-03-10 17:00", "2026-03-07 04:05")
        assert story.missed("2026-03-10 17:00") == 1

    def test_without_a_state_file_no_change_is_seen(self) -> None:
        """The first policy ever seen is no change: the backups tell the baseline then."""
        story = self.stale()
        story.restarts("2026-03-09 20:00")
        story.reads("2026-03-09 20:00", "2026-03-06 04:05", "2026-03-07 04:05")
        assert story.missed("2026-03-09 20:00") == 2

    def test_compared_with_the_last_known_one_across_a_gap(self) -> None:
        """A value that was missing for a while and comes back different has changed, when it came back."""
        story = self.stale()
        story.shows("2026-03-09 18:00", replace(DAILY, plan=None))
        story.shows("2026-03-09 18:05", replace(DAILY, plan="intra_daily_12h"))
        assert story.verdict("2026-03-09 18:05") == Verdict(0)

    def test_window_unnamed_and_named_anew_elsewhere(self) -> None:
        """A start that was missing for a while and comes back hours away has moved."""
        story = self.stale()
        story.shows("2026-03-09 18:00", DAILY_BY_CLOCK)
        assert story.missed("2026-03-09 18:00") == 2
        story.shows("2026-03-09 18:05", replace(DAILY, next_window=window("2026-03-10 10:00")))
        assert story.verdict("2026-03-09 18:05") == Verdict(0)

    def test_hour_moved_by_the_clock(self) -> None:
        """Where no window is named, the hour is the phase; a window named later at that hour is no second change."""
        story = Story("2026-03-01 00:00", DAILY_BY_CLOCK)
        story.reads("2026-03-09 12:00", "2026-03-07 04:05")
        assert story.missed("2026-03-09 12:00") == 2
        story.shows("2026-03-09 18:00", replace(DAILY_BY_CLOCK, hour=6))
        assert story.verdict("2026-03-09 18:00") == Verdict(0)
        story.reads("2026-03-10 14:00", "2026-03-07 04:05")
        story.shows("2026-03-10 18:00", replace(DAILY, hour=6, next_window=window("2026-03-11 06:00")))
        assert story.missed("2026-03-10 18:00") == 1

    def test_named_window_lost_together_with_a_new_hour(self) -> None:
        """A new hour shown without a named window moves the phase; a window named there later does not again."""
        story = self.stale()
        story.shows("2026-03-09 18:00", replace(DAILY_BY_CLOCK, hour=6))
        assert story.verdict("2026-03-09 18:00") == Verdict(0)
        story.reads("2026-03-10 14:00", "2026-03-07 04:05")
        assert story.missed("2026-03-10 14:00") == 1
        story.shows("2026-03-10 18:00", replace(DAILY, hour=6, next_window=window("2026-03-11 06:00")))
        assert story.missed("2026-03-10 18:00") == 1

    def test_hour_moved_once(self) -> None:
        """An hour that stays where it moved to, listing after listing, is one change and not many."""
        story = Story("2026-03-01 00:00", DAILY_BY_CLOCK)
        story.shows("2026-03-09 18:00", replace(DAILY_BY_CLOCK, hour=6))
        story.shows("2026-03-10 18:00", replace(DAILY_BY_CLOCK, hour=6))
        story.reads("2026-03-10 18:05", "2026-03-07 04:05")
        assert story.missed("2026-03-10 18:05") == 1

    def test_moved_while_the_plan_is_missing(self) -> None:
        """A start that moves in a record that lacks the plan has moved: each value has its own last known one."""
        story = self.stale()
        moved = replace(DAILY, next_window=window("2026-03-10 10:00"))
        story.shows("2026-03-09 18:00", replace(moved, plan=None))
        story.shows("2026-03-09 18:05", moved)
        assert story.verdict("2026-03-09 18:05") == Verdict(0)

    def test_moved_across_a_missing_record(self) -> None:
        """A value that comes back different after the record was missing has changed; an earlier change stays known."""
        story = self.stale()
        story.shows("2026-03-09 18:00", None)
        story.shows("2026-03-09 18:05", replace(DAILY, next_window=window("2026-03-10 10:00")))
        story.shows("2026-03-09 18:10", None)
        assert story.verdict("2026-03-09 18:10") == Verdict(0)

    def test_named_length_missing_for_a_while(self) -> None:
        """The named window's length is compared with its own last known one, not with the policy's that is left."""
        longer = replace(DAILY, next_window=window("2026-03-10 04:00", 6))
        story = Story("2026-03-01 00:00", longer)
        story.reads("2026-03-09 14:00", "2026-03-07 04:05")
        assert story.missed("2026-03-09 14:00") == 2
        story.shows("2026-03-09 18:00", DAILY_BY_CLOCK)
        story.shows("2026-03-09 18:05", longer)
        assert story.missed("2026-03-09 18:05") == 2

    def test_supported_length_missing_for_a_while(self) -> None:
        """The supported policy's length is compared with its own last known one too, where it is the length."""
        story = Story("2026-03-01 00:00", None)
        for when, hours, missed in (
            ("2026-03-09 14:00", 4.0, 2),
            ("2026-03-09 14:05", None, None),
            ("2026-03-09 14:10", 4.0, 2),
            ("2026-03-09 14:15", None, None),
            ("2026-03-09 14:20", 5.0, 0),
        ):
            story.supported = None if hours is None else SupportedPolicy("daily", window_length=hours * HOUR)
            story.shows(when, replace(DAILY_BY_CLOCK, window_length=None))
            story.reads(when, "2026-03-07 04:05")
            assert story.missed(when) == missed

    def test_weekday_moved(self) -> None:
        """Another weekday is another phase of a weekly schedule."""
        story = Story("2026-02-01 00:00", WEEKLY_BY_CLOCK)
        story.reads("2026-03-10 12:00", "2026-02-22 20:05")
        assert story.missed("2026-03-10 12:00") == 2
        story.shows("2026-03-10 12:05", replace(WEEKLY_BY_CLOCK, weekday="WED"))
        assert story.missed("2026-03-10 12:05") == 0
        story.reads("2026-03-12 04:00", "2026-02-22 20:05")
        assert story.missed("2026-03-12 04:00") == 1

    def test_four_hourly_names_the_next_of_its_windows(self) -> None:
        """On a 4-hour plan the named window moves on by four hours at a time, and that is no change."""
        story = Story("2026-03-01 00:00", FOUR_HOURLY)
        story.reads("2026-03-10 16:00", "2026-03-10 00:10")
        assert story.missed("2026-03-10 16:00") == 2
        story.shows("2026-03-10 16:05", replace(FOUR_HOURLY, next_window=window("2026-03-10 20:00")))
        assert story.missed("2026-03-10 16:05") == 2

    def test_window_creeps(self) -> None:
        """A start that creeps on by ten minutes a day never moved by 15 at once: no change, wherever it has got to."""
        story = Story("2026-03-01 00:00", DAILY)
        for day in range(1, 7):
            story.shows(
                at("2026-03-01 12:00") + day * DAY,
                replace(DAILY, next_window=window(f"2026-03-{day + 2:02} 04:{day * 8:02}")),
            )
        story.reads("2026-03-10 12:48", "2026-03-08 04:50")
        assert story.missed("2026-03-10 12:48") == 2

    def test_switched_off_and_on(self) -> None:
        """Backups switched off and on again count from the moment they were seen on, not from the last backup."""
        story = Story("2026-01-01 00:00", DAILY)
        story.reads("2026-01-10 12:00", "2026-01-10 04:05")
        story.shows("2026-01-10 18:00", OFF)
        assert story.verdict("2026-02-20 12:00") == Verdict(None, unjudged=False)
        story.shows("2026-03-09 05:00", DAILY)
        story.reads("2026-03-09 12:00", "2026-01-10 04:05")
        assert story.verdict("2026-03-09 12:00") == Verdict(0)
        story.reads("2026-03-10 12:00", "2026-01-10 04:05")
        assert story.verdict("2026-03-10 12:00") == Verdict(1)

    def test_window_started_at_the_change_does_not_count(self) -> None:
        """Windows count that started after the baseline: not one that was open, nor one starting that moment."""
        for changed_at in ("2026-03-10 05:00", "2026-03-10 04:00"):
            story = Story("2026-03-01 00:00", OFF)
            story.shows(changed_at, DAILY)
            story.reads("2026-03-11 11:59", "2026-03-07 04:05")
            assert story.verdict("2026-03-11 11:59") == Verdict(0)
        story = Story("2026-03-01 00:00", OFF)
        story.shows("2026-03-10 03:59", DAILY)
        story.reads("2026-03-11 11:59", "2026-03-07 04:05")
        assert story.verdict("2026-03-11 11:59") == Verdict(1)


class TestNewestAsBaseline:
    """Baseline 2: the newest backup ever seen, if it and the one before it look as planned."""

    def first_look(
        self, policy: Policy, *backups: Backup | str, when: str, disk_gib: float | None = None
    ) -> int | None:
        """What a freshly started exporter says."""
        story = Story(when, policy, disk_gib=disk_gib)
        story.reads(when, *backups)
        return story.missed(when)

    def test_lies_in_a_window(self) -> None:
        """If none is known: the newest backup ever seen, provided that it lies in a window of the present schedule."""
        assert self.first_look(DAILY, "2026-03-06 04:05", "2026-03-07 04:05", when="2026-03-10 12:00") == 3

    def test_only_one(self) -> None:
        """The backup before it, if any: a single one that lies in a window will do."""
        assert self.first_look(DAILY, "2026-03-07 04:05", when="2026-03-10 12:00") == 3

    @pytest.mark.parametrize(
        ("newest", "missed"),
        [
            ("2026-03-07 03:44:59", 0),
            ("2026-03-07 03:45", 3),
            ("2026-03-07 08:00", 3),
            ("2026-03-07 08:30", 3),
            ("2026-03-07 08:30:01", 0),
            ("2026-03-07 15:00", 0),
        ],
    )
    def test_bounds_of_the_window(self, newest: str, missed: int) -> None:
        """Created from 15 minutes before its start to its end plus the 3 minutes a GiB, without the grace."""
        assert self.first_look(DAILY, backup(newest, gib=10), when="2026-03-10 12:30") == missed

    def test_bounds_by_the_disk(self) -> None:
        """The 3 minutes a GiB are the disk's where the newest backup's size is unknown."""
        newest = backup("2026-03-07 09:00", gib=None)
        assert self.first_look(DAILY, newest, when="2026-03-10 13:00", disk_gib=20) == 3
        assert self.first_look(DAILY, newest, when="2026-03-10 13:00", disk_gib=19) == 0

    @pytest.mark.parametrize(
        ("before", "missed"),
        [
            ("2026-03-07 04:20", 3),
            ("2026-03-06 04:05", 3),
            ("2026-03-07 02:00", 3),
            ("2026-03-06 03:45", 3),
            ("2026-03-06 03:44", 0),
            ("2026-03-05 04:05", 0),
            ("2026-01-01 04:05", 0),
        ],
        ids=[
            "same window",
            "just before",
            "late of just before",
            "early of just before",
            "too early",
            "hole",
            "long ago",
        ],
    )
    def test_the_backup_before_it(self, before: str, missed: int) -> None:
        """And that the backup before it belongs to the same window or the one just before: no hole."""
        assert self.first_look(DAILY, before, "2026-03-07 04:30", when="2026-03-10 12:00") == missed

    def test_hole_further_back(self) -> None:
        """Only the backup just before the newest is asked; holes before that are of the past."""
        backups = ("2026-02-20 04:05", "2026-03-06 04:05", "2026-03-07 04:05")
        assert self.first_look(DAILY, *backups, when="2026-03-10 12:00") == 3

    def test_schedule_changed_while_nobody_looked(self) -> None:
        """Backups at another hour than the present schedule's tell of a change: the past is not judged by it."""
        moved = replace(DAILY, hour=14, next_window=window("2026-03-10 14:00"))
        assert self.first_look(moved, "2026-03-06 04:05", "2026-03-07 04:05", when="2026-03-10 13:00") == 0

    def test_weekly_now_daily(self) -> None:
        """Last Sunday's backup with another a week before it leaves a hole in a daily schedule: no alarm."""
        daily = replace(DAILY, hour=20, next_window=window("2026-03-12 20:00"))
        assert self.first_look(daily, "2026-03-01 20:05", "2026-03-08 20:05", when="2026-03-12 12:00") == 0

    def test_the_windows_own_backup_does_not_count_its_window(self) -> None:
        """A backup ten minutes early is the baseline; its own window starts after it and is answered all the same."""
        assert self.first_look(DAILY, "2026-03-09 04:05", "2026-03-10 03:50", when="2026-03-10 12:00") == 0

    def test_a_seen_change_comes_first(self) -> None:
        """Only if none is known: a change that was seen outweighs a newest backup that looks as planned."""
        story = Story("2026-03-01 00:00", replace(DAILY, window_length=6 * HOUR))
        story.shows("2026-03-09 05:00", DAILY)
        story.reads("2026-03-10 12:00", "2026-03-06 04:05", "2026-03-07 04:05")
        assert story.missed("2026-03-10 12:00") == 1


class TestFirstSeenAsBaseline:
    """Baseline 3: the moment at which the exporter first saw the droplet."""

    def test_no_backup_yet(self) -> None:
        """Otherwise: the moment at which the exporter first saw the droplet; the next window is the first to count."""
        story = Story("2026-03-09 05:00", DAILY)
        story.reads("2026-03-10 11:59")
        assert story.verdict("2026-03-10 11:59") == Verdict(0)
        story.reads("2026-03-10 12:00")
        assert story.verdict("2026-03-10 12:00") == Verdict(1)
        story.reads("2026-03-15 12:00")
        assert story.verdict("2026-03-15 12:00") == Verdict(6)

    def test_kept_over_restarts(self) -> None:
        """Which the state file keeps: with a newest backup outside every window it counts from the first sight."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-10 12:00", "2026-03-07 15:00")
        assert story.verdict("2026-03-10 12:00") == Verdict(3)

    def test_restart_without_it(self) -> None:
        """Without the state file the same Droplet is first seen anew, and one window must pass before it is judged."""
        story = Story("2026-03-01 00:00", DAILY)
        story.restarts("2026-03-10 12:00")
        story.reads("2026-03-10 12:00", "2026-03-07 15:00")
        assert story.verdict("2026-03-11 11:59") == Verdict(0)
        story.reads("2026-03-11 12:00", "2026-03-07 15:00")
        assert story.verdict("2026-03-11 12:00") == Verdict(1)


class TestCount:
    """`missed_windows`."""

    def test_counts_them_all(self) -> None:
        """The number of windows that are due, started after the baseline, and start after that of the newest backup."""
        story = Story("2026-01-01 00:00", DAILY)
        for day, missed in (("2026-03-09", 0), ("2026-03-10", 1), ("2026-03-11", 2), ("2026-03-31", 22)):
            story.reads(f"{day} 12:00", "2026-03-09 04:05")
            verdict = story.verdict(f"{day} 12:00")
            assert verdict == Verdict(missed)
            assert verdict.overdue is (missed > 0)

    def test_counts_weeks(self) -> None:
        """A weekly plan counts weeks."""
        story = Story("2026-01-01 00:00", WEEKLY)
        story.reads("2026-03-30 03:59", "2026-03-08 20:05")
        assert story.missed("2026-03-30 03:59") == 2
        story.reads("2026-03-30 04:00", "2026-03-08 20:05")
        assert story.missed("2026-03-30 04:00") == 3

    def test_none_due(self) -> None:
        """None due since the baseline: 0, not absent, even before any window has passed or any backup was made."""
        story = Story("2026-03-10 05:00", DAILY)
        story.reads("2026-03-10 05:00")
        verdict = story.verdict("2026-03-10 05:00")
        assert verdict == Verdict(0)
        assert verdict.overdue is False

    def test_none_due_needs_no_reading(self) -> None:
        """None due since the baseline: 0, though the list was never read but only every id resolved elsewhere."""
        story = Story("2026-03-10 05:00", DAILY)
        story.glimpses("2026-03-10 05:00", "2026-03-10 04:10")
        assert story.verdict("2026-03-10 05:00") == Verdict(0)

    def test_windows_longer_than_their_interval(self) -> None:
        """Windows that overlap are each due at their own end."""
        policy = replace(FOUR_HOURLY, window_length=23 * HOUR)
        story = Story("2026-03-01 00:00", policy)
        story.reads("2026-03-11 07:00", "2026-03-10 00:10")
        assert story.missed("2026-03-11 06:59") == 0
        assert story.missed("2026-03-11 07:00") == 1
        story.reads("2026-03-11 11:00", "2026-03-10 00:10")
        assert story.missed("2026-03-11 11:00") == 2

    def test_single_skip_on_a_four_hour_plan(self) -> None:
        """On a 4-hour plan a single skip that the next window makes good never shows."""
        story = Story("2026-03-01 00:00", FOUR_HOURLY)
        story.reads("2026-03-10 07:59", "2026-03-10 00:10")
        assert story.missed("2026-03-10 07:59") == 0
        story.reads("2026-03-10 12:00", "2026-03-10 00:10", "2026-03-10 08:10")
        assert story.missed("2026-03-10 12:00") == 0


class TestEvidence:
    """What raises and lowers the count."""

    def test_rises_only_by_evidence(self) -> None:
        """A window counts as missed once the droplet's own list was read successfully after the window was due."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 12:00", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 11:59") == Verdict(0)
        assert story.verdict("2026-03-10 13:00") == Verdict(None, unjudged=True)
        story.reads("2026-03-10 11:59:59", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 13:00") == Verdict(None, unjudged=True)
        story.reads("2026-03-10 12:00", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 13:00") == Verdict(1)

    def test_no_shortcut(self) -> None:
        """No shortcut makes one: backups resolved by a sweep do not prove that a newer one is missing."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 12:00", "2026-03-09 04:05")
        story.glimpses("2026-03-10 13:00", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 13:00") == Verdict(None, unjudged=True)

    def test_no_outage(self) -> None:
        """No outage makes one: a week without any reading adds no missed window."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 12:00", "2026-03-09 04:05")
        for day in range(10, 17):
            story.fails()
            assert story.verdict(f"2026-03-{day} 12:30") == Verdict(None, unjudged=True)
        story.reads("2026-03-16 12:31", "2026-03-15 04:05", "2026-03-16 04:05")
        assert story.verdict("2026-03-16 12:31") == Verdict(0)

    def test_reading_ahead_of_the_clock(self) -> None:
        """A reading dated in times yet to come, by a clock since set right, proves nothing that is due by then."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-11 18:00", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 12:00") == Verdict(None, unjudged=True)
        story.reads("2026-03-10 12:05", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 12:05") == Verdict(1)

    def test_falls_by_a_newer_backup(self) -> None:
        """It falls by a newer backup, wherever that is seen: in the own list, or elsewhere."""
        for own in (True, False):
            story = Story("2026-03-01 00:00", DAILY)
            story.reads("2026-03-12 13:00", "2026-03-09 04:05")
            assert story.missed("2026-03-12 13:00") == 3
            see = story.reads if own else story.glimpses
            see("2026-03-12 13:05", "2026-03-09 04:05", "2026-03-11 04:05")
            assert story.missed("2026-03-12 13:05") == 1
            see("2026-03-12 13:10", "2026-03-12 13:07")
            assert story.missed("2026-03-12 13:10") == 0

    def test_falls_by_a_new_baseline(self) -> None:
        """Or by a new baseline."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-12 13:00", "2026-03-09 04:05")
        assert story.missed("2026-03-12 13:00") == 3
        story.shows("2026-03-12 13:05", replace(DAILY, next_window=window("2026-03-13 10:00")))
        assert story.verdict("2026-03-12 13:05") == Verdict(0)

    def test_unjudged_stands_above_zero(self) -> None:
        """If a window became due since the last reading, it is unjudged; `missed_windows` stands if above 0."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-11 13:00", "2026-03-09 04:05")
        assert story.verdict("2026-03-11 13:00") == Verdict(2)
        verdict = story.verdict("2026-03-13 13:00")
        assert verdict == Verdict(2, unjudged=True)
        assert verdict.overdue is True

    def test_unjudged_else_absent(self) -> None:
        """Else it and `overdue` are absent."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 13:00", "2026-03-09 04:05")
        verdict = story.verdict("2026-03-10 12:00")
        assert verdict == Verdict(None, unjudged=True)
        assert verdict.overdue is None

    def test_not_unjudged_where_a_backup_answers(self) -> None:
        """Not where the newest backup belongs to that window or a later one: a sweep that saw it is enough."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-09 13:00", "2026-03-09 04:05")
        story.glimpses("2026-03-10 13:00", "2026-03-10 04:05")
        assert story.verdict("2026-03-10 13:00") == Verdict(0)
        story.fails()
        assert story.verdict("2026-03-10 13:05") == Verdict(0)

    def test_not_unjudged_by_a_window_that_does_not_count(self) -> None:
        """A window that counts: one before the baseline needs no reading."""
        story = Story("2026-03-10 05:00", DAILY)
        story.glimpses("2026-03-10 05:00")
        assert story.verdict("2026-03-10 13:00") == Verdict(0)

    def test_nothing_known(self) -> None:
        """While nothing is known of the droplet's backups, both are absent, whatever was due."""
        story = Story("2026-03-01 00:00", DAILY)
        assert story.verdict("2026-03-01 00:05") == Verdict(None, unjudged=False)

    def test_nothing_known_and_unread(self) -> None:
        """If its list had to be read and was not, the droplet counts as unjudged."""
        story = Story("2026-03-01 00:00", DAILY)
        story.fails()
        assert story.verdict("2026-03-01 00:05") == Verdict(None, unjudged=True)
        assert story.verdict("2026-03-05 00:05") == Verdict(None, unjudged=True)

    @pytest.mark.parametrize("enabled", [False, None], ids=["off", "unknown"])
    def test_off_or_unknown(self, enabled: bool | None) -> None:
        """Both are absent where backups are off or their state is unknown, though a list is stale or was not read."""
        story = Story("2026-03-01 00:00", replace(DAILY, enabled=enabled))
        story.fails()
        assert story.verdict("2026-03-01 00:05") == Verdict(None, unjudged=False)
        story.reads("2026-03-05 12:00", "2026-03-01 04:05")
        assert story.verdict("2026-03-05 12:00") == Verdict(None, unjudged=False)
        story.fails()
        assert story.verdict("2026-03-10 12:00") == Verdict(None, unjudged=False)

    def test_no_policy(self) -> None:
        """Both are absent where no policy record was ever seen."""
        story = Story("2026-03-01 00:00", None)
        story.reads("2026-03-05 12:00", "2026-03-01 04:05")
        assert story.verdict("2026-03-05 12:00") == Verdict(None, unjudged=False)


class TestRestartWithoutState:
    """What is left, without a state file."""

    def test_last_backups_outside_todays_windows(self) -> None:
        """For one window a stale droplet is not seen as such if its last backups lie outside today's windows."""
        story = Story("2026-03-10 13:00", DAILY)
        story.reads("2026-03-11 11:59", "2026-03-06 20:00", "2026-03-07 20:00")
        assert story.verdict("2026-03-11 11:59") == Verdict(0)
        story.reads("2026-03-11 12:00", "2026-03-06 20:00", "2026-03-07 20:00")
        assert story.verdict("2026-03-11 12:00") == Verdict(1)

    def test_all_expired(self) -> None:
        """Or have all expired."""
        story = Story("2026-03-10 13:00", DAILY)
        story.reads("2026-03-11 11:59")
        assert story.verdict("2026-03-11 11:59") == Verdict(0)

    def test_newest_turned_into_a_snapshot(self) -> None:
        """And a newest backup turned into a snapshot looks missed until the next."""
        story = Story("2026-03-10 13:00", DAILY)
        story.reads("2026-03-10 13:00", "2026-03-08 04:05", "2026-03-09 04:05")
        assert story.verdict("2026-03-10 13:00") == Verdict(1)
        story.reads("2026-03-11 05:00", "2026-03-08 04:05", "2026-03-09 04:05", "2026-03-11 04:05")
        assert story.verdict("2026-03-11 12:00") == Verdict(0)


class TestLongRuns:
    """Whole stretches of time in one story."""

    def test_a_good_month(self) -> None:
        """A month of daily backups, looked at every ten minutes by way of listings alone, never misses a window."""
        story = Story("2026-03-01 00:00", DAILY)
        story.reads("2026-03-01 00:00", "2026-02-28 04:05")
        made = [f"2026-03-{day:02} 04:{day:02}" for day in range(1, 31)]
        when = at("2026-03-01 00:00")
        while when < at("2026-03-31 04:00"):
            story.glimpses(when, *[each for each in made if at(each) <= when - 20 * MINUTE])
            assert story.verdict(when) == Verdict(0)
            when += 150 * MINUTE

    def test_one_skip_and_recovery(self) -> None:
        """One window is skipped: due at noon, proved by the next reading, mended by the next day's backup."""
        story = Story("2026-03-01 00:00", DAILY)
        seen = []
        for hour in range(24, 84, 3):
            when = at("2026-03-09 00:00") + hour * HOUR
            kept = ["2026-03-09 04:05"] + (["2026-03-11 04:05"] if when > at("2026-03-11 04:05") else [])
            story.reads(when, *kept)
            seen.append(story.missed(when))
        assert seen == [0] * 4 + [1] * 6 + [0] * 10

    def test_weekly_over_a_year(self) -> None:
        """A weekly plan left without backups for a year has missed every week of it that is due."""
        story = Story("2026-01-01 00:00", WEEKLY)
        when = at("2026-03-08 20:05") + 53 * WEEK
        story.reads(when, "2026-03-08 20:05")
        assert story.missed(when) == 52

    def test_a_size_that_jumps(self) -> None:
        """The newest backup ever seen weighs: a large one gives the next window longer, a small one less."""
        story = Story("2026-03-01 00:00", DAILY, disk_gib=500)
        big = Backup(1, at("2026-03-09 05:00"), 100 * GIB)
        small = Backup(2, at("2026-03-10 05:00"), GIB)
        story.reads("2026-03-10 16:59", big)
        assert story.missed("2026-03-10 16:59") == 0
        story.reads("2026-03-11 12:03", big, small)
        assert story.missed("2026-03-11 12:02") == 0
        assert story.missed("2026-03-11 12:03") == 1
