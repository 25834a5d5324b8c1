"""A second opinion on overdue backups: plain, slow, and written from the metrics contract alone.

It shares no code with `exporter.fleet.schedule` and `exporter.fleet.history`, only the values of
`exporter.fleet.model`. Where they compute, it counts: it remembers every backup it was ever told of, and walks from
window to window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from exporter.fleet.model import GIB, Backup, Policy, SupportedPolicy, Window

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
DAY = timedelta(days=1)
WEEK = timedelta(days=7)
NOTHING = timedelta(0)
EARLY = timedelta(minutes=15)
"""How long before its window a backup may be created and be of it, and by how much a window may move unnoticed."""
PER_GIB = timedelta(minutes=3)
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")


def instant(seconds: float) -> datetime:
    return EPOCH + timedelta(seconds=seconds)


def interval(plan: str | None) -> timedelta | None:
    """`daily` 86400, `weekly` 604800, `intra_daily_Nh` N*3600; none for a plan not known."""
    if plan == "daily":
        return DAY
    if plan == "weekly":
        return WEEK
    if plan is not None and plan.startswith("intra_daily_") and plan.endswith("h"):
        number = plan[len("intra_daily_") : -1]
        if number and all(letter in "0123456789" for letter in number) and 0 < int(number) < 10_000:
            return timedelta(hours=int(number))
    return None


def starts(anchor: datetime, every: timedelta, first: datetime, last: datetime) -> list[datetime]:
    """The starts of windows: the latest no later than `first`, and all after it that are no later than `last`."""
    start = anchor
    while start > first:
        start -= every
    while start + every <= first:
        start += every
    found = [start]
    while found[-1] + every <= last:
        found.append(found[-1] + every)
    return found


def belongs_to(created: datetime, anchor: datetime, every: timedelta) -> datetime:
    """The start of the latest window that starts no later than 15 minutes after the backup was created."""
    return starts(anchor, every, created + EARLY, created + EARLY)[0]


def apart(one: datetime, other: datetime, every: timedelta) -> timedelta:
    """How far `one` lies from the nearest of the windows that repeat through `other`."""
    before = starts(other, every, one, one)[0]
    return min(one - before, before + every - one)


def clock_start(plan: str | None, hour: int | None, weekday: str | None) -> datetime | None:
    """Some window's start by the policy's hour and weekday: one in January 2024, whose first day was a Monday."""
    every = interval(plan)
    if every is None or hour is None:
        return None
    if every != WEEK and DAY % every:
        return None  # Its windows are at other hours every day: the hour alone does not place them.
    day = datetime(2024, 1, 1, tzinfo=UTC)
    if every == WEEK:
        if weekday not in WEEKDAYS:
            return None
        while WEEKDAYS[day.weekday()] != weekday:
            day += DAY
    return day + timedelta(hours=hour)


def hours_until(window: Window | None, every: float | None, now: float) -> float | None:
    """Hours to the start of the first window, from the named one on, that is open or to come; 0 while it is open."""
    if window is None:
        return None
    start, end, at = instant(window.start), instant(window.end), instant(now)
    while at > start and at >= end:
        if every is None:
            return None
        start += timedelta(seconds=every)
        end += timedelta(seconds=every)
    if at >= start:
        return 0.0
    return (start - at) / timedelta(hours=1)


@dataclass(frozen=True)
class Schedule:
    """Where the windows lie that are judged."""

    anchor: datetime
    every: timedelta
    length: timedelta


def schedule_of(policy: Policy, supported: SupportedPolicy | None) -> Schedule | None:
    every = interval(policy.plan)
    if every is None:
        return None
    lengths = []
    if policy.next_window is not None:
        lengths.append(instant(policy.next_window.end) - instant(policy.next_window.start))
    if policy.window_length is not None:
        lengths.append(timedelta(seconds=policy.window_length))
    if not lengths and supported is not None and supported.window_length is not None:
        lengths.append(timedelta(seconds=supported.window_length))
    if not lengths:
        return None
    if policy.next_window is not None:
        anchor = instant(policy.next_window.start)
    else:
        by_clock = clock_start(policy.plan, policy.hour, policy.weekday)
        if by_clock is None:
            return None
        anchor = by_clock
    return Schedule(anchor, every, max(lengths))


@dataclass
class Oracle:
    """All that was ever seen of one Droplet."""

    first_seen: float
    backups: dict[int, Backup] = field(default_factory=dict)
    read_at: float | None = None
    changed_at: float | None = None
    enabled: bool | None = None
    plan: str | None = None
    named_start: datetime | None = None
    clock: datetime | None = None
    named_length: timedelta | None = None
    policy_length: timedelta | None = None
    supported_length: timedelta | None = None

    def with_policy(self, policy: Policy | None, supported: SupportedPolicy | None, now: float) -> None:
        """Compare each value with its own last known one, and remember it."""
        if policy is None:
            return
        changed = False
        if policy.enabled is not None:
            changed |= self.enabled is not None and self.enabled != policy.enabled
            self.enabled = policy.enabled
        if policy.plan is not None:
            changed |= self.plan is not None and self.plan != policy.plan
            self.plan = policy.plan
        changed |= self._phase_changed(policy)
        changed |= self._length_changed(policy, supported)
        if changed:
            self.changed_at = now

    def _phase_changed(self, policy: Policy) -> bool:
        every = interval(self.plan)
        before, named_before = self.clock, self.named_start
        clock = clock_start(self.plan, policy.hour, policy.weekday)
        if clock is not None:
            self.clock = clock
        if policy.next_window is not None:
            self.named_start = instant(policy.next_window.start)
            return (
                every is not None and named_before is not None and apart(self.named_start, named_before, every) >= EARLY
            )
        if every is None or clock is None or before is None or apart(clock, before, every) < EARLY:
            return False
        self.named_start = clock
        return True

    def _length_changed(self, policy: Policy, supported: SupportedPolicy | None) -> bool:
        before = self._length()
        if policy.next_window is not None:
            self.named_length = instant(policy.next_window.end) - instant(policy.next_window.start)
        if policy.window_length is not None:
            self.policy_length = timedelta(seconds=policy.window_length)
        if supported is not None and supported.window_length is not None:
            self.supported_length = timedelta(seconds=supported.window_length)
        after = self._length()
        return before is not None and after is not None and abs(after - before) >= EARLY

    def _length(self) -> timedelta | None:
        if self.named_length is not None and self.policy_length is not None:
            return max(self.named_length, self.policy_length)
        if self.named_length is not None:
            return self.named_length
        if self.policy_length is not None:
            return self.policy_length
        return self.supported_length

    def with_backups(self, backups: Iterable[Backup], now: float) -> None:
        for backup in backups:
            if instant(backup.created_at) <= instant(now) + DAY:
                known = self.backups.get(backup.id)
                if known is not None and backup.size is None:
                    continue  # a size once told is not forgotten
                self.backups[backup.id] = backup

    def with_reading(self, read_at: float) -> None:
        self.read_at = read_at

    def in_order(self) -> list[Backup]:
        return sorted(self.backups.values(), key=lambda backup: (backup.created_at, backup.id))

    def allowance(self, disk: float | None) -> timedelta:
        """What a backup may take: 3 minutes for each GiB of the newest ever seen, else of the disk."""
        ordered = self.in_order()
        size = ordered[-1].size if ordered else None
        if size is None:
            size = disk
        return NOTHING if size is None else PER_GIB * (size / GIB)

    def baseline(self, schedule: Schedule, disk: float | None) -> datetime:
        if self.changed_at is not None:
            return instant(self.changed_at)
        ordered = self.in_order()
        if ordered and self._is_as_planned(ordered, schedule, disk):
            return instant(ordered[-1].created_at)
        return instant(self.first_seen)

    def _is_as_planned(self, ordered: list[Backup], schedule: Schedule, disk: float | None) -> bool:
        """Whether the newest lies in a window, and the one before it is of the same window or the one just before."""
        created = instant(ordered[-1].created_at)
        lies_in_one = False
        for start in starts(schedule.anchor, schedule.every, created - schedule.length - WEEK, created + WEEK):
            if start - EARLY <= created <= start + schedule.length + self.allowance(disk):
                lies_in_one = True
        if not lies_in_one or len(ordered) == 1:
            return lies_in_one
        own = belongs_to(created, schedule.anchor, schedule.every)
        before = belongs_to(instant(ordered[-2].created_at), schedule.anchor, schedule.every)
        return before in (own, own - schedule.every)

    def due_windows(
        self, policy: Policy, supported: SupportedPolicy | None, disk: float | None, grace: float, until: datetime
    ) -> list[tuple[datetime, datetime]]:
        """Start and due moment of each window that counts and that no backup answers, started by `until`."""
        schedule = schedule_of(policy, supported)
        if schedule is None:
            return []
        after = self.baseline(schedule, disk)
        ordered = self.in_order()
        answered = None
        if ordered:
            answered = belongs_to(instant(ordered[-1].created_at), schedule.anchor, schedule.every)
        found = []
        for start in starts(schedule.anchor, schedule.every, after, until):
            if start > after and (answered is None or start > answered):
                due = start + schedule.length + timedelta(seconds=grace) + self.allowance(disk)
                found.append((start, due))
        return found

    def judge(
        self,
        policy: Policy | None,
        supported: SupportedPolicy | None,
        disk: float | None,
        grace: float,
        now: float,
        *,
        backups_known: bool,
        unread: bool,
    ) -> tuple[int | None, bool]:
        """`missed_windows` (none: absent), and whether the Droplet counts as unjudged."""
        if policy is None or policy.enabled is not True or schedule_of(policy, supported) is None:
            return None, False
        if not backups_known:
            return None, unread
        proven = unproven = 0
        for _, due in self.due_windows(policy, supported, disk, grace, instant(now)):
            if due > instant(now):
                continue
            if self.read_at is not None and due <= instant(self.read_at) <= instant(now):
                proven += 1
            else:
                unproven += 1
        if unproven:
            return (proven if proven > 0 else None), True
        return proven, False
