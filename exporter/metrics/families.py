"""All metrics as one table: a row for each family, and the only place where the name of a metric is written.

A value of `None` gives no series: what is unknown is absent, never 0, -1 or NaN. Help texts contain no backslash, quote
or newline, because the two text formats escape these differently.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Any, Literal

from exporter.fleet.model import Droplet, Fleet, Schedule, SupportedPolicy, Window
from exporter.fleet.schedule import DAY, hours_until_next_window
from exporter.fleet.state import Reason, State

ACCOUNT_LABEL = "account"
IDENTITY = (ACCOUNT_LABEL, "droplet_id", "droplet_name")
"""The labels of every series of a Droplet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Family:
    """One metric: its name, type, labels and meaning."""

    name: str
    help: str
    type: Literal["gauge", "counter", "histogram"] = "gauge"
    labels: tuple[str, ...] = ()

    @property
    def series(self) -> tuple[str, ...]:
        """The names of the series that Prometheus stores: a histogram has three."""
        if self.type == "histogram":
            return tuple(self.name + suffix for suffix in ("_bucket", "_count", "_sum"))
        return (self.name,)


@dataclass(frozen=True, slots=True, kw_only=True)
class DropletFamily(Family):
    """At most one sample for each Droplet. It changes only if what is known of the Droplet changes."""

    labels: tuple[str, ...] = IDENTITY
    value: Callable[[Droplet], float | None]
    more: Callable[[Droplet], tuple[str, ...]] = lambda _: ()
    """The values of the labels that follow the identity."""
    tagged: bool = False
    """Whether the configured tag labels follow after those."""

    def label_names(self, tag_labels: Iterable[str]) -> tuple[str, ...]:
        """The names of all labels, given the configured tag labels."""
        return (*self.labels, *tag_labels) if self.tagged else self.labels


