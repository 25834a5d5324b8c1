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
from exporter.fleet.history import EARLY, due_window, is_due, slack_of
from exporter.fleet.model import SupportedPolicy
from exporter.fleet.schedule import HOUR, interval_of, schedule_of
from exporter.fleet.tracked import DISMISSED_FOR, TrackedDroplet

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


class Reason(IntEnum):
    """Why a Droplet's own list is to be read, the most urgent first."""

    DUE = 0
    """A window is due, no backup belongs to it, and the list was not read since."""
    OVERDUE = 1
    """A missed window was proved; the backup may have come late."""
    CHANGED = 2
    """A listing names backups that are not known, or nothing is known yet."""
    WINDOW_ENDED = 3
    """The listing's ids cannot be relied on, and a window has ended since the list was read."""
    IDLE = 4
    """Nothing is known, but backups are not enabled either: while budget is plenty, else few at a time."""
    VERIFY = 5
    """Its turn has come within `verify_every`."""
    UNSURE = 6
    """The listing does not tell its backups, or told that there are none and may lag: while budget is plenty."""

    @property
    def needed(self) -> bool:
        """Whether leaving it for later is a shortfall."""
        return self < Reason.IDLE


@dataclass(frozen=True, slots=True)
class Habits:
    """What the account's listings proved to be worth."""

    ids_lag: bool = False
    """Own lists hold backups that the listing's ids do not."""
    verify_every: float = 86400.0


def reason_to_read(
    known: TrackedDroplet, supported: Mapping[str, SupportedPolicy], rules: Rules, habits: Habits, now: float
) -> Reason | None:
    """Why this Droplet's own list is to be read now, if it is."""
    if known.absences:
        return None  # It is most likely gone; if not, the next listing names it.
    policy, evidence = known.policy, known.evidence
    enabled = policy is not None and policy.enabled is True
    read_at = evidence.first_seen if evidence.read_at is None else evidence.read_at
    schedule = None
    if policy is not None and enabled:
        plan = supported_of(policy, supported)
        schedule = schedule_of(policy, plan)
        disk = known.description.disk if known.description else None
        if schedule is not None and is_due(evidence, policy, plan, disk, rules.grace, now):
            slack = slack_of(evidence, disk, rules.grace)
            proved = evidence.read_at is not None and due_window(schedule, slack, evidence.read_at) >= due_window(
                schedule, slack, now
            )
            return Reason.OVERDUE if proved else Reason.DUE
    if known.unresolved(now):
        return Reason.CHANGED
    if known.backups is None:
        if known.not_found_at is not None and 0 <= now - known.not_found_at < DISMISSED_FOR:
            return None
        return Reason.CHANGED if enabled else Reason.IDLE
    if schedule is not None and (habits.ids_lag or known.listed is None):
        ended = schedule.window_at(now - schedule.length)
        waiting = (
            known.listed is None
            or evidence.newest is None
            or schedule.window_at(evidence.newest.created_at + EARLY) < ended
        )
        if waiting and read_at < schedule.start(ended) + schedule.length:
            return Reason.WINDOW_ENDED
    if _turn_has_come(known.id, read_at, habits.verify_every, now):
        return Reason.VERIFY
    untold = (known.listed is None or known.unlisted) and (schedule is not None or bool(known.backups))
    unproved = enabled and not known.backups and evidence.read_at is None
    return Reason.UNSURE if untold or unproved or _has_grown(known, now) else None


@dataclass(frozen=True, slots=True)
class ReadPlan:
    """Whose lists to read in this poll, in order."""

    readings: tuple[tuple[Reason, int], ...] = ()

    def ids(self, *reasons: Reason) -> list[int]:
        return [droplet_id for reason, droplet_id in self.readings if reason in reasons]

    @property
    def needed(self) -> frozenset[int]:
        return frozenset(droplet_id for reason, droplet_id in self.readings if reason.needed)


def plan_of(reasons: Iterable[tuple[Reason, TrackedDroplet]], enabled: int, spare: int) -> ReadPlan:
    """The readings in the order in which the budget is spent on them; `spare` is what the hour still allows.

    Within a reason, lists that failed before come last, so that they never hold up the others; then the longest unread.
    """
    ordered = sorted(
        reasons,
        key=lambda item: (item[0], item[1].failed_at is not None, item[1].evidence.read_at or 0.0, item[1].id),
    )
    plenty = spare // SPARE_SHARE
    left = {Reason.IDLE: max(IDLE_AT_ONCE, enabled // 20, plenty), Reason.UNSURE: plenty}
    readings = []
    for reason, known in ordered:
        if reason in left:
            left[reason] -= 1
            if left[reason] < 0:
                continue
        readings.append((reason, known.id))
    return ReadPlan(tuple(readings))


@dataclass(frozen=True, slots=True)
class Demand:
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


def demand_of(
    droplets: int, backups: float, listing_cost: int, sweep_pages: int, interval: float, verify_every: float
) -> Demand:
    """What so many Droplets will take, with so many new backups an hour: a reading each, or a sweep a poll if less."""
    return Demand(
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
    newest, read_at = known.evidence.newest, known.evidence.read_at
    if newest is None or newest.size or read_at is None:
        return False
    disk = known.description.disk if known.description else None
    whole_at = newest.created_at + max(HOUR, slack_of(known.evidence, disk, 0.0))
    return read_at < whole_at <= now


def _turn_has_come(droplet_id: int, read_at: float, every: float, now: float) -> bool:
    """Whether the Droplet's moment within every `every` seconds, spread evenly by its id, came since the reading."""
    offset = (droplet_id * 2654435761 % 2**32) / 2**32 * every
    return (now - offset) // every > (read_at - offset) // every
