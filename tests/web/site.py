"""The exporter's own web server round a service that polls look-alikes of the API, at a time set by hand."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from html import unescape
from typing import Any
from urllib.parse import urljoin

import aiohttp

from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.web.app import dispatch, routes
from exporter.web.server import Server
from tests.support.lookalike import Api
from tests.support.world import MONDAY, TOKEN, HandClock


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()


class Site:
    """What a reader's browser has before it, and the hands behind it."""

    def __init__(self, service: Service, server: Server, apis: Sequence[Api], clock: HandClock) -> None:
        self.service = service
        self.apis = apis
        self.clock = clock
        host, port = server.addresses[0]
        self.url = f"http://{host}:{port}"

    async def poll(self) -> None:
        """One poll of every account."""
        for poller in self.service._pollers.values():
            await poller.poll()

    async def get(self, path: str = "/", method: str = "GET", **headers: str) -> Reply:
        async with (
            aiohttp.ClientSession(auto_decompress=False) as session,
            session.request(
                method, urljoin(f"{self.url}/", path), headers={"Accept-Encoding": "identity", **headers}
            ) as answer,
        ):
            return Reply(answer.status, answer.headers, await answer.read())

    async def names(self, path: str = "/") -> list[str]:
        """The Droplets on the page, in its order."""
        return names_of((await self.get(path)).text)


def names_of(page: str) -> list[str]:
    found = re.findall(r'<th role="rowheader" scope="row" class="name"><bdi>(.*?)</bdi>', page, re.DOTALL)
    return [unescape(name) for name in found]


@contextlib.asynccontextmanager
async def site(
    *accounts: Any,
    at: float = MONDAY,
    names: Sequence[str] = ("prod", "stage", "lab"),
    polled: bool = True,
    metrics: str = "/metrics",
    config: Config | None = None,
    watched_for: float = 30 * 86400.0,
    **api: Any,
) -> AsyncIterator[Site]:
    """`accounts` are what the look-alikes serve; they are polled once, unless the test means to do that itself.

    `watched_for`: seconds for which the accounts count as watched before.
    """
    os.environ["TOKEN_OF_THE_TESTS"] = TOKEN
    clock = HandClock()
    clock.set(at)
    async with contextlib.AsyncExitStack() as stack:
        apis = [
            await stack.enter_async_context(Api(account, now=clock.now, token=TOKEN, **api)) for account in accounts
        ]
        base = config or Config((), poll=Poll(timeout=2.0))
        configured = replace(
            base,
            accounts=tuple(
                # Watched for long, so that windows were missed.
                Account(name, TokenSource(env="TOKEN_OF_THE_TESTS"), one.url, watched_since=at - watched_for)
                for name, one in zip(names, apis, strict=False)
            ),
        )
        service = Service(configured, lambda: configured, clock, Telemetry("0", process=False))
        table = routes(service, metrics, lifecycle=False)
        server = Server(lambda request: dispatch(table, request))
        await server.listen("127.0.0.1", 0)
        try:
            running = Site(service, server, apis, clock)
            if polled:
                await running.poll()
            yield running
        finally:
            await server.stop()
            for poller in service._pollers.values():
                await poller.close()
            await service.stop()
