"""What is remembered of a Droplet, and the verdict that it allows: which windows were missed.

A failed backup leaves no trace in the API; it shows only as one that is missing. So a verdict rests on what was seen
and when: an outage, a restart, a new Droplet or a listing that lags must never look like a backup that was not made.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from exporter.fleet.model import GIB, Backup, Policy, SupportedPolicy, Verdict
from exporter.fleet.schedule import DAY, Schedule, clock_start, interval_of, length_of, named_length, schedule_of

_T = TypeVar("_T")

EARLY = 15 * 60.0
"""How long before a window's start a backup still belongs to it, and how far a schedule may move unchanged."""
FINISHING_PER_BYTE = 3 * 60.0 / GIB
"""A backup starts in its window and finishes later, by 1 to 3 minutes a gigabyte
(https://docs.digitalocean.com/products/backups/details/limits/)."""
FUTURE = DAY
"""A backup dated further ahead than any clock is wrong proves nothing: it would hide every miss to come."""


class PolicyTrace(Struct, frozen=True, gc=False):
    """The last known value of each part of a policy, and when one was last seen to change."""

    enabled: bool | None = None
    plan: str | None = None
    named_start: float | None = None
    clock_start: float | None = None
    named_length: float | None = None
    policy_length: float | None = None
    supported_length: float | None = None
    changed_at: float | None = None

    @property
    def length(self) -> float | None:
        return length_of(self.named_length, self.policy_length, self.supported_length)


class BackupHistory(Struct, frozen=True, gc=False):
    """What is remembered of one Droplet, whatever the API shows now."""

    first_seen: float
    newest: Backup | None = None
    """The newest backup ever seen: one turned into a snapshot left the list, and was made all the same."""
    previous: Backup | None = None
    """The one before it."""
    read_at: float | None = None
    """When the Droplet's own list was last asked for, and read."""
    policy: PolicyTrace = PolicyTrace()


def not_ahead(evidence: BackupHistory, now: float) -> BackupHistory:
    """What is left of it if the clock was set back: nothing was seen, and nothing proved, in times yet to come."""
    changed_at, read_at = evidence.policy.changed_at, evidence.read_at
    if evidence.first_seen <= now and (read_at or now) <= now and (changed_at or now) <= now:
        return evidence
    return replace(
        evidence,
        first_seen=min(evidence.first_seen, now),
        read_at=None if read_at is not None and read_at > now else read_at,
        policy=replace(evidence.policy, changed_at=None if changed_at is None else min(changed_at, now)),
    )


def with_policy(
    evidence: BackupHistory, policy: Policy | None, supported: SupportedPolicy | None, now: float
) -> BackupHistory:
    """What is remembered once a policy was seen; a record or value that is missing for a while is no change."""
    if policy is None:
        return evidence
    known = evidence.policy
    plan = _latest(policy.plan, known.plan)
    interval = interval_of(plan)
    named = policy.next_window.start if policy.next_window else None
    clock = clock_start(policy, interval) if interval else None
    seen = PolicyTrace(
        enabled=_latest(policy.enabled, known.enabled),
        plan=plan,
        named_start=_latest(named, known.named_start),
        clock_start=_latest(clock, known.clock_start),
        named_length=_latest(named_length(policy), known.named_length),
        policy_length=_latest(policy.window_length, known.policy_length),
        supported_length=_latest(supported.window_length if supported else None, known.supported_length),
        changed_at=known.changed_at,
    )
    # The hour and weekday count only while no window is named, since only then do the windows follow them.
    clock_moved = named is None and clock is not None and _moved(known.clock_start, clock, interval)
    if clock_moved:
        seen = replace(seen, named_start=clock)
    if (
        clock_moved
        or (known.enabled is not None and seen.enabled != known.enabled)
        or (known.plan is not None and seen.plan != known.plan)
        or (named is not None and _moved(known.named_start, named, interval))
        or _grew(known.length, seen.length)
    ):
        seen = replace(seen, changed_at=now)
    return evidence if seen == known else replace(evidence, policy=seen)


