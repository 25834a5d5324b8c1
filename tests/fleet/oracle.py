"""A second opinion on one Droplet's backups, written from the metrics contract alone (`metrics.md`, "Verdicts").

It is slow and plain. It takes all that was observed of the Droplet, in the order of time, and works out from the whole
of it what is true at an instant. It shares nothing with `exporter.fleet`; sentences of the contract are quoted where
they are carried out. Instants are Unix seconds, lengths of time are seconds, sizes are GiB.

    Oracle(Config(), [Poll(at=..., policy=..., droplet=..., reading=Reading(...))]).verdict(now)
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import Enum
from functools import cached_property
from typing import Literal

MINUTE = 60.0
HOUR = 3600.0
DAY = 24 * HOUR
WEEK = 7 * DAY
EARLY = 15 * MINUTE
PER_GIB = 3 * MINUTE
"""How long a backup takes for each GiB, at most."""
CLOCKS_DIFFER = HOUR
MONDAY = datetime(2024, 1, 1, tzinfo=UTC).timestamp()
WEEKDAYS = ("MON", "TUE", "WED", "THU", "FRI", "SAT", "SUN")

# --- What can be observed ---


class Odd(Enum):
    REJECTED = "a record that could not be understood"


REJECTED = Odd.REJECTED


@dataclass(frozen=True)
class Policy:
    """A record of the policies listing; `None` where it lacks a value."""

    enabled: bool | None = None
    plan: str | None = None
    hour: int | None = None
    weekday: str | None = None
    window_length: float | None = None
    retention: float | None = None
    window: tuple[float, float] | None = None
    """Start and end of `next_backup_window`."""


@dataclass(frozen=True)
class Droplet:
    """A record of the droplet listing; `None` where it lacks a value."""

    created_at: float | None = None
    disk: float | None = None
    tags: tuple[str, ...] | None = ()
    backup_ids: tuple[int, ...] | None = ()
    snapshot_ids: tuple[int, ...] | None = ()
    volume_ids: tuple[str, ...] | None = ()


@dataclass(frozen=True)
class Backup:
    id: int
    created_at: float
    size: float | None = None


@dataclass(frozen=True)
class Reading:
    """An attempt to read the Droplet's own list."""

    asked_at: float
    answer: Literal["read", "failed", "404"] = "read"
    backups: tuple[Backup, ...] = ()
    """Of a list that failed on a later page: those that were seen before it failed."""


@dataclass(frozen=True)
class Poll:
    """What one poll observed of the Droplet: first the listings, then the images, then its own list."""

    at: float
    policy: Policy | Odd | None = None
    policies_complete: bool = True
    droplet: Droplet | Odd | None = None
    droplets_complete: bool = True
    tells_ids: bool = True
    """Whether the droplet listing shows a backup's id on some Droplet."""
    images: tuple[Backup, ...] = ()
    """What a sweep over the account's images found for ids that the droplet listing named."""
    reading: Reading | None = None
    unread: bool = False
    """Whether the own list had to be read in this poll and was not."""
    clock_offset: float | None = 0.0
    """By how much the API's clock was ahead of the exporter's; `None`: nothing answered."""
    not_found: bool = False
    """Whether `/v2/droplets/{id}` was asked and answered 404."""


@dataclass(frozen=True)
class Restart:
    at: float
    keeps_state: bool


Event = Poll | Restart


@dataclass(frozen=True)
class Supported:
    window_length: float | None = None
    retention: float | None = None


@dataclass(frozen=True)
class Config:
    grace: float = 4 * HOUR
    max_age: float | None = None
    """What `max_age` of the configuration says for this Droplet."""
    unexpected_tags: frozenset[str] = frozenset({"k8s"})
    """`expect_backups.exclude.tags`."""
    supported: Mapping[str, Supported] = field(default_factory=dict)


# --- What is said of it ---


@dataclass(frozen=True)
class Verdict:
    state: str
    reason: str | None
    """Why it cannot be judged, whatever the state."""
    missed: tuple[float, ...]
    """The starts of the missed windows that are shown, the oldest first."""
    missed_windows: int | None
    stale: bool | None
    max_age: float | None
    lost: int | None
    hours_until: float | None
    kept: int | None
    attached_volumes: int | None

    @property
    def overdue(self) -> bool | None:
        return None if self.missed_windows is None else self.missed_windows > 0


