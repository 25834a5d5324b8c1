"""A Droplet as a story tells it: what is true of it, and how polls observe that.

life = Life("2026-11-02 12:00", policy=daily())
life.made("2026-11-02 01:00")
life.polls("2026-11-03 09:00")
life.expect(state="overdue", missed_windows=1)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Literal

from tests.fleet.oracle import DAY, HOUR, Backup, Config, Droplet, Event, Policy, Poll, Reading, Restart


def at(text: str) -> float:
    """Unix seconds of a date and time of UTC: `2026-11-02 04:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def daily(hour: int | None = 0, **over: Any) -> Policy:
    return replace(Policy(enabled=True, plan="daily", hour=hour, window_length=4 * HOUR), **over)


def weekly(weekday: str | None = "SUN", hour: int | None = 20, **over: Any) -> Policy:
    return replace(Policy(enabled=True, plan="weekly", hour=hour, weekday=weekday, window_length=4 * HOUR), **over)


@dataclass(frozen=True)
class Expected:
    """What must be true at an instant, after so many events."""

    at: float
    events: int
    values: dict[str, Any]


@dataclass
class Life:
    """What is true of a Droplet at `now`, and all that was observed of it so far.

    The backups in `made` that are no older than `now` and not in `gone` are in every list, unless a story says
    otherwise.
    """

    start: str
    policy: Policy | None = field(default_factory=daily)
    droplet: Droplet | None = field(default_factory=lambda: Droplet(created_at=at("2025-09-01 00:00"), disk=1.0))
    config: Config = field(default_factory=Config)
    own_list: Literal["read", "failed", "404", "not asked"] = "read"
    backups: list[Backup] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    events: list[Event] = field(default_factory=list)
    expected: list[Expected] = field(default_factory=list)
    now: float = 0.0

    def __post_init__(self) -> None:
        self.now = at(self.start)

    # What is true

    def made(self, *whens: str, size: float | None = 1.0) -> list[int]:
        """Backups created then; the id of each is its instant."""
        made = [Backup(int(at(when)), at(when), size) for when in whens]
        self.backups += made
        return [backup.id for backup in made]

    def made_daily(self, first: str, last: str) -> list[int]:
        """One at the same time of each day from the one instant to the other."""
        ids, when = [], at(first)
        while when <= at(last):
            self.backups.append(Backup(int(when), when, 1.0))
            ids.append(int(when))
            when += DAY
        return ids

    def remove(self, ids: Iterable[int], *, to_snapshots: bool = False) -> None:
        self.gone.update(ids)
        if to_snapshots and self.droplet is not None:
            self.droplet = replace(self.droplet, snapshot_ids=(*(self.droplet.snapshot_ids or ()), *ids))

    def set_policy(self, **over: Any) -> None:
        assert self.policy is not None
        self.policy = replace(self.policy, **over)

    @property
    def kept(self) -> tuple[Backup, ...]:
        return tuple(one for one in self.backups if one.created_at <= self.now and one.id not in self.gone)

    # What is observed

    def poll(self, when: str | float | None = None, **over: Any) -> None:
        """One poll; `over` are values of `Poll` that differ from the truth."""
        self.now = at(when) if isinstance(when, str) else self.now if when is None else when
        droplet = self.droplet
        if droplet is not None and droplet.backup_ids is not None:
            droplet = replace(droplet, backup_ids=tuple(backup.id for backup in self.kept))
        reading = None
        if self.own_list != "not asked":
            answered = self.own_list == "read"
            reading = Reading(self.now, self.own_list, self.kept if answered else ())
        observed: dict[str, Any] = {
            "policy": self.policy,
            "droplet": droplet,
            "reading": reading,
            "unread": self.own_list == "failed",
        }
        self.events.append(Poll(self.now, **observed | over))

    def polls(self, until: str, every: float = HOUR, **over: Any) -> None:
        """A poll at each interval after `now`, and one at the end."""
        end = at(until)
        when = self.now + every if self.events else self.now
        while when < end:
            self.poll(when, **over)
            when += every
        self.poll(end, **over)

    def outage(self, until: str, every: float = HOUR) -> None:
        """Polls that nothing answers."""
        self.polls(
            until,
            every,
            policy=None,
            policies_complete=False,
            droplet=None,
            droplets_complete=False,
            reading=Reading(self.now, "failed"),
            unread=True,
            clock_offset=None,
        )

    def restart(self, *, keeps_state: bool) -> None:
        self.events.append(Restart(self.now, keeps_state))

    # What must be said of it

    def expect(self, when: str | None = None, **values: Any) -> None:
        """Values of the verdict at `now`, or at a later instant without a poll in between."""
        instant = self.now if when is None else at(when)
        assert instant >= self.now
        self.expected.append(Expected(instant, len(self.events), values))
