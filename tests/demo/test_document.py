"""Every answer of the look-alike, held against DigitalOcean's own OpenAPI document and read by its own client."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import parse_qs, urlparse

import httpx
import pydo
import pytest
from azure.core.exceptions import HttpResponseError

from exporter.demo.api import ROUTES
from exporter.demo.fleet import demo_fleet
from tests.demo.conftest import START
from tests.demo.document import Document
from tests.support.lookalike import Api, Fault, Fixture, backup, disabled, droplet, image, policy
from tests.support.world import HandClock

TOKEN = "dop_v1_made_up"
HOUR = 3600.0


@pytest.fixture
async def api(clock: HandClock) -> AsyncIterator[Api]:
    async with Api(demo_fleet(START), now=clock.now, token=TOKEN, per_minute=None) as api:
        yield api


@pytest.fixture
async def client(api: Api) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=api.url, headers={"authorization": f"Bearer {TOKEN}"}) as client:
        yield client


def test_the_look_alike_has_exactly_the_documents_endpoints(document: Document) -> None:
    """The look-alike serves the document's paths, and no others."""
    assert {path.replace(r":\d{1,19}", "") for path in ROUTES.values()} == document.paths


@pytest.mark.parametrize("hours", [0, 2.5, 11, 26, 51, 77.7, 170, 24 * 40, -30])
async def test_listings_are_valid_at_any_time(
    hours: float, clock: HandClock, client: httpx.AsyncClient, document: Document
) -> None:
    """At any hour of the demo, every page of every listing is as the document says."""
    clock.set(START + hours * HOUR)
    for path, total in (
        ("/v2/droplets?per_page=200", 30),
        ("/v2/droplets?type=gpus", 1),
        ("/v2/droplets/backups/policies?per_page=200", 30),
        ("/v2/droplets/backups/supported_policies", None),
        ("/v2/images?private=true&per_page=200", 150),
    ):
        answer = await client.get(path)
        assert answer.status_code == 200
        document.check(answer)
        assert total is None or answer.json()["meta"]["total"] >= total


async def test_every_droplets_own_endpoints_are_valid(client: httpx.AsyncClient, document: Document) -> None:
    """Each droplet's record, policy and backups, and the 404 if there are none, are as the document says."""
    listed = (await client.get("/v2/droplets?per_page=200")).json()["droplets"]
    policies = (await client.get("/v2/droplets/backups/policies?per_page=200")).json()["policies"]
    statuses = set()
    for droplet_id in {record["id"] for record in listed} | {int(key) for key in policies} | {1}:
        for path in ("", "/backups", "/backups?per_page=3&page=2", "/backups/policy"):
            answer = await client.get(f"/v2/droplets/{droplet_id}{path}")
            document.check(answer)
            statuses.add(answer.status_code)
    assert statuses == {200, 404}


@pytest.mark.parametrize(
    "query", ["per_page=7", "per_page=7&page=2", "per_page=7&page=99", "tag_name=team:web", "name=web-nyc-01"]
)
async def test_every_page_is_valid(query: str, client: httpx.AsyncClient, document: Document) -> None:
    """First, middle and empty pages and the filters keep to the document."""
    for path in ("/v2/droplets", "/v2/images", "/v2/droplets/backups/policies"):
        answer = await client.get(f"{path}?{query}")
        assert answer.status_code == 200
        document.check(answer)


async def test_every_refusal_is_valid(api: Api, client: httpx.AsyncClient, document: Document) -> None:
    """401, 404, 429, 500 and what the document calls unexpected have its error body and its headers."""
    api.faults = [Fault(status=status, times=1) for status in (500, 503, 403, 404)]
    answers = [await client.get("/v2/droplets/1/backups") for _ in range(5)]
    answers.append(await client.get("/v2/droplets?type=submarines"))
    answers.append(await client.get("/v2/droplets?page=0"))
    answers.append(await client.get("/v2/droplets", headers={"authorization": "Bearer wrong"}))
    api.per_hour = 1
    answers.append(await client.get("/v2/droplets"))
    assert [answer.status_code for answer in answers] == [500, 503, 403, 404, 404, 422, 400, 401, 429]
    for answer in answers:
        if answer.status_code not in (400, 422):  # there it is the request that is not the document's
            document.check(answer)
        assert answer.json().keys() == {"id", "message", "request_id"}
        assert {"ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"} <= answer.headers.keys()


