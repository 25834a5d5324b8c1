"""The exporter as a process of its own: memory, scrapes while it polls, and what `--help` costs."""

from __future__ import annotations

import gzip
import re
import resource
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.support.api_process import api
from tests.support.processes import HURRIED, Exporter, exporter

MIB = 2**20
REQUEST = 176
"""Bytes: when it was sent and answered, for the minute and for the hour."""


@dataclass(frozen=True, slots=True)
class Served:
    """An exporter that polls as often as it can and is scraped all the while."""

    droplets: int
    polls: int
    memory: float
    """Resident, in MiB, at the end."""
    memory_at_most: float
    growth: float
    """MiB a thousand polls, by the second half of them."""
    remembered: float
    """MiB that the requests of a thousand polls take, which the budget remembers for an hour."""
    scrapes: int
    median: float
    """Of a gzip scrape, read whole, in milliseconds."""
    p99: float


@contextmanager
def serving(count: int) -> Iterator[Exporter]:
    """An exporter of so many Droplets, each with seven backups, that polls again and again and keeps a state file."""
    with api(count, weekly_share=0) as url, tempfile.TemporaryDirectory() as directory:
        config = Path(directory, "config.yaml")
        config.write_text(
            f"accounts: [{{name: production, token_env: TOKEN_OF_THE_BENCHMARK, api_url: {url}}}]\n"
            "poll: {interval: 1h, timeout: 10m}\n"
            "rate_limit: {per_minute: 1000000, per_hour: 60000000, reserve: 0}\n"
            'labels: {tags: {team: "team:"}}\n'
            f"state_file: {directory}/state\n"
        )
        token = "a" * 20
        with exporter(f"--config.file={config}", command=HURRIED, TOKEN_OF_THE_BENCHMARK=token) as running:
            yield running


def served(count: int, polls: int, *, rest: float = 0.2) -> Served:
    """Lets the exporter poll so many times, scraping it with a rest of so many seconds in between."""
    with serving(count) as running:
        times: list[float] = []
        memory: list[tuple[int, float]] = []
        done = 0
        while done < polls:
            request = urllib.request.Request(running.url + "/metrics", headers={"Accept-Encoding": "gzip"})
            begun = time.perf_counter()
            with urllib.request.urlopen(request, timeout=60) as answer:
                packed = answer.read()
            if done:
                times.append(time.perf_counter() - begun)
            text = gzip.decompress(packed).decode()
            done = int(_figure(text, "digitalocean_backup_exporter_polls_total"))
            memory.append((done, _figure(text, "process_resident_memory_bytes") / MIB))
            time.sleep(rest)
        assert _figure(text, "digitalocean_backup_exporter_polls_total", 'result="success"') == done, running.log
        sent = _figure(text, "digitalocean_backup_exporter_api_requests_total")
    times.sort()
    return Served(
        droplets=count,
        polls=done,
        memory=memory[-1][1],
        memory_at_most=max(size for _, size in memory),
        remembered=1000 * sent / done * REQUEST / MIB,
        growth=1000 * _slope([point for point in memory if point[0] > done / 2]),
        scrapes=len(times),
        median=1e3 * times[len(times) // 2],
        p99=1e3 * times[min(len(times) - 1, len(times) * 99 // 100)],
    )


def command_cpu(*arguments: str) -> float:
    """Seconds of CPU that a command of the exporter takes from its start to its end."""
    return _least_cpu([sys.executable, "-m", "exporter", *arguments])


def python_cpu() -> float:
    """Seconds of CPU of an interpreter that does nothing."""
    return _least_cpu([sys.executable, "-c", "pass"])


def _least_cpu(command: Sequence[str], repeats: int = 5) -> float:
    found = []
    for _ in range(repeats):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, check=True, capture_output=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    return min(found)


def _figure(text: str, name: str, label: str = "") -> float:
    """The sum of a family's samples, or of those with a label."""
    lines = re.findall(rf"^{name}[ {{].*", text, re.MULTILINE)
    return sum(float(line.rpartition(" ")[2]) for line in lines if label in line)


def _slope(points: list[tuple[int, float]]) -> float:
    """Of the straight line that lies nearest to the points; 0 where there are too few."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    middle = sum(x for x, _ in points) / len(points), sum(y for _, y in points) / len(points)
    return sum((x - middle[0]) * (y - middle[1]) for x, y in points) / sum((x - middle[0]) ** 2 for x, _ in points)
