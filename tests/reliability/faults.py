"""The faults that are brought on, and what each of them does to one account from its first hour to its end.

Each is tried twice: on an exporter that knows the account, over half a day in which a backup is made that must not be
missed and another that is truly missed, and on one that is started into the fault and knows nothing.
"""

from __future__ import annotations

import asyncio
import gzip
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.fleet.state import Reason
from exporter.metrics.exposition import render
from exporter.metrics.negotiation import TEXT
from tests.reliability.recording import Recording, run_promtool
from tests.reliability.section import Section, Told, row, table
from tests.reliability.wire import Ill, Wire
from tests.support.lookalike import Fault, Fixture, window
from tests.support.world import DAY, HOUR, MONDAY, World, healthy, take_backup

BEGIN = MONDAY + 22 * HOUR
"""Two hours before a window opens."""
ILL_FROM, ILL_UNTIL = BEGIN + 2 * HOUR, BEGIN + 14 * HOUR
"""The fault stands while that window's backups are made, and well beyond the time at which they are due."""
END = BEGIN + 20 * HOUR
TUESDAY = MONDAY + DAY
MISSING = 4
"""The Droplet whose backup of Tuesday is never made."""
ERROR = 'exporter_api_requests_total{code="error",endpoint="droplets"}'
FAILURE = 'exporter_polls_total{result="failure"}'
PARTIAL = 'exporter_polls_total{result="partial"}'


def answered(code: int | str, endpoint: str = "droplets") -> str:
    return f'exporter_api_requests_total{{code="{code}",endpoint="{endpoint}"}}'


def rejected(endpoint: str = "droplets") -> str:
    return f'exporter_rejected_records_total{{endpoint="{endpoint}"}}'


@dataclass(frozen=True, slots=True)
class Case:
    """One fault: how it is brought on, and what is to be seen of it."""

    name: str
    faults: tuple[Fault, ...] = ()
    ill: Ill | None = None
    address: str | None = None
    """Where the API is believed to be while the fault stands; {port} is the wire's."""
    shows: tuple[str, ...] = (FAILURE,)
    """The samples whose value the fault changes."""
    listed: bool | None = False
    """Whether the listings are complete all the same; `None`: some are."""
    interval: float = 4 * HOUR
    timeout: float | None = None
    """Real seconds for a request while the fault stands."""
    droplets: int = 4
    limits: dict[str, int] = field(default_factory=dict)


class EveryStatus(Fault):
    """Answers each request with another status from 300 to 599: steps of 7 lead to all of them in the end."""

    def matches(self, endpoint: str, droplet_id: int | None, page: int | None) -> bool:
        self.status = 300 + ((self.status or 299) - 300 + 7) % 300
        return True


class Flapping(Fault):
    """Fails every second request."""

    def matches(self, endpoint: str, droplet_id: int | None, page: int | None) -> bool:
        self.status = None if self.status else 503
        return self.status is not None


def faulty(name: str, shows: Iterable[str] = (FAILURE,), *, listed: bool | None = False, **fault: Any) -> Case:
    """A fault of the API at every request, or at those that it names."""
    rest = {key: fault.pop(key) for key in ("interval", "timeout", "droplets", "limits") if key in fault}
    return Case(name, (Fault(**fault),), shows=tuple(shows), listed=listed, **rest)


def wired(ill: Ill, timeout: float | None = None, **rest: Any) -> Case:
    return Case(f"wire {ill}", ill=ill, shows=rest.pop("shows", (ERROR, FAILURE)), timeout=timeout, **rest)


def each(change: Callable[[dict[str, Any]], None]) -> Callable[[Any], None]:
    """An edit of every record of an answer, whichever endpoint's it is."""

    def edit(answer: Any) -> None:
        for record in records(answer):
            change(record)

    return edit


def records(answer: Any) -> Iterator[dict[str, Any]]:
    for key in ("droplets", "backups", "images", "supported_policies"):
        yield from answer.get(key, ())
    yield from answer.get("policies", {}).values()


def put(**fields: Any) -> Callable[[Any], None]:
    return each(lambda record: record.update(fields))


def total(value: Any) -> Callable[[Any], None]:
    def edit(answer: Any) -> None:
        # Not that of the listing of GPU Droplets, which has none.
        if answer.get("meta", {}).get("total"):
            answer["meta"] = {"total": value} if value is not None else {}

    return edit


