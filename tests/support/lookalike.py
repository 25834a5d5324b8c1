"""DigitalOcean's API over HTTP for tests: the demo's, with faults on demand, and an account of fixed lists to serve.

account = Fixture(droplets=[droplet(1)], policies={"1": policy(1, hour=4)}, backups={1: [backup(11, created)]})
async with Api(account, now=lambda: now) as api:
    api.faults.append(Fault("backups", droplet_id=1, status=500))
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from aiohttp import web

from exporter.demo.api import DemoAnswer, DemoApi, ServedAccount, encode, error_body
from exporter.demo.records import (
    OMIT,
    backup,
    disabled,
    droplet,
    image,
    instant,
    policy,
    supported_policy,
    window,
)

__all__ = [
    "OMIT",
    "Api",
    "Fault",
    "Fixture",
    "Request",
    "backup",
    "disabled",
    "droplet",
    "image",
    "instant",
    "policy",
    "served",
    "supported_policy",
    "window",
]


class Request(NamedTuple):
    """A request as it arrived."""

    time: float
    endpoint: str
    """A key of `ROUTES`, or `unknown`."""
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    """Names are case-insensitive."""


@dataclass(slots=True)
class Fault:
    """What goes wrong, and with which requests; the first fault that matches a request wins.

    Refusals of the API itself (401, 429) come before any fault. What is not named stays as the API would have answered.
    """

    endpoint: str | None = None
    """A key of `ROUTES`; `None`: any."""
    droplet_id: int | None = None
    page: int | None = None
    times: int | None = None
    """How many requests yet; `None`: for ever. Counts down."""
    status: int | None = None
    """An error's body comes with a status of 400 and above."""
    headers: Mapping[str, str | None] = field(default_factory=dict)
    """Set, or with `None` removed."""
    body: bytes | None = None
    content_type: str | None = None
    delay: float = 0.0
    """Real seconds before the answer."""
    hang: bool = False
    """Never answer."""
    reset: bool = False
    """Reset the connection at once."""
    cut: int | None = None
    """Send so many bytes of the body, then close the connection."""
    drip: float | None = None
    """Send the body at so many bytes a real second."""
    edit: Callable[[Any], Any] | None = None
    """Changes the decoded answer, in place or by returning another, before it is sent."""

    def matches(self, endpoint: str, droplet_id: int | None, page: int | None) -> bool:
        return (
            self.times != 0
            and self.endpoint in (None, endpoint)
            and self.droplet_id in (None, droplet_id)
            and self.page in (None, page)
        )


