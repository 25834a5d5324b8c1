"""Brings on the worst days at length and writes what came of them to RESULTS.md: `make soak`, about half an hour.

`python -m tests.reliability.soak WORD...`: only the faults whose name holds one of the words, and nothing is written.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from structlog.testing import capture_logs

from exporter import log
from tests.reliability.demo_weeks import Watched, watch_the_demo
from tests.reliability.endings import Endings, end_again_and_again
from tests.reliability.faults import AT_ONCE, BEGIN, CASES, MISSING, try_all
from tests.reliability.load import DROPLETS, SCRAPERS, Load, loaded
from tests.reliability.recording import Recording, run_promtool
from tests.reliability.replicas import Cost, cost
from tests.reliability.weeks import Lived, live_through
from tests.support.machine import machine

_T = TypeVar("_T")

RESULTS = Path(__file__).parent / "RESULTS.md"
FIRED = 'max by (alertname, droplet_id) (max_over_time(ALERTS{droplet_id!="",alertstate="firing"}[2d]))'
ACCOUNTS = 1_000
"""Whose weeks are lived through."""
ENDINGS = 1_000
"""Of either kind."""
SHARES = 20
"""Of the weeks and the endings, so that all processors are busy."""
LOADED_FOR = 180.0
SCRAPED_EVERY = 5.0
DEMO_SPEED = 4_032
"""A week in two and a half minutes."""
WAYS = {"one": (1, True), "two, a token each": (2, False), "two, on one token": (2, True)}
"""How many exporters, and whether on one token."""
COSTS = [(droplets, who) for droplets in (1_000, 10_000) for who in WAYS]


@dataclass(slots=True)
class Faults:
    tried: int
    trials: int = 0
    """Those of an exporter started into a fault included."""
    polls: int = 0
    wrong: list[str] = field(default_factory=list)
    false_alarms: str = ""


def main(words: Sequence[str]) -> int:
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not installed: apt-get install prometheus", file=sys.stderr)
        return 2
    if words:
        faults = bring_on(promtool, words)
        print(*faults.wrong, faults.false_alarms, sep="\n")
        return 1 if faults.wrong or faults.false_alarms else 0
    begun = time.monotonic()
    with ProcessPoolExecutor(2) as others:
        coming_faults = others.submit(bring_on, promtool, ())
        coming_weeks = [others.submit(weeks, ACCOUNTS // SHARES) for _ in range(SHARES)]
        coming_costs = [others.submit(costs, *one) for one in COSTS]
        coming_ends = {
            how: [others.submit(ends, how, ENDINGS // SHARES, share) for share in range(SHARES)]
            for how in (signal.SIGTERM, signal.SIGKILL)
        }
        faults = _told("faults", coming_faults.result())
        lived = _told("weeks", [one.result() for one in coming_weeks])
        two = _told("replicas", [one.result() for one in coming_costs])
        ended = {how: _told(how.name, [one.result() for one in shares]) for how, shares in coming_ends.items()}
    demo = _told("demo", watch_the_demo(speed=DEMO_SPEED, days=7))
    # By itself, for how fast scrapes are is of interest.
    load = _told("load", loaded(LOADED_FOR, every=SCRAPED_EVERY))
    wrong = [*faults.wrong, faults.false_alarms, *demo.wrong, *load.wrong]
    wrong += [problem for shares in ended.values() for one in shares for problem in one.wrong]
    wrong = [problem for problem in wrong if problem]
    text = "\n".join(
        [
            "# Reliability",
            "",
            f"Measured by `make soak` in {(time.monotonic() - begun) / 60:.0f} minutes on {machine()}.",
            "",
            "| what | measured |",
            "|---|---:|",
            *(f"| {what} | {value} |" for what, value in _rows(faults, lived, ended, load, demo)),
            "",
            "## What two exporters cost",
            "",
            *_costs(two),
            "",
        ]
    )
    print(text)
    print(*wrong, sep="\n")
    if not wrong:
        RESULTS.write_text(text)
    return 1 if wrong else 0


def bring_on(promtool: str, words: Sequence[str]) -> Faults:
    """Every fault, or those whose name holds one of the words, and what the shipped rules make of all of them."""
    cases = [case for case in CASES if not words or any(word in case.name for word in words)]
    found = Faults(len(cases))
    for first in range(0, len(cases), AT_ONCE):
        recording = Recording(BEGIN)
        with capture_logs():
            findings = asyncio.run(try_all(cases[first : first + AT_ONCE], recording))
        with tempfile.TemporaryDirectory() as folder:
            told = {FIRED: {f'{{alertname="DropletBackupOverdue",droplet_id="{MISSING}"}}': 1.0}}
            found.false_alarms += run_promtool(promtool, Path(folder), recording, told)
        found.trials += len(findings)
        found.polls += sum(one.polls for one in findings.values())
        found.wrong += [f"{name}: {'; '.join(one.wrong)}" for name, one in findings.items() if one.wrong]
    return found


def weeks(accounts: int) -> Lived:
    return live_through(accounts, shrink=True)


def ends(how: signal.Signals, times: int, share: int) -> Endings:
    with tempfile.TemporaryDirectory() as folder:
        return end_again_and_again(times, how, Path(folder), random.Random(share))


def costs(droplets: int, who: str) -> Cost:
    log.configure("error", "logfmt")
    exporters, one_token = WAYS[who]
    return asyncio.run(cost(droplets, exporters, one_token=one_token))


def _rows(
    faults: Faults, lived: list[Lived], ended: dict[signal.Signals, list[Endings]], load: Load, demo: Watched
) -> Iterator[tuple[str, str]]:
    yield "faults of the API and the network tried", f"{faults.tried}"
    yield "trials of them, some on an exporter started into the fault", f"{faults.trials}"
    yield "of those survived", f"{faults.trials - len(faults.wrong)}"
    yield "polls under faults", f"{faults.polls:,}"
    yield "false alerts about a Droplet, by the shipped rules", "some" if faults.false_alarms else "none"
    yield "weeks of random events simulated", f"{sum(one.weeks for one in lived):,.0f}"
    yield "polls in them", f"{sum(one.polls for one in lived):,}"
    for how, shares in ended.items():
        tried = sum(one.tried for one in shares)
        wrong = {(place, one.partition(":")[0]) for place, share in enumerate(shares) for one in share.wrong}
        yield f"exporters ended by {how.name} at a random moment", f"{tried:,}"
        yield "of those as it should be, and the state whole", f"{tried - len(wrong):,}"
        if how is signal.SIGTERM:
            yield "slowest of them to stop", f"{max(one.slowest for one in shares):.2f} s"
    yield f"scrapes served to {SCRAPERS} scrapers of {DROPLETS:,} Droplets", f"{len(load.scrapes):,}"
    yield "of those failed or not whole", f"{len(load.wrong)}"
    yield "polls meanwhile, one after the other", f"{load.polls}"
    yield "a scrape, median", f"{1000 * load.median:.0f} ms"
    yield "a scrape, 99th percentile", f"{1000 * load.p99:.0f} ms"
    yield "longest pause, as seen by a probe", f"{1000 * max(load.pauses):.0f} ms"
    yield "memory's peak, second half above first", f"{100 * load.growth:+.1f} %"
    yield "file descriptors at most, and once the scrapers had gone", f"{max(load.files)}, {load.files_at_rest}"
    yield "days of the demo at speed, watched", f"{demo.days:.1f}"
    yield "warnings in them", f"{len(demo.wrong)}"


def _costs(found: Sequence[Cost]) -> Iterator[str]:
    yield "| Droplets | exporters | requests an hour | of a token's 5,000 | least left of a token | lists put off |"
    yield "|---:|---|---:|---:|---:|---:|"
    for (droplets, who), one in zip(COSTS, found, strict=True):
        exporters, one_token = WAYS[who]
        share = one.an_hour / 5000 / (1 if one_token else exporters)
        cells = (f"{droplets:,}", who, f"{one.an_hour:,.0f}", f"{share:.0%}", f"{one.least:,}", str(one.postponed))
        yield f"| {' | '.join(cells)} |"


def _told(what: str, found: _T) -> _T:
    sys.stderr.write(f"{what}: done\n")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