async def test_the_builders_make_valid_records(clock: HandClock, document: Document) -> None:
    """What tests build with the builders' defaults is as complete as the document requires."""
    account = Fixture(
        droplets=[droplet(1), droplet(2, size="gpu-h100x1-80gb"), droplet(3, backup_ids=[31], tags=["a"])],
        policies={
            "1": policy(1),
            "2": policy(2, plan="weekly", weekday="SUN", hour=20, next_window=START),
            "3": disabled(3),
        },
        backups={3: [backup(31, START)]},
        images=[image(31, START), image(32, START, size=None, status="pending")],
    )
    async with Api(account, now=clock.now) as api, httpx.AsyncClient(base_url=api.url) as client:
        client.headers["authorization"] = "Bearer any"
        for path in (
            "/v2/droplets",
            "/v2/droplets?type=gpus",
            "/v2/droplets/3",
            "/v2/droplets/3/backups",
            "/v2/droplets/2/backups/policy",
            "/v2/droplets/backups/policies",
            "/v2/droplets/backups/supported_policies",
            "/v2/images?private=true",
        ):
            answer = await client.get(path)
            assert answer.status_code == 200
            document.check(answer)


def _strange_policy(answer: Any) -> None:
    answer["policies"]["441000000"]["backup_policy"]["hour"] = 3


@pytest.mark.parametrize(
    ("path", "edit"),
    [
        ("/v2/droplets", lambda answer: answer["droplets"][0].pop("backup_ids")),
        ("/v2/droplets", lambda answer: answer["droplets"][0].update(id="1")),
        ("/v2/droplets", lambda answer: answer.pop("meta")),
        ("/v2/droplets/441000000/backups", lambda answer: answer["backups"][0].update(size_gigabytes=None)),
        ("/v2/droplets/441000000/backups", lambda answer: answer["backups"][0].update(type="picture")),
        ("/v2/droplets/backups/policies", _strange_policy),
        ("/v2/images", lambda answer: answer["images"][0].update(regions=["moon1"])),
    ],
)
async def test_the_judge_objects_to_what_is_wrong(
    path: str, edit: Any, api: Api, client: httpx.AsyncClient, document: Document
) -> None:
    """A record that the document does not allow is found, so that the tests above mean something."""

    def change(answer: Any) -> None:
        edit(answer)

    api.faults.append(Fault(edit=change))
    answer = await client.get(path)
    with pytest.raises(AssertionError):
        document.check(answer)


async def test_digitaloceans_own_client_reads_every_endpoint(api: Api) -> None:
    """pydo, pages and all, gets what the fleet holds without complaint, and the error it expects for a wrong token."""
    plain: dict[str, Any] = {"enforce_https": False}  # the look-alike speaks plain HTTP

    def read() -> dict[str, Any]:
        with pydo.Client(token=TOKEN, endpoint=api.url) as client:
            droplets: list[Any] = []
            page: str | None = "1"
            while page is not None:
                answer = client.droplets.list(per_page=10, page=int(page), **plain)
                droplets += answer["droplets"]
                following = answer["links"]["pages"].get("next")
                page = parse_qs(urlparse(following).query)["page"][0] if following else None
            first = droplets[0]["id"]
            found = {
                "droplets": droplets,
                "gpus": client.droplets.list(type="gpus", **plain)["droplets"],
                "droplet": client.droplets.get(first, **plain)["droplet"],
                "policies": client.droplets.list_backup_policies(per_page=200, **plain)["policies"],
                "policy": client.droplets.get_backup_policy(first, **plain)["policy"],
                "supported": client.droplets.list_supported_backup_policies(**plain)["supported_policies"],
                "backups": client.droplets.list_backups(first, **plain)["backups"],
                "images": client.images.list(private=True, per_page=200, **plain)["images"],
                "missing": client.droplets.get(1, **plain),
            }
        with pydo.Client(token="wrong", endpoint=api.url) as client, pytest.raises(HttpResponseError) as refusal:
            client.droplets.list(**plain)
        assert refusal.value.status_code == 401
        return found

    found = await asyncio.to_thread(read)
    fleet = demo_fleet(START)
    assert len(found["droplets"]) + len(found["gpus"]) == len(fleet.droplets(START))
    assert found["droplet"] == found["droplets"][0]
    assert found["policies"] == fleet.policies(START)
    assert found["policy"] == found["policies"][str(found["droplet"]["id"])]
    assert [plan["name"] for plan in found["supported"]] == ["weekly", "daily"]
    assert [one["id"] for one in found["backups"]] == found["droplet"]["backup_ids"]
    assert len(found["images"]) == 200
    assert found["missing"]["id"] == "not_found"
