"""What one load of the fleet dashboard costs the real Prometheus: `python -m tests.benchmarks.dashboards`.

10,000 Droplets, 3,000 of which missed their backups, served by two replicas; seven days of what the rules record, a
point a minute; no filter. Both replicas are scraped until each series has as many samples as half an hour brings at a
scrape a minute, and the recording rules are evaluated. Then every query of a load is asked, those of the variables and
of the alerts' marks included, and the processor time of Prometheus is counted. The slowest of three loads counts.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.grafana import FOLDER, NEWEST, Period, Session, engine, load
from tests.support.prometheus_server import Prometheus, backfill, running

DROPLETS, MISSING = 10_000, 3_000
REPLICAS = 2
DAY = 86_400
SHOWN = 7 * DAY
SAMPLES = 30
SCRAPE_EVERY = 4
LOADS = 3
WHOLE_LOAD, ONE_QUERY, JOIN = 3.0, 1.0, 0.25
"""The budgets: processor seconds of Prometheus for a load and for its costliest query; seconds of the browser for a
table of which one query has no answer."""
RULES = FOLDER.parent / "prometheus" / "rules" / "dashboards.yml"
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured: seconds of the processor for each query of the costliest load, and of the rules."""

    prometheus: str
    queries: Mapping[str, float]
    rules: float
    """One evaluation of the recording rules, by the clock."""
    join: float
    """The transformations of the fleet's table of 200 rows, of which one query has no answer, by the clock."""

    @property
    def load(self) -> float:
        return sum(self.queries.values())


def measure(prometheus: str, promtool: str, node: str) -> Result:
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        directory = Path(temporary)
        began = time.time()
        _say("writing seven days")
        backfill(promtool, _history(began), directory)
        pages = [stack.enter_context(_served(_page(replica, began))) for replica in range(REPLICAS)]
        quick = {"scrape_interval": f"{SCRAPE_EVERY}s", "scrape_timeout": f"{SCRAPE_EVERY}s"}
        server = stack.enter_context(
            running(
                prometheus, directory, targets={"digitalocean-backup": pages}, scrape=quick, rules=[RULES], every="20s"
            )
        )
        filled = (
            f'count_over_time(digitalocean_backup_droplet_info{{droplet_id="1",replica="0"}}[1h]) >= {SAMPLES} '
            "and on () tags:digitalocean_backup_age_of_limit:max"
        )
        _say("scraping")
        while not server.instant(filled, time.time()):
            assert time.time() - began < 540, (directory / "prometheus.log").read_text()
            time.sleep(2)
        _say("asking")
        (group,) = server.get("rules")["groups"]
        assert all(rule["health"] == "ok" for rule in group["rules"]), group
        moment = time.time() - 1
        _rest(server, directory)
        library = stack.enter_context(engine(node, NEWEST))
        loads = []
        for _ in range(LOADS):
            meter = _Meter(server)
            session = Session(load("fleet"), meter, library, Period(moment - SHOWN, moment, 60))
            for panel in session.dashboard["panels"]:
                for target in panel.get("targets", []):
                    meter.name = f"{panel['title']}, {target['refId']}"
                    session.series(panel, target)
            meter.name = "marks of alerts"
            session.annotations()
            loads.append(meter.seconds)
        costliest = max(loads, key=lambda seconds: sum(seconds.values()))
        join = _join(session)
        version = str(server.get("status/buildinfo")["version"])
        return Result(version, costliest, float(group["evaluationTime"]), join)


class _Meter(Prometheus):
    """A server whose processor time is counted for each thing that is asked of it."""

    def __init__(self, server: Prometheus) -> None:
        super().__init__(server.url, server.pid)
        object.__setattr__(self, "seconds", {})
        object.__setattr__(self, "name", "variables")

    seconds: dict[str, float]
    name: str

    def __setattr__(self, key: str, value: Any) -> None:
        object.__setattr__(self, key, value)

    def get(self, path: str, **parameters: Any) -> Any:
        before = self._cpu()
        found = super().get(path, **parameters)
        self.seconds[self.name] = self.seconds.get(self.name, 0.0) + self._cpu() - before
        return found

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _say(what: str) -> None:
    sys.stderr.write(f"{time.strftime('%H:%M:%S')} {what}\n")


def _rest(server: Prometheus, directory: Path) -> None:
    """No more scrapes and rules, whose cost would count; what is asked from now on is of the moment before."""
    (directory / "prometheus.json").write_text(json.dumps({"scrape_configs": []}), encoding="utf-8")
    os.kill(server.pid, 1)
    while server.get("targets")["activeTargets"]:
        time.sleep(0.1)
    time.sleep(5)


def _join(session: Session) -> float:
    """Grafana's own join of the fleet's table, with all rows and one query that has no answer."""
    (panel,) = [p for p in session.dashboard["panels"] if "worst first" in p["title"]]
    for target in panel["targets"]:
        if "kept_size_bytes" in target["expr"]:
            target["expr"] = "vector(1) > 1"
    views = [session.view(panel) for _ in range(LOADS)]
    assert all(len(view.rows) == 200 for view in views)
    return max(view.milliseconds for view in views) / 1000


