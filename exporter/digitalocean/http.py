"""Sends one request to DigitalOcean's API within the budget and within limits of time and size; explains its failure.

The token is only sent to the configured host: redirects are not followed.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
import random
import re
import socket
import ssl
import time
import zlib
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Protocol
from urllib.parse import urlencode, urlsplit

# Otherwise httpx imports it during the first request, which blocks the event loop.
import anyio._backends._asyncio  # noqa: F401
import httpx
import msgspec

from exporter import __version__
from exporter.clock import Clock
from exporter.cooperative import STEP
from exporter.digitalocean.budget import HOUR, MINUTE, Budget, BudgetSpent, utc_text
from exporter.digitalocean.errors import (
    ApiError,
    NotFound,
    OutOfBudget,
    Refused,
    ServerError,
    Throttled,
    Unauthorized,
    Unreachable,
    Unreadable,
)
from exporter.digitalocean.records import MAX_BODY, UnreadableBody
from exporter.threads import ThreadPool, ThreadPoolError

FILES_WITHIN = 10.0
"""Seconds that reading the token or the certificate authorities may take."""
RETRIES = 2
"""How often a request is sent again after a broken connection, a time limit or a 5xx."""

_PAUSES = (0.5, 1.0)
_CERTIFICATES = ThreadPool("certificates", 1)
"""Loading certificates keeps one core busy for 0.1 s. One load at a time leaves the other cores to scrapes."""
_HEADERS = {
    "Accept": "application/json",
    "Accept-Encoding": "gzip",
    "Connection": "keep-alive",
    "User-Agent": f"digitalocean-backup-exporter/{__version__}",
}
NOT_THE_API = "check that api_url is the API's address, and that no proxy answers instead of the API"

_CHUNK = 64 * 1024
_ERROR_BODY = 16 * 1024
_ERROR_PATIENCE = 1.0

# These libraries log each request at the level info, and its details at debug.
for _noisy in ("httpx", "httpcore"):
    logging.getLogger(_noisy).setLevel(logging.WARNING)


class Observer(Protocol):
    """Is called for each request and answer. The exporter's own metrics implement it."""

    def sent(self, endpoint: str, code: str, seconds: float) -> None:
        """A request was sent, also if it is a retry. `code` is the HTTP status, or `error` if no answer came."""

    def throttled(self, seconds: float) -> None:
        """Requests were delayed for so long, by the budget or because the API asked for it. The budget reports this."""

    def rejected(self, endpoint: str, count: int) -> None:
        """So many records of an answer could not be understood."""

    def rate_limit(self, limit: float | None, remaining: float | None, reset: float | None) -> None:
        """An answer's `ratelimit-` headers. `None`: missing, or not a number."""

    def clock_skew(self, seconds: float) -> None:
        """By how many seconds an answer's `Date` was ahead of the exporter's clock; negative if it was behind."""


class NullObserver:
    """An observer that does nothing."""

    def sent(self, endpoint: str, code: str, seconds: float) -> None: ...
    def throttled(self, seconds: float) -> None: ...
    def rejected(self, endpoint: str, count: int) -> None: ...
    def rate_limit(self, limit: float | None, remaining: float | None, reset: float | None) -> None: ...
    def clock_skew(self, seconds: float) -> None: ...


@dataclass(frozen=True, slots=True)
class ApiAnswer:
    """A whole answer."""

    status: int
    headers: httpx.Headers
    body: bytes
    sent_at: float
    """When the request was sent, in Unix seconds."""


