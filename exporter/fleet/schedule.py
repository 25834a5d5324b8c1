"""Windows: how often a plan's return, where they lie, and when the next one opens."""

from __future__ import annotations

import re

from exporter.fleet.model import Policy, Schedule, SupportedPolicy, Window

HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY

_INTRA_DAILY = re.compile(r"intra_daily_([1-9][0-9]{0,3})h")
_WEEKDAYS = {name: DAY * number for number, name in enumerate(("THU", "FRI", "SAT", "SUN", "MON", "TUE", "WED"))}
"""Seconds from the Unix epoch, a Thursday, to each weekday."""


def interval_of(plan: str | None) -> float | None:
    """Seconds between two backups of the plan; `None` for a plan not known.

    `plan` is an open string: beside the documented `daily` and `weekly` the field has `intra_daily_4h`.
    """
    if plan == "daily":
        return DAY
    if plan == "weekly":
        return WEEK
    intra_daily = _INTRA_DAILY.fullmatch(plan or "")
    return int(intra_daily[1]) * HOUR if intra_daily else None


def clock_start(policy: Policy, interval: float) -> float | None:
    """Some start of a window by the policy's hour and weekday; `None` where they do not tell.

    An hour tells nothing of windows that are not at the same hours every day, as with an interval of 5 or 48 hours.
    """
    if policy.hour is None:
        return None
    if interval != WEEK:
        return policy.hour * HOUR if DAY % interval == 0 else None
    weekday = _WEEKDAYS.get((policy.weekday or "").upper())
    return None if weekday is None else weekday + policy.hour * HOUR


def schedule_of(
    policy: Policy | None,
    supported: SupportedPolicy | None,
    named_start: float | None = None,
    named_length: float | None = None,
) -> Schedule | None:
    """The Droplet's windows; `None` where interval, phase or length is not known, so that nothing can be judged.

    `named_start`, `named_length`: of the window that the API named last. The phase is the policy's hour and weekday,
    the owner's own settings; without them it is that start. Where both are known and lie apart, going round the
    interval, the window runs from the earlier start to the later end.
    """
    interval = interval_of(policy.plan) if policy else None
    length = length_of(policy, supported, named_length)
    if policy is None or interval is None or length is None:
        return None
    clock = clock_start(policy, interval)
    if clock is None or named_start is None:
        anchor = named_start if clock is None else clock
        return None if anchor is None else Schedule(anchor, interval, length)
    later = (named_start - clock) % interval
    earlier = (clock - named_start) % interval
    return Schedule(clock - min(earlier, later) * (earlier < later), interval, length + min(earlier, later))


def length_of(policy: Policy | None, supported: SupportedPolicy | None, named_length: float | None) -> float | None:
    """The longer of the policy's length and that of the window named last; with neither, the supported policy's."""
    lengths = [length for length in (named_length, policy.window_length if policy else None) if length is not None]
    if lengths:
        return max(lengths)
    return supported.window_length if supported else None


def moved(before: float, after: float, interval: float) -> float:
    """How far one start lies from the other, going round the interval."""
    distance = (after - before) % interval
    return min(distance, interval - distance)


def hours_until_next_window(schedule: Schedule | None, window: Window | None, now: float) -> float | None:
    """Hours to the start of the next window, 0 while one is open.

    `window`, which the API names, tells only where there is no schedule, and only while it is open or still to come.
    """
    if schedule is None:
        return max(0.0, window.start - now) / HOUR if window and now < max(window.end, window.start) else None
    number = schedule.window_at(now)
    if now < schedule.start(number) + schedule.length:
        return 0.0
    return max(0.0, schedule.start(number + 1) - now) / HOUR