def table(result: Result) -> list[str]:
    """The result as lines of Markdown."""
    costliest = max(result.queries, key=lambda name: result.queries[name])

    def line(what: str, found: float, budget: float | None = None) -> str:
        wanted = "" if budget is None else f"≤ {budget:g} s{' **missed**' if found > budget else ''}"
        return f"| {what} | {found:.2f} s | {wanted} |"

    return [
        f"| fleet dashboard, Prometheus {result.prometheus} | measured | budget |",
        "|---|---:|---:|",
        line(f"processor time of Prometheus for a whole load, {len(result.queries)} queries", result.load, WHOLE_LOAD),
        line(f"its costliest query ({costliest})", result.queries[costliest], ONE_QUERY),
        line("one evaluation of the recording rules, each minute, by the clock", result.rules, 6.0),
        line("joining the table's 200 rows where one query has no answer", result.join, JOIN),
    ]


def _labels(i: int) -> tuple[str, str, str, str]:
    """Plan, state, team and environment of a droplet."""
    state = "missing" if i <= MISSING else ("unprotected" if i % 20 == 0 else "protected")
    return "weekly" if i % 3 == 0 else "daily", state, f"team-{i % 7}", ("prod", "stage", "dev")[i // 7 % 3]


def _page(replica: int, now: float) -> bytes:
    """What one replica serves of that fleet, as far as the fleet dashboard and its rules ask for it."""
    lines: list[str] = []
    for i in range(1, DROPLETS + 1):
        plan, state, team, env = _labels(i)
        base = f'replica="{replica}",account="production",droplet_id="{i}",droplet_name="web-{i:05d}.example.com"'
        interval = 7 * DAY if plan == "weekly" else DAY
        age = interval * (4 if state == "missing" else 0.5) + i
        described = f'region="nyc{i % 3}",size="s-{i % 4}vcpu-2gb",status="active",team="{team}",env="{env}"'
        for family, value, more in (
            ("droplet_info", 1, described),
            ("policy_info", 1, f'plan="{plan}",weekday="",hour="{i % 6 * 4}"'),
            ("hours_until_next_window", i % (interval // 3600) + i / DROPLETS, ""),
            ("newest_age_seconds", age, ""),
            ("newest_size_bytes", (3 + i % 50) * GIB * 1.1, ""),
            ("kept", 7, ""),
            ("kept_size_bytes", 7 * (3 + i % 50) * GIB, ""),
            ("state", 1, f'state="{state}"'),
            ("missed_windows", 3 * (state == "missing"), ""),
            ("max_age_seconds", 2 * interval + 28800, ""),
            ("lost", 0, ""),
        ):
            lines.append(f"digitalocean_backup_{family}{{{base},{more}}} {float(value):.17g}\n")
    lines.append(f'digitalocean_backup_droplets{{account="production",replica="{replica}"}} {DROPLETS}\n')
    return "".join(lines).encode()


def _history(now: float) -> Iterator[str]:
    """Seven days of what the rules record, and the sizes that the dashboard compares with."""
    moments = [now - 60 * k for k in range(SHOWN // 60, 0, -1)]
    counts: dict[tuple[str, str, str, str], int] = {}
    for i in range(1, DROPLETS + 1):
        counts[_labels(i)] = counts.get(_labels(i), 0) + 1
    series: dict[str, float] = {}
    for (plan, state, team, env), count in counts.items():
        tags = f'account="production",replica="0",team="{team}",env="{env}"'
        series[f'tags:digitalocean_backup_state:count{{{tags},plan="{plan}",state="{state}"}}'] = count
        series[f'tags:digitalocean_backup_age_of_limit:max{{{tags},plan="{plan}"}}'] = 1.5
        series[f"tags:digitalocean_backup_kept_size_bytes:sum{{{tags}}}"] = count * 200 * GIB
        series[f"tags:digitalocean_backup_lost:sum{{{tags}}}"] = 0
    for alert in ("DropletBackupMissing", "DropletBackupOverdue", "DropletBackupStale"):
        labels = f'account="production",alertname="{alert}",severity="warning"'
        series[f"account:digitalocean_backup_alerts_firing:count{{{labels}}}"] = MISSING
    for name, value in series.items():
        yield "".join(f"{name} {value + k % 7} {at:.3f}\n" for k, at in enumerate(moments))
    for i in range(1, DROPLETS + 1):
        for replica in range(REPLICAS):
            labels = (
                f'replica="{replica}",account="production",droplet_id="{i}",droplet_name="web-{i:05d}.example.com",'
                f'job="digitalocean-backup"'
            )
            name = f"digitalocean_backup_newest_size_bytes{{{labels}}}"
            size = (3 + i % 50) * GIB
            yield "".join(f"{name} {size} {now - SHOWN + 60 * k:.3f}\n" for k in range(-4, 15))
    yield "# EOF\n"


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


def main() -> int:
    programs = [shutil.which(name) for name in ("prometheus", "promtool", "node")]
    if None in programs:
        sys.exit("not installed: prometheus or node; apt-get install prometheus nodejs")
    result = measure(*(str(program) for program in programs))
    sys.stdout.write("\n".join(table(result)) + "\n")
    if "--queries" in sys.argv:
        for name, seconds in sorted(result.queries.items(), key=lambda item: -item[1]):
            sys.stdout.write(f"{seconds:6.2f}  {name}\n")
    return int(any("missed" in line for line in table(result)))


if __name__ == "__main__":
    sys.exit(main())
