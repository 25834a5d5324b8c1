"""The JSON of `check` and `show`. A value that is not known is null; no key is left out.

The published JSON schemas are made from these structs: `make schemas` writes the files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import UTC, datetime
from math import isfinite
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from exporter import NAME
from exporter.config.tokens import redact
from exporter.console import UNSAFE, escaped
from exporter.fleet.model import AccountDroplet, Backup, Droplet, Policy, Window
from exporter.fleet.schedule import HOUR
from exporter.fleet.state import Reason, State
from exporter.polling.status import PollResult
from exporter.reports.check_report import CheckReport
from exporter.reports.phrases import next_window_of, verdict_sentence

Instant = Annotated[str, Meta(extra_json_schema={"format": "date-time"})]
"""A time in UTC as RFC 3339 writes it, to the second."""
Count = Annotated[int, Meta(ge=0)]
ExitCode = Literal[0, 1, 2]
Counts = Annotated[
    dict[State, Count],
    Meta(
        description="How many Droplets are in each state, including states that --only leaves out.",
        extra_json_schema={
            "required": [state.value for state in State],
            "properties": {state.value: {"type": "integer", "minimum": 0} for state in State},
        },
    ),
]


class WindowDocument(Struct, frozen=True):
    """A backup window."""

    start: Instant | None
    end: Instant | None


class BackupDocument(Struct, frozen=True):
    """A backup of a Droplet."""

    id: int
    created_at: Instant | None
    age_seconds: Count | None
    size_bytes: int | None


class PolicyDocument(Struct, frozen=True):
    """A Droplet's backup policy."""

    plan: str | None
    weekday: str | None
    hour: Annotated[int | None, Meta(description="The hour in UTC.")]
    window_hours: float | None
    retention_days: float | None
    interval_seconds: Annotated[float | None, Meta(description="Expected time between two backups.")]
    supported: Annotated[
        bool | None, Meta(description="Whether hour and weekday are among those that DigitalOcean offers for the plan.")
    ]


class DropletDocument(Struct, frozen=True):
    """A Droplet and the state of its backups."""

    account: str
    id: int
    name: str | None
    region: str | None
    size: Annotated[str | None, Meta(description="The slug of the Droplet's size.")]
    status: str | None
    created_at: Instant | None
    tags: list[str] | None
    labels: Annotated[
        dict[str, str], Meta(description="The configuration's labels.tags. A label is empty if no tag has its prefix.")
    ]
    state: State
    verdict: Annotated[str, Meta(description="The state in a sentence; its wording may change.")]
    reason: Annotated[Reason | None, Meta(description="Why it cannot be judged; null if it can.")]
    missed_windows: Annotated[Count | None, Meta(description="Windows missed since the newest backup.")]
    missed_window_starts: Annotated[list[Instant] | None, Meta(description="The starts of those windows.")]
    max_age_seconds: Annotated[Count | None, Meta(description="How old the newest backup may be.")]
    stale: Annotated[
        bool | None,
        Meta(description="Whether the newest backup is older than that, or none is kept although one should be."),
    ]
    lost_backups: Annotated[Count | None, Meta(description="Backups that are gone before their retention ended.")]
    attached_volumes: Annotated[
        Count | None, Meta(description="Attached block storage volumes, which are not in the Droplet's backups.")
    ]
    expected: Annotated[bool | None, Meta(description="Whether it should have backups, by the configuration.")]
    enabled: Annotated[bool | None, Meta(description="Whether its policy says that backups are on.")]
    policy: PolicyDocument | None
    next_window: Annotated[WindowDocument | None, Meta(description="The window that is open or comes next.")]
    newest_backup: BackupDocument | None
    oldest_backup: BackupDocument | None
    backups_kept: Count | None
    backups_size_bytes: Annotated[
        int | None, Meta(description="The size of all kept backups together; null if one is not known.")
    ]
    refreshed_at: Annotated[Instant | None, Meta(description="When its list of backups was last read.")]


