"""The client over real sockets: what it asks, what it makes of good answers, and that no bad one surprises anybody."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import json
import logging
import math
import re
import ssl
import threading
import time
import traceback
import tracemalloc
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import CapturingLogger

from exporter import __version__
from exporter.digitalocean import http as module
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import (
    ApiError,
    NotFound,
    OutOfBudget,
    Refused,
    Rejected,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import (
    BackupRecord,
    DropletRecord,
    ImageRecord,
    PolicyRecord,
    SupportedPolicyRecord,
)
from tests.digitalocean.clocks import NOON, JumpClock
from tests.digitalocean.wire import Heard, Server, droplets, http, reset
from tests.support.api_records import date
from tests.support.certificates import Authority
from tests.support.lookalike import Api, Fault, Fixture
from tests.support.lookalike import backup as backup_record
from tests.support.lookalike import droplet as droplet_record
from tests.support.lookalike import image as image_record
from tests.support.lookalike import policy as policy_record

TOKEN = "dop_v1_0123456789abcdef"

ONE = http(droplets(7))


class Ear:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.codes: Counter[tuple[str, str]] = Counter()
        self.seconds: list[float] = []
        self.rejections: Counter[str] = Counter()
        self.limits: list[tuple[float | None, float | None, float | None]] = []
        self.skews: list[float] = []

    def sent(self, endpoint: str, code: str, seconds: float) -> None:
        self.codes[endpoint, code] += 1
        self.seconds.append(seconds)

    def throttled(self, seconds: float) -> None: ...

    def rejected(self, endpoint: str, count: int) -> None:
        self.rejections[endpoint] += count

    def rate_limit(self, limit: float | None, remaining: float | None, reset: float | None) -> None:
        self.limits.append((limit, remaining, reset))

    def clock_skew(self, seconds: float) -> None:
        self.skews.append(seconds)


class Bench:
    """A client with its surroundings."""

    def __init__(self, url: str, **options: Any) -> None:
        self.clock = JumpClock()
        self.ear = Ear()
        self.log = CapturingLogger()
        self.token = TOKEN
        self.budget = Budget(options.pop("per_minute", 100_000), 10_000_000, 0.2, self.clock)
        options.setdefault("timeout", 5.0)
        self.client = Client(
            url, lambda: self.token, self.budget, self.clock, observer=self.ear, log=self.log, **options
        )
        self.client.http.deadline = NOON + 300


@contextlib.asynccontextmanager
async def bench(url: str, **options: Any) -> AsyncIterator[Bench]:
    made = Bench(url, **options)
    async with made.client:
        yield made


async def first_error(
    answer: bytes | Callable[[Heard, asyncio.StreamWriter], Awaitable[None]], **options: Any
) -> ApiError:
    """What the Droplet listing makes of an answer that is not good."""
    async with Server(answer) as server, bench(server.url, **options) as at:
        listing = await at.client.droplets()
        assert listing.error is not None
        return listing.error


# What is asked, and what is made of it --------------------------------------------------------------------------------


def account() -> Fixture:
    return Fixture(
        droplets=[droplet_record(1, name="web"), droplet_record(2, gpu_info={"count": 1}), droplet_record(3)],
        policies={"1": policy_record(1, hour=4), "3": {"droplet_id": 3, "backup_enabled": False}},
        backups={1: [backup_record(11, NOON - 3600, size=2.5)], 2: [], 3: None},
        images=[image_record(11, NOON - 3600)],
    )


@contextlib.asynccontextmanager
async def lookalike(fixture: Fixture) -> AsyncIterator[tuple[Api, Bench]]:
    async with Api(fixture, now=lambda: NOON, token=TOKEN) as api, bench(api.url) as at:
        yield api, at


async def test_every_endpoint_of_the_look_alike_is_read() -> None:
    """Each method asks its endpoint and brings its records."""
    async with lookalike(account()) as (api, at):
        client = at.client
        listed = await client.droplets()
        assert {each: droplet.name for each, droplet in listed.records.items()} == {1: "web", 3: listed.records[3].name}
        assert listed.complete
        assert set((await client.droplets(gpus=True)).records) == {2}
        policies = await client.policies()
        settings = policies.records[1].backup_policy
        assert settings is not None
        assert (settings.hour, policies.records[3].backup_enabled) == (4, False)
        assert (await client.backups(1)).records == {11: BackupRecord(11, date(NOON - 3600), 2.5)}
        assert await client.policy(1) == policies.records[1]
        assert await client.droplet(1) == listed.records[1]
        supported = await client.supported_policies()
        assert supported.complete
        assert {plan.name for plan in supported.records.values()} == {"weekly", "daily"}
        images = await client.images(1)
        assert images.records[11].created_at == date(NOON - 3600)
        assert images.pages == 1
        assert api.count() == {
            "droplets": 2,
            "policies": 1,
            "backups": 1,
            "policy": 1,
            "droplet": 1,
            "supported_policies": 1,
            "images": 1,
        }
        assert set(at.ear.codes) == {(endpoint, "200") for endpoint in api.count()}


async def test_a_droplet_that_is_gone_is_not_found() -> None:
    """A 404 of its backups, its policy or its record is `NotFound`, unlike every other failure."""
    async with lookalike(account()) as (_, at):
        gone = await at.client.backups(3)
        assert isinstance(gone.error, NotFound)
        assert gone.records == {}
        with pytest.raises(NotFound, match="404"):
            await at.client.policy(99)
        with pytest.raises(NotFound, match="/v2/droplets/99 answered 404"):
            await at.client.droplet(99)
        assert at.ear.codes["backups", "404"] == 1


async def test_requests_carry_what_they_must_and_no_more() -> None:
    """Token, agent, JSON and gzip in the headers; the page and its size in the query; no cookie comes back."""
    answer = http(droplets(7), set_cookie="session=1")

    async def twice(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(answer)

    async with Server(twice) as server, bench(server.url + "/prefix/") as at:
        await at.client.droplets(gpus=True)
        await at.client.droplets()
        first, second = server.requests
        assert first.path == "/prefix/v2/droplets"
        assert first.query == {"type": "gpus", "page": "1", "per_page": "200"}
        assert second.query == {"page": "1", "per_page": "200"}
        assert first.headers["authorization"] == f"Bearer {TOKEN}"
        assert first.headers["user-agent"] == f"digitalocean-backup-exporter/{__version__}"
        assert first.headers["accept"] == "application/json"
        assert first.headers["accept-encoding"] == "gzip"
        assert "cookie" not in second.headers
        assert server.connections == 1


async def test_a_name_in_the_address_does_not_take_the_tokens_place() -> None:
    """A name and password in an address are neither sent nor shown."""
    async with Server(ONE) as server, bench(server.url.replace("//", "//me:secret@")) as at:
        await at.client.droplets()
        assert server.requests[0].headers["authorization"] == f"Bearer {TOKEN}"
        server.answer = http({}, 400)
        assert "secret" not in str((await at.client.droplets()).error)


async def test_pages_after_the_first_are_fetched_side_by_side_up_to_the_concurrency() -> None:
    """The server answers page 2 only once as many requests as allowed are there at once; there are never more."""
    present = most = 0
    crowd = asyncio.Event()

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal present, most
        number = int(heard.query["page"])
        present += 1
        most = max(most, present)
        if number > 1:
            if present == 3:
                crowd.set()
            await crowd.wait()
            await asyncio.sleep(0.01)
        present -= 1
        writer.write(http(droplets(*range(1, 1501)[(number - 1) * 200 : number * 200], total=1500)))

    async with Server(answer) as server, bench(server.url, concurrency=3) as at:
        async with asyncio.timeout(5):
            listing = await at.client.droplets()
        assert listing.complete
        assert set(listing.records) == set(range(1, 1501))
        assert most == 3
        assert sorted(int(heard.query["page"]) for heard in server.requests) == list(range(1, 9))


async def test_the_concurrency_is_one_of_the_account() -> None:
    """Many listings at once share it."""
    present = most = 0

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal present, most
        present += 1
        most = max(most, present)
        await asyncio.sleep(0.005)
        present -= 1
        writer.write(http({"backups": [], "meta": {"total": 0}}))

    async with Server(answer) as server, bench(server.url, concurrency=4) as at:
        listings = await asyncio.gather(*(at.client.backups(each) for each in range(1, 30)))
        assert all(listing.complete for listing in listings)
        assert most == 4
        assert server.connections <= 4


async def test_waiting_for_a_turn_does_not_count_as_waiting_for_an_answer() -> None:
    """Of ten requests, one at a time, the last is as patient as the first."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(0.25)
        writer.write(http({"backups": [], "meta": {"total": 0}}))

    async with Server(answer) as server, bench(server.url, concurrency=1, timeout=2.0) as at:
        listings = await asyncio.gather(*(at.client.backups(each) for each in range(1, 11)))
        assert all(listing.complete for listing in listings)
        assert len(server.requests) == 10