def links(last: int | None, url: str) -> Callable[[Any], None]:
    """Links that lead on for ever, to wherever the address says."""

    def edit(answer: Any) -> None:
        if "links" in answer:
            told = {"next": url.format(page=2)} | ({} if last is None else {"last": url.format(page=last)})
            answer["links"] = {"pages": told}

    return edit


def twice(answer: Any) -> None:
    """Every record two times over."""
    for key in ("droplets", "backups", "images"):
        if key in answer:
            answer[key] = [one for one in answer[key] for _ in range(2)]


def overlapping(answer: Any) -> None:
    """The page's first record once more at its end, as where a record was added while the pages were read."""
    if answer.get("droplets"):
        answer["droplets"].append(answer["droplets"][0])


def short_of_one(answer: Any) -> None:
    """A page that lost its last record to a shift."""
    if answer.get("droplets"):
        answer["droplets"].pop()


def nameless(answer: Any) -> None:
    """A record in the place of each that is not one."""
    for key in ("droplets", "backups", "images"):
        if key in answer:
            answer[key] = [None for _ in answer[key]]
    if "policies" in answer:
        answer["policies"] = dict.fromkeys(answer["policies"])


def odd_dates(text: str) -> Callable[[Any], None]:
    def change(record: dict[str, Any]) -> None:
        if "created_at" in record:
            record["created_at"] = text
        if record.get("next_backup_window"):
            record["next_backup_window"] = {"start": text, "end": text}

    return each(change)


def headers(name: str, shows: Iterable[str] = (), *, listed: bool | None = True, **over: Any) -> Case:
    rest = {key: over.pop(key) for key in ("limits",) if key in over}
    values = {key.replace("_", "-"): value for key, value in over.items()}
    return faulty(f"header {name}", shows, listed=listed, headers=values, **rest)


JSON_OF = b'{"droplets": %s, "policies": {}, "meta": {"total": 0}}'
DEEP = b"[" * 200_000
BOMB = gzip.compress(b" " * (1 << 20)) * 500
RATE_RESET = "exporter_api_rate_limit_reset_timestamp_seconds{}"
SKEW = "exporter_api_clock_skew_seconds{}"
BACKUPS_REJECTED = rejected("backups")

