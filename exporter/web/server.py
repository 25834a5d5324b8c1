"""The HTTP server, with a limit on everything that a client can make the exporter keep or wait for.

aiohttp parses requests and frames answers. This module and `connection` add the limits that aiohttp lacks: for clients
that stop reading, for TLS clients that stay silent, for too many connections, and for the time that a stop takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import resource
import socket
from asyncio import sslproto
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

import structlog
from aiohttp import hdrs, web

from exporter.threads import ThreadPool, ThreadPoolError
from exporter.web.connection import SERVER, Connection, Limits
from exporter.web.settings import WebSettings

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"

TLS_BUFFER = 32 * 1024
"""Bytes. Twice the size of a TLS record."""

SEND_BUFFER = 64 * 1024
"""Bytes that the system keeps for each client. Linux doubles this number for its own needs (socket(7))."""

RESOLVER = ThreadPool("resolve listen addresses", 1, caller_may_work=True)
RESOLVED_WITHIN = 10.0

FIRST_SOCKET = 3
"""The number of the first file descriptor that systemd passes to the exporter."""

FILES_KEPT = 64
"""Open files that connections leave for everything else: the API, the state file, the configuration."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request. Its body is in pieces, so that it is sent without being copied."""

    pieces: Sequence[bytes]
    status: int = 200
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


Respond = Callable[[web.BaseRequest], Awaitable[Answer]]


