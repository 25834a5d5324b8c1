"""What is kept of a Droplet from poll to poll, and how each thing that is learned changes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from exporter.fleet.history import (
    EARLY_SHARE,
    FUTURE,
    BackupHistory,
    with_images,
    with_own_list,
    with_part_of_own_list,
    with_policy,
)
from exporter.fleet.model import Backup, Description, Policy, SupportedPolicy
from exporter.fleet.schedule import DAY

DISMISSED_FOR = 3600.0
"""Seconds before asking again for an id, or a whole list, that the Droplet's own endpoint said does not exist."""


MOST_DISMISSED = 50
"""Denied ids that are remembered, the latest."""


class TrackedDroplet(Struct, frozen=True, gc=False, omit_defaults=True):
    """One Droplet, as known so far; `None` where nothing is."""

    id: int
    history: BackupHistory
    description: Description | None = None
    policy: Policy | None = None
    backups: tuple[Backup, ...] | None = None
    """Those that exist, oldest first."""
    listed: tuple[int, ...] | None = None
    """The ids of backups that the last droplet listing named; `None` where it told nothing that can be believed."""
    dismissed: tuple[int, ...] = ()
    """Ids that a listing named and the Droplet's own list, read then, lacked."""
    refreshed_at: float | None = None
    """When the own list was last read, or the ids that a listing named were resolved."""
    confirmed: bool = False
    """Whether the last listing named just the backups that are known: they are known as of that listing."""
    unlisted: bool = False
    """Whether a backup of the own list was not among the listing's ids."""
    absences: int = 0
    """Successive complete listings that named the Droplet nowhere."""
    policy_absences: int = 0
    among_droplets: bool | None = None
    """Whether the last listing of Droplets that can tell named it; the policies may do so for longer."""
    unread: bool = False
    """Whether the own list had to be read at the last poll and was not."""
    unreadable: int = 0
    """Records of the own list that were not understood: backups of which nothing is known but that they exist."""
    not_found_at: float | None = None
    """When the own list was last answered by 404, if it has not been read since."""
    failed_at: float | None = None
    """When reading the own list last failed, if it has not been read since."""

    @property
    def named(self) -> bool:
        """Whether a listing ever named it, in this run or before the state file was written."""
        return self.description is not None or self.policy is not None

    @property
    def is_gone(self) -> bool:
        """Whether it was destroyed, as far as the API has noticed."""
        return self.not_found_at is not None and not self.among_droplets

    @property
    def has_no_list(self) -> bool:
        """Whether the API answers 404 for the own list, although a listing names the Droplet."""
        return self.not_found_at is not None and bool(self.among_droplets)

    @property
    def unexplained(self) -> set[int]:
        """The ids that the last listing named, that are no known backup, and that no own list has denied."""
        return set(self.listed or ()).difference(self.dismissed, (backup.id for backup in self.backups or ()))

    def unresolved(self, now: float) -> list[int]:
        """The ids that the last listing named and of which nothing else is known."""
        if not self.listed:
            return []
        held = {backup.id for backup in self.backups or ()}
        read_at = self.history.read_at
        if read_at is not None and now - read_at < DISMISSED_FOR:
            held.update(self.dismissed)
        return [backup_id for backup_id in self.listed if backup_id not in held]


def policy_seen(known: TrackedDroplet, policy: Policy, now: float, *, complete: bool) -> TrackedDroplet:
    """A listing of policies named this one; `complete`: it was read whole."""
    history = with_policy(known.history, policy, now, complete=complete)
    if history is known.history and policy == known.policy and not known.policy_absences:
        return known
    return replace(known, policy=policy, history=history, policy_absences=0)


def policy_absent(known: TrackedDroplet, now: float) -> TrackedDroplet:
    """A complete listing named no policy for it: the policy is gone after the second."""
    history = with_policy(known.history, None, now)
    if known.policy is None:
        return known if history is known.history else replace(known, history=history)
    absences = known.policy_absences + 1
    return replace(known, policy=None if absences >= 2 else known.policy, history=history, policy_absences=absences)


def policy_rejected(known: TrackedDroplet) -> TrackedDroplet:
    """Its policy's record could not be understood, so that there is one; what was known of it stays known."""
    return replace(known, policy_absences=0) if known.policy_absences else known


def description_seen(known: TrackedDroplet, description: Description) -> TrackedDroplet:
    if description == known.description and known.among_droplets:
        return known
    return replace(known, description=description, among_droplets=True)


def description_missing(known: TrackedDroplet, *, named: bool) -> TrackedDroplet:
    """A listing of Droplets has no description of this one; what is known of it stays known.

    `named`: its record was rejected; else the listing was complete and did not name it.
    """
    return known if known.among_droplets is named else replace(known, among_droplets=named)