async def test_a_listing_knows_when_it_was_begun() -> None:
    """`started_at` is when the first page was sent, after any wait for the budget."""
    async with Server(ONE) as server, bench(server.url) as at:
        at.budget.hold_until(NOON + 100)
        assert (await at.client.droplets()).started_at == NOON + 100


async def test_one_failing_page_leaves_the_others() -> None:
    """The listing is returned, not raised, with what was read and why it is not whole."""
    fixture = Fixture(droplets=[droplet_record(each) for each in range(1, 1001)])
    async with lookalike(fixture) as (api, at):
        api.faults.append(Fault("droplets", page=3, body=b'{"droplets": [{"id":'))
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreadable)
        assert (len(listing.records), listing.total, listing.complete) == (800, 1000, False)
        api.faults.clear()
        assert (await at.client.droplets()).complete


async def test_images_say_how_many_pages_there_are() -> None:
    """From the first page on, so that the caller can weigh what the rest would cost."""
    fixture = Fixture(images=[image_record(each, NOON) for each in range(1, 1002)])
    async with lookalike(fixture) as (api, at):
        first = await at.client.images(1)
        assert (first.pages, len(first.records)) == (6, 200)
        assert (await at.client.images(6)).pages == 6
        assert len((await at.client.images(6)).records) == 1
        api.faults.append(Fault("images", edit=lambda answer: answer.pop("links") and None))
        assert (await at.client.images(1)).pages == 6
        api.faults[0] = Fault("images", status=500)
        with pytest.raises(ServerError):
            await at.client.images(2)


async def test_single_records_that_cannot_be_understood_are_rejected() -> None:
    """A record of the wrong type, or of another Droplet, is `Rejected`; a broken answer is `Unreadable`."""
    async with lookalike(account()) as (api, at):
        api.faults.append(Fault("policy", body=b'{"policy": {"backup_enabled": "yes"}}'))
        with pytest.raises(Rejected, match="policy cannot be understood: Expected `bool"):
            await at.client.policy(1)
        api.faults[0] = Fault("droplet", body=b'{"droplet": {"id": 2}}')
        with pytest.raises(Rejected, match="it is of Droplet 2"):
            await at.client.droplet(1)
        api.faults[0] = Fault("droplet", body=b'{"droplet": null}')
        with pytest.raises(Rejected):
            await at.client.droplet(1)
        assert at.ear.rejections == {"policy": 1, "droplet": 2}
        api.faults[0] = Fault("droplet", body=b"{}")
        with pytest.raises(Unreadable) as error:
            await at.client.droplet(1)
        assert not isinstance(error.value, Rejected)


