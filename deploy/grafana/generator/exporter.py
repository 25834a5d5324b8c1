"""The dashboard of the exporter itself: whether it learns what it should, and how many requests that takes."""

from __future__ import annotations

from grafana_foundation_sdk.builders.prometheus import Dataquery
from grafana_foundation_sdk.models import dashboard as models

from . import parts
from .parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import ACCOUNT_BY, PREFIX, exporter, family, in_cluster

HOUR = 3600
POLL = "5m"
"""Rates are over at least the default time between two polls, because counters rise only once in that time."""


def _reduced(how: str, name: str) -> str:
    return f"{how} by ({ACCOUNT_BY}) ({exporter(name)})"


def _lines(expr: str, legend: str = "{{account}}", *, interval: str | None = None) -> Dataquery:
    """A query over the time shown. Its series are named by their account, after its cluster if it has one."""
    return over_time(in_cluster(f"({expr})"), legend, interval=interval)


LISTING_AGE = f"clamp_min(time() - {_reduced('max', 'last_listing_timestamp_seconds')}, 0)"
"""Never negative, although clocks differ a little and the demo's clock may be ahead."""
UNJUDGED = f"max by ({ACCOUNT_BY}, reason) ({family('unjudged_droplets')})"
SHARE_LEFT = f"{_reduced('min', 'api_rate_limit_remaining')} / {_reduced('max', 'api_rate_limit')}"


def _now() -> parts.Line:
    listings = (
        parts.number(
            "Listings",
            "Whether the last poll of every account and replica got its listings of policies and droplets complete.",
            now(f"min({exporter('up')})"),
            background=True,
        )
        .mappings(parts.values({0: ("incomplete", RED), 1: ("complete", GREEN)}))
        .thresholds(steps(GREY, (0, RED), (1, GREEN)))
    )
    late = (
        parts.number(
            "Last listing",
            "Time since the last poll with complete listings, in poll intervals, of the worst account. At six an alert "
            "fires.",
            now(f"max(({LISTING_AGE}) / on (cluster, account) {_reduced('max', 'poll_interval_seconds')})"),
        )
        .unit("suffix:polls ago")
        .decimals(1)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (2, YELLOW), (6, RED)))
    )
    left = (
        parts.number(
            "Rate limit left",
            "The part of the token's requests for an hour that is left, of the account with the least. The exporter "
            "itself leaves the configured reserve, a fifth by default, to the token's other users.",
            now(f"min({SHARE_LEFT})"),
        )
        .unit("percentunit")
        .decimals(0)
        .min(0)
        .max(1)
        .thresholds(steps("text", (0, RED), (0.1, YELLOW), (0.2, GREEN)))
    )
    unjudged = (
        parts.number(
            "Unjudged",
            "Droplets whose state is `unjudged`. The panel at the end shows the reasons.",
            now(f"sum({UNJUDGED})"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (1, PURPLE)))
    )
    unread = (
        parts.number(
            "Unread lists",
            "Droplets whose list of backups the last poll had to read and did not, because of the rate limit or "
            "because the API failed.",
            now(f"sum({_reduced('max', 'unread_droplets')})"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (1, YELLOW)))
    )
    rejected = (
        parts.number(
            "Rejected",
            "Records of the API's answers that could not be understood and were left out, over the time shown.",
            now(f"sum(max by (cluster, account, endpoint) (increase({exporter('rejected_records_total')}[$__range])))"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (1, ORANGE)))
    )
    throttled = (
        parts.number(
            "Held back",
            "Time requests were held back over the time shown, by the exporter's own pacing or by the API's "
            "`retry-after`.",
            now(f"sum(increase({exporter('api_throttled_seconds_total')}[$__range]))"),
        )
        .unit("s")
        .decimals(1)
        .min(0)
        .thresholds(steps(BLUE))
    )
    replicas = (
        parts.number(
            "Replicas",
            "Exporters that are scraped. Each polls by itself. Rules and dashboards count a droplet once.",
            now(f"count({PREFIX}exporter_build_info)"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, RED), (1, "text")))
    )
    return 3, [(3, panel) for panel in (listings, late, left, unjudged, unread, rejected, throttled, replicas)]