class Http:
    """Sends an account's requests. Raises `ApiError` and nothing else."""

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        budget: Budget,
        clock: Clock,
        observer: Observer,
        *,
        timeout: float,
        concurrency: int,
        proxy: str | None,
        budget_of: Callable[[str], Budget] | None = None,
    ) -> None:
        """`budget_of` gives the budget of a new token. Without it, a new token uses the budget of the old one."""
        self.deadline = math.inf
        """Until when requests may be sent and answers may come, in Unix seconds of the clock."""
        self.clock_skew: float | None = None
        """By how many seconds, at least, the last `Date` of the API was ahead of the clock. `None`: none came yet."""
        # httpx would send a name and password in the address instead of the token, and errors would show them.
        self.base_url = re.sub(r"//[^/@]*@", "//", base_url.rstrip("/"))
        self.timeout = timeout
        self._read_token = token
        self._token: str | None = None
        self.budget = budget
        self._budget_of = budget_of
        self._files = ThreadPool("token", 1)
        self._clock = clock
        self._observer = observer
        self._in_flight = asyncio.Semaphore(concurrency)
        self._proxy = proxy
        self._tls: ssl.SSLContext | None = None
        self._idle: list[httpx.AsyncHTTPTransport] = []
        """Transports that send no request now. Each has one connection at most and is closed with a request that fails:
        one transport with all connections would keep those that hang after CONNECT, until no request got one."""

    async def close(self) -> None:
        """Closes the connections."""
        idle, self._idle = self._idle, []
        for transport in idle:
            await transport.aclose()

    async def refresh_token(self) -> None:
        """Reads the token again, at the beginning of a poll. If that fails, the last token stays in use.

        Raises Unauthorized if the token cannot be read, or if no token can look like that. Other errors of the function
        that reads the token are not caught.
        """
        try:
            token = await self._files.run(self._read_token, within=self._limit(FILES_WITHIN))
        except (OSError, ValueError, ThreadPoolError) as error:
            raise Unauthorized("token", f"the token cannot be read: {self._quote(str(error))}") from error
        if not re.fullmatch(r"[\x21-\x7e]+", token):
            what = "is empty" if not token else "has a space, a line break or another character that no token has"
            raise Unauthorized("token", f"the token {what}: write only the token into its source")
        if token != self._token:
            if self._budget_of is not None:
                self.budget = self._budget_of(token)
            elif self._token is not None:
                self.budget.forget_headers()
            self._token = token

    def _limit(self, seconds: float) -> float:
        """So many seconds, or what is left of the poll if that is less."""
        return max(0.0, min(seconds, (self.deadline - self._clock.now()) / self._clock.speed))

    async def get(self, endpoint: str, path: str, params: Mapping[str, str], keep: int) -> ApiAnswer:
        """The answer to a request, with a status from 200 to 299. Sends the request again if that may help."""
        failures = refusals = 0
        while True:
            try:
                answer = await self._attempt(endpoint, path, params, keep)
            except (Unreachable, ServerError) as error:
                failures += 1
                pause = _PAUSES[min(failures, len(_PAUSES)) - 1] * random.uniform(0.5, 1.5)  # noqa: S311  # only jitter
                if failures > RETRIES or self._clock.now() + pause >= self.deadline:
                    times = f" (asked {failures} times)" if failures > 1 else ""
                    unheard = isinstance(error, Unreachable)
                    remedy = "; check the network, and a proxy or firewall between" if unheard else ""
                    raise type(error)(endpoint, f"{error}{times}{remedy}") from error
                await self._clock.sleep(pause)
                continue
            if answer.status != 429:
                return answer
            refusals += 1
            now = self._clock.now()
            wait = _wait_after_429(answer.headers, now)
            # If the API refuses again and again and always asks to wait one second, wait longer each time.
            wait = max(wait, min(MINUTE, wait * 2.0 ** min(10, max(0, refusals - 3))))
            until = now + wait
            self.budget.hold_until(until)
            if until > self.deadline:
                raise Throttled(
                    endpoint,
                    f"{self.where(path)} answered 429, too many requests: no request is sent before {utc_text(until)};"
                    " if this happens often, lower rate_limit.per_hour, or raise poll.interval or rate_limit.reserve",
                    until,
                )

    async def _attempt(self, endpoint: str, path: str, params: Mapping[str, str], keep: int) -> ApiAnswer:
        """Sends a request once. The answer's status is from 200 to 299, or 429."""
        if self._token is None:
            await self.refresh_token()
        await self._set_up(endpoint)
        async with self._in_flight:
            try:
                ticket = await self.budget.acquire(self.deadline, keep)
            except BudgetSpent as error:
                raise OutOfBudget(endpoint, f"{self.where(path)} was not sent: {error}", error.until) from error
            try:
                async with self._transport() as transport:
                    answer = await self._send(transport, endpoint, path, params, ticket)
            finally:
                self.budget.close(ticket)
        if answer.status == 429:
            return answer
        self.budget.accepted()
        if not 200 <= answer.status < 300:
            raise self._refusal(endpoint, path, answer)
        kind = answer.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
        if kind and not re.fullmatch(r"(application|text)/([\w.-]+\+)?json", kind):
            raise Unreadable(
                endpoint,
                f"{self.where(path)} answered {answer.status} with {self._quote(kind)} instead of JSON; {NOT_THE_API}",
            )
        return answer

    async def _send(
        self, transport: httpx.AsyncHTTPTransport, endpoint: str, path: str, params: Mapping[str, str], ticket: int
    ) -> ApiAnswer:
        where = self.where(path)
        code = "error"
        begun = time.perf_counter()
        sent_at = self._clock.now()
        limit = self._limit(self.timeout)
        try:
            request = httpx.Request(
                "GET",
                _with_params(self.base_url + path, params),
                headers={**_HEADERS, "Authorization": f"Bearer {self._token}"},
                # httpx does not close a connection that is cancelled while it is being made: limit that, too.
                extensions={"timeout": {"connect": 0.45 * limit}},
            )
            async with asyncio.timeout(limit), aclosing(await transport.handle_async_request(request)) as response:
                code = str(response.status_code)
                self._learn(ticket, response.headers, sent_at)
                body = b""
                if response.is_success:
                    body = await _read_body(response, MAX_BODY)
                else:
                    # The text of an error only helps people; the status decides.
                    with suppress(Exception):
                        async with asyncio.timeout(_ERROR_PATIENCE):
                            body = await _read_body(response, _ERROR_BODY)
                return ApiAnswer(response.status_code, response.headers, body, sent_at)
        except TimeoutError as error:
            # The rest of a poll differs from request to request: as a number it would make one cause look like many.
            when = f"within {limit:.3g} s (poll.timeout)" if limit == self.timeout else "until the poll's end"
            raise Unreachable(endpoint, f"{where}: no complete answer {when}") from error
        except UnreadableBody as error:
            raise Unreadable(
                endpoint,
                f"{where} answered {code} with a body that cannot be read: {self._quote(str(error))}; {NOT_THE_API}",
            ) from None  # its text quotes a header
        except httpx.ConnectTimeout as error:
            when = f"within {0.45 * limit:.3g} s" if limit == self.timeout else "before the poll's end"
            raise Unreachable(endpoint, f"{where}: no connection {when}") from error
        except httpx.HTTPError as error:
            # Not chained: its text may contain what the server sent, and the server may send the token back.
            raise Unreachable(endpoint, f"{where}: {self._quote(_describe(error))}") from None
        except Exception as error:  # noqa: BLE001
            # Broken headers and bodies raise more than the exceptions of httpx and h11. Not chained: its text may
            # contain the request's headers.
            raise Unreadable(
                endpoint,
                f"{where}: the answer is not HTTP ({type(error).__name__}: {self._quote(str(error))}); {NOT_THE_API}",
            ) from None
        finally:
            self._observer.sent(endpoint, code, time.perf_counter() - begun)

    async def _set_up(self, endpoint: str) -> None:
        """Loads the certificate authorities, and makes the first transport, which shows whether the proxy is usable."""
        if self._tls is not None:
            return
        try:
            # In a thread: loading the certificate authorities takes longer than most requests, and a disk may hang.
            tls = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            if self.base_url.startswith("https:"):
                tls = await _CERTIFICATES.run(httpx.create_ssl_context, within=self._limit(FILES_WITHIN))
            if self._tls is None:
                self._idle.append(self._new_transport(tls))
                self._tls = tls
        except Exception as error:
            raise Unreachable(
                endpoint,
                f"no connection to {self.base_url} can be set up: {self._quote(_describe(error))};"
                " check the certificate variables of the environment",
            ) from error

    def _new_transport(self, tls: ssl.SSLContext) -> httpx.AsyncHTTPTransport:
        # Not httpx.AsyncClient, which also follows redirects and keeps cookies: neither is wanted, and both take time.
        proxy = None
        if self._proxy is not None:
            # For a proxy with TLS of its own, httpcore would load the authorities in the event loop at each connection.
            proxy = httpx.Proxy(self._proxy, ssl_context=tls if self._proxy.startswith("https:") else None)
        return httpx.AsyncHTTPTransport(
            limits=httpx.Limits(max_connections=1, keepalive_expiry=30.0),
            trust_env=False,
            proxy=proxy,
            verify=tls,
        )

    @asynccontextmanager
    async def _transport(self) -> AsyncIterator[httpx.AsyncHTTPTransport]:
        """A transport for one request, which is kept for another if this one is answered."""
        assert self._tls is not None
        # The one used last: its connection is most likely still open.
        transport = self._idle.pop() if self._idle else self._new_transport(self._tls)
        try:
            yield transport
        except BaseException:
            await transport.aclose()
            raise
        self._idle.append(transport)

    def _learn(self, ticket: int, headers: httpx.Headers, sent_at: float) -> None:
        limit, remaining, reset = (
            _number(headers.get(f"ratelimit-{name}")) for name in ("limit", "remaining", "reset")
        )
        self.budget.learn(ticket, limit, remaining, reset)
        if limit is not None or remaining is not None or reset is not None:
            self._observer.rate_limit(limit, remaining, reset)
        date = _http_date(headers.get("date"))
        if date is not None:
            # `Date` has a resolution of one second, so differences within the request's own duration are ignored.
            behind, ahead = date + 1.0 - sent_at, date - self._clock.now()
            self.clock_skew = max(ahead, min(0.0, behind))
            self._observer.clock_skew(self.clock_skew)

    def _refusal(self, endpoint: str, path: str, answer: ApiAnswer) -> ApiError:
        """The error for a status outside 200 to 299."""
        status, kind = answer.status, answer.headers.get("content-type", "").lower()
        said = self._quote(_api_message(answer.body))
        what = f"{self.where(path)} answered {status}" + (f' ("{said}")' if said else "")
        match status:
            case 401:
                return Unauthorized(endpoint, f"{what}: the token was refused; it is wrong, expired or revoked")
            case 403:
                return Unauthorized(
                    endpoint, f"{what}: the token may not read this; it needs the scopes droplet:read and image:read"
                )
            case 404 if "html" not in kind:
                return NotFound(endpoint, f"{what}: it does not exist; if it should, check api_url")
            case 404:
                return Refused(endpoint, f"{what} with a page of HTML, so it is not the API: check api_url")
            case _ if 300 <= status < 400:
                return Refused(
                    endpoint,
                    f"{what}, a redirect to {self._quote(_host_of(answer.headers.get('location', '')))}: the token was"
                    " not sent there; set api_url to the API's own address",
                )
            case _ if status >= 500:
                return ServerError(endpoint, f"{what}: the API failed; see https://status.digitalocean.com")
        return Refused(endpoint, f"{what}: the request was refused; {NOT_THE_API}")

    def where(self, path: str) -> str:
        return f"GET {self.base_url}{path}"

    def _quote(self, text: str) -> str:
        """Text from a server, made safe for a message. A server may send the token back, also in another case."""
        if self._token:
            text = re.sub(re.escape(self._token), "[token]", text, flags=re.IGNORECASE)
        return _clean(text)


