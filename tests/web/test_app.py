from __future__ import annotations

import asyncio
import contextlib
import gzip
import os
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from exporter.clock import Clock
from exporter.config.model import Account, Config
from exporter.config.tokens import TokenSource
from exporter.config.yaml_document import ConfigError
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.web.app import guarded, routes
from exporter.web.auth import Guard
from exporter.web.connection import SERVER
from exporter.web.server import Server
from exporter.web.settings import WebSettings
from tests.support.lookalike import Api, Fixture, backup, droplet, policy
from tests.support.serving import Reply, asked, serving

TOKEN = "a-token-of-the-tests"
NOW = 1_790_553_600.0
NAME = '<script>alert("1")</script>\n\\'


@dataclass
class World:
    """An exporter's web server over the tests' API; a test decides when it polls."""

    api: Api
    service: Service
    server: Server
    load: list[Any]
    """What the next reload reads: a configuration or an error."""

    async def get(self, path: str, *headers: str, method: str = "GET") -> Reply:
        lines = "".join(f"{header}\r\n" for header in headers)
        return await asked(self.server, f"{method} {path} HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())


@pytest.fixture
async def world(request: pytest.FixtureRequest) -> AsyncIterator[World]:
    async with made(**getattr(request, "param", {})) as world:
        yield world


@contextlib.asynccontextmanager
async def made(
    *, path: str = "/metrics", lifecycle: bool = True, settings: WebSettings | None = None, accounts: int = 1
) -> AsyncIterator[World]:
    os.environ["TEST_TOKEN"] = TOKEN
    account = Fixture([droplet(1, name=NAME)], {"1": policy(1, hour=4, now=NOW)}, {1: [backup(11, NOW - 4000)]})
    async with Api(account, now=lambda: NOW, token=TOKEN) as api:
        config = Config(tuple(Account(f"account {n}", TokenSource(env="TEST_TOKEN"), api.url) for n in range(accounts)))
        load: list[Any] = [config]

        def next_load() -> Config:
            if isinstance(load[0], Exception):
                raise load[0]
            found: Config = load[0]
            return found

        service = Service(config, next_load, Clock(), Telemetry("1"))
        settings = settings or WebSettings()
        respond = guarded(routes(service, path, lifecycle=lifecycle), Guard(lambda: settings.users))
        async with serving(respond, settings=settings) as server:
            try:
                yield World(api, service, server, load)
            finally:
                await service.stop()


async def test_each_path_answers(world: World) -> None:
    """What the interface promises is there, before and after the first poll."""
    assert (await world.get("/-/healthy")).body == b"The exporter is healthy.\n"
    reply = await world.get("/-/ready")
    assert (reply.status, reply.body) == (503, b"Waiting for the first complete listing of: account 0.\n")
    assert (await world.get("/metrics")).status == 200
    assert (await world.get("/")).status == 200
    await world.service.poll_once()
    assert (await world.get("/-/ready")).body == b"The exporter is ready.\n"
    reply = await world.get("/metrics")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'digitalocean_backup_kept{account="account 0",droplet_id="1"' in reply.body
    assert b"process_start_time_seconds" in reply.body


async def test_the_format_is_what_is_accepted(world: World) -> None:
    """OpenMetrics and gzip are sent if the client accepts them, with the right headers."""
    await world.service.poll_once()
    reply = await world.get("/metrics", "Accept: application/openmetrics-text", "Accept-Encoding: gzip")
    assert reply.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert reply.headers["content-encoding"] == "gzip"
    assert reply.headers["vary"] == "Accept, Accept-Encoding"
    assert gzip.decompress(reply.body).endswith(b"# EOF\n")


@pytest.mark.parametrize("world", [{"path": "/some/where"}, {"path": "/"}], indirect=True)
async def test_the_metrics_may_be_elsewhere(world: World, request: pytest.FixtureRequest) -> None:
    """With another telemetry path they are there and not at /metrics, even in the page's place."""
    path = request.node.callspec.params["world"]["path"]
    assert b"digitalocean_backup_exporter_build_info" in (await world.get(path)).body
    assert (await world.get("/metrics")).status == 404


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/metrics/",
        "//metrics",
        "/../etc/passwd",
        "/metrics/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "/templates/status.html",
        "/-/",
        "/-/quit",
        "/debug/pprof/",
        "/<script>alert(1)</script>",
        "/%3Cscript%3Ealert(1)%3C/script%3E",
        "/a%0d%0aSet-Cookie:%20b",
        "/%00",
        "/%ff",
        "/" + "a/" * 3000,
        "/?" + "a=b&" * 1500 + "<script>",
    ],
)
async def test_other_paths_are_nothing(world: World, path: str) -> None:
    """An unknown path gets 404 and one plain line that repeats nothing of it."""
    reply = await world.get(path)
    if not path.startswith("/?"):
        assert (reply.status, reply.body) == (404, b"There is nothing at this path; see / for the paths.\n")
    assert b"<script>" not in reply.body
    assert "set-cookie" not in reply.headers
    assert reply.headers["server"] == SERVER
    assert reply.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "PROPFIND"])
