"""What the state file costs: `python -m tests.benchmarks.state`."""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from exporter.polling.state_file import AccountState, StateFile
from tests.benchmarks.polls import polling
from tests.support.api_process import api

DROPLETS = 10_000
WRITTEN_WITHIN = 1.0
LOADED_WITHIN = 2.0
"""Seconds that are wanted."""
TIMES = 3
"""Each is measured so often, and the least counts."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of one account's state."""

    droplets: int
    backups: int
    size: int
    """Bytes of the file."""
    written: float
    """Seconds from the end of a poll until the file is whole."""
    pause: float
    """Seconds of that for which nothing else could run on the loop at a time."""
    loaded: float
    """Seconds that a start takes longer for it."""


def measure(count: int = DROPLETS) -> Cost:
    """With as many daily Droplets of seven backups each, as a poll learns of them."""
    return asyncio.run(_measure(count))


async def _measure(count: int) -> Cost:
    with api(count, weekly_share=0) as url, tempfile.TemporaryDirectory() as folder:
        async with polling(url) as (poller, _):
            assert await poller.poll() == "success"
            state = AccountState(url, list(poller._tracked.values()), list(poller._supported.values()), time.time())
        path = Path(folder, "state")
        written, pauses, loaded = [], [], []
        for number in range(TIMES):
            # The time it holds makes each write another one.
            with closing(StateFile(path)) as store:
                watching = asyncio.create_task(_longest_pause())
                await asyncio.sleep(0)
                begun = time.perf_counter()
                await store.save("production", AccountState(url, state.droplets, state.supported, number))
                written.append(time.perf_counter() - begun)
                assert store.is_saved
                watching.cancel()
                pauses.append(await watching)
            begun = time.perf_counter()
            with closing(StateFile(path)) as store:
                found = store.state("production", url)
                assert found is not None
                tracked = found.tracked()
            loaded.append(time.perf_counter() - begun)
        backups = sum(len(droplet.backups or ()) for droplet in tracked.values())
        return Cost(
            len(tracked), backups, (await asyncio.to_thread(path.stat)).st_size, min(written), min(pauses), min(loaded)
        )


async def _longest_pause() -> float:
    longest, last = 0.0, time.thread_time()
    try:
        while True:
            await asyncio.sleep(0)
            now = time.thread_time()
            longest, last = max(longest, now - last), now
    except asyncio.CancelledError:
        return longest


def table(cost: Cost) -> Sequence[str]:
    """The figures beside what is wanted of them."""
    rows = [
        ("size of the file", f"{cost.size / 2**20:.1f} MiB", ""),
        ("written", f"{cost.written:.2f} s", _wanted(cost.written, WRITTEN_WITHIN)),
        ("longest pause of the loop meanwhile", f"{1e3 * cost.pause:.1f} ms", ""),
        ("loaded at a start", f"{cost.loaded:.2f} s", _wanted(cost.loaded, LOADED_WITHIN)),
    ]
    return ["| | ours | wanted |", "|---|---:|---:|", *(f"| {' | '.join(row)} |" for row in rows)]


def _wanted(seconds: float, limit: float) -> str:
    return f"< {limit:.0f} s" + " **missed**" * (seconds >= limit)


if __name__ == "__main__":
    sys.stdout.write("\n".join(table(measure())) + "\n")
