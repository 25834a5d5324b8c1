"""What a scrape costs, beside its floor (joining ready bytes) and beside the plain way (the client library renders)."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
import zlib
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass

from msgspec.structs import replace
from prometheus_client import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from exporter.fleet.model import Fleet
from exporter.metrics.exposition import Exposition
from tests.support.made_up_fleet import NOW, TAG_LABELS, made_up_fleet
from tests.support.samples import PlainCollector

REPEATS = 7


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured, with what cannot be undercut and what the plain way costs, where there is one."""

    what: str
    unit: str
    ours: float
    floor: float | None = None
    plain: float | None = None


class ReadyMade(Collector):
    """Families whose sample objects are there already, so that only their rendering is timed."""

    def __init__(self, families: Iterable[Metric]) -> None:
        self._families = list(families)

    def collect(self) -> list[Metric]:
        return self._families


def everything_changed(fleet: Fleet) -> Fleet:
    """The same Droplets renamed: no line of the text stays."""
    return replace(
        fleet,
        droplets=tuple(
            replace(droplet, description=replace(droplet.description, name=f"new-{droplet.id}"))
            for droplet in fleet.droplets
            if droplet.description
        ),
    )


def best(work: Callable[[], object], repeats: int = REPEATS) -> float:
    """Milliseconds of the quickest run: what the work costs when the machine does nothing else."""
    times = []
    for _ in range(repeats):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return 1e3 * min(times)


async def best_of(work: Callable[[int], Awaitable[object]], repeats: int = REPEATS) -> float:
    times = []
    for turn in range(repeats):
        begun = time.perf_counter()
        await work(turn)
        times.append(time.perf_counter() - begun)
    return 1e3 * min(times)


async def longest_pause(work: Awaitable[object]) -> float:
    """The longest time, in milliseconds, for which the work kept everything else on the loop from running.

    In CPU time of the loop's thread: what other programs take of the machine does not count.
    """
    worst, done = 0.0, asyncio.ensure_future(work)
    last = time.thread_time()
    while not done.done():
        await asyncio.sleep(0)
        now = time.thread_time()
        worst, last = max(worst, now - last), now
    await done
    return 1e3 * worst


async def _measure(count: int) -> list[Row]:
    fleet = made_up_fleet(count)
    changed = everything_changed(fleet)
    exposition = Exposition(TAG_LABELS)
    seconds = iter(range(10**6))

    def next_second() -> float:
        """A time not asked for before, so that what moves is computed anew."""
        return NOW + next(seconds)

    async def scrape(_: int, gzip: bool = False) -> bytes:
        return b"".join(await exposition.text_at(next_second(), gzip=gzip))

    tracemalloc.start()
    await exposition.update(fleet)
    await scrape(0, gzip=True)
    text_memory = tracemalloc.get_traced_memory()[0]
    tracemalloc.reset_peak()
    await exposition.update(changed)
    await scrape(0, gzip=True)
    text_peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    fleets = (fleet, changed)
    all_new = await best_of(lambda turn: exposition.update(fleets[turn % 2]), 4)
    pause_new = await longest_pause(exposition.update(changed))
    nothing_new = await best_of(lambda _: exposition.update(changed), 3)

    pieces = await exposition.text_at(NOW)
    page = b"".join(pieces)
    ready = ReadyMade(PlainCollector([changed], NOW, TAG_LABELS).collect())
    assert generate_latest(ready) == page, "not the text of the client library"
    lines = page.split(b"\n")
    samples = len(lines) - sum(line.startswith(b"#") for line in lines) - 1
    del lines
    library = best(lambda: generate_latest(ready), 3)
    joining = best(lambda: b"".join(pieces))
    level_1 = best(lambda: zlib.compress(page, 1))
    packed = len(b"".join(await exposition.text_at(NOW, gzip=True)))

    async def ten_at_once(_: int) -> None:
        now = next_second()
        await asyncio.gather(*(exposition.text_at(now) for _ in range(10)))

    rows = [
        Row("samples", "", samples, plain=samples),
        Row("text", "MB", len(page) / 1e6, plain=len(page) / 1e6),
        Row("text, gzip", "MB", packed / 1e6, plain=len(zlib.compress(page, 1)) / 1e6),
        Row(
            "scrape, ready to be sent", "ms", await best_of(lambda _: exposition.text_at(next_second())), None, library
        ),
        Row("scrape, joined to one", "ms", await best_of(scrape), joining, library),
        Row("scrape, gzip", "ms", await best_of(lambda _: scrape(0, gzip=True)), None, library + level_1),
        Row("gzip level 1 of the ready page", "ms", level_1),
        Row("ten scrapes at once", "ms", await best_of(ten_at_once), None, 10 * library),
        Row("longest pause by a scrape", "ms", await longest_pause(exposition.text_at(next_second())), plain=library),
        Row("longest pause by a gzip scrape", "ms", await longest_pause(scrape(0, gzip=True)), plain=library + level_1),
        Row("rendering after a poll, all changed", "ms", all_new),
        Row("rendering after a poll, nothing changed", "ms", nothing_new),
        Row("longest pause by a rendering", "ms", pause_new),
        Row("memory of the text", "MB", text_memory / 1e6, (len(page) + packed) / 1e6),
        Row("memory at most, while all changes", "MB", text_peak / 1e6, 2 * (len(page) + packed) / 1e6),
    ]
    gc.collect()
    return rows


def measure(count: int) -> list[Row]:
    """Everything about scrapes of so many Droplets, in one run."""
    return asyncio.run(_measure(count))


def main() -> None:
    counts = [int(argument) for argument in sys.argv[1:]] or [100, 1_000, 10_000, 20_000]
    for count in counts:
        sys.stdout.write(f"\n{count} Droplets{'':31}{'ours':>12}{'floor':>12}{'plain':>12}{'plain/ours':>12}\n")
        for row in measure(count):
            figures = [
                f"{'' if figure is None else f'{figure:.2f}':>12}" for figure in (row.ours, row.floor, row.plain)
            ]
            ratio = f"{row.plain / row.ours:>12.1f}" if row.plain and row.ours else ""
            sys.stdout.write(f"{row.what:<42}{row.unit:<3}" + "".join(figures) + ratio + "\n")


if __name__ == "__main__":
    main()
