"""Stories of one Droplet with the expected verdict, checked with the oracle and with the exporter's code.

All times are UTC; 2026-11-02 is a Monday. Unless said: daily at hour 0, windows of 4 hours, grace 4 hours, backups of 1
GiB, so that a window is due at 08:03.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from exporter.reports.phrases import verdict_sentence
from tests.fleet.life import Life, at, daily, weekly
from tests.fleet.oracle import DAY, HOUR, MINUTE, REJECTED, Backup, Config, Droplet, Oracle, Policy, Reading
from tests.fleet.replay import Replay

STORIES: list[Callable[[], Life]] = []


def story(tell: Callable[[], Life]) -> Callable[[], Life]:
    STORIES.append(tell)
    return tell


def name_of(tell: Callable[[], Life]) -> str:
    return tell.__name__


# --- Switching on ---


@story
def flag_was_missing_for_two_weeks() -> Life:
    """The record lacks `backup_enabled` for two weeks; then `true`: Thursday's window is the first that counts."""
    return _said_nothing_for_two_weeks(daily(enabled=None))


@story
def record_was_missing_for_two_weeks() -> Life:
    return _said_nothing_for_two_weeks(None)


def _said_nothing_for_two_weeks(before: Policy | None) -> Life:
    life = Life("2026-10-21 12:00", policy=before)
    life.made_daily("2026-10-12 01:00", "2026-10-18 01:00")
    life.polls("2026-11-04 11:55", every=6 * HOUR)
    life.expect(state="unjudged", reason="unknown-policy", missed_windows=None, stale=None, max_age=None)
    life.policy = daily()
    life.poll("2026-11-04 12:00")
    life.expect(state="waiting", reason=None, missed_windows=0, overdue=False, stale=False, kept=7)
    life.polls("2026-11-05 08:00")
    life.expect(state="waiting", missed_windows=0)
    life.poll("2026-11-05 08:05")
    life.expect(state="overdue", missed_windows=1, missed=(at("2026-11-05 00:00"),))
    return life


@story
def switched_on_an_hour_ago() -> Life:
    """A Droplet 400 days old, seen off and then on: its first window tells, and nothing before."""
    life = Life("2026-11-01 12:00", policy=Policy(enabled=False))
    life.droplet = Droplet(created_at=at("2025-09-28 00:00"), disk=20.0)
    life.polls("2026-11-02 09:00")
    life.expect(state="unprotected", missed_windows=None, overdue=None, stale=None, max_age=None, lost=0)
    life.policy = daily()
    life.poll("2026-11-02 09:05")
    life.polls("2026-11-02 10:05")
    life.expect(state="waiting", missed_windows=0, stale=False)
    life.polls("2026-11-03 08:55")
    life.expect(state="waiting")
    life.poll("2026-11-03 09:00")
    life.expect(state="overdue", missed_windows=1)
    return life


@story
def switched_on_right_after_the_first_sight() -> Life:
    """What was seen off an hour ago is no gap."""
    life = Life("2026-11-02 10:00", policy=Policy(enabled=False))
    life.poll()
    life.policy = daily()
    life.polls("2026-11-02 11:00")
    life.expect(state="waiting", reason=None, missed_windows=0)
    return life


@story
def switched_on_and_nothing_comes() -> Life:
    """No window counts, for the hour is changed before each: `never-taken` 56 h, and 3 min for each GiB, later."""
    life = Life("2026-11-02 08:00", policy=Policy(enabled=False))
    life.droplet = Droplet(created_at=at("2025-09-28 00:00"), disk=20.0)
    life.poll()
    life.policy = daily()
    life.poll("2026-11-02 09:00")
    for day in ("02", "03", "04"):
        if day != "02":
            life.set_policy(hour=0)
            life.polls(f"2026-11-{day} 11:00")
        if day != "04":
            life.polls(f"2026-11-{day} 22:00")
            life.set_policy(hour=12)
            life.polls(f"2026-11-{day} 23:00")
    life.polls("2026-11-04 18:00")
    life.expect(state="waiting", missed_windows=0, stale=False, max_age=57 * HOUR)
    life.poll("2026-11-04 18:01")
    life.expect(state="never-taken", missed_windows=0, stale=True)
    return life


@story
def new_droplet() -> Life:
    """Made at noon with backups on: it lacks nothing yet."""
    life = Life("2026-11-02 12:05", droplet=Droplet(created_at=at("2026-11-02 12:00"), disk=1.0))
    life.poll()
    life.expect(state="waiting", reason=None, missed_windows=0, stale=False)
    life.polls("2026-11-03 08:00")
    life.expect(state="waiting")
    life.poll("2026-11-03 08:05")
    life.expect(state="overdue", missed_windows=1)
    return life


@story
def switched_on_before_the_policies_could_be_listed() -> Life:
    """Started while the policies cannot be listed: they were switched on at some time, and no window counts yet."""
    life = Life("2026-11-01 12:00")
    life.polls("2026-11-03 12:00", policy=None, policies_complete=False)
    life.expect(state="unjudged", reason="unknown-policy", missed_windows=None)
    life.poll("2026-11-03 12:05")
    life.expect(state="never-taken", missed_windows=None)
    life.polls("2026-11-04 08:05")
    life.expect(missed_windows=1, missed=(at("2026-11-04 00:00"),))
    return life


