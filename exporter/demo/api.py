"""A look-alike of DigitalOcean's API on loopback: the seven endpoints the exporter reads, with faults on demand.

The arbiter is DigitalOcean's OpenAPI document: bodies, parameters, errors and the headers of the rate limit follow it.
Where it is silent (an unknown `type`, a page beyond the last) this does what is said at the place.
"""

from __future__ import annotations

import asyncio
import json
import math
import socket
import struct
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import islice
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlencode

import msgspec
from aiohttp import web

PER_PAGE_DEFAULT = 20
PER_PAGE_MAXIMUM = 200
MINUTE = 60.0
HOUR = 3600.0

ROUTES = {
    "droplets": "/v2/droplets",
    "droplet": r"/v2/droplets/{droplet_id:\d{1,19}}",
    "policies": "/v2/droplets/backups/policies",
    "supported_policies": "/v2/droplets/backups/supported_policies",
    "backups": r"/v2/droplets/{droplet_id:\d{1,19}}/backups",
    "policy": r"/v2/droplets/{droplet_id:\d{1,19}}/backups/policy",
    "images": "/v2/images",
}
"""Endpoint, by the name it has in the exporter's metrics, to path."""

ERRORS = {
    400: ("bad_request", "The request could not be understood."),
    401: ("unauthorized", "Unable to authenticate you."),
    403: ("forbidden", "You are not authorized to perform this operation."),
    404: ("not_found", "The resource you requested could not be found."),
    405: ("method_not_allowed", "This method is not allowed here."),
    422: ("unprocessable_entity", "The request could not be processed."),
    429: ("too_many_requests", "API rate limit exceeded."),
    500: ("server_error", "Unexpected server-side error"),
    503: ("service_unavailable", "The service is temporarily unavailable."),
}
"""Status to `id` and `message` of the error body: 401, 404, 429 and 500 as in the document's examples."""


class Account(Protocol):
    """What the API serves. Instants are Unix seconds; records are JSON-able, wrong ones included, or `msgspec.Raw`."""

    def droplets(self, now: float) -> Sequence[Any]:
        """Every droplet's record, those with GPUs included (told apart by `gpu_info` or a size slug of `gpu-`)."""

    def policies(self, now: float) -> Mapping[str, Any]:
        """Droplet id to policy record."""

    def backups(self, droplet_id: int, now: float) -> Sequence[Any] | None:
        """One droplet's backups; `None` if there is no such droplet."""

    def images(self, now: float) -> Sequence[Any]:
        """The account's private images: snapshots, custom images and, perhaps, backups."""

    def supported_policies(self, now: float) -> Sequence[Any]: ...


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


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    body: bytes
    headers: dict[str, str] = field(default_factory=dict)


