"""Which Droplets' lists of backups to read in a poll, and whether a sweep over the images is cheaper.

Reading every Droplet's list at every poll would exceed the rate limit with a few hundred Droplets. So a list is read
when the droplet listing names other backup ids than before, and when a window is due and has brought no backup. The ids
of the listing only trigger readings: if they are wrong, that costs requests or minutes, and never causes a false alarm.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum

from exporter.digitalocean.records import PER_PAGE
from exporter.fleet.assemble import Rules, supported_of
from exporter.fleet.model import SupportedPolicy
from exporter.fleet.schedule import HOUR, interval_of
from exporter.fleet.tracked import DISMISSED_FOR, TrackedDroplet, retention_of, vanished_early
from exporter.fleet.verdict import (
    age_from,
    age_limit,
    has_unanswered,
    is_learned,
    is_unanswered,
    newest_counted,
    slack_of,
    tracked_schedule,
    was_stale,
    window_of,
)

IDLE_AT_ONCE = 3
"""How many never-read lists of Droplets without backups enabled are read in a poll at least, however short the budget.

A twentieth of the number of Droplets with backups enabled, where that is more.
"""
SPARE_SHARE = 40
"""A poll may spend 1/40 of the requests that are left on never-read lists of Droplets without backups enabled, and as
much on lists that may have changed without the listing showing it (`UNSURE`).
"""
SWEEP_PROOF = 20
"""A sweep that has shown no backup yet ends when it has cost a 20th of the requests that it should save."""


class Urgency(IntEnum):
    """Why a Droplet's own list is to be read, the most urgent first."""

    DUE = 0
    """A window is due and no backup of it is known, or the newest backup is older than its limit: a verdict waits."""
    OVERDUE = 1
    """A missed window is served; its backup may have come late."""
    CHANGED = 2
    """The listing names unknown backups or lacks some that should be kept, or the list was never read."""
    STALE = 3
    """The newest backup was older than its limit when the list was last read, an hour or more ago."""
    WINDOW_ENDED = 4
    """The listing's backup ids are unreliable, and a window has ended since the list was read."""
    IDLE = 5
    """The list was never read, but backups are not enabled: while the budget is plenty, else few at a time."""
    VERIFY = 6
    """Every list is read once in `verify_every`, and it is this Droplet's turn."""
    UNSURE = 7
    """The listing may not show every backup: it names no ids, or fewer than the own list, or none yet. Read only while
    the budget is plenty.
    """

    @property
    def needed(self) -> bool:
        """Whether a poll that leaves it for later is `partial`."""
        return self < Urgency.IDLE


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """When the lists of an account are read although its listing shows no change."""

    ids_unreliable: bool = False
    """The listing lacks backup ids that Droplets' own lists have."""
    verify_every: float = 86400.0
    """Seconds in which each list is read at least once."""


STALE_READ_EVERY = HOUR
"""Seconds between two readings of a stale Droplet's list, so that a late backup is seen within the hour."""


def reason_to_read(
    tracked: TrackedDroplet,
    supported: Mapping[str, SupportedPolicy],
    rules: Rules,
    read_policy: ReadPolicy,
    now: float,
    *,
    clock_wrong: bool = False,
) -> Urgency | None:
    """Why this Droplet's own list is to be read now; `None` if it need not be.

    `clock_wrong`: the clocks differ, so nothing is judged and no verdict needs a reading.
    """
    if tracked.absences:
        return None  # It is most likely destroyed; otherwise the next listing names it.
    denied = tracked.not_found_at is not None and 0 <= now - tracked.not_found_at < DISMISSED_FOR
    if denied and tracked.is_gone:
        return None
    plan = supported_of(tracked.policy, supported)
    for_verdict = None if clock_wrong else _reason_of_verdict(tracked, plan, rules, now)
    if for_verdict in (Urgency.DUE, Urgency.OVERDUE):
        return for_verdict
    if tracked.unresolved(now) or vanished_early(tracked, retention_of(tracked.policy, plan), now):
        return Urgency.CHANGED
    history = tracked.history
    on = history.on_since is not None
    if tracked.backups is None:
        if denied:
            return None
        return Urgency.CHANGED if on else Urgency.IDLE
    if for_verdict is not None:
        return for_verdict
    read_at = history.first_seen if history.read_at is None else history.read_at
    schedule = tracked_schedule(tracked, plan) if on else None
    if schedule is not None and (read_policy.ids_unreliable or tracked.listed is None):
        ended = schedule.window_at(now - schedule.length)
        newest = newest_counted(tracked, now)
        waiting = tracked.listed is None or newest is None or window_of(schedule, newest) < ended
        if waiting and read_at < schedule.start(ended) + schedule.length:
            return Urgency.WINDOW_ENDED
    if _turn_has_come(tracked.id, read_at, read_policy.verify_every, now):
        return Urgency.VERIFY
    untold = (tracked.listed is None or tracked.unlisted) and (schedule is not None or bool(tracked.backups))
    unproved = on and not tracked.backups and history.read_at is None
    return Urgency.UNSURE if untold or unproved or _has_grown(tracked, now) else None


def no_reading_until(tracked: TrackedDroplet, read_policy: ReadPolicy, verdict_until: float, now: float) -> float:
    """When it must be considered again whether to read a list that need not be read now, if nothing new is learned.

    `verdict_until`: when the passing of time may change its verdict.
    """
    if read_policy.ids_unreliable or tracked.listed is None or tracked.not_found_at is not None:
        return now
    if not set(tracked.dismissed).isdisjoint(tracked.listed):
        return now  # What the own list denied is asked for again after a while.
    newest = (tracked.backups or (None,))[-1]
    if newest is None or not newest.size:
        return now
    return min(verdict_until, _next_turn(tracked.id, read_policy.verify_every, now))