@story
def policy_was_not_understood_at_first() -> Life:
    """At its first sight nothing told whether backups were on; a day later one listing names no policy, the next does.

    They are known to be on since the first listing that could tell.
    """
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-03 09:00", policy=REJECTED)
    life.expect(state="unjudged", reason="unknown-policy")
    life.poll("2026-11-03 09:05", policy=None)
    life.poll("2026-11-03 09:10")
    life.expect(state="unjudged", reason="first-look", missed_windows=None)
    life.polls("2026-11-04 08:05")
    life.expect(state="overdue", missed=(at("2026-11-04 00:00"),))
    return life


@story
def flicker_of_the_flag_is_no_switch() -> Life:
    """One listing that says nothing changes nothing."""
    life = Life("2026-11-01 12:00")
    life.made("2026-11-01 01:00")
    life.polls("2026-11-03 12:00")
    life.expect(state="missing", missed_windows=2)
    life.poll("2026-11-03 12:05", policy=None)
    life.expect(state="missing", missed_windows=2)
    life.poll("2026-11-03 12:10", policy=None, policies_complete=False)
    life.poll("2026-11-03 12:15")
    life.expect(state="missing", missed_windows=2)
    life.poll("2026-11-03 12:20", policy=None)
    life.poll("2026-11-03 12:25", policy=daily(enabled=None))
    life.expect(state="unjudged", reason="unknown-policy", missed_windows=None)
    life.poll("2026-11-03 12:30")
    life.expect(state="missing", missed_windows=2, stale=False)
    return life


@story
def switched_off_and_on_forgets_misses() -> Life:
    life = Life("2026-11-01 12:00")
    life.made("2026-11-01 01:00")
    life.polls("2026-11-03 12:00")
    life.expect(state="missing")
    life.poll("2026-11-03 12:05", policy=Policy(enabled=False))
    life.expect(state="unprotected", missed_windows=None, stale=None)
    life.poll("2026-11-03 12:10")
    life.expect(state="waiting", missed_windows=0, stale=False)
    return life


# --- Settings that change, and windows that move ---


@story
def weekly_day_is_moved_while_missing() -> Life:
    """Three Sundays are missed; on Friday the owner moves it to SAT."""
    life = Life("2026-10-05 12:00", policy=weekly())
    life.made("2026-10-04 21:00", "2026-10-11 21:00")
    life.polls("2026-11-05 12:00", every=12 * HOUR)
    life.expect(state="missing", missed_windows=3)
    life.set_policy(weekday="SAT")
    life.polls("2026-11-06 12:00")
    life.expect(state="missing", missed_windows=3)
    life.polls("2026-11-08 04:00")
    life.expect(state="missing", missed_windows=3)
    life.poll("2026-11-08 04:05")
    life.expect(
        state="missing",
        missed_windows=4,
        missed=tuple(at(f"2026-{day} 20:00") for day in ("10-18", "10-25", "11-01", "11-07")),
    )
    life.made("2026-11-14 21:00")
    life.polls("2026-11-14 20:55", every=6 * HOUR)
    life.expect(missed_windows=4)
    life.polls("2026-11-14 22:00")
    life.expect(state="protected", missed_windows=0)
    return life


@story
def weekly_day_is_moved_by_two_days() -> Life:
    """A Sunday is missed; on Monday the owner moves it to TUE, which counts though it is less than a week later."""
    life = Life("2026-10-25 12:00", policy=weekly())
    life.made("2026-10-18 21:00", "2026-10-25 21:00")
    life.polls("2026-11-02 12:00", every=6 * HOUR)
    life.expect(state="overdue", missed_windows=1)
    life.set_policy(weekday="TUE")
    life.polls("2026-11-04 04:00")
    life.expect(state="overdue", missed_windows=1)
    life.poll("2026-11-04 04:05")
    life.expect(state="missing", missed=(at("2026-11-01 20:00"), at("2026-11-03 20:00")))
    return life


@story
def daily_becomes_weekly() -> Life:
    """Monday's backup was made; the plan becomes weekly, TUE, and that window counts."""
    life = Life("2026-10-30 12:00")
    life.made_daily("2026-10-28 01:00", "2026-11-02 01:00")
    life.polls("2026-11-02 10:00")
    life.expect(state="protected")
    life.policy = weekly("TUE")
    life.polls("2026-11-04 04:00")
    life.expect(state="protected", missed_windows=0)
    life.poll("2026-11-04 04:05")
    life.expect(state="overdue", missed=(at("2026-11-03 20:00"),))
    return life


@story
def hour_is_moved_forward_on_the_day() -> Life:
    """Midnight's backup failed; the owner moves the hour to 12, and the window of that noon counts."""
    life = Life("2026-11-03 12:00")
    life.made("2026-11-03 01:00")
    life.polls("2026-11-04 09:00")
    life.expect(state="overdue", missed=(at("2026-11-04 00:00"),))
    life.set_policy(hour=12)
    life.polls("2026-11-04 20:00")
    life.expect(state="overdue", missed_windows=1)
    life.poll("2026-11-04 20:05")
    life.expect(state="missing", missed=(at("2026-11-04 00:00"), at("2026-11-04 12:00")))
    return life