async def test_records_left_out_are_counted_each_time_and_logged_once() -> None:
    """The log names their ids, and speaks up again only when they change."""
    fixture = Fixture(droplets=[droplet_record(1), {"id": 2, "disk": "x"}, None])
    async with lookalike(fixture) as (_, at):
        for _ in range(3):
            listing = await at.client.droplets()
            assert listing.complete
            assert (listing.rejected, listing.unidentified) == (frozenset({2}), 1)
        assert at.ear.rejections == {"droplets": 6}
        assert [call.method_name for call in at.log.calls] == ["warning", "debug", "debug"]
        assert at.log.calls[0].kwargs["ids"] == [2]
        assert at.log.calls[0].kwargs["count"] == 2
        fixture.droplet_list.pop()
        await at.client.droplets()
        assert at.log.calls[-1].method_name == "warning"


# Where the token goes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_refused_and_the_other_host_hears_nothing(status: int) -> None:
    """The token is sent to the configured host only; the error names the other host."""
    async with Server(ONE) as other:
        error = await first_error(
            http(b"", status, location=other.url.replace("127.0.0.1", "localhost") + "/v2/droplets")
        )
        assert isinstance(error, Refused)
        assert f"answered {status}, a redirect to localhost: the token was not sent there" in str(error)
        assert other.connections == 0


@pytest.mark.parametrize("location", ["", "/v3", "http://[::1", "\x01\x02", "//evil.example/", "x" * 5000])
async def test_a_redirect_to_nowhere_is_refused(location: str) -> None:
    """A redirect with any Location, even an invalid one, is refused."""
    error = await first_error(http(b"", 302, location=location.replace("\x01", "%01").replace("\x02", "%02")))
    assert isinstance(error, Refused)
    assert len(str(error)) < 500


async def test_links_to_another_host_are_not_followed() -> None:
    """Only their page numbers count; the pages come from the configured host."""
    async with Server(ONE) as other:

        async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
            number = int(heard.query["page"])
            links = {"pages": {"next": f"{other.url}/v2/droplets?page=2", "last": f"{other.url}/v2/droplets?page=2"}}
            ids = range(1, 251)[(number - 1) * 200 : number * 200]
            writer.write(http(droplets(*ids, total=250, links=links if number == 1 else {})))

        async with Server(answer) as server, bench(server.url) as at:
            listing = await at.client.droplets()
            assert listing.complete
            assert len(listing.records) == 250
            assert len(server.requests) == 2
        assert other.connections == 0


async def test_the_token_shows_in_no_message_even_if_the_server_repeats_it() -> None:
    """The token is neither in the error's text nor in its chain of causes."""
    for status in (400, 401, 403, 404, 500):
        error = await first_error(http({"id": "x", "message": f"token {TOKEN} is bad"}, status))
        assert "token [token] is bad" in str(error)
        assert TOKEN not in "".join(traceback.format_exception(error))


async def test_what_the_server_says_is_shortened_and_cleaned() -> None:
    """A message of a megabyte, or with control characters, is shortened and cleaned."""
    error = await first_error(http({"message": "a\x1b[31m\n\u202eb" + "x" * 5000}, 400))
    assert '("a [31m b' in str(error)
    assert str(error).isprintable()
    assert len(str(error)) < 500


async def test_the_token_is_read_again_and_kept_if_that_fails() -> None:
    """A rotated token is used from the next poll on, and the headers for the old one are forgotten."""
    async with Server(ONE) as server, bench(server.url) as at:
        await at.client.droplets()
        at.budget.hold_until(NOON + 10_000)
        at.token = "dop_v1_new"
        await at.client.refresh_token()
        await at.client.droplets()
        for bad in ("", "two words", "line\n", "schlüssel", "tab\t"):
            at.token = bad
            with pytest.raises(Unauthorized, match=r"the token (is empty|has a space)") as error:
                await at.client.refresh_token()
            assert not bad or bad not in str(error.value)
        await at.client.droplets()
        sent = [heard.headers["authorization"] for heard in server.requests]
        assert sent == [f"Bearer {TOKEN}", "Bearer dop_v1_new", "Bearer dop_v1_new"]


async def test_a_token_that_cannot_be_read_is_an_error_of_the_listing() -> None:
    """Without any token nothing is sent."""

    def missing() -> str:
        raise FileNotFoundError(2, "No such file", "/run/secrets/token")

    clock = JumpClock()
    async with Server(ONE) as server, Client(server.url, missing, Budget(9, 9, 0.2, clock), clock) as client:
        listing = await client.droplets()
        assert isinstance(listing.error, Unauthorized)
        assert "/run/secrets/token" in str(listing.error)
        assert server.connections == 0


# Statuses -------------------------------------------------------------------------------------------------------------


async def test_every_status_from_300_to_599_has_its_error() -> None:
    """401 and 403, 404, 429, other 3xx and 4xx, and 5xx are different errors; only 5xx is asked again, twice."""
    status = 0

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"" if status == 304 else b'{"id": "x", "message": "as told"}', status))

    async with Server(answer) as server, bench(server.url) as at:
        for status in range(300, 600):
            server.requests.clear()
            at.budget.forget_headers()
            at.clock.set(NOON)
            at.client.http.deadline = NOON + 30
            listing = await at.client.droplets()
            kind = {401: Unauthorized, 403: Unauthorized, 404: NotFound, 429: Throttled}.get(
                status, ServerError if status >= 500 else Refused
            )
            assert type(listing.error) is kind, status
            assert f"answered {status}" in str(listing.error)
            assert len(server.requests) == (3 if status >= 500 else 1)
            assert at.ear.codes["droplets", str(status)] == len(server.requests)


@pytest.mark.parametrize("status", [600, 999, 100, 101, 103])
async def test_a_status_that_is_none_is_an_api_error(status: int) -> None:
    """Beyond 599, or an interim answer with nothing after it."""
    assert isinstance(await first_error(http(b"", status), timeout=0.3), ApiError)


@pytest.mark.parametrize("status", [201, 204, 205])
async def test_a_success_without_content_is_unreadable(status: int) -> None:
    """A status of 2xx without a body is `Unreadable`."""
    assert isinstance(await first_error(http(b"", status)), Unreadable)


