"""Wire records as the domain's values."""

from __future__ import annotations

from sys import intern

from exporter.digitalocean import records
from exporter.fleet.model import GIB, Backup, Description, Policy, SupportedPolicy, Window

HOUR = 3600.0


def policy_of(record: records.Policy) -> Policy:
    window = record.next_backup_window
    return Policy(
        enabled=record.backup_enabled,
        plan=_shared(record.plan),
        weekday=_shared(record.weekday),
        hour=record.hour,
        window_length=_times(record.window_length_hours, HOUR),
        retention_days=record.retention_period_days,
        next_window=Window(window.start, window.end) if window else None,
    )


def supported_policy_of(record: records.SupportedPolicy) -> SupportedPolicy:
    return SupportedPolicy(
        plan=record.name,
        hours=record.possible_window_starts,
        weekdays=record.possible_days or (),
        window_length=_times(record.window_length_hours, HOUR),
        retention_days=record.retention_period_days,
    )


def description_of(record: records.Droplet) -> Description:
    return Description(
        name=record.name or "",
        region=intern(record.region or ""),
        size=intern(record.size_slug or ""),
        status=intern(record.status or ""),
        created_at=record.created_at,
        disk=_times(record.disk, GIB),
        tags=tuple(map(intern, record.tags or ())),
    )


def backup_of(record: records.Backup) -> Backup:
    return Backup(record.id, record.created_at, _times(record.size_gigabytes, GIB))


def backup_of_image(record: records.Image) -> Backup | None:
    """The image as a backup; `None` while it is in the making, when its attributes are not yet those of the backup."""
    if record.status != "available" or record.created_at is None or record.size_gigabytes is None:
        return None
    return Backup(record.id, record.created_at, record.size_gigabytes * GIB)


def _shared(text: str | None) -> str | None:
    """The same text, held once however many Droplets have it."""
    return None if text is None else intern(text)


def _times(value: float | None, unit: float) -> float | None:
    return None if value is None else value * unit
