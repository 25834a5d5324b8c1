"""How long polls take where the API is slow, and for how long they keep the loop from others."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import httpx

from exporter.clock import Clock
from exporter.config.model import Account, Config, Poll, RateLimit, TagLabel
from exporter.config.tokens import TokenSource
from exporter.metrics.exposition import Exposition
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from tests.support.api_process import api

LATENCY = 0.1
"""Seconds."""
CONCURRENCY = Poll().concurrency


@dataclass(frozen=True, slots=True)
class Times:
    """Of one account's polls, in seconds."""

    droplets: int
    cold: float
    cold_requests: int
    steady: float
    """With nothing new, the quickest."""
    steady_requests: int


@dataclass(frozen=True, slots=True)
class Pauses:
    """The longest times for which nothing else could run on the loop, in milliseconds."""

    cold: float
    """In the first poll, of the loop's own CPU time: what other programs take of the machine does not count."""
    steady: float
    steady_wall: float
    """As others see it: the least of several polls' longest."""
    poll: float
    """What a steady poll computes in all."""


@asynccontextmanager
async def polling(url: str) -> AsyncIterator[tuple[Poller, Telemetry]]:
    """A poller without limits, its text rendered as it is served."""
    os.environ["TOKEN_OF_THE_BENCHMARK"] = "a" * 20
    config = Config(
        accounts=(),
        poll=Poll(interval=3600.0, timeout=60.0),
        rate_limit=RateLimit(10**6, 10**8, 0.0),
        tag_labels=(TagLabel("team", "team:"),),
    )
    telemetry = Telemetry("0", process=False)
    exposition = Exposition(("team",))
    poller = Poller(
        Account("production", TokenSource(env="TOKEN_OF_THE_BENCHMARK"), url),
        config,
        telemetry.account("production", 300),
        Clock(),
        on_fleet=exposition.update,
    )
    try:
        yield poller, telemetry
    finally:
        await poller.close()


async def times(count: int) -> Times:
    """With `LATENCY` at each request."""
    with api(count, latency=LATENCY) as url:
        async with polling(url) as (poller, telemetry):
            found = []
            for _ in range(3):
                sent = requests(telemetry)
                begun = time.perf_counter()
                assert await poller.poll() == "success"
                found.append((time.perf_counter() - begun, requests(telemetry) - sent))
    (cold, cold_requests), (steady, steady_requests) = found[0], min(found[1:])
    return Times(count, cold, cold_requests, steady, steady_requests)


async def pauses(count: int) -> Pauses:
    """Of a loop on which nothing but the poller runs."""
    with api(count) as url:
        async with polling(url) as (poller, _):
            found = []
            for _ in range(4):
                watch = asyncio.create_task(_watch())
                await asyncio.sleep(0)
                assert await poller.poll() == "success"
                watch.cancel()
                found.append(await watch)
            begun = time.thread_time()
            await poller.poll()
            poll = 1e3 * (time.thread_time() - begun)
    return Pauses(
        poll=poll,
        cold=found[0][0],
        steady=min(cpu for cpu, _ in found[1:]),
        steady_wall=min(wall for _, wall in found[1:]),
    )


def plain(count: int) -> tuple[float, int]:
    """Seconds and requests of the plain way: every page and every Droplet's list, one after the other."""
    sent = 0

    def get(path: str, **params: str) -> dict[str, object]:
        nonlocal sent
        sent += 1
        answer = http.get(path, params={"per_page": "200", **params}).raise_for_status()
        found: dict[str, object] = answer.json()
        return found

    with api(count, latency=LATENCY) as url, httpx.Client(base_url=url, headers={"Authorization": "Bearer a"}) as http:
        begun = time.perf_counter()
        ids: list[int] = []
        for page in range(1, -(-count // 200) + 1):
            get("/v2/droplets/backups/policies", page=str(page))
            records = get("/v2/droplets", page=str(page))["droplets"]
            assert isinstance(records, list)
            ids += [record["id"] for record in records]
        get("/v2/droplets", type="gpus")
        for droplet_id in ids:
            get(f"/v2/droplets/{droplet_id}/backups")
        return time.perf_counter() - begun, sent


def requests(telemetry: Telemetry) -> int:
    return int(
        sum(
            sample.value
            for family in telemetry.requests.collect()
            for sample in family.samples
            if sample.name.endswith("_total")
        )
    )


async def _watch() -> tuple[float, float]:
    """The longest times between two turns, until cancelled: by CPU of this thread, and by the clock."""
    cpu = wall = 0.0
    last_cpu, last_wall = time.thread_time(), time.perf_counter()
    try:
        while True:
            await asyncio.sleep(0)
            now_cpu, now_wall = time.thread_time(), time.perf_counter()
            cpu, wall = max(cpu, now_cpu - last_cpu), max(wall, now_wall - last_wall)
            last_cpu, last_wall = now_cpu, now_wall
    except asyncio.CancelledError:
        return 1e3 * cpu, 1e3 * wall