@story
def hour_is_moved_while_no_window_is_named() -> Life:
    """The window that was named for the old hour does not make the new windows longer: a miss shows in time."""
    life = Life("2026-11-02 12:00", policy=daily(window=(at("2026-11-03 00:00"), at("2026-11-03 04:00"))))
    life.made("2026-11-02 01:00", "2026-11-03 01:00")
    life.polls("2026-11-03 06:00")
    life.set_policy(hour=12, window=None)
    life.polls("2026-11-03 12:05")
    life.expect(hours_until=0.0, max_age=56 * HOUR + 3 * MINUTE)
    life.expect("2026-11-03 16:00", hours_until=20.0)
    life.polls("2026-11-04 20:00")
    life.expect(state="overdue", missed=(at("2026-11-03 12:00"),))
    life.poll("2026-11-04 20:05")
    life.expect(state="missing", missed=(at("2026-11-03 12:00"), at("2026-11-04 12:00")))
    return life


@story
def day_is_moved_while_neither_hour_nor_window_is_told() -> Life:
    """The named window was of the old day, so nothing tells when the new windows are."""
    sunday = at("2026-11-01 20:00")
    life = Life("2026-10-31 12:00", policy=weekly(hour=None, window=(sunday, sunday + 4 * HOUR)))
    life.made("2026-10-25 21:00", "2026-11-01 21:00")
    life.polls("2026-11-02 12:00")
    life.expect(state="protected")
    life.set_policy(window=None)
    life.poll("2026-11-02 13:00")
    life.expect(state="protected", hours_until=6 * 24 + 7.0)
    life.set_policy(weekday="SAT")
    life.poll("2026-11-02 14:00")
    life.expect(state="unjudged", reason="no-schedule", hours_until=None)
    return life


@story
def named_start_jitters() -> Life:
    """`next_backup_window` names 00:00 and 00:16 in turn, hour 0 all along; three backups in a row fail."""
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    number = 0
    for day, misses in (("05", 1), ("06", 2), ("07", 3)):
        while life.now < at(f"2026-11-{day} 09:00"):
            start = at(f"2026-11-{day} 00:00") + number % 2 * 16 * MINUTE
            life.set_policy(window=(start, start + 4 * HOUR))
            life.poll(life.now + HOUR)
            if life.now < at(f"2026-11-{day} 08:00"):
                life.expect(missed_windows=misses - 1)
            number += 1
        life.expect(missed_windows=misses)
    return life


@story
def single_answer_names_a_later_window() -> Life:
    """Two misses stand whatever one answer names."""
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    life.polls("2026-11-06 12:00")
    life.expect(state="missing", missed_windows=2)
    life.poll("2026-11-06 12:05", policy=daily(window=(at("2026-11-07 04:00"), at("2026-11-07 08:00"))))
    life.expect(state="missing", missed_windows=2)
    life.poll("2026-11-06 12:10", policy=daily(window=(at("2026-11-07 00:00"), at("2026-11-07 04:00"))))
    life.expect(state="missing", missed_windows=2)
    return life


@story
def drifting_start_judges_no_window_twice() -> Life:
    """The start that the API names, its hour unknown, moves by ten minutes each day; two backups fail."""
    life = Life("2026-11-04 12:00", policy=daily(hour=None))
    life.made("2026-11-04 01:00")
    for day, minutes in (("05", 0), ("06", 10), ("07", 20)):
        start = at(f"2026-11-{day} 00:00") + minutes * MINUTE
        life.set_policy(window=(start, start + 4 * HOUR))
        life.polls(f"2026-11-{day} 07:00")
    life.expect(state="missing", missed_windows=2)
    life.polls("2026-11-07 09:00")
    life.expect(state="missing", missed_windows=3)
    return life


@story
def hour_is_flipped_twice_a_day() -> Life:
    """Two tools fight over the hour, for 20 minutes twice a day, nothing is made: stale on the third day at last."""
    life = Life("2026-11-01 12:00")
    life.made("2026-11-01 01:00")
    life.poll()
    for day in ("01", "02", "03", "04"):
        for hour in ("06", "18"):
            if f"{day} {hour}" != "01 06":
                life.set_policy(hour=12)
                life.polls(f"2026-11-{day} {hour}:00")
                life.set_policy(hour=0)
                life.polls(f"2026-11-{day} {hour}:20")
                if life.now > at("2026-11-03 09:03"):
                    life.expect(state="stale", missed_windows=0)
    return life


@story
def api_names_tomorrows_window_while_todays_is_open() -> Life:
    life = Life("2026-11-02 12:00", policy=daily(window=(at("2026-11-03 00:00"), at("2026-11-03 04:00"))))
    life.made_daily("2026-11-01 01:00", "2026-11-03 01:00")
    life.polls("2026-11-02 23:00")
    life.expect(hours_until=1.0)
    life.set_policy(window=(at("2026-11-04 00:00"), at("2026-11-04 04:00")))
    life.polls("2026-11-03 02:00")
    life.expect(hours_until=0.0)
    life.expect("2026-11-03 04:00", hours_until=20.0)
    return life


# --- The first look ---


@story
def first_look_40_hours() -> Life:
    """The newest is 40 hours old: the gap may be as old as the policy; the next window tells."""
    life = Life("2026-11-04 17:00")
    life.made("2026-11-03 01:00")
    life.poll()
    life.expect(state="unjudged", reason="first-look", missed_windows=None, stale=False)
    life.polls("2026-11-05 08:00")
    life.expect(state="unjudged", reason="first-look")
    life.poll("2026-11-05 08:05")
    life.expect(state="overdue", reason=None, missed_windows=1, missed=(at("2026-11-05 00:00"),))
    return life