async def test_a_404_of_html_is_not_taken_for_the_apis() -> None:
    """A proxy's or another server's page proves no Droplet gone."""
    error = await first_error(http(b"<html>", 404, "text/html"))
    assert type(error) is Refused
    assert "so it is not the API: check api_url" in str(error)


async def test_an_error_whose_body_never_ends_has_its_status(monkeypatch: pytest.MonkeyPatch) -> None:
    """A 401 is `Unauthorized`, even if its body never ends."""
    monkeypatch.setattr(module, "_ERROR_PATIENCE", 0.05)

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http(b"{", 401, content_length="100"))
        await asyncio.sleep(60)

    assert isinstance(await first_error(answer), Unauthorized)
    assert isinstance(await first_error(http(b"\xff" * 100_000, 401, content_encoding="gzip")), Unauthorized)
    assert isinstance(await first_error(http(b"x" * 100_000, 401)), Unauthorized)
    assert isinstance(await first_error(http(b"[" * 10_000, 401)), Unauthorized)


# Broken connections ---------------------------------------------------------------------------------------------------


async def test_a_refused_connection_is_unreachable(free_port: int) -> None:
    """If nothing listens, it is tried three times with growing pauses, and the error says so."""
    async with bench(f"http://127.0.0.1:{free_port}") as at:
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreachable)
        assert str(listing.error).endswith(
            "Connection refused (asked 3 times); check the network, and a proxy or firewall between"
        )
        assert at.ear.codes == {("droplets", "error"): 3}
        short, long = at.clock.slept
        assert 0.25 <= short <= 0.75
        assert 0.5 <= long <= 1.5


async def test_a_host_without_an_address_is_unreachable() -> None:
    """The error says that name resolution failed."""
    async with bench("http://no-such-host.invalid") as at:
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreachable)
        assert "the name of the host cannot be resolved" in str(listing.error)


