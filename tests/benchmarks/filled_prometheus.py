"""The real Prometheus of both generations, holding what half an hour of scrapes brings, and what its rules cost."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.support.generations import GENERATIONS, Generation
from tests.support.prometheus_server import Prometheus, backfill, running

SAMPLES = 32
"""Of each series, as half an hour brings at a scrape a minute."""
FILL_EVERY, THEN_EVERY = 3, 60
EVALUATE_EVERY = 15
EVALUATIONS = 3
DEFAULT_INTERVAL = 60.0
SHARE = 0.1
"""Of a group's interval that its evaluation may take."""


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the slowest evaluation of one group."""

    prometheus: str
    group: str
    seconds: float
    interval: float
    """The shipped one."""
    firing: int

    @property
    def share(self) -> float:
        return self.seconds / self.interval


@dataclass(frozen=True, slots=True)
class Filled:
    """A running server, by now scraping once a minute."""

    generation: Generation
    server: Prometheus
    directory: Path

    def configure(self, **settings: object) -> None:
        """Changes keys of the configuration and has the server read it."""
        config = self.directory / "prometheus.json"
        config.write_text(json.dumps(json.loads(config.read_text(encoding="utf-8")) | settings), encoding="utf-8")
        os.kill(self.server.pid, signal.SIGHUP)

    def rules_cost(self, files: Sequence[Path]) -> list[Cost]:
        """Evaluates the rules of these files some times, then no more. The cost nearest to its budget comes first."""
        folder = self.directory / "rules"
        folder.mkdir()
        intervals = {}
        for path in files:
            text = path.read_text(encoding="utf-8")
            for group in yaml.safe_load(text)["groups"]:
                intervals[group["name"]] = _seconds(group["interval"]) if "interval" in group else DEFAULT_INTERVAL
            quick = re.sub(r"(?m)^    interval: .*$", f"    interval: {EVALUATE_EVERY}s", text)
            (folder / path.name).write_text(quick, encoding="utf-8")
        self.configure(rule_files=[str(folder / "*.yml")], **{"global": {"evaluation_interval": f"{EVALUATE_EVERY}s"}})
        found = [
            Cost(self.generation.name, name, seconds, intervals[name], firing)
            for name, (seconds, firing) in self._slowest(len(intervals)).items()
        ]
        self.configure(rule_files=[])
        return sorted(found, key=lambda cost: -cost.share)

    def _slowest(self, count: int) -> dict[str, tuple[float, int]]:
        """Of each of so many groups, its slowest evaluation and how many alerts fire in the end."""
        seconds: dict[str, dict[str, float]] = {}
        while True:
            groups: list[dict[str, Any]] = self.server.get("rules")["groups"]
            for group in groups:
                if not group["lastEvaluation"].startswith("0001"):
                    seconds.setdefault(group["name"], {})[group["lastEvaluation"]] = group["evaluationTime"]
            if len(groups) == count and all(len(seconds.get(one["name"], ())) >= EVALUATIONS for one in groups):
                break
            time.sleep(0.5)
        for group in groups:
            for rule in group["rules"]:
                assert rule["health"] == "ok", (rule["name"], rule.get("lastError"))
        return {
            group["name"]: (
                max(seconds[group["name"]].values()),
                sum(len(rule.get("alerts", ())) for rule in group["rules"]),
            )
            for group in groups
        }


@contextmanager
def filled(history: Iterator[str], pages: Sequence[bytes], series: str) -> Iterator[list[Filled]]:
    """A server of each generation with this history, which has scraped these pages as often as in half an hour.

    `series` selects one series of the pages, by which the scrapes are counted. The servers are filled side by side.
    """
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        folders = [Path(temporary, one.name) for one in GENERATIONS]
        for folder in folders:
            folder.mkdir()
        data = backfill(GENERATIONS[0].promtool, history, folders[0])
        for folder in folders[1:]:
            shutil.copytree(data, folder / "data")
        targets = {"digitalocean-backups": [stack.enter_context(_served(page)) for page in pages]}
        quick = {"scrape_interval": f"{FILL_EVERY}s", "scrape_timeout": f"{FILL_EVERY}s"}
        found = [
            Filled(one, stack.enter_context(running(one.prometheus, folder, targets=targets, scrape=quick)), folder)
            for one, folder in zip(GENERATIONS, folders, strict=True)
        ]
        for one in found:
            end = time.monotonic() + 600
            while not one.server.instant(f"count_over_time({series}[30m]) >= {SAMPLES}", time.time()):
                assert time.monotonic() < end, (one.directory / "prometheus.log").read_text()
                time.sleep(1)
        for one in found:
            (scraped,) = json.loads((one.directory / "prometheus.json").read_text(encoding="utf-8"))["scrape_configs"]
            one.configure(
                scrape_configs=[scraped | {"scrape_interval": f"{THEN_EVERY}s", "scrape_timeout": f"{THEN_EVERY}s"}]
            )
        yield found


@contextmanager
def _served(page: bytes) -> Iterator[str]:
    """Serves one page on a free port of loopback; gives the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(page)))
            self.end_headers()
            self.wfile.write(page)

        def log_message(self, *_: Any) -> None:
            """Logs nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]