def _tables() -> list[parts.Line]:
    accounts = parts.with_columns(
        parts.listing(
            "Accounts",
            "How each account's polls went; of several replicas, the worse. Resets in: the time until the token may "
            "send requests again.",
            rows(_reduced("min", "up")),
            rows(f"max by ({ACCOUNT_BY}) ({family('droplets')})"),
            rows(f"sum by ({ACCOUNT_BY}) ({UNJUDGED})"),
            rows(_reduced("max", "unread_droplets")),
            rows(LISTING_AGE),
            rows(_reduced("max", "poll_interval_seconds")),
            rows(SHARE_LEFT),
            rows(_reduced("min", "api_rate_limit_remaining")),
            rows(f"{_reduced('max', 'api_rate_limit_reset_timestamp_seconds')} - time() > 0"),
            order=["cluster", "account", *(f"Value #{letter}" for letter in "ABCDEFGHI")],
        ),
        {
            "cluster": settings(display_name="Cluster"),
            "account": settings(display_name="Account", custom_min_width=120),
            "Value #A": settings(
                display_name="Listings",
                mappings=parts.values({0: ("incomplete", RED), 1: ("complete", GREEN)}),
                custom_cell_options=parts.COLOURED_CELL,
                custom_width=110,
            ),
            "Value #B": settings(display_name="Droplets", custom_width=105),
            "Value #C": settings(
                display_name="Unjudged",
                thresholds=steps("text", (1, PURPLE)),
                custom_cell_options=parts.COLOURED_TEXT,
                custom_width=115,
            ),
            "Value #D": settings(
                display_name="Unread",
                thresholds=steps("text", (1, YELLOW)),
                custom_cell_options=parts.COLOURED_TEXT,
                custom_width=100,
            ),
            "Value #E": settings(display_name="Last listing", unit="s", decimals=0, custom_width=140),
            "Value #F": settings(display_name="Interval", unit="s", decimals=0, custom_width=105),
            "Value #G": settings(
                display_name="Rate limit left",
                unit="percentunit",
                decimals=0,
                thresholds=steps("text", (0, RED), (0.1, YELLOW), (0.2, GREEN)),
                custom_cell_options=parts.COLOURED_TEXT,
                custom_width=160,
            ),
            "Value #H": settings(display_name="Requests left", unit="short", custom_width=145),
            "Value #I": settings(display_name="Resets in", unit="s", decimals=0, custom_width=115),
        },
    )
    build = f"{PREFIX}exporter_build_info"
    by = "cluster, job, instance"
    replicas = parts.with_columns(
        parts.listing(
            "Exporters",
            "Every exporter that is scraped: its version, whether the last reload of its configuration succeeded, and "
            "what it uses.",
            rows(f"max by ({by}, version, python_version) ({build})"),
            rows(f"max by ({by}) ({PREFIX}exporter_config_last_reload_successful)"),
            rows(f"1000 * max by ({by}) ({PREFIX}exporter_config_last_reload_success_timestamp_seconds)"),
            rows(f"max by ({by}) (process_resident_memory_bytes and on ({by}) {build})"),
            rows(f"time() - max by ({by}) (process_start_time_seconds and on ({by}) {build})"),
            order=[
                "cluster",
                "job",
                "instance",
                "version",
                "python_version",
                *(f"Value #{letter}" for letter in "BCDE"),
            ],
            hidden=["Value #A"],
        ),
        {
            "cluster": settings(display_name="Cluster"),
            "job": settings(display_name="Job", custom_min_width=160),
            "instance": settings(display_name="Instance", custom_min_width=160),
            "version": settings(display_name="Version", custom_width=105),
            "python_version": settings(display_name="Python", custom_width=105),
            "Value #B": settings(
                display_name="Reload",
                mappings=parts.values({0: ("failed", RED), 1: ("good", GREEN)}),
                custom_cell_options=parts.COLOURED_TEXT,
                custom_width=95,
            ),
            "Value #C": settings(display_name="Configuration of", unit="dateTimeAsIso", custom_width=175),
            "Value #D": settings(display_name="Memory", unit="bytes", decimals=0, custom_width=110),
            "Value #E": settings(display_name="Running for", unit="s", decimals=1, custom_width=130),
        },
    )
    return [(6, [(24, accounts)]), (5, [(24, replicas)])]


