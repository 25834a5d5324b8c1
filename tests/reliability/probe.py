"""What a client sees of an exporter, measured by a process of its own, so that nobody's work but the exporter's counts.

python -m tests.reliability.probe URL SECONDS READERS RELOADS DROPLETS

It scrapes five times a second, in turn plain and gzip, whether the scrape before was answered or not. Readers ask for
the page again and again, each as soon as it has an answer.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
import zlib
from collections.abc import Sequence

import aiohttp
import msgspec

EVERY = 0.2
"""Seconds from one scrape to the next."""
SELDOM = 1.0
"""Seconds from one to the next of everything else, but for reloads."""
RELOADED_EVERY = 5.0
"""Seconds; a reload of all accounts is work of its own."""
PATIENCE = 60.0
"""Seconds for any answer."""


class Seen(msgspec.Struct):
    """The answers to one kind of request."""

    longest: float = 0.0
    """Seconds until the last byte, of the slowest answer or of a request that failed."""
    answers: int = 0
    failed: list[str] = []


class Probed(msgspec.Struct):
    """What the probe saw."""

    plain: Seen
    gzip: Seen
    health: Seen
    page: Seen
    reload: Seen


async def probe(url: str, seconds: float, readers: int, droplets: int, *, reloads: bool) -> Probed:
    """Asks for so many seconds, and waits for the last answers. Each scrape has to show so many Droplets."""
    seen = Probed(Seen(), Seen(), Seen(), Seen(), Seen())
    end = time.monotonic() + seconds

    async def ask(
        session: aiohttp.ClientSession, path: str, what: Seen, *, gzip: bool = False, post: bool = False
    ) -> None:
        begun = time.perf_counter()
        headers = {"Accept-Encoding": "gzip" if gzip else "identity"}
        try:
            # The exporter's certificate is of no interest here.
            async with session.request("POST" if post else "GET", url + path, headers=headers, ssl=False) as answer:
                body = await answer.read()
            what.longest = max(what.longest, time.perf_counter() - begun)
            if answer.status != 200:
                what.failed.append(f"{path}: {answer.status} {body[:200]!r}")
            elif path == "/metrics":
                text = zlib.decompress(body, wbits=31) if gzip else body
                told = text.count(b"\ndigitalocean_backup_droplet_info{")
                if told != droplets:
                    what.failed.append(f"{path}: it shows {told} Droplets")
        except (aiohttp.ClientError, TimeoutError) as error:
            what.failed.append(f"{path}: {error!r}")
            what.longest = max(what.longest, time.perf_counter() - begun)
        what.answers += 1

    async def read_again_and_again(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            await ask(session, "/", seen.page)

    async with aiohttp.ClientSession(
        auto_decompress=False, timeout=aiohttp.ClientTimeout(PATIENCE), connector=aiohttp.TCPConnector(limit=0)
    ) as session:
        asked = [asyncio.create_task(read_again_and_again(session)) for _ in range(readers)]
        for turn in itertools.count():
            if time.monotonic() >= end:
                break
            gzip = turn % 2 == 1
            asked.append(asyncio.create_task(ask(session, "/metrics", seen.gzip if gzip else seen.plain, gzip=gzip)))
            if turn % (SELDOM // EVERY) == 0:
                asked.append(asyncio.create_task(ask(session, "/-/healthy", seen.health)))
                asked.append(asyncio.create_task(ask(session, "/", seen.page)))
                if reloads and turn % (RELOADED_EVERY // EVERY) == 0:
                    asked.append(asyncio.create_task(ask(session, "/-/reload", seen.reload, post=True)))
            await asyncio.sleep(EVERY)
        await asyncio.gather(*asked)
    return seen


def probed(url: str, seconds: float, *, readers: int, reloads: bool, droplets: int) -> Probed:
    """What the probe sees during so many seconds."""
    words = [url, str(seconds), str(readers), str(int(reloads)), str(droplets)]
    done = subprocess.run(
        [sys.executable, "-m", "tests.reliability.probe", *words],
        stdout=subprocess.PIPE,
        timeout=seconds + 2 * PATIENCE,
        check=True,
    )
    return msgspec.json.decode(done.stdout, type=Probed)


def main(words: Sequence[str]) -> None:
    url, seconds, readers, reloads, droplets = words
    found = asyncio.run(probe(url, float(seconds), int(readers), int(droplets), reloads=reloads == "1"))
    print(json.dumps(msgspec.to_builtins(found)))  # for the process that started this one


if __name__ == "__main__":
    main(sys.argv[1:])