@pytest.mark.parametrize("ending", ["reset", "close"])
async def test_an_answer_that_breaks_off_at_any_byte_is_an_api_error(
    ending: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cut after each single byte of head and body, by a reset or by an orderly end: never whole, never a crash."""
    monkeypatch.setattr(module, "RETRIES", 0)
    whole = http(json.dumps(droplets(7)).encode(), date="Thu, 01 Jan 1970 00:00:00 GMT")
    cut = 0

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(whole[:cut])
        await writer.drain()
        reset(writer) if ending == "reset" else writer.close()

    async with Server(answer) as server, bench(server.url) as at:
        for cut in range(len(whole)):
            listing = await at.client.droplets()
            assert isinstance(listing.error, Unreachable), cut
            assert listing.records == {}
        cut = len(whole)
        assert (await at.client.droplets()).complete or ending == "reset"


async def test_a_single_failure_is_mended_by_asking_again() -> None:
    """A reset, a 503, and then the answer."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.number == 1:
            reset(writer)
        else:
            writer.write(http({}, 503) if heard.number == 2 else ONE)

    async with Server(answer) as server, bench(server.url) as at:
        assert (await at.client.droplets()).complete
        assert at.ear.codes == {("droplets", "error"): 1, ("droplets", "503"): 1, ("droplets", "200"): 1}


async def test_requests_without_an_answer_expire_like_all_others() -> None:
    """A minute after an outage the minute's limit is whole again."""

    async def break_off(_: Heard, writer: asyncio.StreamWriter) -> None:
        reset(writer)

    async with Server(break_off) as server, bench(server.url, per_minute=3) as at:
        assert isinstance((await at.client.droplets()).error, Unreachable)
        assert len(server.requests) == 3
        server.answer = ONE
        at.clock.set(at.clock.now() + 61)
        at.client.http.deadline = at.clock.now() + 1
        assert (await at.client.droplets()).complete


async def test_nothing_is_asked_again_beyond_the_deadline() -> None:
    """A pause that would outlast the poll is not begun."""
    async with Server(http({}, 500)) as server, bench(server.url) as at:
        at.client.http.deadline = NOON + 0.2
        assert isinstance((await at.client.droplets()).error, ServerError)
        assert len(server.requests) == 1
        assert at.clock.slept == []


async def test_a_connection_that_was_closed_between_polls_is_opened_again() -> None:
    """An idle connection's end is no failure of the next request."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(ONE)
        await writer.drain()
        writer.close()

    async with Server(answer) as server, bench(server.url) as at:
        for _ in range(3):
            assert (await at.client.droplets()).complete
            await asyncio.sleep(0.01)
        assert at.ear.codes["droplets", "200"] == 3
        assert server.connections >= 3


@pytest.mark.parametrize("head", [b"", b"HTTP/1.1 200 OK\r\ncontent-type: appl", http(b"{", content_length="9")])
async def test_an_answer_that_hangs_ends_with_the_time_limit(head: bytes) -> None:
    """Before the head, within it, or within the body: the limit is the whole request's."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        await asyncio.sleep(60)

    error = await first_error(answer, timeout=0.05)
    assert isinstance(error, Unreachable)
    assert "no complete answer within 0.05 s (poll.timeout)" in str(error)


async def test_a_trickle_ends_with_the_time_limit() -> None:
    """A byte now and then keeps no request alive."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        for each in ONE:
            writer.write(bytes([each]))
            await writer.drain()
            await asyncio.sleep(0.01)

    assert isinstance(await first_error(answer, timeout=0.1), Unreachable)


async def test_the_deadline_ends_a_request_that_hangs() -> None:
    """A time limit longer than the interval does not make a poll outlast it."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(60)

    async with Server(answer) as server, bench(server.url, timeout=600.0) as at:
        at.client.http.deadline = NOON + 0.1
        async with asyncio.timeout(5):
            listing = await at.client.droplets()
        assert "no complete answer until the poll's end" in str(listing.error)


async def test_the_deadline_ends_a_connection_that_hangs() -> None:
    """It is told without a number, which differs from request to request: one cause is one line of the log."""
    async with Server(ONE) as plain, bench(plain.url.replace("http:", "https:"), timeout=600.0) as at:
        at.client.http.deadline = NOON + 0.1
        listing = await at.client.droplets()
        assert ": no connection before the poll's end;" in str(listing.error)


async def test_the_deadline_ends_the_reading_of_a_token_that_hangs() -> None:
    """Neither does a token's file whose disk hangs."""
    over = threading.Event()
    async with Server(ONE) as server, bench(server.url) as at:
        at.client.http._read_token = lambda: str(over.wait(60))
        at.client.http.deadline = NOON + 0.1
        with pytest.raises(Unauthorized, match=r"not done within 0\.1 s"):
            async with asyncio.timeout(5):
                await at.client.refresh_token()
        over.set()


async def test_a_cancelled_listing_leaves_no_request_behind() -> None:
    """When the exporter stops, what is under way stops with it, and is counted."""
    all_there = asyncio.Event()

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.query["page"] == "1":
            writer.write(http(droplets(*range(1, 201), total=2000)))
        else:
            if heard.number == 9:
                all_there.set()
            await asyncio.sleep(60)

    async with Server(answer) as server, bench(server.url) as at:
        task = asyncio.create_task(at.client.droplets())
        async with asyncio.timeout(5):
            await all_there.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert at.ear.codes == {("droplets", "200"): 1, ("droplets", "error"): 8}


# Answers that are not what they should be -----------------------------------------------------------------------------

GARBAGE = [
    b"\x00" * 100,
    b"\r\n\r\n",
    b"SSH-2.0-OpenSSH_9.2\r\n",
    b"HTTP/1.1\r\n\r\n",
    b"HTTP/1.1 abc OK\r\n\r\n",
    b"HTTP/1.1 200\r\n",
    b"HTTP/9.9 200 OK\r\n\r\n",
    b"HTTP/1.1 99999 OK\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n: x\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nname\x00: x\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx: \xff\xfe\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: -1\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 1e3\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: " + b"9" * 5000 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n-2\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n" + b"f" * 50 + b"\r\n{}\r\n0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: nonsense\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nx: " + b"y" * 300_000 + b"\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 60_000 + b"\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: \xff\xfe; charset=\xfe\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\ncontent-type: application/json; charset=nonsense\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 100 Continue\r\n\r\n" * 5000,
]


@pytest.mark.parametrize("garbage", GARBAGE, ids=range(len(GARBAGE)))
async def test_what_is_no_http_is_an_api_error(garbage: bytes) -> None:
    """Broken status lines, headers, lengths and chunks."""
    error = await first_error(garbage, timeout=1.0)
    assert isinstance(error, Unreachable | Unreadable)
    assert str(error).isprintable()
    assert len(str(error)) < 600


@pytest.mark.parametrize(
    "headers",
    [
        {"ratelimit_limit": "", "ratelimit_remaining": "many", "ratelimit_reset": "soon"},
        {"ratelimit_limit": "-5000", "ratelimit_remaining": "-1", "ratelimit_reset": "-1"},
        {"ratelimit_limit": "9" * 400, "ratelimit_remaining": "9" * 400, "ratelimit_reset": "9" * 400},
        {"ratelimit_limit": "nan", "ratelimit_remaining": "inf", "ratelimit_reset": "1e999"},
        {"ratelimit_limit": "0", "ratelimit_remaining": "0", "ratelimit_reset": "1420070400"},
        {"ratelimit_limit": "5000, 5000"},
        {"date": "yesterday"},
        {"date": "Thu, 99 Foo 20000 99:99:99 GMT"},
        {"retry_after": "86400"},
    ],
)
async def test_absurd_headers_on_a_good_answer_change_nothing(headers: dict[str, str]) -> None:
    """The records are read, and the next request may go at once."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http(droplets(7), **headers))

    async with Server(answer) as server, bench(server.url) as at:
        for _ in range(3):
            assert (await at.client.droplets()).complete
        assert at.clock.now() == NOON


@pytest.mark.parametrize(
    "kind", ["text/html", "text/plain", "application/xml", "image/png", "json", "application/jsonx"]
)
async def test_a_wrong_content_type_is_unreadable(kind: str) -> None:
    """An answer that is not JSON by its content type does not come from the API, whatever its body is."""
    error = await first_error(http(droplets(7), 200, kind))
    assert isinstance(error, Unreadable)
    assert f"answered 200 with {kind} instead of JSON" in str(error)


@pytest.mark.parametrize(
    "kind",
    ["application/json", "application/json; charset=utf-8", "Application/JSON", "application/hal+json", None, ""],
)
async def test_json_by_any_name_is_read(kind: str | None) -> None:
    """With parameters, in capitals, of a vendor, or without a name."""
    async with Server(http(droplets(7), 200, kind)) as server, bench(server.url) as at:
        assert (await at.client.droplets()).complete


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b'{"droplets": [{"id": 7}',
        b"\xff\xfe\x00",
        b"[]",
        b"null",
        b"{}",
        b'{"droplets": 3, "meta": {"total": 1}}',
        b'{"droplets": null, "meta": {"total": 1}}',
        b'{"droplets": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"droplets": [{"id": ' + b"9" * 100_000 + b"}",
    ],
)
async def test_a_body_that_is_not_the_apis_is_unreadable(body: bytes) -> None:
    """Half a page, the wrong type, bytes that are no text, a tower of brackets; it is not asked for again."""
    async with Server(http(body)) as server, bench(server.url) as at:
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreadable)
        assert "GET http://127.0.0.1" in str(listing.error)
        assert len(server.requests) == 1


async def test_gzip_is_read_in_one_member_or_several() -> None:
    """Gzip is read in one member, as the API sends it, and in several, however much it grows."""
    body = json.dumps(droplets(*range(1, 200))).encode()
    for packed in (
        gzip.compress(body),
        gzip.compress(body[:50]) + gzip.compress(body[50:]),
        gzip.compress(b" " * 3_000_000 + body),
        gzip.compress(b" " * 3_000_000 + body[:50]) + gzip.compress(body[50:] + b" " * 3_000_000),
    ):
        async with Server(http(packed, content_encoding="gzip")) as server, bench(server.url) as at:
            assert len((await at.client.droplets()).records) == 199


@pytest.mark.parametrize(
    ("packed", "encoding", "message"),
    [
        (gzip.compress(b"{}" * 500, mtime=0)[:-9], "gzip", "its gzip data ends too early"),
        (b"not gzip at all", "gzip", "says gzip, and it is not gzip"),
        (gzip.compress(b"{}", mtime=0) + b"rest", "gzip", "says gzip, and it is not gzip"),
        (zlib.compress(b"{}"), "gzip", "says gzip, and it is not gzip"),
        (b"", "gzip", "an empty answer"),
        (b"{}", "br", "packed as br, but the request only accepts gzip"),
        (b"{}", "gzip, gzip", "packed as gzip, gzip"),
    ],
)
async def test_a_body_packed_wrongly_is_unreadable(packed: bytes, encoding: str, message: str) -> None:
    """Cut off, not gzip, or an encoding that was not asked for."""
    error = await first_error(http(packed, content_encoding=encoding))
    assert isinstance(error, Unreadable)
    assert message in str(error)


async def test_a_gzip_bomb_is_refused_while_it_is_unpacked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of 64 MiB in 64 KiB only as much is unpacked as a body may have."""
    monkeypatch.setattr(module, "MAX_BODY", 1024 * 1024)
    unpacked: list[int] = []
    feed = module._Gunzip.feed

    def watch(self: Any, data: bytes) -> Any:
        for piece in feed(self, data):
            unpacked.append(len(piece))
            yield piece

    monkeypatch.setattr(module._Gunzip, "feed", watch)
    bomb = gzip.compress(bytes(64 * 1024 * 1024), 1)
    error = await first_error(http(bomb, content_encoding="gzip"))
    assert isinstance(error, Unreadable)
    assert "larger than 1024 KiB" in str(error)
    assert max(unpacked) <= 64 * 1024
    assert sum(unpacked) <= 1024 * 1024 + 64 * 1024


async def test_a_body_without_end_is_refused_while_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A body is refused as soon as it is too large, with a length or in chunks."""
    monkeypatch.setattr(module, "MAX_BODY", 1024 * 1024)
    written = 0

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        writer.write(http(b"", transfer_encoding="chunked"))
        while True:
            writer.write(b"10000\r\n" + b" " * 65536 + b"\r\n")
            written += 65536
            await writer.drain()

    assert "larger than 1024 KiB" in str(await first_error(answer))
    assert written < 50 * 1024 * 1024


async def test_other_tasks_run_while_a_body_of_tiny_chunks_is_read() -> None:
    """However many chunks come at once: reading them must not keep scrapes waiting."""
    body = json.dumps(droplets(7)).encode() + b" " * 30_000
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        nonlocal turns
        writer.write(http(b"", transfer_encoding="chunked") + chunks)
        await writer.drain()
        turns = 0

    async with Server(answer) as server, bench(server.url, timeout=60.0) as at:
        task = asyncio.create_task(others())
        listing = await at.client.droplets()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
    assert listing.records.keys() == {7}
    assert turns > 100


async def test_a_fault_that_the_http_library_has_no_name_for_is_an_api_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any exception of the HTTP library becomes an `ApiError` without the token."""

    async def fail(*_: object) -> bytes:
        raise RuntimeError(f"in state {TOKEN}")

    monkeypatch.setattr(module, "_read_body", fail)
    error = await first_error(ONE)
    assert isinstance(error, Unreadable)
    assert "the answer is not HTTP (RuntimeError: in state [token])" in str(error)
    assert TOKEN not in "".join(traceback.format_exception(error))


@settings(max_examples=60)
@given(
    noise=st.binary(max_size=80),
    at=st.integers(0, 400),
    prefix=st.sampled_from([b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n"]),
    overwrite=st.booleans(),
)
async def test_whatever_bytes_come_a_listing_goes(noise: bytes, at: int, prefix: bytes, overwrite: bool) -> None:
    """Random bytes, or a good answer with some overwritten: a Listing, or one with an ApiError."""
    at %= len(ONE)
    answer = ONE[:at] + noise + ONE[at + len(noise) :] if overwrite else prefix + noise
    async with Server(answer) as server, bench(server.url, timeout=0.5) as made:
        listing = await made.client.droplets()
        assert isinstance(listing, Pages)
        assert listing.error is None or isinstance(listing.error, ApiError)


# TLS and proxies ------------------------------------------------------------------------------------------------------


AUTHORITY = Authority()


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """What a server of a private authority speaks TLS with."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*AUTHORITY.issue().write(tmp_path, "server"))
    return context


async def test_with_an_untrusted_certificate_the_token_is_not_sent(tls: ssl.SSLContext) -> None:
    """The error says that the certificate is not trusted; no request was sent."""
    async with Server(ONE, tls=tls) as server, bench(server.url) as at:
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreachable)
        assert "certificate cannot be trusted: unable to get local issuer certificate" in str(listing.error)
        assert server.requests == []


async def test_the_ca_variable_of_the_environment_is_honoured(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With SSL_CERT_FILE the same server is trusted; where the file is missing, that is said."""
    monkeypatch.setenv("SSL_CERT_FILE", str(AUTHORITY.write(tmp_path, "authority")))
    async with Server(ONE, tls=tls) as server:
        async with bench(server.url) as at:
            assert (await at.client.droplets()).complete
        monkeypatch.setenv("SSL_CERT_FILE", "/no/such/file")
        async with bench(server.url) as at:
            listing = await at.client.droplets()
            assert isinstance(listing.error, Unreachable)
            assert "check the certificate variables" in str(listing.error)


async def test_tls_where_none_is_spoken_is_unreachable(tls: ssl.SSLContext) -> None:
    """https to a plain server, and http to one of TLS."""
    async with Server(ONE) as plain, bench(plain.url.replace("http:", "https:"), timeout=0.1) as at:
        listing = await at.client.droplets()
        assert isinstance(listing.error, Unreachable)
        assert "no connection within 0.045 s" in str(listing.error)
    gc.collect()  # a socket left open would be told of now, and fail this test
    async with Server(ONE, tls=tls) as server, bench(server.url.replace("https:", "http:")) as at:
        assert isinstance((await at.client.droplets()).error, Unreachable)


async def test_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests go through the proxy that is given, and through none of the environment's."""
    async with Server(ONE) as proxy:
        async with bench("http://api.invalid", proxy=proxy.url) as at:
            assert (await at.client.droplets()).complete
            assert proxy.requests[0].target.startswith("http://api.invalid/v2/droplets?")
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        async with bench("http://api.invalid") as at:
            assert isinstance((await at.client.droplets()).error, Unreachable)


async def test_a_proxy_with_tls_is_trusted_by_the_authorities_that_were_loaded_once(
    tls: ssl.SSLContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It hears each attempt, also after the file of the authorities is gone; loading them again would block scrapes."""
    authorities = AUTHORITY.write(tmp_path, "authority")
    monkeypatch.setenv("SSL_CERT_FILE", str(authorities))

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        authorities.unlink(missing_ok=True)
        writer.write(http({}, 407))

    async with Server(answer, tls=tls) as proxy, bench("https://api.invalid", proxy=proxy.url) as at:
        assert "407" in str((await at.client.droplets()).error)
        assert [heard.target for heard in proxy.requests] == ["api.invalid:443"] * 3


async def test_a_tunnel_that_hangs_takes_no_place_of_a_later_one() -> None:
    """A proxy that accepts CONNECT and then says nothing hears each attempt, although one connection is allowed."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\n\r\n")

    async with (
        Server(answer) as proxy,
        bench("https://api.invalid", proxy=proxy.url, concurrency=1, timeout=0.5) as at,
    ):
        for times in (3, 6):
            assert isinstance((await at.client.droplets()).error, Unreachable)
            assert [heard.target for heard in proxy.requests] == ["api.invalid:443"] * times


async def test_a_cancelled_request_takes_no_place_of_a_later_one() -> None:
    """At whatever moment a request is cancelled, the next one gets a connection, although one is allowed."""
    async with Server(ONE) as server, bench(server.url, concurrency=1) as at:
        for steps in range(80):
            task = asyncio.create_task(at.client.droplets())
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            assert (await at.client.droplets()).complete, steps


# The limits -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "wait"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "2.5"}, 2.5),
        ({"retry_after": "0"}, 1),
        ({"retry_after": "-30"}, 1),
        ({"retry_after": "nonsense"}, 1),
        ({"retry_after": ""}, 1),
        ({"retry_after": "inf"}, 1),
        ({"retry_after": "86400"}, 3600),
        ({"retry_after": "9" * 18}, 3600),
        ({"retry_after": formatdate(NOON + 40, usegmt=True)}, 40),
        ({"retry_after": formatdate(NOON - 40, usegmt=True)}, 1),
        ({"retry_after": formatdate(NOON + 86400, usegmt=True)}, 3600),
        ({"ratelimit_reset": str(int(NOON) + 90)}, 90),
        ({"ratelimit_reset": str(int(NOON) + 90), "retry_after": "5"}, 5),
        ({"ratelimit_reset": "1420070400"}, 60),
        ({"ratelimit_reset": str(int(NOON) + 7200)}, 60),
        ({}, 60),
    ],
)
async def test_a_429_waits_as_long_as_it_asks(headers: dict[str, str], wait: float) -> None:
    """Seconds or a date; nonsense is a second, too much an hour; without it the reset, without that a minute."""

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http({}, 429, **headers) if heard.number == 1 else ONE)

    async with Server(answer) as server, bench(server.url) as at:
        at.client.http.deadline = NOON + 4000
        assert (await at.client.droplets()).complete
        assert at.clock.now() == pytest.approx(NOON + wait)
        assert at.ear.codes == {("droplets", "429"): 1, ("droplets", "200"): 1}