CASES: tuple[Case, ...] = (
    wired("refuse"),
    wired("reset"),
    wired("close"),
    wired("silent", 1.0),
    wired("trickle", 1.0, shows=(FAILURE,)),
    wired("noise", 2.0),
    wired("tls"),
    wired("flood", shows=(FAILURE,), interval=6 * HOUR),
    Case("TLS where none is spoken", address="https://127.0.0.1:{port}", shows=(ERROR, FAILURE), timeout=1.0),
    Case("DNS", address="http://no-such-host.invalid", shows=(ERROR, FAILURE), interval=6 * HOUR),
    Case("statuses of every kind", (EveryStatus(),)),
    Case("flapping", (Flapping(),), shows=(answered(503),), listed=True),
    *(
        faulty(f"status {status}", (answered(status), FAILURE), status=status)
        for status in (204, 301, 401, 403, 404, 422, 500, 503, 599)
    ),
    faulty("redirect", (answered(302), FAILURE), status=302, headers={"location": "http://127.0.0.1:1/v2"}),
    faulty(
        "429 for a day",
        (answered(429), "exporter_api_throttled_seconds_total{}"),
        status=429,
        headers={"retry-after": "86400"},
    ),
    # Asked once a minute, which is often in twelve hours.
    faulty(
        "429 for less than nothing", (answered(429),), listed=None, status=429, times=60, headers={"retry-after": "-5"}
    ),
    faulty(
        "429 without a word", (answered(429),), listed=None, status=429, times=60, headers={"ratelimit-reset": None}
    ),
    faulty("hang", (ERROR, FAILURE), hang=True, timeout=1.0),
    faulty("reset", (ERROR, FAILURE), reset=True),
    faulty("slow body", drip=1.0, timeout=1.0),
    faulty("html", body=b"<html>sorry</html>", content_type="text/html"),
    faulty("json by another name", content_type="image/png"),
    faulty("empty body", body=b""),
    faulty("half of it", cut=100),
    faulty("half the json", body=b'{"droplets": [{"id": 1, "na'),
    faulty(
        "invalid utf-8",
        body=b'{"droplets": [{"id": 1, "name": "\xff\xfe"}], "policies": {"1": "\xff"}, "meta": {"total": 4}}',
    ),
    faulty("bytes of no kind", body=bytes(range(256)) * 8),
    faulty("deep json", body=DEEP),
    faulty("deep record", body=JSON_OF % (DEEP + b"]" * 200_000)),
    faulty("list on top", body=b"[]"),
    faulty("null on top", body=b"null"),
    faulty("mistyped lists", body=b'{"droplets": "no", "policies": 7, "backups": {}, "meta": {"total": 4}}'),
    faulty("null lists", body=b'{"droplets": null, "policies": null, "backups": null, "meta": {"total": 4}}'),
    faulty("an error with status 200", body=b'{"id": "server_error", "message": "no"}'),
    faulty(
        "gzip bomb",
        body=BOMB,
        headers={"content-encoding": "gzip", "content-length": str(len(BOMB))},
        interval=6 * HOUR,
    ),
    faulty("gzip that is none", headers={"content-encoding": "gzip"}),
    faulty("brotli", headers={"content-encoding": "br"}),
    faulty("null records", (rejected(), rejected("policies")), listed=True, edit=nameless),
    faulty("mistyped names", (rejected(),), listed=True, edit=put(name=17, plan=[])),
    faulty("mistyped policies", (rejected("policies"),), listed=True, edit=put(backup_enabled="no", backup_policy=5)),
    faulty("text for backup ids", (rejected(),), listed=True, edit=put(backup_ids="many")),
    faulty("huge ids", (rejected(),), listed=True, edit=put(id=2**70)),
    faulty("negative ids", (rejected(),), listed=True, edit=put(id=-1)),
    faulty("sizes out of range", (BACKUPS_REJECTED,), listed=True, endpoint="backups", edit=put(size_gigabytes=-3)),
    faulty(
        "sizes that are no number",
        shows=(BACKUPS_REJECTED,),
        listed=True,
        endpoint="backups",
        edit=put(size_gigabytes=10**400),
    ),
    faulty("not a number", (BACKUPS_REJECTED,), listed=True, endpoint="backups", edit=put(size_gigabytes=float("nan"))),
    faulty("no dates", (BACKUPS_REJECTED,), listed=True, endpoint="backups", edit=odd_dates("soon")),
    faulty("dates of year 1", (BACKUPS_REJECTED,), listed=True, edit=odd_dates("0001-01-01T00:00:00Z")),
    faulty("dates of year 9999", (BACKUPS_REJECTED,), listed=True, edit=odd_dates("9999-12-31T23:59:59Z")),
    faulty("window of year 9999", (), listed=True, endpoint="policies", edit=odd_dates("9999-12-31T23:59:59Z")),
    faulty(
        "hours out of range",
        (),
        listed=True,
        endpoint="policies",
        edit=put(backup_policy={"plan": "daily", "hour": 99}),
    ),
    faulty("records twice", (), listed=True, edit=twice),
    faulty("records shifted to the next page", (), listed=True, edit=overlapping, droplets=201),
    faulty("records lost between pages", (FAILURE,), edit=short_of_one, droplets=201),
    faulty("total too low", (), listed=True, edit=total(1)),
    faulty("total too high", edit=total(5000)),
    faulty("total negative", (), listed=True, edit=total(-3)),
    faulty("total beyond numbers", edit=total(2**80)),
    faulty("total a word", (), listed=True, edit=total("four")),
    faulty("no total", (), listed=True, edit=total(None)),
    faulty(
        "pages without end", (), edit=links(None, "https://api.digitalocean.com/v2/droplets?page={page}"), listed=True
    ),
    faulty(
        "a last page far away",
        (),
        listed=True,
        edit=links(10**6, "https://api.digitalocean.com/v2/droplets?page={page}"),
    ),
    faulty("links to another host", (), listed=True, edit=links(None, "http://127.0.0.1:1/v2/droplets?page={page}")),
    faulty("links that are none", (), listed=True, edit=links(None, "http://[::{page}")),
    *(
        faulty(f"{endpoint} alone fail", (answered(500, endpoint), FAILURE), endpoint=endpoint, status=500)
        for endpoint in ("droplets", "policies")
    ),
    faulty("lists alone fail", (answered(500, "backups"), PARTIAL), listed=True, endpoint="backups", status=500),
    faulty("lists are not found", (answered(404, "backups"),), listed=True, endpoint="backups", status=404),
    faulty("one list fails", (answered(503, "backups"),), listed=True, endpoint="backups", droplet_id=2, status=503),
    faulty("lists are empty objects", (PARTIAL,), listed=True, endpoint="backups", body=b"{}"),
    faulty("images and own droplets fail", (), listed=True, endpoint="images", status=500),
    faulty("second page fails", (answered(502), FAILURE), status=502, page=2, droplets=201),
    headers("ratelimit-reset in 2015", (RATE_RESET,), ratelimit_reset="1429822000"),
    headers("ratelimit-reset far away", (RATE_RESET,), ratelimit_reset="99999999999"),
    headers("ratelimit missing", (), ratelimit_reset=None, ratelimit_limit=None, ratelimit_remaining=None),
    headers("ratelimit words", (), ratelimit_reset="soon", ratelimit_limit="few", ratelimit_remaining="none"),
    headers("limit 0", ("exporter_api_rate_limit{}",), ratelimit_limit="0"),
    headers("limit negative", ("exporter_api_rate_limit{}",), ratelimit_limit="-5000"),
    headers(
        "nothing left until 2286",
        ("exporter_api_rate_limit_remaining{}",),
        listed=None,
        ratelimit_remaining="0",
        ratelimit_reset="9999999999",
    ),
    headers("remaining negative", ("exporter_api_rate_limit_remaining{}",), listed=None, ratelimit_remaining="-7"),
    headers("remaining huge", ("exporter_api_rate_limit_remaining{}",), ratelimit_remaining="999999999999"),
    headers("retry-after with a good answer", (), retry_after="86400"),
    headers("Date of year 1", (SKEW,), date="Mon, 01 Jan 0001 00:00:00 GMT"),
    headers("Date of year 9999", (SKEW,), date="Fri, 31 Dec 9999 23:59:59 GMT"),
    headers("Date an hour ahead", (SKEW,), date="Tue, 29 Sep 2026 23:00:00 GMT"),
    headers("Date missing", (), date=None),
    headers("Date a word", (), date="yesterday"),
)