@story
def first_look_40_hours_and_the_next_is_made() -> Life:
    life = Life("2026-11-04 17:00")
    life.made("2026-11-03 01:00", "2026-11-05 01:00")
    life.polls("2026-11-05 08:05")
    life.expect(state="protected", missed_windows=0)
    return life


@story
def first_look_four_days() -> Life:
    life = Life("2026-11-06 01:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.expect(state="stale", reason="first-look", missed_windows=None, stale=True)
    life.polls("2026-11-07 08:00")
    life.expect(state="stale")
    life.poll("2026-11-07 08:05")
    life.expect(state="overdue", missed_windows=1)
    return life


@story
def first_look_weekly_ten_days() -> Life:
    life = Life("2026-11-11 21:00", policy=weekly())
    life.made("2026-11-01 21:00")
    life.poll()
    life.expect(state="unjudged", reason="first-look", stale=False)
    return life


@story
def first_look_weekly_twenty_days() -> Life:
    life = Life("2026-11-21 21:00", policy=weekly())
    life.made("2026-11-01 21:00")
    life.poll()
    life.expect(state="stale", stale=True, missed_windows=None)
    return life


@story
def first_start_while_own_lists_fail() -> Life:
    life = Life("2026-11-02 12:00", own_list="failed")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-02 15:00")
    life.expect(state="unjudged", reason="unread", missed_windows=None, stale=None, lost=None, kept=None)
    return life


# --- Evidence ---


@story
def record_without_a_size_comes_and_goes() -> Life:
    """Two misses; a record of size null is listed, and is gone at the next reading."""
    life = _two_misses()
    broken = life.made("2026-11-06 13:00", size=None)
    life.polls("2026-11-06 14:00")
    life.expect(missed_windows=0, missed=())
    life.remove(broken)
    life.polls("2026-11-06 15:00")
    life.expect(state="missing", missed_windows=2, lost=0)
    return life


@story
def window_with_a_backup_without_a_size_is_not_judged_yet() -> Life:
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    broken = life.made("2026-11-05 01:00", size=None)
    life.polls("2026-11-05 09:00")
    life.expect(state="protected", missed_windows=0)
    life.remove(broken)
    life.polls("2026-11-05 10:00")
    life.expect(state="overdue", missed_windows=1)
    return life


@story
def record_without_a_size_is_gone_while_the_plan_is_not_told() -> Life:
    """The window was due, by the schedule that was known then, and has no backup."""
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    broken = life.made("2026-11-05 01:00", size=None)
    life.polls("2026-11-05 09:00")
    life.remove(broken)
    life.set_policy(plan=None)
    life.polls("2026-11-05 10:00")
    life.expect(state="overdue", reason="no-schedule", missed=(at("2026-11-05 00:00"),))
    return life


@story
def window_with_a_backup_without_a_size_comes_due_unread() -> Life:
    """It is due and not judged yet; its own list, which would tell more, cannot be read."""
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    life.made("2026-11-05 01:00", size=None)
    life.polls("2026-11-05 07:00")
    life.own_list = "failed"
    life.poll("2026-11-05 08:00")
    life.expect(state="protected", reason=None, missed_windows=0)
    life.poll("2026-11-05 08:05")
    life.expect(state="unjudged", reason="unread", missed_windows=None)
    return life


@story
def record_without_a_size_becomes_a_snapshot() -> Life:
    """The age counts from it: it can be restored. But it answers no window, and is no newer backup that is gone."""
    life = Life("2026-11-02 12:00", config=Config(max_age=26 * HOUR))
    life.made("2026-11-02 01:00")
    unsized = life.made("2026-11-03 01:00", size=None)
    life.polls("2026-11-03 07:00")
    life.remove(unsized, to_snapshots=True)
    life.polls("2026-11-03 09:00")
    life.expect(state="overdue", stale=False, lost=0, kept=1)
    life.expect("2026-11-04 03:30", stale=False)
    return life


@story
def phantom_id_counts_until_the_own_list_is_read() -> Life:
    """`backup_ids` and an image tell of a backup that the own list, read later, lacks."""
    life = _two_misses()
    life.own_list = "not asked"
    assert life.droplet is not None
    phantom = Backup(77, at("2026-11-06 13:00"), 1.0)
    listed = replace(life.droplet, backup_ids=(*(one.id for one in life.kept), 77))
    life.poll("2026-11-06 13:30", droplet=listed, images=(phantom,))
    life.expect(missed_windows=0, kept=2)
    life.own_list = "read"
    life.poll("2026-11-06 13:35", droplet=listed)
    life.expect(state="missing", missed_windows=2, kept=1)
    life.own_list = "not asked"
    life.poll("2026-11-06 13:40", droplet=listed, images=(phantom,))
    life.expect(state="missing", missed_windows=2, kept=1)
    return life


@story
def denied_id_does_not_come_back() -> Life:
    """The listing drops an id that the own list denied, and names it again: it still is no backup."""
    life = _two_misses()
    life.own_list = "not asked"
    assert life.droplet is not None
    phantom = Backup(77, at("2026-11-06 13:00"), 1.0)
    ids = tuple(one.id for one in life.kept)
    listed = replace(life.droplet, backup_ids=(*ids, 77))
    life.own_list = "read"
    life.poll("2026-11-06 13:35", droplet=listed)
    life.own_list = "not asked"
    life.poll("2026-11-06 13:40")
    life.poll("2026-11-06 13:45", droplet=listed, images=(phantom,))
    life.expect(state="missing", missed_windows=2, kept=1)
    return life


@story
def phantom_was_never_seen() -> Life:
    """The only backup ever told of is an id and an image that the own list lacks: none was ever taken."""
    life = Life("2026-11-02 12:00", own_list="not asked", config=Config(max_age=26 * HOUR))
    assert life.droplet is not None
    listed = replace(life.droplet, backup_ids=(77,))
    life.poll(droplet=listed, images=(Backup(77, at("2026-11-02 01:00"), 1.0),))
    life.expect(state="protected", kept=1)
    life.own_list = "read"
    life.poll("2026-11-02 12:05", droplet=listed)
    life.expect(state="never-taken", stale=True, kept=0)
    return life


@story
def older_miss_is_hidden_by_a_record_without_a_size() -> Life:
    """A later miss is shown. Whether the older one is, the own list would say, which fails."""
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    life.made("2026-11-05 01:00", size=None)
    life.polls("2026-11-06 12:00")
    life.expect(state="overdue", reason=None, missed=(at("2026-11-06 00:00"),))
    life.own_list = "failed"
    life.poll("2026-11-06 12:05")
    life.expect(state="overdue", reason="unread", missed=(at("2026-11-06 00:00"),))
    return life


@story
def listing_that_lags_makes_no_miss() -> Life:
    """A record without a size hides two misses; a listing lacks it, and the own list cannot be read."""
    life = _two_misses()
    broken = life.made("2026-11-06 13:00", size=None)
    life.polls("2026-11-06 14:00")
    life.expect(missed_windows=0)
    life.own_list = "failed"
    life.remove(broken)
    life.poll("2026-11-06 14:05")
    life.expect(state="unjudged", reason="unread", missed_windows=None)
    life.poll("2026-11-06 14:10", clock_offset=2 * DAY)
    life.expect(state="unjudged", reason="clock", missed_windows=None)
    life.own_list = "read"
    life.poll("2026-11-06 14:15")
    life.expect(state="missing", missed_windows=2)
    return life


def _two_misses() -> Life:
    life = Life("2026-11-04 12:00")
    life.made("2026-11-04 01:00")
    life.polls("2026-11-06 12:00")
    life.expect(state="missing", missed_windows=2)
    return life


@story
def swept_backup_that_becomes_a_snapshot_was_made() -> Life:
    """The images told of it, and the own list was read without it once no listing named it any more."""
    life = Life("2026-11-04 12:00", own_list="not asked")
    life.made("2026-11-04 01:00")
    life.own_list = "read"
    life.poll()
    life.own_list = "not asked"
    made = life.made("2026-11-05 01:00")
    life.polls("2026-11-05 06:00", images=tuple(life.backups))
    life.remove(made, to_snapshots=True)
    life.polls("2026-11-05 09:00")
    life.own_list = "read"
    life.polls("2026-11-05 10:00")
    life.expect(state="protected", missed_windows=0, kept=1)
    return life


@story
def only_backup_becomes_a_snapshot() -> Life:
    """Not missed; stale when the snapshot is older than the limit."""
    life = Life("2026-11-02 12:00", policy=weekly(), config=Config(max_age=3 * DAY))
    only = life.made("2026-11-01 21:00")
    life.polls("2026-11-02 15:00")
    life.expect(state="protected", kept=1)
    life.remove(only, to_snapshots=True)
    life.polls("2026-11-04 21:00")
    life.expect(state="waiting", missed_windows=0, stale=False, kept=0, lost=0)
    life.poll("2026-11-04 21:05")
    life.expect(state="stale", missed_windows=0, stale=True, kept=0, lost=0, max_age=3 * DAY)
    return life


@story
def only_backup_is_gone_and_no_snapshot() -> Life:
    life = Life("2026-11-02 12:00", policy=weekly())
    only = life.made("2026-11-01 21:00")
    life.polls("2026-11-02 15:00")
    life.remove(only)
    life.polls("2026-11-02 16:00")
    life.expect(state="stale", missed_windows=0, stale=True, kept=0)
    return life


@story
def all_seven_are_deleted() -> Life:
    life = Life("2026-11-03 12:00")
    seven = life.made_daily("2026-10-28 01:00", "2026-11-03 01:00")
    life.polls("2026-11-03 13:00")
    life.expect(state="protected", kept=7)
    life.remove(seven)
    life.polls("2026-11-03 14:00")
    life.expect(state="stale", missed_windows=0, kept=0)
    return life


@story
def three_newest_vanish() -> Life:
    """Each counts as lost until its retention would have ended."""
    life = Life("2026-10-27 12:00", policy=daily(retention=7 * DAY))
    seven = life.made_daily("2026-10-28 01:00", "2026-11-03 01:00")
    life.made("2026-10-27 01:00")
    life.polls("2026-11-03 13:00", every=4 * HOUR)
    life.expect(state="protected", lost=0)
    life.remove([*seven[-3:]])
    life.polls("2026-11-03 14:00")
    life.expect(state="stale", missed_windows=0, lost=3)
    life.made_daily("2026-11-04 01:00", "2026-11-10 01:00")
    life.polls("2026-11-08 00:00", every=6 * HOUR)
    life.expect(state="protected", lost=3)
    life.polls("2026-11-08 02:00")
    life.expect(lost=2)
    life.polls("2026-11-10 02:00", every=6 * HOUR)
    life.expect(lost=0)
    return life


@story
def backup_of_a_page_is_lost() -> Life:
    """The own list showed it on a first page, failed on the second, and lacks it at the next reading."""
    life = Life("2026-11-02 12:00", policy=daily(retention=7 * DAY))
    life.made("2026-11-02 01:00")
    life.poll()
    shown = Backup(1, at("2026-11-03 01:00"), 1.0)
    life.poll("2026-11-03 02:00", reading=Reading(at("2026-11-03 02:00"), "failed", (shown,)), unread=True)
    life.expect(state="protected", lost=0)
    life.poll("2026-11-03 02:05")
    life.expect(state="protected", lost=1)
    life.poll("2026-11-03 02:10", reading=Reading(at("2026-11-03 02:10"), "failed", (shown,)), unread=True)
    life.expect(lost=0)
    life.poll("2026-11-03 02:15")
    life.expect(lost=1, missed_windows=0)
    return life


@story
def backup_expires() -> Life:
    life = Life("2026-11-03 12:00", policy=daily(retention=7 * DAY))
    seven = life.made_daily("2026-10-28 01:00", "2026-11-04 01:00")
    life.polls("2026-11-04 01:30")
    life.remove([seven[0]])
    life.polls("2026-11-04 02:00")
    life.expect(state="protected", lost=0, kept=7)
    return life


@story
def slack_is_that_of_the_newest_size_known() -> Life:
    """A disk of 320 GiB; the newest record has no size yet, the one before has 5 GiB."""
    life = Life("2026-11-04 12:00", droplet=Droplet(created_at=at("2025-09-01 00:00"), disk=320.0))
    life.made("2026-11-04 01:00", size=5.0)
    life.poll()
    life.expect(max_age=56 * HOUR + 15 * MINUTE)
    life.made("2026-11-04 13:00", size=None)
    life.polls("2026-11-04 14:00")
    life.expect(max_age=56 * HOUR + 15 * MINUTE)
    life.remove([int(at("2026-11-04 13:00"))])
    life.polls("2026-11-05 08:14")
    life.expect(missed_windows=0)
    life.poll("2026-11-05 08:15")
    life.expect(missed_windows=1)
    return life


# --- No schedule, and ages ---


@story
def usage_based_three_days() -> Life:
    life = Life(
        "2026-11-04 12:00", policy=Policy(enabled=True, plan="usage_based_daily", hour=0, window_length=4 * HOUR)
    )
    life.made("2026-11-01 12:00")
    life.poll()
    life.expect(state="unjudged", reason="no-schedule", max_age=None, stale=None, missed_windows=None)
    life.polls("2026-11-21 12:00", every=DAY)
    life.expect(state="unjudged", reason="no-schedule", max_age=None, stale=None)
    return life


@story
def usage_based_with_a_max_age() -> Life:
    life = Life(
        "2026-11-04 12:00", policy=Policy(enabled=True, plan="usage_based_daily", hour=0, window_length=4 * HOUR)
    )
    life.config = Config(max_age=10 * DAY)
    life.made("2026-11-01 12:00")
    life.poll()
    life.expect(state="unjudged", reason="no-schedule", max_age=10 * DAY, stale=False)
    life.polls("2026-11-21 12:00", every=DAY)
    life.expect(state="stale", reason="no-schedule", max_age=10 * DAY, stale=True)
    return life


@story
def max_age_of_26_hours() -> Life:
    """For `env:prod`: no window is missed, and it is stale."""
    life = Life("2026-11-03 02:00", config=Config(max_age=26 * HOUR))
    life.made("2026-11-02 01:00")
    life.poll()
    life.expect(state="protected", stale=False, max_age=93600.0)
    life.polls("2026-11-03 04:00")
    life.expect(state="stale", stale=True, max_age=93600.0, missed_windows=0)
    return life


# --- Outages, restarts and clocks ---


@story
def api_is_away_for_three_days() -> Life:
    life = Life("2026-11-02 12:00")
    life.made_daily("2026-11-01 01:00", "2026-11-06 01:00")
    life.polls("2026-11-02 15:00")
    life.expect(state="protected")
    life.outage("2026-11-05 15:00")
    life.expect(state="unjudged", reason="unread", stale=False, missed_windows=None)
    life.polls("2026-11-05 16:00")
    life.expect(state="protected", missed_windows=0)
    return life


@story
def own_lists_are_away_for_three_days() -> Life:
    life = Life("2026-11-02 12:00")
    life.made_daily("2026-11-01 01:00", "2026-11-06 01:00")
    life.polls("2026-11-02 15:00")
    life.own_list = "failed"
    life.polls("2026-11-05 15:00")
    life.expect(state="unjudged", reason="unread", stale=False, missed_windows=None)
    life.own_list = "read"
    life.polls("2026-11-05 16:00")
    life.expect(state="protected", missed_windows=0)
    return life


@story
def window_comes_due_between_plan_and_judgement() -> Life:
    """It is `unread` only if its list was planned and not read."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-03 07:00")
    life.own_list = "not asked"
    life.poll("2026-11-03 08:02")
    life.expect("2026-11-03 08:04", state="protected", reason=None, missed_windows=0)
    life.poll("2026-11-03 08:05", unread=True)
    life.expect(state="unjudged", reason="unread", missed_windows=None)
    return life


@story
def missing_stands_through_an_outage() -> Life:
    life = _two_misses()
    life.outage("2026-11-07 12:00")
    life.expect(state="missing", missed_windows=2, reason="unread")
    return life


@story
def restart_with_the_state_file_while_the_api_is_down() -> Life:
    life = _two_misses()
    before: dict[str, Any] = {
        "state": "missing",
        "missed": (at("2026-11-05 00:00"), at("2026-11-06 00:00")),
        "stale": True,
        "max_age": 56 * HOUR + 3 * MINUTE,
        "lost": 0,
        "kept": 1,
    }
    life.expect(**before)
    life.restart(keeps_state=True)
    life.expect(**before)
    life.outage("2026-11-06 14:00")
    life.expect(**before)
    return life


@story
def restart_without_state() -> Life:
    """What is left: it is unjudged until its next window is judged."""
    life = _two_misses()
    life.restart(keeps_state=False)
    life.polls("2026-11-06 13:00")
    life.expect(state="stale", missed_windows=None, reason="first-look")
    life.polls("2026-11-07 09:00")
    life.expect(state="overdue", missed_windows=1)
    return life


@story
def clock_is_two_days_off() -> Life:
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-03 07:00")
    life.polls("2026-11-03 12:00", clock_offset=2 * DAY)
    life.expect(state="unjudged", reason="clock", missed_windows=None, overdue=None, stale=None)
    life.poll("2026-11-03 12:05", clock_offset=30.0)
    life.expect(state="overdue", missed_windows=1, stale=False)
    life.polls("2026-11-04 12:00", clock_offset=-2 * DAY)
    life.expect(state="overdue", reason="clock", missed_windows=1, overdue=True, stale=None)
    life.made("2026-11-04 12:10")
    life.polls("2026-11-04 13:00", clock_offset=-2 * DAY)
    life.expect(state="overdue", missed_windows=1)
    life.poll("2026-11-04 13:05")
    life.expect(state="protected", missed_windows=0)
    return life


@story
def switched_off_droplet_needs_no_clock() -> Life:
    life = Life("2026-11-02 12:00", policy=Policy(enabled=False))
    life.poll(clock_offset=2 * DAY)
    life.expect(state="unprotected", reason=None)
    return life


# --- What is there ---


@story
def policy_of_a_droplet_that_is_gone() -> Life:
    life = Life("2026-11-02 12:00", policy=Policy(enabled=False), droplet=None, own_list="404")
    life.poll()
    life.expect(state="gone", missed_windows=None, stale=None)
    return life


@story
def policy_outlives_the_droplet() -> Life:
    """It was watched for days and destroyed; the policies name it for longer, and its own list is answered by 404."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-03 06:00")
    life.expect(state="protected")
    life.droplet, life.own_list = None, "404"
    life.polls("2026-11-03 08:05")
    life.expect(state="gone")
    life.restart(keeps_state=True)
    life.polls("2026-11-06 12:00")
    life.expect(state="gone")
    return life