def text(what: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A short answer in plain text."""
    return Answer((what.encode(),), status, headers=headers or {})


def header(request: web.BaseRequest, name: str) -> str:
    """The value of a header of the request; empty if it is missing. Repeated lines are joined (RFC 9110, 5.3)."""
    return ", ".join(request.headers.getall(name, []))


class Server:
    """Answers on any number of addresses until it is stopped."""

    def __init__(
        self,
        respond: Respond,
        settings: WebSettings | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        """`respond` makes the answer to a request."""
        self.limits = limits or Limits()
        self.connections: dict[Connection, None] = {}
        """The open connections, the oldest first."""
        self.most_connections = min(self.limits.connections, max(64, raise_file_limit() - FILES_KEPT))
        self._respond = respond
        self._settings = settings or WebSettings()
        self._manager = web.Server(self._handle)
        self._listeners: list[asyncio.Server] = []
        self._none_open = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening TCP socket."""
        return [
            sock.getsockname()[:2]
            for listener in self._listeners
            for sock in listener.sockets
            if sock.family in (socket.AF_INET, socket.AF_INET6)
        ]

    async def listen(self, host: str, port: int) -> None:
        """Listens on a host, or on every interface if `host` is empty. Raises `OSError`.

        A name may have several addresses, like 127.0.0.1 and ::1 for `localhost`. Addresses that this machine does not
        have, for example because IPv6 is off, are left out. One is enough.
        """
        ask = partial(socket.getaddrinfo, host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        try:
            found = await RESOLVER.run(ask, within=RESOLVED_WITHIN)
        except ThreadPoolError as error:
            raise OSError(errno.ETIMEDOUT, f"the name {host} was not resolved: {error}") from None
        bound: list[socket.socket] = []
        absent: OSError | None = None
        try:
            for family, kind, protocol, _, address in dict.fromkeys(found):
                try:
                    bound.append(_bound(family, kind, protocol, address))
                except OSError as error:
                    if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                        raise
                    absent = error
            if not bound:
                raise absent or OSError(errno.EADDRNOTAVAIL, "the name has no address")
            while bound:
                await self.listen_on(bound[0])
                del bound[0]
        finally:
            for sock in bound:
                sock.close()

    async def listen_on(self, sock: socket.socket) -> None:
        """Listens on a socket that is bound already, like those from systemd."""
        tls: dict[str, Any] = {}
        if self._settings.context is not None:
            # asyncio gives each TLS connection a buffer of 256 KiB, and this attribute is the only way to ask for less:
            # two thousand silent clients would take half a gigabyte.
            sslproto.SSLProtocol.max_size = TLS_BUFFER
            tls = {
                "ssl": self._settings.context,
                "ssl_handshake_timeout": self.limits.handshake,
                "ssl_shutdown_timeout": self.limits.goodbye,
            }
        with contextlib.suppress(OSError):
            # Connections inherit this. By default the system may keep far more for a client that stops reading.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        loop = asyncio.get_running_loop()
        self._listeners.append(await loop.create_server(self._connection, sock=sock, backlog=1024, **tls))

    async def stop(self) -> None:
        """Accepts no more requests, waits for the answers being sent, and aborts those that take too long."""
        for listener in self._listeners:
            listener.close()
        await asyncio.sleep(0)  # requests that have arrived begin to be answered
        for connection in list(self.connections):
            connection.finish()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.limits.stop):
                while self.connections:
                    self._none_open.clear()
                    await self._none_open.wait()
        for connection in list(self.connections):
            connection.abort()
        await asyncio.sleep(0)  # `connection_lost` is called for each

    def opened(self, connection: Connection) -> None:
        """A connection was made. If there are too many, the connection that has been idle the longest is ended."""
        self.connections[connection] = None
        if len(self.connections) > self.most_connections:
            idle = next((other for other in self.connections if not other.answering), connection)
            idle.abort()

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.pop(connection, None)
        if not self.connections:
            self._none_open.set()

    def _connection(self) -> Connection:
        return Connection(self, self._manager)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.answering = True
        try:
            # From Python 3.12 on a request is answered without a turn of the loop, so that a client that sends many
            # requests at once would keep it from all others. Each request takes one turn.
            await asyncio.sleep(0)
            answer = await self._answer(request)
            try:
                async with asyncio.timeout(self.limits.answer):
                    return await self._send(request, answer)
            except TimeoutError:
                connection.abort()
                raise ConnectionResetError("the client was too slow") from None
        finally:
            connection.answering = False

    async def _answer(self, request: web.BaseRequest) -> Answer:
        try:
            return await self._respond(request)
        except Exception:  # noqa: BLE001  # after a bug in one answer, the connection must still work
            self._log.exception("request failed", method=request.method, path=request.path)
            return text("This request failed; the exporter's log says why.\n", 500)

    async def _send(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status,
            headers={
                hdrs.SERVER: SERVER,
                hdrs.CONTENT_TYPE: answer.content_type,
                "X-Content-Type-Options": "nosniff",
                **answer.headers,
                **self._settings.headers,
            },
        )
        response.content_length = sum(map(len, answer.pieces))
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            for part in _parts(answer.pieces, self.limits.buffered):
                await response.write(part)
        await response.write_eof()
        return response


def _parts(pieces: Iterable[bytes], size: int) -> Iterable[bytes | memoryview]:
    """The pieces, cut so that no part is longer than `size`."""
    for piece in pieces:
        if len(piece) <= size:
            yield piece
        else:
            whole = memoryview(piece)
            for start in range(0, len(piece), size):
                yield whole[start : start + size]


def _bound(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setblocking(False)
        sock.bind(address)
    except OSError:
        sock.close()
        raise
    return sock


def systemd_sockets() -> list[socket.socket]:
    """The listening sockets from systemd (sd_listen_fds(3)). Raises `OSError` if there are none."""
    count = os.environ.pop("LISTEN_FDS", "")
    if os.environ.pop("LISTEN_PID", None) != str(os.getpid()) or not count.isdecimal() or not int(count):
        raise OSError(errno.ENOTSOCK, "systemd passed no socket")
    return [socket.socket(fileno=number) for number in range(FIRST_SOCKET, FIRST_SOCKET + int(count))]


def raise_file_limit() -> int:
    """Raises the limit of open files as far as the system allows. Returns the new limit."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS allows less than it reports
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else 2**20