def _polls() -> parts.Line:
    polls = (
        parts.stacked(
            "Polls by result, per hour",
            "All replicas together. Failure: the listings were not complete. Partial: they were, but some droplet's "
            "list that had to be read was not.",
            over_time(
                f"{HOUR} * sum by (result) (rate({exporter('polls_total')}[$__rate_interval]))",
                "{{result}}",
                interval=POLL,
            ),
            bars=True,
        )
        .unit("short")
        .min(0)
        .override_by_name("success", parts.colored(GREEN))
        .override_by_name("partial", parts.colored(YELLOW))
        .override_by_name("failure", parts.colored(RED))
    )
    buckets = f"sum by (cluster, account, le) (rate({exporter('poll_duration_seconds_bucket')}[$__rate_interval]))"
    duration = (
        parts.lines(
            "Duration of polls",
            "How long 95 of 100 polls take at most, by account. A poll ends before the next one begins. What the rate "
            "limit or the API did not allow by then is left to the next poll.",
            _lines(f"histogram_quantile(0.95, {buckets}) >= 0", interval=POLL),
        )
        .unit("s")
        .min(0)
    )
    age = (
        parts.lines(
            "Time since the last complete listing",
            "By account; of several replicas, the one with the latest. While it rises, old data are served.",
            _lines(LISTING_AGE),
        )
        .unit("s")
        .min(0)
    )
    return 8, [(8, polls), (8, duration), (8, age)]


def _requests() -> parts.Line:
    requests = exporter("api_requests_total")
    by_endpoint = (
        parts.stacked(
            "Requests by endpoint, per hour",
            "Requests that all replicas together send, with retries, to be compared with the token's hourly limit.",
            over_time(
                f"{HOUR} * sum by (endpoint) (rate({requests}[$__rate_interval]))", "{{endpoint}}", interval=POLL
            ),
            fill=50,
        )
        .unit("suffix:per h")
        .decimals(0)
        .min(0)
        .legend(parts.legend("mean", "max", right=True))
    )
    by_code = (
        parts.stacked(
            "Requests by code, per hour",
            "The same by HTTP status; `error`: no answer came. 401 and 403: the token is wrong or lacks a "
            "scope. 429: the rate limit.",
            over_time(f"{HOUR} * sum by (code) (rate({requests}[$__rate_interval]))", "{{code}}", interval=POLL),
            fill=50,
        )
        .unit("suffix:per h")
        .decimals(0)
        .min(0)
        .legend(parts.legend("mean", "max", right=True))
        .override_by_regexp("/^2/", parts.colored(GREEN))
        .override_by_regexp("/^4/", parts.colored(ORANGE))
        .override_by_regexp("/^40[13]$/", parts.colored("dark-red"))
        .override_by_name("429", parts.colored(YELLOW))
        .override_by_regexp("/^5/", parts.colored(RED))
        .override_by_name("error", parts.colored(PURPLE))
    )
    return 8, [(12, by_endpoint), (12, by_code)]