@story
def rejected_record_is_no_absence() -> Life:
    """A record that cannot be understood says that the Droplet is there, and its policy too."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.own_list = "404"
    life.poll("2026-11-02 12:05", droplet=None, policy=None)
    life.poll("2026-11-02 12:10", droplet=REJECTED, policy=REJECTED)
    life.expect(state="protected")
    life.poll("2026-11-02 12:15", policy=None)
    life.expect(hours_until=11.75)
    return life


@story
def restart_between_two_listings_without_it() -> Life:
    """Two successive complete listings without the Droplet end it, also where the exporter restarts in between."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.policy = life.droplet = None
    life.own_list = "not asked"
    life.poll("2026-11-02 12:05")
    life.restart(keeps_state=True)
    life.poll("2026-11-02 12:10")
    life.expect(state=None)
    return life


@story
def listing_without_the_droplet_is_not_complete() -> Life:
    """A listing that lacks pages does not say that the Droplet is gone, whatever its own list answers."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.own_list = "404"
    life.polls("2026-11-02 14:00", droplet=None, droplets_complete=False)
    life.expect(state="protected")
    return life


@story
def droplet_is_destroyed() -> Life:
    """Two complete listings without it end its series; listings that are not complete end nothing."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.outage("2026-11-02 16:00")
    life.expect(state="protected")
    life.policy = life.droplet = None
    life.own_list = "not asked"
    life.poll("2026-11-02 17:00")
    life.expect(state="protected")
    life.poll("2026-11-02 18:00")
    life.expect(state=None)
    return life