_LABEL = re.compile(r'(\w+)="([^"]*)"')


def short(samples: Iterable[tuple[str, dict[str, str], float]]) -> dict[str, float]:
    """Samples by a name that says what matters here."""
    found = {}
    for name, labels, value in samples:
        told = ",".join(
            f'{label}="{text}"'
            for label, text in sorted(labels.items())
            if label not in ("account", "droplet_name") and text
        )
        found[f"{name.removeprefix('digitalocean_backup_')}{{{told}}}"] = value
    return found


STARTED_INTO = frozenset(("wire refuse", "status 401", "null records", "dates of year 1", "lists are not found"))
"""The cases that an exporter without any knowledge is started into, too."""
AT_ONCE = 6
"""Faults whose samples are put to the rules together: promtool loads no more than 10,000 samples for a query."""


class Trial(World):
    """One account behind the wire."""

    def __init__(self, case: Case, account: Fixture, interval: float) -> None:
        # Watched for days, so that a fault at the start hides a miss from nobody.
        watched = Account("prod", TokenSource(), watched_since=BEGIN - 10 * DAY)
        config = Config(accounts=(watched,), poll=Poll(interval=interval, timeout=10.0))
        super().__init__(account, at=BEGIN, config=config)
        self.case = case
        self.wire: Wire

    async def __aenter__(self) -> Trial:
        await self.api.start()
        self.wire = Wire(self.api.url, seed=len(self.case.name))
        await self.wire.__aenter__()
        if self.case.ill is not None:
            self.api.url = self.wire.url
        self._begin()
        return self

    async def __aexit__(self, *error: Any) -> None:
        await self.wire.__aexit__()
        await super().__aexit__(*error)

    async def fall_ill(self) -> None:
        self.api.faults.extend(replace(fault) for fault in self.case.faults)
        if self.case.ill is not None:
            await self.wire.fall(self.case.ill)
        self._limits = {name: getattr(self.api, name) for name in self.case.limits}
        for name, value in self.case.limits.items():
            setattr(self.api, name, value)
        client = self.poller._client
        self._usual = (client.http.timeout, client.http.base_url)
        if self.case.timeout is not None:
            client.http.timeout = self.case.timeout
        if self.case.address is not None:
            client.http.base_url = self.case.address.format(port=self.api.url.rpartition(":")[2])

    async def recover(self) -> None:
        """The fault is over; nobody does anything to the exporter."""
        self.api.faults.clear()
        await self.wire.fall(None)
        for name, value in self._limits.items():
            setattr(self.api, name, value)
        # What stands in for the network was turned, not the exporter.
        self.poller._client.http.timeout, self.poller._client.http.base_url = self._usual

    def live_on(self) -> None:
        """The account goes on with its life: backups are made, windows follow each other."""
        now = self.clock.now()
        day = now - now % DAY
        for droplet_id in range(1, len(self.account.droplet_list) + 1):
            record = self.account.policy_map[str(droplet_id)]
            record["next_backup_window"] = window(day if now < day + 4 * HOUR else day + DAY)
            made = max((one["created_at"] for one in self.account.backup_lists[droplet_id]), default="")
            if droplet_id != MISSING and now >= TUESDAY + HOUR and made < "2026-09-29":
                take_backup(self.account, droplet_id, TUESDAY + HOUR)

    def scrape(self) -> list[tuple[str, dict[str, str], float]]:
        """What is served. No name here needs escaping, so a line's parts are found without a parser, which is slow."""
        text = render([self.poller.fleet], self.clock.now()) + TEXT.encode(self.telemetry.registry)
        found = []
        for line in text.decode().splitlines():
            if not line.startswith("#") and "_bucket{" not in line:
                series, _, value = line.rpartition(" ")
                name, _, labels = series.rstrip("}").partition("{")
                found.append((name, dict(_LABEL.findall(labels)), float(value)))
        return found