def _errors() -> parts.Line:
    failed = (
        parts.ranked(
            "Requests that failed, by endpoint and code",
            "Over the time shown, all replicas together: every status except 2xx; `error`: no answer came. A 404 can "
            "be a droplet that was destroyed.",
            now(
                "sort_desc(sum by (endpoint, code) "
                f"(increase({exporter('api_requests_total', _NOT_GOOD)}[$__range])) or "
                f"0 * sum by (endpoint, code) ({exporter('api_requests_total', _NOT_GOOD)}))",
                "{{endpoint}} {{code}}",
            ),
        )
        .unit("short")
        .decimals(0)
        .no_value("none")
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(steps(GREY, (1, ORANGE)))
    )
    buckets = f"sum by (endpoint, le) (rate({exporter('api_request_duration_seconds_bucket')}[$__rate_interval]))"
    latency = (
        parts.lines(
            "Duration of requests by endpoint",
            "How long 95 of 100 requests take at most.",
            over_time(f"histogram_quantile(0.95, {buckets}) >= 0", "{{endpoint}}", interval=POLL),
        )
        .unit("s")
        .min(0)
        .legend(parts.legend("mean", "max", right=True))
    )
    return 8, [(12, failed), (12, latency)]


_NOT_GOOD = 'code!~"2.."'


def _budget() -> parts.Line:
    left = (
        parts.lines(
            "Requests left in the token's hour",
            "From the API's answers, by account. Other users of the token send requests too. Dashed: the limit.",
            _lines(_reduced("min", "api_rate_limit_remaining")),
            _lines(_reduced("max", "api_rate_limit"), "limit, {{account}}"),
        )
        .unit("short")
        .min(0)
        .override_by_regexp("/^limit/", parts.dashed("red"))
    )
    held = (
        parts.lines(
            "Time requests were held back, per hour",
            "By the exporter's own pacing or by the API's `retry-after`, all replicas together; requests wait side "
            "by side, so it can exceed an hour.",
            _lines(
                f"{HOUR} * sum by ({ACCOUNT_BY}) (rate({exporter('api_throttled_seconds_total')}[$__rate_interval]))",
                interval=POLL,
            ),
            fill=20,
        )
        .unit("s")
        .min(0)
    )
    return 8, [(12, left), (12, held)]


def _quality() -> parts.Line:
    rejected = (
        parts.stacked(
            "Rejected records by endpoint, per hour",
            "Records of an answer that could not be understood and were left out; each is logged with its id.",
            over_time(
                "sum by (endpoint) (max by (cluster, account, endpoint) "
                f"({HOUR} * rate({exporter('rejected_records_total')}[$__rate_interval])))",
                "{{endpoint}}",
                interval=POLL,
            ),
            bars=True,
        )
        .unit("short")
        .min(0)
    )
    unjudged = (
        parts.stacked(
            "Droplets not judged, by reason",
            "`clock`: the clocks of API and exporter differ. `unknown-policy`: the API does not say whether "
            "backups are on. `no-schedule`: plan or window is not known. `unread`: the list of backups could not be "
            "read. `first-look`: an old gap; nobody saw when it began.",
            over_time(f"sum by (reason) ({UNJUDGED})", "{{reason}}"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
    )
    unread = (
        parts.lines(
            "Lists left unread",
            "Droplets whose list of backups the last poll had to read and did not, by account.",
            _lines(_reduced("max", "unread_droplets")),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .line_interpolation(parts.STEPS)
    )
    droplets = (
        parts.lines(
            "Droplets known",
            "By account, after selection. A sudden fall is often a token of the wrong team.",
            _lines(f"max by ({ACCOUNT_BY}) ({family('droplets')})"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .line_interpolation(parts.STEPS)
    )
    return 8, [(6, rejected), (6, unjudged), (6, unread), (6, droplets)]


def build() -> models.Dashboard:
    return parts.build(
        parts.EXPORTER_UID,
        "Whether the exporter learns what it should, and how many requests that takes.",
        [parts.data_source_variable(), *parts.account_variables()],
        [parts.alerts("Exporter alerts", "BackupExporter.*|DropletBackupsUnjudged", "purple", text="{{account}}")],
        [
            _now(),
            *_tables(),
            "Polls",
            _polls(),
            "Requests",
            _requests(),
            _errors(),
            "Rate limit",
            _budget(),
            "What was learned",
            _quality(),
        ],
        time="24h",
    )