@story
def records_without_tags() -> Life:
    """Nobody knows which are expected, so none is unprotected."""
    life = Life("2026-11-02 12:00", policy=Policy(enabled=False))
    life.droplet = Droplet(created_at=at("2025-09-01 00:00"), disk=1.0, tags=None)
    life.poll()
    life.expect(state="unjudged", reason="unknown-policy")
    return life


@story
def kubernetes_node() -> Life:
    life = Life("2026-11-02 12:00", policy=None)
    life.droplet = Droplet(created_at=at("2025-09-01 00:00"), disk=1.0, tags=("k8s", "k8s:worker"))
    life.polls("2026-11-02 14:00")
    life.expect(state="not-expected", reason=None, missed_windows=None)
    return life


@story
def attached_volumes() -> Life:
    life = Life("2026-11-02 12:00")
    life.droplet = Droplet(created_at=at("2025-09-01 00:00"), disk=1.0, volume_ids=("a", "b"))
    life.made("2026-11-02 01:00")
    life.poll()
    life.expect(attached_volumes=2)
    return life


@story
def own_list_is_missing_though_the_droplet_is_listed() -> Life:
    """A 404 is no failure to read, and nothing is known of its backups: not protected."""
    life = Life("2026-11-02 12:00", own_list="404")
    life.droplet = Droplet(created_at=at("2025-09-01 00:00"), disk=1.0, backup_ids=None)
    life.poll(tells_ids=False)
    life.expect(state="waiting", reason=None, missed_windows=None, stale=None)
    return life


