"""Whatever the API's records hold, what is served of them can be read; the parts are fuzzed beside their own tests.

The decoders in `digitalocean/test_records.py`, the configuration in `test_config.py`, the state file in
`polling/test_store.py`, the exposition against the client library in `metrics/test_exposition.py`.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from exporter.digitalocean import records
from exporter.fleet.assemble import Rules, assemble, supported_of
from exporter.fleet.history import BackupHistory
from exporter.fleet.model import Fleet
from exporter.fleet.tracked import TrackedDroplet, description_seen, own_list_read, policy_seen
from exporter.metrics.exposition import render
from exporter.polling.conversion import backup_of, description_of, policy_of, supported_policies_of

NOW = 1_790_000_000.0
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["daily", "weekly", "intra_daily_4h", "MON", "0001-01-01T00:00:00Z", "2026-09-21T00:00:00Z"])
    | st.sampled_from(
        [2**63, -(2**63), 1e308, 10**400, "9999-12-31T23:59:59Z", "2199-12-31T23:59:59Z", "\ud800", "a\0b"]
    )
)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=2), max_leaves=3)


def record(**usual: Any) -> st.SearchStrategy[dict[str, Any]]:
    """A record of these fields, any of which may be missing or hold anything."""
    fields = {name: st.sampled_from([value]) | ANYTHING for name, value in usual.items()}
    return st.fixed_dictionaries({}, optional=fields)


DROPLET = record(
    id=7,
    name="web",
    status="active",
    size_slug="s-1",
    disk=25,
    created_at="2026-01-01T00:00:00Z",
    tags=["a"],
    backup_ids=[1],
    region={"slug": "x"},
)
PLAN = record(plan="daily", weekday="MON", hour=4, window_length_hours=4, retention_period_days=7)
WINDOW = record(start="2026-09-21T00:00:00Z", end="2026-09-21T04:00:00Z")
POLICY = st.tuples(record(backup_enabled=True), PLAN, WINDOW).map(
    lambda parts: {**parts[0], "backup_policy": parts[1], "next_backup_window": parts[2]}
)
BACKUP = record(id=1, created_at="2026-09-20T01:00:00Z", size_gigabytes=2.5)
SUPPORTED = record(
    name="daily",
    possible_window_starts=[0, 4],
    possible_days=[],
    window_length_hours=4,
    retention_period_days=7,
)


def fleet_of(droplets: list[Any], policy: Any, backups: list[Any], supported: list[Any], now: float) -> Fleet:
    """What the exporter makes of such answers."""
    plans = supported_policies_of(
        records.read_supported_policies(body("supported_policies", supported)).records.values()
    )
    found = [backup_of(one) for one in records.read_backups(body("backups", backups)).records.values()]
    policies = records.read_policies(body("policies", {"7": policy})).records
    known = TrackedDroplet(7, BackupHistory(first_seen=now - 1e6))
    for record in records.read_droplets(body("droplets", droplets)).records.values():
        known = description_seen(known, description_of(record))
    for one in policies.values():
        known = policy_seen(known, policy_of(one), now - 1e6, complete=True)
    known = own_list_read(
        known,
        {one.id: one for one in found},
        (),
        unreadable=0,
        read_at=now,
        now=now,
        supported=supported_of(known.policy, plans),
    )
    droplet = assemble(known, plans, Rules(), now).droplet
    return Fleet("prod", (droplet,), tuple(plans.values()), known=True)


def body(key: str, value: Any) -> bytes:
    return json.dumps({key: value, "meta": {"total": len(value)}}).encode()


def test_whatever_the_records_hold_is_served(tool: Callable[[str], str]) -> None:
    """Odd records of every kind pass through the whole exporter, and the client library and promtool read the page."""
    promtool, pages = tool("promtool"), list[bytes]()

    @settings(suppress_health_check=list(HealthCheck))
    @given(
        st.lists(DROPLET, max_size=2),
        POLICY,
        st.lists(BACKUP, max_size=3),
        st.lists(SUPPORTED, max_size=2),
        st.floats(0, 7e9),
    )
    def run(droplets: list[Any], policy: Any, backups: list[Any], supported: list[Any], now: float) -> None:
        page = render([fleet_of(droplets, policy, backups, supported, now)], now)
        for family in text_string_to_metric_families(page.decode()):
            for sample in family.samples:
                assert sample.value == sample.value, f"not a number: {sample}"
                if sample.name.endswith(("_age_seconds", "_hours_until_next_window", "_missed_windows")):
                    assert sample.value >= 0, sample
        pages.append(page)

    run()
    assert len(pages) > 20
    for page in sorted(pages, key=len)[-5:]:
        checked = subprocess.run([promtool, "check", "metrics"], input=page, capture_output=True, check=False)
        told = (checked.stdout + checked.stderr).decode()
        assert "error while linting" not in told, told
