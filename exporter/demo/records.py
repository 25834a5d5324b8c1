"""Builds records as DigitalOcean's API sends them: with all attributes, and valid by its OpenAPI document.

Each function takes the few values that matter here. Further keywords replace whole attributes; the value `OMIT` leaves
the attribute out. Instants are Unix seconds, and are written as the API writes them.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from typing import Any

OMIT: Any = object()

HOURS = (0, 4, 8, 12, 16, 20)
WEEKDAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
REGION_NAMES = {
    "ams3": "Amsterdam 3",
    "blr1": "Bangalore 1",
    "fra1": "Frankfurt 1",
    "lon1": "London 1",
    "nyc1": "New York 1",
    "nyc3": "New York 3",
    "sfo3": "San Francisco 3",
    "sgp1": "Singapore 1",
    "syd1": "Sydney 1",
    "tor1": "Toronto 1",
}

# slug: (memory in MB, vcpus, disk in GB, transfer in TB, dollars a month, description)
_SIZES = {
    "s-1vcpu-1gb": (1024, 1, 25, 1.0, 6.0, "Basic"),
    "s-1vcpu-2gb": (2048, 1, 50, 2.0, 12.0, "Basic"),
    "s-2vcpu-4gb": (4096, 2, 80, 4.0, 24.0, "Basic"),
    "s-4vcpu-8gb": (8192, 4, 160, 5.0, 48.0, "Basic"),
    "g-2vcpu-8gb": (8192, 2, 25, 4.0, 63.0, "General Purpose"),
    "m-4vcpu-32gb": (32768, 4, 100, 6.0, 168.0, "Memory-Optimized"),
    "so-2vcpu-16gb": (16384, 2, 300, 4.0, 131.0, "Storage-Optimized"),
    "gpu-h100x1-80gb": (245760, 20, 720, 15.0, 4529.3, "H100 GPU - 1X"),
}
SIZE_SLUGS = tuple(_SIZES)

DAY = 86400
RETENTION_DAYS = {"daily": 7, "weekly": 28, "intra_daily_4h": 7}
BASE_IMAGE_ID = 63663980


def instant(seconds: float) -> str:
    """ISO 8601 in whole seconds of UTC, as the API writes it."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def window(start: float, hours: float = 4) -> dict[str, str]:
    return {"start": instant(start), "end": instant(start + hours * 3600)}


def droplet(
    droplet_id: int,
    *,
    name: str | None = None,
    region: str = "nyc3",
    size: str = "s-1vcpu-1gb",
    created_at: float = 1_700_000_000.0,
    backup_ids: Sequence[int] = (),
    snapshot_ids: Sequence[int] = (),
    tags: Sequence[str] = (),
    **over: Any,
) -> dict[str, Any]:
    """A record of the droplet listing. A size slug of `gpu-` makes it a GPU droplet."""
    kind = size_record(size)
    record = {
        "id": droplet_id,
        "name": f"droplet-{droplet_id}" if name is None else name,
        "memory": kind["memory"],
        "vcpus": kind["vcpus"],
        "disk": kind["disk"],
        "disk_info": kind["disk_info"],
        "locked": False,
        "status": "active",
        "kernel": None,
        "created_at": instant(created_at),
        "features": ["droplet_agent", "private_networking"],
        "backup_ids": list(backup_ids),
        "next_backup_window": None,
        "snapshot_ids": list(snapshot_ids),
        "image": base_image(),
        "volume_ids": [],
        "size": kind,
        "size_slug": size,
        "networks": _networks(droplet_id % 250),
        "region": region_record(region),
        "tags": list(tags),
        "vpc_uuid": "760e09ef-dc84-11e8-981e-3cfdfeaae000",
    }
    if "gpu_info" in kind:
        record["gpu_info"] = kind["gpu_info"]
    return _override(record, over)


def policy(
    droplet_id: int,
    *,
    plan: str = "daily",
    weekday: str | None = None,
    hour: int = 0,
    window_hours: int = 4,
    retention_days: int | None = None,
    next_window: float | None = None,
    **over: Any,
) -> dict[str, Any]:
    """The policy record of a droplet whose backups are on. `next_window`: the start of the window that it names."""
    settings: dict[str, Any] = {"plan": plan}
    if weekday is not None:
        settings["weekday"] = weekday
    settings |= {
        "hour": hour,
        "window_length_hours": window_hours,
        "retention_period_days": RETENTION_DAYS.get(plan, 7) if retention_days is None else retention_days,
    }
    record = {
        "droplet_id": droplet_id,
        "backup_enabled": True,
        "backup_policy": settings,
        "next_backup_window": None if next_window is None else window(next_window, window_hours),
    }
    return _override(record, over)


