"""States, policies, times and sizes in words. The page and the commands use the same words, and the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from math import inf, isfinite

from exporter.fleet.model import GIB, Droplet, Policy, Window
from exporter.fleet.schedule import DAY, HOUR, interval_of
from exporter.fleet.state import Reason, State
from exporter.fleet.verdict import window_of

MINUTE = 60.0
MOST_DRAWN = 60
"""At most this many missed windows are drawn: the latest ones."""

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


WorstFirst = tuple[int, float, str, int]


def worst_first(droplet: Droplet) -> WorstFirst:
    """The sort key that puts the worst state first, then the Droplet that is longest without a backup, then by name."""
    newest = droplet.newest
    return (droplet.verdict.state.rank, -inf if newest is None else newest.created_at, droplet.name, droplet.id)


def count_states(states: Iterable[State]) -> dict[State, int]:
    """How many times each state occurs. Every state is in the result, the worst first."""
    counted = Counter(states)
    return {state: counted[state] for state in State}


def headline(counts: Mapping[State, int]) -> str:
    """One sentence about the fleet, without a full stop: `3 of 34 droplets need attention: 1 missing, 2 overdue`."""
    total = sum(counts.values())
    if not total:
        return "There is no droplet to look at"
    wrong = {state: count for state, count in counts.items() if count and state.is_bad}
    needy, unjudged = sum(wrong.values()), counts[State.UNJUDGED]
    if needy:
        parts = ", ".join(f"{count:,} {state.words}" for state, count in wrong.items())
        rest = f"; {unjudged:,} could not be judged" if unjudged else ""
        return f"{needy:,} of {plural(total, 'droplet')} {'needs' if needy == 1 else 'need'} attention: {parts}{rest}"
    if unjudged:
        return f"{unjudged:,} of {plural(total, 'droplet')} could not be judged; nothing is known to be missing"
    total -= counts[State.GONE]
    covered = counts[State.PROTECTED] + counts[State.WAITING]
    if not covered:
        return f"None of {plural(total, 'droplet')} is expected to have backups"
    waiting = counts[State.WAITING]
    if waiting:
        return f"Nothing is missing: {counts[State.PROTECTED]:,} protected, {waiting:,} waiting for their first backup"
    which = "" if covered == total else " that should have backups"
    return f"The one droplet{which} is protected" if covered == 1 else f"All {covered:,} droplets{which} are protected"


def verdict_sentence(droplet: Droplet, now: float) -> str:
    """Why the Droplet is in its state, without a full stop: `no backup since Tuesday's window, 2 missed`."""
    sentence = _why(droplet, now)
    if droplet.has_no_list and droplet.on_since is not None:
        return f"{sentence}; the API answers 404 for its list of backups"
    return sentence


def _why(droplet: Droplet, now: float) -> str:
    match droplet.verdict.state:
        case State.MISSING | State.OVERDUE:
            return _why_missed(droplet, now)
        case State.STALE:
            return _why_stale(droplet, now)
        case State.NEVER_TAKEN:
            return f"backups are on, and none was ever seen{_on_or_created_since(droplet, now)}"
        case State.UNJUDGED:
            return _why_unjudged(droplet, now)
        case State.UNPROTECTED:
            return "backups are off, though expected" + _old_backups_left(droplet)
        case State.WAITING:
            return _why_waiting(droplet, now)
        case State.NOT_EXPECTED:
            off = "backups are off" if droplet.policy and droplet.policy.enabled is False else "no backups"
            return f"{off}, and none are expected" + _old_backups_left(droplet)
        case State.GONE:
            return "the droplet is gone; the API still names its policy"
        case State.PROTECTED:
            on_time = "backed up on time" if not droplet.has_no_list else _age_of_newest(droplet, now)
            return on_time + _lost_backups(droplet)


def _why_missed(droplet: Droplet, now: float) -> str:
    missed = droplet.verdict.missed or ()
    rest = f"{len(missed):,} missed{_why_nothing_newer(droplet, now)}"
    newest, changed = droplet.newest_ever, droplet.settings_changed_at
    if newest is None:
        return f"no backup, {rest}"
    if droplet.verdict.reason is Reason.CLOCK and missed and newest >= missed[-1]:
        return rest  # A newer backup ends no miss until the clocks agree.
    if changed is not None and newest < changed:
        # By the present settings, it would belong to a window that never was.
        return f"no backup since the one of {_day(newest, now)}, {rest}"
    return f"no backup since {_window_name(droplet, newest, now)}, {rest}"


def _why_nothing_newer(droplet: Droplet, now: float) -> str:
    """Why later windows are not judged, for a Droplet whose misses stand meanwhile."""
    reason = droplet.verdict.reason
    if reason is None:
        return ""
    cause = "its list of backups could not be read" if reason is Reason.UNREAD else _why_unjudged(droplet, now)
    return f"; later windows are not judged, because {cause}"


def _why_stale(droplet: Droplet, now: float) -> str:
    newest, ever, limit, snapshot = (
        droplet.newest,
        droplet.newest_ever,
        droplet.verdict.max_age,
        droplet.newest_snapshot,
    )
    if newest is not None:
        age = _age_of_newest(droplet, now)
        if snapshot is not None and snapshot > newest.created_at:
            return f"{age}; a newer one, of {_day(snapshot, now)}, was turned into a snapshot"
        if droplet.newer_gone:
            return f"{age}; {plural(droplet.newer_gone, 'newer backup')} {_is_are(droplet.newer_gone)} gone"
        return f"{age}, over its limit of {short_duration(limit)}" if limit is not None else age
    if ever is None:
        return "no backup is kept"
    became = "was turned into a snapshot" if snapshot is not None and snapshot >= ever else "is gone"
    return f"no backup is kept; the newest that was seen, of {_day(ever, now)}, {became}"


def _age_of_newest(droplet: Droplet, now: float) -> str:
    newest = droplet.newest
    return f"the newest backup is {short_duration(now - newest.created_at)} old" if newest else "no backup is kept"


def _why_waiting(droplet: Droplet, now: float) -> str:
    first = _first_window(droplet, now)
    since, changed = droplet.on_since, droplet.settings_changed_at
    if since is not None and since > droplet.first_seen and (changed is None or since >= changed):
        return f"backups were switched on {_ago(now - since)}; {first}"
    if droplet.backups == ():
        return f"no backup is kept yet; {first}" if not droplet.ever_backed_up else f"no backup is kept now; {first}"
    if changed is not None:
        return f"the settings changed {_ago(now - changed)}; {first}"
    return first


def _first_window(droplet: Droplet, now: float) -> str:
    """What is to say about the first window that counts, or about the next window if the first is past."""
    first, schedule = droplet.verdict.first_counted, droplet.verdict.schedule
    if first is None or schedule is None:
        return "its first window is not known"
    if now < first:
        return f"the first window opens {_with_preposition(moment_words(first, now))}"
    if now < first + schedule.length:
        return f"the first window is open until {moment_words(first + schedule.length, now).removeprefix('today ')}"
    due = first + schedule.length + droplet.verdict.slack
    if now < due:
        return f"the first window has ended; its backup is due {_with_preposition(moment_words(due, now))}"
    upcoming = next_window_of(droplet, now)
    if upcoming is None or upcoming.start <= now:
        return "a window is open"
    return f"the next window opens {_with_preposition(moment_words(upcoming.start, now))}"


def _with_preposition(moment: str) -> str:
    """A text of `moment_words` as it follows a verb: `at 20:00`, `on Sunday 20:00`, `tomorrow 20:00`."""
    if moment.startswith("today "):
        return f"at {moment.removeprefix('today ')}"
    return moment if moment.startswith(("tomorrow", "yesterday", "at ")) else f"on {moment}"


def _on_or_created_since(droplet: Droplet, now: float) -> str:
    """Since when backups are on, or else since when the Droplet exists; empty if neither is known."""
    if droplet.on_since is not None and droplet.on_since > droplet.first_seen:
        return f"; they were switched on {_ago(now - droplet.on_since)}"
    created_at = droplet.description.created_at if droplet.description else None
    return f"; created {_ago(now - created_at)}" if created_at is not None else ""


def _why_unjudged(droplet: Droplet, now: float) -> str:
    policy = droplet.policy
    match droplet.verdict.reason:
        case Reason.CLOCK:
            return f"{clock_words(droplet.clock_ahead or 0.0)}: set the clock"
        case Reason.UNKNOWN_POLICY:
            if policy is not None and policy.enabled is False:
                untold = droplet.description is not None and droplet.description.tags is None
                because = ", because the API shows no tags" if untold else ""
                return f"backups are off, and whether they are expected is not known{because}"
            return "the API does not say whether backups are on"
        case Reason.NO_SCHEDULE:
            if policy is not None and droplet.interval is None:
                if not policy.plan:
                    return "the API does not name its plan"
                return f'how often the plan "{policy.plan}" makes a backup is not known'
            return "the API does not say when its windows are"
        case Reason.FIRST_LOOK:
            newest = droplet.newest
            age = f"its newest backup {short_duration(now - newest.created_at)} old" if newest else "no backup"
            first = droplet.verdict.first_counted
            will = f"; the window of {moment_words(first, now)} will tell" if first else ""
            return f"first seen {_ago(now - droplet.first_seen)} with {age}{will}"
        case _:
            if droplet.backups is None:
                return "its backups could not be read yet"
            return "a backup is due, and its list of backups could not be read"


def clock_words(ahead: float) -> str:
    """`the API's clock is 2 days ahead of this host's`; `ahead` is in seconds, negative if it is behind."""
    return f"the API's clock is {duration_words(abs(ahead))} {'ahead of' if ahead > 0 else 'behind'} this host's"


def _is_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _ago(seconds: float) -> str:
    """`3 hours ago`, `just now`."""
    return f"{duration_words(seconds)} ago" if seconds >= MINUTE else "just now"


def _lost_backups(droplet: Droplet) -> str:
    """What is to say about backups that are gone before their time."""
    lost = droplet.verdict.lost or 0
    whose = "its" if lost == 1 else "their"
    return f"; {plural(lost, 'backup')} {_is_are(lost)} gone before {whose} time" if lost else ""


def _old_backups_left(droplet: Droplet) -> str:
    """What is to say about backups that are left although backups are off."""
    kept = len(droplet.backups or ())
    return f"; {plural(kept, 'old backup')} left" if kept else ""


def _window_name(droplet: Droplet, instant: float, now: float) -> str:
    """The name of the window that a backup of this time belongs to: `Tuesday's window`."""
    interval, schedule = droplet.interval, droplet.verdict.schedule
    start = instant
    if schedule is not None:
        start = schedule.start(window_of(schedule, instant))
    then, today = _utc(start), _utc(now)
    if then is None or today is None:
        return "a window of unknown date"
    time = f"{then:%H:%M} " if interval is not None and interval < DAY else ""
    days = (today.date() - then.date()).days
    if days == 0:
        return f"today's {time}window"
    if days == 1:
        return f"yesterday's {time}window"
    if 1 < days < 7:
        return f"{_WEEKDAYS[then.weekday()]}'s {time}window"
    return f"the {time}window of {_date(then, today)}"


# Windows and policies


def next_window_of(droplet: Droplet, now: float) -> Window | None:
    """The window that is open or comes next: by the schedule that the verdict uses, or else as the API says."""
    schedule = droplet.verdict.schedule
    if schedule is None:
        window = droplet.policy.next_window if droplet.policy else None
        return window if window is not None and now < max(window.start, window.end) else None
    number = schedule.window_at(now)
    if now >= schedule.start(number) + schedule.length:
        number += 1
    return Window(schedule.start(number), schedule.start(number) + schedule.length)


def missed_windows_of(droplet: Droplet) -> tuple[float, ...]:
    """The starts of the missed windows, in Unix seconds; only the latest `MOST_DRAWN`."""
    return (droplet.verdict.missed or ())[-MOST_DRAWN:]


def policy_words(droplet: Droplet) -> str:
    """`weekly, Sundays 20:00-24:00 UTC, kept 28 days`; `off`; `not known`."""
    return ", ".join(filter(None, (schedule_words(droplet), retention_words(droplet))))


def schedule_words(droplet: Droplet) -> str:
    """`weekly, Sundays 20:00-24:00 UTC`; `off`; `not known`."""
    policy = droplet.policy
    if policy is None or (policy.enabled is None and policy.plan is None):
        return "not known"
    if policy.enabled is False:
        return "off"
    return ", ".join(filter(None, (plan_words(policy.plan), _policy_times(policy))))


def retention_words(droplet: Droplet) -> str:
    """`kept 28 days`; empty if backups are off or the retention is not known."""
    policy, days = droplet.policy, droplet.retention_days
    if policy is None or policy.enabled is False or days is None:
        return ""
    return f"kept {_number(days)} day{'' if days == 1 else 's'}"


def plan_words(plan: str | None) -> str:
    """`daily`, `weekly`, `every 4 hours`; the name of any other plan as it is."""
    if plan is None:
        return "plan not known"
    interval = interval_of(plan)
    if interval is None or plan in ("daily", "weekly"):
        return plan
    return f"every {plural(int(interval // HOUR), 'hour')}"


def weekday_number(weekday: str | None) -> int:
    """0 for `MON` to 6 for `SUN`; -1 if there is no weekday or it is not known."""
    name = (weekday or "").upper()
    return next((place for place, full in enumerate(_WEEKDAYS) if name and full.upper().startswith(name)), -1)


def _policy_times(policy: Policy) -> str:
    """`Sundays 20:00-24:00 UTC`, as far as it is known; empty for plans with several windows a day."""
    interval, hour, weekday = interval_of(policy.plan), policy.hour, weekday_number(policy.weekday)
    window = policy.next_window
    then = _utc(window.start) if window else None
    if interval is not None and interval < DAY:
        return ""
    day = f"{_WEEKDAYS[weekday]}s" if weekday >= 0 else policy.weekday or ""
    if hour is None and then is not None:
        hour = then.hour
    if not day and policy.plan == "weekly" and then is not None:
        day = f"{_WEEKDAYS[then.weekday()]}s"
    if hour is None:
        return day
    length = max(policy.window_length or 0.0, window.end - window.start if window else 0.0)
    end = hour + length / HOUR
    until = ""
    if length and end <= hour + 24 and end == int(end):
        until = f"-{int(end) if end <= 24 else int(end) - 24:02}:00"
    return f"{day} {hour:02}:00{until} UTC".strip()


# Figures


def duration_words(seconds: float) -> str:
    """A length of time in words, rounded down to one unit: `12 minutes`, `6 hours`, `2 days`."""
    for length, unit in ((DAY, "day"), (HOUR, "hour"), (MINUTE, "minute")):
        if seconds >= (length if unit != "day" else 2 * DAY):
            return plural(int(seconds // length), unit)
    return plural(max(0, int(seconds)), "second")


def short_duration(seconds: float) -> str:
    """A length of time for a column of a table: `45 s`, `12 min`, `6 h 5 min`, `2 d 4 h`, `23 d`."""
    if not isfinite(seconds):
        return "?"
    whole = max(0, int(seconds))
    days, hours, minutes = whole // 86400, whole // 3600 % 24, whole // 60 % 60
    if days >= 10:
        return f"{days:,} d"
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes and hours < 10 else f"{hours} h"
    return f"{minutes} min" if minutes else f"{whole} s"


def size_words(size: float | None) -> str:
    """A size given in bytes: `4.2 GiB`, `not known`. The API's gigabytes are GiB."""
    if size is None or not isfinite(size):
        return "not known"
    if size >= 1000 * GIB:
        return f"{size / GIB / 1024:,.1f} TiB"
    return f"{size / GIB:.1f} GiB" if size >= 0.095 * GIB or not size else f"{size / GIB * 1024:.1f} MiB"


