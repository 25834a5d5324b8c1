"""For any observations of a Droplet the exporter's verdict is the oracle's."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.fleet.life import at
from tests.fleet.oracle import DAY, HOUR, MINUTE, Backup, Config, Droplet, Event, Oracle, Policy, Poll, Reading, Restart
from tests.fleet.replay import Replay

START = at("2026-11-02 12:00")
PLANS = ("daily", "weekly", "intra_daily_4h", "usage_based_daily")


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """The settings that an owner chose, and the window that the API names by them."""
    plan = draw(st.sampled_from(PLANS))
    hour = draw(st.sampled_from((0, 4, 20)))
    weekday = draw(st.sampled_from(("SUN", "MON"))) if plan == "weekly" else None
    start = START // DAY * DAY + hour * HOUR + draw(st.sampled_from((0.0, DAY, 16 * MINUTE, 4 * HOUR, -20 * HOUR)))
    return Policy(
        True,
        plan,
        hour if draw(st.integers(0, 4)) else None,
        weekday,
        4 * HOUR,
        7 * DAY,
        (start, start + 4 * HOUR) if draw(st.booleans()) else None,
    )


@st.composite
def lives(draw: st.DrawFn) -> list[Event]:
    """Some days of polls, each of which shows or fails to show what is true at the time."""
    policy = draw(policies())
    backups = [
        Backup(number, START - age * HOUR, draw(st.sampled_from((1.0, 1.0, 5.0, None))))
        for number, age in enumerate(draw(st.lists(st.sampled_from((2, 10, 11, 35, 60, 100, 170, 300)), max_size=4)), 1)
    ]
    droplet = Droplet(
        created_at=START - draw(st.sampled_from((1, 400))) * DAY, disk=draw(st.sampled_from((10.0, None)))
    )
    now, events = START, list[Event]()
    for number in range(draw(st.integers(1, 14))):
        change = draw(
            st.sampled_from(("none",) * 6 + ("made", "unsized", "deleted", "off", "on", "hour", "plan", "silent"))
        )
        if change in ("made", "unsized"):
            backups.append(Backup(100 + number, now - MINUTE, 1.0 if change == "made" else None))
        elif change == "deleted" and backups:
            gone = backups.pop(draw(st.integers(0, len(backups) - 1)))
            if draw(st.booleans()):
                droplet = replace(droplet, snapshot_ids=(*(droplet.snapshot_ids or ()), gone.id))
        elif change in ("off", "on", "silent"):
            policy = replace(policy, enabled={"off": False, "on": True, "silent": None}[change])
        elif change == "hour" and policy.hour is not None:
            policy = replace(policy, hour=draw(st.sampled_from((0, 4, 16))))
        elif change == "plan":
            policy = replace(policy, plan=draw(st.sampled_from(PLANS)), weekday="SUN")
        events.append(draw(polls(now, policy, droplet, tuple(backups))))
        if draw(st.integers(0, 9)) == 0:
            events.append(Restart(now, keeps_state=draw(st.booleans())))
        now += draw(st.sampled_from((5 * MINUTE, 4 * HOUR, 9 * HOUR, 13 * HOUR, DAY, 3 * DAY)))
    return events


@st.composite
def polls(draw: st.DrawFn, now: float, policy: Policy, droplet: Droplet, backups: tuple[Backup, ...]) -> Poll:
    listed = replace(droplet, backup_ids=tuple(one.id for one in backups))
    # A policy that is off says nothing more.
    told = Policy(enabled=False) if policy.enabled is False else policy
    seen: dict[str, Any] = {"policy": told, "droplet": listed, "reading": Reading(now, "read", backups)}
    match draw(st.sampled_from(("all",) * 5 + ("no answer", "no own list", "own list fails", "no policy", "clock"))):
        case "no answer":
            seen = {
                "policies_complete": False,
                "droplets_complete": False,
                "reading": None,
                "unread": True,
                "clock_offset": None,
            }
        case "no own list":
            # A list that no image stands for has to be read.
            images = tuple(one for one in backups if one.size is not None)
            seen |= {"reading": None, "images": images, "unread": not images}
        case "own list fails":
            seen |= {"reading": Reading(now, "failed"), "unread": True}
        case "no policy":
            seen["policy"] = None
        case "clock":
            seen["clock_offset"] = 2 * DAY
    return Poll(now, **seen)


# The same histories in every run: `HYPOTHESIS_PROFILE=thorough` is for looking further.
@settings(derandomize=os.environ.get("HYPOTHESIS_PROFILE") != "thorough")
@given(lives(), st.sampled_from((0.0, 1 * HOUR, 20 * HOUR)), st.sampled_from((None, 26 * HOUR)))
def test_the_exporter_says_what_the_oracle_says(events: list[Event], later: float, max_age: float | None) -> None:
    """State, reason, misses, age and all else are the same, at the last poll and some time after it."""
    config = Config(max_age=max_age)
    now = events[-1].at + later
    wanted = Oracle(config, events).verdict(now)
    found = dict(Replay(config, events).values(now))
    if any(isinstance(event, Poll) and event.policy == Policy(enabled=False) for event in events):
        # Switching backups off deletes them. The exporter takes no loss just before that for one; the oracle does.
        found.pop("lost", None)
    assert found == {name: getattr(wanted, name, None) for name in found}