def title(case: Case, *, cold: bool) -> str:
    return f"{case.name}, from the start" if cold else case.name


@dataclass(slots=True)
class Finding:
    """What a trial came to."""

    case: Case
    polls: int = 0
    wrong: list[str] = field(default_factory=list)
    problems: set[str] = field(default_factory=set)


async def try_out(case: Case, recording: Recording, *, cold: bool = False) -> Finding:
    """Brings the fault on; `cold`: the exporter is started into it. Whatever goes wrong is written down."""
    account = healthy(case.droplets, now=BEGIN, days=3)
    name = title(case, cold=cold)
    finding = Finding(case)
    # One that knows nothing has nothing to lose: fewer polls will do.
    interval = 6 * HOUR if cold else case.interval
    async with Trial(case, account, interval) as trial:
        await _live_through(trial, name, recording, finding, cold=cold)
    finding.wrong += [problem for problem in finding.problems if "bug" in problem]
    return finding


async def _live_through(trial: Trial, name: str, recording: Recording, finding: Finding, *, cold: bool) -> None:
    case, interval = trial.case, trial.config.poll.interval
    healthy_before: dict[str, float] = {}
    before: dict[str, float] = {}
    changed: set[str] = set()
    ill = False
    if cold:
        await trial.fall_ill()
        ill = True
        before = short(trial.scrape())
    at = BEGIN
    while at < END:
        if not cold and not ill and ILL_FROM <= at < ILL_UNTIL:
            healthy_before = {key: value for key, value in short(trial.scrape()).items() if key.startswith(STAYING)}
            before = short(trial.scrape())
            await trial.fall_ill()
            ill = True
        if ill and at >= ILL_UNTIL:
            await trial.recover()
            ill = False
        trial.clock.set(max(at, trial.clock.now()))
        trial.live_on()
        result = await trial.poll()
        finding.polls += 1
        finding.problems |= set(trial.poller.status.problems)
        scraped, scraped_at = trial.scrape(), at
        samples = short(scraped)
        at += interval
        recording.add(name, scraped, scraped_at, min(at, END))
        when = f"{(scraped_at - BEGIN) / HOUR:.4g} h"
        if ill:
            changed |= {key for key, value in samples.items() if before.get(key) != value}
            if case.listed is not None and samples["exporter_up{}"] != case.listed:
                finding.wrong.append(f"{when}: up is {samples['exporter_up{}']}, poll {result}")
            lost = {key for key in healthy_before if key not in samples}
            if lost:
                finding.wrong.append(f"{when}: lost {sorted(lost)[:3]}")
        if any(samples.get(f'overdue{{droplet_id="{one}"}}') for one in range(1, 4)):
            finding.wrong.append(f"{when}: a false alarm")
    missing = set(case.shows) - changed
    if missing:
        finding.wrong.append(f"not to be seen: {sorted(missing)}")
    finding.wrong += _at_the_end(trial)