class Api(DemoApi):
    """The demo's API with faults, which remembers the requests that came.

    `latency` is real seconds per request. `requests` holds the last `remember` of them at least; `count()` counts all.
    All attributes may be changed while it serves.
    """

    def __init__(
        self,
        account: ServedAccount,
        *,
        now: Callable[[], float],
        token: str | None = None,
        per_minute: int | None = 250,
        per_hour: int | None = 5000,
        latency: float = 0.0,
        remember: int = 20_000,
    ) -> None:
        super().__init__(account, now=now, token=token, per_minute=per_minute, per_hour=per_hour)
        self.latency = latency
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self._remember = remember
        self._counts: Counter[str] = Counter()
        self._stopping = asyncio.Event()

    async def start(self, port: int = 0) -> None:
        self._stopping.clear()
        await super().start(port)

    async def stop(self) -> None:
        """Closes every connection, also those that hang."""
        self._stopping.set()
        await super().stop()

    def count(self) -> Counter[str]:
        """Requests so far, by endpoint, also refused and faulty ones."""
        return self._counts.copy()

    def forget(self) -> None:
        """Starts the counts and `requests` anew; the rate limit forgets nothing."""
        self._counts.clear()
        self.requests.clear()

    def other_users(self, count: int) -> None:
        """Spends so many requests of the token's hour, as another tool would over some minutes."""
        self._spent._hour.extend([self.now()] * count)

    @property
    def per_minute(self) -> int | None:
        return self._spent.per_minute

    @per_minute.setter
    def per_minute(self, limit: int | None) -> None:
        self._spent.per_minute = limit

    @property
    def per_hour(self) -> int | None:
        return self._spent.per_hour

    @per_hour.setter
    def per_hour(self, limit: int | None) -> None:
        self._spent.per_hour = limit

    async def _handle(self, endpoint: str, request: web.Request) -> web.StreamResponse:
        now = self.now()
        self._counts[endpoint] += 1
        self.requests.append(Request(now, endpoint, request.path, dict(request.query), request.headers))
        if len(self.requests) > 2 * self._remember:
            del self.requests[: -self._remember]
        if self.latency:
            await asyncio.sleep(self.latency)
        answer = self._answer(endpoint, request, now)
        fault = self._fault(endpoint, request) if answer.admitted else None
        if fault is None:
            return web.Response(status=answer.status, body=encode(answer.content), headers=answer.headers)
        return await self._send_faulty(request, answer, fault)

    def _fault(self, endpoint: str, request: web.Request) -> Fault | None:
        page = request.query.get("page", "1")
        number = int(page) if page.isdecimal() else None
        for fault in self.faults:
            if fault.matches(endpoint, int(request.match_info.get("droplet_id", 0)), number):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def _send_faulty(self, request: web.Request, answer: DemoAnswer, fault: Fault) -> web.StreamResponse:
        if fault.delay or fault.hang:
            await self._pause(None if fault.hang else fault.delay)
        if fault.reset or fault.hang:
            _reset(request.transport)
            return web.Response()
        body = _faulty_body(answer, fault)
        response = web.StreamResponse(status=fault.status or answer.status, headers=answer.headers)
        response.content_length = len(body)
        if fault.content_type is not None:
            response.headers["content-type"] = fault.content_type
        for name, value in fault.headers.items():
            response.headers.popall(name, None)
            if value is not None:
                response.headers[name] = value
        if fault.cut is not None:
            body = body[: fault.cut]
        await response.prepare(request)
        step = len(body) or 1 if fault.drip is None else max(1, int(fault.drip / 20))
        for start in range(0, len(body), step):
            if self._stopping.is_set():
                _reset(request.transport)
                break
            await response.write(body[start : start + step])
            if fault.drip is not None:
                await self._pause(step / fault.drip)
        if fault.cut is not None and request.transport is not None:
            request.transport.close()
        return response

    async def _pause(self, seconds: float | None) -> None:
        """Waits in real time, at most until the server is stopped."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return


def _faulty_body(answer: DemoAnswer, fault: Fault) -> bytes:
    if fault.body is not None:
        return fault.body
    content = answer.content
    if fault.status is not None and fault.status >= 400:
        content = error_body(fault.status, answer.request_id)
    if fault.edit is None:
        return encode(content)
    plain = json.loads(encode(content))
    edited = fault.edit(plain)
    # The standard encoder writes what others refuse: NaN, integers of any length, lone surrogates.
    return json.dumps(plain if edited is None else edited).encode()


def _reset(transport: asyncio.Transport | None) -> None:
    """Ends the connection with a reset, not in an orderly way."""
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Fixture:
    """An account that is what its lists hold, at any time; a test may change them while they are served.

    `backups` maps a droplet's id to its list, or to `None` for a 404. A droplet without an entry has none yet, and an
    id that no droplet has is answered with 404.
    """

    def __init__(
        self,
        droplets: list[Any] | None = None,
        policies: dict[str, Any] | None = None,
        backups: dict[int, list[Any] | None] | None = None,
        images: list[Any] | None = None,
        supported: list[Any] | None = None,
    ) -> None:
        self.droplet_list: list[Any] = [] if droplets is None else droplets
        self.policy_map: dict[str, Any] = {} if policies is None else policies
        self.backup_lists: dict[int, list[Any] | None] = {} if backups is None else backups
        self.image_list: list[Any] = [] if images is None else images
        self.supported_list: list[Any] = (
            [supported_policy("weekly"), supported_policy("daily")] if supported is None else supported
        )

    def droplets(self, now: float) -> Sequence[Any]:
        return self.droplet_list

    def policies(self, now: float) -> Mapping[str, Any]:
        return self.policy_map

    def backups(self, droplet_id: int, now: float) -> Sequence[Any] | None:
        if droplet_id in self.backup_lists:
            return self.backup_lists[droplet_id]
        known = any(isinstance(record, dict) and record.get("id") == droplet_id for record in self.droplet_list)
        return [] if known else None

    def images(self, now: float) -> Sequence[Any]:
        return self.image_list

    def supported_policies(self, now: float) -> Sequence[Any]:
        return self.supported_list


@contextmanager
def served(*apis: Api) -> Iterator[None]:
    """Serves them in a thread, so that a test that waits for the exporter does not block its API."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        for api in apis:
            do(api.start())
        yield
    finally:
        for api in apis:
            do(api.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
