"""The verdict on a Droplet's backups: misses, age, reasons for not judging, and the one state that follows.

This is the only place that decides it; metrics, page, commands and JSON show what is decided here. The rules are those
of README.md, "How overdue is judged".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from math import inf

from msgspec.structs import replace

from exporter.fleet.history import EARLY, FUTURE, BackupHistory
from exporter.fleet.model import GIB, Backup, Schedule, SupportedPolicy, Verdict
from exporter.fleet.schedule import interval_of, length_of, schedule_of
from exporter.fleet.state import Reason, State
from exporter.fleet.tracked import TrackedDroplet, can_prove_misses

FINISHING_PER_BYTE = 3 * 60.0 / GIB
"""A backup starts in its window and finishes later, by 1 to 3 minutes a gigabyte
(https://docs.digitalocean.com/products/backups/details/limits/)."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A verdict, with the history that holds the misses it found, and how long both stand if nothing is learned."""

    history: BackupHistory
    verdict: Verdict
    until: float
    """The verdict is the same before this instant as long as the Droplet, as it is tracked, is the same."""


def slack_of(known: TrackedDroplet, grace: float) -> float:
    """Seconds after a window's end at which it is due: the grace, and the time that a backup of this size takes.

    The size is that of the newest backup whose size is known, or the Droplet's disk where there is none.
    """
    newest = _newest(known, lambda backup: backup.size is not None)
    size = newest.size if newest else known.description.disk if known.description else None
    return grace + (size or 0.0) * FINISHING_PER_BYTE


def due_window(schedule: Schedule, slack: float, instant: float) -> int:
    """The number of the latest window that is due at the instant."""
    return schedule.window_at(instant - schedule.length - slack)


def window_of(schedule: Schedule, backup: float) -> int:
    """The number of the window that a backup created at this instant belongs to."""
    return schedule.window_at(backup + EARLY)


def tracked_schedule(known: TrackedDroplet, supported: SupportedPolicy | None) -> Schedule | None:
    """The Droplet's windows; `None` if its backups are off, or too little is known."""
    settings = known.history.settings
    if known.policy is None or known.policy.enabled is False:
        return None
    return schedule_of(known.policy, supported, settings.named_start, settings.named_length)


def newest_counted(known: TrackedDroplet, now: float) -> float | None:
    """When the newest backup that counts was created."""
    newest = _newest(known, lambda backup: backup.created_at <= now + FUTURE)
    return newest.created_at if newest else None


def is_unanswered(known: TrackedDroplet, schedule: Schedule, slack: float, now: float) -> bool:
    """Whether no backup that counts belongs to the last window that is due, or to a later one."""
    newest = newest_counted(known, now)
    return newest is None or window_of(schedule, newest) < due_window(schedule, slack, now)


def windows_to_judge(history: BackupHistory, schedule: Schedule, slack: float, instant: float) -> range:
    """The numbers of the windows that count, are due at the instant and are not judged yet."""
    after = counted_after(history)
    first = schedule.window_at(after) + 1
    if history.last_judged_start is not None and history.last_judged_start > after:
        # A start that drifts or jitters must not make a window of which the half has passed a new one.
        first = max(first, schedule.window_at(history.last_judged_start + schedule.interval / 2) + 1)
    return range(first, due_window(schedule, slack, instant) + 1)


def counted_after(history: BackupHistory) -> float:
    """Windows that start after this moment count."""
    return max(history.first_seen, history.on_since or -inf, history.changed_at or -inf)


def age_from(known: TrackedDroplet) -> float:
    """The moment from which the age of the newest backup counts."""
    history, description = known.history, known.description
    snapshots = (description.snapshot_ids if description else None) or ()
    restorable = [backup.created_at for backup in known.backups or ()]
    # Turned into a snapshot, it can be restored too.
    restorable += [one.created_at for one in history.departed if one.id in snapshots]
    # While not all are resolved that the listing names, those that are count.
    restorable += [one.created_at for one in history.unproven if one.id in (*snapshots, *(known.listed or ()))]
    created_at = description.created_at if description else None
    begun = max(restorable, default=history.first_seen if created_at is None else created_at)
    return max(begun, history.switched_on_at or -inf, history.plan_changed_at or -inf)


def was_stale(known: TrackedDroplet, limit: float) -> bool:
    """Whether the newest backup was older than its limit when the own list was last read, as known then."""
    read_at, aged_from = known.history.read_at, known.history.aged_from
    if read_at is not None and aged_from is not None and read_at - aged_from > limit:
        return True
    # A 404 is an answer too. It cannot prove a miss, but a Droplet that is there must not look protected for ever.
    denied_at = known.not_found_at if known.has_no_list else None
    return denied_at is not None and not known.unexplained and denied_at - age_from(known) > limit


def age_limit(
    known: TrackedDroplet, supported: SupportedPolicy | None, configured: float | None, slack: float
) -> float | None:
    """How old the newest backup may be, in seconds; `None`: there is no limit, or backups are not known to be on."""
    if known.history.on_since is None:
        return None
    if configured is not None:
        return configured
    schedule = tracked_schedule(known, supported)
    if schedule is not None:
        return 2 * schedule.interval + schedule.length + slack
    interval = interval_of(known.policy.plan) if known.policy else None
    if interval is None:
        return None
    return 2 * interval + (length_of(known.policy, supported, known.history.settings.named_length) or 0.0) + slack


def judge(
    known: TrackedDroplet,
    supported: SupportedPolicy | None,
    now: float,
    *,
    grace: float,
    max_age: float | None,
    expected: bool | None,
    clock_wrong: bool = False,
) -> Judged:
    """The verdict as of `now`.

    `grace` is in seconds, `max_age` what the configuration allows this Droplet, `expected` whether it ought to have
    backups (`None`: not known). `clock_wrong`: the API's clock and ours differ by more than an hour.
    """
    slack = slack_of(known, grace)
    schedule = tracked_schedule(known, supported)
    history = known.history
    if not clock_wrong:
        history = _forgiven(history)
    read_at, hidden_before = history.read_at, history.misses_hidden_before
    if read_at is not None and read_at != history.judged_reading_at:
        # A reading is used once, by the clock and the schedule of its time; the next one judges what it could not.
        history = replace(history, judged_reading_at=read_at, aged_from=age_from(known))
        if schedule is not None and history.on_since is not None and not clock_wrong:
            history = _windows_judged(history, schedule, slack, read_at)
        if not clock_wrong:
            # What hid a miss hides it until the next reading of the own list, also if it is listed no more.
            hidden_before = None
    if not clock_wrong:
        known_now = (hidden_before, newest_counted(known, now))
        hidden_before = max((one for one in known_now if one is not None), default=None) if history.misses else None
        if hidden_before != history.misses_hidden_before:
            history = replace(history, misses_hidden_before=hidden_before)
    known = known if history is known.history else replace(known, history=history)
    case = _Case(
        known=known,
        schedule=schedule,
        slack=slack,
        limit=age_limit(known, supported, max_age, slack),
        aged_from=age_from(known),
        expected=expected,
        now=now,
        clock_wrong=clock_wrong,
    )
    return Judged(history, case.verdict(), case.stands_until())


@dataclass(frozen=True, slots=True)
class _Case:
    """A Droplet at one moment, its due windows judged: what the verdict follows from."""

    known: TrackedDroplet
    schedule: Schedule | None
    slack: float
    limit: float | None
    """How old the newest backup may be, in seconds; `None`: there is no limit."""
    aged_from: float
    """The moment from which the age of the newest backup counts."""
    expected: bool | None
    now: float
    clock_wrong: bool

    @property
    def is_on(self) -> bool:
        return self.known.history.on_since is not None

    @property
    def is_too_old(self) -> bool:
        return self.limit is not None and self.now - self.aged_from > self.limit

    def verdict(self) -> Verdict:
        history, schedule = self.known.history, self.schedule
        learned = is_learned(self.known)
        stale = self.stale()
        misses = self.misses_shown()
        reason = self.reason(misses, stale=bool(stale))
        missed = misses if self.is_on and learned and (misses or reason is None) else None
        first_counted = None
        if schedule is not None and self.is_on:
            first_counted = schedule.start(schedule.window_at(counted_after(history)) + 1)
        return Verdict(
            state=self.state(missed, reason, stale=bool(stale)),
            reason=reason,
            missed=missed,
            max_age=self.limit,
            stale=stale,
            lost=self.lost() if learned else None,
            schedule=schedule,
            slack=self.slack,
            first_counted=first_counted,
        )

    def stale(self) -> bool | None:
        """Whether the newest backup is too old and was so when the own list was last read; `None`: not known."""
        if self.limit is None or self.clock_wrong or not is_learned(self.known):
            return None
        return self.is_too_old and was_stale(self.known, self.limit)

    def misses_shown(self) -> tuple[float, ...]:
        """The misses since the newest backup that counts. While the clocks differ, no new backup forgives one."""
        misses, newest = self.known.history.misses, self.known.history.misses_hidden_before
        return misses if newest is None else tuple(start for start in misses if start - EARLY > newest)

    def reason(self, misses: tuple[float, ...], *, stale: bool) -> Reason | None:
        """Why the Droplet cannot be judged; `None`: it can, or there is nothing to judge."""
        known, schedule = self.known, self.schedule
        if not self.is_on:
            unsaid = known.history.policy_unknown and self.expected is not False
            return Reason.UNKNOWN_POLICY if unsaid or self.expected is None else None
        if self.clock_wrong:
            return Reason.CLOCK
        if schedule is None:
            return Reason.NO_SCHEDULE
        if not is_learned(known):
            # A 404 is an answer: the API knows of no list. Nothing is known then, and nothing was left unread.
            return Reason.UNREAD if known.unread or known.not_found_at is None else None
        if known.unread or not can_prove_misses(known.backups or (), known.unreadable, self.now):
            too_old = self.is_too_old and not stale
            if too_old or self._has_unproved_window(schedule, misses):
                return Reason.UNREAD
        if not misses and self._began_before_first_sight(schedule):
            return Reason.FIRST_LOOK
        return None

    def _has_unproved_window(self, schedule: Schedule, misses: tuple[float, ...]) -> bool:
        """Whether only the own list can tell whether a certain window was missed.

        The window is due, but not judged or its miss not shown, and no backup with a size answers it. A backup without
        a size may turn out to be none.
        """
        known, now = self.known, self.now
        hidden = known.history.misses[: len(known.history.misses) - len(misses)]
        due = windows_to_judge(known.history, schedule, self.slack, now)
        sized = _newest(known, lambda backup: backup.size is not None and backup.created_at <= now + FUTURE)
        latest = (*hidden[-1:], *(schedule.start(number) for number in due[-1:]))
        return any(sized is None or start - EARLY > sized.created_at for start in latest)

    def _began_before_first_sight(self, schedule: Schedule) -> bool:
        """Whether the last due window has no backup, and began before the Droplet was seen, but after it could have."""
        if not is_unanswered(self.known, schedule, self.slack, self.now):
            return False
        history, description = self.known.history, self.known.description
        # No window counts that began before the Droplet was there, or before its backups were seen to be switched on.
        could_have = max((description.created_at if description else None) or -inf, history.switched_on_at or -inf)
        return could_have < self._last_due_start(schedule) <= history.first_seen

    def state(self, missed: tuple[float, ...] | None, reason: Reason | None, *, stale: bool) -> State:
        known = self.known
        if known.is_gone:
            return State.GONE
        if missed:
            return State.MISSING if len(missed) > 1 else State.OVERDUE
        if stale:
            return State.STALE if ever_backed_up(known) else State.NEVER_TAKEN
        if reason is not None:
            return State.UNJUDGED
        if not self.is_on:
            return State.UNPROTECTED if self.expected else State.NOT_EXPECTED
        if known.backups == () or not is_learned(known) or self._waits_for_its_first_window():
            return State.WAITING
        return State.PROTECTED

    def _waits_for_its_first_window(self) -> bool:
        schedule = self.schedule
        if schedule is None or not is_unanswered(self.known, schedule, self.slack, self.now):
            return False
        return self._last_due_start(schedule) <= counted_after(self.known.history)

    def _last_due_start(self, schedule: Schedule) -> float:
        return schedule.start(due_window(schedule, self.slack, self.now))

    def lost(self) -> int:
        """How many backups are gone before their time, and were not turned into snapshots."""
        snapshots = self.known.description.snapshot_ids if self.known.description else None
        if snapshots is None:
            return 0
        departed = self.known.history.departed
        return sum(
            one.retention_ends_at is not None and self.now < one.retention_ends_at and one.id not in snapshots
            for one in departed
        )

    def stands_until(self) -> float:
        """The next moment at which the passing of time alone may change the verdict."""
        schedule = self.schedule
        moments = [one.retention_ends_at for one in self.known.history.departed if one.retention_ends_at is not None]
        if schedule is not None:
            next_due = due_window(schedule, self.slack, self.now) + 1
            moments.append(schedule.start(next_due) + schedule.length + self.slack)
        if self.limit is not None:
            moments.append(self.aged_from + self.limit)
        # A backup that is dated too far ahead to count comes to count one day before its date.
        moments += [backup.created_at - FUTURE for backup in _seen(self.known)]
        return min((moment for moment in moments if moment > self.now), default=inf)


def is_learned(known: TrackedDroplet) -> bool:
    """Whether anything is known of the Droplet's backups."""
    history = known.history
    return known.backups is not None or history.read_at is not None or bool(history.newest_made or history.unproven)


def ever_backed_up(known: TrackedDroplet) -> bool:
    return known.history.ever_backed_up or bool(known.backups or known.history.unproven)


def _newest(known: TrackedDroplet, which: Callable[[Backup], bool]) -> Backup | None:
    """The newest of the backups that count and fit. Those that are kept are in the order of their dates."""
    made, kept = known.history.newest_made, next(filter(which, reversed(known.backups or ())), None)
    found = [one for one in (kept, made, *known.history.unproven) if one is not None and which(one)]
    return max(found, key=lambda backup: (backup.created_at, backup.id), default=None)


def _seen(known: TrackedDroplet) -> Iterable[Backup]:
    """The backups that count and can be the newest: those kept, the newest ever made, and what images told of."""
    yield from known.backups or ()
    if known.history.newest_made is not None:
        yield known.history.newest_made
    yield from known.history.unproven


def _forgiven(history: BackupHistory) -> BackupHistory:
    """The history without the misses that a backup made since has answered."""
    made = history.newest_made
    if made is None or not history.misses or history.misses[0] - EARLY > made.created_at:
        return history
    return replace(history, misses=tuple(start for start in history.misses if start - EARLY > made.created_at))


def _windows_judged(history: BackupHistory, schedule: Schedule, slack: float, read_at: float) -> BackupHistory:
    """The history after this reading of the own list judged each window that it can judge.

    A window that no backup of the own list with a size answers is noted as missed. Whether a miss is shown is another
    question: not while a backup that is not proven to be one, by its size or by the own list, may answer it.
    """
    due = windows_to_judge(history, schedule, slack, read_at)
    if not due:
        return history
    made = -inf if history.newest_made is None else window_of(schedule, history.newest_made.created_at)
    missed = tuple(schedule.start(number) for number in due if number > made)
    return replace(history, last_judged_start=schedule.start(due[-1]), misses=history.misses + missed)


def has_unanswered(known: TrackedDroplet, schedule: Schedule, slack: float, now: float) -> bool:
    """Whether a window that counts is due now, is not judged, and no backup known so far answers it."""
    return bool(windows_to_judge(known.history, schedule, slack, now)) and is_unanswered(known, schedule, slack, now)