@story
def own_list_is_missing_for_days() -> Life:
    """The listing names the Droplet and no newer backup, and its own list is answered by 404.

    That proves no miss. But such a Droplet must not look protected for ever: its newest backup is too old.
    """
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.poll()
    life.own_list = "404"
    life.polls("2026-11-04 09:03")
    life.expect(state="protected", reason=None, missed_windows=0, stale=False)
    life.poll("2026-11-04 09:08")
    life.expect(state="stale", reason=None, missed_windows=0, stale=True)
    life.made("2026-11-05 01:00")
    life.poll("2026-11-05 02:00")
    life.expect(state="protected", kept=1)
    life.own_list = "read"
    life.poll("2026-11-05 02:05")
    life.expect(state="protected", missed_windows=0, kept=2)
    return life


@story
def backups_are_listed_though_the_own_list_is_missing() -> Life:
    """The listing names backups that nothing else tells of, so the newest is not known to be too old."""
    life = Life("2026-11-02 12:00")
    life.made_daily("2026-11-02 01:00", "2026-11-06 01:00")
    life.poll()
    life.own_list = "404"
    life.polls("2026-11-06 12:00")
    life.expect(state="protected", reason=None, missed_windows=0, stale=False)
    return life


@story
def partly_read_list_is_evidence() -> Life:
    """A list that failed on its second page showed the backup."""
    life = Life("2026-11-02 12:00")
    life.made("2026-11-02 01:00")
    life.polls("2026-11-03 07:00")
    made = Backup(1, at("2026-11-03 01:00"), 1.0)
    life.poll("2026-11-03 08:05", reading=Reading(at("2026-11-03 08:05"), "failed", (made,)), unread=True)
    life.expect(state="protected", missed_windows=0)
    return life


