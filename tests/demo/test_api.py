"""The look-alike's own behaviour: pages, tokens, limits, faults."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.demo.conftest import START
from tests.support.lookalike import Api, Fault, Fixture, backup, droplet, image, policy
from tests.support.world import HandClock

GPU = "gpu-h100x1-80gb"


@pytest.fixture
def account() -> Fixture:
    droplets = [droplet(number, tags=["even"] if number % 2 == 0 else []) for number in range(1, 46)]
    droplets.append(droplet(46, size=GPU, tags=["even"]))
    return Fixture(
        droplets=droplets,
        policies={str(number): policy(number) for number in range(1, 251)},
        backups={1: [backup(100 + number, START) for number in range(45)], 2: None},
        images=[image(100 + number, START) for number in range(45)],
    )


@pytest.fixture
async def api(account: Fixture, clock: HandClock) -> AsyncIterator[Api]:
    async with Api(account, now=clock.now, token="right") as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, headers={"authorization": "Bearer right"}) as client:
        yield client


async def test_pages_follow_each_other_by_whole_urls(api: Api, client: httpx.AsyncClient) -> None:
    """A page has twenty records by default, links to the pages before and after it, and the total."""
    first = (await client.get("/v2/droplets")).json()
    here = f"{api.url}/v2/droplets?page="
    assert [record["id"] for record in first["droplets"]] == list(range(1, 21))
    assert first["links"] == {"pages": {"next": f"{here}2", "last": f"{here}3"}}
    second = (await client.get(first["links"]["pages"]["next"])).json()
    assert second["links"] == {
        "pages": {"first": f"{here}1", "prev": f"{here}1", "next": f"{here}3", "last": f"{here}3"}
    }
    last = (await client.get(second["links"]["pages"]["last"])).json()
    assert [record["id"] for record in last["droplets"]] == list(range(41, 46))
    assert last["links"] == {"pages": {"first": f"{here}1", "prev": f"{here}2"}}
    beyond = (await client.get("/v2/droplets?page=9")).json()
    assert beyond["droplets"] == []
    assert {answer["meta"]["total"] for answer in (first, second, last, beyond)} == {45}


async def test_links_keep_the_rest_of_the_query(client: httpx.AsyncClient) -> None:
    """A link has the request's own query with another page."""
    pages = (await client.get("/v2/images?private=true&per_page=10&page=2")).json()["links"]["pages"]
    assert httpx.URL(pages["next"]).params == httpx.QueryParams({"private": "true", "per_page": "10", "page": "3"})


@pytest.mark.parametrize(
    ("path", "links"),
    [
        ("/v2/droplets?per_page=45", {"pages": {}}),
        ("/v2/droplets?type=gpus", {}),
        ("/v2/images?per_page=45", {"pages": {}}),
        ("/v2/droplets/1/backups?per_page=45", {}),
        ("/v2/droplets/3/backups", {}),
    ],
)
async def test_an_answer_of_one_page_links_nowhere(path: str, links: Any, client: httpx.AsyncClient) -> None:
    """Where there is one page, `links` are empty in the form that the document's example of the endpoint has."""
    assert (await client.get(path)).json()["links"] == links


async def test_no_page_holds_more_than_200(client: httpx.AsyncClient) -> None:
    """A page has at most 200 policies, also if more are asked for; they are keyed by droplet id."""
    answer = (await client.get("/v2/droplets/backups/policies?per_page=500")).json()
    assert list(answer["policies"]) == [str(number) for number in range(1, 201)]
    rest = (await client.get(answer["links"]["pages"]["next"])).json()
    assert list(rest["policies"]) == [str(number) for number in range(201, 251)]
    assert answer["meta"] == rest["meta"] == {"total": 250}


@pytest.mark.parametrize("query", ["page=0", "page=-1", "page=two", "per_page=0", "per_page=", "page=9999999999"])
async def test_an_impossible_page_is_refused(query: str, client: httpx.AsyncClient) -> None:
    """A page that is no positive number is a bad request."""
    answer = await client.get(f"/v2/droplets?{query}")
    assert (answer.status_code, answer.json()["id"]) == (400, "bad_request")


async def test_gpu_droplets_are_listed_apart(account: Fixture, client: httpx.AsyncClient) -> None:
    """Droplets with `gpu_info` or a GPU size are only listed with `type=gpus`."""
    account.droplet_list.append(droplet(47, gpu_info={"count": 1}))
    account.droplet_list.append(None)

    async def ids(query: str) -> list[int]:
        records = (await client.get(f"/v2/droplets?per_page=200&{query}")).json()["droplets"]
        return [record["id"] if record else record for record in records]

    assert await ids("type=gpus") == [46, 47]
    assert await ids("") == await ids("type=droplets") == [*range(1, 46), None]
    assert await ids("tag_name=even") == [*range(2, 46, 2), 46]
    assert await ids("name=DROPLET-7") == [7]


