"""From what is known of a Droplet to the one that is served: what its policy means, tag labels, the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from exporter.fleet.history import judge
from exporter.fleet.model import Droplet, Policy, SupportedPolicy
from exporter.fleet.schedule import interval_of
from exporter.fleet.selection import EVERYTHING, Selection
from exporter.fleet.tracked import TrackedDroplet


@dataclass(frozen=True, slots=True)
class Rules:
    """What the configuration says of every Droplet of an account."""

    watched: Selection = EVERYTHING
    expected: Selection = EVERYTHING
    tag_prefixes: tuple[str, ...] = ()
    grace: float = 4 * 3600.0


def droplet_of(known: TrackedDroplet, supported: Mapping[str, SupportedPolicy], rules: Rules, now: float) -> Droplet:
    """The Droplet as served, judged as of `now`."""
    policy, description, evidence = known.policy, known.description, known.evidence
    plan = supported_of(policy, supported)
    return Droplet(
        id=known.id,
        description=description,
        policy=policy,
        backups=known.backups,
        unreadable=known.unreadable,
        refreshed_at=known.refreshed_at,
        expected=rules.expected.means(known.id, description),
        tag_labels=tag_values((description.tags if description else None) or (), rules.tag_prefixes),
        interval=interval_of(policy.plan) if policy else None,
        retention_days=_retention(policy, plan),
        policy_supported=_is_supported(policy, plan),
        verdict=judge(
            evidence,
            policy,
            plan,
            description.disk if description else None,
            rules.grace,
            now,
            backups_known=known.backups is not None or evidence.newest is not None or evidence.read_at is not None,
            unread=known.unread or (known.backups is None and known.unreadable > 0),
        ),
    )


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