async def test_a_429_beyond_the_deadline_ends_the_request_at_once_and_holds_the_next_back() -> None:
    """A wait beyond the poll's end fails at once, and nothing is sent until then, also not by the next poll."""
    async with Server(http({}, 429, retry_after="900")) as server, bench(server.url) as at:
        first = await at.client.droplets()
        assert isinstance(first.error, Throttled)
        assert first.error.until == NOON + 900
        assert "429, too many requests: no request is sent before 2026-" in str(first.error)
        second = await at.client.policies()
        assert isinstance(second.error, OutOfBudget)
        assert second.error.until == NOON + 900
        assert at.clock.now() == NOON
        assert len(server.requests) == 1
        server.answer = ONE
        at.clock.set(NOON + 900)
        at.client.http.deadline = NOON + 1200
        assert (await at.client.droplets()).complete


async def test_a_storm_of_429_is_met_with_few_requests() -> None:
    """If the API always asks to wait one second, eight listings ask one at a time, and more and more rarely."""
    async with Server(http({}, 429, retry_after="1")) as server, bench(server.url) as at:
        listings = await asyncio.gather(*(at.client.backups(each) for each in range(1, 9)))
        assert all(isinstance(listing.error, Throttled | OutOfBudget) for listing in listings)
        assert len(server.requests) < 80
        assert at.clock.now() <= NOON + 300


