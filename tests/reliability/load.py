"""Many scrapers at once on an exporter that polls without rest, and what that does to it."""

from __future__ import annotations

import asyncio
import statistics
import time
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import aiohttp

from tests.reliability.section import Section, Told, row, table
from tests.support.measured_process import MIB, serving
from tests.support.processes import Exporter, until

SCRAPERS = 50
DROPLETS = 10_000
PROBED_EVERY = 0.05
"""Seconds between two looks at whether the loop answers."""
PATIENCE = 60.0
"""Seconds for any answer at all."""
READ_EVERY = 10
"""How many scrapes of a scraper there are to each that it unpacks and reads, which takes longer than the scrape."""


@dataclass(slots=True)
class Load:
    """What the scrapers got, and what it cost the exporter. Times are seconds, as the clients saw them."""

    scrapes: list[float] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    """Of the smallest answer there is, asked for again and again."""
    memory: list[float] = field(default_factory=list)
    """Resident, in MiB, each second."""
    files: list[int] = field(default_factory=list)
    """Open file descriptors, each second."""
    polls: int = 0
    wrong: list[str] = field(default_factory=list)
    files_at_rest: int = 0
    """Before the scrapers came, and no more after they had gone."""

    @property
    def median(self) -> float:
        return statistics.median(self.scrapes)

    @property
    def p99(self) -> float:
        return sorted(self.scrapes)[len(self.scrapes) * 99 // 100]

    @property
    def growth(self) -> float:
        """By how much the memory's peak in the second half is above that in the first, as a part of it."""
        half = len(self.memory) // 2
        return max(self.memory[half:]) / max(self.memory[:half]) - 1


def loaded(seconds: float, *, droplets: int = DROPLETS, scrapers: int = SCRAPERS, every: float) -> Load:
    """So many scrapers on an exporter of so many Droplets, each asking `every` so many seconds."""
    with serving(droplets) as running:
        return asyncio.run(_loaded(running, seconds, droplets, scrapers, every))


async def _loaded(running: Exporter, seconds: float, droplets: int, scrapers: int, every: float) -> Load:
    load, url = Load(), running.url
    pid = running.process.pid
    await asyncio.to_thread(running.line, 'event="poll finished"', PATIENCE)
    polls = _polls(running)
    before = _open_files(pid)
    end = time.monotonic() + seconds

    async def scrape(session: aiohttp.ClientSession, number: int) -> None:
        await asyncio.sleep(every * number / scrapers)
        turn = number
        while time.monotonic() < end:
            begun = time.perf_counter()
            async with session.get(f"{url}/metrics", headers={"Accept-Encoding": "gzip"}) as answer:
                body = await answer.read()
            load.scrapes.append(time.perf_counter() - begun)
            if turn % READ_EVERY == 0:
                told = (await asyncio.to_thread(_unpacked, body)).count(b"\ndigitalocean_backup_overdue{")
                if told != droplets:
                    load.wrong.append(f"a scrape tells of {told} droplets")
            turn += 1
            await asyncio.sleep(every)

    async def probe(session: aiohttp.ClientSession) -> None:
        while time.monotonic() < end:
            begun = time.perf_counter()
            async with session.get(f"{url}/-/healthy") as answer:
                await answer.read()
            load.pauses.append(time.perf_counter() - begun)
            await asyncio.sleep(PROBED_EVERY)

    async def watch() -> None:
        while time.monotonic() < end:
            load.memory.append(_resident(pid))
            load.files.append(_open_files(pid))
            await asyncio.sleep(1.0)

    async with aiohttp.ClientSession(
        auto_decompress=False,
        raise_for_status=True,
        timeout=aiohttp.ClientTimeout(PATIENCE),
        connector=aiohttp.TCPConnector(limit=0),
    ) as session:
        work = [scrape(session, number) for number in range(scrapers)]
        for problem in await asyncio.gather(*work, probe(session), watch(), return_exceptions=True):
            if problem is not None:
                load.wrong.append(repr(problem))
    load.polls = _polls(running) - polls
    load.wrong += [line for line in running.log if "level=info" not in line]
    await asyncio.to_thread(until, lambda: _open_files(pid) <= before, "its connections are closed")
    load.files_at_rest = before
    return load


def _unpacked(body: bytes) -> bytes:
    unpacking = zlib.decompressobj(wbits=31)
    text = unpacking.decompress(body)
    assert unpacking.eof, "the answer ends before its end"
    return text


def _polls(running: Exporter) -> int:
    lines = [line for line in running.get("/metrics").splitlines() if "_exporter_polls_total{" in line]
    return sum(int(float(line.rpartition(" ")[2])) for line in lines if 'result="success"' in line)


def _resident(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * 4096 / MIB


def _open_files(pid: int) -> int:
    return len(list(Path(f"/proc/{pid}/fd").iterdir()))


LOADED_FOR = 60.0
"""Seconds."""
SCRAPED_EVERY = 5.0


def _told(found: Sequence[Load]) -> Told:
    (load,) = found
    rows = [
        ("scrapers, Droplets, seconds", _SIZE),
        ("scrapes served", f"{len(load.scrapes):,}"),
        ("of those failed or not whole", f"{len(load.wrong)}"),
        ("polls meanwhile, one after the other", f"{load.polls}"),
        ("a scrape, median", f"{1000 * load.median:.0f} ms"),
        ("a scrape, 99th percentile", f"{1000 * load.p99:.0f} ms"),
        ("longest pause, as seen by a probe", f"{1000 * max(load.pauses):.0f} ms"),
        ("memory's peak, second half above first", f"{100 * load.growth:+.1f} %"),
        ("file descriptors at most, and once the scrapers had gone", f"{max(load.files)}, {load.files_at_rest}"),
    ]
    return Told(table(("what", "measured"), rows), load.wrong)


_SIZE = f"{SCRAPERS}, {DROPLETS:,}, {LOADED_FOR:.0f}"
SECTION = Section(
    "Many scrapers",
    planned=(row("scrapers, Droplets, seconds", _SIZE),),
    jobs=(partial(loaded, LOADED_FOR, every=SCRAPED_EVERY),),
    tell=_told,
    alone=True,
)