@pytest.mark.parametrize("query", ["type=gpus&tag_name=even", "name=a&tag_name=even", "type=submarines"])
async def test_filters_that_cannot_be_are_refused(query: str, client: httpx.AsyncClient) -> None:
    """`tag_name` together with another filter, or an unknown `type`, is refused."""
    assert (await client.get(f"/v2/droplets?{query}")).status_code == 422


@pytest.mark.parametrize(
    "path",
    [
        "/v2/droplets/999",
        "/v2/droplets/999/backups",
        "/v2/droplets/2/backups",
        "/v2/droplets/999/backups/policy",
        "/v2",
    ],
)
async def test_what_is_not_there_is_not_found(path: str, client: httpx.AsyncClient) -> None:
    """404 with the document's body and a request id, the same in body and header."""
    answer = await client.get(path)
    assert answer.status_code == 404
    assert answer.json() == {
        "id": "not_found",
        "message": "The resource you requested could not be found.",
        "request_id": answer.headers["x-request-id"],
    }


async def test_only_get_is_served(client: httpx.AsyncClient) -> None:
    """The exporter never changes anything, and here it could not."""
    assert (await client.post("/v2/droplets", json={})).status_code == 405


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer wrong", "Basic right", "right"])
async def test_a_wrong_token_is_unauthorized(header: str, client: httpx.AsyncClient) -> None:
    """Anything but the expected bearer token is 401 and costs the token nothing."""
    answer = await client.get("/v2/droplets", headers={"authorization": header})
    assert answer.status_code == 401
    assert answer.json()["id"] == "unauthorized"
    assert answer.json()["message"] == "Unable to authenticate you."
    assert answer.headers["ratelimit-remaining"] == "5000"


async def test_without_an_expected_token_any_will_do_but_one_must_come(api: Api, client: httpx.AsyncClient) -> None:
    """A look-alike that expects no certain token still wants to be asked as the API is."""
    api.token = None
    assert (await client.get("/v2/droplets", headers={"authorization": "Bearer any"})).status_code == 200
    assert (await client.get("/v2/droplets", headers={"authorization": ""})).status_code == 401


async def test_the_minutes_limit_says_when_to_come_again(api: Api, clock: HandClock, client: httpx.AsyncClient) -> None:
    """The request over the minute's limit is 429 with the seconds until the oldest of them is a minute old."""
    api.per_minute = 3
    for _ in range(3):
        assert (await client.get("/v2/droplets/1")).status_code == 200
        clock.set(clock.now() + 10)
    refused = await client.get("/v2/droplets/1")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "30")
    assert refused.json()["id"] == "too_many_requests"
    clock.set(clock.now() + 29.9)
    assert (await client.get("/v2/droplets/1")).headers["retry-after"] == "1"
    clock.set(clock.now() + 0.1)
    assert (await client.get("/v2/droplets/1")).status_code == 200


async def test_the_hours_limit_has_no_retry_after(api: Api, clock: HandClock, client: httpx.AsyncClient) -> None:
    """Each request expires an hour after it was made; with the hour spent, 429 comes without `retry-after`."""
    api.per_hour = 100
    first = await client.get("/v2/droplets/1")
    assert first.headers["ratelimit-limit"] == "100"
    assert first.headers["ratelimit-remaining"] == "99"
    assert first.headers["ratelimit-reset"] == str(int(START) + 3600)
    clock.set(clock.now() + 600)
    api.other_users(99)
    refused = await client.get("/v2/droplets/1")
    assert refused.status_code == 429
    assert "retry-after" not in refused.headers
    assert refused.headers["ratelimit-remaining"] == "0"
    assert refused.headers["ratelimit-reset"] == str(int(START) + 3600)
    clock.set(START + 3600)
    again = await client.get("/v2/droplets/1")
    assert again.status_code == 200
    assert again.headers["ratelimit-remaining"] == "0"
    assert again.headers["ratelimit-reset"] == str(int(START) + 600 + 3600)


