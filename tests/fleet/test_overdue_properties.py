"""Overdue backups, on histories nobody thought of: the exporter and the oracle agree at every poll.

Run with `HYPOTHESIS_PROFILE=thorough` for thousands of histories.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from hypothesis import event, given
from hypothesis import strategies as st
from msgspec import structs

from exporter.fleet.model import GIB, Backup, Policy, SupportedPolicy, Window
from tests.fleet.oracle import WEEKDAYS, instant
from tests.fleet.story import DAY, HOUR, MINUTE, WEEK, Story, at

BASE = at("2024-02-15 00:00")
"""Every history starts about here: a leap day comes soon after."""
LAST = BASE + 90 * DAY

PLANS = {"daily": DAY, "weekly": WEEK} | {f"intra_daily_{hours}h": hours * HOUR for hours in (1, 3, 4, 6, 12)}
plans = st.sampled_from(["daily", "daily", "weekly", "intra_daily_4h", *PLANS])
sizes = st.none() | st.integers(0, 400).map(lambda quarters: quarters * GIB / 4)
disks = st.none() | st.sampled_from([0.0, 10.0, 25.0, 80.0, 640.0])
graces = st.sampled_from([0.0, HOUR, 4 * HOUR, 4 * HOUR, 26 * HOUR])
lengths = st.sampled_from([0.0, HOUR, 4 * HOUR, 4 * HOUR, 23 * HOUR, 30 * HOUR])
nudges = st.sampled_from([0.0, 0.0, -1.0, 1.0, MINUTE, -MINUTE])


# --- A world with a true schedule, backups that are made by it or are not, and an exporter that sees some of it ---


@dataclass(frozen=True)
class FakePlan:
    """The schedule as it truly is, from `since` on."""

    since: float
    plan: str
    hour: int
    weekday: str
    length: float

    def starts(self, until: float) -> Iterator[float]:
        """The windows that start from `since` on, by trying every whole hour."""
        every = PLANS[self.plan]
        first = BASE - 60 * DAY
        while (first % DAY) // HOUR != self.hour or (
            self.plan == "weekly" and WEEKDAYS[instant(first).weekday()] != self.weekday
        ):
            first += HOUR
        while first < until:
            if first >= self.since:
                yield first
            first += every

    def named(self, now: float, kind: str) -> Window | None:
        if kind == "null":
            return None
        at_hand = BASE + DAY if kind == "stale" else now
        start = next(
            start
            for start in replace(self, since=0).starts(LAST + 3 * WEEK)
            if (start > at_hand if kind == "to come" else start + self.length > at_hand)
        )
        return Window(start, start + self.length)


@dataclass(frozen=True)
class Fate:
    """What becomes of one window: when its backup is created, and when that turns up in lists and leaves them again."""

    made: bool
    offset: float = 0.0
    lag: float = 0.0
    kept: float = WEEK
    size: float | None = None


@dataclass(frozen=True)
class SingleDroplet:
    """One poll: how long after the one before, and what it gets to see."""

    gap: float | Literal["due", "start"]
    nudge: float
    policy: str
    lists: Literal["read", "glimpse", "fail", "nothing"]
    restart: Literal["no", "with state", "without"]


fates = st.one_of(
    st.builds(Fate, st.just(True), st.integers(0, 230).map(lambda minutes: minutes * MINUTE), size=sizes),
    st.just(Fate(False)),
    st.builds(
        Fate,
        st.just(True),
        st.sampled_from([-10, -14, -15, -16, 0, 240, 241, 300, 600, 1500]).map(lambda minutes: minutes * MINUTE),
        st.sampled_from([0.0, HOUR, 9 * HOUR]),
        st.sampled_from([HOUR, DAY, WEEK, 4 * WEEK]),
        sizes,
    ),
)
looks = st.builds(
    SingleDroplet,
    st.sampled_from([5 * MINUTE, 5 * MINUTE, HOUR, 4 * HOUR, DAY, 3 * DAY, 8 * DAY, "due", "due", "due", "start"]),
    nudges,
    st.sampled_from(
        ["whole"] * 15
        + ["no record", "no window", "no plan", "no length", "no hour", "enabled only", "off", "moved a bit", "moved"]
    ),
    st.sampled_from(["read"] * 6 + ["glimpse", "glimpse", "fail", "nothing"]),
    st.sampled_from(["no"] * 12 + ["with state", "without"]),
)


@st.composite
def true_plans(draw: st.DrawFn) -> list[FakePlan]:
    """A schedule, and at times another that takes its place later."""
    later = draw(st.lists(st.integers(3, 30).map(lambda days: BASE + days * DAY + 100), max_size=1))
    hours = st.sampled_from([0, 0, 1, 4, 13, 20, 23])
    return [
        FakePlan(since, draw(plans), draw(hours), draw(st.sampled_from(WEEKDAYS)), draw(lengths))
        for since in (0.0, *later)
    ]


def true_backups(
    schedule: list[FakePlan], of_window: list[Fate], lived_since: float
) -> list[tuple[Backup, float, float]]:
    """Each backup with the time from which and until which lists hold it."""
    found = []
    number = 0
    for plan, until in zip(schedule, [*[after.since for after in schedule[1:]], LAST], strict=True):
        for start in plan.starts(until):
            fate = of_window[number % len(of_window)]
            number += 1
            if start >= lived_since and fate.made:
                created = start + fate.offset
                made = Backup(number, created, fate.size)
                found.append((made, created + fate.lag, created + fate.lag + fate.kept))
    return found


def shown(plan: FakePlan, look: str, named: str, now: float) -> Policy | None:
    """The policy record as a listing shows it at this poll."""
    whole = Policy(
        True,
        plan.plan,
        plan.weekday if plan.plan == "weekly" else None,
        plan.hour,
        plan.length,
        next_window=plan.named(now, named),
    )
    moved = {"moved a bit": 14 * MINUTE, "moved": 16 * MINUTE}.get(look)
    if moved is not None and whole.next_window is not None:
        return structs.replace(
            whole, next_window=Window(whole.next_window.start + moved, whole.next_window.end + moved)
        )
    return {
        "no record": None,
        "no window": structs.replace(whole, next_window=None),
        "no plan": structs.replace(whole, plan=None),
        "no length": structs.replace(whole, window_length=None),
        "no hour": structs.replace(whole, hour=None, weekday=None),
        "enabled only": Policy(True),
        "off": Policy(False),
    }.get(look, whole)


def next_moment(story: Story, now: float, kind: str) -> float:
    """The next moment at which a window that counts starts or is due, as the oracle sees it."""
    if story.policy is None:
        return now + HOUR
    windows = story.oracle.due_windows(story.policy, story.supported, story.disk, story.grace, instant(now + 8 * DAY))
    for start, due in windows:
        moment = (due if kind == "due" else start).timestamp()
        if moment > now:
            return moment
    return now + HOUR


def restart(story: Story, now: float, kind: str) -> None:
    if kind == "with state":
        story.evidence = pickle.loads(pickle.dumps(story.evidence))
    elif kind == "without":
        story.policy = None
        story.restarts(now)


@given(
    schedule=true_plans(),
    of_window=st.lists(fates, min_size=1, max_size=20),
    lived_since=st.integers(-30, 5).map(lambda days: BASE + days * DAY),
    named=st.sampled_from(["open", "open", "to come", "stale", "null"]),
    supported_length=st.none() | lengths,
    disk=disks,
    grace=graces,
    polls=st.lists(looks, min_size=6, max_size=30),
)
def test_history(
    schedule: list[FakePlan],
    of_window: list[Fate],
    lived_since: float,
    named: str,
    supported_length: float | None,
    disk: float | None,
    grace: float,
    polls: list[SingleDroplet],
) -> None:
    """Months of polls, with holes, late and early backups, flicker, faults and restarts: one verdict of both."""
    backups = true_backups(schedule, of_window, lived_since)
    now = BASE + 5 * DAY
    story = Story(now, None, disk_gib=disk, grace=grace)
    for look in polls:
        to = next_moment(story, now, look.gap) if isinstance(look.gap, str) else now + look.gap
        now = max(now, to + look.nudge)
        if now > LAST:
            break
        restart(story, now, look.restart)
        plan = [plan for plan in schedule if plan.since <= now][-1]
        story.supported = SupportedPolicy(plan.plan, window_length=supported_length)
        story.shows(now, shown(plan, look.policy, named, now))
        kept = [made for made, since, until in backups if since <= now < until]
        if look.lists == "read":
            story.reads(now, *kept)
        elif look.lists == "glimpse":
            story.glimpses(now, *kept)
        elif look.lists == "fail":
            story.fails()
        for later in (0, 1, 30, 300):
            verdict = story.verdict(now + later)
        event(f"missed {verdict.missed_windows if verdict.missed_windows in (None, 0, 1) else 'many'}")
        event(f"unjudged {verdict.unjudged}")


# --- No world at all: anything is seen at any time ---

moments = st.builds(
    lambda quarters, nudge: BASE + quarters * 15 * MINUTE + nudge, st.integers(-10 * 96, 20 * 96), nudges
)
some_windows = st.none() | st.builds(
    lambda start, length: Window(start, start + length),
    moments | st.sampled_from([BASE, BASE, BASE + DAY, BASE + 14 * MINUTE, BASE + HOUR]),
    lengths,
)
policies = st.none() | st.builds(
    Policy,
    st.sampled_from([True, True, True, True, False, None]),
    st.sampled_from(["daily", "daily", "daily", "weekly", "intra_daily_4h", "intra_daily_12h", "monthly", None]),
    st.sampled_from([None, "SUN", "WED"]),
    st.sampled_from([None, 0, 0, 4, 23]),
    st.none() | lengths,
    next_window=some_windows,
)
supports = st.none() | st.builds(SupportedPolicy, st.just("daily"), window_length=st.none() | lengths)
some_backups = st.lists(st.builds(lambda moment, size: Backup(int(moment), moment, size), moments, sizes), max_size=3)


@given(
    data=st.data(),
    first=policies,
    disk=disks,
    grace=graces,
    steps=st.lists(
        st.sampled_from(["passes", "passes", "shows", "glimpses", "reads", "reads", "fails", "restarts", "disk"]),
        min_size=2,
        max_size=25,
    ),
)
def test_noise(data: st.DataObject, first: Policy | None, disk: float | None, grace: float, steps: list[str]) -> None:
    """Whatever is seen in whatever order, the exporter and the oracle say the same."""
    now = BASE
    story = Story(now, first, disk_gib=disk, grace=grace)
    for step in steps:
        match step:
            case "passes":
                kind = data.draw(st.sampled_from(["due", "due", "start", "hour", "day"]))
                length = {"hour": HOUR, "day": DAY}.get(kind)
                to = next_moment(story, now, kind) if length is None else now + length
                now = max(now, to + data.draw(nudges))
            case "shows":
                story.supported = data.draw(supports)
                story.shows(now, data.draw(policies))
            case "glimpses":
                story.glimpses(now, *data.draw(some_backups))
            case "reads":
                story.reads(now, *data.draw(some_backups))
            case "fails":
                story.fails()
            case "restarts":
                restart(story, now, data.draw(st.sampled_from(["with state", "without"])))
            case "disk":
                size = data.draw(disks)
                story.disk = None if size is None else size * GIB
        story.verdict(now)


# --- What must hold whatever the oracle thinks ---


@given(
    schedule=true_plans(),
    minutes=st.lists(st.integers(-15, 239), min_size=1, max_size=10),
    lived_since=st.integers(-30, 2).map(lambda days: BASE + days * DAY),
    named=st.sampled_from(["open", "open", "to come", "null"]),
    gib=st.integers(0, 200),
    polls=st.lists(looks, min_size=6, max_size=30),
)
def test_no_false_alarm(
    schedule: list[FakePlan], minutes: list[int], lived_since: float, named: str, gib: int, polls: list[SingleDroplet]
) -> None:
    """A Droplet backed up in every window is never overdue: not by flicker, faults, restarts or a new schedule."""
    schedule = [replace(plan, length=max(plan.length, 4 * HOUR)) for plan in schedule]
    took = Fate(True, lag=gib * 3 * MINUTE, kept=4 * WEEK, size=gib * GIB)
    backups = true_backups(schedule, [replace(took, offset=minute * MINUTE) for minute in minutes], lived_since)
    now = BASE + 2 * DAY
    story = Story(now, shown(schedule[0], "whole", named, now), disk_gib=gib)
    for look in polls:
        to = next_moment(story, now, look.gap) if isinstance(look.gap, str) else now + look.gap
        now = max(now, to + look.nudge)
        if now > LAST:
            break
        if look.restart == "with state" or len(schedule) == 1:
            restart(story, now, look.restart)
        plan = [plan for plan in schedule if plan.since <= now][-1]
        flicker = look.policy in ("no window", "no plan", "no length", "no hour", "enabled only")
        story.shows(now, shown(plan, look.policy if flicker else "whole", named, now))
        kept = [made for made, since, until in backups if since <= now < until]
        if look.lists == "read":
            story.reads(now, *kept)
        elif look.lists == "glimpse":
            story.glimpses(now, *kept)
        else:
            story.fails()
            continue
        assert story.missed(now) in (0, None)


@given(
    plan=true_plans().map(lambda schedule: schedule[0]),
    of_window=st.lists(fates, min_size=1, max_size=20),
    disk=disks,
    read_after=st.integers(0, 20 * 24).map(lambda hours: hours * HOUR),
    silence=st.lists(st.integers(0, 30 * 24).map(lambda hours: hours * HOUR), min_size=1, max_size=10),
)
def test_no_outage_makes_a_miss(
    plan: FakePlan, of_window: list[Fate], disk: float | None, read_after: float, silence: list[float]
) -> None:
    """However long nothing is read, the count never exceeds what it was at the last reading."""
    backups = true_backups([plan], of_window, BASE)
    story = Story(BASE + DAY, shown(plan, "whole", "open", BASE + DAY), disk_gib=disk)
    now = BASE + DAY + read_after
    story.reads(now, *[made for made, since, until in backups if since <= now < until])
    before = story.missed(now)
    assert before is not None
    for gap in silence:
        verdict = story.verdict(now + gap)
        assert verdict.missed_windows == before or (
            before == 0 and verdict == structs.replace(verdict, missed_windows=None)
        )
        assert verdict.missed_windows is not None or verdict.unjudged
