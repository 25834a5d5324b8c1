"""The exporter's metrics about itself, kept in a registry of the client library."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from math import isfinite
from typing import TypeVar, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from exporter.metrics import families
from exporter.metrics.exposition import without_surrogates
from exporter.metrics.families import ACCOUNT_LABEL, Family
from exporter.polling.status import PollResult

ENDPOINTS = ("droplets", "droplet", "policies", "supported_policies", "backups", "policy", "images")
"""The values of the label `endpoint`."""

POLL_BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
"""Seconds. A poll that finds nothing new is quick; one that the rate limit slows can take its whole interval."""
REQUEST_BUCKETS = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
"""Seconds. The API's usual times, the default timeout of a request, and longer timeouts."""


@dataclass(frozen=True, slots=True)
class Allowance:
    """A token's hourly rate limit, as the API last reported it; `None` if it has not."""

    limit: float | None = None
    remaining: float | None = None
    reset_at: float | None = None
    """When the oldest of the token's requests no longer counts."""


_Metric = TypeVar("_Metric", Counter, Gauge, Histogram)

disable_created_metrics()  # type: ignore[no-untyped-call]  # the library has only this switch, for all metrics


class _DroppedLines(Collector):
    """Counts the log lines that were dropped. The library's `Counter` cannot get its value at the scrape."""

    def __init__(self, count: Callable[[], int]) -> None:
        self._count = count

    def collect(self) -> Iterable[Metric]:
        family = families.LOG_LINES_DROPPED
        yield CounterMetricFamily(family.name, family.help, value=self._count())


class Telemetry:
    """The metrics about the exporter itself: `account()` for each account, `reloaded()` for the configuration.

    `process` adds the client library's `process_*` and `python_*` families, which a file for node_exporter's textfile
    collector must not contain: they would collide with node_exporter's. `log_lines_dropped` is called at each scrape.
    """

    def __init__(self, version: str, *, process: bool = True, log_lines_dropped: Callable[[], int] = lambda: 0) -> None:
        self.registry = CollectorRegistry(auto_describe=True)
        """The client library renders it in the format that the scraper asks for."""
        self._accounts: dict[str, AccountTelemetry] = {}
        self._of_account: list[MetricWrapperBase] = []

        build_info = self._metric(Gauge, families.BUILD_INFO)
        build_info.labels(version, platform.python_version()).set(1)
        self.up = self._metric(Gauge, families.UP)
        self.polls = self._metric(Counter, families.POLLS)
        self.unread_droplets = self._metric(Gauge, families.UNREAD_DROPLETS)
        self.poll_interval = self._metric(Gauge, families.POLL_INTERVAL)
        self.poll_duration = self._histogram(families.POLL_DURATION, POLL_BUCKETS)
        self.last_poll = self._metric(Gauge, families.LAST_POLL)
        self.last_listing = self._metric(Gauge, families.LAST_LISTING)
        self.requests = self._metric(Counter, families.API_REQUESTS)
        self.request_duration = self._histogram(families.API_REQUEST_DURATION, REQUEST_BUCKETS)
        self.limit = self._metric(Gauge, families.API_RATE_LIMIT)
        self.remaining = self._metric(Gauge, families.API_RATE_LIMIT_REMAINING)
        self.reset = self._metric(Gauge, families.API_RATE_LIMIT_RESET)
        self.throttled = self._metric(Counter, families.API_THROTTLED)
        self.clock_skew = self._metric(Gauge, families.API_CLOCK_SKEW)
        self.rejected = self._metric(Counter, families.REJECTED_RECORDS)
        self._config: dict[Family, Gauge] = {}
        self.registry.register(_DroppedLines(log_lines_dropped))
        if process:
            ProcessCollector(registry=self.registry)
            PlatformCollector(registry=self.registry)
            GCCollector(registry=self.registry)

    def account(self, name: str, interval: float) -> AccountTelemetry:
        """The metrics of an account that is polled every `interval` seconds. For a known name, they continue."""
        name = without_surrogates(name)
        found = self._accounts.get(name)
        if found is None:
            found = self._accounts[name] = AccountTelemetry(self, name)
        self.poll_interval.labels(name).set(interval)
        return found

    def allowance(self, name: str) -> Allowance:
        """The rate limit of the account's token; all `None` for an account that is not configured."""
        found = self._accounts.get(without_surrogates(name))
        return Allowance() if found is None else found.allowance

    def remove(self, name: str) -> None:
        """Removes all series of an account that is no longer configured. Later reports are ignored."""
        name = without_surrogates(name)
        dropped = self._accounts.pop(name, None)
        if dropped is not None:
            dropped.removed = True
            for metric in self._of_account:
                metric.remove_by_labels({ACCOUNT_LABEL: name})

    def reloaded(self, success: bool, at: float) -> None:
        """Reports that the configuration was read at this time, in Unix seconds, and whether it was good."""
        self._gauge_without_labels(families.CONFIG_LAST_RELOAD_SUCCESSFUL).set(success)
        if success:
            self._gauge_without_labels(families.CONFIG_LAST_RELOAD_SUCCESS).set(at)

    def state_kept(self, kept: bool) -> None:
        """Reports whether what is known is written to the state file."""
        self._gauge_without_labels(families.STATE_KEPT).set(kept)

    def web_config(self, followed: Callable[[], bool]) -> None:
        """`followed` returns whether the web configuration is in use as its files are now. Each scrape calls it."""
        self._gauge_without_labels(families.WEB_CONFIG_SUCCESSFUL).set_function(followed)

    def _gauge_without_labels(self, family: Family) -> Gauge:
        # A gauge without labels has a series as soon as it exists, so it is made when its value is known.
        if family not in self._config:
            self._config[family] = self._metric(Gauge, family)
        return self._config[family]

    def _metric(self, kind: type[_Metric], family: Family) -> _Metric:
        return self._register(kind(family.name, family.help, family.labels, registry=self.registry), family)

    def _histogram(self, family: Family, buckets: tuple[float, ...]) -> Histogram:
        made = Histogram(family.name, family.help, family.labels, registry=self.registry, buckets=buckets)
        return self._register(made, family)

    def _register(self, metric: _Metric, family: Family) -> _Metric:
        if ACCOUNT_LABEL in family.labels:
            self._of_account.append(metric)
        return metric


