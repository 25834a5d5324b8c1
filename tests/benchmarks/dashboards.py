"""What one load of the fleet dashboard costs the real Prometheus: `python -m tests.benchmarks.dashboards`.

10,000 Droplets, 3,000 of which missed their backups, served by two replicas; seven days of what the rules record, a
point a minute; no filter. Both replicas are scraped until each series has as many samples as half an hour brings at a
scrape a minute, and the recording rules are evaluated. Then every query of a load is asked, those of the variables and
of the alerts' marks included, and the processor time of Prometheus is counted. The slowest of three loads counts.
`--queries` tells the cost of each query.
"""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.benchmarks.filled_prometheus import SHARE, Cost, Filled, filled
from tests.support.grafana import FOLDER, NEWEST, Engine, Period, Session, engine, load
from tests.support.prometheus_server import Prometheus

DROPLETS, MISSING = 10_000, 3_000
REPLICAS = 2
DAY = 86_400
SHOWN = 7 * DAY
LOADS = 3
WHOLE_LOAD, ONE_QUERY, JOIN = 3.0, 1.0, 0.25
"""The budgets: processor seconds of Prometheus for a load and for its costliest query; seconds of the browser for a
table of which one query has no answer."""
RULES = FOLDER.parent / "prometheus" / "rules" / "dashboards.yml"
GIB = 1024**3


@dataclass(frozen=True, slots=True)
class Result:
    """What was measured with one generation of Prometheus: processor seconds for each query of the costliest load."""

    prometheus: str
    queries: Mapping[str, float]
    rules: Cost
    """One evaluation of the recording rules, by the clock."""
    join: float
    """The transformations of the fleet's table of 200 rows, of which one query has no answer, by the clock."""

    @property
    def load(self) -> float:
        return sum(self.queries.values())

    @property
    def costliest(self) -> str:
        """The name of the query that costs most."""
        return max(self.queries, key=lambda name: self.queries[name])


def measure() -> list[Result]:
    """The costs under each generation of Prometheus."""
    node = shutil.which("node")
    assert node is not None, "not installed: node; apt-get install nodejs"
    now = time.time()
    pages = [_page(replica, now) for replica in range(REPLICAS)]
    series = 'digitalocean_backup_droplet_info{droplet_id="1",replica="0"}'
    with filled(_history(now), pages, series) as servers, engine(node, NEWEST) as library:
        return [_measure(one, library) for one in servers]


def _measure(one: Filled, library: Engine) -> Result:
    (rules,) = one.rules_cost([RULES])
    moment = time.time() - 1
    _rest(one)
    loads = []
    for _ in range(LOADS):
        meter = _Meter(one.server)
        session = Session(load("fleet"), meter, library, Period(moment - SHOWN, moment, 60))
        for panel in session.dashboard["panels"]:
            for target in panel.get("targets", []):
                meter.name = f"{panel['title']}, {target['refId']}"
                session.series(panel, target)
        meter.name = "marks of alerts"
        session.annotations()
        loads.append(meter.seconds)
    costliest = max(loads, key=lambda seconds: sum(seconds.values()))
    return Result(one.generation.name, costliest, rules, _join(session))


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


def _rest(one: Filled) -> None:
    """No more scrapes, whose cost would count; what is asked from now on is of the moment before."""
    one.configure(scrape_configs=[])
    while one.server.get("targets")["activeTargets"]:
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


def missed(results: Sequence[Result]) -> bool:
    """Whether some budget is exceeded."""
    return any("**missed**" in line for line in table(results))


def table(results: Sequence[Result]) -> list[str]:
    """The results as lines of Markdown."""

    def line(what: str, budget: float, found: Sequence[float]) -> str:
        figures = " | ".join(f"{one:.2f} s" for one in found)
        return f"| {what} | {figures} | ≤ {budget:g} s{' **missed**' if max(found) > budget else ''} |"

    costliest = max(results, key=lambda one: one.queries[one.costliest]).costliest
    interval = results[0].rules.interval
    return [
        f"| fleet dashboard, Prometheus | {' | '.join(one.prometheus for one in results)} | budget |",
        f"|---|{'---:|' * (len(results) + 1)}",
        line(
            f"processor time of Prometheus for a whole load, {len(results[0].queries)} queries",
            WHOLE_LOAD,
            [one.load for one in results],
        ),
        line(f"its costliest query ({costliest})", ONE_QUERY, [one.queries[one.costliest] for one in results]),
        line(
            f"one evaluation of the recording rules, each {interval:.0f} s, by the clock",
            SHARE * interval,
            [one.rules.seconds for one in results],
        ),
        line("joining the table's 200 rows where one query has no answer", JOIN, [one.join for one in results]),
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


def main() -> int:
    results = measure()
    sys.stdout.write("\n".join(table(results)) + "\n")
    if "--queries" in sys.argv:
        for one in results:
            for name, seconds in sorted(one.queries.items(), key=lambda item: -item[1]):
                sys.stdout.write(f"{one.prometheus} {seconds:6.2f}  {name}\n")
    return int(missed(results))


if __name__ == "__main__":
    sys.exit(main())
