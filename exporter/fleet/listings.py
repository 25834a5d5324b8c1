"""What the listings of one poll told, and what that changes of what is known of each Droplet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from exporter.fleet.history import BackupHistory, not_ahead
from exporter.fleet.model import Description, Policy
from exporter.fleet.tracked import (
    TrackedDroplet,
    description_missing,
    description_seen,
    ids_listed,
    policy_absent,
    policy_rejected,
    policy_seen,
)


@dataclass(frozen=True, slots=True)
class AccountListings:
    """Policies and Droplets as one poll listed them; a listing that is not complete removes nothing."""

    policies: Mapping[int, Policy] = field(default_factory=dict)
    descriptions: Mapping[int, Description] = field(default_factory=dict)
    backup_ids: Mapping[int, tuple[int, ...]] = field(default_factory=dict)
    """Of the Droplets whose record has them."""
    rejected_policies: frozenset[int] = frozenset()
    rejected_droplets: frozenset[int] = frozenset()
    policies_complete: bool = False
    droplets_complete: bool = False
    unidentified_policies: int = 0
    """Rejected records that do not even tell whose they are: any Droplet that is not named may be one of them."""
    unidentified_droplets: int = 0
    gone: frozenset[int] = frozenset()
    """Droplets that no listing names and whose own endpoint answered 404."""

    @property
    def complete(self) -> bool:
        return self.policies_complete and self.droplets_complete

    @property
    def told(self) -> bool:
        """Whether anything was told at all."""
        return self.policies_complete or self.droplets_complete or bool(self.policies or self.descriptions)

    @property
    def tells_backup_ids(self) -> bool:
        """Whether ids are told at all: without `image:read` every Droplet's are empty while backups exist."""
        return any(self.backup_ids.values())

    def names(self, droplet_id: int) -> bool:
        return (
            droplet_id in self.descriptions
            or droplet_id in self.policies
            or droplet_id in self.rejected_droplets
            or droplet_id in self.rejected_policies
        )

    def absent(self, droplet_id: int) -> bool | None:
        """Whether complete listings name the Droplet nowhere; `None` where that cannot be said."""
        if self.names(droplet_id):
            return False
        return True if self.complete and not (self.unidentified_policies or self.unidentified_droplets) else None


def learn(
    known: TrackedDroplet | None,
    droplet_id: int,
    listings: AccountListings,
    now: float,
    *,
    tells_backup_ids: bool,
    watched_since: float | None = None,
) -> TrackedDroplet | None:
    """What is known of the Droplet after the listings; `None` if it is gone, or was never understood.

    `tells_backup_ids` is `listings.tells_backup_ids`, found once for all Droplets. `watched_since`: when a Droplet that
    is new counts as first seen, if not now.
    """
    description, policy = listings.descriptions.get(droplet_id), listings.policies.get(droplet_id)
    if known is None:
        if description is None and policy is None:
            return None
        created_at = description.created_at if description else None
        first_seen = now if watched_since is None else min(now, max(watched_since, created_at or 0.0))
        known = TrackedDroplet(droplet_id, BackupHistory(first_seen=first_seen))
    elif description is known.description and policy is known.policy and _as_before(known, listings, now):
        return known
    history = not_ahead(known.history, now)
    policy_absent_now = (
        policy is None
        and listings.policies_complete
        and not listings.unidentified_policies
        and droplet_id not in listings.rejected_policies
    )
    if (policy is not None or policy_absent_now) and history.nothing_said and watched_since is None:
        # Backups may have been switched on at any time while the policies could not be listed.
        history = replace(history, first_seen=now)
    if history is not known.history:
        known = replace(known, history=history)
    absent = listings.absent(droplet_id)
    if droplet_id in listings.gone or (absent and known.absences):
        return None
    if absent is not None and known.absences != absent:
        known = replace(known, absences=int(absent))
    if policy is not None:
        known = policy_seen(known, policy, now, complete=listings.policies_complete)
    elif droplet_id in listings.rejected_policies:
        known = policy_rejected(known)
    elif policy_absent_now:
        known = policy_absent(known, now)
    if description is not None:
        listed = listings.backup_ids.get(droplet_id) if tells_backup_ids else None
        known = ids_listed(description_seen(known, description), listed, now)
    elif droplet_id in listings.rejected_droplets:
        known = description_missing(known, named=True)
    elif listings.droplets_complete and not listings.unidentified_droplets:
        known = description_missing(known, named=False)
    return known


def _as_before(known: TrackedDroplet, listings: AccountListings, now: float) -> bool:
    """Whether the same policy and description, with the same backups, were learned at the poll before."""
    history = known.history
    return (
        known.policy is not None
        and known.policy.enabled is not None
        and known.confirmed
        and listings.backup_ids.get(known.id) == known.listed
        and not (known.absences or known.policy_absences or history.silent or known.id in listings.gone)
        and max(history.first_seen, history.read_at or 0.0, history.changed_at or 0.0, history.on_since or 0.0) <= now
    )
