"""A made-up fleet that shows everything a fleet can, changing as time passes.

Nothing here is random and nothing is remembered: what the API says of the fleet follows from the demo's start and the
time, so the same story can be watched, tested and told again. A droplet is a row of data; what becomes of its windows
is written as a story of one letter a window:

    .  a backup is taken
    l  taken late, in the last minutes of the window
    x  none is taken: it fails, or never begins
    h  taken, but under half as large
    s  taken, and listed with type `snapshot` (a restore point all the same)
    m  taken, and some hours later moved to the account's snapshots, so that it leaves the droplet's backups

Window 0 is the latest that began at least twelve hours before the start, so that by the exporter's default grace it is
due then. `past` ends with window 0, and before it all went well; `future` begins with window 1 and repeats for ever.

What to watch, in hours of the demo's time from its start (`--demo.speed` says how fast they pass), judged with the
exporter's default grace:

- `shop-checkout` (daily, the first window begins within 4 hours) misses two windows, takes two, and so on: its story
  repeats every 96 hours. It is overdue by one window from hour 8 to 12.2 on, by two 24 hours later, and well again with
  the backup of its third window, between the hours 48 and 56.
- `shop-search` (daily, begins within 8 hours) misses one window of three: overdue from hour 12 to 16.2 on, well again
  with its next backup, between the hours 28 and 36.
- `db-replica` (daily) is overdue by one window at the start and well with its next backup, between the hours 8 and 16;
  then it misses every seventh.
- `db-analytics` (daily) is overdue by four at the start, misses one more, takes five, misses five, and so on.
- `shop-next`, made an hour before the start, and `crm`, switched on just then, get their first backups within 12 hours.
- `vpn-gateway` never gets one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import chain
from typing import Any, Literal, NamedTuple, overload

from exporter.demo import records

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
INTERVALS = {"daily": DAY, "weekly": 7 * DAY, "intra_daily_4h": 4 * HOUR}
FIRST_DROPLET_ID = 441_000_000
SETTLED = 12 * HOUR
"""How long before the start window 0 began at least."""
SNAPSHOT_KEPT = 28 * DAY
"""When the owner deletes what was moved to the snapshots."""
MOVED_AFTER = 6 * HOUR
LATE_BY = 8 * HOUR
"""How long a policy may go on naming a window that is over."""
MAX_DROPLETS = 1 << 16


@dataclass(frozen=True, slots=True)
class Row:
    """One droplet and the story of its backups."""

    name: str
    plan: Literal["daily", "weekly", "intra_daily_4h"] | None = "daily"
    """`None`: it never had a plan."""
    hour: int = 0
    weekday: str | None = None
    began: float | None = None
    """Instead of hour and weekday: a window began so many hours before the start, or up to four more, as windows begin
    at hours that are multiples of four. Negative: it is to begin, as many hours after the start or up to four less."""
    past: str = ""
    future: str = "."
    history: int | None = None
    """For how many windows, window 0 the last of them, backups had been on; `None`: since the droplet was created."""
    gib: float = 3.0
    """Size of a backup."""
    age: float = 400.0
    """Days since the droplet was created, at the start."""
    size: str = "s-1vcpu-2gb"
    region: str = "nyc3"
    tags: tuple[str, ...] = ()
    status: str = "active"
    record: Literal["full", "disabled", "bare", "silent", "none"] = "full"
    """The policy's record: as documented; off; on, but without the policy; without `backup_enabled`; or none at all."""
    names: Literal["next", "late", "null"] = "next"
    """The window that the policy names: as documented; a past one for some hours; none."""
    window_hours: int = 4
    listed: bool = True
    """Whether the droplet is there at all, or only its policy."""
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

