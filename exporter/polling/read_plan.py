"""Whose backups to read anew, and the cheapest way to.

Reading every Droplet's list at every poll would break the rate limit at a few hundred Droplets. So the ids that the
droplet listing names only trigger readings, and a window that is due without a backup is checked at the Droplet's own
endpoint: a wrong belief about ids costs requests or minutes, never a false alarm.
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
"""How many Droplets without enabled backups have an unknown list read in one poll, however short the budget is; more
where most have them.
"""
SPARE_SHARE = 40
"""The part of the spare budget that one poll may spend on unknown lists of idle Droplets, and again on lists that might
have changed unseen.
"""
SWEEP_PROOF = 20
"""A sweep that has shown no backup yet is given up once it cost a 20th of the readings that it should have saved."""


class Urgency(IntEnum):
    """Why a Droplet's own list is to be read, the most urgent first."""

    DUE = 0
    """A window that counts is due and no backup answers it, or the newest is older than its limit: a verdict waits."""
    OVERDUE = 1
    """A miss is shown; the backup may have come late."""
    CHANGED = 2
    """A listing names backups that are not known or lacks some that should be kept, or nothing is known yet."""
    STALE = 3
    """The newest backup was older than its limit when the list was last read, an hour ago or more."""
    WINDOW_ENDED = 4
    """The listing's ids cannot be relied on, and a window has ended since the list was read."""
    IDLE = 5
    """Nothing is known, but backups are not on either: while budget is plenty, else few at a time."""
    VERIFY = 6
    """Its turn has come within `verify_every`."""
    UNSURE = 7
    """The listing does not tell its backups, or told that there are none and may lag: while budget is plenty."""

    @property
    def needed(self) -> bool:
        """Whether leaving it for later is a shortfall."""
        return self < Urgency.IDLE


@dataclass(frozen=True, slots=True)
class ReadPolicy:
    """What the account's listings proved to be worth."""

    ids_unreliable: bool = False
    """Own lists hold backups that the listing's ids do not."""
    verify_every: float = 86400.0


STALE_READ_EVERY = HOUR
"""A stale Droplet's list is read this often: a backup that comes late ends it within the hour."""


def reason_to_read(
    known: TrackedDroplet,
    supported: Mapping[str, SupportedPolicy],
    rules: Rules,
    read_policy: ReadPolicy,
    now: float,
    *,
    clock_wrong: bool = False,
) -> Urgency | None:
    """Why this Droplet's own list is to be read now, if it is.

    `clock_wrong`: nothing can be judged until the clocks agree, so no reading for a verdict's sake helps.
    """
    if known.absences:
        return None  # It is most likely gone; if not, the next listing names it.
    denied = known.not_found_at is not None and 0 <= now - known.not_found_at < DISMISSED_FOR
    if denied and known.is_gone:
        return None
    plan = supported_of(known.policy, supported)
    for_verdict = None if clock_wrong else _reason_of_verdict(known, plan, rules, now)
    if for_verdict in (Urgency.DUE, Urgency.OVERDUE):
        return for_verdict
    if known.unresolved(now) or vanished_early(known, retention_of(known.policy, plan), now):
        return Urgency.CHANGED
    history = known.history
    on = history.on_since is not None
    if known.backups is None:
        if denied:
            return None
        return Urgency.CHANGED if on else Urgency.IDLE
    if for_verdict is not None:
        return for_verdict
    read_at = history.first_seen if history.read_at is None else history.read_at
    schedule = tracked_schedule(known, plan) if on else None
    if schedule is not None and (read_policy.ids_unreliable or known.listed is None):
        ended = schedule.window_at(now - schedule.length)
        newest = newest_counted(known, now)
        waiting = known.listed is None or newest is None or window_of(schedule, newest) < ended
        if waiting and read_at < schedule.start(ended) + schedule.length:
            return Urgency.WINDOW_ENDED
    if _turn_has_come(known.id, read_at, read_policy.verify_every, now):
        return Urgency.VERIFY
    untold = (known.listed is None or known.unlisted) and (schedule is not None or bool(known.backups))
    unproved = on and not known.backups and history.read_at is None
    return Urgency.UNSURE if untold or unproved or _has_grown(known, now) else None


def no_reading_until(known: TrackedDroplet, read_policy: ReadPolicy, verdict_until: float, now: float) -> float:
    """Until when a Droplet with no reason to be read now has none, if nothing is learned of it.

    `verdict_until`: how long its verdict stands.
    """
    if read_policy.ids_unreliable or known.listed is None or known.dismissed or known.not_found_at is not None:
        return now
    newest = (known.backups or (None,))[-1]
    if newest is None or not newest.size:
        return now
    return min(verdict_until, _next_turn(known.id, read_policy.verify_every, now))


