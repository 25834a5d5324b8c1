"""A fleet of any size for what is timed and drawn: many Droplets, each with its policy and backups."""

from __future__ import annotations

import random

from exporter.fleet.model import GIB, Backup, Description, Droplet, Fleet, Policy, SupportedPolicy, Verdict, Window
from exporter.fleet.state import State

NOW = 1_800_000_000.0
HOUR, DAY = 3600.0, 86400.0
TAG_LABELS = ("team",)


def made_up_fleet(count: int, seed: int = 0) -> Fleet:
    """So many Droplets, two thirds daily and one third weekly, with as many backups as are kept."""
    dice = random.Random(seed)
    droplets = []
    for number in range(count):
        weekly = number % 3 == 2
        interval, kept = (7 * DAY, 4) if weekly else (DAY, 7)
        start = NOW // (4 * HOUR) * 4 * HOUR + 4 * HOUR * dice.randrange(1, 42 if weekly else 6)
        newest = start - interval + dice.randrange(4 * 3600)
        droplets.append(
            Droplet(
                id=300_000_000 + 37 * number,
                description=Description(
                    f"web-{number:05}.fra1.example.com", "fra1", "s-2vcpu-4gb", "active", NOW - dice.randrange(10**8)
                ),
                policy=Policy(
                    enabled=True,
                    plan="weekly" if weekly else "daily",
                    weekday="MON" if weekly else None,
                    hour=int(start // HOUR % 24),
                    next_window=Window(start, start + 4 * HOUR),
                ),
                backups=tuple(
                    Backup(10 * number + age, newest - age * interval, round(dice.uniform(1, 40), 2) * GIB)
                    for age in reversed(range(kept))
                ),
                refreshed_at=NOW - dice.random() * DAY,
                expected=True,
                tag_labels=(f"team-{number % 20}",),
                interval=interval,
                retention_days=28.0 if weekly else 7.0,
                policy_supported=True,
                verdict=Verdict(State.PROTECTED, missed=()),
            )
        )
    supported = (SupportedPolicy("weekly", (), (), 4 * HOUR, 28.0), SupportedPolicy("daily", (), (), 4 * HOUR, 7.0))
    return Fleet("production", tuple(droplets), supported, known=True)