async def test_limits_can_be_switched_off(account: Fixture, clock: HandClock) -> None:
    """Without limits nothing is refused, and there are no headers of the rate limit."""
    async with Api(account, now=clock.now, per_minute=None, per_hour=None) as api, httpx.AsyncClient() as client:
        headers = {"authorization": "Bearer any"}
        answers = [await client.get(f"{api.url}/v2/droplets/1", headers=headers) for _ in range(260)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any(name.startswith("ratelimit") for name in answers[-1].headers)


async def test_the_default_limits_are_the_apis(api: Api, client: httpx.AsyncClient) -> None:
    """The default limits are 250 requests a minute and 5000 an hour."""
    assert (api.per_minute, api.per_hour) == (250, 5000)
    assert (await client.get("/v2/droplets/1")).headers["ratelimit-limit"] == "5000"


async def test_requests_are_remembered_and_counted(api: Api, clock: HandClock, client: httpx.AsyncClient) -> None:
    """A test can see what was asked, when and with which headers, refused requests included."""
    await client.get("/v2/images?private=true&page=2")
    clock.set(clock.now() + 5)
    await client.get("/v2/droplets/7/backups", headers={"authorization": "Bearer wrong"})
    await client.get("/v2/elsewhere")
    assert [(one.time - START, one.endpoint, one.path) for one in api.requests] == [
        (0, "images", "/v2/images"),
        (5, "backups", "/v2/droplets/7/backups"),
        (5, "unknown", "/v2/elsewhere"),
    ]
    assert api.requests[0].query == {"private": "true", "page": "2"}
    assert api.requests[1].headers["Authorization"] == "Bearer wrong"
    assert api.count() == {"images": 1, "backups": 1, "unknown": 1}
    api.forget()
    assert (api.requests, api.count()) == ([], {})


async def test_memory_of_requests_is_bounded(account: Fixture, clock: HandClock) -> None:
    """A demo that runs for weeks keeps the latest requests, and counts them all."""
    async with Api(account, now=clock.now, per_minute=None, remember=5) as api, httpx.AsyncClient() as client:
        for number in range(1, 31):
            await client.get(f"{api.url}/v2/droplets/{number}")
        assert len(api.requests) <= 10
        assert api.requests[-1].path == "/v2/droplets/30"
        assert api.count()["droplet"] == 30


async def test_a_fault_hits_what_it_names_and_as_often(api: Api, client: httpx.AsyncClient) -> None:
    """A fault may name endpoint, droplet and page, and how many times; the first that matches wins."""
    api.faults = [
        Fault("backups", droplet_id=1, times=2, status=500),
        Fault("backups", droplet_id=1, status=503),
        Fault("images", page=2, status=502),
        Fault("images", page=1, status=504, times=0),
    ]

    async def status(path: str) -> int:
        return (await client.get(path)).status_code

    assert [await status("/v2/droplets/1/backups") for _ in range(4)] == [500, 500, 503, 503]
    assert await status("/v2/droplets/3/backups") == 200
    assert [await status(f"/v2/images?page={page}") for page in (1, 2, 3)] == [200, 502, 200]
    assert await status("/v2/images") == 200


@pytest.mark.parametrize("status", range(200, 600, 7))
async def test_a_fault_can_give_any_status(status: int, api: Api, client: httpx.AsyncClient) -> None:
    """Every status of HTTP can be had; errors come with an error's body."""
    api.faults = [Fault(status=status)]
    answer = await client.get("/v2/droplets/1")
    assert answer.status_code == status
    if status >= 400:
        assert answer.json().keys() == {"id", "message", "request_id"}


async def test_a_fault_can_change_headers_and_body(api: Api, client: httpx.AsyncClient) -> None:
    """Headers can be set and taken away, and the body can be any bytes of any type."""
    api.faults = [
        Fault(
            body=b"<html>\xff",
            content_type="text/html",
            headers={"ratelimit-reset": "-1", "ratelimit-limit": None, "retry-after": "86400"},
        )
    ]
    answer = await client.get("/v2/droplets")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, b"<html>\xff", "text/html")
    assert (answer.headers["ratelimit-reset"], answer.headers["retry-after"]) == ("-1", "86400")
    assert "ratelimit-limit" not in answer.headers


async def test_a_fault_can_edit_the_answer(api: Api, account: Fixture, client: httpx.AsyncClient) -> None:
    """An edit sees the decoded answer, may change it or return another, and may say what no encoder should."""
    api.faults = [
        Fault("droplet", times=1, edit=lambda answer: answer["droplet"].update(name="other", disk=10**30)),
        Fault("droplet", times=1, edit=lambda answer: [answer["droplet"]["id"], float("nan"), "\ud800"]),
    ]
    assert (await client.get("/v2/droplets/1")).json()["droplet"]["name"] == "other"
    assert (await client.get("/v2/droplets/1")).content == b'[1, NaN, "\\ud800"]'
    assert (await client.get("/v2/droplets/1")).json()["droplet"] == account.droplet_list[0]


