"""Reloading: what is asked for takes effect, and nothing else changes."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
import time
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from email.utils import formatdate
from pathlib import Path
from unittest.mock import Mock

import pytest
import structlog
from prometheus_client.parser import text_string_to_metric_families

from exporter.clock import Clock
from exporter.config.model import Account, Config, MaxAge, Poll, TagLabel
from exporter.config.tokens import TokenSource
from exporter.config.yaml_document import ConfigError
from exporter.fleet.selection import EVERYTHING, Criteria, Selection
from exporter.fleet.state import Reason
from exporter.metrics.exposition import render
from exporter.metrics.negotiation import TEXT
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from tests.support.lookalike import Api, Fault, Fixture, backup, droplet, policy
from tests.support.serving import eventually
from tests.support.serving_process import started

pytestmark = pytest.mark.slow  # a running exporter, waited for

TOKEN = "a-token-of-the-tests"


def fixture(*ids: int) -> Fixture:
    now = time.time()
    return Fixture(
        [droplet(number, name=f"d{number}", tags=["team:web"]) for number in ids],
        {str(number): policy(number, hour=4, now=now) for number in ids},
        {number: [backup(number * 10, now - 3600)] for number in ids},
    )


Samples = Mapping[tuple[str, str, str], float]
"""By family, account and droplet id, or the result or endpoint in its place."""


def samples(text: str) -> Samples:
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = sample.labels
            more = labels.get("droplet_id") or labels.get("result") or labels.get("endpoint", "")
            name = sample.name.removeprefix("digitalocean_backup_")
            found[name, labels.get("account", ""), more] = sample.value
    return found


def droplets(found: Samples, account: str) -> set[int]:
    return {int(more) for name, of, more in found if name == "droplet_info" and of == account}


# As a process


async def test_a_running_exporter_follows_its_configuration(tmp_path: Path) -> None:
    """SIGHUP and POST add, change and remove accounts without touching the others; a bad file changes nothing."""
    file = tmp_path / "config.yaml"

    async with Api(fixture(1, 2), token=TOKEN, now=time.time) as a, Api(fixture(7), token=TOKEN, now=time.time) as b:

        def write(text: str) -> None:
            file.write_text(text.replace("TOKEN", "token_env: THE_TOKEN"))

        first = f"{{name: a, TOKEN, api_url: '{a.url}'}}"
        changed = f"{{name: a, TOKEN, api_url: '{a.url}', exclude: {{droplet_ids: [2]}}}}"
        second = f"{{name: b, TOKEN, api_url: '{b.url}'}}"
        write(f"accounts: [{first}]\n")
        arguments = ("--config.file", str(file), "--web.enable-lifecycle")
        async with started(tmp_path, *arguments, env={"THE_TOKEN": TOKEN}) as exporter:
            host, port = exporter.addresses[0]
            root = f"http://{host}:{port}"

            def now() -> Samples:
                with urllib.request.urlopen(f"{root}/metrics", timeout=10) as response:
                    return samples(response.read().decode())

            def post(method: str = "POST") -> tuple[int, str]:
                request = urllib.request.Request(f"{root}/-/reload", method=method)
                try:
                    with urllib.request.urlopen(request, timeout=10) as response:
                        return response.status, response.read().decode()
                except urllib.error.HTTPError as error:
                    return error.code, error.read().decode()

            async def until_listed(account: str, *ids: int) -> Samples:
                async with asyncio.timeout(30):
                    while True:
                        found = await asyncio.to_thread(now)
                        if droplets(found, account) == set(ids):
                            return found
                        await asyncio.sleep(0.05)

            before = await until_listed("a", 1, 2)
            assert before["exporter_config_last_reload_successful", "", ""] == 1
            asked = a.count()

            # Added, by SIGHUP; the other account is not even polled again.
            write(f"accounts: [{first}, {second}]\n")
            exporter.signal(signal.SIGHUP)
            found = await until_listed("b", 7)
            assert droplets(found, "a") == {1, 2}
            assert found["exporter_polls_total", "a", "success"] == 1
            assert a.count() == asked

            # A bad file changes nothing, is answered and logged with the reason, and shows.
            at = found["exporter_config_last_reload_success_timestamp_seconds", "", ""]
            write(f"accounts: [{first}, {{name: b}}]\nwhat: 1\n")
            status, told = await asyncio.to_thread(post)
            assert status == 500
            assert "what: unknown key; the keys here are" in told
            assert "accounts[1]: neither token_file nor token_env is given" in told
            exporter.signal(signal.SIGHUP)
            await exporter.logged('event="reload failed" .*what: unknown key', times=2)
            found = await asyncio.to_thread(now)
            assert found["exporter_config_last_reload_successful", "", ""] == 0
            assert found["exporter_config_last_reload_success_timestamp_seconds", "", ""] == at
            assert (droplets(found, "a"), droplets(found, "b")) == ({1, 2}, {7})
            file.unlink()
            assert (await asyncio.to_thread(post))[0] == 500

            # Changed, by POST, with the counters going on; the other account is left alone.
            write(f"accounts: [{changed}, {second}]\n")
            assert await asyncio.to_thread(post) == (200, "The configuration was reloaded.\n")
            found = await asyncio.to_thread(now)
            assert found["exporter_config_last_reload_successful", "", ""] == 1
            assert found["exporter_config_last_reload_success_timestamp_seconds", "", ""] > at
            assert droplets(found, "a") == {1}
            async with asyncio.timeout(30):
                while found["exporter_polls_total", "a", "success"] < 2:
                    await asyncio.sleep(0.05)
                    found = await asyncio.to_thread(now)
            assert found["exporter_polls_total", "b", "success"] == 1
            requests = ("exporter_api_requests_total", "a", "droplets")
            assert found[requests] > before[requests]

            # Removed: its series are gone, the other's are not.
            write(f"accounts: [{changed}]\n")
            assert (await asyncio.to_thread(post))[0] == 200
            found = await asyncio.to_thread(now)
            assert not [name for name, account, _ in found if account == "b"]
            assert droplets(found, "a") == {1}
            assert found["exporter_polls_total", "a", "success"] == 2

            assert (await asyncio.to_thread(post, "GET"))[0] == 405
        assert "Traceback" not in exporter.log


# In this process, step by step


class World:
    """A service that polls the look-alike, and the configuration that its next reload reads."""

    def __init__(self, config: Config) -> None:
        self.config: Config | ConfigError = config
        self.telemetry = Telemetry("1", process=False)
        self.service = Service(config, self._load, Clock(), self.telemetry)

    def _load(self) -> Config:
        if isinstance(self.config, ConfigError):
            raise self.config
        return self.config

    async def text(self) -> str:
        pieces = await self.service.exposition.text_at(
            self.service.clock.now(), tail=TEXT.encode(self.telemetry.registry)
        )
        return b"".join(pieces).decode()

    async def listed(self, account: str = "a") -> set[int]:
        return droplets(samples(await self.text()), account)

    async def polls(self, account: str = "a") -> float:
        return samples(await self.text())["exporter_polls_total", account, "success"]


@contextlib.asynccontextmanager
async def running(config: Config) -> AsyncIterator[World]:
    world = World(config)
    world.service.start()
    try:
        await eventually(lambda: all(status.result for status in world.service.statuses))
        yield world
    finally:
        await world.service.stop()


@pytest.fixture
async def api(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Api]:
    monkeypatch.setenv("THE_TOKEN", TOKEN)
    monkeypatch.setattr("exporter.polling.poller.JITTER", 0.01)
    async with Api(fixture(1, 2), token=TOKEN, now=time.time) as api:
        yield api


def account(api: Api, name: str = "a") -> Account:
    return Account(name, TokenSource(env="THE_TOKEN"), api.url)


def of(api: Api, *names: str) -> Config:
    return Config(tuple(account(api, name) for name in names or ("a",)), poll=Poll(interval=600.0))


async def test_the_same_configuration_changes_nothing(api: Api) -> None:
    """Reloading what is already followed asks the API nothing, and the next poll comes when it would have come."""
    async with running(of(api)) as world:
        before, (status,) = api.count(), world.service.statuses
        for _ in range(5):
            await world.service.reload()
        assert api.count() == before
        assert world.service.statuses == (status,)


async def test_no_scrape_misses_a_droplet_while_labels_change(api: Api) -> None:
    """After a change of tag labels, scrapes get the old text until the new one is complete."""
    async with running(of(api, "a", "b")) as world:
        labelled = replace(of(api, "a", "b"), tag_labels=(TagLabel("team", "team:"),))
        seen: list[tuple[int, bool]] = []

        async def scrape() -> None:
            while True:
                text = await world.text()
                found = samples(text)
                seen.append((len(droplets(found, "a") & droplets(found, "b")), 'team="web"' in text))
                await asyncio.sleep(0.001)

        scraping = asyncio.create_task(scrape())
        await eventually(lambda: bool(seen))
        world.config = labelled
        await world.service.reload()
        await eventually(lambda: seen[-1][1])
        scraping.cancel()
        assert {count for count, _ in seen} == {2}
        assert not seen[0][1]


async def test_data_are_served_until_the_next_poll_by_the_new_rules(api: Api) -> None:
    """What is known of an account stays when it changes, and is judged by the new selection at once."""
    async with running(of(api)) as world:
        await api.stop()
        world.config = replace(
            of(api), accounts=(replace(account(api), selection=Selection(Criteria(droplet_ids=frozenset({2})))),)
        )
        await world.service.reload()
        assert await world.listed() == {2}
        world.config = of(api)
        await world.service.reload()
        assert await world.listed() == {1, 2}


async def test_the_budget_goes_on_counting(api: Api) -> None:
    """A reload does not let the exporter send another minute's worth of requests: the API counts on."""
    async with running(of(api)) as world:
        sent = sum(api.count().values())
        assert sent > 3
        world.config = replace(of(api), rate_limit=replace(of(api).rate_limit, per_minute=sent))
        await world.service.reload()
        await asyncio.sleep(0.5)  # without the count its next poll would be over by now
        assert sum(api.count().values()) == sent
        assert await world.listed() == {1, 2}