@dataclass(frozen=True, slots=True, kw_only=True)
class ListingFamily(Family):
    """At most one sample for each Droplet. It changes with each complete listing of the account."""

    labels: tuple[str, ...] = IDENTITY
    value: Callable[[Droplet, Fleet], float | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockFamily(Family):
    """At most one sample for each Droplet. It changes with the clock, so it is computed at the scrape."""

    labels: tuple[str, ...] = IDENTITY
    basis: Callable[[Droplet], Hashable | None]
    """What the value is computed from, besides the time; `None`: there is no sample."""
    at: Callable[[Any, float], float | None]
    """The value, from a basis and the time in Unix seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetFamily(Family):
    """Samples of a whole account."""

    labels: tuple[str, ...] = (ACCOUNT_LABEL,)
    samples: Callable[[Fleet], Iterable[tuple[tuple[str, ...], float]]]
    """For each sample, the values of the labels that follow the account, and the sample's value."""


def _policy_labels(droplet: Droplet) -> tuple[str, ...]:
    policy = droplet.policy
    if policy is None:
        return ("", "", "")
    return (policy.plan or "", policy.weekday or "", "" if policy.hour is None else str(policy.hour))


def _schedule_and_window(droplet: Droplet) -> tuple[Schedule | None, Window | None] | None:
    schedule = droplet.verdict.schedule
    window = droplet.policy.next_window if droplet.policy and schedule is None else None
    return (schedule, window) if schedule or window else None


def _refreshed_at(droplet: Droplet, fleet: Fleet) -> float | None:
    if not droplet.confirmed or fleet.listed_at is None:
        return droplet.refreshed_at
    return max(droplet.refreshed_at or 0.0, fleet.listed_at)


def _samples_by_plan(
    value: Callable[[SupportedPolicy], float | None],
) -> Callable[[Fleet], Iterable[tuple[tuple[str, ...], float]]]:
    """One sample for each plan, from the first supported policy of that name."""

    def samples(fleet: Fleet) -> Iterable[tuple[tuple[str, ...], float]]:
        first = {policy.plan: policy for policy in reversed(fleet.supported)}
        for plan in dict.fromkeys(policy.plan for policy in fleet.supported):
            known = value(first[plan])
            if known is not None:
                yield (plan,), known

    return samples


def _unjudged_samples(fleet: Fleet) -> Iterable[tuple[tuple[str, ...], float]]:
    if not fleet.known:
        return
    counted = Counter(d.verdict.reason for d in fleet.droplets if d.verdict.state is State.UNJUDGED)
    for reason in Reason:
        yield (reason.value,), counted[reason]


DROPLET_FAMILIES: tuple[DropletFamily | ListingFamily | ClockFamily, ...] = (
    DropletFamily(
        name="digitalocean_backup_droplet_info",
        help="Always 1, for every known Droplet: its region, size slug, status and the configured tag labels, to be "
        "joined to other series. Empty labels where only the backup policies name the Droplet.",
        labels=(*IDENTITY, "region", "size", "status"),
        tagged=True,
        value=lambda _: 1,
        more=lambda d: (d.description.region, d.description.size, d.description.status) if d.description else ("",) * 3,
    ),
    DropletFamily(
        name="digitalocean_backup_droplet_created_timestamp_seconds",
        help="When the Droplet was created, as Unix time.",
        value=lambda d: d.description.created_at if d.description else None,
    ),
    DropletFamily(
        name="digitalocean_backup_expected",
        help="1 if this Droplet ought to have backups by the configuration's expect_backups, else 0.",
        value=lambda d: d.expected,
    ),
    DropletFamily(
        name="digitalocean_backup_enabled",
        help="1 if the Droplet's policy has backups switched on, 0 if off. Absent if the policy does not say.",
        value=lambda d: d.policy.enabled if d.policy else None,
    ),
    DropletFamily(
        name="digitalocean_backup_policy_info",
        help="Always 1: the plan of the Droplet's policy, its weekday (empty for plans that run every day) and its "
        "hour in UTC. Absent if the policy names none of them, as a switched off one does.",
        labels=(*IDENTITY, "plan", "weekday", "hour"),
        value=lambda d: 1 if any(_policy_labels(d)) else None,
        more=_policy_labels,
    ),
    DropletFamily(
        name="digitalocean_backup_policy_supported",
        help="1 if DigitalOcean offers the policy's hour and weekday for its plan, else 0. Absent for a plan that is "
        "not among the supported policies.",
        value=lambda d: d.policy_supported,
    ),
    DropletFamily(
        name="digitalocean_backup_retention_days",
        help="Days for which a backup of this Droplet is kept, by its policy or else by the supported one of its plan.",
        value=lambda d: d.retention_days,
    ),
    DropletFamily(
        name="digitalocean_backup_interval_seconds",
        help="Expected time between two backups of this Droplet. Absent for a plan that is not known.",
        value=lambda d: d.interval,
    ),
    DropletFamily(
        name="digitalocean_backup_next_window_start_timestamp_seconds",
        help="Start of the next backup window, as Unix time, as the API last named it.",
        value=lambda d: d.policy.next_window.start if d.policy and d.policy.next_window else None,
    ),
    DropletFamily(
        name="digitalocean_backup_next_window_end_timestamp_seconds",
        help="End of the next backup window, as Unix time, as the API last named it.",
        value=lambda d: d.policy.next_window.end if d.policy and d.policy.next_window else None,
    ),
    DropletFamily(
        name="digitalocean_backup_newest_timestamp_seconds",
        help="When the newest backup that exists was created, as Unix time. Absent if there is none.",
        value=lambda d: d.newest.created_at if d.newest else None,
    ),
    DropletFamily(
        name="digitalocean_backup_newest_size_bytes",
        help="Size of the newest backup that exists, a gigabyte of the API being 1024^3 bytes. Absent if the API does "
        "not send it.",
        value=lambda d: d.newest.size if d.newest else None,
    ),
    DropletFamily(
        name="digitalocean_backup_oldest_timestamp_seconds",
        help="When the oldest backup that exists was created, as Unix time. Absent if there is none.",
        value=lambda d: d.oldest.created_at if d.oldest else None,
    ),
    DropletFamily(
        name="digitalocean_backup_kept",
        help="Backups of this Droplet that exist, also after backups were switched off. Absent until they were read.",
        value=lambda d: None if d.backups is None else len(d.backups),
    ),
    DropletFamily(
        name="digitalocean_backup_kept_size_bytes",
        help="Size of all backups of this Droplet together. Absent if the size of one is not known.",
        value=lambda d: d.kept_size,
    ),
    DropletFamily(
        name="digitalocean_backup_state",
        help="Always 1, for every known Droplet: the one word for the state of its backups.",
        labels=(*IDENTITY, "state"),
        value=lambda _: 1,
        more=lambda d: (d.verdict.state.value,),
    ),
    DropletFamily(
        name="digitalocean_backup_missed_windows",
        help="How many backup windows were missed since the newest backup, by evidence. Absent where backups are off "
        "or it cannot be judged.",
        value=lambda d: d.verdict.missed_windows,
    ),
    DropletFamily(
        name="digitalocean_backup_overdue",
        help="1 if at least one backup window was missed since the newest backup, else 0. Absent where backups are off "
        "or it cannot be judged.",
        value=lambda d: d.verdict.overdue,
    ),
    DropletFamily(
        name="digitalocean_backup_max_age_seconds",
        help="How old the newest backup may be, by the configuration or else by the plan. Absent if backups are off.",
        value=lambda d: d.verdict.max_age,
    ),
    DropletFamily(
        name="digitalocean_backup_stale",
        help="1 if the newest backup is older than it may be, or none is kept and one should be by now, else 0.",
        value=lambda d: d.verdict.stale,
    ),
    DropletFamily(
        name="digitalocean_backup_lost",
        help="Backups that are gone before their time: listed once, and neither listed nor turned into snapshots now.",
        value=lambda d: d.verdict.lost,
    ),
    DropletFamily(
        name="digitalocean_backup_attached_volumes",
        help="Block storage volumes attached to the Droplet, which are not in its backups.",
        value=lambda d: d.description.volumes if d.description else None,
    ),
    ListingFamily(
        name="digitalocean_backup_refreshed_timestamp_seconds",
        help="When the Droplet's list of backups was last known to be complete, as Unix time: read from its own "
        "endpoint, or every id that a listing named resolved.",
        value=_refreshed_at,
    ),
    ClockFamily(
        name="digitalocean_backup_hours_until_next_window",
        help="Hours from now to the start of the next backup window, 0 while one is open.",
        basis=_schedule_and_window,
        at=lambda windows, now: hours_until_next_window(windows[0], windows[1], now),
    ),
    ClockFamily(
        name="digitalocean_backup_newest_age_seconds",
        help="Time since the newest backup that exists was created. Absent if there is none.",
        basis=lambda d: d.newest.created_at if d.newest else None,
        at=lambda created_at, now: max(0.0, now - created_at),
    ),
)

ACCOUNT_FAMILIES: tuple[FleetFamily, ...] = (
    FleetFamily(
        name="digitalocean_backup_droplets",
        help="Droplets known in the account, after selection. Absent until a listing named them.",
        samples=lambda fleet: [((), len(fleet.droplets))] if fleet.known else (),
    ),
    FleetFamily(
        name="digitalocean_backup_unjudged_droplets",
        help="Droplets that should be judged and cannot be, by reason.",
        labels=(ACCOUNT_LABEL, "reason"),
        samples=_unjudged_samples,
    ),
    FleetFamily(
        name="digitalocean_backup_supported_policy_retention_seconds",
        help="How long DigitalOcean keeps a backup of the plan.",
        labels=(ACCOUNT_LABEL, "plan"),
        samples=_samples_by_plan(lambda policy: None if policy.retention_days is None else policy.retention_days * DAY),
    ),
    FleetFamily(
        name="digitalocean_backup_supported_policy_window_seconds",
        help="Length of a backup window of the plan.",
        labels=(ACCOUNT_LABEL, "plan"),
        samples=_samples_by_plan(lambda policy: policy.window_length),
    ),
)

BUILD_INFO = Family(
    name="digitalocean_backup_exporter_build_info",
    help="Always 1: the versions of the exporter and of Python.",
    labels=("version", "python_version"),
)
UP = Family(
    name="digitalocean_backup_exporter_up",
    help="1 if the last finished poll read the listings of policies and Droplets completely, else 0. Absent before the "
    "first one finished.",
    labels=(ACCOUNT_LABEL,),
)
POLLS = Family(
    name="digitalocean_backup_exporter_polls_total",
    type="counter",
    help="Polls finished: success, partial (the listings complete, but some Droplet's list that had to be read was "
    "not) or failure (the listings not complete).",
    labels=(ACCOUNT_LABEL, "result"),
)
UNREAD_DROPLETS = Family(
    name="digitalocean_backup_exporter_unread_droplets",
    help="Droplets whose list of backups the last poll had to read and did not.",
    labels=(ACCOUNT_LABEL,),
)
POLL_INTERVAL = Family(
    name="digitalocean_backup_exporter_poll_interval_seconds",
    help="Time from one poll to the next, as configured.",
    labels=(ACCOUNT_LABEL,),
)
POLL_DURATION = Family(
    name="digitalocean_backup_exporter_poll_duration_seconds",
    type="histogram",
    help="Time from the start of a poll until everything it learned is served.",
    labels=(ACCOUNT_LABEL,),
)
LAST_POLL = Family(
    name="digitalocean_backup_exporter_last_poll_timestamp_seconds",
    help="End of the last poll, whatever it learned, as Unix time.",
    labels=(ACCOUNT_LABEL,),
)
LAST_LISTING = Family(
    name="digitalocean_backup_exporter_last_listing_timestamp_seconds",
    help="End of the last poll whose listings were complete, as Unix time.",
    labels=(ACCOUNT_LABEL,),
)
API_REQUESTS = Family(
    name="digitalocean_backup_exporter_api_requests_total",
    type="counter",
    help="Requests sent to the API, retries included, by endpoint and HTTP status (error where no answer came).",
    labels=(ACCOUNT_LABEL, "endpoint", "code"),
)
API_REQUEST_DURATION = Family(
    name="digitalocean_backup_exporter_api_request_duration_seconds",
    type="histogram",
    help="Time from sending a request to the API until its answer was read or given up.",
    labels=(ACCOUNT_LABEL, "endpoint"),
)
API_RATE_LIMIT = Family(
    name="digitalocean_backup_exporter_api_rate_limit",
    help="Requests that the token may make in an hour, by the header ratelimit-limit.",
    labels=(ACCOUNT_LABEL,),
)
API_RATE_LIMIT_REMAINING = Family(
    name="digitalocean_backup_exporter_api_rate_limit_remaining",
    help="Requests that the token has left, by the header ratelimit-remaining.",
    labels=(ACCOUNT_LABEL,),
)
API_RATE_LIMIT_RESET = Family(
    name="digitalocean_backup_exporter_api_rate_limit_reset_timestamp_seconds",
    help="When the oldest of the token's requests no longer counts, as Unix time, by the header ratelimit-reset.",
    labels=(ACCOUNT_LABEL,),
)
API_THROTTLED = Family(
    name="digitalocean_backup_exporter_api_throttled_seconds_total",
    type="counter",
    help="Time for which requests were held back, by the exporter's own pacing or by retry-after.",
    labels=(ACCOUNT_LABEL,),
)
API_CLOCK_SKEW = Family(
    name="digitalocean_backup_exporter_api_clock_skew_seconds",
    help="Seconds by which the API's clock (its header Date) is ahead of the exporter's; negative if it is behind.",
    labels=(ACCOUNT_LABEL,),
)
REJECTED_RECORDS = Family(
    name="digitalocean_backup_exporter_rejected_records_total",
    type="counter",
    help="Records in answers of the API that could not be understood and were left out.",
    labels=(ACCOUNT_LABEL, "endpoint"),
)
CONFIG_LAST_RELOAD_SUCCESSFUL = Family(
    name="digitalocean_backup_exporter_config_last_reload_successful",
    help="1 if the configuration was good when it was last read, else 0: then the one before is in use.",
)
CONFIG_LAST_RELOAD_SUCCESS = Family(
    name="digitalocean_backup_exporter_config_last_reload_success_timestamp_seconds",
    help="When the configuration in use was read, as Unix time.",
)
LOG_LINES_DROPPED = Family(
    name="digitalocean_backup_exporter_log_lines_dropped_total",
    type="counter",
    help="Log lines that were dropped because nobody read stderr, or because it refused them.",
)
WEB_CONFIG_SUCCESSFUL = Family(
    name="digitalocean_backup_exporter_web_config_last_reload_successful",
    help="1 if the web configuration and its certificates are in use as their files are now, else 0.",
)

STATE_KEPT = Family(
    name="digitalocean_backup_exporter_state_kept",
    help="1 if what is known is kept in the state file for a restart, else 0.",
)

EXPORTER_FAMILIES: tuple[Family, ...] = (
    BUILD_INFO,
    UP,
    POLLS,
    UNREAD_DROPLETS,
    POLL_INTERVAL,
    POLL_DURATION,
    LAST_POLL,
    LAST_LISTING,
    API_REQUESTS,
    API_REQUEST_DURATION,
    API_RATE_LIMIT,
    API_RATE_LIMIT_REMAINING,
    API_RATE_LIMIT_RESET,
    API_THROTTLED,
    API_CLOCK_SKEW,
    REJECTED_RECORDS,
    CONFIG_LAST_RELOAD_SUCCESSFUL,
    CONFIG_LAST_RELOAD_SUCCESS,
    LOG_LINES_DROPPED,
    STATE_KEPT,
    WEB_CONFIG_SUCCESSFUL,
)
"""The families about the exporter itself. `telemetry` has their values."""

FAMILIES: tuple[Family, ...] = (*DROPLET_FAMILIES, *ACCOUNT_FAMILIES, *EXPORTER_FAMILIES)
