"""What is known of an account's Droplets: frozen values, in the field's terms.

Instants are Unix seconds, lengths of time are seconds, sizes are bytes; `None` stands for "the API has not told us".

They are msgspec's structs, and not the garbage collector's business (`gc=False`): a large fleet has some hundred
thousand of them, in no cycle ever, and a collection that visits them all would hold up every scrape meanwhile.
"""

from __future__ import annotations

from msgspec import Struct

GIB = 1024**3
"""A gigabyte of the API, as the other DigitalOcean exporters read it."""


class Window(Struct, frozen=True, gc=False):
    """The time in which a backup is started."""

    start: float
    end: float


class Policy(Struct, frozen=True, gc=False):
    """When a Droplet's backups are taken and how long they are kept; a disabled one says nothing more."""

    enabled: bool | None = None
    plan: str | None = None
    weekday: str | None = None
    """`SUN` to `SAT`; plans that run every day have none."""
    hour: int | None = None
    """UTC, 0 to 23. Midnight is a valid hour."""
    window_length: float | None = None
    retention_days: float | None = None
    next_window: Window | None = None


class SupportedPolicy(Struct, frozen=True, gc=False):
    """A plan that DigitalOcean offers, with the hours and weekdays one can choose."""

    plan: str
    hours: tuple[int, ...] | None = None
    weekdays: tuple[str, ...] = ()
    """Empty: any."""
    window_length: float | None = None
    retention_days: float | None = None


class Backup(Struct, frozen=True, gc=False):
    """A restore point of a Droplet, whichever `type` the API gives it."""

    id: int
    created_at: float
    size: float | None = None


class Description(Struct, frozen=True, gc=False):
    """What a droplet listing says of a Droplet."""

    name: str = ""
    region: str = ""
    size: str = ""
    """The slug of the Droplet's size."""
    status: str = ""
    created_at: float | None = None
    disk: float | None = None
    tags: tuple[str, ...] | None = ()
    """`None` if the record has none: a token without the scope `tag:read` is not shown them."""
    snapshot_ids: tuple[int, ...] | None = None
    """Snapshots of the Droplet, backups that were turned into snapshots included."""
    volumes: int | None = None
    """How many block storage volumes are attached, which backups do not hold."""


class Verdict(Struct, frozen=True, gc=False):
    """What the evidence says of a Droplet's windows."""

    missed_windows: int | None = None
    """How many in a row were missed up to now; `None`: cannot know."""
    unjudged: bool = False
    """A due window could not be judged for want of a reading."""

    @property
    def overdue(self) -> bool | None:
        return None if self.missed_windows is None else self.missed_windows > 0


class Droplet(Struct, frozen=True, gc=False):
    """One Droplet as served: what the API told, and what follows from it."""

    id: int
    description: Description | None = None
    """`None` where only the policies name the Droplet."""
    policy: Policy | None = None
    backups: tuple[Backup, ...] | None = None
    """Those that exist, oldest first; `None`: not known."""
    unreadable: int = 0
    """Backups of which nothing is known but that they exist: their records were not understood."""
    refreshed_at: float | None = None
    """When the backups were last read from the Droplet's own endpoint, or every id a listing named was resolved."""
    expected: bool | None = None
    """Whether the configuration says that it ought to have backups."""
    tag_labels: tuple[str, ...] = ()
    """The values of the configured tag labels, in the configuration's order."""
    interval: float | None = None
    """Expected time between two backups."""
    retention_days: float | None = None
    policy_supported: bool | None = None
    verdict: Verdict = Verdict()

    @property
    def name(self) -> str:
        return self.description.name if self.description else ""

    @property
    def newest(self) -> Backup | None:
        return self.backups[-1] if self.backups else None

    @property
    def kept_size(self) -> float | None:
        """Bytes of all its backups together; `None` where that of one is not known."""
        if self.backups is None or self.unreadable or any(backup.size is None for backup in self.backups):
            return None
        return sum((backup.size or 0.0 for backup in self.backups), 0.0)

    @property
    def oldest(self) -> Backup | None:
        return self.backups[0] if self.backups else None


class Fleet(Struct, frozen=True, gc=False):
    """All that one account's exporter knows, swapped in whole at the end of a poll."""

    account: str
    droplets: tuple[Droplet, ...] = ()
    """By id."""
    supported: tuple[SupportedPolicy, ...] = ()
    known: bool = False
    """Whether a listing has named the Droplets yet: an empty fleet is not an unknown one."""