async def test_a_renamed_account_is_another(api: Api) -> None:
    """The old name's series go, the new name's come; no series of the old name is left behind."""
    async with running(of(api)) as world:
        world.config = of(api, "z")
        await world.service.reload()
        await eventually(lambda: bool(world.service.statuses[0].result))
        found = samples(await world.text())
        assert {account for _, account, _ in found} == {"z", ""}
        assert await world.polls("z") == 1


async def test_another_address_is_another_account(api: Api) -> None:
    """An account whose api_url changes starts without the data of the old address."""
    async with running(of(api)) as world, Api(fixture(7), token=TOKEN, now=time.time) as other:
        world.config = of(other)
        await world.service.reload()
        assert await world.listed() == set()
        await eventually(lambda: bool(world.service.statuses[0].result))
        assert await world.listed() == {7}


async def test_a_wrong_clock_judges_nothing_between_reload_and_next_answer(api: Api) -> None:
    """While the API fails after a reload, it is still known that the clocks differ by days: no Droplet is stale."""
    api.faults.append(Fault(headers={"Date": formatdate(time.time() - 3 * 86400, usegmt=True)}))
    async with running(of(api)) as world:
        api.faults[:] = [Fault(reset=True)]
        world.config = replace(of(api), grace=3600.0, max_age=(MaxAge(EVERYTHING, 60.0),))
        await world.service.reload()
        assert [one.verdict.reason for one in world.service.fleets[0].droplets] == [Reason.CLOCK, Reason.CLOCK]


