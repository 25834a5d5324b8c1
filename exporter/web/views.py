"""What the page says about an account and about a Droplet, ready for the template."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from exporter.config.tokens import redact
from exporter.fleet.model import AccountDroplet, Fleet
from exporter.fleet.state import State
from exporter.metrics.telemetry import Allowance
from exporter.polling.status import Status
from exporter.reports.phrases import (
    clock_words,
    duration_words,
    headline,
    instant_words,
    moment_words,
    next_window_of,
    plural,
    retention_words,
    schedule_words,
    short_duration,
    size_words,
    verdict_sentence,
)
from exporter.web.chart import Chart, chart_of
from exporter.web.droplet_table import DropletTable

Health = Literal["good", "warn", "bad", "busy"]

STALE_AFTER = 3
"""Data count as old after this many poll intervals without a complete listing. One poll may take a whole interval, and
the next may wait for another one."""
LONGEST_PROBLEM = 600
MOST_PROBLEMS = 10
MOST_TAGS = 6


@dataclass(frozen=True, slots=True)
class InstantWords:
    """A time in words: short, as a distance from now, and in full."""

    words: str
    distance: str
    full: str


@dataclass(frozen=True, slots=True)
class Progress:
    """How much of a poll is done."""

    done: int
    of: int
    words: str


@dataclass(frozen=True, slots=True)
class RequestsLeft:
    """How many requests the token may still send in this hour."""

    remaining: int
    of: int
    words: str


@dataclass(frozen=True, slots=True)
class AccountView:
    """What the page says about an account and its polls."""

    name: str
    health: Health
    state: str
    droplets: str
    last_poll: str
    next_poll: str
    limit: RequestsLeft | None
    progress: Progress | None
    remarks: tuple[str, ...]
    """What the reader should know about the last poll."""
    problems: tuple[str, ...]
    more_problems: int


@dataclass(frozen=True, slots=True)
class DropletRow:
    """What the page says about a Droplet: a row of the table."""

    id: int
    name: str
    account: str
    details: tuple[str, ...]
    tags: tuple[str, ...]
    more_tags: int
    state: State
    verdict: str
    plan: str
    retention: str
    next: InstantWords | None
    newest: InstantWords | None
    kept: str
    size: str
    newest_size: str
    max_age: str
    """How old the newest backup may be."""
    volumes: str
    """How many block storage volumes are attached, which are not in the backups."""
    chart: Chart | None


@dataclass(frozen=True, slots=True)
class Summary:
    """The first line of the page: whether all backups are in order."""

    health: Health
    words: str
    remarks: tuple[str, ...]


def summary_of(table: DropletTable, statuses: Sequence[Status], now: float) -> Summary:
    """The page's first line. It never claims more than is known."""
    known = {fleet.account for fleet in table.fleets if fleet.known}
    several = len(statuses) > 1
    remarks = []
    for status in statuses:
        of_account = f" of account {status.account}" if several else ""
        if status.account not in known:
            remarks.append(f"Nothing is known yet{of_account}: {_why_unknown(status)}.")
        elif _is_old(status, now) and status.last_listing_at is not None:
            remarks.append(
                f"The data{of_account} are old: the last complete listing was "
                f"{moment_words(status.last_listing_at, now)} UTC, {duration_words(now - status.last_listing_at)} ago."
            )
        elif status.last_listing_at is None and status.result is not None:
            remarks.append(f"The data{of_account} are incomplete: no listing could be read whole yet.")
    if not known:
        polling = any(status.result is None for status in statuses)
        words = "Not known yet: the first poll is running" if polling else "Not known: the API could not be read yet"
        return Summary("busy" if polling else "bad", words, tuple(remarks) if several or not polling else ())
    words, states = headline(table.states), table.states
    clocks = tuple(_clock_remarks(table.fleets, several=several))
    if any(count and state.is_bad for state, count in states.items()):
        return Summary("bad", words, (*remarks, *clocks))
    if remarks:
        dates = [status.last_listing_at for status in statuses if status.last_listing_at is not None]
        as_of = f"As of {moment_words(min(dates), now)} UTC: " if dates else "As far as is known: "
        return Summary("warn", as_of + words[0].lower() + words[1:], (*remarks, *clocks))
    uncertain = states[State.UNJUDGED] or clocks or not sum(states.values())
    return Summary("warn" if uncertain else "good", words, clocks)


