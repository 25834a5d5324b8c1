"""The reports as JSON, by the schemas beside this module. What is not known is null; no key is ever left out."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite
from typing import Any

from exporter.fleet.model import Backup, Droplet, Policy, Window
from exporter.fleet.schedule import HOUR
from exporter.reports.check_report import CheckReport, Entry
from exporter.reports.phrases import next_window_of


def check_document(survey: CheckReport) -> dict[str, Any]:
    """See `check.schema.json`."""
    return {
        "checked_at": instant(survey.at),
        "exit_code": survey.exit_code,
        "summary": survey.summary,
        "complete": survey.complete,
        "notes": list(survey.notes),
        "accounts": [
            {
                "name": account.name,
                "result": account.result,
                "remembered": account.remembered,
                "unread_droplets": account.unread,
                "problems": list(account.problems),
            }
            for account in survey.accounts
        ],
        "counts": {state.value: count for state, count in survey.counts.items()},
        "droplets": [droplet_document(entry, survey.at, survey.tag_labels) for entry in survey.entries],
    }


def show_document(
    entries: Iterable[Entry], at: float, tag_labels: tuple[str, ...], exit_code: int, problems: Iterable[str]
) -> dict[str, Any]:
    """See `show.schema.json`: as a droplet of `check`, with each of its backups."""
    return {
        "checked_at": instant(at),
        "exit_code": exit_code,
        "problems": list(problems),
        "droplets": [
            {
                **droplet_document(entry, at, tag_labels),
                "backups": None
                if entry.droplet.backups is None
                else [backup_document(backup, at) for backup in reversed(entry.droplet.backups)],
            }
            for entry in entries
        ],
    }


def droplet_document(entry: Entry, at: float, tag_labels: tuple[str, ...]) -> dict[str, Any]:
    droplet = entry.droplet
    described = droplet.description
    return {
        "account": entry.account,
        "id": droplet.id,
        "name": droplet.name or None,
        "region": (described and described.region) or None,
        "size": (described and described.size) or None,
        "status": (described and described.status) or None,
        "created_at": instant(described.created_at if described else None),
        "tags": list(described.tags) if described else None,
        "labels": dict(zip(tag_labels, droplet.tag_labels, strict=True)),
        "state": entry.state.value,
        "verdict": entry.verdict,
        "missed_windows": droplet.verdict.missed_windows,
        "expected": droplet.expected,
        "enabled": droplet.policy.enabled if droplet.policy else None,
        "policy": _policy(droplet, droplet.policy),
        "next_window": _window(next_window_of(droplet, at)),
        "newest_backup": backup_document(droplet.newest, at) if droplet.newest else None,
        "oldest_backup": backup_document(droplet.oldest, at) if droplet.oldest else None,
        "backups_kept": None if droplet.backups is None else len(droplet.backups),
        "backups_size_bytes": whole(droplet.kept_size),
        "refreshed_at": instant(droplet.refreshed_at),
    }


def backup_document(backup: Backup, at: float) -> dict[str, Any]:
    return {
        "id": backup.id,
        "created_at": instant(backup.created_at),
        "age_seconds": whole(max(0.0, at - backup.created_at)),
        "size_bytes": whole(backup.size),
    }


def _policy(droplet: Droplet, policy: Policy | None) -> dict[str, Any] | None:
    if policy is None:
        return None
    length = policy.window_length
    return {
        "plan": policy.plan,
        "weekday": policy.weekday,
        "hour": policy.hour,
        "window_hours": _number(None if length is None else length / HOUR),
        "retention_days": _number(droplet.retention_days),
        "interval_seconds": _number(droplet.interval),
        "supported": droplet.policy_supported,
    }


def _window(window: Window | None) -> dict[str, Any] | None:
    return {"start": instant(window.start), "end": instant(window.end)} if window else None


def instant(at: float | None) -> str | None:
    """RFC 3339 in UTC, to the second; `None` for years that it cannot write."""
    try:
        return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def whole(value: float | None) -> int | None:
    """JSON has no infinities."""
    return round(value) if value is not None and isfinite(value) else None


def _number(value: float | None) -> float | None:
    if value is None or not isfinite(value):
        return None
    return int(value) if value == int(value) else value


def encode(document: dict[str, Any]) -> bytes:
    """UTF-8 whatever the terminal speaks; half a surrogate pair, which a name can hold, is written as ?."""
    return json.dumps(document, indent=2, ensure_ascii=False, allow_nan=False).encode(errors="replace") + b"\n"