# --- What is asked of each story ---


@pytest.mark.parametrize("tell", STORIES, ids=name_of)
def test_the_oracle_knows(tell: Callable[[], Life]) -> None:
    """The oracle gives the values that the story's author worked out by hand."""
    life = tell()
    assert life.expected
    for expected in life.expected:
        verdict = Oracle(life.config, life.events[: expected.events]).verdict(expected.at)
        found = {name: getattr(verdict, name, None) for name in expected.values}
        assert found == expected.values, f"after {expected.events} events: {verdict}"


@pytest.mark.parametrize("tell", STORIES, ids=name_of)
def test_the_exporter_knows(tell: Callable[[], Life]) -> None:
    """The exporter's own code gives the same values after the same polls."""
    life = tell()
    for expected in life.expected:
        values = Replay(life.config, life.events[: expected.events]).values(expected.at)
        found = {name: values.get(name) for name in expected.values}
        assert found == expected.values, f"after {expected.events} events: {values}"


NO_LIST = "the API answers 404 for its list of backups"
NOT_JUDGED = "later windows are not judged, because the API's clock is 2 days behind this host's: set the clock"


@pytest.mark.parametrize(
    ("tell", "sentences"),
    [
        (
            only_backup_becomes_a_snapshot,
            [
                "backed up on time",
                "no backup is kept now; the first window opens on Sunday 20:00",
                "no backup is kept; the newest that was seen, of 1 Nov, was turned into a snapshot",
            ],
        ),
        (
            only_backup_is_gone_and_no_snapshot,
            ["no backup is kept; the newest that was seen, of 1 Nov, is gone"],
        ),
        (
            all_seven_are_deleted,
            ["backed up on time", "no backup is kept; the newest that was seen, of 3 Nov, is gone"],
        ),
        (
            three_newest_vanish,
            [
                "backed up on time",
                "the newest backup is 3 d 13 h old; 3 newer backups are gone",
                "backed up on time; 3 backups are gone before their time",
                "backed up on time; 2 backups are gone before their time",
                "backed up on time",
            ],
        ),
        (
            clock_is_two_days_off,
            [
                "the API's clock is 2 days ahead of this host's: set the clock",
                "no backup since yesterday's window, 1 missed",
                f"no backup since Monday's window, 1 missed; {NOT_JUDGED}",
                f"1 missed; {NOT_JUDGED}",
                "backed up on time",
            ],
        ),
        (
            own_list_is_missing_for_days,
            [
                f"the newest backup is 2 d 8 h old; {NO_LIST}",
                f"the newest backup is 2 d 8 h old, over its limit of 2 d 8 h; {NO_LIST}",
                f"the newest backup is 3 d 1 h old; {NO_LIST}",
                "backed up on time",
            ],
        ),
        (
            daily_becomes_weekly,
            ["backed up on time", "backed up on time", "no backup since the one of 2 Nov, 1 missed"],
        ),
    ],
    ids=lambda value: name_of(value) if callable(value) else "",
)
def test_what_is_said(tell: Callable[[], Life], sentences: list[str]) -> None:
    """The sentence beside the state names what happened in the story."""
    life = tell()
    said = []
    for expected in life.expected:
        droplet = Replay(life.config, life.events[: expected.events]).droplet(expected.at)
        assert droplet is not None
        said.append(verdict_sentence(droplet, expected.at))
    assert said == sentences