def _reason_of_verdict(known: TrackedDroplet, plan: SupportedPolicy | None, rules: Rules, now: float) -> Urgency | None:
    """Why the verdict needs a reading of the own list: what it would prove cannot be told by ids and images."""
    if known.history.on_since is None or not is_learned(known):
        return None
    read_at = known.history.read_at
    slack = slack_of(known, rules.grace)
    schedule = tracked_schedule(known, plan)
    if schedule is not None:
        if has_unanswered(known, schedule, slack, now):
            return Urgency.DUE
        # At a first look, only the own list can tell that an old gap is one.
        if read_at is None and is_unanswered(known, schedule, slack, now):
            return Urgency.DUE
        newest = newest_counted(known, now)
        if known.history.misses and (newest is None or known.history.misses[-1] > newest):
            return Urgency.OVERDUE
    limit = age_limit(known, plan, rules.max_age_of(known.id, known.description), slack)
    begun = age_from(known)
    if limit is None or now - begun <= limit:
        return None
    if read_at is None or not was_stale(known, limit):
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
    """The readings in the order in which the budget is spent on them; `spare` is what the hour still allows.

    Within a reason, lists that failed before come last, so that they never hold up the others; then the longest unread.
    """
    ordered = sorted(
        reasons,
        key=lambda item: (item[0], item[1].failed_at is not None, item[1].history.read_at or 0.0, item[1].id),
    )
    plenty = spare // SPARE_SHARE
    left = {Urgency.IDLE: max(IDLE_AT_ONCE, enabled // 20, plenty), Urgency.UNSURE: plenty}
    readings = []
    for reason, known in ordered:
        if reason in left:
            left[reason] -= 1
            if left[reason] < 0:
                continue
        readings.append((reason, known.id))
    return ReadPlan(tuple(readings))


@dataclass(frozen=True, slots=True)
class RequestForecast:
    """Requests an hour that an account takes in the long run, all its windows going well."""

    listings: float
    backups: float
    """To learn of each new backup."""
    verification: float

    @property
    def total(self) -> float:
        return self.listings + self.backups + self.verification


def backups_an_hour(known: TrackedDroplet) -> float:
    """How many new backups the Droplet will have; none where its plan is not known."""
    between = interval_of(known.policy.plan) if known.policy and known.policy.enabled else None
    return HOUR / between if between else 0.0


def forecast_requests(
    droplets: int, backups: float, listing_cost: int, sweep_pages: int, interval: float, verify_every: float
) -> RequestForecast:
    """What so many Droplets will take, with so many new backups an hour: a reading each, or a sweep a poll if less."""
    return RequestForecast(
        listings=listing_cost * HOUR / interval,
        backups=min(backups, sweep_pages * HOUR / interval),
        verification=droplets * HOUR / verify_every,
    )


def pages_of(images: int) -> int:
    """How many pages a listing of so many records has."""
    return max(1, math.ceil(images / PER_PAGE))


def sweep_pays(unresolved: int, pages: int) -> bool:
    """Whether reading so many pages of images is cheaper than one list for each Droplet with unresolved ids."""
    return pages < unresolved


def sweep_lists_backups(pages: int, listed: int) -> bool:
    """Whether so many pages of images can hold the backups that the droplet listing names."""
    return pages >= pages_of(listed // 2)


def sweep_is_idle(pages_read: int, unresolved: int) -> bool:
    """Whether a sweep that has shown no backup so far has cost enough."""
    return pages_read >= max(4, unresolved // SWEEP_PROOF)


def _has_grown(known: TrackedDroplet, now: float) -> bool:
    """Whether the newest backup should be whole by now, and had no size when the list was last read."""
    newest, read_at = (known.backups or (None,))[-1], known.history.read_at
    if newest is None or newest.size or read_at is None:
        return False
    whole_at = newest.created_at + max(HOUR, slack_of(known, 0.0))
    return read_at < whole_at <= now


def _turn_has_come(droplet_id: int, read_at: float, every: float, now: float) -> bool:
    """Whether the Droplet's moment within every `every` seconds, spread evenly by its id, came since the reading."""
    return _next_turn(droplet_id, every, read_at) <= now


def _next_turn(droplet_id: int, every: float, instant: float) -> float:
    """The Droplet's next moment after the instant."""
    offset = (droplet_id * 2654435761 % 2**32) / 2**32 * every
    return ((instant - offset) // every + 1) * every + offset
