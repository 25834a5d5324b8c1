"""What is remembered of a Droplet's backups and settings, whatever the API shows now.

A failed backup leaves no trace in the API: it shows only as one that is missing. So a verdict rests on what was seen
and when. An outage, a restart, a new Droplet or a listing that lags must never look like a backup that was not made.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Set
from typing import TypeVar

from msgspec import Struct
from msgspec.structs import replace

from exporter.fleet.model import Backup, Policy
from exporter.fleet.schedule import DAY, HOUR, clock_start, interval_of, moved

_T = TypeVar("_T")

EARLY = 15 * 60.0
"""How long before a window's start a backup still belongs to it, and how far a named window may move unchanged."""
FUTURE = DAY
"""A backup dated further ahead than any clock is wrong proves nothing: it would hide every miss to come."""
EARLY_SHARE = 0.8
"""A backup that is gone before this share of its retention had passed is gone before its time."""
SWITCHED_OFF_WITHIN = HOUR
"""Switching backups off deletes them. Those that vanished this long before the switch was noticed were not lost."""


class Settings(Struct, frozen=True, gc=False, omit_defaults=True):
    """The last known value of each of the owner's settings, and the window that the API named last for them."""

    plan: str | None = None
    hour: int | None = None
    weekday: str | None = None
    named_start: float | None = None
    named_length: float | None = None


class Departed(Struct, frozen=True, gc=False, omit_defaults=True):
    """A backup that the Droplet's own list once showed and shows no longer."""

    id: int
    created_at: float
    noticed_at: float
    retention_ends_at: float | None = None
    """When its retention would have ended; `None` unless it is gone before its time."""
    made: bool = True
    """Whether it had a size. A backup that never had one was not made, unless it is a snapshot now."""


class BackupHistory(Struct, frozen=True, gc=False, omit_defaults=True):
    """What is remembered of one Droplet. Instants are Unix seconds; windows are named by their starts."""

    first_seen: float
    on_since: float | None = None
    """Since when backups are known to be on; `None`: they are off, or it is not known."""
    told_off: bool = False
    """Whether the policy last said that backups are off."""
    silent: int = 0
    """Successive complete listings in which the policy did not say whether backups are on, counted up to two."""
    settings: Settings = Settings()
    changed_at: float | None = None
    """When the settings were last seen to change."""
    plan_changed_at: float | None = None
    newest_made: Backup | None = None
    """The newest backup that the own list ever showed with a size: it was made, whatever became of it."""
    unproven: tuple[Backup, ...] = ()
    """Newer ones that the images told of with a size; the own list did not show them yet, nor deny them."""
    own_list: tuple[Backup, ...] | None = None
    """The own list as last read, and the backups that parts of it have shown since. `None`: nothing of it was read."""
    read_at: float | None = None
    """When the own list was last asked for, and read."""
    departed: tuple[Departed, ...] = ()
    ever_backed_up: bool = False
    """Whether the own list ever showed a backup, or the images one that was not denied since."""
    judged_reading_at: float | None = None
    """The `read_at` of the reading that judged windows last. Each reading judges once, by the schedule of its time."""
    aged_from: float | None = None
    """The moment from which the age of the newest backup counted by that reading."""
    last_judged_start: float | None = None
    """The start of the latest window that was judged."""
    misses: tuple[float, ...] = ()
    """The starts of the windows that were missed since the newest backup that was made."""
    misses_hidden_before: float | None = None
    """When the newest backup was made that counted since the own list was last read, while the clocks agreed. Misses
    before it are not shown. `None`: none counted, or there is no miss."""

    @property
    def switched_on_at(self) -> float | None:
        """When backups were seen to be switched on; `None` where they were on at the first sight."""
        return self.on_since if self.on_since is not None and self.on_since > self.first_seen else None

    @property
    def nothing_said(self) -> bool:
        """Whether no listing could ever say if backups are on."""
        return self.on_since is None and not self.told_off and not self.silent

    @property
    def policy_unknown(self) -> bool:
        """Whether it is not known if backups are on or off."""
        return self.on_since is None and (not self.told_off or self.silent >= 2)


