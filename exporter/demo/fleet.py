"""The demo's fleet: made-up Droplets in every state that a fleet can have, changing as time passes.

Nothing here is random and nothing is remembered: what the API shows follows from the demo's start and the time alone.
A droplet is a row of data. Its story has one letter for each of its backup windows:

    .  a backup is taken
    l  taken late, in the last minutes of the window
    x  none is taken: it fails, or never begins
    h  taken, but under half as large
    s  taken, and listed with type `snapshot` (a restore point all the same)
    m  taken, and some hours later moved to the account's snapshots, so that it leaves the droplet's backups

Window 0 is the latest that began at least twelve hours before the start: with the exporter's default grace it is due at
the start. `past` ends with window 0; every window before `past` brought a backup. `future` begins with window 1 and
repeats for ever.

What to watch, in hours of the demo's time from its start (`--demo.speed` sets how fast they pass), with the exporter's
default grace:

- `shop-checkout` (daily, the first window begins within 4 hours) misses two windows, takes two, and so on: its story
  repeats every 96 hours. It is overdue by one window from hour 8 to 12.2 on, by two 24 hours later, and well again with
  the backup of its third window, between the hours 48 and 56.
- `shop-search` (daily, begins within 8 hours) misses one window of three: overdue from hour 12 to 16.2 on, well again
  with its next backup, between the hours 28 and 36.
- `db-replica` (daily) is overdue by one window at the start and well with its next backup, between the hours 8 and 16;
  then it misses every seventh.
- `db-analytics` (daily) is overdue by four at the start, misses one more, takes five, misses five, and so on.
- `shop-next` (created an hour before the start) and `crm` (backups are switched on half an hour after the start) get
  their first backups within 12 hours.
- `vpn-gateway` never gets a backup.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from exporter.demo import records

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
INTERVALS = {"daily": DAY, "weekly": 7 * DAY, "intra_daily_4h": 4 * HOUR}
FIRST_DROPLET_ID = 441_000_000
SETTLED = 12 * HOUR
"""Window 0 began at least so long before the start."""
SNAPSHOT_KEPT = 28 * DAY
"""The owner deletes what was moved to the snapshots after this time."""
MOVED_AFTER = 6 * HOUR
LATE_BY = 8 * HOUR
"""How long a policy goes on naming a window that is over."""


@dataclass(frozen=True, slots=True)
class DemoDroplet:
    """One droplet and the story of its backups."""

    name: str
    plan: Literal["daily", "weekly", "intra_daily_4h"] | None = "daily"
    """`None`: it never had a plan."""
    hour: int = 0
    weekday: str | None = None
    began: float | None = None
    """Instead of hour and weekday: a window began so many hours before the start, or up to four more, because windows
    begin at hours that are multiples of four. Negative: a window begins so many hours after the start, or up to four
    less."""
    past: str = ""
    future: str = "."
    history: int | None = None
    """Backups had been on for so many windows up to window 0; `None`: since the droplet was created."""
    switched_on: float = -math.inf
    """Until so many hours after the start its backups are off."""
    gib: float = 3.0
    """Size of a backup."""
    age: float = 400.0
    """Days since the droplet was created, at the start."""
    size: str = "s-1vcpu-2gb"
    region: str = "nyc3"
    tags: tuple[str, ...] = ()
    status: str = "active"
    record: Literal["full", "disabled", "bare", "silent", "none"] = "full"
    """The policy's record: as documented; backups off; on, without the policy; without `backup_enabled`; no record."""
    names: Literal["next", "late", "null"] = "next"
    """The next window in the policy's record: as documented; a past one for some hours; null."""
    window_hours: int = 4
    listed: bool = True
    """False: the droplet is gone, only its policy is still listed."""
    features_lag: bool = False
    """Whether the droplet's features lack `backups` though they are on."""
    snapshots: int = 0
    """How many snapshots the owner took by hand."""


