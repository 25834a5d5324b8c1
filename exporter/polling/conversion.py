"""Converts the API's records to values of the domain: Unix seconds, lengths in seconds, sizes in bytes."""

from __future__ import annotations

from collections.abc import Iterable
from sys import intern

from exporter.digitalocean.records import (
    BackupRecord,
    DropletRecord,
    ImageRecord,
    NamedWindow,
    PolicyRecord,
    PolicySettings,
    SupportedPolicyRecord,
    unix_seconds,
)
from exporter.fleet.model import GIB, Backup, Description, Policy, SupportedPolicy, Window
from exporter.fleet.schedule import HOUR

_NO_SETTINGS = PolicySettings()
_MOST_IDS = 10_000


def policy_of(record: PolicyRecord) -> Policy:
    settings = record.backup_policy or _NO_SETTINGS
    return Policy(
        enabled=record.backup_enabled,
        plan=_shared(settings.plan),
        weekday=_shared(settings.weekday),
        hour=settings.hour,
        window_length=_times(settings.window_length_hours, HOUR),
        retention_days=settings.retention_period_days,
        next_window=_window_of(record.next_backup_window),
    )


def supported_policies_of(records: Iterable[SupportedPolicyRecord]) -> dict[str, SupportedPolicy]:
    """Supported policies by plan. If a plan is listed twice, the first record counts."""
    found: dict[str, SupportedPolicy] = {}
    for record in records:
        policy = SupportedPolicy(
            plan=record.name,
            hours=record.possible_window_starts,
            weekdays=record.possible_days or (),
            window_length=_times(record.window_length_hours, HOUR),
            retention_days=record.retention_period_days,
        )
        found.setdefault(policy.plan, policy)
    return found


def description_of(record: DropletRecord) -> Description:
    region = record.region.slug if record.region else None
    return Description(
        name=record.name or "",
        region=intern(region or ""),
        size=intern(record.size_slug or ""),
        status=intern(record.status or ""),
        created_at=unix_seconds(record.created_at),
        disk=_times(record.disk, GIB),
        tags=None if record.tags is None else tuple(map(intern, record.tags)),
        snapshot_ids=_ids(record.snapshot_ids),
        volumes=_count_of_texts(record.volume_ids),
    )


def backup_of(record: BackupRecord) -> Backup:
    return Backup(record.id, unix_seconds(record.created_at) or 0.0, _times(record.size_gigabytes, GIB))


def backup_of_image(record: ImageRecord) -> Backup | None:
    """The image as a backup; `None` until it is finished, because its attributes may still change."""
    created_at = unix_seconds(record.created_at)
    if record.status != "available" or created_at is None or record.size_gigabytes is None:
        return None
    return Backup(record.id, created_at, record.size_gigabytes * GIB)


def _window_of(record: NamedWindow | None) -> Window | None:
    """The window; `None` also if its start or its end is unknown."""
    start, end = (None, None) if record is None else (unix_seconds(record.start), unix_seconds(record.end))
    return None if start is None or end is None else Window(start, end)


def _ids(value: object) -> tuple[int, ...] | None:
    if not isinstance(value, list) or len(value) > _MOST_IDS or any(type(one) is not int for one in value):
        return None
    return tuple(one for one in value if 0 < one < 2**63)


def _count_of_texts(value: object) -> int | None:
    return len(value) if isinstance(value, list) and all(isinstance(one, str) for one in value) else None


def _shared(text: str | None) -> str | None:
    """The text, held in memory once for all Droplets that have it."""
    return None if text is None else intern(text)


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit
