"""The API's look-alike in a process of its own: what it costs to answer must not count as ours."""

from __future__ import annotations

import asyncio
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from exporter.clock import Clock
from exporter.demo.fleet import fleet_of
from tests.support.lookalike import Api


async def _serve(count: int, latency: float, weekly_share: float) -> None:
    clock = Clock()
    fleet = fleet_of(count, clock.now(), weekly_share=weekly_share)
    api = Api(fleet, now=clock.now, per_minute=None, per_hour=None, latency=latency, remember=1000)
    # Made before the first request, for the real API would not be slower then.
    for listing in (api.account.droplets, api.account.policies, api.account.images):
        listing(clock.now())
    async with api:
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
