"""What is known of an account's Droplets: frozen values, in the field's terms.

Instants are Unix seconds, lengths of time are seconds, sizes are bytes; `None` stands for "the API has not told us".

They are msgspec's structs, and not the garbage collector's business (`gc=False`): a large fleet has some hundred
thousand of them, in no cycle ever, and a collection that visits them all would hold up every scrape meanwhile.
"""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Struct

from exporter.fleet.state import Reason, State

GIB = 1024**3
"""A gigabyte of the API, as the other DigitalOcean exporters read it."""


class Window(Struct, frozen=True, gc=False):
    """The time in which a backup is started."""

    start: float
    end: float


class Policy(Struct, frozen=True, gc=False, omit_defaults=True):
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


class Backup(Struct, frozen=True, gc=False, omit_defaults=True):
    """A restore point of a Droplet, whichever `type` the API gives it."""

    id: int
    created_at: float
    size: float | None = None


class Description(Struct, frozen=True, gc=False, omit_defaults=True):
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


class Schedule(Struct, frozen=True, gc=False):
    """Windows of one length that repeat for ever, both ways, numbered by their starts."""

    anchor: float
    """The start of window 0."""
    interval: float
    length: float

    def window_at(self, instant: float) -> int:
        """The number of the latest window that has started by the instant."""
        return int((instant - self.anchor) // self.interval)

    def start(self, number: int) -> float:
        return self.anchor + number * self.interval


class Verdict(Struct, frozen=True, gc=False):
    """What is to be said of a Droplet's backups; `verdict.judge` is the one place that decides it."""

    state: State
    reason: Reason | None = None
    """Why the Droplet cannot be judged, if it cannot. Its state can be worse: a miss that stands goes on standing."""
    missed: tuple[float, ...] | None = None
    """The starts of the windows that were missed since the newest backup; `None`: not known."""
    max_age: float | None = None
    """How old the newest backup may be, in seconds."""
    stale: bool | None = None
    """Whether it was older when the Droplet's own list was last read; `None`: there is no limit, or it is not known."""
    lost: int | None = None
    """Backups that are gone before their time."""
    schedule: Schedule | None = None
    """The windows that the Droplet is judged by."""
    slack: float = 0.0
    """Seconds after a window's end at which it is due."""
    first_counted: float | None = None
    """The start of the first window that counts."""

    @property
    def missed_windows(self) -> int | None:
        return None if self.missed is None else len(self.missed)

    @property
    def overdue(self) -> bool | None:
        return None if self.missed is None else bool(self.missed)


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
    verdict: Verdict = Verdict(State.NOT_EXPECTED)
    on_since: float | None = None
    """Since when backups are known to be on; `None`: they are off, or it is not known."""
    first_seen: float = 0.0
    ever_backed_up: bool = False
    """Whether a backup was ever seen."""
    newest_ever: float | None = None
    """When the newest backup that was ever made was created, kept or not."""
    newer_gone: int = 0
    """Backups that are gone, not turned into snapshots, and were newer than the newest that is kept."""
    newest_snapshot: float | None = None
    """When the newest backup that was turned into a snapshot was created."""
    settings_changed_at: float | None = None
    """When plan, hour or weekday were last seen to change."""
    clock_ahead: float | None = None
    """Seconds by which the API's clock is ahead of ours, where that is too much to judge anything."""
    has_no_list: bool = False
    """Whether the API answers 404 for its list of backups, although a listing names the Droplet."""
    confirmed: bool = False
    """Whether the last complete listing named just the backups that are known."""

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
    listed_at: float | None = None
    """When a complete listing of Droplets was last had: of a confirmed Droplet the backups were known then."""
    known: bool = False
    """Whether a listing has named the Droplets yet: an empty fleet is not an unknown one."""

    @property
    def clock_ahead(self) -> float | None:
        """Seconds by which the API's clock is ahead of ours, where that is too much to judge anything."""
        return next((droplet.clock_ahead for droplet in self.droplets if droplet.clock_ahead is not None), None)

    @property
    def untagged(self) -> int:
        """Droplets whose description tells no tags."""
        return sum(one.description is not None and one.description.tags is None for one in self.droplets)


class AccountDroplet(NamedTuple):
    """A Droplet and the name of the account that it belongs to."""

    account: str
    droplet: Droplet

    @property
    def state(self) -> State:
        return self.droplet.verdict.state
