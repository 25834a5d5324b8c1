"""For any observations of a Droplet the exporter's verdict is the oracle's."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tests.fleet.life import at
from tests.fleet.oracle import (
    DAY,
    HOUR,
    MINUTE,
    REJECTED,
    Backup,
    Config,
    Droplet,
    Event,
    Oracle,
    Policy,
    Poll,
    Reading,
    Restart,
    Supported,
)
from tests.fleet.replay import Replay

START = at("2026-11-02 12:00")
PLANS = ("daily", "weekly", "intra_daily_4h", "intra_daily_5h", "usage_based_daily", None)
SUPPORTED = {"daily": Supported(4 * HOUR, 7 * DAY), "weekly": Supported(4 * HOUR, 28 * DAY)}
CHANGES = (
    *("nothing",) * 6,
    *("made", "made", "made without a size", "sizes come", "phantom", "deleted", "destroyed or back"),
    *("off", "on", "silent", "hour", "weekday", "plan", "named window"),
)
POLLS = (
    *("all is seen",) * 6,
    *("no answer", "images", "own list not asked", "own list fails", "own list 404"),
    *("no policy", "no droplets", "record rejected", "clock"),
)


@dataclass
class Truth:
    """What is true of the Droplet between two polls, and what polls have seen."""

    policy: Policy
    droplet: Droplet
    named: float
    """The start of the window that the API names."""
    backups: list[Backup]
    phantoms: list[Backup] = field(default_factory=list)
    """Of which the listing and the images tell, and the own list does not."""
    destroyed: bool = False
    listed_late: tuple[int, ...] = ()
    """Ids that a listing which is late may still name."""
    shown: set[int] = field(default_factory=set)
    """Ids that the own list has shown: no sweep looks for them."""
    was_read: bool = False
    """Whether the own list was read in this run, so that it need not be asked for at each poll."""


def rarely(draw: st.DrawFn, one_in: int = 6) -> bool:
    return draw(st.integers(1, one_in)) == 1


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Some days of polls, each of which shows or fails to show what is true at the time."""
    truth, now, events = _begun(draw), START, list[Event]()
    for number in range(draw(st.integers(1, 14))):
        _change(draw, truth, number, now)
        events.append(_poll(draw, truth, now))
        if rarely(draw, 10):
            keeps_state = draw(st.booleans())
            events.append(Restart(now, keeps_state))
            truth.was_read = truth.was_read and keeps_state
        now += draw(st.sampled_from((5 * MINUTE, 4 * HOUR, 9 * HOUR, 13 * HOUR, DAY, 3 * DAY)))
    return events


