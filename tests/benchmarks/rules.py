"""What the shipped rules cost in the real Prometheus in a mass outage: `python -m tests.benchmarks.rules`.

10,000 Droplets, 3,000 of which missed their backups: their alerts fire, with all annotations. One exporter is scraped
until the windows of the rules hold as many samples as at the shipped intervals; two weeks of sizes are written
beforehand. Then each group is evaluated some times, and the slowest evaluation counts. The budget is a tenth of the
group's shipped interval.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

from tests.support.generations import GENERATIONS, Generation
from tests.support.prometheus_server import Prometheus, backfill, running
from tests.support.rule_files import RULE_FILES

DROPLETS, MISSING = 10_000, 3_000
SHARE = 0.1
"""Of a group's interval that its evaluation may take."""
SAMPLES = 32
"""Of each series in half an hour, at a scrape a minute."""
FILL_EVERY, THEN_EVERY = 4, 60
EVALUATE_EVERY = 20
EVALUATIONS = 3
DEFAULT_INTERVAL = 60.0
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Cost:
    """Of the slowest evaluation of one group."""

    prometheus: str
    group: str
    seconds: float
    interval: float
    firing: int

    @property
    def share(self) -> float:
        return self.seconds / self.interval


def measure(generation: Generation) -> list[Cost]:
    """The cost of every group, the one nearest to its budget first."""
    with tempfile.TemporaryDirectory() as temporary, _target(_page()) as address:
        directory = Path(temporary)
        backfill(str(generation.promtool), _sizes(time.time()), directory)
        rules = directory / "rules"
        rules.mkdir()
        intervals = {}
        for path in RULE_FILES:
            text = path.read_text(encoding="utf-8")
            for group in yaml.safe_load(text)["groups"]:
                intervals[group["name"]] = _seconds(group["interval"]) if "interval" in group else DEFAULT_INTERVAL
            quick = re.sub(r"(?m)^    interval: .*$", f"    interval: {EVALUATE_EVERY}s", text)
            (rules / path.name).write_text(quick, encoding="utf-8")
        scraped = {"digitalocean-backups": [address]}
        with running(
            str(generation.prometheus),
            directory,
            targets=scraped,
            scrape={"scrape_interval": f"{FILL_EVERY}s", "scrape_timeout": f"{FILL_EVERY}s"},
            options=("--web.enable-lifecycle",),
        ) as server:
            filled = f'count_over_time(digitalocean_backup_droplet_info{{droplet_id="1"}}[30m]) >= {SAMPLES}'
            while not server.instant(filled, time.time()):
                time.sleep(1)
            config = directory / "prometheus.json"
            settings = json.loads(config.read_text())
            settings["global"] = {"evaluation_interval": f"{EVALUATE_EVERY}s"}
            settings["rule_files"] = [str(rules / "*.yml")]
            settings["scrape_configs"][0] |= {"scrape_interval": f"{THEN_EVERY}s", "scrape_timeout": "10s"}
            config.write_text(json.dumps(settings))
            urllib.request.urlopen(f"{server.url}/-/reload", data=b"").close()
            slowest = _slowest(server)
            found = [
                Cost(generation.name, name, seconds, intervals[name], firing)
                for name, (seconds, firing) in slowest.items()
            ]
    return sorted(found, key=lambda cost: -cost.share)


def _slowest(server: Prometheus) -> dict[str, tuple[float, int]]:
    """Of each group, its slowest evaluation and how many alerts fire in the end."""
    seconds: dict[str, dict[str, float]] = {}
    while True:
        groups: list[dict[str, Any]] = server.get("rules")["groups"]
        for group in groups:
            if not group["lastEvaluation"].startswith("0001"):
                seconds.setdefault(group["name"], {})[group["lastEvaluation"]] = group["evaluationTime"]
        if all(len(seconds.get(group["name"], ())) >= EVALUATIONS for group in groups):
            break
        time.sleep(1)
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


def table(costs: Sequence[Cost]) -> list[str]:
    """The result as lines of Markdown."""
    return [
        "| group of rules | Prometheus | alerts firing | slowest evaluation | interval | share | budget |",
        "|---|---|---:|---:|---:|---:|---:|",
        *(
            f"| {cost.group} | {cost.prometheus} | {cost.firing:,} | {cost.seconds:.2f} s | {cost.interval:.0f} s "
            f"| {100 * cost.share:.1f} % | ≤ {100 * SHARE:.0f} %{' **missed**' if cost.share > SHARE else ''} |"
            for cost in costs
        ),
    ]


