"""The processor time of a steady poll, beside that of an earlier commit: `python -m tests.benchmarks.steady`.

A steady poll is one that learns nothing new. Both commits poll the same look-alike of the API, one after the other, in
one run. Beside them the least that the requests of such a poll cost: the HTTP client sends as many, and nobody reads
the answers.
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

_REQUESTS = f"""
import asyncio, json, time
import httpx
from tests.benchmarks import polls
from tests.benchmarks.economy import listings

async def measure():
    limits = httpx.Limits(max_connections=polls.CONCURRENCY)
    headers = {{"Authorization": "Bearer " + "a" * 20}}
    with polls.api({LARGE}) as url:
        async with httpx.AsyncClient(base_url=url, headers=headers, limits=limits, timeout=60) as client:
            for _ in range({POLLS}):
                begun = time.process_time()
                asked = (
                    client.get(path, params={{"per_page": "200", "page": str(page + 1)}})
                    for path in ("/v2/droplets", "/v2/droplets/backups/policies")
                    for page in range(listings({LARGE}) // 2)
                )
                await asyncio.gather(*asked)
                yield time.process_time() - begun

async def main():
    return [seconds async for seconds in measure()]

print(json.dumps(asyncio.run(main())[2:]))
"""


@dataclass(frozen=True, slots=True)
class Steady:
    """Seconds of the processor, the least of several polls."""

    ours: float
    before: float
    """At `BEFORE`."""
    requests: float
    """Of the requests alone."""

    @property
    def share(self) -> float:
        """Of what the earlier commit took, the requests' part left out of both."""
        return (self.ours - self.requests) / (self.before - self.requests)


def measure() -> Steady:
    with tempfile.TemporaryDirectory() as folder:
        archive = subprocess.run(
            ["git", "-C", str(ROOT), "archive", BEFORE, "exporter", "tests"], check=True, stdout=subprocess.PIPE
        )
        subprocess.run(["tar", "--extract", "--directory", folder], input=archive.stdout, check=True)
        rounds = [(_least(_POLLS, ROOT), _least(_POLLS, Path(folder)), _least(_REQUESTS, ROOT)) for _ in range(ROUNDS)]
    ours, before, requests = (min(figures) for figures in zip(*rounds, strict=True))
    return Steady(ours, before, requests)


def _least(script: str, tree: Path) -> float:
    """The least figure that a script prints, run with the code of this tree."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree)},
        stdout=subprocess.PIPE,
        check=True,
    )
    found: list[float] = json.loads(done.stdout)
    return min(found)


def main() -> None:
    found = measure()
    sys.stdout.write(
        f"{found.ours:.2f} s, at {BEFORE[:7]} {found.before:.2f} s, the requests alone {found.requests:.2f} s; "
        f"without these {100 * found.share:.0f} %\n"
    )


if __name__ == "__main__":
    main()