def _clean(text: str, length: int = 200) -> str:
    """The text on one short line, without control characters."""
    text = " ".join("".join(char if char.isprintable() else " " for char in text[: length * 4]).split())
    return text if len(text) <= length else text[: length - 3] + "..."


def _with_params(url: str, params: Mapping[str, str]) -> str:
    return f"{url}{'&' if '?' in url else '?'}{urlencode(params)}" if params else url


async def _read_body(response: httpx.Response, limit: int) -> bytes:
    """The body, unpacked in steps. Raises UnreadableBody if it is too large or not packed by gzip."""
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity", "gzip", "x-gzip"):
        raise UnreadableBody(f"it is packed as {encoding}, but the request only accepts gzip")
    packed = encoding in ("gzip", "x-gzip")
    body = bytearray()
    gzip = _Gunzip()
    since = time.perf_counter()
    async for chunk in response.aiter_raw():
        for piece in gzip.feed(chunk) if packed else (chunk,):
            body += piece
            if len(body) > limit:
                raise UnreadableBody(f"it is larger than {limit // 1024} KiB")
            # One read of the socket may hold thousands of small chunks, or a little that unpacks to much.
            if time.perf_counter() - since > STEP:
                await asyncio.sleep(0)
                since = time.perf_counter()
    if packed:
        gzip.finish()
    return bytes(body)