ROWS = (
    # Healthy, at every kind of window.
    Row("web-nyc-01", hour=0, tags=WEB, gib=4.2),
    Row("web-nyc-02", hour=4, tags=WEB, gib=4.4),
    Row("web-ams-01", hour=8, tags=WEB, gib=3.9, region="ams3"),
    Row("web-fra-01", hour=20, tags=WEB, gib=4.1, region="fra1", features_lag=True),
    Row("web-lon-01", "weekly", hour=20, weekday="SUN", tags=WEB, region="lon1"),
    Row("web-sgp-01", "weekly", hour=8, weekday="WED", tags=WEB, region="sgp1"),
    Row("web-syd-01", "weekly", hour=0, weekday="SAT", tags=WEB, region="syd1", window_hours=23),
    Row("shop-frontend", began=0, future="l", tags=WEB, gib=6.5, size="s-2vcpu-4gb"),
    Row("db-primary", hour=16, tags=DATA, gib=58.0, size="m-4vcpu-32gb", snapshots=1),
    Row("session-store", "intra_daily_4h", tags=DATA, gib=2.1),
    Row("metrics-archive", "weekly", began=40, tags=INTERNAL, gib=96.0, size="so-2vcpu-16gb", region="tor1"),
    Row("ml-trainer", hour=12, tags=("team:data", "env:research"), gib=41.0, size="gpu-h100x1-80gb", region="tor1"),
    Row("backoffice", hour=4, tags=INTERNAL, status="off", gib=1.8, size="s-1vcpu-1gb"),
    # Missing windows: once, again and again, in the past.
    Row("shop-checkout", began=-4, future="xx..", tags=WEB, gib=2.6),
    Row("shop-search", began=-8, future="x..", tags=WEB, gib=3.3),
    Row("db-replica", began=12, past="x", future="......x", tags=DATA, gib=11.0, size="s-2vcpu-4gb"),
    Row("db-analytics", began=12, past="xxxx", future="x.....xxxx", tags=DATA, gib=14.0, size="s-4vcpu-8gb"),
    Row("warehouse", "weekly", began=12, past="xx", future="..xx", tags=DATA, gib=16.0, size="so-2vcpu-16gb"),
    Row("ledger", "intra_daily_4h", past="x......xx.......", future=".........x", tags=DATA, gib=1.2),
    Row("event-queue", "intra_daily_4h", future=".....xxxx", tags=DATA, gib=1.5),
    Row("mail-01", hour=12, past="x.x..", future="........x", tags=INTERNAL, gib=7.7, region="ams3"),
    Row("vpn-gateway", began=16, age=6.5, history=0, future="x", tags=INTERNAL, size="s-1vcpu-1gb"),
    # Backups that are odd in themselves.
    Row("wiki", hour=8, past="s....", future="......s", tags=INTERNAL, gib=2.2, snapshots=2),
    Row("build-cache", began=20, past=".", future=".m...", tags=INTERNAL, gib=9.4, size="g-2vcpu-8gb"),
    Row("git-mirror", began=14, past="h", future="...hh", tags=INTERNAL, gib=12.5, size="s-2vcpu-4gb"),
    # Policies that are odd, and droplets that are.
    Row("web-stage-01", hour=16, names="late", tags=STAGE),
    Row("web-stage-02", hour=20, names="null", tags=STAGE),
    Row("api-stage-01", hour=4, record="bare", tags=STAGE),
    Row("api-stage-02", hour=8, record="silent", tags=STAGE),
    Row('кафе "résumé" C:\\tmp\n東京 🦀 {a="b"}', hour=0, tags=("team:кафе", 'note:"x"\\y'), region="fra1"),
    Row("shop-next", began=-4, age=1 / 24, tags=WEB, gib=2.4),
    Row("crm", began=-8, history=0, tags=INTERNAL, gib=5.1),
    Row("destroyed-yesterday", hour=12, listed=False),
    Row("imported", None, record="none", tags=INTERNAL),
    # Not protected: by oversight, on purpose, or because backups cannot be had.
    Row("sandbox", None, record="disabled", tags=("team:web", "env:dev"), age=60),
    Row("legacy-api", hour=8, past="xx", future="x", record="disabled", tags=WEB, gib=3.0, region="sfo3"),
    Row("pool-a1b2c-x7k2p", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=30),
    Row("pool-a1b2c-x7k2q", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=30),
    Row("pool-a1b2c-x7k2r", None, record="disabled", tags=K8S, size="s-2vcpu-4gb", region="fra1", age=3),
)


