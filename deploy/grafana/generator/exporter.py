"""The exporter itself: does it learn what it should, and what does that cost the token."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from . import parts
from .parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import PREFIX, exporter, family

HOUR = 3600
POLL = "5m"
"""Rates are taken over no less than the default time between two polls: within it, nothing counts up."""


def _reduced(how: str, name: str) -> str:
    return f"{how} by (account) ({exporter(name)})"


LISTING_AGE = f"clamp_min(time() - {_reduced('max', 'last_listing_timestamp_seconds')}, 0)"
"""Never negative: clocks differ a little, and the demo's may run ahead."""
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
        .thresholds(steps(RED, (1, GREEN)))
    )
    late = (
        parts.number(
            "Last complete listing",
            "Time since the last poll with complete listings, in poll intervals, of the worst account. Six alarm.",
            now(f"max(({LISTING_AGE}) / on (account) {_reduced('max', 'poll_interval_seconds')})"),
        )
        .unit("suffix: polls ago")
        .decimals(1)
        .min(0)
        .thresholds(steps(GREEN, (2, YELLOW), (6, RED)))
    )
    left = (
        parts.number(
            "Rate limit left",
            "What is left of the token's hour, of the account with the least. The exporter itself leaves the "
            "configured reserve, a fifth by default, to the token's other users.",
            now(f"min({SHARE_LEFT})"),
        )
        .unit("percentunit")
        .decimals(0)
        .min(0)
        .max(1)
        .thresholds(steps(RED, (0.1, YELLOW), (0.2, GREEN)))
    )
    unjudged = (
        parts.number(
            "Droplets not judged",
            "Droplets whose last due window could not be judged for want of a reading.",
            now(f"sum(max by (account) ({family('unjudged_droplets')}))"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(GREEN, (1, PURPLE)))
    )
    unread = (
        parts.number(
            "Lists left unread",
            "Droplets whose list of backups the last poll had to read and did not, for want of budget or because the "
            "API failed.",
            now(f"sum({_reduced('max', 'unread_droplets')})"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(GREEN, (1, YELLOW)))
    )
    rejected = (
        parts.number(
            "Records rejected",
            "Records of the API's answers that could not be understood and were left out, over the time shown.",
            now(f"sum(max by (account, endpoint) (increase({exporter('rejected_records_total')}[$__range])))"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(GREEN, (1, ORANGE)))
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
            "Exporters scraped. Each polls for itself; the rules and dashboards bear several.",
            now(f"count({PREFIX}exporter_build_info)"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(RED, (1, "text")))
    )
    return 3, [(3, panel) for panel in (listings, late, left, unjudged, unread, rejected, throttled, replicas)]


def _tables() -> parts.Line:
    accounts = parts.listing(
        "Accounts",
        "What each account's polls came to, of the worse replica. Resets in: until the API gives the token a new hour.",
        rows(_reduced("min", "up")),
        rows(f"max by (account) ({family('droplets')})"),
        rows(f"max by (account) ({family('unjudged_droplets')})"),
        rows(_reduced("max", "unread_droplets")),
        rows(LISTING_AGE),
        rows(_reduced("max", "poll_interval_seconds")),
        rows(SHARE_LEFT),
        rows(_reduced("min", "api_rate_limit_remaining")),
        rows(f"{_reduced('max', 'api_rate_limit_reset_timestamp_seconds')} - time() > 0"),
        order=["account", *(f"Value #{letter}" for letter in "ABCDEFGHI")],
    )
    for name, properties in {
        "account": settings(display_name="Account"),
        "Value #A": settings(
            display_name="Listings",
            mappings=parts.values({0: ("incomplete", RED), 1: ("complete", GREEN)}),
            custom_cell_options=parts.COLOURED_CELL,
            custom_width=100,
        ),
        "Value #B": settings(display_name="Droplets", custom_width=85),
        "Value #C": settings(
            display_name="Not judged",
            thresholds=steps("text", (1, PURPLE)),
            custom_cell_options=parts.COLOURED_TEXT,
            custom_width=100,
        ),
        "Value #D": settings(
            display_name="Unread",
            thresholds=steps("text", (1, YELLOW)),
            custom_cell_options=parts.COLOURED_TEXT,
            custom_width=80,
        ),
        "Value #E": settings(display_name="Last listing", unit="s", decimals=0, custom_width=105),
        "Value #F": settings(display_name="Interval", unit="s", decimals=0, custom_width=85),
        "Value #G": settings(
            display_name="Rate limit left",
            unit="percentunit",
            decimals=0,
            min=0,
            max=1,
            thresholds=steps(RED, (0.1, YELLOW), (0.2, GREEN)),
            custom_cell_options={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
            custom_width=160,
        ),
        "Value #H": settings(display_name="Requests left", unit="short", custom_width=115),
        "Value #I": settings(display_name="Resets in", unit="s", decimals=0, custom_width=95),
    }.items():
        accounts = accounts.override_by_name(name, properties)

    build = f"{PREFIX}exporter_build_info"
    replicas = parts.listing(
        "Exporters",
        "Every exporter scraped: its version, whether the last reload of its configuration succeeded, and what it "
        "uses.",
        rows(f"max by (instance, version, python_version) ({build})"),
        rows(f"max by (instance) ({PREFIX}exporter_config_last_reload_successful)"),
        rows(f"1000 * max by (instance) ({PREFIX}exporter_config_last_reload_success_timestamp_seconds)"),
        rows(f"max by (instance) (process_resident_memory_bytes and on (job, instance) {build})"),
        rows(f"time() - max by (instance) (process_start_time_seconds and on (job, instance) {build})"),
        order=["instance", "version", "python_version", "Value #B", "Value #C", "Value #D", "Value #E"],
    )
    for name, properties in {
        "instance": settings(display_name="Instance"),
        "version": settings(display_name="Version", custom_width=80),
        "python_version": settings(display_name="Python", custom_width=80),
        "Value #A": settings(custom_hidden=True),
        "Value #B": settings(
            display_name="Reload",
            mappings=parts.values({0: ("failed", RED), 1: ("good", GREEN)}),
            custom_cell_options=parts.COLOURED_TEXT,
            custom_width=75,
        ),
        "Value #C": settings(display_name="Configuration of", unit="dateTimeAsIso", custom_width=165),
        "Value #D": settings(display_name="Memory", unit="bytes", decimals=0, custom_width=90),
        "Value #E": settings(display_name="Running for", unit="s", decimals=1, custom_width=105),
    }.items():
        replicas = replicas.override_by_name(name, properties)
    return 5, [(14, accounts), (10, replicas)]


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
    buckets = f"sum by (account, le) (rate({exporter('poll_duration_seconds_bucket')}[$__rate_interval]))"
    duration = (
        parts.lines(
            "Duration of polls",
            "How long 95 of 100 polls take at most, by account. No poll outlasts the time between two: what the "
            "budget or the API did not allow by then is left to the next.",
            over_time(f"histogram_quantile(0.95, {buckets}) >= 0", "{{account}}", interval=POLL),
        )
        .unit("s")
        .min(0)
    )
    age = (
        parts.lines(
            "Time since the last complete listing",
            "By account, of the replica that got one last. While it rises, what is served was learned then.",
            over_time(LISTING_AGE, "{{account}}"),
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
            "What all replicas together ask of the API, retries included, to compare with the token's hourly limit.",
            over_time(
                f"{HOUR} * sum by (endpoint) (rate({requests}[$__rate_interval]))", "{{endpoint}}", interval=POLL
            ),
            fill=50,
        )
        .unit("suffix: /h")
        .decimals(0)
        .min(0)
        .legend(parts.legend("mean", "max", right=True))
    )
    by_code = (
        parts.stacked(
            "Requests by code, per hour",
            "The same by HTTP status; `error` where no answer came. 401 and 403: the token is wrong or lacks a "
            "scope. 429: the rate limit.",
            over_time(f"{HOUR} * sum by (code) (rate({requests}[$__rate_interval]))", "{{code}}", interval=POLL),
            fill=50,
        )
        .unit("suffix: /h")
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
            "Over the time shown, all replicas together: every answer but 2xx, and none (`error`). A 404 can be a "
            "droplet that has gone.",
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
            "As the API's answers tell it, by account; other users of the token spend from it too. Dashed: the limit.",
            over_time(_reduced("min", "api_rate_limit_remaining"), "{{account}}"),
            over_time(_reduced("max", "api_rate_limit"), "limit, {{account}}"),
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
            over_time(
                f"{HOUR} * sum by (account) (rate({exporter('api_throttled_seconds_total')}[$__rate_interval]))",
                "{{account}}",
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
                "sum by (endpoint) (max by (account, endpoint) "
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
        parts.lines(
            "Droplets not judged, and lists left unread",
            "Droplets whose last due window could not be judged for want of a reading, and those whose list the last "
            "poll had to read and did not.",
            over_time(f"max by (account) ({family('unjudged_droplets')})", "not judged, {{account}}"),
            over_time(_reduced("max", "unread_droplets"), "unread, {{account}}"),
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
            over_time(f"max by (account) ({family('droplets')})", "{{account}}"),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .line_interpolation(parts.STEPS)
    )
    return 8, [(8, rejected), (8, unjudged), (8, droplets)]


def build() -> models.Dashboard:
    return parts.build(
        parts.EXPORTER_UID,
        "Does the exporter learn what it should, and what does that cost the token.",
        [parts.data_source_variable(), parts.account_variable()],
        [parts.alerts("Exporter alerts", "BackupExporter.*|DropletBackupsUnjudged", "purple", text="{{account}}")],
        [
            _now(),
            _tables(),
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
