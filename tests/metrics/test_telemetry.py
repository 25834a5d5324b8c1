from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Callable

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.metrics.exposition import render
from exporter.metrics.families import EXPORTER_FAMILIES, FAMILIES, POLL_DURATION
from exporter.metrics.negotiation import OPENMETRICS, TEXT
from exporter.metrics.telemetry import ENDPOINTS, Telemetry
from exporter.polling.status import PollResult

NOW = 1_700_000_000.0
PREFIX = "digitalocean_backup_exporter_"


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry("1.2.3", process=False)


def lines_of(telemetry: Telemetry, *names: str) -> list[str]:
    """The samples as text, without the common prefix: all, or those whose names start with one of these."""
    text = TEXT.encode(telemetry.registry).decode()
    lines = [line.removeprefix(PREFIX) for line in text.splitlines() if not line.startswith("#")]
    # The log's own counter is there from the start, and no account's.
    return [line for line in lines if (line.startswith(names) if names else not line.startswith("log_lines_"))]


def test_start_has_only_the_build(telemetry: Telemetry) -> None:
    """Without an account and a configuration there is only the build's information."""
    assert lines_of(telemetry) == [
        f'build_info{{python_version="{platform.python_version()}",version="1.2.3"}} 1.0',
    ]


def test_account_starts_with_zeros_and_without_verdicts(telemetry: Telemetry) -> None:
    """Counters with known labels start at 0; figures of a poll are absent before the first poll."""
    telemetry.account("prod", 300.0)
    assert [line for line in lines_of(telemetry)[1:] if "dropped" not in line] == [
        'polls_total{account="prod",result="success"} 0.0',
        'polls_total{account="prod",result="partial"} 0.0',
        'polls_total{account="prod",result="failure"} 0.0',
        'poll_interval_seconds{account="prod"} 300.0',
        *(f'api_requests_total{{account="prod",code="200",endpoint="{endpoint}"}} 0.0' for endpoint in ENDPOINTS),
        'api_throttled_seconds_total{account="prod"} 0.0',
        *(f'rejected_records_total{{account="prod",endpoint="{endpoint}"}} 0.0' for endpoint in ENDPOINTS),
    ]


@pytest.mark.parametrize("result", ["success", "partial"])
def test_poll_with_complete_listings(telemetry: Telemetry, result: PollResult) -> None:
    """A poll whose listings were complete sets `up`, both instants, and how many lists it left unread."""
    telemetry.account("prod", 300.0).poll_finished(result, 2.0, NOW, listed=True, unread=3)
    assert lines_of(telemetry, "up", "unread", "last", f'polls_total{{account="prod",result="{result}"') == [
        'up{account="prod"} 1.0',
        f'polls_total{{account="prod",result="{result}"}} 1.0',
        'unread_droplets{account="prod"} 3.0',
        'last_poll_timestamp_seconds{account="prod"} 1.7e+09',
        'last_listing_timestamp_seconds{account="prod"} 1.7e+09',
    ]


def test_failed_poll_leaves_the_last_listing(telemetry: Telemetry) -> None:
    """A poll without complete listings sets `up` to 0 and keeps the time of the last listing."""
    account = telemetry.account("prod", 300.0)
    account.poll_finished("success", 2.0, NOW, listed=True, unread=0)
    account.poll_finished("failure", 2.0, NOW + 100_000, listed=False, unread=0)
    assert lines_of(telemetry, "up", "last") == [
        'up{account="prod"} 0.0',
        'last_poll_timestamp_seconds{account="prod"} 1.7001e+09',
        'last_listing_timestamp_seconds{account="prod"} 1.7e+09',
    ]
    account.poll_finished("success", 2.0, NOW + 200_000, listed=True, unread=0)
    assert lines_of(telemetry, "up") == ['up{account="prod"} 1.0']


def test_account_never_listed_has_no_listing_instant(telemetry: Telemetry) -> None:
    """As long as no poll had complete listings, `up` is 0 and the instant of the last one is absent, not 0."""
    telemetry.account("prod", 300.0).poll_finished("failure", 2.0, NOW, listed=False, unread=0)
    assert lines_of(telemetry, "up", "last_listing") == ['up{account="prod"} 0.0']


