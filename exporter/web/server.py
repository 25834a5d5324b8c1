"""The HTTP server, with a limit on everything that a client can make the exporter keep or wait for.

aiohttp parses requests and frames answers. This module and `connection` add the limits that aiohttp lacks: for clients
that stop reading, for TLS clients that stay silent, for too many connections, and for the time that a stop takes.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import math
import os
import resource
import socket
from asyncio import sslproto
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import attrgetter
from typing import Any, cast

import structlog
from aiohttp import hdrs, web

from exporter.threads import ThreadPool, ThreadPoolError
from exporter.web.connection import HEADERS, Connection, Limits
from exporter.web.settings import WebSettings
from exporter.web.turns import Turns

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
"""Open files that are kept for everything except connections: the API, the state file, the configuration. If the system
allows many open files, an eighth of them is kept."""
BACKLOG = 4096
"""Clients that may wait until the exporter accepts their connection."""
ACCEPTED_AT_ONCE = 16
"""Clients that are accepted in one step of the loop, before others are answered."""
ANSWERED_AT_ONCE = 4
"""Requests whose answers begin in one step of the loop."""
HANDSHAKES_AT_ONCE = 4
"""TLS handshakes that begin in one step of the loop."""
CROWD = 16
"""Requests. If more are being answered, a client that has ended its side of the connection counts as gone."""
PAUSE_WHEN_FULL = 0.01
"""Seconds for which no client is accepted after there was no room for another connection."""
IDLE_AFTER = 0.1
"""Seconds that a client has for its TLS handshake, for its request and to read on, while new clients wait for room."""
WARN_EVERY = 600.0
"""Seconds between two warnings of too many connections."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request. Its body is in pieces, which are joined only as they are sent."""

    pieces: Sequence[bytes]
    status: int = 200
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


Handler = Callable[[web.BaseRequest], Awaitable[Answer]]