def with_backups(evidence: BackupHistory, backups: Iterable[Backup], now: float) -> BackupHistory:
    """What is remembered once these backups were seen, wherever that was."""
    seen = {backup.id: backup for backup in (evidence.newest, evidence.previous) if backup}
    for backup in backups:
        if backup.created_at <= now + FUTURE:
            known = seen.get(backup.id)
            # A size once told stays known.
            seen[backup.id] = known if known is not None and backup == replace(known, size=None) else backup
    latest = sorted(seen.values(), key=lambda backup: (backup.created_at, backup.id), reverse=True)[:2]
    newest, previous = (*latest, None, None)[:2]
    if newest == evidence.newest and previous == evidence.previous:
        return evidence
    return replace(evidence, newest=newest, previous=previous)


def with_reading(evidence: BackupHistory, read_at: float) -> BackupHistory:
    """What is remembered once the Droplet's own list, asked for at `read_at`, was read."""
    return replace(evidence, read_at=read_at)


def slack_of(evidence: BackupHistory, disk: float | None, grace: float) -> float:
    """Seconds after a window's end at which it is due: the grace, and the time that a backup of this size takes."""
    newest = evidence.newest
    size = newest.size if newest and newest.size is not None else disk
    return grace + (size or 0.0) * FINISHING_PER_BYTE


def due_window(schedule: Schedule, slack: float, instant: float) -> int:
    """The number of the latest window that is due at the instant."""
    return schedule.window_at(instant - schedule.length - slack)


def counted_from(evidence: BackupHistory, schedule: Schedule, disk: float | None) -> int:
    """The number of the first window that can count as missed: after the baseline and the newest backup's own."""
    newest = evidence.newest
    own = schedule.window_at(newest.created_at + EARLY) if newest else None
    baseline = _baseline(evidence, schedule, slack_of(evidence, disk, 0.0))
    after_baseline = schedule.window_at(baseline) + 1
    return after_baseline if own is None else max(after_baseline, own + 1)


def is_due(
    evidence: BackupHistory,
    policy: Policy | None,
    supported: SupportedPolicy | None,
    disk: float | None,
    grace: float,
    now: float,
) -> bool:
    """Whether a window that counts is due without a backup that belongs to it or a later one: missed, once proved."""
    schedule = schedule_of(policy, supported) if policy and policy.enabled else None
    if schedule is None:
        return False
    return due_window(schedule, slack_of(evidence, disk, grace), now) >= counted_from(evidence, schedule, disk)


def judge(
    evidence: BackupHistory,
    policy: Policy | None,
    supported: SupportedPolicy | None,
    disk: float | None,
    grace: float,
    now: float,
    *,
    backups_known: bool,
    unread: bool,
) -> Verdict:
    """How many windows in a row were missed up to now.

    `disk` is in bytes, `grace` in seconds. `backups_known`: something was ever learned of the backups; `unread`: the
    list had to be read and was not.
    """
    schedule = schedule_of(policy, supported) if policy and policy.enabled else None
    if schedule is None:
        return Verdict()
    if not backups_known:
        return Verdict(unjudged=unread)
    first = counted_from(evidence, schedule, disk)
    slack = slack_of(evidence, disk, grace)
    due = max(0, due_window(schedule, slack, now) - first + 1)
    proved = 0
    if evidence.read_at is not None and evidence.read_at <= now:
        proved = max(0, due_window(schedule, slack, evidence.read_at) - first + 1)
    if due == proved:
        return Verdict(missed_windows=proved)
    return Verdict(missed_windows=proved or None, unjudged=True)


def _baseline(evidence: BackupHistory, schedule: Schedule, finishing: float) -> float:
    """From when on windows count: the policy's last change; else a newest backup on schedule; else first sight."""
    if evidence.policy.changed_at is not None:
        return evidence.policy.changed_at
    newest, previous = evidence.newest, evidence.previous
    if newest is None:
        return evidence.first_seen
    own = schedule.window_at(newest.created_at + EARLY)
    in_window = newest.created_at <= schedule.start(own) + schedule.length + finishing
    unbroken = previous is None or schedule.window_at(previous.created_at + EARLY) >= own - 1
    return newest.created_at if in_window and unbroken else evidence.first_seen


def _latest(value: _T | None, known: _T | None) -> _T | None:
    return known if value is None else value


def _moved(known: float | None, seen: float, interval: float | None) -> bool:
    """Whether a start lies elsewhere in the interval than the last known one did."""
    if known is None or interval is None:
        return False
    distance = (seen - known) % interval
    return min(distance, interval - distance) >= EARLY


def _grew(known: float | None, seen: float | None) -> bool:
    return known is not None and seen is not None and abs(seen - known) >= EARLY