async def test_other_methods_are_refused(world: World, method: str) -> None:
    """What is only to be read refuses other methods and says which it takes."""
    for path in ("/", "/metrics", "/-/healthy", "/-/ready"):
        reply = await world.get(path, method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
        assert reply.body == b"This method is not allowed here; use GET, HEAD.\n"


async def test_nothing_is_reflected(world: World) -> None:
    """No part of a request is repeated in an answer, and a Droplet's name is always escaped."""
    await world.service.poll_once()
    evil = "<script>evil</script>"
    for path in ("/", "/metrics", "/-/healthy", "/-/ready", "/nothing"):
        reply = await world.get(
            f"{path}?q={evil}",
            *(f"{name}: {evil}" for name in ("Accept", "Accept-Encoding", "Referer", "User-Agent", "Expect", "Cookie")),
        )
        assert b"<script>" not in reply.body or path == "/metrics"
        assert b"evil</script>" not in reply.body
        assert not any("evil" in value for value in reply.headers.values())


async def test_no_request_asks_the_api(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """No request to a running exporter causes a request to the API."""
    monkeypatch.setattr("exporter.polling.poller.JITTER", 0.0)
    polled = asyncio.Event()
    world.service.watchers.append(polled.set)
    world.service.start()
    await asyncio.wait_for(polled.wait(), 10)
    before = world.api.count()
    for method in ("GET", "HEAD", "POST", "PUT"):
        for path in ("/", "/?page=2&sort=age", "/metrics", "/-/healthy", "/-/ready", "/-/reload", "/nothing"):
            await world.get(path, method=method)
    assert world.api.count() == before


async def test_repeated_header_lines_are_one_list(world: World) -> None:
    """`Accept` and `Accept-Encoding` may be spread over several lines (RFC 9110, 5.3)."""
    lines = (
        "Accept: text/html",
        "Accept: application/openmetrics-text",
        "Accept-Encoding: br",
        "Accept-Encoding: gzip",
    )
    reply = await world.get("/metrics", *lines)
    assert reply.headers["content-type"].startswith("application/openmetrics-text")
    assert reply.headers["content-encoding"] == "gzip"
    assert (await world.get("/", *lines)).headers["content-encoding"] == "gzip"


async def test_families_can_be_chosen(world: World) -> None:
    """`name[]` selects families of the fleet and of the exporter, plain and as gzip."""
    await world.service.poll_once()
    chosen = (
        "digitalocean_backup_kept",
        "digitalocean_backup_newest_age_seconds",
        "digitalocean_backup_exporter_up",
        "digitalocean_backup_exporter_polls_total",
    )
    path = "/metrics?" + "&".join(f"name[]={name}" for name in (*chosen, "nothing"))
    reply = await world.get(path)
    lines = reply.body.decode().splitlines()
    assert {line.split("{")[0].split()[0] for line in lines if not line.startswith("#")} == set(chosen)
    assert {line.split()[2] for line in lines if line.startswith("# TYPE")} == set(chosen)
    packed = await world.get(path, "Accept: application/openmetrics-text", "Accept-Encoding: gzip")
    text = gzip.decompress(packed.body).decode()
    assert text.endswith("# EOF\n")
    assert "digitalocean_backup_kept{" in text
    assert "digitalocean_backup_overdue" not in text
    assert (await world.get("/metrics?name[]=nothing")).body == b""


async def test_polls_that_never_finish_are_unhealthy(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """An account whose polls have not finished for three intervals makes `/-/healthy` 503 and is named there."""
    monkeypatch.setattr("exporter.polling.poller.JITTER", 0.0)
    now = [0.0]
    monkeypatch.setattr(world.service, "_monotonic", lambda: now[0])
    hang = asyncio.Event()

    async def hanging(*_: object) -> None:
        await hang.wait()

    [poller] = world.service._pollers.values()
    monkeypatch.setattr(poller, "poll", hanging)
    world.service.start()
    interval = poller.status.interval
    now[0] = 3 * interval
    assert (await world.get("/-/healthy")).status == 200
    now[0] += 1
    reply = await world.get("/-/healthy")
    assert (reply.status, reply.body) == (503, b"No poll has finished for 3 intervals: account 0.\n")
    assert (await world.get("/metrics")).status == 200
    poller.status = replace(poller.status, last_poll_at=NOW)
    assert (await world.get("/-/healthy")).status == 200


# Reloading


async def test_reloading_is_posted(world: World) -> None:
    """POST reloads; GET is refused with 405."""
    reply = await world.get("/-/reload", method="POST")
    assert (reply.status, reply.body) == (200, b"The configuration was reloaded.\n")
    for method in ("GET", "HEAD", "PUT"):
        reply = await world.get("/-/reload", method=method)
        assert (reply.status, reply.headers["allow"]) == (405, "POST")


async def test_a_bad_configuration_is_answered_with_the_reason(world: World) -> None:
    """A reload with a bad configuration is answered with 500 and every mistake, and the metric is 0."""
    world.load[0] = ConfigError("accounts: missing; list one (c.yaml:1)", "poll: what? (c.yaml:2)")
    reply = await world.get("/-/reload", method="POST")
    assert reply.status == 500
    assert reply.body.decode().splitlines()[1:] == ["accounts: missing; list one (c.yaml:1)", "poll: what? (c.yaml:2)"]
    assert b"digitalocean_backup_exporter_config_last_reload_successful 0.0" in (await world.get("/metrics")).body


async def test_a_page_of_another_site_cannot_reload(world: World) -> None:
    """A browser says for which site it asks; a foreign one is refused, and everything else may reload."""
    world.load[0] = AssertionError("it was read")
    for header in (
        "Origin: http://evil.example",
        "Origin: null",
        "Sec-Fetch-Site: cross-site",
        "Sec-Fetch-Site: same-site",
    ):
        assert (await world.get("/-/reload", header, method="POST")).status == 403
    world.load[0] = world.service._config
    for header in ("Origin: http://x", "Sec-Fetch-Site: same-origin", "User-Agent: curl"):
        assert (await world.get("/-/reload", header, method="POST")).status == 200


async def test_a_configuration_that_hangs_is_an_answer(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A configuration on a file system that hangs fails the reload in time; scrapes go on, and a later reload works."""
    monkeypatch.setattr("exporter.service.READ_WITHIN", 0.1)
    hang = threading.Event()
    load = world.service._load

    def hanging() -> Config:
        hang.wait(10)
        return load()

    world.service._load = hanging
    try:
        reply = await world.get("/-/reload", method="POST")
        assert (reply.status, b"not done within" in reply.body) == (500, True)
        assert b"config_last_reload_successful 0.0" in (await world.get("/metrics")).body
        world.service._load = load
        assert (await world.get("/-/reload", method="POST")).status == 200
    finally:
        hang.set()


@pytest.mark.parametrize("world", [{"lifecycle": False}], indirect=True)
async def test_reloading_is_off_unless_turned_on(world: World) -> None:
    """Without the flag, POST is a 403 that says how to enable reloads; GET is still a 405."""
    reply = await world.get("/-/reload", method="POST")
    assert reply.status == 403
    assert b"--web.enable-lifecycle" in reply.body
    assert (await world.get("/-/reload")).status == 405


# The lock


@pytest.fixture
def locked_settings(tmp_path: Path) -> WebSettings:
    hashed = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(4)).decode()
    (tmp_path / "web.yml").write_text(
        f"basic_auth_users: {{alice: {hashed}}}\n"
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    Content-Security-Policy: default-src 'none'\n"
    )
    return WebSettings(tmp_path / "web.yml")


RIGHT = "Authorization: Basic YWxpY2U6d29uZGVybGFuZA=="
WRONG = "Authorization: Basic YWxpY2U6bm90IHRoaXM="


async def test_every_path_but_healthy_needs_a_user(locked_settings: WebSettings) -> None:
    """With users set, each path, known or not, and each method answers 401 to strangers; /-/healthy answers all."""
    async with made(settings=locked_settings) as world:
        paths = ("/", "/metrics", "/-/ready", "/-/reload", "/nothing", "/-/healthy/", "/-/healthy/../../metrics")
        for path in paths:
            for method in ("GET", "POST", "OPTIONS"):
                for headers in ([], [WRONG], ["Authorization: Basic !"], ["Authorization: Bearer x"], [RIGHT, WRONG]):
                    reply = await world.get(path, *headers, method=method)
                    assert (reply.status, reply.body) == (401, b"Unauthorized.\n"), (path, method, headers)
                    assert reply.headers["www-authenticate"].startswith("Basic realm=")
        assert (await world.get("/metrics", RIGHT)).status == 200
        assert (await world.get("/nothing", RIGHT)).status == 404
        assert (await world.get("/-/reload", RIGHT, method="POST")).status == 200
        for header in ([], [WRONG], [RIGHT]):
            assert (await world.get("/-/healthy", *header)).status == 200


async def test_configured_headers_are_on_every_answer(locked_settings: WebSettings) -> None:
    """The headers of the web configuration are sent with answers of every kind, in place of the exporter's own."""
    async with made(settings=locked_settings) as world:
        replies = [await world.get(path, RIGHT) for path in ("/", "/metrics", "/nothing", "/-/healthy")]
        replies.append(await world.get("/metrics"))
        for reply in replies:
            assert reply.headers["x-frame-options"] == "deny"
            assert reply.headers["content-security-policy"] == "default-src 'none'"
