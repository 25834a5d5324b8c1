"""`make bench`: all measurements as tables. Writes RESULTS.md and growth.svg here if all files are committed.

Each figure stands beside its floor, where there is one: the requests that must be, the time that the API takes, the
bytes joined; and beside the plain way: every list read at every poll, one after the other, and the client library
rendering. Takes some minutes, on a machine that should do nothing else meanwhile.
"""

from __future__ import annotations

import asyncio
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from exporter import log
from tests.benchmarks import chart, dashboards, economy, notifications, polls, rules, scrape, state, steady
from tests.benchmarks.economy import ALLOWED, LARGE, Count
from tests.benchmarks.polls import Times
from tests.benchmarks.scrape import Row
from tests.benchmarks.steady import Steady
from tests.support import measured_process
from tests.support.committed import committed
from tests.support.generations import GENERATIONS
from tests.support.machine import machine
from tests.support.measured_process import Served

_T = TypeVar("_T")

HERE = Path(__file__).resolve().parent
GROWTH_OF = (100, 1_000, LARGE, 20_000)
POLLS_FOR_GROWTH = 1_000
SMALL = 100
POLLS_FOR_MEMORY = 8
RESULTS = HERE / "RESULTS.md"
GROWTH = HERE / "growth.svg"
STEADY_SHARE = 1 / 3
"""Of what a steady poll took at `steady.BEFORE`, that it may take."""


@dataclass(frozen=True, slots=True)
class Line:
    """A line of the table: what was measured, and what was wanted of it."""

    what: str
    ours: str
    floor: str = ""
    plain: str = ""
    wanted: str = ""
    missed: bool = False


def main() -> None:
    log.configure("error", "logfmt")
    commit = committed(RESULTS, GROWTH)
    begun = time.monotonic()
    with subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.economy"], stdout=subprocess.PIPE, text=True
    ) as counting:
        # Beside it only what hardly depends on who else computes.
        growth = _step("memory, poll after poll", lambda: measured_process.served(SMALL, POLLS_FOR_GROWTH, rest=0.5))
        plain_seconds, plain_requests = _step("the plain way", lambda: polls.plain(100))
        counted, _ = _step("requests", counting.communicate)
        assert counting.returncode == 0
    kept = _step("state file", state.measure)
    sizes = _step("notifications", lambda: {one.name: notifications.measure(one) for one in GENERATIONS})
    timed = _step("polls of a slow API", lambda: asyncio.run(polls.times(LARGE)))
    steady_cpu = _step("CPU of a steady poll", steady.measure)
    counts = [Count(**one) for one in json.loads(counted)]
    pauses = _step("pauses", lambda: asyncio.run(polls.pauses(LARGE)))
    served = _step("memory and scrapes", lambda: measured_process.served(LARGE, POLLS_FOR_MEMORY))
    cpu = _step("commands", lambda: [measured_process.command_cpu("--help"), measured_process.command_cpu("--version")])
    bare = measured_process.python_cpu()
    scrapes = {count: _step(f"scrapes at {count:,}", partial(scrape.measure, count)) for count in GROWTH_OF}
    rule_costs = _step("rules", rules.measure)
    loads = _step("dashboards", dashboards.measure)

    large = {row.what: row for row in scrapes[LARGE]}
    days = [count for count in counts if count.what == "day"]
    text = "\n".join(
        [
            "# Benchmarks",
            "",
            f"Measured by `make bench` of commit {commit or '(none: what ran is not committed)'} in",
            f"{(time.monotonic() - begun) / 60:.0f} minutes on {machine()}.",
            "The API is a look-alike, of healthy Droplets, two thirds daily and one third weekly (for memory: all",
            "daily, seven backups each). The floor is what must be: pages, answer times, joined bytes, a bare",
            "interpreter. The plain way reads every Droplet's list at every poll, one after the other, and lets the",
            "client library render. Pauses of the loop are counted in its own CPU time, but where the clock is named.",
            "",
            f"## At {LARGE:,} Droplets",
            "",
            *_table(
                [
                    *_requests([count for count in counts if count.droplets == LARGE]),
                    *_times(timed, plain_seconds / plain_requests),
                    *_steady(steady_cpu),
                    *_scrapes(large),
                    *_process(served, growth, cpu, bare),
                    Line("longest pause of the loop, steady poll", _ms(pauses.steady)),
                    Line("the same, by the clock", _ms(pauses.steady_wall)),
                    Line("longest pause of the loop, first poll", _ms(pauses.cold)),
                ]
            ),
            "",
            f"## From {days[0].droplets:,} to {days[-1].droplets:,} Droplets",
            "",
            "![Requests a day, beside the plain way](growth.svg)",
            "",
            *_growth(days, scrapes),
            "",
            f"## Rules, with {rules.DROPLETS:,} Droplets of which {rules.MISSING:,} miss their backups",
            "",
            "In the real Prometheus, with all annotations (`python -m tests.benchmarks.rules`). Here and below,",
            f"{' and '.join(f'`{one.name}` is {one.versions()}' for one in GENERATIONS)}.",
            "",
            *rules.table(rule_costs),
            "",
            f"## The fleet dashboard, with {dashboards.DROPLETS:,} Droplets served by {dashboards.REPLICAS} replicas",
            "",
            "Seven days, unfiltered, all queries of one load (`python -m tests.benchmarks.dashboards`).",
            "",
            *dashboards.table(loads),
            "",
            "## Notifications",
            "",
            "As the real Alertmanager sends them (`python -m tests.benchmarks.notifications`).",
            "",
            *notifications.table(sizes),
            "",
            f"## The state file, with {kept.droplets:,} Droplets and {kept.backups:,} backups",
            "",
            "Written in a thread beside the loop (`python -m tests.benchmarks.state`).",
            "",
            *state.table(kept),
            "",
        ]
    )
    sys.stdout.write(text)
    if commit is None or committed(RESULTS, GROWTH) != commit:
        sys.exit(f"{RESULTS.name} is not written: commit what the working tree holds, then measure again")
    RESULTS.write_text(text)
    GROWTH.write_text(chart.growth(days))