async def test_once_the_429s_are_over_requests_go_side_by_side_again() -> None:
    """The care after a refusal ends with the first request that is let through."""
    together = asyncio.Barrier(3)

    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        if heard.number == 1:
            writer.write(http({}, 429, retry_after="1"))
            return
        if heard.query["page"] != "1":
            await together.wait()
        number = int(heard.query["page"])
        writer.write(http(droplets(*range(1, 801)[(number - 1) * 200 : number * 200], total=800)))

    async with Server(answer) as server, bench(server.url, concurrency=3) as at:
        assert (await at.client.droplets()).complete


async def test_what_the_budget_does_not_allow_is_not_sent() -> None:
    """The error says why, and until when."""
    async with Server(ONE) as server, bench(server.url, per_minute=1) as at:
        at.client.http.deadline = NOON + 30
        await at.client.droplets()
        with pytest.raises(OutOfBudget, match=r"GET .*/v2/droplets/5 was not sent: 1 requests were sent") as error:
            await at.client.droplet(5)
        assert error.value.until == NOON + 60
        assert error.value.endpoint == "droplet"
        assert len(server.requests) == 1


async def test_the_headers_reach_the_budget_and_the_observer() -> None:
    """Limit, remaining and reset, also of an error; what is no number is nothing."""
    limits = {"ratelimit_limit": "5000", "ratelimit_remaining": "1003", "ratelimit_reset": str(int(NOON) + 1200)}
    async with Server(http({}, 403, **limits)) as server, bench(server.url) as at:
        await at.client.droplets()
        assert at.ear.limits == [(5000.0, 1003.0, NOON + 1200)]
        assert at.budget.spare() == 3
        server.answer = http(droplets(7), ratelimit_limit="x", ratelimit_remaining="12")
        await at.client.droplets()
        assert at.ear.limits[-1] == (None, 12.0, None)


