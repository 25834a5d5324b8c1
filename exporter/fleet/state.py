"""The one word for a Droplet's backups, and the order of badness. Cheap to import: `--help` lists the words."""

from __future__ import annotations

from enum import StrEnum


class State(StrEnum):
    """What is said of a Droplet's backups, the worst first. The value is what users filter by."""

    MISSING = "missing"
    """Two or more windows in a row were missed."""
    OVERDUE = "overdue"
    """One window was missed."""
    NEVER_TAKEN = "never-taken"
    """Backups are on, none exists, and the Droplet is older than two days, nine if its plan is weekly."""
    UNJUDGED = "unjudged"
    """It is not known: the list of backups was not read after a window was due, or the API says too little."""
    UNPROTECTED = "unprotected"
    """Backups are off, though expected."""
    WAITING = "waiting"
    """Backups are on, and the first is still to come."""
    PROTECTED = "protected"
    NOT_EXPECTED = "not-expected"
    """Backups are not on, and not expected to be."""
    GONE = "gone"
    """The API answers 404 for its list of backups: the Droplet was destroyed, as far as the API has noticed."""

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


_BAD = frozenset({State.MISSING, State.OVERDUE, State.NEVER_TAKEN, State.UNPROTECTED})
_RANK = {state: rank for rank, state in enumerate(State)}