STAYING = ("droplet_info", "kept{", "newest_timestamp", "policy_info", "enabled")
"""Series of each Droplet that no fault may take away."""


def _at_the_end(trial: Trial) -> Iterator[str]:
    """What is wrong once the fault has long been over."""
    samples = short(trial.scrape())
    expected = {
        "exporter_up{}": 1.0,
        "exporter_unread_droplets{}": 0.0,
        **{f'unjudged_droplets{{reason="{reason.value}"}}': 0.0 for reason in Reason},
        "droplets{}": float(trial.case.droplets),
        f'missed_windows{{droplet_id="{MISSING}"}}': 1.0,
        **{f'missed_windows{{droplet_id="{one}"}}': 0.0 for one in range(1, 4)},
        **{f'kept{{droplet_id="{one}"}}': 4.0 for one in range(1, 4)},
    }
    for key, value in expected.items():
        if samples.get(key) != value:
            yield f"at the end {key} is {samples.get(key)}, not {value}"
    if trial.poller.status.problems:
        yield f"at the end {trial.poller.status.problems}"


async def try_all(cases: Iterable[Case], recording: Recording, *, at_once: int = 4) -> dict[str, Finding]:
    """Every fault, warm and cold, by name; several side by side: those that hang wait while others work."""
    turns = asyncio.Semaphore(at_once)

    async def one(case: Case, cold: bool) -> tuple[str, Finding]:
        async with turns:
            return title(case, cold=cold), await try_out(case, recording, cold=cold)

    return dict(await asyncio.gather(*(one(*trial) for trial in trials_of(cases))))


def trials_of(cases: Iterable[Case]) -> list[tuple[Case, bool]]:
    """Each case, and whether the exporter is started into it."""
    return [(case, cold) for case in cases for cold in ((False, True) if case.name in STARTED_INTO else (False,))]


FIRED = 'max by (alertname, droplet_id) (max_over_time(ALERTS{droplet_id!="",alertstate="firing"}[2d]))'
"""The alerts about a Droplet that the shipped rules ever sent."""
OF_THE_MISSING = {f'{{alertname="DropletBackupOverdue",droplet_id="{MISSING}"}}': 1.0}


@dataclass(slots=True)
class Tried:
    """What came of some faults."""

    trials: int
    """Those of an exporter started into a fault included."""
    polls: int
    wrong: list[str]
    false_alarms: str


def bring_on(first: int) -> Tried:
    """So many faults from that one on as promtool takes at once, and what the shipped rules make of them."""
    promtool = shutil.which("promtool")
    assert promtool is not None
    recording = Recording(BEGIN)
    with capture_logs():
        findings = asyncio.run(try_all(CASES[first : first + AT_ONCE], recording))
    with tempfile.TemporaryDirectory() as folder:
        false_alarms = run_promtool(promtool, Path(folder), recording, {FIRED: OF_THE_MISSING})
    wrong = [f"{name}: {'; '.join(one.wrong)}" for name, one in findings.items() if one.wrong]
    return Tried(len(findings), sum(one.polls for one in findings.values()), wrong, false_alarms)


_TRIALS = "trials of them, some on an exporter started into the fault"


def _told(found: Sequence[Tried]) -> Told:
    trials, wrong = sum(one.trials for one in found), [problem for one in found for problem in one.wrong]
    false_alarms = [one.false_alarms for one in found if one.false_alarms]
    rows = [
        ("faults tried", f"{len(CASES)}"),
        (_TRIALS, f"{trials}"),
        ("of those survived", f"{trials - len(wrong)}"),
        ("polls under faults", f"{sum(one.polls for one in found):,}"),
        ("false alerts about a Droplet, by the shipped rules", "some" if false_alarms else "none"),
    ]
    return Told(table(("what", "measured"), rows), [*wrong, *false_alarms])


SECTION = Section(
    "Faults of the API and the network",
    planned=(row("faults tried", f"{len(CASES)}"), row(_TRIALS, f"{len(trials_of(CASES))}")),
    jobs=[partial(bring_on, first) for first in range(0, len(CASES), AT_ONCE)],
    tell=_told,
)