# --- Windows ---


def interval_of(plan: str | None) -> float | None:
    """`daily` 86400, `weekly` 604800, `intra_daily_Nh` N*3600; absent for a plan not known."""
    if plan == "daily":
        return DAY
    if plan == "weekly":
        return WEEK
    if plan is not None and plan.startswith("intra_daily_") and plan.endswith("h"):
        number = plan[len("intra_daily_") : -1]
        if number.isascii() and number.isdigit() and len(number) <= 4 and int(number) > 0:
            return int(number) * HOUR
    return None


def phase_of(policy: Policy) -> float | None:
    """Some window's start by hour and weekday.

    "Where these tell none (missing, or an interval that does not divide the day), ..."
    """
    every = interval_of(policy.plan)
    if every is None or policy.hour is None:
        return None
    if every == WEEK:
        if policy.weekday not in WEEKDAYS:
            return None
        return MONDAY + WEEKDAYS.index(policy.weekday) * DAY + policy.hour * HOUR
    return MONDAY + policy.hour * HOUR if DAY % every == 0 else None


def apart(one: float, other: float, every: float) -> float:
    """How far two starts lie from each other, "going round the interval"."""
    return min((one - other) % every, (other - one) % every)


@dataclass(frozen=True)
class Schedule:
    """ "Windows repeat every interval, forwards and backwards." """

    anchor: float
    every: float
    length: float

    def latest(self, instant: float) -> float:
        """The start of the latest window that has started by then."""
        return self.anchor + (instant - self.anchor) // self.every * self.every

    def starts(self, after: float, until: float) -> list[float]:
        """All starts later than the one instant and no later than the other."""
        found = []
        start = self.latest(after) + self.every
        while start <= until:
            found.append(start)
            start += self.every
        return found


# --- The oracle ---


class Oracle:
    """Says what is true of one Droplet at any instant, given all that was observed of it."""

    def __init__(self, config: Config, events: Sequence[Event]) -> None:
        self.config = config
        self.events = list(events)
        self._after: list[Past | None] = [None]
        """What is remembered after so many of the events; `None` where the Droplet is not known."""
        for event in self.events:
            past = self._remember(self._after[-1], event)
            if past is not None:
                past._judgements  # noqa: B018  # worked out from the oldest on, so that no recursion is deep
            self._after.append(past)

    def verdict(self, now: float) -> Verdict | None:
        """What is true then; `None` where the Droplet is not known, so that it has no series."""
        past = self.past(now)
        return past.verdict(now) if past is not None else None

    def past(self, now: float) -> Past | None:
        return self._after[sum(1 for event in self.events if event.at <= now)]

    def _remember(self, before: Past | None, event: Event) -> Past | None:
        if isinstance(event, Restart):
            return before if event.keeps_state else None
        if before is None:
            understood = isinstance(event.policy, Policy) or isinstance(event.droplet, Droplet)
            return Past(self.config, (event,), None) if understood else None
        past = Past(self.config, (*before.polls, event), before)
        return None if past.is_gone else past