def test_poll_durations_tell_seconds_from_minutes(telemetry: Telemetry) -> None:
    """The buckets of the polls' durations reach from the quick poll to one that fills its interval."""
    account = telemetry.account("prod", 300.0)
    for duration in (0.3, 40.0, 290.0):
        account.poll_finished("success", duration, NOW, listed=True, unread=0)
    counts = {
        line.split('le="')[1].split('"')[0]: line.split(" ")[1]
        for line in lines_of(telemetry, "poll_duration_seconds_b")
    }
    assert counts["0.25"] == "0.0"
    assert counts["0.5"] == "1.0"
    assert counts["60.0"] == "2.0"
    assert counts["300.0"] == counts["+Inf"] == "3.0"
    assert lines_of(telemetry, "poll_duration_seconds_s") == ['poll_duration_seconds_sum{account="prod"} 330.3']


def test_requests_are_counted_by_endpoint_and_code(telemetry: Telemetry) -> None:
    """Every request counts once under its status, or `error` where none came, and its time by endpoint."""
    account = telemetry.account("prod", 300.0)
    account.sent("backups", 200, 0.07)
    account.sent("backups", 429, 0.01)
    account.sent("backups", "error", 10.0)
    account.sent("images", 200, 1.0)
    requests = [line for line in lines_of(telemetry, "api_requests_total") if not line.endswith(" 0.0")]
    assert requests == [
        'api_requests_total{account="prod",code="200",endpoint="backups"} 1.0',
        'api_requests_total{account="prod",code="200",endpoint="images"} 1.0',
        'api_requests_total{account="prod",code="429",endpoint="backups"} 1.0',
        'api_requests_total{account="prod",code="error",endpoint="backups"} 1.0',
    ]
    assert lines_of(telemetry, "api_request_duration_seconds_count") == [
        'api_request_duration_seconds_count{account="prod",endpoint="backups"} 3.0',
        'api_request_duration_seconds_count{account="prod",endpoint="images"} 1.0',
    ]


def test_rate_limit_is_that_of_the_last_answer(telemetry: Telemetry) -> None:
    """Each of the three headers has a gauge from when it first comes; one without a number leaves what is known."""
    account = telemetry.account("prod", 300.0)
    account.rate_limit(None, math.nan, math.inf)
    assert lines_of(telemetry, "api_rate") == []
    account.rate_limit(5000, 4816, None)
    account.rate_limit(None, 0, NOW)
    assert lines_of(telemetry, "api_rate") == [
        'api_rate_limit{account="prod"} 5000.0',
        'api_rate_limit_remaining{account="prod"} 0.0',
        'api_rate_limit_reset_timestamp_seconds{account="prod"} 1.7e+09',
    ]


def test_held_back_time_and_rejected_records_add_up(telemetry: Telemetry) -> None:
    """Waiting times and records that were left out are summed; a clock set back takes no waiting time away."""
    account = telemetry.account("prod", 300.0)
    account.throttled(1.5)
    account.throttled(0.25)
    account.throttled(-3.0)
    account.rejected("policies", 2)
    account.rejected("policies")
    assert lines_of(telemetry, "api_throttled") == ['api_throttled_seconds_total{account="prod"} 1.75']
    assert 'rejected_records_total{account="prod",endpoint="policies"} 3.0' in lines_of(telemetry, "rejected")


def test_removed_account_is_gone_whatever_comes_late(telemetry: Telemetry) -> None:
    """An account dropped by a reload leaves no series, even if a request of it is answered afterwards; others stay."""
    alone = lines_of(telemetry)
    gone = telemetry.account("gone", 300.0)
    gone.poll_finished("success", 1.0, NOW, listed=True, unread=0)
    gone.sent("droplets", 500, 1.0)
    gone.rate_limit(1, 2, 3)
    telemetry.account("stays", 60.0)
    telemetry.remove("gone")
    gone.sent("droplets", 200, 1.0)
    gone.rejected("droplets", 1)
    gone.throttled(1.0)
    gone.rate_limit(1, 2, 3)
    gone.clock_skew(1.0)
    gone.poll_finished("success", 1.0, NOW, listed=True, unread=0)
    assert not [line for line in lines_of(telemetry) if "gone" in line]
    assert lines_of(telemetry, "poll_interval") == ['poll_interval_seconds{account="stays"} 60.0']
    telemetry.remove("stays")
    telemetry.remove("never known")
    assert lines_of(telemetry) == alone