WEB = ("team:web", "env:prod")
DATA = ("team:data", "env:prod")
INTERNAL = ("team:platform", "env:internal")
STAGE = ("team:web", "env:stage")
CLUSTER = "k8s:7b2f6c1e-58a1-4f0e-9d6b-0c2f3a4e5d61"
K8S = ("k8s", CLUSTER, "k8s:worker")

DROPLETS = (
    # Healthy, at every kind of window.
    DemoDroplet("web-nyc-01", hour=0, tags=WEB, gib=4.2),
    DemoDroplet("web-nyc-02", hour=4, tags=WEB, gib=4.4),
    DemoDroplet("web-ams-01", hour=8, tags=WEB, gib=3.9, region="ams3"),
    DemoDroplet("web-fra-01", hour=20, tags=WEB, gib=4.1, region="fra1", features_lag=True),
    DemoDroplet("web-lon-01", "weekly", hour=20, weekday="SUN", tags=WEB, region="lon1"),
    DemoDroplet("web-sgp-01", "weekly", hour=8, weekday="WED", tags=WEB, region="sgp1"),
    DemoDroplet("web-syd-01", "weekly", hour=0, weekday="SAT", tags=WEB, region="syd1", window_hours=23),
    DemoDroplet("shop-frontend", began=0, future="l", tags=WEB, gib=6.5, size="s-2vcpu-4gb"),
    DemoDroplet("db-primary", hour=16, tags=DATA, gib=58.0, size="m-4vcpu-32gb", snapshots=1),
    DemoDroplet("session-store", "intra_daily_4h", tags=DATA, gib=2.1),
    DemoDroplet("metrics-archive", "weekly", began=40, tags=INTERNAL, gib=96.0, size="so-2vcpu-16gb", region="tor1"),
    DemoDroplet(
        "ml-trainer", hour=12, tags=("team:data", "env:research"), gib=41.0, size="gpu-h100x1-80gb", region="tor1"
    ),
    DemoDroplet("backoffice", hour=4, tags=INTERNAL, status="off", gib=1.8, size="s-1vcpu-1gb"),
    # Missing windows: once, again and again, in the past.
    DemoDroplet("shop-checkout", began=-4, future="xx..", tags=WEB, gib=2.6),
    DemoDroplet("shop-search", began=-8, future="x..", tags=WEB, gib=3.3),
    DemoDroplet("db-replica", began=12, past="x", future="......x", tags=DATA, gib=11.0, size="s-2vcpu-4gb"),
    DemoDroplet("db-analytics", began=12, past="xxxx", future="x.....xxxx", tags=DATA, gib=14.0, size="s-4vcpu-8gb"),
    DemoDroplet("warehouse", "weekly", began=12, past="xx", future="..xx", tags=DATA, gib=16.0, size="so-2vcpu-16gb"),
    DemoDroplet("ledger", "intra_daily_4h", past="x......xx.......", future=".........x", tags=DATA, gib=1.2),
    DemoDroplet("event-queue", "intra_daily_4h", future=".....xxxx", tags=DATA, gib=1.5),
    DemoDroplet("mail-01", hour=12, past="x.x..", future="........x", tags=INTERNAL, gib=7.7, region="ams3"),
    DemoDroplet("vpn-gateway", began=16, age=6.5, history=0, future="x", tags=INTERNAL, size="s-1vcpu-1gb"),
    # Backups that are odd in themselves.
    DemoDroplet("wiki", hour=8, past="s....", future="......s", tags=INTERNAL, gib=2.2, snapshots=2),
    DemoDroplet("build-cache", began=20, past=".", future=".m...", tags=INTERNAL, gib=9.4, size="g-2vcpu-8gb"),
    DemoDroplet("git-mirror", began=14, past="h", future="...hh", tags=INTERNAL, gib=12.5, size="s-2vcpu-4gb"),
    # Policies that are odd, and droplets that are.
    DemoDroplet("web-stage-01", hour=16, names="late", tags=STAGE),
    DemoDroplet("web-stage-02", hour=20, names="null", tags=STAGE),
    DemoDroplet("api-stage-01", hour=4, record="bare", tags=STAGE),
    DemoDroplet("api-stage-02", hour=8, record="silent", tags=STAGE),
    DemoDroplet('кафе "résumé" C:\\tmp\n東京 🦀 {a="b"}', hour=0, tags=("team:кафе", 'note:"x"\\y'), region="fra1"),
    DemoDroplet("shop-next", began=-4, age=1 / 24, tags=WEB, gib=2.4),
    DemoDroplet("crm", began=-8, history=0, switched_on=0.5, tags=INTERNAL, gib=5.1),
    DemoDroplet("destroyed-yesterday", hour=12, listed=False),
    DemoDroplet("imported", None, record="none", tags=INTERNAL),
    # Not protected: by oversight, on purpose, or because backups cannot be had.
    DemoDroplet("sandbox", None, record="disabled", tags=("team:web", "env:dev"), age=60),
    DemoDroplet("legacy-api", hour=8, past="xx", future="x", record="disabled", tags=WEB, gib=3.0, region="sfo3"),
    DemoDroplet("pool-a1b2c-x7k2p", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=30),
    DemoDroplet("pool-a1b2c-x7k2q", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=30),
    DemoDroplet("pool-a1b2c-x7k2r", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=3),
)