class ShownDropletDocument(DropletDocument, frozen=True):
    """A Droplet, the state of its backups, and all kept backups."""

    backups: Annotated[list[BackupDocument] | None, Meta(description="The kept backups, the newest first.")]


class AccountDocument(Struct, frozen=True):
    """How the poll of an account went."""

    name: str
    result: PollResult
    remembered: Annotated[bool, Meta(description="Whether a state file contained what was known before.")]
    unread_droplets: Annotated[Count, Meta(description="Droplets whose list of backups had to be read and was not.")]
    problems: list[str]


class CheckDocument(Struct, frozen=True):
    """What `check` prints."""

    checked_at: Instant | None
    exit_code: Annotated[
        ExitCode,
        Meta(description="0: nothing is wrong; 1: something is wrong; 2: something is not known."),
    ]
    summary: Annotated[str, Meta(description="One sentence about all Droplets; its wording may change.")]
    complete: Annotated[
        bool, Meta(description="Whether the listings of every account were complete, so that no Droplet is missing.")
    ]
    notes: Annotated[list[str], Meta(description="What a reader needs to know to understand the result correctly.")]
    accounts: list[AccountDocument]
    counts: Counts
    droplets: Annotated[list[DropletDocument], Meta(description="The worst first.")]


class ShowDocument(Struct, frozen=True):
    """What `show` prints."""

    checked_at: Instant | None
    exit_code: Annotated[
        ExitCode, Meta(description="0: shown; 1: shown, but something could not be read; 2: not shown.")
    ]
    problems: Annotated[list[str], Meta(description="What could not be learned.")]
    droplets: Annotated[
        list[ShownDropletDocument], Meta(description="One for each account that has it; empty if none has.")
    ]


def check_document(report: CheckReport) -> CheckDocument:
    """The JSON document of `check`."""
    return CheckDocument(
        checked_at=rfc3339(report.at),
        exit_code=report.exit_code,
        summary=report.summary,
        complete=report.complete,
        notes=list(report.notes),
        accounts=[
            AccountDocument(
                name=account.name,
                result=account.result,
                remembered=account.remembered,
                unread_droplets=account.unread,
                problems=list(account.problems),
            )
            for account in report.accounts
        ],
        counts=dict(report.counts),
        droplets=[DropletDocument(**_droplet(droplet, report.at, report.tag_labels)) for droplet in report.droplets],
    )


def show_document(
    droplets: Iterable[AccountDroplet],
    at: float,
    tag_labels: tuple[str, ...],
    exit_code: ExitCode,
    problems: Iterable[str],
) -> ShowDocument:
    """The JSON document of `show`."""
    shown = [
        ShownDropletDocument(
            **_droplet(entry, at, tag_labels),
            backups=None
            if entry.droplet.backups is None
            else [_backup(backup, at) for backup in reversed(entry.droplet.backups)],
        )
        for entry in droplets
    ]
    return ShowDocument(checked_at=rfc3339(at), exit_code=exit_code, problems=list(problems), droplets=shown)


