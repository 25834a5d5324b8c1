"""Windows: how often a plan's return, where they lie, and when the next one opens."""

from __future__ import annotations

import re

from msgspec import Struct

from exporter.fleet.model import Policy, SupportedPolicy, Window

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


class Schedule(Struct, frozen=True, gc=False):
    """Windows of one length that repeat for ever, both ways, numbered by their starts."""

    anchor: float
    """The start of window 0."""
    interval: float
    length: float

    def window_at(self, instant: float) -> int:
        """The number of the latest window that has started by the instant."""
        return int((instant - self.anchor) // self.interval)

    def start(self, number: int) -> float:
        return self.anchor + number * self.interval


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


def length_of(named: float | None, policy: float | None, supported: float | None) -> float | None:
    """The length of a window: the longer of the named window's and the policy's; with neither, the plan's usual one."""
    told = [length for length in (named, policy) if length is not None]
    return max(told) if told else supported


def named_length(policy: Policy) -> float | None:
    window = policy.next_window
    return None if window is None else max(0.0, window.end - window.start)


def schedule_of(policy: Policy, supported: SupportedPolicy | None) -> Schedule | None:
    """The policy's windows; `None` where interval, start or length is unknown, so that nothing can be judged."""
    interval = interval_of(policy.plan)
    if interval is None:
        return None
    anchor = policy.next_window.start if policy.next_window else clock_start(policy, interval)
    length = length_of(named_length(policy), policy.window_length, supported.window_length if supported else None)
    return None if anchor is None or length is None else Schedule(anchor, interval, length)


def hours_until_next_window(window: Window | None, interval: float | None, now: float) -> float | None:
    """Hours to the start of the window that the API names, 0 while it is open; once closed, to the next one from it on.

    `None` where no window is named, or where it has closed and the interval is unknown.
    """
    if window is None:
        return None
    start, length = window.start, max(0.0, window.end - window.start)
    if now > start and now >= start + length:
        if interval is None:
            return None
        # The first that has not ended, so that one longer than its interval counts; one of no length is its own start.
        passed = (now - start - length) // interval + 1 if length else -((start - now) // interval)
        start += passed * interval
    return max(0.0, start - now) / HOUR