class _Refusal(Exception):  # noqa: N818 - not an error of ours, but an answer of the API
    def __init__(self, status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class _RateLimit:
    """Requests of one token in the last minute and the last hour; each expires on its own."""

    def __init__(self, per_minute: int | None, per_hour: int | None) -> None:
        self.per_minute = per_minute
        self.per_hour = per_hour
        self._minute: deque[float] = deque()
        self._hour: deque[float] = deque()

    def spend(self, now: float) -> None:
        """Counts a request, or refuses it: a refused one costs nothing."""
        self._expire(now)
        if self.per_hour is not None and len(self._hour) >= self.per_hour:
            raise _Refusal(429)
        if self.per_minute is not None and len(self._minute) >= self.per_minute:
            wait = self._minute[0] + MINUTE - now if self._minute else MINUTE
            raise _Refusal(429, headers={"retry-after": str(max(1, math.ceil(wait)))})
        self._minute.append(now)
        self._hour.append(now)

    def spend_elsewhere(self, count: int, now: float) -> None:
        self._hour.extend([now] * count)

    def headers(self, now: float) -> dict[str, str]:
        """None without an hourly limit: there is nothing to tell then."""
        self._expire(now)
        if self.per_hour is None:
            return {}
        return {
            "ratelimit-limit": str(self.per_hour),
            "ratelimit-remaining": str(max(0, self.per_hour - len(self._hour))),
            "ratelimit-reset": str(math.ceil(self._hour[0] + HOUR if self._hour else now)),
        }

    def _expire(self, now: float) -> None:
        for times, length in ((self._minute, MINUTE), (self._hour, HOUR)):
            while times and times[0] <= now - length:
                times.popleft()


class Api:
    """Serves an account over HTTP.

    `token` is the only one accepted; with `None` any bearer token will do, but one must come. A limit of `None` is
    switched off, and with the hourly one its headers. `latency` is real seconds per request. All of these may be
    changed while serving. `remember` bounds `requests`, which loses the oldest; `count()` counts them all.
    """

    def __init__(
        self,
        account: Account,
        *,
        now: Callable[[], float],
        token: str | None = None,
        per_minute: int | None = 250,
        per_hour: int | None = 5000,
        latency: float = 0.0,
        remember: int = 20_000,
    ) -> None:
        self.account = account
        self.now = now
        self.token = token
        self.latency = latency
        self.faults: list[Fault] = []
        self.requests: list[Request] = []
        self.url = ""
        self._remember = remember
        self._counts: Counter[str] = Counter()
        self._limit = _RateLimit(per_minute, per_hour)
        self._runner: web.AppRunner | None = None
        self._stopping = asyncio.Event()
        self._answers: dict[str, Callable[[Mapping[str, str], int, float], dict[str, Any]]] = {
            "droplets": self._droplets,
            "droplet": self._droplet,
            "policies": self._policies,
            "supported_policies": self._supported_policies,
            "backups": self._backups,
            "policy": self._policy,
            "images": self._images,
        }

    async def start(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Listens; `url` then says where. Port 0 picks a free one."""
        app = web.Application()
        for endpoint, path in ROUTES.items():
            app.router.add_get(path, self._handler(endpoint), allow_head=False)
        app.router.add_route("*", "/{path:.*}", self._handler("unknown"))
        self._stopping.clear()
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port)
        await site.start()
        bound = self._runner.addresses[0]
        self.url = f"http://[{bound[0]}]:{bound[1]}" if ":" in bound[0] else f"http://{bound[0]}:{bound[1]}"

    async def stop(self) -> None:
        """Closes every connection, those that hang included."""
        self._stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Api:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def count(self) -> Counter[str]:
        """Requests so far, by endpoint, refused and faulty ones included."""
        return self._counts.copy()

    def forget(self) -> None:
        """Starts the counts and `requests` anew; the rate limit forgets nothing."""
        self._counts.clear()
        self.requests.clear()

    def other_users(self, count: int) -> None:
        """Spends so many requests of the token's hour, as another tool would over some minutes."""
        self._limit.spend_elsewhere(count, self.now())

    # The limits are public to be changed by a test while serving.
    @property
    def per_minute(self) -> int | None:
        return self._limit.per_minute

    @per_minute.setter
    def per_minute(self, limit: int | None) -> None:
        self._limit.per_minute = limit

    @property
    def per_hour(self) -> int | None:
        return self._limit.per_hour

    @per_hour.setter
    def per_hour(self, limit: int | None) -> None:
        self._limit.per_hour = limit

    def _handler(self, endpoint: str) -> Callable[[web.Request], Any]:
        async def handle(request: web.Request) -> web.StreamResponse:
            now = self.now()
            self._counts[endpoint] += 1
            self.requests.append(Request(now, endpoint, request.path, dict(request.query), request.headers))
            if len(self.requests) > 2 * self._remember:
                del self.requests[: -self._remember]
            if self.latency:
                await asyncio.sleep(self.latency)
            answer, fault = self._answer(endpoint, request, now)
            if fault is None:
                return web.Response(status=answer.status, body=answer.body, headers=answer.headers)
            return await self._send_faulty(request, answer, fault)

        return handle

    def _answer(self, endpoint: str, request: web.Request, now: float) -> tuple[_Answer, Fault | None]:
        request_id = str(uuid.uuid4())
        fault: Fault | None = None
        extra: dict[str, str] = {}
        try:
            self._authenticate(request)
            self._limit.spend(now)
            droplet_id = int(request.match_info.get("droplet_id", 0))
            fault = self._fault(endpoint, droplet_id, request)
            status, content = 200, self._content(endpoint, request, droplet_id, now)
            if "meta" in content:
                content["links"] = _links(request, content["links"], content["meta"]["total"])
        except _Refusal as refusal:
            status, content, extra = (
                refusal.status,
                _error(refusal.status, request_id, refusal.message),
                refusal.headers,
            )
        if fault is not None:
            status, content = _spoil(status, content, request_id, fault)
        headers = {
            "content-type": "application/json; charset=utf-8",
            "date": formatdate(now, usegmt=True),
            "x-request-id": request_id,
            **self._limit.headers(now),
            **extra,
        }
        return _Answer(status, content if isinstance(content, bytes) else _encode(content), headers), fault

    def _content(self, endpoint: str, request: web.Request, droplet_id: int, now: float) -> dict[str, Any]:
        if endpoint == "unknown":
            raise _Refusal(404 if request.method == "GET" else 405)
        return self._answers[endpoint](request.query, droplet_id, now)

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or (self.token is not None and token != self.token):
            raise _Refusal(401)

    def _fault(self, endpoint: str, droplet_id: int, request: web.Request) -> Fault | None:
        page = request.query.get("page", "1")
        number = int(page) if page.isdecimal() else None
        for fault in self.faults:
            if fault.matches(endpoint, droplet_id, number):
                if fault.times is not None:
                    fault.times -= 1
                return fault
        return None

    async def _send_faulty(self, request: web.Request, answer: _Answer, fault: Fault) -> web.StreamResponse:
        if fault.delay or fault.hang:
            await self._pause(None if fault.hang else fault.delay)
        if fault.reset or fault.hang:
            _reset(request.transport)
            return web.Response()
        response = web.StreamResponse(status=answer.status, headers=answer.headers)
        response.content_length = len(answer.body)
        if fault.content_type is not None:
            response.headers["content-type"] = fault.content_type
        for name, value in fault.headers.items():
            response.headers.popall(name, None)
            if value is not None:
                response.headers[name] = value
        body = answer.body if fault.cut is None else answer.body[: fault.cut]
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
        """Waits in real time; not beyond the server's end."""
        try:
            await asyncio.wait_for(self._stopping.wait(), seconds)
        except TimeoutError:
            return

    def _droplets(self, query: Mapping[str, str], _: int, now: float) -> dict[str, Any]:
        kind, tag, name = query.get("type"), query.get("tag_name"), query.get("name")
        if tag is not None and (kind is not None or name is not None):
            raise _Refusal(422, "tag_name can not be combined with type or name.")
        if kind not in (None, "droplets", "gpus"):
            raise _Refusal(422, "type must be droplets or gpus.")
        records = self.account.droplets(now)
        if tag is not None:
            # Whether a tag finds GPU droplets too is not documented; asked for by neither type, both are found.
            records = [record for record in records if tag in (_field(record, "tags") or ())]
        else:
            gpus = kind == "gpus"
            records = [record for record in records if is_gpu(record) == gpus]
        if name is not None:
            records = [record for record in records if str(_field(record, "name")).lower() == name.lower()]
        single: dict[str, Any] = {} if kind == "gpus" else {"pages": {}}
        return _page("droplets", records, query, single)

    def _droplet(self, _: Mapping[str, str], droplet_id: int, now: float) -> dict[str, Any]:
        for record in self.account.droplets(now):
            if _field(record, "id") == droplet_id:
                return {"droplet": record}
        raise _Refusal(404)

    def _policies(self, query: Mapping[str, str], _: int, now: float) -> dict[str, Any]:
        policies = self.account.policies(now)
        page, per_page = _page_of(query)
        records = dict(islice(policies.items(), (page - 1) * per_page, page * per_page))
        return {"policies": records, "links": {}, "meta": {"total": len(policies)}}

    def _supported_policies(self, _: Mapping[str, str], __: int, now: float) -> dict[str, Any]:
        return {"supported_policies": list(self.account.supported_policies(now))}

    def _backups(self, query: Mapping[str, str], droplet_id: int, now: float) -> dict[str, Any]:
        records = self.account.backups(droplet_id, now)
        if records is None:
            raise _Refusal(404)
        return _page("backups", records, query, {})

    def _policy(self, _: Mapping[str, str], droplet_id: int, now: float) -> dict[str, Any]:
        policies = self.account.policies(now)
        if str(droplet_id) not in policies:
            raise _Refusal(404)
        return {"policy": policies[str(droplet_id)]}

    def _images(self, query: Mapping[str, str], _: int, now: float) -> dict[str, Any]:
        kind, tag = query.get("type"), query.get("tag_name")
        if kind not in (None, "application", "distribution"):
            raise _Refusal(422, "type must be application or distribution.")
        # Public images, of which there are none here, are what `type` selects from.
        records: Sequence[Any] = () if kind is not None else self.account.images(now)
        if tag is not None:
            records = [record for record in records if tag in (_field(record, "tags") or ())]
        return _page("images", records, query, {"pages": {}})


def is_gpu(record: object) -> bool:
    """Whether a droplet's record is one of those that only `type=gpus` lists."""
    return isinstance(record, Mapping) and ("gpu_info" in record or str(record.get("size_slug")).startswith("gpu-"))


def _field(record: object, name: str) -> Any:
    return record.get(name) if isinstance(record, Mapping) else None


def _page_of(query: Mapping[str, str]) -> tuple[int, int]:
    numbers = []
    for name, default in (("page", 1), ("per_page", PER_PAGE_DEFAULT)):
        text = query.get(name, str(default))
        if not text.isdecimal() or len(text) > 9 or int(text) < 1:
            raise _Refusal(400, f"{name} must be a positive number.")
        numbers.append(int(text))
    return numbers[0], min(numbers[1], PER_PAGE_MAXIMUM)


def _page(key: str, records: Sequence[Any], query: Mapping[str, str], single: dict[str, Any]) -> dict[str, Any]:
    """One page of an answer; `single` are the links of an answer of one page (the document shows two forms)."""
    page, per_page = _page_of(query)
    return {
        key: list(records[(page - 1) * per_page : page * per_page]),
        "links": single,
        "meta": {"total": len(records)},
    }


def _links(request: web.Request, single: dict[str, Any], total: int) -> dict[str, Any]:
    """Whole URLs, back to the host that was asked; a page beyond the last leads back only."""
    page, per_page = _page_of(request.query)
    last = max(1, math.ceil(total / per_page))
    if last == 1 and page == 1:
        return single

    def url(number: int) -> str:
        query: Iterable[tuple[str, str]] = {**request.query, "page": str(number)}.items()
        return f"{request.scheme}://{request.host}{request.path}?{urlencode(list(query))}"

    pages: dict[str, str] = {}
    if page > 1:
        pages |= {"first": url(1), "prev": url(page - 1)}
    if page < last:
        pages |= {"next": url(page + 1), "last": url(last)}
    return {"pages": pages}


def _error(status: int, request_id: str, message: str | None = None) -> dict[str, Any]:
    identifier, text = ERRORS.get(status, ("example_error", "some error message"))
    return {"id": identifier, "message": message or text, "request_id": request_id}


def _spoil(status: int, content: Any, request_id: str, fault: Fault) -> tuple[int, Any]:
    if fault.status is not None:
        if fault.status >= 400:
            content = _error(fault.status, request_id)
        status = fault.status
    if fault.edit is not None:
        plain = json.loads(_encode(content))
        edited = fault.edit(plain)
        # The standard encoder, for it writes what others refuse: NaN, integers of any length, lone surrogates.
        content = json.dumps(plain if edited is None else edited).encode()
    if fault.body is not None:
        content = fault.body
    return status, content


def _encode(content: Any) -> bytes:
    try:
        return msgspec.json.encode(content)
    except (ValueError, OverflowError, TypeError):
        return json.dumps(content).encode()


def _reset(transport: asyncio.Transport | None) -> None:
    """Ends the connection with a reset, which the peer sees as such, rather than with an orderly end."""
    if transport is None:
        return
    connection: socket.socket | None = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