def _droplet(entry: AccountDroplet, at: float, tag_labels: tuple[str, ...]) -> dict[str, Any]:
    """The fields of a `DropletDocument`."""
    droplet = entry.droplet
    described = droplet.description
    return {
        "account": entry.account,
        "id": droplet.id,
        "name": droplet.name or None,
        "region": (described and described.region) or None,
        "size": (described and described.size) or None,
        "status": (described and described.status) or None,
        "created_at": rfc3339(described.created_at if described else None),
        "tags": list(described.tags) if described and described.tags is not None else None,
        "labels": dict(zip(tag_labels, droplet.tag_labels, strict=True)),
        "state": entry.state,
        "verdict": verdict_sentence(droplet, at),
        "reason": droplet.verdict.reason,
        "missed_window_starts": _instants(droplet.verdict.missed),
        "max_age_seconds": rounded(droplet.verdict.max_age),
        "stale": droplet.verdict.stale,
        "lost_backups": droplet.verdict.lost,
        "attached_volumes": described.volumes if described else None,
        "missed_windows": droplet.verdict.missed_windows,
        "expected": droplet.expected,
        "enabled": droplet.policy.enabled if droplet.policy else None,
        "policy": _policy(droplet, droplet.policy),
        "next_window": _window(next_window_of(droplet, at)),
        "newest_backup": _backup(droplet.newest, at) if droplet.newest else None,
        "oldest_backup": _backup(droplet.oldest, at) if droplet.oldest else None,
        "backups_kept": None if droplet.backups is None else len(droplet.backups),
        "backups_size_bytes": rounded(droplet.kept_size),
        "refreshed_at": rfc3339(droplet.refreshed_at),
    }


def _backup(backup: Backup, at: float) -> BackupDocument:
    age = rounded(max(0.0, at - backup.created_at))
    return BackupDocument(backup.id, rfc3339(backup.created_at), age, rounded(backup.size))


def _policy(droplet: Droplet, policy: Policy | None) -> PolicyDocument | None:
    if policy is None:
        return None
    length = policy.window_length
    return PolicyDocument(
        plan=policy.plan,
        weekday=policy.weekday,
        hour=policy.hour,
        window_hours=_number(None if length is None else length / HOUR),
        retention_days=_number(droplet.retention_days),
        interval_seconds=_number(droplet.interval),
        supported=droplet.policy_supported,
    )


def _window(window: Window | None) -> WindowDocument | None:
    return WindowDocument(rfc3339(window.start), rfc3339(window.end)) if window else None


def rfc3339(at: float | None) -> str | None:
    """Unix seconds as RFC 3339 writes them in UTC, to the second; `None` for years beyond Python's calendar."""
    try:
        return None if at is None else datetime.fromtimestamp(int(at), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    except (OverflowError, ValueError, OSError):
        return None


def _instants(moments: tuple[float, ...] | None) -> list[str] | None:
    return None if moments is None else [text for moment in moments if (text := rfc3339(moment)) is not None]


def rounded(value: float | None) -> int | None:
    """The nearest whole number; `None` for infinity and NaN, which JSON does not have."""
    return round(value) if value is not None and isfinite(value) else None


def _number(value: float | None) -> float | None:
    """The value, as an integer if it is one; `None` for infinity and NaN."""
    if value is None or not isfinite(value):
        return None
    return int(value) if value == int(value) else value


def encode_document(document: CheckDocument | ShowDocument) -> bytes:
    """The document as JSON in UTF-8, whatever the terminal's encoding is.

    Tokens are removed. Characters that change what a terminal shows or the direction of text are escaped. Half of a
    surrogate pair, which a name can contain, is written as `?`.
    """
    text = json.dumps(msgspec.to_builtins(document), indent=2, ensure_ascii=False, allow_nan=False)
    return UNSAFE.sub(lambda match: escaped(match[0]), redact(text)).encode(errors="replace") + b"\n"


# The published schemas


def schemas() -> dict[str, str]:
    """The published schemas: the name of each file, and its text."""
    return {f"{command}.schema.json": _schema(command, document) for command, document in _DOCUMENTS.items()}


_DOCUMENTS: dict[str, type[Struct]] = {"check": CheckDocument, "show": ShowDocument}


def _schema(command: str, document: type[Struct]) -> str:
    made = msgspec.json.schema(document)
    definitions = made.pop("$defs")
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **definitions.pop(document.__name__),
        "title": f"{NAME} {command} --format json",
        "description": "What is not known is null; no key is left out. Keys may be added.",
        "$defs": definitions,
    }
    return json.dumps(schema, indent=2) + "\n"


if __name__ == "__main__":
    for name, text in schemas().items():
        Path(__file__).with_name(name).write_text(text)