def moment_words(instant: float, now: float) -> str:
    """A time in UTC, relative to now: `today 20:00`, `Sunday 20:00`, `3 Dec 20:00`, `3 Dec 2027`."""
    then, today = _utc(instant), _utc(now)
    if then is None or today is None:
        return "at an unknown time"
    days = (then.date() - today.date()).days
    time = f"{then:%H:%M}"
    if -7 < days < 7:
        return {0: "today", 1: "tomorrow", -1: "yesterday"}.get(days, _WEEKDAYS[then.weekday()]) + " " + time
    return f"{_date(then, today)} {time}" if then.year == today.year else _date(then, today)


def instant_words(instant: float) -> str:
    """A time in full: `2026-11-24 20:00:05 UTC`."""
    then = _utc(instant)
    return "at an unknown time" if then is None else f"{then:%Y-%m-%d %H:%M:%S} UTC"


def plural(count: int, noun: str) -> str:
    """`1 droplet`, `2,000 droplets`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _number(value: float) -> str:
    if not isfinite(value):
        return "?"
    return f"{value:,.0f}" if value == int(value) else f"{value:,.1f}"


def _day(instant: float, now: float) -> str:
    """The date of an instant: `20 Sep`, `5 Dec 2025`."""
    then, today = _utc(instant), _utc(now)
    return _date(then, today) if then and today else "an unknown day"


def _date(then: datetime, today: datetime) -> str:
    return f"{then.day} {_MONTHS[then.month - 1]}" + ("" if then.year == today.year else f" {then.year}")


def _utc(instant: float) -> datetime | None:
    try:
        return datetime.fromtimestamp(instant, UTC)
    except (OverflowError, ValueError, OSError):  # years beyond Python's calendar
        return None