def not_ahead(history: BackupHistory, now: float) -> BackupHistory:
    """The history with every moment that lies ahead of a clock that was set back moved to now, or forgotten."""
    moments = (history.first_seen, history.on_since, history.changed_at, history.plan_changed_at, history.read_at)
    if all(moment is None or moment <= now for moment in (*moments, history.last_judged_start, *history.misses[-1:])):
        return history
    read_at, judged_reading_at = history.read_at, history.judged_reading_at
    judged_ahead = history.last_judged_start is not None and history.last_judged_start > now
    return replace(
        history,
        first_seen=min(history.first_seen, now),
        on_since=_no_later(history.on_since, now),
        changed_at=_no_later(history.changed_at, now),
        plan_changed_at=_no_later(history.plan_changed_at, now),
        read_at=None if read_at is not None and read_at > now else read_at,
        judged_reading_at=None if judged_reading_at is not None and judged_reading_at >= now else judged_reading_at,
        # Windows that were judged in times yet to come are judged anew, and with them those since the newest backup.
        last_judged_start=None if judged_ahead else history.last_judged_start,
        misses=() if judged_ahead else tuple(start for start in history.misses if start <= now),
    )


def with_policy(history: BackupHistory, policy: Policy | None, now: float, *, complete: bool = True) -> BackupHistory:
    """What is remembered once a listing of policies was read; `policy` is `None` if it named none for the Droplet.

    A value that is missing is no change. What a listing that is not `complete` lacks means nothing.
    """
    enabled = policy.enabled if policy else None
    if enabled is None:
        history = _silent(history) if complete else history
    elif enabled:
        history = _on(history, now)
    else:
        history = _off(history, now)
    return history if policy is None else _with_settings(history, policy, now)


def _silent(history: BackupHistory) -> BackupHistory:
    if history.silent >= 2:
        return history
    silent = history.silent + 1
    return replace(history, silent=silent, on_since=None if silent >= 2 else history.on_since)


def _on(history: BackupHistory, now: float) -> BackupHistory:
    if history.on_since is not None:
        return replace(history, silent=0) if history.silent else history
    seen_otherwise = history.told_off or history.silent >= 2
    return replace(history, on_since=now if seen_otherwise else history.first_seen, told_off=False, silent=0)


def _off(history: BackupHistory, now: float) -> BackupHistory:
    if history.told_off and not history.silent:
        return history
    return replace(
        history,
        on_since=None,
        told_off=True,
        silent=0,
        misses=(),
        departed=tuple(
            replace(one, retention_ends_at=None) if one.noticed_at > now - SWITCHED_OFF_WITHIN else one
            for one in history.departed
        ),
    )


def _with_settings(history: BackupHistory, policy: Policy, now: float) -> BackupHistory:
    before = history.settings
    window = policy.next_window
    plan = _latest(policy.plan, before.plan)
    hour = _latest(policy.hour, before.hour)
    weekday = _latest(policy.weekday, before.weekday)
    plan_changed = before.plan is not None and plan != before.plan
    chosen_anew = (
        plan_changed
        or (before.hour is not None and hour != before.hour)
        or (before.weekday is not None and weekday != before.weekday)
    )
    after = Settings(
        plan=plan,
        hour=hour,
        weekday=weekday,
        # A window that was named before the owner chose others tells nothing of where those lie.
        named_start=window.start if window else None if chosen_anew else before.named_start,
        named_length=_latest(max(0.0, window.end - window.start) if window else None, before.named_length),
    )
    if after == before:
        return history
    changed = chosen_anew or _named_window_moved(before, after, policy)
    return replace(
        history,
        settings=after,
        changed_at=now if changed else history.changed_at,
        plan_changed_at=now if plan_changed else history.plan_changed_at,
    )


def _named_window_moved(before: Settings, after: Settings, policy: Policy) -> bool:
    """The named start is the owner's setting only where hour and weekday tell no phase."""
    interval = interval_of(policy.plan)
    if interval is None or clock_start(policy, interval) is not None:
        return False
    if before.named_start is None or after.named_start is None:
        return False
    return moved(before.named_start, after.named_start, interval) >= EARLY