def text_answer(text: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A short answer in plain text."""
    return Answer((text.encode(),), status, headers=headers or {})


def request_header(request: web.BaseRequest, name: str) -> str:
    """The value of a header of the request; empty if it is missing. Repeated lines are joined (RFC 9110, 5.3)."""
    return ", ".join(request.headers.getall(name, []))


class Server:
    """Answers on any number of addresses until it is stopped."""

    def __init__(
        self,
        respond: Handler,
        settings: WebSettings | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        """`respond` makes the answer to a request. Without `settings`: plain HTTP for everybody."""
        self.limits = limits or Limits()
        self.connections: dict[Connection, None] = {}
        """The open connections, the oldest first."""
        self.tls_connections: dict[Connection, None] = {}
        """Those whose TLS handshake has begun, the oldest first."""
        self.slow: dict[Connection, float] = {}
        """The connections whose client does not read its answer fast enough, and since when by the loop's clock; the
        one that has waited the longest is the first."""
        self._respond = respond
        self._settings = settings or WebSettings()
        files = raise_file_limit()
        self.most_connections = min(self.limits.connections, max(files // 2, files - max(FILES_KEPT, files // 8)))
        # Nothing is made for a client that has gone.
        self._manager = web.Server(self._handle, handler_cancellation=True)
        self._listeners: list[socket.socket] = []
        self._tls: dict[str, Any] = {}
        self._none_open = asyncio.Event()
        # Without turns, thousands of requests that arrive together would be answered before anything else is done. From
        # Python 3.12 on, this is also true of requests that one client sends without waiting for the answers.
        self._turns = Turns(ANSWERED_AT_ONCE)
        self._handshake_turns = Turns(HANDSHAKES_AT_ONCE, self._room_for_tls)
        self._answering = 0
        self._warned_at = -math.inf
        self._log = structlog.get_logger()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening TCP socket."""
        return [sock.getsockname()[:2] for sock in self._listeners if sock.family in (socket.AF_INET, socket.AF_INET6)]

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
                    bound.append(_bound_socket(family, kind, protocol, address))
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
        if self._settings.context is not None:
            # asyncio gives each TLS connection a buffer of 256 KiB, and this attribute is the only way to ask for less:
            # two thousand silent clients would take half a gigabyte.
            sslproto.SSLProtocol.max_size = TLS_BUFFER
            self._tls = {
                "ssl": self._settings.context,
                "ssl_handshake_timeout": self.limits.handshake,
                "ssl_shutdown_timeout": self.limits.goodbye,
            }
        with contextlib.suppress(OSError):
            # Connections inherit this. By default the system may keep far more for a client that stops reading.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER)
        sock.setblocking(False)
        sock.listen(BACKLOG)
        self._listeners.append(sock)
        self._listen(sock)

    def _listen(self, listener: socket.socket) -> None:
        if listener in self._listeners:
            asyncio.get_running_loop().add_reader(listener, self._accept, listener)

    def _accept(self, listener: socket.socket) -> None:
        """Accepts clients that wait: a few at a time, and never more than there is room for.

        asyncio would accept all of them, and would have no open files left before a connection could be ended.
        """
        room = self.most_connections - len(self.connections)
        if room <= 0:
            self._make_room(self.connections, self.most_connections, "the limit of connections is reached")
            self._pause(listener)
        for _ in range(min(room, ACCEPTED_AT_ONCE)):
            try:
                sock, address = listener.accept()
            except (BlockingIOError, InterruptedError, ConnectionAbortedError):
                return
            except OSError as error:
                problem = f"no connection can be accepted: {error.strerror}"
                self._make_room(self.connections, self.most_connections, problem)
                self._pause(listener)
                return
            sock.setblocking(False)
            connection = Connection(self, self._manager)
            self.connections[connection] = None
            connection.begin(sock, address[0] if address else "", self._tls)

    def _pause(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        loop.remove_reader(listener)
        loop.call_later(PAUSE_WHEN_FULL, self._listen, listener)

    async def wait_for_handshake(self, connection: Connection, address: str) -> None:
        """Waits until the TLS handshake may begin."""
        await self._handshake_turns.wait(address)
        self.tls_connections[connection] = None

    def _room_for_tls(self) -> int:
        """How many more TLS handshakes may begin. If none, it ends connections, so that some may soon."""
        most = self.limits.tls_connections
        room = most - len(self.tls_connections)
        if room <= 0:
            self._make_room(self.tls_connections, most, "the limit of TLS connections is reached")
        return room

    def _make_room(self, connections: Collection[Connection], most: int, problem: str) -> None:
        """Closes the oldest idle connections; else the slowest readers; else one connection.

        A client has a moment for its TLS handshake, for its request and to read on, before it counts as idle or slow.
        Meanwhile, new clients wait.
        """
        now = asyncio.get_running_loop().time()
        some = max(1, most // 8)
        idle = sorted(islice((one for one in connections if one.idle), some), key=attrgetter("idle_from"))
        for connection in (
            [one for one in idle if now - one.idle_from > IDLE_AFTER]
            or [one for one, since in islice(self.slow.items(), some) if now - since > IDLE_AFTER]
            or idle[:1]  # rather than one that is being answered
            or list(islice(connections, 1))
        ):
            connection.abort()
        if now - self._warned_at > WARN_EVERY:
            self._warned_at = now
            # The limit of TLS connections is one of memory.
            files = (
                "" if connections is self.tls_connections else ", or allow more open files (LimitNOFILE=, ulimit -n)"
            )
            self._log.warning(
                "too many connections",
                problem=problem,
                open=len(connections),
                most=most,
                effect="the connections that have been idle the longest are ended",
                remedy=f"let only scrapers reach the port{files}",
            )

    async def stop(self) -> None:
        """Accepts no more requests, waits for the answers being sent, and aborts those that take too long."""
        for listener in self._listeners:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        self._listeners.clear()
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

    def add_slow(self, connection: Connection) -> None:
        """A client does not read its answer fast enough. Such answers take memory: if there are too many, those that
        have waited the longest are ended."""
        now = asyncio.get_running_loop().time()
        self.slow[connection] = now
        for longest, since in list(islice(self.slow.items(), max(0, len(self.slow) - self.limits.slow_readers))):
            if now - since > IDLE_AFTER:
                del self.slow[longest]
                longest.abort()

    @property
    def crowded(self) -> bool:
        """Whether so many requests are being answered that none should be for a client that has perhaps gone."""
        return self._answering > CROWD

    def closed(self, connection: Connection) -> None:
        """A connection has ended."""
        self.connections.pop(connection, None)
        self.tls_connections.pop(connection, None)
        self.slow.pop(connection, None)
        if not self.connections:
            self._none_open.set()

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.answering = True
        self._answering += 1
        try:
            await self._turns.wait(request.remote or "")
            answer = await self._answer(request)
            try:
                async with asyncio.timeout(self.limits.answer):
                    return await self._send(request, answer)
            except TimeoutError:
                connection.abort()
                raise ConnectionResetError("the client was too slow") from None
        finally:
            connection.answering = False
            self._answering -= 1

    async def _answer(self, request: web.BaseRequest) -> Answer:
        try:
            return await self._respond(request)
        except Exception:  # noqa: BLE001  # after a bug in one answer, the connection must still work
            self._log.exception("request failed", method=request.method, path=request.path)
            return text_answer("This request failed; the exporter's log says why.\n", 500)

    async def _send(self, request: web.BaseRequest, answer: Answer) -> web.StreamResponse:
        response = web.StreamResponse(
            status=answer.status,
            headers={
                **HEADERS,
                hdrs.CONTENT_TYPE: answer.content_type,
                **answer.headers,
                **self._settings.headers,
            },
        )
        response.content_length = sum(map(len, answer.pieces))
        if cast(Connection, request.protocol).last_answer:
            response.force_close()
        await response.prepare(request)
        if request.method != hdrs.METH_HEAD:
            for part in _parts(answer.pieces, self.limits.buffered):
                await response.write(part)
                await request.writer.drain()  # aiohttp itself waits only sometimes
        await response.write_eof()
        return response


def _parts(pieces: Iterable[bytes], size: int) -> Iterable[bytes | memoryview]:
    """The same bytes in parts of at most `size`: longer pieces are cut, shorter neighbours are joined."""
    short: list[bytes] = []
    length = 0
    for piece in pieces:
        if short and length + len(piece) > size:
            yield b"".join(short)
            short, length = [], 0
        if len(piece) <= size:
            short.append(piece)
            length += len(piece)
        else:
            whole = memoryview(piece)
            for start in range(0, len(piece), size):
                yield whole[start : start + size]
    if short:
        yield b"".join(short)


def _bound_socket(family: int, kind: int, protocol: int, address: Any) -> socket.socket:
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