class AccountTelemetry:
    """The metrics that one account's poller and API client report."""

    def __init__(self, telemetry: Telemetry, name: str) -> None:
        self.name = name
        self.removed = False
        self.allowance = Allowance()
        self._all = telemetry
        for result in get_args(PollResult):
            telemetry.polls.labels(name, result)
        for endpoint in ENDPOINTS:
            telemetry.requests.labels(name, endpoint, "200")
            telemetry.rejected.labels(name, endpoint)
        telemetry.throttled.labels(name)

    def sent(self, endpoint: str, code: int | str, seconds: float) -> None:
        """Reports a request that took this long. `code`: the HTTP status, or `error` if no answer came."""
        if not self.removed:
            self._all.requests.labels(self.name, endpoint, str(code)).inc()
            self._all.request_duration.labels(self.name, endpoint).observe(seconds)

    def throttled(self, seconds: float) -> None:
        """Reports that a request was delayed by this many seconds."""
        if not self.removed and seconds > 0:
            self._all.throttled.labels(self.name).inc(seconds)

    def rejected(self, endpoint: str, count: int = 1) -> None:
        """Reports that this many records of an answer could not be understood."""
        if not self.removed:
            self._all.rejected.labels(self.name, endpoint).inc(count)

    def rate_limit(self, limit: float | None, remaining: float | None, reset: float | None) -> None:
        """Reports the rate limit from an answer's headers. A value of `None` leaves the one from before."""
        if self.removed:
            return
        known = {
            name: value
            for name, value in (("limit", limit), ("remaining", remaining), ("reset_at", reset))
            if value is not None and isfinite(value)
        }
        gauges = {"limit": self._all.limit, "remaining": self._all.remaining, "reset_at": self._all.reset}
        for name, value in known.items():
            gauges[name].labels(self.name).set(value)
        self.allowance = replace(self.allowance, **known)

    def state_kept(self, kept: bool) -> None:
        """Reports whether what is known is written to the state file."""
        self._all.state_kept(kept)

    def clock_skew(self, seconds: float) -> None:
        """Reports how many seconds the API's clock is ahead of the exporter's; negative if it is behind."""
        if not self.removed:
            self._all.clock_skew.labels(self.name).set(seconds)

    def poll_finished(self, result: PollResult, duration: float, at: float, *, listed: bool, unread: int) -> None:
        """Reports that a poll has ended, after `duration` seconds, at `at` in Unix seconds.

        `listed`: whether its listings were complete. `unread`: how many Droplets' lists it had to read and did not.
        """
        if self.removed:
            return
        self._all.polls.labels(self.name, result).inc()
        self._all.poll_duration.labels(self.name).observe(max(0.0, duration))
        self._all.up.labels(self.name).set(listed)
        self._all.unread_droplets.labels(self.name).set(unread)
        self._all.last_poll.labels(self.name).set(at)
        if listed:
            self._all.last_listing.labels(self.name).set(at)