def with_images(history: BackupHistory, found: Iterable[Backup], now: float) -> BackupHistory:
    """What is remembered once images told of these backups, each with a size."""
    newest = history.newest_made
    held = {backup.id: backup for backup in history.unproven}
    for backup in found:
        if backup.created_at <= now + FUTURE and (newest is None or backup.created_at > newest.created_at):
            held[backup.id] = backup
    unproven = tuple(sorted(held.values(), key=lambda backup: (backup.created_at, backup.id)))
    return history if unproven == history.unproven else replace(history, unproven=unproven)


def with_part_of_own_list(history: BackupHistory, shown: Iterable[Backup], now: float) -> BackupHistory:
    """What is remembered once a part of the own list showed these backups. It does not tell whether others are gone."""
    backups = {backup.id: backup for backup in shown}
    if not backups:
        return history
    return replace(
        _with_made(history, backups.values(), now),
        own_list=tuple(({backup.id: backup for backup in history.own_list or ()} | backups).values()),
        departed=tuple(one for one in history.departed if one.id not in backups),
    )


def _with_made(history: BackupHistory, backups: Collection[Backup], now: float) -> BackupHistory:
    """What is remembered once the own list showed these backups, be it whole or not: one with a size was made."""
    made = [backup for backup in backups if backup.size is not None and backup.created_at <= now + FUTURE]
    if history.newest_made is not None:
        made.append(history.newest_made)
    newest = max(made, key=lambda backup: (backup.created_at, backup.id), default=None)
    if newest is not None:
        history = replace(
            history,
            newest_made=newest,
            unproven=tuple(one for one in history.unproven if one.created_at > newest.created_at),
        )
    return replace(history, ever_backed_up=history.ever_backed_up or bool(backups))


def with_own_list(
    history: BackupHistory,
    backups: tuple[Backup, ...],
    listed: Set[int],
    retention: float | None,
    *,
    read_at: float,
    whole: bool,
) -> BackupHistory:
    """What is remembered once the Droplet's own list, asked for at `read_at`, was read.

    `listed`: the ids that the latest listing named. `retention`: seconds, if it is known. `whole`: every record was
    understood and none is dated in times to come; only then does the list prove that a backup is missing.
    """
    if not whole:
        return with_part_of_own_list(history, backups, read_at)
    history = _with_made(history, backups, read_at)
    shown = {backup.id for backup in backups}
    return replace(
        history,
        # An id that the listing names and the own list lacks was never a backup.
        unproven=tuple(one for one in history.unproven if one.id not in listed or one.id in shown),
        departed=_departed(history, backups, shown, retention, read_at),
        own_list=backups,
        read_at=read_at,
    )


def _departed(
    history: BackupHistory, backups: tuple[Backup, ...], shown: Set[int], retention: float | None, now: float
) -> tuple[Departed, ...]:
    unchanged_since = max(history.switched_on_at or 0.0, history.changed_at or 0.0)
    gone = [
        Departed(
            one.id,
            one.created_at,
            now,
            one.created_at + retention
            if retention is not None
            and one.size is not None
            and history.on_since is not None
            and unchanged_since <= one.created_at
            and now - one.created_at < EARLY_SHARE * retention
            else None,
            made=one.size is not None,
        )
        for one in history.own_list or ()
        if one.id not in shown
    ]
    # One that is older than a kept backup, and counts as lost no longer, tells nothing any more.
    newest_kept = max((backup.created_at for backup in backups), default=0.0)
    return tuple(
        one
        for one in (*history.departed, *gone)
        if one.id not in shown and (one.created_at > newest_kept or (one.retention_ends_at or 0.0) > now)
    )


def _no_later(moment: float | None, now: float) -> float | None:
    return None if moment is None else min(moment, now)


def _latest(value: _T | None, known: _T | None) -> _T | None:
    return known if value is None else value