async def test_keep_leaves_requests_unused() -> None:
    """A reading of little urgency stops above the floor, a listing does not."""
    limits = {"ratelimit_limit": "5000", "ratelimit_remaining": "1005", "ratelimit_reset": str(int(NOON) + 1200)}

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        writer.write(http({"backups": [], "droplets": [], "meta": {"total": 0}}, **limits))

    async with Server(answer) as server, bench(server.url) as at:
        assert (await at.client.backups(1)).complete
        assert isinstance((await at.client.backups(2, keep=5)).error, OutOfBudget)
        assert (await at.client.droplets()).complete


async def test_the_clocks_difference_is_known() -> None:
    """The clocks' difference is the API's Date against the exporter's clock, in whole seconds."""
    async with Server(http(droplets(7), date=formatdate(NOON + 90, usegmt=True))) as server, bench(server.url) as at:
        assert at.client.clock_skew is None
        await at.client.droplets()
        assert at.client.clock_skew == pytest.approx(90, abs=1)
        assert at.ear.skews == [at.client.clock_skew]


async def test_a_slow_answer_is_no_difference_of_clocks() -> None:
    """A difference within the request's own duration is ignored."""

    async def answer(_: Heard, writer: asyncio.StreamWriter) -> None:
        written = formatdate(NOON + 10, usegmt=True)
        await clock.sleep(400)
        writer.write(http(droplets(7), date=written))

    async with Server(answer) as server, bench(server.url) as at:
        clock = at.clock
        at.client.http.deadline = NOON + 3600
        await at.client.droplets()
        assert at.client.clock_skew == 0


async def test_nothing_of_the_http_library_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """The HTTP library logs no line per request at any log level."""
    with caplog.at_level(logging.DEBUG):
        async with Server(ONE) as server, bench(server.url) as at:
            await at.client.droplets()
    assert not [record for record in caplog.records if record.name.startswith(("httpx", "httpcore"))]


# Answers of any JSON --------------------------------------------------------------------------------------------------


def test_the_types_of_the_records_are_public() -> None:
    """What the methods bring are frozen values, fit to be compared and kept."""
    for kind in (DropletRecord, PolicyRecord, BackupRecord, ImageRecord, SupportedPolicyRecord):
        assert kind.__hash__ is not None
    assert math.isinf(Client("http://x", lambda: "", Budget(1, 1, 0, JumpClock()), JumpClock()).http.deadline)
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", __version__)


# A hostile server -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("cased", [TOKEN, TOKEN.lower(), TOKEN.upper()])
@pytest.mark.parametrize("header", ["content_type", "content_encoding", "location"])
async def test_a_token_echoed_in_a_header_is_in_no_error_in_any_case(header: str, cased: str) -> None:
    """Servers and proxies echo what they were sent, and some change its case."""
    status = 302 if header == "location" else 200
    echoed = f"https://{cased}/" if header == "location" else f"x/{cased}"
    error = await first_error(http(b"{}", status, **{header: echoed}))
    assert TOKEN.lower() not in str(error).lower()
    assert "[token]" in str(error)


MANY = b'{"droplets": [' + b",".join([b"{}"] * 20_000_000) + b"]}"
BOMBS = {
    "20 million records": lambda: MANY,
    "a page of 1,001 records": lambda: b'{"droplets": [' + b",".join([b"{}"] * 1001) + b"]}",
    "a million tags": lambda: b'{"droplets": [{"id": 1, "tags": [' + b",".join([b'"a"'] * 1_000_000) + b"]}]}",
    "a name of 9 MiB": lambda: b'{"droplets": [{"id": 1, "name": "' + b"a" * (9 << 20) + b'"}]}',
    "half a million values, and no JSON": lambda: b'{"droplets": [NaN' + b",NaN" * 500_000 + b"]}",
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_an_answer_far_larger_than_a_page_is_refused_before_it_is_read(bomb: str) -> None:
    """It costs little memory and no long turn of the loop: under what decoding it would take."""
    packed = gzip.compress(BOMBS[bomb](), 1)
    longest = 0.0

    async def watch() -> None:
        nonlocal longest
        while True:
            begun = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - begun)

    async with Server(http(packed, content_encoding="gzip")) as server, bench(server.url) as at:
        watcher = asyncio.create_task(watch())
        tracemalloc.start()
        listing = await at.client.droplets()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        watcher.cancel()
    assert isinstance(listing.error, Unreadable)
    assert not listing.records
    assert peak < 40 << 20
    assert longest < 1.0, "generous: tracing makes it ten times slower"