def test_known_account_goes_on_counting(telemetry: Telemetry) -> None:
    """A reload that keeps an account keeps its counters and takes over its new interval."""
    before = telemetry.account("prod", 300.0)
    before.throttled(2.0)
    telemetry.account("prod", 60.0).throttled(1.0)
    assert lines_of(telemetry, "api_throttled", "poll_interval") == [
        'poll_interval_seconds{account="prod"} 60.0',
        'api_throttled_seconds_total{account="prod"} 3.0',
    ]
    telemetry.remove("prod")
    before.throttled(1.0)
    assert lines_of(telemetry, "api_throttled") == []


def test_reload_that_fails_keeps_the_instant_of_the_good_one(telemetry: Telemetry) -> None:
    """A failed reload is 0, with the time at which the current configuration was read."""
    telemetry.reloaded(True, NOW)
    telemetry.state_kept(True)
    telemetry.reloaded(False, NOW + 100_000)
    names = "config_last_reload_successful", "config_last_reload_success_timestamp_seconds"
    assert lines_of(telemetry, "config") == [f"{names[0]} 0.0", f"{names[1]} 1.7e+09"]
    telemetry.reloaded(True, NOW + 100_000)
    assert lines_of(telemetry, "config") == [f"{names[0]} 1.0", f"{names[1]} 1.7001e+09"]


def busy() -> Telemetry:
    """With every family, and names that need escaping."""
    telemetry = Telemetry("1.2.3")
    account = telemetry.account('quo"te\\\n🦭\ud800', 300.0)
    account.sent("droplets", 200, 0.1)
    account.rate_limit(1, 2, 3)
    account.clock_skew(-0.5)
    account.poll_finished("success", 1.0, NOW, listed=True, unread=0)
    telemetry.reloaded(True, NOW)
    telemetry.state_kept(True)
    telemetry.web_config(lambda: True)
    return telemetry


def test_every_family_is_served_in_both_formats() -> None:
    """Every row of the table and the process' own figures can be read in both formats; nothing is `_created`."""
    registry = busy().registry
    text, openmetrics = TEXT.encode(registry).decode(), OPENMETRICS.encode(registry).decode()
    assert openmetrics.endswith("# EOF\n")
    for read in (parse_text(text), parse_openmetrics(openmetrics)):  # type: ignore[no-untyped-call]
        samples = [sample for family in read for sample in family.samples]
        names = {sample.name for sample in samples}
        assert {series for family in EXPORTER_FAMILIES for series in family.series} <= names
        assert {"process_resident_memory_bytes", "python_info", "python_gc_collections_total"} <= names
        assert not [name for name in names if name.endswith("_created")]
        accounts = {sample.labels["account"] for sample in samples if "account" in sample.labels}
        assert accounts == {'quo"te\\\n🦭\ufffd'}


def test_labels_are_those_of_the_table() -> None:
    """Every series of the exporter itself bears the labels of its row, and a bucket its bound."""
    rows = {series: family for family in EXPORTER_FAMILIES for series in family.series}
    for family in parse_text(TEXT.encode(busy().registry).decode()):
        for sample in family.samples:
            if sample.name in rows:
                bound = {"le"} if sample.name.endswith("_bucket") else set()
                assert set(sample.labels) == set(rows[sample.name].labels) | bound


def test_promtool_objects_to_nothing(tool: Callable[[str], str]) -> None:
    """Prometheus' own check finds nothing wrong with the exporter's figures, the process' included."""
    page = TEXT.encode(busy().registry)
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    assert (checked.returncode, checked.stdout, checked.stderr) == (0, b"", b"")


def test_openmetrics_page_is_fleet_and_telemetry() -> None:
    """The fleet's text followed by the library's OpenMetrics text is one valid page without a family named twice."""
    page = render([], NOW).decode() + OPENMETRICS.encode(busy().registry).decode()
    names = [family.name for family in parse_openmetrics(page)]  # type: ignore[no-untyped-call]
    assert len(names) == len(set(names))
    assert {family.name.removesuffix("_total") for family in FAMILIES} <= set(names)
    assert POLL_DURATION.name in names
