"""The tests' API in a process of its own, so that its work is not measured as the exporter's."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from exporter.demo.records import HOURS, REGION_NAMES, WEEKDAYS
from tests.support.lookalike import Api, Fixture, backup, policy
from tests.support.world import DAY, HOUR, add


def spread_fleet(count: int, now: float, *, weekly_share: float) -> Fixture:
    """So many healthy Droplets, some weekly and the others daily, their windows spread evenly; the last has GPUs."""
    account = Fixture()
    regions = tuple(REGION_NAMES)
    for number in range(count):
        plan, interval, kept = ("weekly", 7 * DAY, 4) if number < count * weekly_share else ("daily", DAY, 7)
        hour = HOURS[number % len(HOURS)]
        day = number // len(HOURS) % 7 if plan == "weekly" else 0
        # 1 January 1970 was a Thursday.
        phase = (day - 4) % 7 * DAY % interval + hour * HOUR
        last = (now - 5 * HOUR - phase) // interval * interval + phase
        add(
            account,
            1 + number,
            [backup(1000 * (1 + number) + age, last - age * interval + HOUR, size=3.0) for age in range(kept)],
            policy(
                1 + number,
                plan=plan,
                weekday=WEEKDAYS[day] if plan == "weekly" else None,
                hour=hour,
                next_window=last + interval,
            ),
            name=f"node-{number:05}",
            region=regions[number % len(regions)],
            size="gpu-h100x1-80gb" if number == count - 1 else "s-1vcpu-2gb",
            tags=[("team:web", "team:data", "team:platform")[number % 3], "env:prod"],
        )
    return account


async def _serve(count: int, latency: float, weekly_share: float) -> None:
    fleet = spread_fleet(count, time.time(), weekly_share=weekly_share)
    async with Api(fleet, now=time.time, per_minute=None, per_hour=None, latency=latency, remember=1000) as api:
        print(api.url, flush=True)  # for the process that started this one
        # Until that process ends or closes the pipe.
        await asyncio.to_thread(sys.stdin.read)


@contextmanager
def api(count: int, *, latency: float = 0.0, weekly_share: float = 1 / 3) -> Iterator[str]:
    """The address of an API that serves so many healthy Droplets, `latency` seconds a request, as long as it lasts."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.api_process", str(count), str(latency), str(weekly_share)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        select.select([process.stdout], [], [], 60)
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(_serve(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3])))