class _Gunzip:
    """Unpacks gzip in steps of limited size, however large the unpacked data is."""

    def __init__(self) -> None:
        self._member = zlib.decompressobj(wbits=31)
        self._begun = False

    def feed(self, data: bytes) -> Iterator[bytes]:
        try:
            while data:
                if self._member.eof:
                    self._member = zlib.decompressobj(wbits=31)
                self._begun = True
                yield self._member.decompress(data, _CHUNK)
                data = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        except zlib.error as error:
            raise UnreadableBody(f"its header says gzip, and it is not gzip: {error}") from error

    def finish(self) -> None:
        if self._begun and not self._member.eof:
            raise UnreadableBody("its gzip data ends too early")


def _describe(error: BaseException) -> str:
    """The cause of a connection's failure, as the system says it."""
    found: BaseException | None = error
    seen: list[BaseException] = []
    while found is not None and found not in seen and len(seen) < 20:
        seen.append(found)
        if isinstance(found, BaseExceptionGroup):
            found = found.exceptions[0]
            continue
        found = found.__cause__ or found.__context__
    for one in seen:
        if isinstance(one, ssl.SSLCertVerificationError):
            return f"the server's certificate cannot be trusted: {one.verify_message}"
        if isinstance(one, ssl.SSLError):
            return f"TLS failed: {one.reason or one}"
        if isinstance(one, socket.gaierror):
            return f"the name of the host cannot be resolved: {one.strerror}"
    for one in reversed(seen):
        if isinstance(one, OSError) and one.errno is not None:
            return os.strerror(one.errno)
    return str(error) or type(error).__name__


