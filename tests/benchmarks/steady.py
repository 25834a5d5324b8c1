"""The processor time of a steady poll, beside that of an earlier commit: `python -m tests.benchmarks.steady`.

A steady poll is one that learns nothing new. Both commits poll the same look-alike of the API, one after the other, in
one run. Requests and the reading of answers are part of both.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tests.benchmarks.economy import LARGE

ROOT = Path(__file__).resolve().parents[2]
BEFORE = "7f80f3104ad94e249442c749e4c2af93d0d797e8"
"""The last commit at which every poll decoded, judged and rendered every Droplet."""
POLLS = 8
ROUNDS = 2

_POLLS = f"""
import asyncio, json, time
from exporter import log
from tests.benchmarks import polls

async def measure():
    with polls.api({LARGE}) as url:
        async with polls.polling(url) as (poller, _):
            for _ in range({POLLS}):
                begun = time.process_time()
                assert await poller.poll() == "success"
                yield time.process_time() - begun

async def main():
    return [seconds async for seconds in measure()]

log.configure("error", "logfmt")
print(json.dumps(asyncio.run(main())[2:]))
"""


@dataclass(frozen=True, slots=True)
class Steady:
    """Seconds of the processor, the least of several polls."""

    ours: float
    before: float
    """At `BEFORE`."""

    @property
    def share(self) -> float:
        """Of what the earlier commit took."""
        return self.ours / self.before


def measure() -> Steady:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", BEFORE, "exporter", "tests"], check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
        rounds = [(_least(ROOT), _least(Path(folder))) for _ in range(ROUNDS)]
    ours, before = (min(figures) for figures in zip(*rounds, strict=True))
    return Steady(ours, before)


def _least(tree: Path) -> float:
    """What the cheapest steady poll takes with the code of this tree."""
    done = subprocess.run(
        [sys.executable, "-c", _POLLS],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: list[float] = json.loads(done.stdout)
    return min(found)


def main() -> None:
    found = measure()
    sys.stdout.write(f"{found.ours:.2f} s, at {BEFORE[:7]} {found.before:.2f} s: {100 * found.share:.0f} %\n")


if __name__ == "__main__":
    main()