def _page() -> bytes:
    """What an exporter serves of that fleet, as far as the rules read it."""
    now = time.time()
    lines: list[str] = []
    for i in range(1, DROPLETS + 1):
        missing = i <= MISSING
        base = f'account="production",droplet_id="{i}",droplet_name="web-{i:05d}.example.com"'

        def sample(family: str, value: float, more: str = "", base: str = base) -> None:
            lines.append(f"digitalocean_backup_{family}{{{base}{more}}} {value:.17g}\n")

        more = f',region="nyc{i % 3}",size="s-{i % 4}vcpu-2gb",status="active",team="team-{i % 7}"'
        sample("droplet_info", 1, more)
        sample("expected", 1)
        sample("enabled", 1)
        sample("policy_info", 1, f',plan="{"weekly" if i % 3 == 0 else "daily"}",weekday="",hour="{i % 6 * 4}"')
        sample("interval_seconds", 86400)
        age = 86400 * (4 if missing else 1) - i
        sample("newest_timestamp_seconds", now - age)
        sample("newest_age_seconds", age)
        sample("newest_size_bytes", (3 + i % 50) * GIB)
        sample("kept_size_bytes", 7 * (3 + i % 50) * GIB)
        sample("state", 1, f',state="{"missing" if missing else "protected"}"')
        sample("missed_windows", 3 if missing else 0)
        sample("max_age_seconds", 2 * 86400 + 28800)
        sample("stale", missing)
        sample("lost", 0)
    account = '{account="production"'
    for family, value in (
        ("droplets", DROPLETS),
        ("exporter_up", 1),
        ("exporter_poll_interval_seconds", 300),
        ("exporter_last_poll_timestamp_seconds", now),
        ("exporter_last_listing_timestamp_seconds", now),
        ("exporter_api_rate_limit", 5000),
        ("exporter_api_rate_limit_remaining", 4000),
        ("exporter_api_rate_limit_reset_timestamp_seconds", now + 3600),
        ("exporter_api_clock_skew_seconds", 0),
    ):
        lines.append(f"digitalocean_backup_{family}{account}}} {value:.17g}\n")
    lines.extend(
        f'digitalocean_backup_unjudged_droplets{account},reason="{reason}"}} 0\n'
        for reason in ("clock", "unknown-policy", "no-schedule", "unread", "first-look")
    )
    for endpoint in ("droplets", "policies", "backups", "images"):
        lines.append(f'digitalocean_backup_exporter_api_requests_total{account},endpoint="{endpoint}",code="200"}} 9\n')
        lines.append(f'digitalocean_backup_exporter_rejected_records_total{account},endpoint="{endpoint}"}} 0\n')
    lines.append('digitalocean_backup_exporter_build_info{version="1",python_version="3"} 1\n')
    lines.append("digitalocean_backup_exporter_config_last_reload_successful 1\n")
    return "".join(lines).encode()


def _sizes(now: float) -> Iterator[str]:
    """Two weeks of the one series that a rule reads so far back, as the rules would have recorded it."""
    moments = [now - 900 * k for k in range(14 * 96, 0, -1)]
    for i in range(1, DROPLETS + 1):
        series = f'droplet:digitalocean_backup_newest_size_bytes:max{{account="production",droplet_id="{i}"}}'
        size = (3 + i % 50) * GIB
        yield "".join(f"{series} {size} {at:.3f}\n" for at in moments)
    yield "# EOF\n"


class _Handler(BaseHTTPRequestHandler):
    page = b""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(self.page)))
        self.end_headers()
        self.wfile.write(self.page)

    def log_message(self, *_: Any) -> None:
        """Logs nothing."""


class _target:
    """Serves one page on a free port of loopback."""

    def __init__(self, page: bytes) -> None:
        handler = type("Handler", (_Handler,), {"page": page})
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> str:
        self._thread.start()
        return f"127.0.0.1:{self._server.server_port}"

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def _seconds(duration: str) -> float:
    return float(duration[:-1]) * {"s": 1, "m": 60, "h": 3600}[duration[-1]]


def main() -> int:
    costs = [cost for generation in GENERATIONS for cost in measure(generation)]
    sys.stdout.write("\n".join(table(costs)) + "\n")
    return 1 if any(cost.share > SHARE for cost in costs) else 0


if __name__ == "__main__":
    assert shutil.which("prometheus"), "apt-get install prometheus"
    sys.exit(main())