def _clock_remarks(fleets: Iterable[Fleet], *, several: bool) -> Iterator[str]:
    for fleet in fleets:
        if fleet.clock_ahead is not None:
            words = clock_words(fleet.clock_ahead)
            what = f"no droplet of account {fleet.account} is" if several else "nothing is"
            yield f"{words[0].upper()}{words[1:]}, so {what} judged."


def account_view(status: Status, fleet: Fleet, allowance: Allowance, now: float) -> AccountView:
    """What the page says about an account."""
    remarks = []
    if status.result is not None and _is_old(status, now):
        remarks.append(_old_data_remark(status, fleet, now))
    if status.result is not None and fleet.known and not fleet.droplets:
        remarks.append(
            "The account has no droplets, or its selection matches none. A token of the wrong team looks the same."
        )
    progress = _progress(status, fleet)
    remarks += _warnings(fleet)
    if status.unread and status.held_back and status.polling_since is None:
        remarks.append("The rate limit did not allow the rest. The next polls read it; you need not do anything.")
    health, state = _health(status, fleet, now)
    counted = Counter(status.problems)
    problems = tuple(
        _shortened(problem) + (f" ({count:,} times)" if count > 1 else "")
        for problem, count in list(counted.items())[:MOST_PROBLEMS]
    )
    return AccountView(
        name=status.account,
        health=health,
        state=state,
        droplets=plural(len(fleet.droplets), "droplet") if fleet.known else "not known yet",
        last_poll="none yet" if status.last_poll_at is None else _short_ago(status.last_poll_at, now),
        next_poll=_next_poll(status, now),
        limit=_limit(allowance, now),
        progress=progress,
        remarks=tuple(remarks),
        problems=problems,
        more_problems=len(counted) - len(problems),
    )


def _warnings(fleet: Fleet) -> list[str]:
    """Problems outside of this exporter that make what the page says wrong or incomplete."""
    warnings = []
    if fleet.clock_ahead is not None:
        warnings.append("Nothing is judged until the clocks agree: set the clock of this host.")
    if fleet.untagged:
        warnings.append(
            f"The tags of {plural(fleet.untagged, 'droplet')} are not known: the API did not send them. "
            "Give the token the scope tag:read."
        )
    return warnings


def row_of(entry: AccountDroplet, now: float, *, several_accounts: bool) -> DropletRow:
    """What the page says about a Droplet."""
    droplet, description = entry.droplet, entry.droplet.description
    details = [f"id {droplet.id}"]
    tags: tuple[str, ...] = ()
    if description is not None:
        details += [detail for detail in (description.region, description.size) if detail]
        if description.status and description.status != "active":
            details.append(description.status)
        tags = description.tags or ()
    window = next_window_of(droplet, now)
    following = None
    if window is not None:
        opened = window.start <= now
        following = InstantWords(
            "open now" if opened else moment_words(window.start, now),
            f"until {moment_words(window.end, now).removeprefix('today ')}"
            if opened
            else f"in {short_duration(window.start - now)}",
            instant_words(window.start),
        )
    newest = droplet.newest
    kept, size = droplet.backups, droplet.kept_size
    return DropletRow(
        id=droplet.id,
        name=droplet.name,
        account=entry.account if several_accounts else "",
        details=tuple(details),
        tags=tags[:MOST_TAGS],
        more_tags=max(0, len(tags) - MOST_TAGS),
        state=entry.state,
        verdict=verdict_sentence(droplet, now),
        plan=schedule_words(droplet),
        retention=retention_words(droplet),
        next=following,
        newest=None
        if newest is None
        else InstantWords(
            short_duration(now - newest.created_at),
            moment_words(newest.created_at, now),
            instant_words(newest.created_at),
        ),
        kept="" if kept is None else f"{len(kept):,}",
        size=size_words(size) if kept else "",
        newest_size=size_words(newest.size) if newest and newest.size is not None and len(kept or ()) > 1 else "",
        max_age="" if droplet.verdict.max_age is None else f"limit {short_duration(droplet.verdict.max_age)}",
        volumes=f"{plural(description.volumes, 'volume')}, not in its backups"
        if description is not None and description.volumes
        else "",
        chart=chart_of(droplet, now),
    )