def _reason_of_verdict(
    tracked: TrackedDroplet, plan: SupportedPolicy | None, rules: Rules, now: float
) -> Urgency | None:
    """Why the verdict needs the own list. Only that list proves that a backup is missing; ids and images do not."""
    if tracked.history.on_since is None or not is_learned(tracked):
        return None
    read_at = tracked.history.read_at
    slack = slack_of(tracked, rules.grace)
    schedule = tracked_schedule(tracked, plan)
    if schedule is not None:
        if has_unanswered(tracked, schedule, slack, now):
            return Urgency.DUE
        # When a Droplet is first seen, only its own list shows whether an old window was missed.
        if read_at is None and is_unanswered(tracked, schedule, slack, now):
            return Urgency.DUE
        newest = newest_counted(tracked, now)
        if tracked.history.misses and (newest is None or tracked.history.misses[-1] > newest):
            return Urgency.OVERDUE
    limit = age_limit(tracked, plan, rules.max_age_of(tracked.id, tracked.description), slack)
    begun = age_from(tracked)
    if limit is None or now - begun <= limit:
        return None
    if read_at is None or not was_stale(tracked, limit):
        return Urgency.DUE
    return Urgency.STALE if now - read_at >= STALE_READ_EVERY else None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Whose lists to read in this poll, in order."""

    readings: tuple[tuple[Urgency, int], ...] = ()

    def ids(self, *reasons: Urgency) -> list[int]:
        return [droplet_id for reason, droplet_id in self.readings if reason in reasons]

    @property
    def needed(self) -> frozenset[int]:
        return frozenset(droplet_id for reason, droplet_id in self.readings if reason.needed)


def plan_of(reasons: Iterable[tuple[Urgency, TrackedDroplet]], enabled: int, spare: int) -> ReadPlan:
    """The lists to read, in the order in which the budget is spent; `spare` is the number of requests that are left.

    The most urgent come first. Among equally urgent ones, the longest unread come first, and lists that could not be
    read last time come last, so that they do not delay the others.
    """
    ordered = sorted(
        reasons,
        key=lambda item: (item[0], item[1].failed_at is not None, item[1].history.read_at or 0.0, item[1].id),
    )
    plenty = spare // SPARE_SHARE
    left = {Urgency.IDLE: max(IDLE_AT_ONCE, enabled // 20, plenty), Urgency.UNSURE: plenty}
    readings = []
    for reason, tracked in ordered:
        if reason in left:
            left[reason] -= 1
            if left[reason] < 0:
                continue
        readings.append((reason, tracked.id))
    return ReadPlan(tuple(readings))


@dataclass(frozen=True, slots=True)
class RequestForecast:
    """Requests an hour that an account takes in the long run, if every window brings its backup."""

    listings: float
    backups: float
    """Requests for new backups."""
    verification: float

    @property
    def total(self) -> float:
        return self.listings + self.backups + self.verification


def backups_an_hour(tracked: TrackedDroplet) -> float:
    """How many new backups the Droplet gets in an hour; 0 if its plan is not known."""
    between = interval_of(tracked.policy.plan) if tracked.policy and tracked.policy.enabled else None
    return HOUR / between if between else 0.0


def forecast_requests(
    droplets: int, backups: float, listing_cost: int, sweep_pages: int, interval: float, verify_every: float
) -> RequestForecast:
    """`backups`: new backups an hour; each takes one reading, or all together one sweep a poll if that is cheaper."""
    return RequestForecast(
        listings=listing_cost * HOUR / interval,
        backups=min(backups, sweep_pages * HOUR / interval),
        verification=droplets * HOUR / verify_every,
    )


def pages_of(images: int) -> int:
    """How many pages a listing of so many images, or other records, has."""
    return max(1, math.ceil(images / PER_PAGE))


def sweep_pays(unresolved: int, pages: int) -> bool:
    """Whether reading so many pages of images takes fewer requests than one list for each Droplet with unknown ids."""
    return pages < unresolved


def sweep_lists_backups(pages: int, listed: int) -> bool:
    """Whether so many pages of images may hold the backups that the droplet listing names."""
    return pages >= pages_of(listed // 2)


def sweep_is_idle(pages_read: int, unresolved: int) -> bool:
    """Whether a sweep that has shown no backup so far is to end."""
    return pages_read >= max(4, unresolved // SWEEP_PROOF)


def _has_grown(tracked: TrackedDroplet, now: float) -> bool:
    """Whether the newest backup had no size when the list was last read, and should have one by now."""
    newest, read_at = (tracked.backups or (None,))[-1], tracked.history.read_at
    if newest is None or newest.size or read_at is None:
        return False
    whole_at = newest.created_at + max(HOUR, slack_of(tracked, 0.0))
    return read_at < whole_at <= now


def _turn_has_come(droplet_id: int, read_at: float, every: float, now: float) -> bool:
    """Whether the Droplet's turn came since its list was read. Turns are spread evenly over `every` seconds, by id."""
    return _next_turn(droplet_id, every, read_at) <= now


def _next_turn(droplet_id: int, every: float, instant: float) -> float:
    """The Droplet's next turn after the instant."""
    offset = (droplet_id * 2654435761 % 2**32) / 2**32 * every
    return ((instant - offset) // every + 1) * every + offset