class _Backup(NamedTuple):
    """A backup, from the moment it is begun."""

    id: int
    created_at: float
    finished_at: float
    leaves_at: float
    """When it is no longer among the droplet's backups."""
    size: float
    moved: bool
    """Whether it then becomes one of the account's snapshots."""
    type: str

    def is_kept(self, now: float) -> bool:
        """Whether the droplet's own list has it."""
        return self.finished_at <= now < self.leaves_at

    def is_moved(self, now: float) -> bool:
        """Whether it is one of the account's snapshots."""
        return self.moved and self.leaves_at <= now < self.leaves_at + SNAPSHOT_KEPT


class _Machine:
    """One droplet of the fleet, at any time."""

    def __init__(self, index: int, row: DemoDroplet, start: float) -> None:
        self.index = index
        self.id = FIRST_DROPLET_ID + 17 * index
        self.row = row
        self.start = start
        self.created_at = start - row.age * DAY
        self.interval = INTERVALS[row.plan or "daily"]
        first = _first_window(row, start)
        self.weekday = records.WEEKDAYS[int(first // DAY + 4) % 7] if row.plan == "weekly" else None
        self.phase = first % self.interval
        self.zero = math.floor((start - SETTLED - self.phase) / self.interval)

    @property
    def hour(self) -> int:
        return 0 if self.row.plan == "intra_daily_4h" else int(self.phase % DAY // HOUR)

    def window_start(self, number: int) -> float:
        return self.phase + number * self.interval

    def _outcome(self, number: int) -> str:
        """The letter of a window's story."""
        row, relative = self.row, number - self.zero
        if self.window_start(number) < self.created_at or (row.history is not None and relative <= -row.history):
            return "x"
        if relative > 0:
            return row.future[(relative - 1) % len(row.future)]
        place = len(row.past) - 1 + relative
        return row.past[place] if place >= 0 else "."

    def _backup(self, number: int) -> _Backup | None:
        """The backup that a window brought or will bring."""
        letter = self._outcome(number)
        if letter == "x":
            return None
        row = self.row
        begun = self.window_start(number)
        variation, delayed, pace = _noise(self.index, number)
        size = row.gib * (1 + 0.002 * (begun - self.start) / DAY) * (0.97 + 0.06 * variation)
        size = round(max(0.1, size * (0.4 if letter == "h" else 1)), 2)
        delay = 5 * MINUTE + 3.4 * HOUR * delayed**2
        if letter == "l":
            delay = row.window_hours * HOUR - 3 * MINUTE
        created_at = math.floor(begun + delay)
        finished_at = created_at + size * MINUTE * (1 + 2 * pace)
        retention = records.RETENTION_DAYS[row.plan or "daily"] * DAY
        return _Backup(
            id=(number << 16) + self.index,
            created_at=created_at,
            finished_at=finished_at,
            leaves_at=finished_at + MOVED_AFTER if letter == "m" else created_at + retention,
            size=size,
            moved=letter == "m",
            type="snapshot" if letter == "s" else "backup",
        )

    def _backups_about(self, now: float) -> list[_Backup]:
        """All backups that are begun, kept or moved at the time, newest first, and a few more."""
        if self.row.plan is None:
            return []
        keep = records.RETENTION_DAYS[self.row.plan] * DAY
        if "m" in self.row.future:
            keep = max(keep, SNAPSHOT_KEPT + MOVED_AFTER)
        last = math.floor((now - self.phase) / self.interval) + 1
        first = math.floor((now - keep - self.phase) / self.interval) - 1
        return [one for number in range(last, first - 1, -1) if (one := self._backup(number)) is not None]

    def _lived(self, now: float) -> float:
        """The time up to which things happen to it: a droplet without backups keeps what it had at the start."""
        return self.start if self.row.record == "disabled" else now

    def backups(self, now: float) -> list[dict[str, Any]]:
        """Its own list, newest first."""
        return [
            records.backup(one.id, one.created_at, size=one.size, type=one.type, **self._attributes(one))
            for one in self._backups_about(self._lived(now))
            if one.is_kept(self._lived(now))
        ]

    def images(self, now: float) -> Iterator[dict[str, Any]]:
        """What the account's private images hold of it."""
        row, now = self.row, self._lived(now)
        for number in range(row.snapshots):
            yield records.image(
                self._snapshot_id(number),
                self.start - (20 + 9 * number) * DAY,
                name=f"{row.name}-before-upgrade-{number + 1}",
                size=round(row.gib, 2),
                type="snapshot",
                regions=[row.region],
            )
        for one in self._backups_about(now):
            if one.created_at <= now < one.finished_at:
                yield self._image(one, size=None, status="pending")
            elif one.is_kept(now):
                yield self._image(one)
            elif one.is_moved(now):
                yield self._image(one, type="snapshot")

    def _image(self, one: _Backup, **over: Any) -> dict[str, Any]:
        return records.image(
            one.id, one.created_at, **{"size": one.size, "type": one.type, **self._attributes(one), **over}
        )

    def _attributes(self, one: _Backup) -> dict[str, Any]:
        return {
            "name": f"{self.row.name}- {records.instant(one.created_at)[:10]}",
            "regions": [self.row.region],
            "min_disk_size": records.size_record(self.row.size)["disk"],
        }

    def _snapshot_id(self, number: int) -> int:
        """Below the id of any backup, and not a custom image's."""
        return 9_000_000 + self.index * 100 + number

    def _is_on(self, now: float) -> bool:
        """Whether backups are on."""
        row = self.row
        return row.plan is not None and row.record != "disabled" and now >= self.start + row.switched_on * HOUR

    def _named_window(self, now: float) -> float | None:
        """The start of the window that the policy names: the open one until its backup is there, else the next."""
        if self.row.names == "null" or not self._is_on(now):
            return None
        current = math.floor((now - self.phase) / self.interval)
        start = self.window_start(current)
        stays = self.row.window_hours * HOUR + (LATE_BY if self.row.names == "late" else 0)
        backup = self._backup(current)
        taken = backup is not None and backup.finished_at <= now and self.row.names != "late"
        return start if now < start + stays and not taken else self.window_start(current + 1)

    def droplet(self, now: float) -> dict[str, Any]:
        row, lived = self.row, self._lived(now)
        about = self._backups_about(lived)
        window = self._named_window(now)
        record = records.droplet(
            self.id,
            name=row.name,
            region=row.region,
            size=row.size,
            created_at=self.created_at,
            backup_ids=[one.id for one in about if one.is_kept(lived)],
            snapshot_ids=[
                *map(self._snapshot_id, range(row.snapshots)),
                *(one.id for one in about if one.is_moved(lived)),
            ],
            tags=row.tags,
            status=row.status,
            next_backup_window=None if window is None else records.window(window, row.window_hours),
        )
        if self._is_on(now) and not row.features_lag:
            record["features"] = _FEATURES_WITH_BACKUPS
        return record

    def policy(self, now: float) -> dict[str, Any] | None:
        row = self.row
        if row.record == "none":
            return None
        if not self._is_on(now):
            return records.disabled(self.id)
        missing = {"bare": "backup_policy", "silent": "backup_enabled"}.get(row.record)
        return records.policy(
            self.id,
            plan=row.plan or "daily",
            weekday=self.weekday,
            hour=self.hour,
            window_hours=row.window_hours,
            next_window=self._named_window(now),
            **({missing: records.OMIT} if missing else {}),
        )


class DemoFleet:
    """An account of made-up droplets, for the API to serve; a pure function of its rows, the start and the time."""

    def __init__(self, rows: Sequence[DemoDroplet], start: float) -> None:
        self._machines = [_Machine(index, row, start) for index, row in enumerate(rows)]
        self._start = start

    def droplets(self, now: float) -> Sequence[dict[str, Any]]:
        return [machine.droplet(now) for machine in self._listed]

    def policies(self, now: float) -> Mapping[str, Any]:
        policies = {str(machine.id): machine.policy(now) for machine in self._machines}
        return {droplet_id: policy for droplet_id, policy in policies.items() if policy is not None}

    def backups(self, droplet_id: int, now: float) -> Sequence[dict[str, Any]] | None:
        """Newest first; `None`, which the API answers with 404, for a droplet that is gone."""
        return next((machine.backups(now) for machine in self._listed if machine.id == droplet_id), None)

    def images(self, now: float) -> Sequence[dict[str, Any]]:
        """Custom images, snapshots, and backups. A backup that is still being made is pending and has no size."""
        return [
            records.image(7_555_621, self._start - 90 * DAY, name="golden-base", type="custom"),
            records.image(
                7_555_622, self._start - HOUR, name="upload in progress", type="custom", size=None, status="pending"
            ),
            *(image for machine in self._listed for image in machine.images(now)),
        ]

    def supported_policies(self, now: float) -> Sequence[dict[str, Any]]:  # noqa: ARG002  # they never change
        """Weekly and daily. The API does not list usage-based plans such as `intra_daily_4h`."""
        return [records.supported_policy("weekly"), records.supported_policy("daily")]

    def id_of(self, name: str) -> int:
        """The id of the droplet of that name."""
        return next(machine.id for machine in self._machines if machine.row.name == name)

    @property
    def _listed(self) -> Iterator[_Machine]:
        return (machine for machine in self._machines if machine.row.listed)


def demo_fleet(start: float) -> DemoFleet:
    """The fleet of `serve --demo`; its stories begin at `start`, in Unix seconds."""
    return DemoFleet(DROPLETS, start)


_FEATURES_WITH_BACKUPS = ["backups", "droplet_agent", "private_networking"]


def _first_window(row: DemoDroplet, start: float) -> float:
    """The start of one of the droplet's windows."""
    if row.began is not None:
        return (start - row.began * HOUR) // (4 * HOUR) * 4 * HOUR
    if row.plan == "weekly":
        # 1 January 1970 was a Thursday.
        days = (records.WEEKDAYS.index(row.weekday or "SUN") - 4) % 7
        return days * DAY + row.hour * HOUR
    return row.hour * HOUR


def _noise(index: int, number: int) -> tuple[float, float, float]:
    """Three numbers from 0 to 1 that look random, and are always the same for a droplet and a window."""
    mixed = ((index << 40 ^ number) + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return (mixed & 0xFFFFF) / 0x100000, (mixed >> 20 & 0xFFFFF) / 0x100000, (mixed >> 40 & 0xFFFFF) / 0x100000
