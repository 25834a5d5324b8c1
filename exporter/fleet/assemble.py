"""From what is known of a Droplet to the one that is served: what its policy means, tag labels, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from msgspec.structs import replace

from exporter.fleet.model import Description, Droplet, Policy, SupportedPolicy
from exporter.fleet.schedule import HOUR, interval_of
from exporter.fleet.selection import EVERYTHING, Selection
from exporter.fleet.tracked import TrackedDroplet
from exporter.fleet.verdict import ever_backed_up, judge, newest_counted

CLOCK_WRONG = HOUR
"""Seconds between the API's clock and ours beyond which nothing is judged."""


def clock_ahead_of(skew: float | None) -> float | None:
    """By how much the API's clock is ahead of ours, to the hour; `None` where that is little enough to judge.

    `skew` is in seconds, `None` where nothing was answered. To the hour, so that the same skew is the same value at
    each poll.
    """
    return round(skew / HOUR) * HOUR if skew is not None and abs(skew) > CLOCK_WRONG else None


DEFAULT_GRACE = 4 * HOUR
"""Seconds after the end of a backup window in which its backup may still appear, unless the configuration says else."""


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of every Droplet of an account."""

    watched: Selection = EVERYTHING
    expected: Selection = EVERYTHING
    tag_prefixes: tuple[str, ...] = ()
    grace: float = DEFAULT_GRACE
    max_age: tuple[tuple[Selection, float], ...] = ()
    """How old the newest backup may be: the first entry that means a Droplet."""

    def max_age_of(self, droplet_id: int, description: Description | None) -> float | None:
        """What the configuration says of this Droplet; an entry that depends on what is not known does not fit."""
        return next((age for means, age in self.max_age if means.means(droplet_id, description)), None)


@dataclass(frozen=True, slots=True)
class Assembled:
    """A Droplet as served, with what it was made from; it is the same until something of that changes."""

    source: TrackedDroplet
    droplet: Droplet
    clock_ahead: float | None
    at: float
    until: float

    def stands(self, known: TrackedDroplet, now: float, clock_ahead: float | None) -> bool:
        """Whether the Droplet is still right; the rules and the supported policies must be the same ones."""
        return self.source is known and self.clock_ahead == clock_ahead and self.at <= now < self.until


def assemble(
    known: TrackedDroplet,
    supported: Mapping[str, SupportedPolicy],
    rules: Rules,
    now: float,
    clock_ahead: float | None = None,
) -> Assembled:
    """The Droplet as served, judged as of `now`; `source` remembers the misses that were found.

    `clock_ahead`: seconds by which the API's clock is ahead of ours, where that is too much to judge anything.
    """
    policy, description = known.policy, known.description
    plan = supported_of(policy, supported)
    expected = rules.expected.means(known.id, description)
    judged = judge(
        known,
        plan,
        now,
        grace=rules.grace,
        max_age=rules.max_age_of(known.id, description),
        expected=expected,
        clock_wrong=clock_ahead is not None,
    )
    history = judged.history
    if history is not known.history:
        known = replace(known, history=history)
    newest_kept = max((backup.created_at for backup in known.backups or ()), default=0.0)
    snapshots = (description.snapshot_ids if description else None) or ()
    droplet = Droplet(
        id=known.id,
        description=description,
        policy=policy,
        backups=known.backups,
        unreadable=known.unreadable,
        refreshed_at=known.refreshed_at,
        confirmed=known.confirmed,
        expected=expected,
        tag_labels=tag_values((description.tags if description else None) or (), rules.tag_prefixes),
        interval=interval_of(policy.plan) if policy else None,
        retention_days=_retention(policy, plan),
        policy_supported=_is_supported(policy, plan),
        verdict=judged.verdict,
        on_since=history.on_since,
        first_seen=history.first_seen,
        ever_backed_up=ever_backed_up(known),
        newest_ever=newest_counted(known, now),
        newer_gone=sum(
            one.made and one.created_at > newest_kept and one.id not in snapshots for one in history.departed
        ),
        newest_snapshot=max((one.created_at for one in history.departed if one.id in snapshots), default=None),
        settings_changed_at=history.changed_at,
        clock_ahead=clock_ahead,
        has_no_list=known.has_no_list,
    )
    return Assembled(known, droplet, clock_ahead, now, judged.until)


def supported_of(policy: Policy | None, supported: Mapping[str, SupportedPolicy]) -> SupportedPolicy | None:
    """The supported policy of the policy's plan."""
    return supported.get(policy.plan) if policy and policy.plan is not None else None


def tag_values(tags: tuple[str, ...], prefixes: tuple[str, ...]) -> tuple[str, ...]:
    """For each prefix the rest of the first tag that has it; empty where none has."""
    return tuple(next((tag.removeprefix(prefix) for tag in tags if tag.startswith(prefix)), "") for prefix in prefixes)


def _retention(policy: Policy | None, plan: SupportedPolicy | None) -> float | None:
    if policy is not None and policy.retention_days is not None:
        return policy.retention_days
    return plan.retention_days if plan else None


def _is_supported(policy: Policy | None, plan: SupportedPolicy | None) -> bool | None:
    if policy is None or plan is None or plan.hours is None:
        return None
    return policy.hour in plan.hours and (not plan.weekdays or policy.weekday in plan.weekdays)