async def test_odd_records_are_served_as_they_are(account: Fixture, client: httpx.AsyncClient) -> None:
    """The records of a `Fixture` may be any JSON."""
    odd: list[Any] = [None, 7, "text", [], {}, {"id": 10**40}, {"id": 1, "name": "\ud800"}]
    account.backup_lists[1] = odd
    account.policy_map["x"] = None
    assert (await client.get("/v2/droplets/1/backups")).json()["backups"] == odd
    assert (await client.get("/v2/droplets/backups/policies?page=13")).json()["policies"] == {
        **{str(number): policy(number) for number in range(241, 251)},
        "x": None,
    }


async def test_a_connection_can_be_reset(api: Api, client: httpx.AsyncClient) -> None:
    """A reset reaches the client as one, and the next request finds the server well."""
    api.faults = [Fault(reset=True, times=1)]
    with pytest.raises(httpx.ReadError):
        await client.get("/v2/droplets")
    assert (await client.get("/v2/droplets")).status_code == 200


@pytest.mark.parametrize("cut", [0, 1, 100])
async def test_a_body_can_be_cut_short(cut: int, api: Api, client: httpx.AsyncClient) -> None:
    """A body that ends before its announced length reaches the client as such."""
    api.faults = [Fault(cut=cut)]
    received = bytearray()

    async def read() -> None:
        async with client.stream("GET", "/v2/droplets") as answer:
            assert int(answer.headers["content-length"]) > cut
            async for chunk in answer.aiter_bytes():
                received.extend(chunk)

    with pytest.raises(httpx.RemoteProtocolError):
        await read()
    assert len(received) == cut


async def test_a_body_can_drip(api: Api, client: httpx.AsyncClient) -> None:
    """A slow body comes a little at a time, and whole in the end."""
    api.faults = [Fault("droplet", body=b"x" * 200, drip=1000)]
    began = time.monotonic()
    answer = await client.get("/v2/droplets/1")
    assert answer.content == b"x" * 200
    assert time.monotonic() - began > 0.15


async def test_an_answer_can_be_delayed_or_never_come(api: Api, client: httpx.AsyncClient) -> None:
    """A delay affects one answer; a hanging answer never comes, and blocks neither others nor the server's end."""
    api.faults = [Fault("droplet", hang=True), Fault("policy", delay=0.1), Fault("images", drip=0.01)]
    with pytest.raises(httpx.ReadTimeout):
        await client.get("/v2/droplets/1", timeout=0.1)
    began = time.monotonic()
    assert (await client.get("/v2/droplets/1/backups/policy")).status_code == 200
    assert time.monotonic() - began > 0.09
    hanging = [asyncio.ensure_future(client.get(path)) for path in ("/v2/droplets/1", "/v2/images")]
    await asyncio.sleep(0.05)
    began = time.monotonic()
    await api.stop()
    assert time.monotonic() - began < 20
    await asyncio.gather(*hanging, return_exceptions=True)


async def test_latency_holds_up_every_answer_but_not_one_by_one(api: Api, client: httpx.AsyncClient) -> None:
    """Requests in flight wait at the same time, as they do over a long line."""
    api.latency = 1.0
    began = time.monotonic()
    await asyncio.gather(*(client.get("/v2/droplets/1") for _ in range(10)))
    assert 0.9 < time.monotonic() - began < 8


async def test_the_answers_date_is_the_injected_clocks(api: Api, clock: HandClock, client: httpx.AsyncClient) -> None:
    """`Date` is the time of the demo's clock."""
    clock.set(1_000_000_000)
    assert (await client.get("/v2/droplets/1")).headers["date"] == "Sun, 09 Sep 2001 01:46:40 GMT"


async def test_a_stopped_api_refuses_connections(account: Fixture, clock: HandClock) -> None:
    """After its end nothing listens any more, and it can be started again."""
    api = Api(account, now=clock.now)
    await api.start()
    port = httpx.URL(api.url).port or 0
    await api.stop()
    with socket.socket() as connection:
        assert connection.connect_ex(("127.0.0.1", port)) != 0
    await api.start(port=port)
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{api.url}/v2/droplets/1", headers={"authorization": "Bearer any"})
    assert answer.status_code == 200
    await api.stop()
