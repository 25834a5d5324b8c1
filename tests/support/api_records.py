"""The API's records as the client gives them, built from Unix seconds."""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.digitalocean.records import (
    BackupRecord,
    DropletRecord,
    ImageRecord,
    NamedWindow,
    PolicyRecord,
    PolicySettings,
    Region,
)


def date(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def droplet_record(
    droplet_id: int,
    created_at: float,
    *,
    disk: float | None,
    tags: tuple[str, ...] = (),
    backup_ids: tuple[int, ...] = (),
    region: str = "nyc3",
    size: str = "s-1vcpu-1gb",
) -> DropletRecord:
    return DropletRecord(
        droplet_id,
        f"droplet-{droplet_id}",
        Region(region),
        size,
        "active",
        date(created_at),
        disk,
        tags,
        backup_ids,
        snapshot_ids=[],
        volume_ids=[],
    )


def policy_record(
    plan: str, weekday: str | None, hour: int, window_hours: float, retention_days: float, window: float | None
) -> PolicyRecord:
    """A policy that is on; `window` is the start of the window that it names."""
    return PolicyRecord(
        True,
        PolicySettings(plan, weekday, hour, window_hours, retention_days),
        None if window is None else NamedWindow(date(window), date(window + window_hours * 3600)),
    )


def backup_record(backup_id: int, created_at: float, gigabytes: float | None) -> BackupRecord:
    return BackupRecord(backup_id, date(created_at), gigabytes)


def image_record(backup_id: int, created_at: float, gigabytes: float | None, status: str = "available") -> ImageRecord:
    return ImageRecord(backup_id, "backup", status, date(created_at), gigabytes)
