"""The one word for a Droplet's backups, its order of badness, and why a Droplet cannot be judged.

Cheap to import: `--help` lists the words.
"""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What is said of a Droplet's backups, the worst first. The value is what users filter by."""

    MISSING = "missing"
    """Two or more windows were missed."""
    OVERDUE = "overdue"
    """One window was missed."""
    STALE = "stale"
    """The newest backup is older than its limit, or none is kept any more."""
    NEVER_TAKEN = "never-taken"
    """Backups are on, and none was ever seen although one should exist by now."""
    UNJUDGED = "unjudged"
    """It should be judged and cannot be; see `Reason`."""
    UNPROTECTED = "unprotected"
    """Backups are off, though expected."""
    WAITING = "waiting"
    """Backups are on, and the first window that counts is still to come."""
    PROTECTED = "protected"
    NOT_EXPECTED = "not-expected"
    """Backups are not on, and not expected to be."""
    GONE = "gone"
    """The API answers 404 for its list of backups and no listing names it: the Droplet was destroyed."""

    @property
    def words(self) -> str:
        """`never taken`."""
        return self.value.replace("-", " ")

    @property
    def rank(self) -> int:
        """0 for the worst."""
        return _RANK[self]

    @property
    def is_bad(self) -> bool:
        """Whether somebody has to act."""
        return self in _BAD


_BAD = frozenset({State.MISSING, State.OVERDUE, State.STALE, State.NEVER_TAKEN, State.UNPROTECTED})
_RANK = {state: rank for rank, state in enumerate(State)}


class Reason(StrEnum):
    """Why a Droplet cannot be judged, the first that fits."""

    CLOCK = "clock"
    """The API's clock and ours differ by more than an hour."""
    UNKNOWN_POLICY = "unknown-policy"
    """It is not known whether backups are on, or, of one whose backups are off, whether they are expected."""
    NO_SCHEDULE = "no-schedule"
    """Backups are on, and the plan, the phase or the length of its windows is not known."""
    UNREAD = "unread"
    """Its list of backups had to be read and was not."""
    FIRST_LOOK = "first-look"
    """The last window that is due began before the Droplet was first seen, and left no backup."""