def _begun(draw: st.DrawFn) -> Truth:
    plan, hour = draw(st.sampled_from(PLANS)), draw(st.sampled_from((0, 4, 20)))
    policy = Policy(
        draw(st.sampled_from((False, None))) if rarely(draw) else True,
        plan,
        None if rarely(draw) else hour,
        draw(st.sampled_from(("SUN", "MON"))) if plan == "weekly" else None,
        draw(st.sampled_from((4 * HOUR, None))),
        7 * DAY,
    )
    droplet = Droplet(
        created_at=draw(st.sampled_from((START - DAY, START - 400 * DAY, None))),
        disk=draw(st.sampled_from((10.0, None))),
        tags=draw(st.sampled_from(((), (), ("k8s",), None))),
    )
    ages = draw(st.lists(st.sampled_from((2, 10, 11, 35, 60, 100, 170, 300)), max_size=4))
    backups = [
        Backup(number, START - age * HOUR, draw(st.sampled_from((1.0, 1.0, 5.0, None))))
        for number, age in enumerate(ages, 1)
    ]
    apart = draw(st.sampled_from((0.0, DAY, 16 * MINUTE, 4 * HOUR, -20 * HOUR)))
    return Truth(policy, droplet, START // DAY * DAY + hour * HOUR + apart, backups)


def _change(draw: st.DrawFn, truth: Truth, number: int, now: float) -> None:
    policy = truth.policy
    match draw(st.sampled_from(CHANGES)):
        case "made":
            truth.backups.append(Backup(100 + number, now - MINUTE, 1.0))
        case "made without a size":
            truth.backups.append(Backup(100 + number, now - MINUTE))
        case "sizes come":
            truth.backups = [replace(backup, size=backup.size or 2.0) for backup in truth.backups]
        case "phantom":
            truth.phantoms.append(Backup(500 + number, now - MINUTE, 1.0))
        case "deleted" if truth.backups:
            gone = truth.backups.pop(draw(st.integers(0, len(truth.backups) - 1)))
            if draw(st.booleans()):
                truth.droplet = replace(truth.droplet, snapshot_ids=(*(truth.droplet.snapshot_ids or ()), gone.id))
        case "destroyed or back":
            truth.destroyed = not truth.destroyed
            truth.was_read = False
        case "off":
            truth.policy = replace(policy, enabled=False)
        case "on":
            truth.policy = replace(policy, enabled=True)
        case "silent":
            truth.policy = replace(policy, enabled=None)
        case "hour" if policy.hour is not None:
            truth.policy = replace(policy, hour=draw(st.sampled_from((0, 4, 16))))
        case "weekday" if policy.weekday is not None:
            truth.policy = replace(policy, weekday=draw(st.sampled_from(("SUN", "TUE", "SAT"))))
        case "plan":
            truth.policy = replace(policy, plan=draw(st.sampled_from(PLANS)), weekday="SUN")
        case "named window":
            truth.named += draw(st.sampled_from((10 * MINUTE, 16 * MINUTE, -16 * MINUTE, 4 * HOUR, DAY)))


def _poll(draw: st.DrawFn, truth: Truth, now: float) -> Poll:
    policy, droplet = _policy_record(draw, truth), _droplet_record(draw, truth)
    ids = droplet.backup_ids or ()
    seen: dict[str, Any] = {
        "policy": policy,
        "droplet": droplet,
        "reading": Reading(now, "read", tuple(truth.backups)),
        "tells_ids": bool(ids) or draw(st.booleans()),
    }
    if truth.destroyed:
        seen |= {"droplet": None, "reading": Reading(now, "404")}
        if draw(st.booleans()):
            seen |= {"policy": None, "not_found": rarely(draw)}
    match draw(st.sampled_from(POLLS)):
        case "no answer":
            # Nothing is asked for that nothing answered.
            nothing = {"policies_complete": False, "droplets_complete": False, "clock_offset": None}
            seen = nothing | {"reading": None, "unread": True}
        case "images" if not truth.destroyed:
            # A list that no image stands for has to be read.
            images = [*truth.backups, *truth.phantoms]
            images = [one for one in images if one.size is not None and one.id in ids and one.id not in truth.shown]
            seen |= {"reading": None, "images": tuple(images), "unread": not images}
        case "own list not asked" if truth.was_read:
            seen["reading"] = None
        case "own list fails":
            first_page = tuple(truth.backups[: draw(st.integers(0, len(truth.backups)))])
            seen |= {"reading": Reading(now, "failed", first_page), "unread": True}
        case "own list 404":
            seen["reading"] = Reading(now, "404")
        case "no policy":
            seen |= {"policy": None, "not_found": False}
        case "no droplets":
            seen |= {"droplet": None, "droplets_complete": False, "not_found": False}
        case "record rejected":
            seen |= {draw(st.sampled_from(("policy", "droplet"))): REJECTED, "not_found": False}
        case "clock":
            seen["clock_offset"] = draw(st.sampled_from((2 * DAY, -2 * HOUR, 1 * HOUR)))
    reading = seen["reading"]
    if reading is not None:
        truth.shown.update(backup.id for backup in reading.backups)
        truth.was_read = truth.was_read or reading.answer == "read"
    return Poll(now, **seen)


def _policy_record(draw: st.DrawFn, truth: Truth) -> Policy:
    """What the API says of the policy; some values are missing at times."""
    if truth.policy.enabled is False:
        # A policy that is off says nothing more.
        return Policy(enabled=False)
    told = replace(truth.policy, window=(truth.named, truth.named + 4 * HOUR) if draw(st.integers(0, 2)) else None)
    for name in ("plan", "hour", "window_length"):
        if rarely(draw, 9):
            told = replace(told, **{name: None})
    return told


def _droplet_record(draw: st.DrawFn, truth: Truth) -> Droplet:
    """What the listing says of the Droplet; its ids are those of an earlier poll at times."""
    ids = tuple(backup.id for backup in (*truth.backups, *truth.phantoms))
    if rarely(draw):
        ids, truth.listed_late = truth.listed_late, ids
    return replace(truth.droplet, backup_ids=ids, tags=None if rarely(draw, 9) else truth.droplet.tags)


@given(lives(), st.sampled_from((0.0, 1 * HOUR, 20 * HOUR)), st.sampled_from((None, 26 * HOUR)))
def test_the_exporter_says_what_the_oracle_says(events: list[Event], later: float, max_age: float | None) -> None:
    """State, reason, misses, age and all else are the same, at the last poll and some time after it."""
    config = Config(max_age=max_age, supported=SUPPORTED)
    now = events[-1].at + later
    wanted = Oracle(config, events).verdict(now)
    found = dict(Replay(config, events).values(now))
    if any(isinstance(event, Poll) and event.policy == Policy(enabled=False) for event in events):
        # Switching backups off deletes them. The exporter takes no loss just before that for one; the oracle does.
        found.pop("lost", None)
    if wanted is None:
        assert found["state"] is None
    else:
        assert found == {name: getattr(wanted, name, None) for name in found}