def _is_old(status: Status, now: float) -> bool:
    if status.result == "failure":
        return True
    listed = status.last_listing_at
    return listed is not None and now - listed > STALE_AFTER * status.interval


def _why_unknown(status: Status) -> str:
    if status.result is None:
        return "its first poll is running"
    return "no listing could be read" + (f"; {_shortened(status.problems[0])}" if status.problems else "")


def _old_data_remark(status: Status, fleet: Fleet, now: float) -> str:
    listed = status.last_listing_at
    if listed is None:
        return "There was no complete listing yet" + ("; only a part is shown." if fleet.known else ".")
    age = duration_words(now - listed)
    return f"Old data: the last complete listing was {moment_words(listed, now)} UTC, {age} ago."


def _health(status: Status, fleet: Fleet, now: float) -> tuple[Health, str]:
    if status.result is None:
        return "busy", "first poll running" if status.polling_since is not None else "about to poll"
    if status.result == "failure":
        return "bad", "failing"
    if _is_old(status, now):
        return "bad", "data are old"
    if fleet.clock_ahead is not None:
        return "warn", "clocks differ"
    if status.result == "partial":
        return "warn", "complete except for some lists"
    if not fleet.droplets:
        return "warn", "no droplets"
    return "good", "up to date"


def _next_poll(status: Status, now: float) -> str:
    if status.polling_since is not None:
        return f"running for {short_duration(now - status.polling_since)}"
    if status.next_poll_at is None:
        return "about to begin"
    return "due now" if status.next_poll_at <= now else f"in {short_duration(status.next_poll_at - now)}"


def _progress(status: Status, fleet: Fleet) -> Progress | None:
    if status.polling_since is not None:
        done, planned = status.readings_done, status.readings_planned
        if planned:
            return Progress(min(done, planned), planned, f"{done:,} of {planned:,} lists of backups read in this poll")
        return Progress(0, 0, "reading the listings") if status.result is None else None
    if status.unread:
        total = max(len(fleet.droplets), status.unread)
        return Progress(
            total - status.unread,
            total,
            f"{status.unread:,} of {plural(total, 'droplet')}: backups not read yet",
        )
    return None


def _limit(allowance: Allowance, now: float) -> RequestsLeft | None:
    if allowance.remaining is None:
        return None
    remaining = int(max(0.0, allowance.remaining))
    of = int(allowance.limit or 0.0)
    words = f"{remaining:,} of {of:,} requests left" if of else f"{plural(remaining, 'request')} left"
    if not remaining and allowance.reset_at is not None and allowance.reset_at > now:
        words += f", more in {short_duration(allowance.reset_at - now)}"
    return RequestsLeft(min(remaining, of), of, words)


def _short_ago(instant: float, now: float) -> str:
    return "just now" if now - instant < 1 else f"{short_duration(now - instant)} ago"


def _shortened(text: str) -> str:
    # A server may echo the token in its answer. A token that was cut would not be found.
    text = redact(text)
    return text if len(text) <= LONGEST_PROBLEM else text[: LONGEST_PROBLEM - 1] + "\N{HORIZONTAL ELLIPSIS}"
