"""DigitalOcean's API for the demo, on loopback: the seven endpoints that the exporter reads.

Bodies, parameters, errors and the headers of the rate limit follow DigitalOcean's OpenAPI document. Where it says
nothing (an unknown `type`, a page beyond the last), a comment says what is done here.
"""

from __future__ import annotations

import json
import math
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from email.utils import formatdate
from functools import partial
from itertools import islice
from typing import Any, Protocol, Self
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
"""The path of each endpoint, by the name that it has in the exporter's metrics."""

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
"""`id` and `message` of the error body by status. 401, 404, 429 and 500 are as in the document's examples."""


class ServedAccount(Protocol):
    """What the API serves at an instant, in Unix seconds. Records are anything that JSON can hold, or `msgspec.Raw`."""

    def droplets(self, now: float) -> Sequence[Any]:
        """All droplet records. Those with GPUs have `gpu_info`, or a size slug that begins with `gpu-`."""

    def policies(self, now: float) -> Mapping[str, Any]:
        """Policy records by droplet id."""

    def backups(self, droplet_id: int, now: float) -> Sequence[Any] | None:
        """One droplet's backups; `None` if there is no such droplet."""

    def images(self, now: float) -> Sequence[Any]:
        """The account's private images: snapshots, custom images and, perhaps, backups."""

    def supported_policies(self, now: float) -> Sequence[Any]: ...


@dataclass(frozen=True, slots=True)
class DemoAnswer:
    """What the API answers to a request, before it is sent."""

    status: int
    content: Any
    """Not encoded yet."""
    headers: Mapping[str, str]
    request_id: str
    admitted: bool
    """False: the token or the rate limit refused the request."""


class _Refusal(Exception):  # noqa: N818  # an answer of the API, not an error here
    def __init__(self, status: int, message: str | None = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})


class _SpentRequests:
    """The requests of one token in the last minute and the last hour. Each expires by itself."""

    def __init__(self, per_minute: int | None, per_hour: int | None) -> None:
        self.per_minute = per_minute
        self.per_hour = per_hour
        self._minute: deque[float] = deque()
        self._hour: deque[float] = deque()

    def spend(self, now: float) -> None:
        """Counts a request. One that is refused does not count."""
        self._expire(now)
        if self.per_hour is not None and len(self._hour) >= self.per_hour:
            raise _Refusal(429)
        if self.per_minute is not None and len(self._minute) >= self.per_minute:
            wait = self._minute[0] + MINUTE - now if self._minute else MINUTE
            raise _Refusal(429, headers={"retry-after": str(max(1, math.ceil(wait)))})
        self._minute.append(now)
        self._hour.append(now)

    def headers(self, now: float) -> dict[str, str]:
        """No headers where there is no hourly limit."""
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


class DemoApi:
    """Serves an account over HTTP.

    It accepts `token` only; if that is `None`, any bearer token. A limit of `None` is switched off. Without an hourly
    limit, answers have no headers of the rate limit.
    """

    def __init__(
        self,
        account: ServedAccount,
        *,
        now: Callable[[], float],
        token: str | None = None,
        per_minute: int | None = 250,
        per_hour: int | None = 5000,
    ) -> None:
        self.account = account
        self.now = now
        self.token = token
        self.url = ""
        """Where it listens."""
        self._spent = _SpentRequests(per_minute, per_hour)
        self._runner: web.AppRunner | None = None
        self._contents: dict[str, Callable[[Mapping[str, str], int, float], dict[str, Any]]] = {
            "droplets": self._droplets,
            "droplet": self._droplet,
            "policies": self._policies,
            "supported_policies": self._supported_policies,
            "backups": self._backups,
            "policy": self._policy,
            "images": self._images,
        }

    async def start(self, port: int = 0) -> None:
        """Listens on loopback. Port 0 picks a free one."""
        app = web.Application()
        for endpoint, path in ROUTES.items():
            app.router.add_get(path, partial(self._handle, endpoint), allow_head=False)
        app.router.add_route("*", "/{path:.*}", partial(self._handle, "unknown"))
        self._runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=1.0)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", port).start()
        host, bound = self._runner.addresses[0]
        self.url = f"http://{host}:{bound}"

    async def stop(self) -> None:
        """Closes every connection."""
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _handle(self, endpoint: str, request: web.Request) -> web.StreamResponse:
        """Answers a request; `endpoint` is a key of `ROUTES`, or `unknown`."""
        answer = self._answer(endpoint, request, self.now())
        return web.Response(status=answer.status, body=encode(answer.content), headers=answer.headers)

    def _answer(self, endpoint: str, request: web.Request, now: float) -> DemoAnswer:
        request_id = str(uuid.uuid4())
        extra: dict[str, str] = {}
        admitted = False
        try:
            self._authenticate(request)
            self._spent.spend(now)
            admitted = True
            status, content = 200, self._content(endpoint, request, now)
            if "meta" in content:
                content["links"] = _links(request, content["links"], content["meta"]["total"])
        except _Refusal as refusal:
            status, content = refusal.status, error_body(refusal.status, request_id, refusal.message)
            extra = refusal.headers
        headers = {
            "content-type": "application/json; charset=utf-8",
            "date": formatdate(now, usegmt=True),
            "x-request-id": request_id,
            **self._spent.headers(now),
            **extra,
        }
        return DemoAnswer(status, content, headers, request_id, admitted)

    def _content(self, endpoint: str, request: web.Request, now: float) -> dict[str, Any]:
        if endpoint == "unknown":
            raise _Refusal(404 if request.method == "GET" else 405)
        return self._contents[endpoint](request.query, int(request.match_info.get("droplet_id", 0)), now)

    def _authenticate(self, request: web.Request) -> None:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not token or (self.token is not None and token != self.token):
            raise _Refusal(401)

    def _droplets(self, query: Mapping[str, str], _: int, now: float) -> dict[str, Any]:
        kind, tag, name = query.get("type"), query.get("tag_name"), query.get("name")
        if tag is not None and (kind is not None or name is not None):
            raise _Refusal(422, "tag_name can not be combined with type or name.")
        if kind not in (None, "droplets", "gpus"):
            raise _Refusal(422, "type must be droplets or gpus.")
        records = self.account.droplets(now)
        if tag is not None:
            # It is not documented whether `tag_name` finds droplets with GPUs. Here it does.
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
        # `type` selects public images, and this account has none.
        records: Sequence[Any] = () if kind is not None else self.account.images(now)
        if tag is not None:
            records = [record for record in records if tag in (_field(record, "tags") or ())]
        return _page("images", records, query, {"pages": {}})


def is_gpu(record: object) -> bool:
    """Whether it is the record of a droplet with a GPU, which only `type=gpus` lists."""
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
    """One page of a listing. `single`: the links if there is only one page; the document's examples differ in it."""
    page, per_page = _page_of(query)
    return {
        key: list(records[(page - 1) * per_page : page * per_page]),
        "links": single,
        "meta": {"total": len(records)},
    }


def _links(request: web.Request, single: dict[str, Any], total: int) -> dict[str, Any]:
    """Links as whole URLs of the host that was asked. A page after the last has no links to later pages."""
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


def error_body(status: int, request_id: str, message: str | None = None) -> dict[str, Any]:
    identifier, text = ERRORS.get(status, ("example_error", "some error message"))
    return {"id": identifier, "message": message or text, "request_id": request_id}


def encode(content: Any) -> bytes:
    try:
        return msgspec.json.encode(content)
    except (ValueError, OverflowError, TypeError):
        return json.dumps(content).encode()
