"""What is kept of a Droplet from poll to poll, and how each thing that is learned changes it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from msgspec import Struct
from msgspec.structs import replace

from exporter.fleet.history import FUTURE, BackupHistory, with_backups, with_policy, with_reading
from exporter.fleet.model import Backup, Description, Policy, SupportedPolicy

DISMISSED_FOR = 3600.0
"""How long what the Droplet's own endpoint denied, an id a listing names or the whole list, is not asked again."""


class TrackedDroplet(Struct, frozen=True, gc=False):
    """One Droplet, as known so far; `None` where nothing is."""

    id: int
    evidence: BackupHistory
    description: Description | None = None
    policy: Policy | None = None
    backups: tuple[Backup, ...] | None = None
    """Those that exist, oldest first."""
    listed: tuple[int, ...] | None = None
    """The ids of backups that the last droplet listing named; `None` where it told nothing that can be believed."""
    dismissed: tuple[int, ...] = ()
    """Those of them that the Droplet's own list lacked."""
    refreshed_at: float | None = None
    unlisted: bool = False
    """Whether a backup of the own list was not among the listing's ids."""
    absences: int = 0
    """Successive complete listings that named the Droplet nowhere."""
    policy_absences: int = 0
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
        """Whether a listing of this run has named it."""
        return self.description is not None or self.policy is not None

    def unresolved(self, now: float) -> list[int]:
        """The ids that the last listing named and of which nothing else is known."""
        if not self.listed:
            return []
        held = {backup.id for backup in self.backups or ()}
        read_at = self.evidence.read_at
        if read_at is not None and now - read_at < DISMISSED_FOR:
            held.update(self.dismissed)
        return [backup_id for backup_id in self.listed if backup_id not in held]


def policy_seen(known: TrackedDroplet, policy: Policy, supported: SupportedPolicy | None, now: float) -> TrackedDroplet:
    evidence = with_policy(known.evidence, policy, supported, now)
    if evidence is known.evidence and policy == known.policy and not known.policy_absences:
        return known
    return replace(known, policy=policy, evidence=evidence, policy_absences=0)


def policy_absent(known: TrackedDroplet) -> TrackedDroplet:
    """A complete listing named no policy for it: gone after the second."""
    if known.policy is None:
        return known
    absences = known.policy_absences + 1
    return replace(known, policy=None if absences >= 2 else known.policy, policy_absences=absences)


def description_seen(known: TrackedDroplet, description: Description) -> TrackedDroplet:
    return known if description == known.description else replace(known, description=description)


def ids_listed(known: TrackedDroplet, listed: tuple[int, ...] | None, now: float) -> TrackedDroplet:
    """A listing named these backups: those it no longer names are gone, new ones wait to be resolved.

    Compared with what the *listing* named before: an id that only the own list held is one the listing may yet name.
    """
    if listed is None:
        return known if known.listed is None else replace(known, listed=None)
    if listed == known.listed:
        return _if_resolved(known, now)
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
        dismissed=tuple(backup_id for backup_id in known.dismissed if backup_id in listed),
        unlisted=_unlisted(backups, listed),
    )
    return _if_resolved(changed, now)


def backups_resolved(known: TrackedDroplet, found: Mapping[int, Backup], now: float) -> TrackedDroplet:
    """What became known of some of the listed ids, from wherever; of what was not found nothing changes."""
    listed = known.listed or ()
    fresh = [found[backup_id] for backup_id in known.unresolved(now) if backup_id in found]
    if not fresh:
        return known
    held = {backup.id: backup for backup in known.backups or ()}
    held.update((backup.id, backup) for backup in fresh)
    evidence = with_backups(known.evidence, fresh, now)
    if known.backups is None and any(backup_id not in held for backup_id in listed):
        # How many there are is known once all are; that one was made is known already.
        return replace(known, evidence=evidence)
    return _if_resolved(replace(known, backups=_ordered(held.values()), evidence=evidence), now)


def own_list_read(
    known: TrackedDroplet,
    found: Mapping[int, Backup],
    rejected: Iterable[int],
    *,
    unreadable: int,
    read_at: float,
    now: float,
) -> TrackedDroplet:
    """The Droplet's own list was asked for at `read_at` and read whole.

    `rejected`: records that could not be understood and stay as they were known. `unreadable`: how many more there are,
    of which nothing is known. Only where there are none does the list prove that a backup is missing, and only if no
    backup is dated in times to come: it may be the very one.
    """
    held = dict(found)
    before = {backup.id: backup for backup in known.backups or ()}
    held.update((backup_id, before[backup_id]) for backup_id in rejected if backup_id in before)
    if not held and unreadable:
        return replace(known, backups=None, unreadable=unreadable, unread=False, failed_at=None)
    evidence = with_backups(known.evidence, held.values(), now)
    if not unreadable and all(backup.created_at <= now + FUTURE for backup in found.values()):
        evidence = with_reading(evidence, read_at)
    backups = _ordered(held.values())
    return replace(
        known,
        backups=known.backups if backups == known.backups else backups,
        dismissed=tuple(backup_id for backup_id in known.listed or () if backup_id not in held),
        unlisted=_unlisted(backups, known.listed),
        evidence=evidence,
        refreshed_at=read_at,
        unreadable=unreadable,
        unread=False,
        not_found_at=None,
        failed_at=None,
    )


def own_list_failed(known: TrackedDroplet, found: Iterable[Backup], now: float) -> TrackedDroplet:
    """The own list could not be read, or not whole: what was seen of it is evidence all the same."""
    return replace(known, evidence=with_backups(known.evidence, found, now), failed_at=now)


def _if_resolved(known: TrackedDroplet, now: float) -> TrackedDroplet:
    return known if known.backups is None or known.unresolved(now) else replace(known, refreshed_at=now)


def _unlisted(backups: tuple[Backup, ...] | None, listed: tuple[int, ...] | None) -> bool:
    return listed is not None and any(backup.id not in listed for backup in backups or ())


def _ordered(backups: Iterable[Backup]) -> tuple[Backup, ...]:
    return tuple(sorted(backups, key=lambda backup: (backup.created_at, backup.id)))