def disabled(droplet_id: int, **over: Any) -> dict[str, Any]:
    """The policy record of a droplet whose backups are off. The API sends nothing else in it."""
    return _override({"droplet_id": droplet_id, "backup_enabled": False}, over)


def backup(backup_id: int, created_at: float, *, size: float | None = 2.34, **over: Any) -> dict[str, Any]:
    """A record of a droplet's list of backups. `size` is in gigabytes."""
    record = {
        "id": backup_id,
        "name": f"droplet-{instant(created_at)[:10]}",
        "distribution": "Ubuntu",
        "slug": None,
        "public": False,
        "regions": ["nyc3"],
        "created_at": instant(created_at),
        "min_disk_size": 25,
        "size_gigabytes": size,
        "type": "backup",
    }
    return _override(record, over)


def image(image_id: int, created_at: float, *, size: float | None = 2.34, **over: Any) -> dict[str, Any]:
    """A record of the account's private images: a backup, unless `type` is given."""
    record = backup(image_id, created_at, size=size)
    record |= {"description": "", "tags": [], "status": "available", "error_message": ""}
    return _override(record, over)


def supported_policy(name: str, **over: Any) -> dict[str, Any]:
    """A supported policy, as in the document's example."""
    record = {
        "name": name,
        "possible_window_starts": list(HOURS),
        "window_length_hours": 4,
        "retention_period_days": RETENTION_DAYS.get(name, 7),
        "possible_days": list(WEEKDAYS) if name == "weekly" else [],
    }
    return _override(record, over)


@cache
def base_image() -> dict[str, Any]:
    """The public image of all droplets."""
    return {
        "id": BASE_IMAGE_ID,
        "name": "24.04 (LTS) x64",
        "distribution": "Ubuntu",
        "slug": "ubuntu-24-04-x64",
        "public": True,
        "regions": list(REGION_NAMES),
        "created_at": "2024-04-29T15:02:41Z",
        "type": "base",
        "min_disk_size": 7,
        "size_gigabytes": 0.63,
        "description": "Ubuntu 24.04 (LTS) x64",
        "tags": [],
        "status": "available",
        "error_message": "",
    }


@cache
def size_record(slug: str) -> dict[str, Any]:
    memory, vcpus, disk, transfer, price, description = _SIZES[slug]
    record: dict[str, Any] = {
        "slug": slug,
        "memory": memory,
        "vcpus": vcpus,
        "disk": disk,
        "transfer": transfer,
        "price_monthly": price,
        "price_hourly": round(price / 672, 5),
        "regions": list(REGION_NAMES),
        "available": True,
        "description": description,
        "disk_info": [{"type": "local", "size": {"amount": disk, "unit": "gib"}}],
    }
    if slug.startswith("gpu-"):
        record["gpu_info"] = {"count": 1, "model": "nvidia_h100", "vram": {"amount": 80, "unit": "gib"}}
        record["disk_info"].append({"type": "scratch", "size": {"amount": 5120, "unit": "gib"}})
    return record


@cache
def region_record(slug: str) -> dict[str, Any]:
    return {
        "name": REGION_NAMES[slug],
        "slug": slug,
        "features": ["backups", "ipv6", "metadata", "install_agent", "storage", "image_transfer"],
        "available": True,
        "sizes": list(SIZE_SLUGS),
    }


@cache
def _networks(number: int) -> dict[str, Any]:
    """A private address, and one that is reserved for documentation. Several droplets may have the same."""
    return {
        "v4": [
            {"ip_address": f"10.128.0.{number + 2}", "netmask": "255.255.0.0", "gateway": "nil", "type": "private"},
            {
                "ip_address": f"203.0.113.{number + 2}",
                "netmask": "255.255.255.0",
                "gateway": "203.0.113.1",
                "type": "public",
            },
        ],
        "v6": [],
    }


def _override(record: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    record |= over
    return {key: value for key, value in record.items() if value is not OMIT} if OMIT in over.values() else record