async def test_a_poll_in_hand_ends_with_its_account(api: Api) -> None:
    """An account that is removed in the middle of a poll is gone at once, and comes back with nothing half done."""
    api.latency = 3.0
    world = World(of(api, "a", "b"))
    world.service.start()
    try:
        await eventually(lambda: bool(sum(api.count().values())))
        world.config = of(api, "b")
        begun = time.perf_counter()
        await world.service.reload()
        assert time.perf_counter() - begun < 2.5
        assert 'account="a"' not in await world.text()
        api.latency = 0.0
        world.config = of(api, "a", "b")
        await world.service.reload()
        await eventually(lambda: all(status.result == "success" for status in world.service.statuses))
        assert await world.listed("a") == {1, 2}
    finally:
        await world.service.stop()


async def test_reloads_take_turns(api: Api) -> None:
    """Reloads asked for at the same moment are carried out one after the other, and the last one stands."""
    async with running(of(api)) as world:
        configs = [of(api, "a", "b"), of(api, "b"), of(api, "a")]

        async def reload(config: Config) -> None:
            world.config = config
            await world.service.reload()

        await asyncio.gather(*(reload(config) for config in configs))
        assert [fleet.account for fleet in world.service.fleets] == ["a"]


async def test_a_bad_configuration_is_refused_whole(api: Api) -> None:
    """With a bad configuration nothing changes, every mistake is logged, and the metric is 0 until a good one."""
    async with running(of(api)) as world:
        good = world.config
        world.config = ConfigError("one (c.yaml:1)", "two (c.yaml:2)")
        before = api.count()
        with structlog.testing.capture_logs() as logs, pytest.raises(ConfigError):
            await world.service.reload()
        assert [log["problem"] for log in logs] == ["one (c.yaml:1)", "two (c.yaml:2)"]
        assert (await world.listed(), api.count()) == ({1, 2}, before)
        assert samples(await world.text())["exporter_config_last_reload_successful", "", ""] == 0
        world.config = good
        await world.service.reload()
        assert samples(await world.text())["exporter_config_last_reload_successful", "", ""] == 1