class _Made(NamedTuple):
    """A backup, from the moment it is begun."""

    of: _Member
    id: int
    created_at: float
    finished_at: float
    leaves_at: float
    """When it is no longer among the droplet's backups."""
    size: float
    moved: bool
    """Whether it then becomes one of the account's snapshots."""
    snapshot: bool


class _View(NamedTuple):
    """A droplet as the API shows it from `since` until `until`."""

    since: float
    until: float
    kept: tuple[_Made, ...]
    """Newest first."""
    images: tuple[_Image, ...]
    """What the account's private images hold of it."""
    droplet: dict[str, Any]
    policy: dict[str, Any] | None


class _Member:
    """One droplet of the fleet; keeps its last view, which stands until something happens to it."""

    __slots__ = ("_view", "created_at", "id", "index", "interval", "phase", "row", "start", "weekday", "zero")

    def __init__(self, index: int, row: Row, start: float) -> None:
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
        self._view: _View | None = None

    @property
    def hour(self) -> int:
        return 0 if self.row.plan == "intra_daily_4h" else int(self.phase % DAY // HOUR)

    @property
    def window_hours(self) -> int:
        return self.row.window_hours

    def window_start(self, number: int) -> float:
        return self.phase + number * self.interval

    def view(self, now: float) -> _View:
        view = self._view
        if view is None or not view.since <= now < view.until:
            view = self._view = self._look(now)
        return view

    def _outcome(self, number: int) -> str:
        """The letter of a window's story."""
        row, relative = self.row, number - self.zero
        if self.window_start(number) < self.created_at or (row.history is not None and relative <= -row.history):
            return "x"
        if relative > 0:
            return row.future[(relative - 1) % len(row.future)]
        place = len(row.past) - 1 + relative
        return row.past[place] if place >= 0 else "."

    def _made(self, number: int) -> _Made | None:
        """The backup that a window has or will have."""
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
        return _Made(
            of=self,
            id=(number << 16) + self.index,
            created_at=created_at,
            finished_at=finished_at,
            leaves_at=finished_at + MOVED_AFTER if letter == "m" else created_at + retention,
            size=size,
            moved=letter == "m",
            snapshot=letter == "s",
        )

    def _look(self, now: float) -> _View:
        row = self.row
        if row.plan is None or row.record == "disabled":
            # Nothing happens to it any more: what it has is what it had at the start.
            made = [] if row.plan is None else self._backups_about(self.start)
            kept = tuple(one for one in made if one.finished_at <= self.start < one.leaves_at)
            return self._view_of(-math.inf, math.inf, kept, (), (), None)
        made = self._backups_about(now)
        events = [time for one in made for time in (one.created_at, one.finished_at, one.leaves_at)]
        events += [one.leaves_at + SNAPSHOT_KEPT for one in made if one.moved]
        current = math.floor((now - self.phase) / self.interval)
        for number in range(current - 1, current + 2):
            start = self.window_start(number)
            end = start + row.window_hours * HOUR
            events += [start, end, end + LATE_BY]
        return self._view_of(
            max((time for time in events if time <= now), default=-math.inf),
            min((time for time in events if time > now), default=math.inf),
            tuple(one for one in made if one.finished_at <= now < one.leaves_at),
            tuple(one for one in made if one.moved and one.leaves_at <= now < one.leaves_at + SNAPSHOT_KEPT),
            tuple(one for one in made if one.created_at <= now < one.finished_at),
            self._named_window(now),
        )

    def _view_of(
        self,
        since: float,
        until: float,
        kept: tuple[_Made, ...],
        moved: tuple[_Made, ...],
        pending: tuple[_Made, ...],
        named: float | None,
    ) -> _View:
        images = [_Image(snapshot, snapshot.status) for snapshot in _own_snapshots(self)]
        images += [_Image(made, "pending") for made in pending]
        images += [_Image(made, "available") for made in kept]
        images += [_Image(made, "available", moved=True) for made in moved]
        return _View(
            since, until, kept, tuple(images), self._droplet_record(kept, moved, named), self._policy_record(named)
        )

    def _backups_about(self, now: float) -> list[_Made]:
        """Newest first, all that are begun, kept or moved now, and the next."""
        keep = records.RETENTION_DAYS[self.row.plan or "daily"] * DAY
        if "m" in self.row.future:
            keep = max(keep, SNAPSHOT_KEPT + MOVED_AFTER)
        last = math.floor((now - self.phase) / self.interval) + 1
        first = math.floor((now - keep - self.phase) / self.interval) - 1
        return [made for number in range(last, first - 1, -1) if (made := self._made(number)) is not None]

    def _named_window(self, now: float) -> float | None:
        """The start of the window that the policy names: the open one until its backup is there, else the next."""
        if self.row.names == "null":
            return None
        current = math.floor((now - self.phase) / self.interval)
        start = self.window_start(current)
        stays = self.row.window_hours * HOUR + (LATE_BY if self.row.names == "late" else 0)
        made = self._made(current)
        taken = made is not None and made.finished_at <= now and self.row.names != "late"
        return start if now < start + stays and not taken else self.window_start(current + 1)

    def _droplet_record(self, kept: Sequence[_Made], moved: Sequence[_Made], named: float | None) -> dict[str, Any]:
        row = self.row
        own = [one.id for one in _own_snapshots(self)]
        record = records.droplet(
            self.id,
            name=row.name,
            region=row.region,
            size=row.size,
            created_at=self.created_at,
            backup_ids=[one.id for one in kept],
            snapshot_ids=[*own, *(one.id for one in moved)],
            tags=row.tags,
            status=row.status,
            next_backup_window=_window(named, row.window_hours),
        )
        if row.plan is not None and row.record != "disabled" and not row.features_lag:
            record["features"] = _FEATURES_WITH_BACKUPS
        return record

    def _policy_record(self, named: float | None) -> dict[str, Any] | None:
        row = self.row
        if row.record == "none":
            return None
        if row.record == "disabled":
            return records.disabled(self.id)
        record = {
            "droplet_id": self.id,
            "backup_enabled": True,
            "backup_policy": _settings(row.plan or "daily", self.weekday, self.hour, row.window_hours),
            "next_backup_window": _window(named, row.window_hours),
        }
        if row.record == "bare":
            del record["backup_policy"]
        elif row.record == "silent":
            del record["backup_enabled"]
        return record


class _Moment:
    """The whole fleet, as it stands from `since` until `until`: listings of many pages are made once."""

    def __init__(self, members: Sequence[_Member], start: float, now: float) -> None:
        views = [(member, member.view(now)) for member in members]
        self._views = views
        self._start = start
        self.since = max((view.since for _, view in views), default=-math.inf)
        self.until = min((view.until for _, view in views), default=math.inf)

    @cached_property
    def droplets(self) -> list[dict[str, Any]]:
        return [view.droplet for member, view in self._views if member.row.listed]

    @cached_property
    def policies(self) -> dict[str, Any]:
        return {str(member.id): view.policy for member, view in self._views if view.policy is not None}

    @cached_property
    def images(self) -> list[_Image]:
        images = [_Image(custom, custom.status) for custom in _custom_images(self._start)]
        images += chain.from_iterable(view.images for member, view in self._views if member.row.listed)
        return images


class MadeUpFleet:
    """An account of made-up droplets, for `Api` to serve; a pure function of its rows, the start and the time."""

    def __init__(self, rows: Sequence[Row], start: float) -> None:
        if len(rows) > MAX_DROPLETS:
            raise ValueError(f"{len(rows)} rows, and a made-up fleet holds at most {MAX_DROPLETS}")
        self._members = [_Member(index, row, start) for index, row in enumerate(rows)]
        self._by_id = {member.id: member for member in self._members}
        self._start = start
        self._moment: _Moment | None = None

    def droplets(self, now: float) -> Sequence[dict[str, Any]]:
        return self._at(now).droplets

    def policies(self, now: float) -> Mapping[str, Any]:
        return self._at(now).policies

    def backups(self, droplet_id: int, now: float) -> Sequence[dict[str, Any]] | None:
        """Newest first. A droplet that only its policy tells of is gone: 404."""
        member = self._by_id.get(droplet_id)
        if member is None or not member.row.listed:
            return None
        return [_backup_record(made) for made in member.view(now).kept]

    def images(self, now: float) -> Sequence[dict[str, Any]]:
        """Custom images, snapshots, and backups: those still being made, too, pending and of no known size."""
        return _Lazy(self._at(now).images, _image_record)

    def supported_policies(self, now: float) -> Sequence[dict[str, Any]]:  # noqa: ARG002 - they never change
        """Weekly and daily; usage-based plans such as `intra_daily_4h` are not listed by the API."""
        return [records.supported_policy("weekly"), records.supported_policy("daily")]

    def id_of(self, name: str) -> int:
        """The id of the droplet of that name."""
        return next(member.id for member in self._members if member.row.name == name)

    def _at(self, now: float) -> _Moment:
        moment = self._moment
        if moment is None or not moment.since <= now < moment.until:
            moment = self._moment = _Moment(self._members, self._start, now)
        return moment


def demo_fleet(start: float) -> MadeUpFleet:
    """The fleet of `serve --demo`, whose story begins at `start` (Unix seconds)."""
    return MadeUpFleet(ROWS, start)


def fleet_of(
    count: int, start: float, *, weekly_share: float = 1 / 3, intra_daily_share: float = 0.0, gib: float = 3.0
) -> MadeUpFleet:
    """So many healthy droplets for benchmarks, the rest of them daily, their windows spread evenly; one has GPUs."""
    rows = []
    for index in range(count):
        share = (index + 0.5) / count
        plan: Literal["daily", "weekly", "intra_daily_4h"] = "daily"
        if share < weekly_share:
            plan = "weekly"
        elif share < weekly_share + intra_daily_share:
            plan = "intra_daily_4h"
        rows.append(
            Row(
                f"node-{index:05d}",
                plan,
                hour=records.HOURS[index % len(records.HOURS)],
                weekday=records.WEEKDAYS[index // len(records.HOURS) % 7],
                region=_SPREAD_REGIONS[index % len(_SPREAD_REGIONS)],
                size="gpu-h100x1-80gb" if index == count - 1 else "s-1vcpu-2gb",
                tags=_SPREAD_TAGS[index % len(_SPREAD_TAGS)],
                gib=gib,
            )
        )
    return MadeUpFleet(rows, start)


_SPREAD_REGIONS = tuple(records.REGION_NAMES)
_SPREAD_TAGS = (WEB, DATA, INTERNAL, STAGE)
_FEATURES_WITH_BACKUPS = ["backups", "droplet_agent", "private_networking"]


class _Lazy(Sequence[dict[str, Any]]):
    """Records that are made when they are asked for: a page of 200, out of tens of thousands."""

    def __init__(self, items: Sequence[Any], make: Callable[[Any], dict[str, Any]]) -> None:
        self._items = items
        self._make = make

    def __len__(self) -> int:
        return len(self._items)

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> dict[str, Any] | list[dict[str, Any]]:
        if isinstance(index, slice):
            return [self._make(item) for item in self._items[index]]
        return self._make(self._items[index])


class _Custom(NamedTuple):
    """An image that no droplet's backup became."""

    id: int
    name: str
    created_at: float
    size: float | None
    kind: str
    status: str
    region: str


class _Image(NamedTuple):
    """One of the account's private images, as it stands at a moment."""

    of: _Made | _Custom
    status: str
    moved: bool = False
    """Whether it left its droplet's backups for the account's snapshots."""


def _custom_images(start: float) -> list[_Custom]:
    return [
        _Custom(7_555_621, "golden-base", start - 90 * DAY, 2.34, "custom", "available", "nyc3"),
        _Custom(7_555_622, "upload in progress", start - HOUR, None, "custom", "pending", "nyc3"),
    ]


def _own_snapshots(member: _Member) -> list[_Custom]:
    """Ids below any of a backup's, and distinct from the custom images'."""
    return [
        _Custom(
            9_000_000 + member.index * 100 + number,
            f"{member.row.name}-before-upgrade-{number + 1}",
            member.start - (20 + 9 * number) * DAY,
            round(member.row.gib, 2),
            "snapshot",
            "available",
            member.row.region,
        )
        for number in range(member.row.snapshots)
    ]


def _image_record(image: _Image) -> dict[str, Any]:
    one = image.of
    if isinstance(one, _Custom):
        return records.image(
            one.id,
            one.created_at,
            size=one.size,
            name=one.name,
            type=one.kind,
            status=image.status,
            regions=[one.region],
        )
    return records.image(
        one.id,
        one.created_at,
        **_backup_attributes(one),
        size=None if image.status == "pending" else one.size,
        type="snapshot" if one.snapshot or image.moved else "backup",
        status=image.status,
    )


def _backup_record(made: _Made) -> dict[str, Any]:
    return records.backup(
        made.id,
        made.created_at,
        **_backup_attributes(made),
        size=made.size,
        type="snapshot" if made.snapshot else "backup",
    )


def _backup_attributes(made: _Made) -> dict[str, Any]:
    row = made.of.row
    return {
        "name": f"{row.name}- {records.instant(made.created_at)[:10]}",
        "regions": [row.region],
        "min_disk_size": records.size_record(row.size)["disk"],
    }


def _first_window(row: Row, start: float) -> float:
    """The start of one of its windows, after 1970."""
    if row.began is not None:
        return (start - row.began * HOUR) // (4 * HOUR) * 4 * HOUR
    if row.plan == "weekly":
        # 1 January 1970 was a Thursday.
        days = (records.WEEKDAYS.index(row.weekday or "SUN") - 4) % 7
        return days * DAY + row.hour * HOUR
    return row.hour * HOUR


@cache
def _settings(plan: str, weekday: str | None, hour: int, window_hours: int) -> dict[str, Any]:
    settings: dict[str, Any] = records.policy(0, plan=plan, weekday=weekday, hour=hour, window_hours=window_hours)
    return dict(settings["backup_policy"])


def _window(start: float | None, hours: int) -> dict[str, str] | None:
    return None if start is None else records.window(start, hours)


def _noise(index: int, number: int) -> tuple[float, float, float]:
    """Three numbers from 0 to 1 that look random and are the same every time."""
    mixed = ((index << 40 ^ number) + 0x9E3779B97F4A7C15) * 0xBF58476D1CE4E5B9 & 0xFFFFFFFFFFFFFFFF
    mixed = (mixed ^ mixed >> 27) * 0x94D049BB133111EB & 0xFFFFFFFFFFFFFFFF
    mixed ^= mixed >> 31
    return (mixed & 0xFFFFF) / 0x100000, (mixed >> 20 & 0xFFFFF) / 0x100000, (mixed >> 40 & 0xFFFFF) / 0x100000