def _step(what: str, work: Callable[[], _T]) -> _T:
    begun = time.monotonic()
    found = work()
    sys.stderr.write(f"{what}: {time.monotonic() - begun:.0f} s\n")
    return found


def _requests(counts: Sequence[Count]) -> list[Line]:
    lines = []
    for count in counts:
        floor = count.floor
        wanted = {
            "poll with nothing new": 1.05 * floor,
            "restart with a state file": 1.05 * floor,
            "cold start, by the images": 1.2 * floor,
            "cold start, images without backups": economy.listings(count.droplets) + 1.1 * count.droplets,
            "day": 0.45 * ALLOWED,
        }.get(count.what)
        if wanted is None:
            new = int(count.what.split()[2].replace(",", ""))
            wanted = economy.listings(count.droplets) + min(new, count.images) + 3
        what = f"requests, {count.what}"
        lines.append(
            Line(
                what,
                f"{count.ours:,}",
                f"{floor:,}",
                f"{count.plain:,}",
                f"≤ {int(wanted):,}",
                missed=count.ours > wanted,
            )
        )
        if count.what == "day":
            ours, least, plain = (f"{100 * number / ALLOWED:,.1f} %" for number in (count.ours, floor, count.plain))
            lines.append(Line("the same, of what a token may send", ours, least, plain, "≤ 45 %"))
    return lines


def _times(timed: Times, each: float) -> list[Line]:
    """`each`: seconds that a request of the plain way took."""
    lines = []
    plain = each * (economy.listings(timed.droplets) + timed.droplets)
    for what, seconds, sent in (
        ("steady poll", timed.steady, timed.steady_requests),
        ("cold start", timed.cold, timed.cold_requests),
    ):
        rounds = math.ceil(sent / polls.CONCURRENCY) * polls.LATENCY
        lines.append(
            Line(f"{what}, the API answering in 100 ms", f"{seconds:.1f} s", f"{rounds:.1f} s", f"{plain:,.0f} s")
        )
    return lines