class Past:
    """All polls that are remembered at some moment, and what follows from them."""

    def __init__(self, config: Config, polls: tuple[Poll, ...], before: Past | None) -> None:
        self.config = config
        self.polls = polls
        self.before = before
        """The same, without the last poll."""

    # Who is there

    @cached_property
    def is_gone(self) -> bool:
        """ "... once two successive polls with complete listings name it neither among the droplets nor among the
        policies, or one does not and its own endpoint answers 404. [...] Anything else removes nothing."
        """
        complete = [poll for poll in self.polls if poll.policies_complete and poll.droplets_complete]
        absent = [poll.policy is None and poll.droplet is None for poll in complete]
        if not absent or not absent[-1] or complete[-1] is not self.polls[-1]:
            return False
        # A record that any poll since shows, complete or not, is a sight of the Droplet too.
        seen_since = False
        for poll in reversed(self.polls[:-1]):
            if poll.policies_complete and poll.droplets_complete:
                break
            seen_since = seen_since or poll.policy is not None or poll.droplet is not None
        return self.polls[-1].not_found or (len(absent) > 1 and absent[-2] and not seen_since)

    @cached_property
    def first_seen(self) -> float:
        """Its first sight: it shows whether backups are on "then", so it is no sooner than the first that could."""
        return next((at for at, _ in self._flags()), self.polls[0].at)

    @cached_property
    def droplet(self) -> Droplet | None:
        """Its last description: of a record that is rejected, "what was known of it before stays"."""
        records = [poll.droplet for poll in self.polls if isinstance(poll.droplet, Droplet)]
        return records[-1] if records else None

    @cached_property
    def expected(self) -> bool | None:
        """ "Records without `tags` tell nothing of tags: what depends on them is unknown, not 'no'." """
        if not self.config.unexpected_tags:
            return True
        if self.droplet is None or self.droplet.tags is None:
            return None
        return self.config.unexpected_tags.isdisjoint(self.droplet.tags)

    @cached_property
    def listed_as_droplet(self) -> bool:
        """Whether the last listing of droplets that could tell named it."""
        for poll in reversed(self.polls):
            if poll.droplet is not None:
                return True
            if poll.droplets_complete:
                return False
        return False

    @cached_property
    def clocks_differ(self) -> bool:
        """ "the API's clock and ours differ by more than an hour" """
        told = [poll.clock_offset for poll in self.polls if poll.clock_offset is not None]
        return bool(told) and abs(told[-1]) > CLOCKS_DIFFER

    # Whether backups are on

    def _flags(self) -> Iterator[tuple[float, bool | None]]:
        """What each poll said of it; `None`: "it said nothing (no record, and one without the flag, alike)".

        "a poll or two that could not ask changes nothing"
        """
        for poll in self.polls:
            if isinstance(poll.policy, Policy) and poll.policy.enabled is not None:
                yield poll.at, poll.policy.enabled
            elif poll.policy is not REJECTED and poll.policies_complete:
                yield poll.at, None

    @cached_property
    def _switch(self) -> tuple[bool | None, float | None, float | None]:
        """Whether backups are on, since when that is known, and when they were seen to be switched on.

        "Backups are known to be on from the first sight, if they were on then; else from the poll at which the policy
        said so after it had said that they are off, or after two successive complete listings in which it said nothing"
        """
        on: bool | None = None
        since = switched = None
        silent, from_first_sight = 0, True
        for at, flag in self._flags():
            if flag is None:
                silent += 1
                if silent >= 2:
                    on, from_first_sight = None, False
            else:
                if flag and on is not True:
                    since = self.first_seen if from_first_sight else at
                    switched = switched if from_first_sight else at
                if not flag:
                    from_first_sight = False
                on, silent = flag, 0
        return on, since, switched

    @property
    def on(self) -> bool | None:
        return self._switch[0]

    @property
    def on_since(self) -> float | None:
        return self._switch[1]

    @property
    def switched_on_at(self) -> float | None:
        return self._switch[2]

    # The owner's settings

    @cached_property
    def policy(self) -> Policy | None:
        """The record that stands. "A policy is gone after two successive complete policy listings without it." """
        record, absences = None, 0
        for poll in self.polls:
            if isinstance(poll.policy, Policy):
                record, absences = poll.policy, 0
            elif poll.policy is REJECTED:
                absences = 0
            elif poll.policies_complete:
                absences += 1
                if absences >= 2:
                    record = None
        return record

    def _records(self) -> Iterator[tuple[float, Policy]]:
        for poll in self.polls:
            if isinstance(poll.policy, Policy):
                yield poll.at, poll.policy

    @cached_property
    def named(self) -> tuple[float | None, float | None]:
        """Start and length of "the window that the API named last, remembered while `next_backup_window` is null"

        A start that was named before plan, hour or weekday changed is one of windows that are no more.
        """
        start = length = None
        chosen: dict[str, str | int] = {}
        for _, record in self._records():
            told = {"plan": record.plan, "hour": record.hour, "weekday": record.weekday}
            latest = chosen | {name: value for name, value in told.items() if value is not None}
            if any(latest[name] != value for name, value in chosen.items()):
                start = None
            chosen = latest
            if record.window is not None:
                start, length = record.window[0], max(0.0, record.window[1] - record.window[0])
        return start, length

    @cached_property
    def _changes(self) -> tuple[float | None, float | None]:
        """When the settings last changed, and when the plan did, as far as was seen.

        "The settings are plan, hour and weekday; the start that the API names is one of them only where hour and
        weekday tell no phase, and then only if it moves by 15 minutes or more, going round the interval. A value that
        is missing for a while is no change."
        """
        changed = plan_changed = None
        plan = hour = weekday = named = None
        for at, record in self._records():
            if record.plan is not None:
                if plan is not None and record.plan != plan:
                    changed = plan_changed = at
                plan = record.plan
            if record.hour is not None:
                if hour is not None and record.hour != hour:
                    changed = at
                hour = record.hour
            if record.weekday is not None:
                if weekday is not None and record.weekday != weekday:
                    changed = at
                weekday = record.weekday
            if changed == at:
                named = None
            if record.window is not None:
                every = interval_of(record.plan)
                if (
                    phase_of(record) is None
                    and every is not None
                    and named is not None
                    and apart(record.window[0], named, every) >= EARLY
                ):
                    changed = at
                named = record.window[0]
        return changed, plan_changed

    @property
    def settings_changed_at(self) -> float | None:
        return self._changes[0]

    @property
    def plan_changed_at(self) -> float | None:
        return self._changes[1]

    # Schedule

    @cached_property
    def interval(self) -> float | None:
        return interval_of(self.policy.plan) if self.policy is not None else None

    @cached_property
    def _length(self) -> float | None:
        """ "the longer of the policy's `window_length_hours` and the length of the window named last; with neither, the
        supported policy's"
        """
        told = []
        if self.policy is not None and self.policy.window_length is not None:
            told.append(self.policy.window_length)
        if self.named[1] is not None:
            told.append(self.named[1])
        if told:
            return max(told)
        supported = self._supported
        return supported.window_length if supported is not None else None

    @property
    def _supported(self) -> Supported | None:
        return self.config.supported.get(self.policy.plan or "") if self.policy is not None else None

    @cached_property
    def schedule(self) -> Schedule | None:
        """ "Their phase is the policy's hour and weekday [...]. Where these tell none, it is the start of the window
        that the API named last [...]. Where both are known and lie apart, going round the interval, the window runs
        from the earlier start to the later end. [...] Without interval, phase or length there is no schedule."
        """
        every, length = self.interval, self._length
        if self.policy is None or every is None or length is None:
            return None
        told = phase_of(self.policy)
        named = self.named[0]
        if told is None:
            return None if named is None else Schedule(named, every, length)
        if named is None:
            return Schedule(told, every, length)
        ahead = (named - told) % every
        if ahead <= every / 2:
            return Schedule(told, every, length + ahead)
        return Schedule(named, every, length + (every - ahead))

    @cached_property
    def slack(self) -> float:
        """ "the grace plus 3 minutes for each GiB of the newest backup whose size is known, or of the droplet's disk
        where there is none"
        """
        sized = [backup for backup in self.counting if backup.size is not None]
        size = max(sized, key=lambda backup: (backup.created_at, backup.id)).size if sized else None
        if size is None:
            size = self.droplet.disk if self.droplet is not None else None
        return self.config.grace + PER_GIB * (size or 0.0)

    # Evidence

    @cached_property
    def _sizes(self) -> dict[int, float]:
        """Sizes that were ever told."""
        sizes = {}
        for poll in self.polls:
            for backup in (*poll.images, *(poll.reading.backups if poll.reading is not None else ())):
                if backup.size is not None:
                    sizes[backup.id] = backup.size
        return sizes

    @cached_property
    def _lists(self) -> tuple[dict[int, Backup], dict[int, Backup], set[int], bool]:
        """The backups that exist as far as is known, those that images told of, the ids denied, and whether all are
        known.

        An id is denied once the own list was read without it while the latest listing named it: "listings lag, so what
        the own list denied must not come back by an id".
        """
        existing: dict[int, Backup] = {}
        of_images: dict[int, Backup] = {}
        denied: set[int] = set()
        listed: set[int] | None = None
        complete = False
        for poll in self.polls:
            ids = poll.droplet.backup_ids if isinstance(poll.droplet, Droplet) else None
            # "An empty `backup_ids` counts as 'none' only if the same listing shows an id on some droplet."
            if ids is not None and (ids or poll.tells_ids):
                # The first listing is compared with the own list.
                for gone in (set(existing) if listed is None else listed) - set(ids):
                    existing.pop(gone, None)
                listed = set(ids)
            elif isinstance(poll.droplet, Droplet):
                listed = None  # This listing does not tell, so that no id is named by the latest one.
            for backup in poll.images:
                # "only from images that are `available` and have a size"
                if listed is not None and backup.id in listed - denied and backup.size is not None:
                    existing[backup.id] = of_images[backup.id] = backup
            if poll.reading is not None and poll.reading.answer == "read":
                existing = {backup.id: backup for backup in poll.reading.backups}
                denied |= (listed or set()) - set(existing)
                complete = True
            if listed is not None and listed <= set(existing):
                complete = True
        return existing, of_images, denied, complete

    @cached_property
    def _own(self) -> dict[int, Backup]:
        """All that the own list ever showed, on whatever page."""
        return {backup.id: backup for poll in self.polls if poll.reading is not None for backup in poll.reading.backups}

    @cached_property
    def existing(self) -> list[Backup]:
        return [self._with_size(backup) for backup in self._lists[0].values()]

    @cached_property
    def counting(self) -> list[Backup]:
        """ "A backup counts if it exists now as far as is known; or if the droplet's own list ever showed it with a
        size; or if the images did, and the own list was never read without it while the latest listing named it."
        """
        existing, of_images, denied, _ = self._lists
        found = {backup_id: backup for backup_id, backup in of_images.items() if backup_id not in denied}
        found |= {one: backup for one, backup in self._own.items() if self._was_sized_by_own_list(one)}
        found |= existing
        return [self._with_size(backup) for backup in found.values()]

    def _was_sized_by_own_list(self, backup_id: int) -> bool:
        return any(
            backup.id == backup_id and backup.size is not None
            for poll in self.polls
            if poll.reading is not None
            for backup in poll.reading.backups
        )

    def _with_size(self, backup: Backup) -> Backup:
        return Backup(backup.id, backup.created_at, self._sizes.get(backup.id))

    @cached_property
    def nothing_known(self) -> bool:
        """Whether nothing is known of its backups: no list read, no id resolved, and no listing that says "none".

        Of a list that failed, a backup with a size tells something.
        """
        shown = any(self._was_sized_by_own_list(one) for one in self._own)
        return not (self._lists[3] or shown or self._lists[1] or self._last_read is not None)

    @cached_property
    def kept(self) -> int | None:
        return len(self.existing) if self._lists[3] else None

    @cached_property
    def ever_seen(self) -> dict[int, Backup]:
        """All but phantoms: "a phantom that only an id or an image told of" was never made."""
        _, of_images, denied, _ = self._lists
        return {one: backup for one, backup in of_images.items() if one not in denied} | self._own

    @cached_property
    def _last_read(self) -> Past | None:
        """What was remembered when the own list was last read."""
        past: Past | None = self
        while past is not None:
            reading = past.polls[-1].reading
            if reading is not None and reading.answer == "read":
                return past
            past = past.before
        return None

    @property
    def _read_at(self) -> float | None:
        past = self._last_read
        reading = past.polls[-1].reading if past is not None else None
        return reading.asked_at if reading is not None else None

    # Windows that count, and misses

    @cached_property
    def counts_after(self) -> float:
        """ "A window counts if it starts after each of these moments: the droplet was first seen; backups were known to
        be on; the owner's settings last changed as far as was seen."
        """
        return max(self.first_seen, self.on_since or self.first_seen, self.settings_changed_at or self.first_seen)

    def due_at(self, start: float) -> float:
        """ "A window is due at its end plus the slack" """
        assert self.schedule is not None
        return start + self.schedule.length + self.slack

    def _is_answered(self, start: float, backups: Sequence[Backup]) -> bool:
        """Whether one of these belongs to the window or to a later one.

        "A backup belongs to the latest window that starts no later than 15 minutes after the backup's `created_at`."
        """
        return any(backup.created_at + EARLY >= start for backup in backups)

    @property
    def _sized(self) -> list[Backup]:
        return [backup for backup in self.counting if backup.size is not None]

    def _unjudged_windows(self, judged: Sequence[float], waiting: Sequence[float], now: float) -> list[float]:
        """The windows that count, are due and were not judged; those that `waiting` for a size are some of them.

        "A drifting start judges no window twice": a start less than half an interval after the last one that was looked
        at under the same settings is no new window.
        """
        schedule = self.schedule
        if self.on is not True or schedule is None:
            return list(waiting)  # They were due by the schedule of their time.
        last = max((one for one in (*judged, *waiting) if one > self.counts_after), default=None)
        return [
            *waiting,
            *(
                start
                for start in schedule.starts(self.counts_after, now)
                if self.due_at(start) <= now and (last is None or start - last >= schedule.every / 2)
            ),
        ]

    @cached_property
    def _judgements(self) -> tuple[tuple[float, ...], tuple[float, ...], tuple[float, ...]]:
        """The starts of all windows judged so far, of those that were judged missed and are not forgotten, and of those
        that were looked at and wait for the size of a backup.
        """
        judged, missed, waiting = self.before._judgements if self.before is not None else ((), (), ())
        poll = self.polls[-1]
        if isinstance(poll.policy, Policy) and poll.policy.enabled is False:
            missed = waiting = ()  # "it is forgotten [...] when the policy says that backups are off"
        if poll.reading is None or poll.reading.answer != "read" or self.clocks_differ:
            return judged, missed, waiting  # "Nothing but such a reading makes a miss"
        due, waiting = self._unjudged_windows(judged, waiting, poll.reading.asked_at), ()
        for start in due:
            if self._is_answered(start, self._sized):
                judged = (*judged, start)
            elif self._is_answered(start, self.counting):
                # "A window to which only a backup without a size belongs is not judged yet."
                waiting = (*waiting, start)
            else:
                judged, missed = (*judged, start), (*missed, start)
        return judged, missed, waiting

    @cached_property
    def shown(self) -> tuple[float, ...]:
        """ "A miss is not shown while a backup that counts was created after the window's start (less 15 minutes)"

        It is forgotten when one with a size was. As that one counts for good, it makes no difference here.
        """
        missed = self._judgements[1]
        if self.clocks_differ:
            # "nothing new is missed or forgiven until the clocks agree"
            before = self.before.shown if self.before is not None else ()
            return tuple(start for start in before if start in missed)
        reading = self.polls[-1].reading
        if self.before is not None and (reading is None or reading.answer != "read"):
            # "Nothing but such a reading makes a miss": what a lagging listing names no more goes on hiding one.
            missed = tuple(start for start in missed if start in self.before.shown)
        return tuple(sorted(start for start in missed if not self._is_answered(start, self.counting)))

    # Age

    @cached_property
    def max_age(self) -> float | None:
        """ "what the configuration's `max_age` says for the droplet; else, where the interval is known, two intervals
        plus the window's length (0 if unknown) plus the slack; else there is no such limit"
        """
        if self.config.max_age is not None:
            return self.config.max_age
        if self.interval is None:
            return None
        length = self.schedule.length if self.schedule is not None else self._length
        return 2 * self.interval + (length or 0.0) + self.slack

    @cached_property
    def ages_from(self) -> float | None:
        """ "The age counts from the newest backup that is kept, or that the droplet's `snapshot_ids` name; where there
        is neither, from the droplet's `created_at`; but never from before the moment at which backups were seen to be
        switched on or the plan seen to change"
        """
        kept = [backup.created_at for backup in self.existing]
        kept += [backup.created_at for backup in self.ever_seen.values() if backup.id in self.snapshot_ids]
        if not kept:
            # One of which it is not told when it was created was there when it was first seen.
            created_at = self.droplet.created_at if self.droplet is not None else None
            kept = [self.first_seen if created_at is None else created_at]
        kept += [moment for moment in (self.switched_on_at, self.plan_changed_at) if moment is not None]
        return max(kept, default=None)

    @cached_property
    def snapshot_ids(self) -> tuple[int, ...]:
        return (self.droplet.snapshot_ids or ()) if self.droplet is not None else ()

    def is_too_old(self, now: float) -> bool:
        return self.ages_from is not None and self.max_age is not None and now - self.ages_from > self.max_age

    @cached_property
    def was_too_old(self) -> bool:
        """Whether the age was greater than the limit, as it is now, when its own list was last read.

        A list that had to be read either was read or was not, and "a 404 is no such failure". So for the age it is an
        answer, unless the listing names a backup of which nothing else is known.
        """
        if self.max_age is None:
            return False
        began = self._last_read.ages_from if self._last_read is not None else None
        if began is not None and self._read_at is not None and self._read_at - began > self.max_age:
            return True
        denied_at, began = self._not_found_at, self.ages_from
        if denied_at is None or began is None or not self.listed_as_droplet or self._has_unresolved:
            return False
        return denied_at - began > self.max_age

    @cached_property
    def _has_unresolved(self) -> bool:
        """Whether the latest listing names an id of which nothing else is known."""
        for poll in reversed(self.polls):
            if isinstance(poll.droplet, Droplet):
                ids = poll.droplet.backup_ids
                told = ids is not None and (ids or poll.tells_ids)
                existing, _, denied, _ = self._lists
                return bool(told and set(ids or ()) - set(existing) - denied)
        return False

    @cached_property
    def _not_found_at(self) -> float | None:
        """When its own list was last answered by 404, if it was not read since."""
        for poll in reversed(self.polls):
            if poll.reading is not None and poll.reading.answer != "failed":
                return poll.at if poll.reading.answer == "404" else None
        return None

    def stale(self, now: float) -> bool | None:
        """ "A droplet whose backups are on, and whose age was greater than the limit when its own list was last read"

        "`stale` is absent where backups are off or not known to be on, where there is no limit, while nothing is known
        of the backups, and for `clock`."
        """
        if self.on is not True or self.max_age is None or self.nothing_known or self.clocks_differ:
            return None
        return self.was_too_old and self.is_too_old(now)

    # Lost

    def lost(self, now: float) -> int | None:
        """ "backups gone before their time: the droplet's own list once showed them and no longer does, `snapshot_ids`
        do not name them, less than four fifths of their retention had passed, and the policy was on and unchanged since
        they were made. Each counts until its retention would have ended."

        One that never had a size was not made, so that it cannot be lost. Where no record told `snapshot_ids`, any of
        them may name it.
        """
        if self.nothing_known:
            return None
        if self.droplet is None or self.droplet.snapshot_ids is None:
            return 0
        found = 0
        for backup_id, backup in self._own.items():
            gone = self._gone_since(backup_id)
            if gone is None or backup_id in self.snapshot_ids or not self._was_sized_by_own_list(backup_id):
                continue
            missed_at = gone._read_at
            retention = gone._retention
            moments = (gone.switched_on_at, gone.settings_changed_at)
            unchanged = gone.on is True and all(one is None or one <= backup.created_at for one in moments)
            if missed_at is None or retention is None or not unchanged:
                continue
            found += missed_at < backup.created_at + 0.8 * retention and now < backup.created_at + retention
        return found

    def _gone_since(self, backup_id: int) -> Past | None:
        """What was remembered at the first reading without it since one showed it; `None` if the last one shows it."""
        found = None
        past: Past | None = self
        while past is not None:
            reading = past.polls[-1].reading
            if reading is not None and any(backup.id == backup_id for backup in reading.backups):
                return found
            if reading is not None and reading.answer == "read":
                found = past
            past = past.before
        return None

    @property
    def _retention(self) -> float | None:
        if self.policy is not None and self.policy.retention is not None:
            return self.policy.retention
        return self._supported.retention if self._supported is not None else None

    # The state

    def _last_due(self, now: float) -> float | None:
        """The start of the last window that is due."""
        schedule = self.schedule
        return None if schedule is None else schedule.latest(now - schedule.length - self.slack)

    def _is_behind(self, now: float) -> float | None:
        """The start of the last window that is due, if it "has no backup that counts, nor has a later one"."""
        start = self._last_due(now)
        return None if start is None or self._is_answered(start, self.counting) else start

    def reason(self, now: float) -> str | None:
        """Why a droplet that ought to be judged cannot be: "the first that fits"."""
        if self.on is True and self.clocks_differ:
            return "clock"
        if (self.on is None and self.expected is not False) or (self.on is False and self.expected is None):
            return "unknown-policy"
        if self.on is not True:
            return None
        if self.schedule is None:
            return "no-schedule"
        if self.polls[-1].unread and (self._has_unproved_window(now) or self._ages_unread(now) or self.nothing_known):
            return "unread"
        return "first-look" if not self.shown and self._is_first_look(now) else None

    def _has_unproved_window(self, now: float) -> bool:
        """ "a window that counts is due and not judged"; one that has a backup needs no list to be read."""
        judged, missed, waiting = self._judgements
        hidden = [start for start in missed if start not in self.shown]
        windows = [*self._unjudged_windows(judged, waiting, now), *hidden]
        return any(not self._is_answered(start, self._sized) for start in windows)

    def _ages_unread(self, now: float) -> bool:
        """ "the age is greater than the limit and was not when the list was last read" """
        return self.is_too_old(now) and not self.was_too_old

    def _is_first_look(self, now: float) -> bool:
        """ "no miss is shown, the last window that is due has no backup that counts, nor has a later one, and it began
        before the droplet was first seen"

        A Droplet that was made, or whose backups were switched on, after that window began lacks nothing: it waits.
        """
        start = self._is_behind(now)
        if start is None or start > self.first_seen or self.nothing_known:
            return False
        created_at = self.droplet.created_at if self.droplet is not None else None
        return self.on_since == self.first_seen and (created_at is None or created_at <= start)

    def _is_waiting(self, now: float) -> bool:
        """ "backups on, and none is kept yet, or the last window that is due has no backup that counts, nor has a later
        one, and began before backups were known to be on or the settings changed"
        """
        if self.kept == 0 or self.nothing_known:
            return True
        start = self._is_behind(now)
        changes = [moment for moment in (self.on_since, self.settings_changed_at) if moment is not None]
        return start is not None and any(start <= moment for moment in changes)

    def state(self, now: float) -> str:
        """ "One word for each droplet, the first that fits." """
        answers = [poll.reading.answer for poll in self.polls if poll.reading is not None]
        settled = [answer for answer in answers if answer != "failed"]
        on, misses = self.on is True, len(self.shown)
        if settled and settled[-1] == "404" and not self.listed_as_droplet:
            return "gone"
        if on and misses >= 2:
            return "missing"
        if on and misses == 1:
            return "overdue"
        if self.stale(now):
            return "stale" if self.ever_seen else "never-taken"
        if self.reason(now) is not None:
            return "unjudged"
        if self.on is False and self.expected:
            return "unprotected"
        if on:
            return "waiting" if self._is_waiting(now) else "protected"
        return "not-expected"

    def hours_until(self, now: float) -> float | None:
        """ "by the very schedule that it is judged by; 0 while a window is open. Without a schedule, by the window that
        the API names while that is open or to come, else absent"
        """
        if self.schedule is not None:
            start = self.schedule.latest(now)
            is_open = now < start + self.schedule.length or now == start
            return 0.0 if is_open else (start + self.schedule.every - now) / HOUR
        window = self.policy.window if self.policy is not None else None
        if window is None or (now > window[0] and now >= window[1]):
            return None
        return max(0.0, window[0] - now) / HOUR

    def verdict(self, now: float) -> Verdict:
        """ "While a droplet is unjudged or has no verdict for another cause, `missed_windows` and `overdue` stand if
        above 0, else they are absent. They are absent where backups are off or not known to be on, and while nothing is
        known of the backups."
        """
        reason = self.reason(now)
        judged = self.on is True and not self.nothing_known
        missed = self.shown if judged else ()
        volumes = self.droplet.volume_ids if self.droplet is not None else None
        return Verdict(
            state=self.state(now),
            reason=reason,
            missed=missed,
            missed_windows=len(missed) if judged and (missed or reason is None) else None,
            stale=self.stale(now),
            max_age=self.max_age if self.on is True else None,
            lost=self.lost(now),
            hours_until=self.hours_until(now),
            kept=self.kept,
            attached_volumes=None if volumes is None else len(volumes),
        )
