"""A Droplet's history, told to the exporter's judgement and to the oracle alike."""

from __future__ import annotations

from datetime import UTC, datetime

from exporter.fleet.history import BackupHistory, judge, with_backups, with_policy, with_reading
from exporter.fleet.model import GIB, Backup, Policy, SupportedPolicy, Verdict, Window
from tests.fleet.oracle import Oracle

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
WEEK = 7 * DAY
GRACE = 4 * HOUR


def at(text: str) -> float:
    """Unix seconds of a date and time of UTC: `2026-03-10 04:00`."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def window(start: str, hours: float = 4.0) -> Window:
    return Window(at(start), at(start) + hours * HOUR)


class Story:
    """What is seen of one Droplet, poll by poll; every verdict is the exporter's, and the oracle's is the same."""

    def __init__(
        self,
        first_seen: float | str,
        policy: Policy | None,
        *,
        supported: SupportedPolicy | None = None,
        disk_gib: float | None = None,
        grace: float = GRACE,
    ) -> None:
        self.supported = supported
        self.disk = None if disk_gib is None else disk_gib * GIB
        self.grace = grace
        self.policy: Policy | None = None
        self.restarts(first_seen)
        self.shows(first_seen, policy)

    def restarts(self, when: float | str) -> None:
        """The exporter starts again without a state file: all it knew is forgotten, its policy too."""
        when = _seconds(when)
        self.evidence = BackupHistory(first_seen=when)
        self.oracle = Oracle(first_seen=when)
        self.known = False
        self.unread = False
        self.shows(when, self.policy)

    def shows(self, when: float | str, policy: Policy | None) -> None:
        """A listing shows this policy; `None`: the Droplet's record is missing this time, so the last one stands."""
        when = _seconds(when)
        self.evidence = with_policy(self.evidence, policy, self.supported, when)
        self.oracle.with_policy(policy, self.supported, when)
        if policy is not None:
            self.policy = policy

    def glimpses(self, when: float | str, *backups: Backup | str) -> None:
        """Backups are seen elsewhere than in the Droplet's own list, and every id is resolved."""
        when = _seconds(when)
        seen = [_backup(backup) for backup in backups]
        self.evidence = with_backups(self.evidence, seen, when)
        self.oracle.with_backups(seen, when)
        self.known = True

    def reads(self, when: float | str, *backups: Backup | str) -> None:
        """The Droplet's own list is read and holds exactly these backups."""
        self.glimpses(when, *backups)
        self.evidence = with_reading(self.evidence, _seconds(when))
        self.oracle.with_reading(_seconds(when))
        self.unread = False

    def fails(self) -> None:
        """The Droplet's own list had to be read and was not."""
        self.unread = True

    def verdict(self, when: float | str) -> Verdict:
        when = _seconds(when)
        found = judge(
            self.evidence,
            self.policy,
            self.supported,
            self.disk,
            self.grace,
            when,
            backups_known=self.known,
            unread=self.unread,
        )
        expected = self.oracle.judge(
            self.policy, self.supported, self.disk, self.grace, when, backups_known=self.known, unread=self.unread
        )
        assert (found.missed_windows, found.unjudged) == expected, f"the oracle says {expected} at {when}"
        return found

    def missed(self, when: float | str) -> int | None:
        return self.verdict(when).missed_windows


def backup(when: str, *, gib: float | None = 0.0, id: int | None = None) -> Backup:  # noqa: A002
    """A backup created then; its id is its instant unless given."""
    return Backup(int(at(when)) if id is None else id, at(when), None if gib is None else gib * GIB)


def _backup(what: Backup | str) -> Backup:
    return backup(what) if isinstance(what, str) else what


def _seconds(when: float | str) -> float:
    return at(when) if isinstance(when, str) else when