def _steady(found: Steady) -> list[Line]:
    return [
        Line("CPU of a steady poll", f"{found.ours:.2f} s"),
        Line(
            f"the same, of that at {steady.BEFORE[:7]}, which took {found.before:.2f} s",
            f"{100 * found.share:.0f} %",
            wanted=f"≤ {100 * STEADY_SHARE:.0f} %",
            missed=found.share > STEADY_SHARE,
        ),
    ]


def _scrapes(rows: Mapping[str, Row]) -> list[Line]:
    plain, joined = rows["scrape, joined to one"], rows["scrape, ready to be sent"]
    level_1 = rows["gzip level 1 of the ready page"].ours
    packed, ten = rows["scrape, gzip"], rows["ten scrapes at once"]
    ratio = (joined.plain or 0) / joined.ours
    return [
        Line("scrape", _ms(joined.ours), _ms(plain.floor), _ms(joined.plain)),
        Line("how many times as fast as the client library", f"{ratio:.0f}", wanted="≥ 20", missed=ratio < 20),
        Line(
            "scrape, gzip",
            _ms(packed.ours),
            plain=_ms(packed.plain),
            wanted=f"≤ {_ms(level_1)} (level 1)",
            missed=packed.ours > level_1,
        ),
        Line("ten scrapes at once", _ms(ten.ours), plain=_ms(ten.plain)),
        Line("longest pause by a scrape", _ms(rows["longest pause by a gzip scrape"].ours)),
        Line("longest pause by rendering", _ms(rows["longest pause by a rendering"].ours)),
    ]


def _process(served: Served, growth: Served, cpu: Sequence[float], bare: float) -> list[Line]:
    return [
        Line("gzip scrape over HTTP, one poll after the other going on, median", _ms(served.median)),
        Line(f"the same, 99th percentile of {served.scrapes}", _ms(served.p99)),
        Line(
            f"resident memory, at most in {served.polls} polls",
            f"{served.memory_at_most:.0f} MiB",
            wanted="< 200 MiB",
            missed=served.memory_at_most >= 200,
        ),
        Line(
            f"its growth in a thousand polls within the hour, at {growth.droplets} Droplets",
            f"{growth.growth:+.1f} MiB",
            floor=f"+{growth.remembered:.1f} MiB",
            wanted="that of the hour's requests",
            missed=growth.growth > growth.remembered + 2,
        ),
        *(
            Line(f"CPU of `{flag}`", f"{seconds:.2f} s", f"{bare:.2f} s", wanted="< 0.2 s", missed=seconds >= 0.2)
            for flag, seconds in zip(("--help", "--version"), cpu, strict=True)
        ),
    ]


def _growth(days: Sequence[Count], scrapes: Mapping[int, Sequence[Row]]) -> list[str]:
    lines = [
        "| Droplets | requests a day | of a token's | plain way | of a token's | samples | scrape | client library |",
        "|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for day in days:
        rows = {row.what: row for row in scrapes.get(day.droplets, ())}
        scraped = rows.get("scrape, ready to be sent")
        figures = [
            f"{day.droplets:,}",
            f"{day.ours:,}",
            f"{100 * day.ours / ALLOWED:.1f} %",
            f"{day.plain:,}",
            f"{100 * day.plain / ALLOWED:,.0f} %",
            f"{rows['samples'].ours:,.0f}" if rows else "",
            _ms(scraped.ours) if scraped else "",
            _ms(scraped.plain) if scraped else "",
        ]
        lines.append("| " + " | ".join(figures) + " |")
    return lines


def _table(lines: Sequence[Line]) -> list[str]:
    return [
        "| | ours | floor | plain way | wanted |",
        "|---|---:|---:|---:|---:|",
        *(
            f"| {line.what} | {line.ours} | {line.floor} | {line.plain} | {line.wanted}{' **missed**' * line.missed} |"
            for line in lines
        ),
    ]


def _ms(milliseconds: float | None) -> str:
    return "" if milliseconds is None else f"{milliseconds:,.{0 if milliseconds >= 100 else 1}f} ms"


if __name__ == "__main__":
    main()
