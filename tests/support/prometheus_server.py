"""The real Prometheus, with a history made beforehand or scraping what a test serves, and its HTTP API."""

from __future__ import annotations

import json
import socket
import subprocess
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Prometheus:
    """A running server."""

    url: str
    pid: int = 0
    """Its process, where it was started here."""

    def get(self, path: str, **parameters: str | Sequence[str]) -> Any:
        """The `data` of an answer of the API. Raises ValueError with the server's message."""
        body = urllib.parse.urlencode(parameters, doseq=True).encode()
        post = path in ("query", "query_range")
        url = f"{self.url}/api/v1/{path}" + ("" if post else f"?{body.decode()}")
        try:
            with urllib.request.urlopen(url, data=body if post else None, timeout=120) as answer:
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(json.load(error).get("error", str(error))) from error

    def instant(self, expr: str, at: float) -> list[dict[str, Any]]:
        found = self.get("query", query=expr, time=f"{at:.3f}")
        return list(found["result"])

    def over_time(self, expr: str, start: float, end: float, step: float) -> list[dict[str, Any]]:
        found = self.get("query_range", query=expr, start=f"{start:.3f}", end=f"{end:.3f}", step=f"{step:g}")
        return list(found["result"])


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def backfill(promtool: str, lines: Iterator[str], directory: Path) -> Path:
    """A data directory that holds these lines of OpenMetrics with timestamps."""
    source, data = directory / "history.txt", directory / "data"
    with source.open("w", encoding="utf-8") as file:
        file.writelines(lines)
    command = [
        promtool,
        "tsdb",
        "create-blocks-from",
        "--max-block-duration=1000h",
        "openmetrics",
        str(source),
        str(data),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    source.unlink()
    return data


@contextmanager
def running(
    prometheus: str,
    directory: Path,
    *,
    targets: Mapping[str, Sequence[str]] | None = None,
    scrape: Mapping[str, object] | None = None,
    rules: Sequence[Path] = (),
    every: str = "1s",
    lookback: str = "5m",
    options: Sequence[str] = (),
) -> Iterator[Prometheus]:
    """A server on a free port of loopback over `directory/data`, scraping the targets of each job every second.

    `scrape` holds more keys of each job's configuration, `options` more of the command line. The files of `rules` are
    evaluated, `every` so often.
    """
    port = free_port()
    jobs = [
        {
            "job_name": job,
            "scrape_interval": "1s",
            "scrape_timeout": "1s",
            "static_configs": [{"targets": list(addresses)}],
            **(scrape or {}),
        }
        for job, addresses in (targets or {}).items()
    ]
    config = directory / "prometheus.json"
    config.write_text(
        json.dumps(
            {"global": {"evaluation_interval": every}, "rule_files": [*map(str, rules)], "scrape_configs": jobs}
        ),
        encoding="utf-8",
    )
    command = [
        prometheus,
        f"--config.file={config}",
        f"--storage.tsdb.path={directory / 'data'}",
        "--storage.tsdb.retention.time=10y",
        f"--web.listen-address=127.0.0.1:{port}",
        f"--query.lookback-delta={lookback}",
        "--log.level=warn",
        *options,
    ]
    log = directory / "prometheus.log"
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:
        server = Prometheus(f"http://127.0.0.1:{port}", process.pid)
        deadline = time.monotonic() + 120
        while True:
            assert process.poll() is None, log.read_text()
            try:
                with urllib.request.urlopen(f"{server.url}/-/ready", timeout=2):
                    break
            except OSError:
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
        yield server
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
