"""The metrics of a made-up fleet at any instant, as two exporters would serve them, for tests of the dashboards.

Two accounts with droplets of every kind that a dashboard must show: healthy, overdue, missing, never taken, new, not
judged, not protected, not expected, known from the policies alone. Two replicas see them, `a` and `b`; in the hour
before `disagree_until`, `b` has not yet noticed that a droplet was renamed, retagged and put on another plan.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml

from tests.support.prometheus_server import Prometheus

HOUR = 3600.0
DAY = 24 * HOUR
GIB = 1024**3
INTERVALS = {"daily": DAY, "weekly": 7 * DAY, "intra_daily_4h": 4 * HOUR}
RETENTION = {"daily": 7, "weekly": 28, "intra_daily_4h": 7}
REPLICAS = ("a", "b")
REASONS = ("clock", "unknown-policy", "no-schedule", "unread", "first-look")

Sample = tuple[str, dict[str, str], float]


@dataclass(frozen=True, slots=True)
class Droplet:
    """A droplet, and which of its windows, counted back from the last that is due at the story's end, left no backup.

    Where that one left none, those since have left none either.
    """

    id: int
    account: str
    name: str
    team: str = ""
    plan: str | None = "daily"
    hour: int = 0
    gib: float = 4.0
    grows: float = 0.0
    """By this part of its size in a week."""
    missed: tuple[int, ...] = ()
    never: bool = False
    enabled: bool | None = True
    expected: bool = True
    judged: bool = True
    created: float = 400.0
    """Days before the end."""
    region: str = "nyc3"
    size: str = "s-2vcpu-4gb"
    status: str = "active"
    lost: int = 0
    volumes: int = 0


FLEET = (
    Droplet(441000001, "production", "web-01", "web", hour=2, gib=4.2, grows=0.02),
    Droplet(441000002, "production", "web-02", "web", hour=6, gib=4.4, grows=0.03),
    Droplet(441000003, "production", "web-03", "web", hour=20, gib=3.9, region="ams3", lost=2, grows=-0.3),
    Droplet(441000004, "production", "db-primary", "data", hour=16, gib=58, grows=0.2, size="m-4vcpu-32gb", volumes=2),
    Droplet(441000005, "production", "db-replica", "data", hour=9, gib=55, grows=0.18, missed=(0, 5)),
    Droplet(441000006, "production", "db-analytics", "data", hour=11, gib=14, missed=(0, 1, 2, 3)),
    Droplet(441000007, "production", "session-store", "data", "intra_daily_4h", hour=1, gib=2.1, missed=(20, 21)),
    Droplet(
        441000008, "production", "metrics-archive", "platform", "weekly", hour=30, gib=96, grows=0.05, region="tor1"
    ),
    Droplet(441000009, "production", "vpn-gateway", "platform", hour=14, never=True, created=20),
    Droplet(441000010, "production", "legacy-ftp", "platform", enabled=False, plan=None, gib=8),
    Droplet(441000011, "production", "pool-x7k2-node-1", "", enabled=False, plan=None, expected=False, never=True),
    Droplet(551000001, "staging", "stage-web", "web", hour=4, gib=3.1, region="fra1"),
    Droplet(551000002, "staging", "stage-api", "web", "weekly", hour=90, gib=5.5, region="fra1", judged=False),
    Droplet(551000003, "staging", "shop-next", "web", hour=4, never=True, created=0.2, region="fra1"),
    Droplet(551000004, "staging", "", "", hour=12, gib=2.0),
)
CHANGED = 441000002
"""The droplet that the replicas disagree about."""


@dataclass(frozen=True, slots=True)
class Story:
    """The fleet's history up to `end`, a Unix time."""

    end: float
    disagree_until: float | None = None

    def samples(self, replica: str, now: float) -> Iterator[Sample]:
        """What this replica serves at this instant."""
        for account in ("production", "staging"):
            droplets = [d for d in FLEET if d.account == account and now >= self.end - d.created * DAY]
            for droplet in droplets:
                yield from self._droplet(droplet, replica, now)
            yield from self._account(account, droplets, replica, now)
        yield from _process(now, self.end)

    def _droplet(self, d: Droplet, replica: str, now: float) -> Iterator[Sample]:
        name, team, plan = d.name, d.team, d.plan
        disagree = self.disagree_until is not None and self.disagree_until - HOUR < now <= self.disagree_until
        if d.id == CHANGED and disagree and replica == "b":
            name, team, plan = "web-02-old", "data", "weekly"
        base = {"account": d.account, "droplet_id": str(d.id), "droplet_name": name}

        def sample(family: str, value: float, **labels: str) -> Sample:
            return f"digitalocean_backup_{family}", base | labels, value

        described = (d.region, d.size, d.status) if name else ("", "", "")
        yield sample(
            "droplet_info", 1, region=described[0], size=described[1], status=described[2], team=team if name else ""
        )
        if name:
            yield sample("droplet_created_timestamp_seconds", self.end - d.created * DAY)
        yield sample("expected", d.expected)
        if d.enabled is not None:
            yield sample("enabled", d.enabled)
        backups = self._backups(d, now)
        state = self.state(d, now)
        yield sample("state", 1, state=state)
        yield sample("lost", d.lost)
        yield sample("attached_volumes", d.volumes)
        yield sample("kept", len(backups))
        yield sample("kept_size_bytes", sum(size for _, size in backups))
        yield sample("refreshed_timestamp_seconds", now - (now + d.id * 1000) % (20 * HOUR))
        if backups:
            yield sample("newest_timestamp_seconds", backups[-1][0])
            yield sample("newest_age_seconds", now - backups[-1][0])
            yield sample("newest_size_bytes", backups[-1][1])
            yield sample("oldest_timestamp_seconds", backups[0][0])
        if plan is None or d.plan is None:
            return
        interval = INTERVALS[d.plan]
        start = self._start(d, now)
        yield sample("policy_info", 1, plan=plan, weekday="SUN" if plan == "weekly" else "", hour=str(d.hour % 24))
        yield sample("policy_supported", 1)
        yield sample("retention_days", RETENTION[d.plan])
        yield sample("interval_seconds", interval)
        upcoming = start if now < start + 4 * HOUR and d.plan != "intra_daily_4h" else start + interval
        yield sample("next_window_start_timestamp_seconds", upcoming)
        yield sample("next_window_end_timestamp_seconds", upcoming + min(4 * HOUR, interval))
        yield sample("hours_until_next_window", max(0.0, upcoming - now) / HOUR)
        if d.enabled and d.judged:
            missed = self._missed(d, now)
            yield sample("missed_windows", missed)
            yield sample("overdue", missed > 0)
        if d.enabled:
            yield sample("max_age_seconds", self._limit(d))
            yield sample("stale", state in ("stale", "never-taken"))

    def _limit(self, d: Droplet) -> float:
        return 2 * INTERVALS[d.plan or "daily"] + 8 * HOUR

    def state(self, d: Droplet, now: float) -> str:
        """The droplet's state, by the order of the metrics contract."""
        if not d.enabled:
            return "unprotected" if d.expected else "not-expected"
        backups, missed = self._backups(d, now), self._missed(d, now)
        if missed and d.judged:
            return "missing" if missed > 1 else "overdue"
        since = backups[-1][0] if backups else self.end - d.created * DAY
        if now - since > self._limit(d):
            return "stale" if backups else "never-taken"
        if not d.judged:
            return "unjudged"
        return "protected" if backups else "waiting"

    def _start(self, d: Droplet, now: float) -> float:
        """Start of the latest window that has begun."""
        assert d.plan is not None
        interval, phase = INTERVALS[d.plan], d.hour * HOUR
        return math.floor((now - phase) / interval) * interval + phase

    def _windows(self, d: Droplet, now: float) -> Iterator[tuple[float, bool]]:
        """Windows that had time for their backup, the latest first, and whether one was taken."""
        interval = INTERVALS[d.plan or "daily"]
        last = self._start(d, self.end - _due_after(d)) if d.plan else self.end
        start = self._start(d, now) if d.plan else now - 30 * DAY
        while start > now - RETENTION[d.plan or "daily"] * DAY - 30 * DAY:
            if start + 2 * HOUR <= now and start > self.end - d.created * DAY:
                yield start, max(0, round((last - start) / interval)) not in d.missed and not d.never
            start -= interval

    def _backups(self, d: Droplet, now: float) -> list[tuple[float, float]]:
        found = []
        for start, taken in self._windows(d, now):
            kept = RETENTION[d.plan or "daily"] * DAY if d.enabled else 40 * DAY
            if taken and start + HOUR > now - kept:
                wobble = 1 + 0.02 * math.sin(start / 50000 + d.id)
                grown = 1 - d.grows * (self.end - start) / (7 * DAY)
                found.append((start + HOUR, float(round(d.gib * GIB * wobble * grown))))
        return sorted(found)[-60:] if d.enabled else sorted(found)[-2:]

    def _missed(self, d: Droplet, now: float) -> int:
        count = 0
        for start, taken in self._windows(d, now):
            if start + _due_after(d) > now and not taken:
                continue
            if taken or d.never:
                break
            count += 1
        return count

    def _account(self, account: str, droplets: list[Droplet], replica: str, now: float) -> Iterator[Sample]:
        base = {"account": account}
        share = 3 if account == "production" else 1

        def sample(family: str, value: float, **labels: str) -> Sample:
            return f"digitalocean_backup_{family}", base | labels, value

        yield sample("droplets", len(droplets))
        for reason in REASONS:
            unread = sum(self.state(d, now) == "unjudged" for d in droplets) if reason == "unread" else 0
            yield sample("unjudged_droplets", unread, reason=reason)
        for plan, days in RETENTION.items():
            yield sample("supported_policy_retention_seconds", days * DAY, plan=plan)
            yield sample("supported_policy_window_seconds", 4 * HOUR, plan=plan)
        ran = now - (self.end - 60 * DAY)
        polls = ran // 300
        outage = _outage(self.end, now)
        yield sample("exporter_up", account != "staging" or not self.end - 5 * HOUR < now < self.end - 4 * HOUR)
        failed = outage / 300 if account == "staging" else 0
        yield sample("exporter_polls_total", polls - failed - polls // 90, result="success")
        yield sample("exporter_polls_total", polls // 90, result="partial")
        yield sample("exporter_polls_total", failed, result="failure")
        yield sample("exporter_unread_droplets", int(polls % 90 == 0))
        yield sample("exporter_poll_interval_seconds", 300)
        for bound, part in ((0.5, 0.3), (1, 0.7), (2.5, 0.92), (5, 0.98), (10, 1), (math.inf, 1)):
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            yield sample("exporter_poll_duration_seconds_bucket", round(polls * part), le=le)
        yield sample("exporter_poll_duration_seconds_sum", polls * 0.9)
        yield sample("exporter_poll_duration_seconds_count", polls)
        late = max(0.0, min(now, self.end - 4 * HOUR) - (self.end - 5 * HOUR)) if outage and account == "staging" else 0
        stale = late if now < self.end - 4 * HOUR else 0
        yield sample("exporter_last_poll_timestamp_seconds", now - now % 300)
        yield sample("exporter_last_listing_timestamp_seconds", now - now % 300 - stale)
        rates = {"droplets": 1.0, "policies": 1.0, "backups": 0.4 * share, "supported_policies": 0.05, "images": 0.1}
        for endpoint in ("droplets", "droplet", "policies", "supported_policies", "backups", "policy", "images"):
            sent = rates.get(endpoint, 0.0) * (polls + 60 * math.sin(now / DAY))
            yield sample("exporter_api_requests_total", max(0, math.floor(sent)), endpoint=endpoint, code="200")
            if endpoint in ("policies", "backups"):
                errors = failed if account == "staging" else polls // 700
                yield sample("exporter_api_requests_total", errors, endpoint=endpoint, code="503")
            if endpoint == "backups":
                yield sample("exporter_api_requests_total", polls // 900, endpoint=endpoint, code="429")
            for bound, part in ((0.1, 0.4), (0.25, 0.85), (0.5, 0.97), (1, 1), (math.inf, 1)):
                le = "+Inf" if math.isinf(bound) else f"{bound:g}"
                duration = "exporter_api_request_duration_seconds_bucket"
                yield sample(duration, round(max(0, sent) * part), endpoint=endpoint, le=le)
            bad = polls // 2000 if endpoint == "backups" and account == "production" else 0
            yield sample("exporter_rejected_records_total", bad, endpoint=endpoint)
        used = (0.25 if account == "production" else 0.08) + 0.15 * math.sin(now / (6 * HOUR)) ** 2
        spent = round(5000 * min(0.9, used))
        yield sample("exporter_api_rate_limit", 5000)
        yield sample("exporter_api_rate_limit_remaining", 5000 - spent - (7 if replica == "b" else 0))
        yield sample("exporter_api_rate_limit_reset_timestamp_seconds", now - now % HOUR + HOUR)
        yield sample("exporter_api_throttled_seconds_total", polls // 40 * 1.5 * share)


def _due_after(d: Droplet) -> float:
    """Seconds from a window's start until it is due."""
    return min(8 * HOUR, 2 * INTERVALS[d.plan or "daily"])


def _outage(end: float, now: float) -> float:
    """How long the API has failed the second account so far: an hour, five hours before the end."""
    return max(0.0, min(now, end - 4 * HOUR) - (end - 5 * HOUR))


def _process(now: float, end: float) -> Iterator[Sample]:
    yield "digitalocean_backup_exporter_build_info", {"version": "1.0.0", "python_version": "3.11.7"}, 1
    yield "digitalocean_backup_exporter_config_last_reload_successful", {}, 1
    yield "digitalocean_backup_exporter_config_last_reload_success_timestamp_seconds", {}, end - 12 * DAY
    yield "process_resident_memory_bytes", {}, 61e6 + 2e6 * math.sin(now / 7000)
    yield "process_start_time_seconds", {}, end - 12 * DAY


def alerts(story: Story, now: float) -> Iterator[Sample]:
    """What Prometheus records of the alerts that fire at this instant in the fleet's story."""
    for name, labels, value in story.samples("a", now):
        if name != "digitalocean_backup_missed_windows" or not value:
            continue
        yield "ALERTS", labels | {"alertname": "DropletBackupOverdue", "alertstate": "firing", "severity": "warning"}, 1
        if value > 1:
            critical = {"alertname": "DropletBackupMissing", "alertstate": "firing", "severity": "critical"}
            yield "ALERTS", labels | critical, 1


def text(samples: Iterable[Sample], extra: dict[str, str] | None = None, at: float | None = None) -> Iterator[str]:
    """Lines of the text format; with an instant, of OpenMetrics with timestamps."""
    for name, labels, value in samples:
        shown = ",".join(f'{k}="{_escaped(v)}"' for k, v in (labels | (extra or {})).items() if v)
        yield f"{name}{{{shown}}} {float(value):.17g}{'' if at is None else f' {at:.3f}'}\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")


def openmetrics(story: Story, since: float, step: float) -> Iterator[str]:
    """The history of both replicas, and of the alerts, as Prometheus would have scraped it every `step` seconds."""
    instants = [story.end - step * k for k in range(int((story.end - since) / step), -1, -1)]
    for now in (instant - 7 * DAY for instant in instants):
        for replica in REPLICAS:  # What the newest backups are compared with.
            target = {"job": "digitalocean-backup", "instance": f"exporter-{replica}:9819"}
            sizes = (one for one in story.samples(replica, now) if one[0] == "digitalocean_backup_newest_size_bytes")
            yield from text(sizes, target, now)
    for now in instants:
        for replica in REPLICAS:
            target = {"job": "digitalocean-backup", "instance": f"exporter-{replica}:9819"}
            yield from text(story.samples(replica, now), target, now)
        yield from text(alerts(story, now), at=now)
    yield "# EOF\n"


def recorded(
    server: Prometheus, rules: Path, start: float, end: float, step: float, *, of_records: bool
) -> Iterator[str]:
    """What the rules of this file would have recorded from the server's data, as OpenMetrics with timestamps.

    `of_records` takes the rules that are made of what others record, which the server must hold by then; else the
    others.
    """
    found = [rule for group in yaml.safe_load(rules.read_text(encoding="utf-8"))["groups"] for rule in group["rules"]]
    names = [rule["record"] for rule in found]
    for rule in found:
        if any(name in rule["expr"] for name in names) == of_records:
            for one in server.over_time(rule["expr"], start, end, step):
                for at, value in one["values"]:
                    yield from text([(rule["record"], one["metric"], float(value))], at=at)
    yield "# EOF\n"
