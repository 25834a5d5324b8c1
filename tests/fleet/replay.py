"""A history as the oracle takes it, told to the real code in the order in which a poll does things.

The only place where the types of the oracle and those of the exporter meet.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from exporter.fleet import model
from exporter.fleet.assemble import Rules, assemble, supported_of
from exporter.fleet.listings import AccountListings, learn
from exporter.fleet.schedule import hours_until_next_window
from exporter.fleet.selection import Criteria, Selection
from exporter.fleet.tracked import TrackedDroplet, backups_resolved, own_list_failed, own_list_read
from tests.fleet import oracle

ID = 1
CLOCKS_DIFFER = 3600.0


class Replay:
    """The Droplet as the exporter tracks it after these events."""

    def __init__(self, config: oracle.Config, events: Sequence[oracle.Event] = ()) -> None:
        self.supported = {
            plan: model.SupportedPolicy(plan, window_length=one.window_length, retention_days=_days(one.retention))
            for plan, one in config.supported.items()
        }
        everything = Selection()
        self.rules = Rules(
            expected=Selection(exclude=Criteria(tags=config.unexpected_tags)),
            grace=config.grace,
            max_age=() if config.max_age is None else ((everything, config.max_age),),
        )
        self.known: TrackedDroplet | None = None
        self.clock_ahead: float | None = None
        for event in events:
            self.add(event)

    def add(self, event: oracle.Event) -> None:
        if isinstance(event, oracle.Restart):
            if not event.keeps_state:
                self.known = None
            elif self.known is not None:
                self.known = replace(self.known, failed_at=None)
            return
        now = event.at
        if event.clock_offset is not None:
            self.clock_ahead = event.clock_offset if abs(event.clock_offset) > CLOCKS_DIFFER else None
        listings = _listings(event)
        self.known = learn(self.known, ID, listings, now, tells_backup_ids=event.tells_ids)
        if self.known is None:
            return
        if event.images:
            self.known = backups_resolved(self.known, {one.id: _backup(one) for one in event.images}, now)
        if event.reading is not None:
            self._reads(self.known, event.reading, now)
        self.known = assemble(
            replace(self.known, unread=event.unread), self.supported, self.rules, now, self.clock_ahead
        ).source

    def _reads(self, known: TrackedDroplet, reading: oracle.Reading, now: float) -> None:
        found = {one.id: _backup(one) for one in reading.backups}
        if reading.answer == "404":
            self.known = replace(known, not_found_at=now, unread=False)
        elif reading.answer == "failed":
            self.known = own_list_failed(known, found.values(), now)
        else:
            self.known = own_list_read(
                known,
                found,
                (),
                unreadable=0,
                read_at=reading.asked_at,
                now=now,
                supported=supported_of(known.policy, self.supported),
            )

    def droplet(self, now: float) -> model.Droplet | None:
        if self.known is None:
            return None
        return assemble(self.known, self.supported, self.rules, now, self.clock_ahead).droplet

    def values(self, now: float) -> Mapping[str, object]:
        """What the oracle's verdict holds, by the exporter."""
        droplet = self.droplet(now)
        if droplet is None:
            return {"state": None}
        verdict = droplet.verdict
        return {
            "state": verdict.state.value,
            "reason": verdict.reason.value if verdict.reason else None,
            "missed": verdict.missed or (),
            "missed_windows": verdict.missed_windows,
            "overdue": verdict.overdue,
            "stale": verdict.stale,
            "max_age": verdict.max_age,
            "lost": verdict.lost,
            "hours_until": hours_until_next_window(
                verdict.schedule, droplet.policy.next_window if droplet.policy else None, now
            ),
            "kept": None if droplet.backups is None else len(droplet.backups),
            "attached_volumes": droplet.description.volumes if droplet.description else None,
        }


def _listings(poll: oracle.Poll) -> AccountListings:
    policies, descriptions, ids = {}, {}, {}
    rejected_policies: frozenset[int] = frozenset()
    rejected_droplets: frozenset[int] = frozenset()
    if isinstance(poll.policy, oracle.Policy):
        policies[ID] = _policy(poll.policy)
    elif poll.policy is not None:
        rejected_policies = frozenset({ID})
    if isinstance(poll.droplet, oracle.Droplet):
        descriptions[ID] = _description(poll.droplet)
        if poll.droplet.backup_ids is not None:
            ids[ID] = poll.droplet.backup_ids
    elif poll.droplet is not None:
        rejected_droplets = frozenset({ID})
    return AccountListings(
        policies=policies,
        descriptions=descriptions,
        backup_ids=ids,
        rejected_policies=rejected_policies,
        rejected_droplets=rejected_droplets,
        policies_complete=poll.policies_complete,
        droplets_complete=poll.droplets_complete,
        gone=frozenset({ID}) if poll.not_found else frozenset(),
    )


def _policy(record: oracle.Policy) -> model.Policy:
    return model.Policy(
        enabled=record.enabled,
        plan=record.plan,
        weekday=record.weekday,
        hour=record.hour,
        window_length=record.window_length,
        retention_days=_days(record.retention),
        next_window=model.Window(*record.window) if record.window else None,
    )


def _description(record: oracle.Droplet) -> model.Description:
    return model.Description(
        name="db-1",
        created_at=record.created_at,
        disk=None if record.disk is None else record.disk * model.GIB,
        tags=record.tags,
        snapshot_ids=record.snapshot_ids,
        volumes=None if record.volume_ids is None else len(record.volume_ids),
    )


def _backup(one: oracle.Backup) -> model.Backup:
    return model.Backup(one.id, one.created_at, None if one.size is None else one.size * model.GIB)


def _days(seconds: float | None) -> float | None:
    return None if seconds is None else seconds / oracle.DAY
