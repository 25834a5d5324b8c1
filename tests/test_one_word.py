"""Metrics, page, `check` and `show` give the same state of a Droplet, for each state and each reason."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from html import unescape
from pathlib import Path
from typing import Any
from unittest import mock

import aiohttp
import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.config import loading
from exporter.fleet.state import Reason, State
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.web.app import dispatch, routes
from tests.support.commands import command, served
from tests.support.lookalike import OMIT, Fault, Fixture, backup, disabled, policy
from tests.support.serving import serving
from tests.support.world import DAY, HOUR, MONDAY, HandClock, add

AT = MONDAY + 9 * HOUR
"""A Monday, 09:00 UTC, when the window of midnight is due."""
NAME = "db-1"
WATCHED = (AT - 3 * DAY, AT - DAY / 2)
"""When the exporter looked before, if it did."""


@dataclass(frozen=True, slots=True)
class Case:
    """A Droplet as the API shows it, and its state."""

    state: State
    reason: Reason | None
    record: Any = field(default_factory=lambda: daily())
    """Of its policy; `None`: there is none."""
    ages: tuple[float, ...] = ()
    """Of its backups, in days before the window of today."""
    watched: bool = False
    """Whether the exporter knows it from before; else it is seen for the first time."""
    faults: tuple[Fault, ...] = ()
    clock_ahead: float = 0.0
    described: Mapping[str, Any] | None = field(default_factory=dict)
    """`None`: only a policy names it."""
    tagged: bool = True
    """Whether the API tells tags."""


def daily(**over: Any) -> dict[str, Any]:
    return policy(1, hour=0, next_window=MONDAY + DAY, retention_days=7, **over)


NO_PLAN = {"plan": "usage_based_daily", "hour": 0, "window_length_hours": 4}
NEW = {"created_at": AT - HOUR}
CASES = {
    "missing": Case(State.MISSING, None, ages=(3, 4), watched=True),
    "overdue": Case(State.OVERDUE, None, ages=(1, 2), watched=True),
    "missing, and the clocks differ": Case(State.OVERDUE, Reason.CLOCK, ages=(2,), watched=True, clock_ahead=2 * DAY),
    "missing, and not read": Case(
        State.OVERDUE, Reason.UNREAD, ages=(2,), watched=True, faults=(Fault("backups", status=500),)
    ),
    "stale": Case(State.STALE, Reason.FIRST_LOOK, ages=(4, 5)),
    "never taken": Case(State.NEVER_TAKEN, Reason.FIRST_LOOK, described={"created_at": AT - 4 * DAY}),
    "clock": Case(State.UNJUDGED, Reason.CLOCK, ages=(0, 1), clock_ahead=-3 * HOUR),
    "no policy": Case(State.UNJUDGED, Reason.UNKNOWN_POLICY, record=None, ages=(0, 1)),
    "no flag": Case(State.UNJUDGED, Reason.UNKNOWN_POLICY, record=daily(backup_enabled=OMIT), ages=(0, 1)),
    "no tags": Case(State.UNJUDGED, Reason.UNKNOWN_POLICY, record=disabled(1), tagged=False),
    "no schedule": Case(State.UNJUDGED, Reason.NO_SCHEDULE, record=daily(backup_policy=NO_PLAN), ages=(0, 1)),
    "unread": Case(State.UNJUDGED, Reason.UNREAD, ages=(0, 1), faults=(Fault("backups", status=500),)),
    "first look": Case(State.UNJUDGED, Reason.FIRST_LOOK, ages=(1, 2)),
    "unprotected": Case(State.UNPROTECTED, None, record=disabled(1), ages=(9,)),
    "waiting": Case(State.WAITING, None, described=NEW),
    "protected": Case(State.PROTECTED, None, ages=(0, 1)),
    "not expected": Case(State.NOT_EXPECTED, None, record=disabled(1), described={"tags": ["k8s"]}),
    "gone": Case(State.GONE, None, described=None),
}


def test_every_word_has_a_case() -> None:
    """Each state and each reason is tried."""
    assert {case.state for case in CASES.values()} == set(State)
    assert {case.reason for case in CASES.values()} == {None, *Reason}


def account_of(case: Case, at: float) -> Fixture:
    """The account with the Droplet as it is at `at`."""
    account = Fixture()
    made = [backup(100 + int(age), MONDAY + HOUR - age * DAY) for age in case.ages if MONDAY + HOUR - age * DAY <= at]
    if case.described is None:
        account.policy_map["1"] = case.record
    else:
        add(account, 1, made, case.record, **{"name": NAME, "created_at": AT - 400 * DAY, **case.described})
        if not case.tagged:
            del account.droplet_list[0]["tags"]
    return account


@dataclass(frozen=True, slots=True)
class Said:
    """What one place says of the Droplet; `None` where it does not say it."""

    state: str | None
    reason: str | None = None
    verdict: str | None = None


async def served_by(file: Path, now: float) -> dict[str, Said]:
    """What metrics and page say after one poll of the exporter."""
    clock = HandClock()
    clock.set(now)
    config = loading.load_file(file)
    service = Service(config, lambda: config, clock, Telemetry("0", process=False))
    table = routes(service, "/metrics", lifecycle=False)
    await service.poll_once()
    async with serving(lambda request: dispatch(table, request)) as server, aiohttp.ClientSession() as session:
        host, port = server.addresses[0]
        texts = {}
        for path in ("/metrics", "/"):
            async with session.get(f"http://{host}:{port}{path}") as answer:
                texts[path] = await answer.text()
    return {"metrics": of_metrics(texts["/metrics"]), "page": of_page(texts["/"])}


def of_metrics(text: str) -> Said:
    samples = [sample for family in text_string_to_metric_families(text) for sample in family.samples]
    states = [s.labels["state"] for s in samples if s.name == "digitalocean_backup_state" and s.value == 1]
    reasons = [
        s.labels["reason"] for s in samples if s.name == "digitalocean_backup_unjudged_droplets" and s.value == 1
    ]
    assert len(states) == 1
    return Said(states[0], reasons[0] if reasons else None)


def of_page(text: str) -> Said:
    found = re.search(r'<span class="badge">([^<]*)</span> <span class="sub">([^<]*)</span></td>', text)
    assert found is not None
    return Said(unescape(found[1]).replace(" ", "-"), verdict=unescape(found[2]))


def of_document(droplet: Mapping[str, Any]) -> Said:
    return Said(droplet["state"], droplet["reason"], droplet["verdict"])


def of_table(text: str) -> Said:
    head, row = text.splitlines()[:2]
    return Said(row.split()[0], verdict=row[head.index("VERDICT") :])


def of_card(text: str) -> Said:
    found = re.search(r"^  verdict +([a-z ]+): (.*)$", text, re.MULTILINE)
    assert found is not None
    return Said(found[1].replace(" ", "-"), verdict=found[2])


@pytest.mark.parametrize("name", CASES)
def test_every_place_says_the_same(name: str, tmp_path: Path) -> None:
    """The state, the reason and the sentence are the same in all six places."""
    case = CASES[name]
    file, kept, state = tmp_path / "config.yaml", tmp_path / "kept", tmp_path / "state"

    def afresh(ask: Callable[[], Any]) -> Any:
        """Each place is asked as the first one after what was remembered."""
        state.unlink(missing_ok=True)
        if kept.exists():
            shutil.copy(kept, state)
        return ask()

    with served(account_of(case, AT), at=AT) as running:
        file.write_text(
            f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\nstate_file: {state}\n"
        )
        given = f"--config.file={file}"
        for at in WATCHED if case.watched else ():
            running.api.account, running.api.now = account_of(case, at), partial(float, at)
            command("check", given, at=at, TOKEN="t")
            shutil.copy(state, kept)
        running.api.account, running.api.now = account_of(case, AT), partial(float, AT + case.clock_ahead)
        running.api.faults += case.faults
        said: dict[str, Said] = {
            "check": of_table(afresh(lambda: command("check", given, at=AT, TOKEN="t")).out),
            "check --format json": of_document(
                afresh(lambda: command("check", given, "--format=json", at=AT, TOKEN="t")).json["droplets"][0]
            ),
            "show": of_card(afresh(lambda: command("show", "1", given, at=AT, TOKEN="t")).out),
            "show --format json": of_document(
                afresh(lambda: command("show", "1", given, "--format=json", at=AT, TOKEN="t")).json["droplets"][0]
            ),
        }
        with mock.patch.dict("os.environ", TOKEN="t"):
            said |= afresh(lambda: asyncio.run(served_by(file, AT)))
    assert {place: one.state for place, one in said.items()} == dict.fromkeys(said, case.state.value)
    reason = case.reason.value if case.reason else None
    for place in ("check --format json", "show --format json"):
        assert said[place].reason == reason, place
    # The metric counts those that are in the state `unjudged`.
    assert said["metrics"].reason == (reason if case.state is State.UNJUDGED else None)
    sentences = {place: one.verdict for place, one in said.items() if one.verdict is not None}
    assert len(sentences) == 5
    assert len(set(sentences.values())) == 1, sentences