def ids_listed(known: TrackedDroplet, listed: tuple[int, ...] | None, now: float) -> TrackedDroplet:
    """A listing named these backups: those it no longer names are gone, new ones wait to be resolved.

    Compared with what the *listing* named before: an id that only the own list held is one the listing may yet name.
    """
    if listed is None:
        return known if known.listed is None else replace(known, listed=None, confirmed=False)
    if listed == known.listed:
        return known if known.confirmed else _if_resolved(known, now)
    backups = known.backups
    before = known.listed if known.listed is not None else [backup.id for backup in backups or ()]
    gone = set(before).difference(listed)
    if gone and backups:
        backups = tuple(backup for backup in backups if backup.id not in gone)
    if backups is None and not listed:
        backups = ()
    changed = replace(
        known,
        backups=backups,
        listed=listed,
        unlisted=_unlisted(backups, listed),
        confirmed=False,
    )
    return _if_resolved(changed, now)


def backups_resolved(known: TrackedDroplet, found: Mapping[int, Backup], now: float) -> TrackedDroplet:
    """What became known of some of the listed ids, from wherever; of what was not found nothing changes."""
    listed = known.listed or ()
    # What the own list denied does not come back by an id and an image: only the own list can tell again.
    fresh = [found[backup_id] for backup_id in sorted(known.unexplained) if backup_id in found]
    if not fresh:
        return known
    held = {backup.id: backup for backup in known.backups or ()}
    held.update((backup.id, backup) for backup in fresh)
    history = with_images(known.history, fresh, now)
    if known.backups is None and any(backup_id not in held for backup_id in listed):
        # How many there are is known once all are; that one was made is known already.
        return replace(known, history=history)
    return _if_resolved(replace(known, backups=_ordered(held.values()), history=history), now)


def own_list_read(
    known: TrackedDroplet,
    found: Mapping[int, Backup],
    rejected: Iterable[int],
    *,
    unreadable: int,
    read_at: float,
    now: float,
    supported: SupportedPolicy | None = None,
) -> TrackedDroplet:
    """The Droplet's own list was asked for at `read_at` and read whole.

    `rejected`: records that could not be understood and stay as they were known. `unreadable`: how many more there are,
    of which nothing is known.
    """
    held = dict(found)
    before = {backup.id: backup for backup in known.backups or ()}
    held.update((backup_id, before[backup_id]) for backup_id in rejected if backup_id in before)
    if not held and unreadable:
        return replace(known, backups=None, unreadable=unreadable, unread=False, failed_at=None, confirmed=False)
    backups = _ordered(held.values())
    if backups == known.backups:
        backups = known.backups
    history = with_own_list(
        known.history,
        backups,
        frozenset(known.listed or ()),
        retention_of(known.policy, supported),
        read_at=read_at,
        whole=can_prove_misses(backups, unreadable, now),
    )
    return _if_resolved(
        replace(
            known,
            backups=backups,
            dismissed=tuple(sorted({*known.dismissed, *(known.listed or ())}.difference(held))[-MOST_DISMISSED:]),
            unlisted=_unlisted(backups, known.listed),
            history=history,
            refreshed_at=read_at,
            unreadable=unreadable,
            unread=False,
            not_found_at=None,
            failed_at=None,
            confirmed=False,
        ),
        read_at,
    )


def can_prove_misses(backups: Iterable[Backup], unreadable: int, now: float) -> bool:
    """Whether a list of these backups, and of so many that were not understood, proves that a backup is missing.

    One that was not understood, or that is dated in times to come, may be the very one.
    """
    return not unreadable and all(backup.created_at <= now + FUTURE for backup in backups)


def own_list_failed(known: TrackedDroplet, found: Iterable[Backup], now: float) -> TrackedDroplet:
    """The own list could not be read, or not whole. The backups seen of it were made all the same."""
    return replace(known, history=with_part_of_own_list(known.history, found, now), failed_at=now)


def retention_of(policy: Policy | None, supported: SupportedPolicy | None) -> float | None:
    """Seconds for which a backup is kept: by the policy, or else by the supported policy of its plan."""
    days = policy.retention_days if policy else None
    if days is None and supported is not None:
        days = supported.retention_days
    return None if days is None else days * DAY


def vanished_early(known: TrackedDroplet, retention: float | None, now: float) -> bool:
    """Whether the last listing lacks a backup of the own list that should be kept for long yet."""
    if retention is None or known.listed is None or not known.history.own_list:
        return False
    return any(
        backup.id not in known.listed and now - backup.created_at < EARLY_SHARE * retention
        for backup in known.history.own_list
        if not known.unlisted
    )


def _if_resolved(known: TrackedDroplet, now: float) -> TrackedDroplet:
    """Confirmed, if every id that the listing named is resolved."""
    if known.backups is None or known.listed is None or known.unresolved(now):
        return known
    refreshed_at = now if known.refreshed_at is None else max(known.refreshed_at, now)
    return replace(known, refreshed_at=refreshed_at, confirmed=True)


def _unlisted(backups: tuple[Backup, ...] | None, listed: tuple[int, ...] | None) -> bool:
    return listed is not None and any(backup.id not in listed for backup in backups or ())


def _ordered(backups: Iterable[Backup]) -> tuple[Backup, ...]:
    return tuple(sorted(backups, key=lambda backup: (backup.created_at, backup.id)))