def _api_message(body: bytes) -> str:
    """The message of the API's error object; empty if there is none."""
    try:
        parsed: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return ""
    message = parsed.get("message") if isinstance(parsed, dict) else None
    return message if isinstance(message, str) else ""


def _host_of(location: str) -> str:
    try:
        return urlsplit(location).hostname or "another path"
    except ValueError:
        return "an address that is not valid"


def _number(text: str | None) -> float | None:
    """A header's number; `None` if it is missing or not a number."""
    if text is None or not re.fullmatch(r"[+-]?[0-9]{1,18}(\.[0-9]{1,18})?", text.strip(), re.ASCII):
        return None
    return float(text)


def _http_date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        date = parsedate_to_datetime(text)
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, TypeError, IndexError, OverflowError, OSError):
        return None


def _wait_after_429(headers: httpx.Headers, now: float) -> float:
    """Seconds that a 429 asks to wait: at least one, at most an hour, after which every request has expired."""
    retry_after = headers.get("retry-after")
    if retry_after is not None:
        seconds = _number(retry_after)
        if seconds is None:
            date = _http_date(retry_after)
            seconds = 0.0 if date is None else date - now
        return min(HOUR, max(1.0, seconds))
    reset = _number(headers.get("ratelimit-reset"))
    if reset is not None and now < reset <= now + HOUR:
        return max(1.0, reset - now)
    return MINUTE
