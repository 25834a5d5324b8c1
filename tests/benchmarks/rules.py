"""What the shipped rules cost in the real Prometheus in a mass outage: `python -m tests.benchmarks.rules`.

10,000 Droplets, 3,000 of which missed their backups: their alerts fire, with all annotations. One exporter is scraped
until the windows of the rules hold as many samples as at the shipped intervals; two weeks of sizes are written
beforehand. Then each group is evaluated some times, and the slowest evaluation counts. The budget is a tenth of the
group's shipped interval.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence

from tests.benchmarks.filled_prometheus import SHARE, Cost, filled
from tests.support.rule_files import RULE_FILES

DROPLETS, MISSING = 10_000, 3_000
GIB = 1024**3


def measure() -> list[Cost]:
    """The cost of every group under each generation of Prometheus."""
    with filled(_sizes(time.time()), [_page()], 'digitalocean_backup_droplet_info{droplet_id="1"}') as servers:
        return [cost for one in servers for cost in one.rules_cost(RULE_FILES)]


def missed(costs: Sequence[Cost]) -> bool:
    """Whether some group takes more than its share."""
    return any(cost.share > SHARE for cost in costs)


def table(costs: Sequence[Cost]) -> list[str]:
    """The result as lines of Markdown: a row for each group, the one nearest to its budget first."""
    names = list(dict.fromkeys(cost.prometheus for cost in costs))
    groups: dict[str, list[Cost]] = {}
    for cost in sorted(costs, key=lambda cost: -cost.share):
        groups.setdefault(cost.group, []).append(cost)
    measured_by = " | ".join(f"{name}: slowest, share" for name in names)
    lines = [
        f"| group of rules | alerts firing | interval | {measured_by} | budget |",
        f"|---|---:|---:|{'---:|' * len(names)}---:|",
    ]
    for group, found in groups.items():
        by_name = {cost.prometheus: cost for cost in found}
        measured = [f"{by_name[name].seconds:.2f} s, {100 * by_name[name].share:.1f} %" for name in names]
        verdict = f"≤ {100 * SHARE:.0f} %{' **missed**' if missed(found) else ''}"
        cells = [group, f"{found[0].firing:,}", f"{found[0].interval:.0f} s", *measured, verdict]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


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


def main() -> int:
    costs = measure()
    sys.stdout.write("\n".join(table(costs)) + "\n")
    return int(missed(costs))


if __name__ == "__main__":
    sys.exit(main())