@pytest.mark.parametrize("breaks", ["exporter.polling.poller.Poller.judge", "exporter.service.Poller"])
async def test_a_reload_that_breaks_off_ends_no_polling(api: Api, breaks: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a bug in the middle the accounts are polled by the old configuration, and the next reload works."""
    every_second = replace(of(api, "a", "b"), poll=Poll(interval=1.0))
    async with running(every_second) as world:
        world.config = replace(every_second, grace=60.0)
        with monkeypatch.context() as broken:
            broken.setattr(breaks, Mock(side_effect=RuntimeError("can't start new thread")))
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await world.service.reload()
        assert samples(await world.text())["exporter_config_last_reload_successful", "", ""] == 0
        broken_at = time.time()
        await eventually(lambda: all((status.last_poll_at or 0) > broken_at + 1 for status in world.service.statuses))
        await world.service.reload()
        assert samples(await world.text())["exporter_config_last_reload_successful", "", ""] == 1
        assert world.service._config.grace == 60.0


async def test_scrapes_go_on_while_a_configuration_is_read(api: Api) -> None:
    """A file that takes long to read does not block the event loop."""
    reading, go_on = threading.Event(), threading.Event()
    async with running(of(api)) as world:

        def load() -> Config:
            reading.set()
            assert go_on.wait(10)
            return of(api)

        world.service._load = load
        reloading = asyncio.create_task(world.service.reload())
        await eventually(reading.is_set)
        assert await world.listed() == {1, 2}
        go_on.set()
        await reloading


async def test_text_and_fleets_agree_after_a_reload(api: Api) -> None:
    """What is served after a reload is what the fleets say, account by account."""
    async with running(of(api, "a", "b")) as world:
        world.config = of(api, "b", "c")
        await world.service.reload()
        await eventually(lambda: all(status.result for status in world.service.statuses))
        at = world.service.clock.now()
        served = b"".join(await world.service.exposition.text_at(at))
        assert served == render(world.service.fleets, at)
