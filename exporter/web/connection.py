"""One client's connection, and the limits for it."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import structlog
from aiohttp import HttpVersion10, HttpVersion11, hdrs, web
from aiohttp.http_exceptions import LineTooLong
from aiohttp.streams import EMPTY_PAYLOAD
from aiohttp.web_protocol import _ErrInfo

if TYPE_CHECKING:
    from exporter.web.server import Server

SERVER = "digitalocean-backup-exporter"
"""The `Server` header. It contains no version, which would help an attacker."""
HEADERS = {hdrs.SERVER: SERVER, "X-Content-Type-Options": "nosniff"}
"""The headers of every answer."""

VERSIONS = (HttpVersion10, HttpVersion11)
"""The versions of HTTP that are supported. The parser accepts two more, with other formats of answers."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits for a client, in seconds and bytes. One that is idle or sends too slowly is disconnected within five
    seconds, one that stops reading its answer within ten."""

    silence: float = 4.0
    """Until a request with all its headers has arrived, on a new connection or after the last answer."""
    body: float = 3.0
    """Until a request's body has arrived after the answer. No handler reads a body."""
    handshake: float = 3.5
    """For a TLS handshake."""
    goodbye: float = 2.0
    """For the shutdown of a TLS connection."""
    stall: float = 5.0
    """Without a byte read by a client that has an answer to read. It is noticed after at most twice this time."""
    answer: float = 120.0
    """Until a whole answer has been read, however large it is. Prometheus gives up earlier."""
    stop: float = 3.5
    """For the answers that are being sent when the exporter stops."""
    line: int = 8190
    """Bytes of the request line, and of each header."""
    headers: int = 64
    """Headers of a request."""
    read: int = 16 * 1024
    """Bytes that are read and parsed at a time."""
    buffered: int = 16 * 1024
    """Bytes of an answer that wait in the exporter for a slow client."""
    connections: int = 8192
    """Open connections; a new one replaces the one that has been idle the longest. Fewer if the system allows
    fewer open files."""
    tls_connections: int = 256
    """Of these, those whose TLS handshake has begun: each takes 160 KiB. It begins when the client sends something."""
    slow_readers: int = 256
    """Answers that wait at the same time for clients that read slowly."""


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = (
        "_beginning",
        "_buffered",
        "_ending",
        "_server",
        "_socket",
        "_watch",
        "answering",
        "done_reading",
        "idle_from",
    )

    def __init__(self, server: Server, manager: web.Server) -> None:
        limits = server.limits
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.silence,
            lingering_time=limits.body,
            access_log=None,  # type: ignore[arg-type]  # aiohttp's own runners pass None too
            max_line_size=limits.line,
            max_field_size=limits.line,
            max_headers=limits.headers,
            auto_decompress=False,
        )
        self.answering = False
        self.idle_from = 0.0
        """When the client connected, or began or ended its TLS handshake, by the loop's clock."""
        self._server = server
        self._socket: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._buffered = 0
        self._beginning: asyncio.Task[Any] | None = None
        self.done_reading = False
        """Whether nothing more is read from the client."""

    def begin(self, sock: socket.socket, address: str, tls: Mapping[str, Any]) -> None:
        """Serves the client at the other end of the socket, over TLS if there are settings for it."""

        def begun(task: asyncio.Task[Any]) -> None:
            self._beginning = None  # its traceback refers to this connection, which only the collector would free
            if task.cancelled() or task.exception() is not None:  # the TLS handshake failed or was interrupted
                sock.close()
                self._server.closed(self)

        loop = asyncio.get_running_loop()
        self.idle_from = loop.time()
        self._beginning = loop.create_task(self._begin(sock, address, tls))
        self._beginning.add_done_callback(begun)

    async def _begin(self, sock: socket.socket, address: str, tls: Mapping[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(self._server.limits.handshake if tls else None):
            if tls:
                # asyncio takes much memory for TLS, so it begins only when the client has sent something.
                await _first_bytes(sock)
                await self._server.wait_for_handshake(self, address)
                self.idle_from = loop.time()
            await loop.connect_accepted_socket(lambda: self, sock, **tls)

    @property
    def idle(self) -> bool:
        """Whether the client waits for nothing."""
        return not self.answering and (self._socket is None or not self._socket.get_write_buffer_size())

    def finish(self) -> None:
        """Ends the connection: at once if it is idle, else after the answer that is being sent."""
        if self.answering:
            self.close()
        elif self._socket is None:
            self.abort()
        else:
            self.force_close()

    def abort(self) -> None:
        """Ends the connection and drops what has not been sent."""
        if self._socket is not None:
            self._socket.abort()
        elif self._beginning is not None:
            self._beginning.cancel()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        self.idle_from = asyncio.get_running_loop().time()
        # Only what the system does not take at once waits here. With 0, a TLS connection would never resume.
        self._socket.set_write_buffer_limits(1)
        if hasattr(transport, "max_size"):
            # asyncio reads 256 KiB at a time; a request is far smaller.
            transport.max_size = self._server.limits.read
        super().connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Parses requests. After an error, a request with a body or an upgrade, nothing more is read.

        aiohttp would parse more, and keep bodies and error messages until the client stops sending.
        """
        if self.done_reading:
            return
        super().data_received(data)
        for place, (message, payload) in enumerate(self._messages):
            if not isinstance(message, _ErrInfo) and message.version not in VERSIONS:
                self._messages[place] = (_ErrInfo(400, ValueError("no such version"), ""), EMPTY_PAYLOAD)
            elif not isinstance(message, _ErrInfo) and payload is EMPTY_PAYLOAD:
                continue
            self.done_reading = True
            while len(self._messages) > place + 1:
                self._messages.pop()
            break
        if (self.done_reading or self._upgraded) and self._socket is not None:
            self.done_reading = True
            self._message_tail = b""
            self._socket.pause_reading()

    @property
    def last_answer(self) -> bool:
        """Whether the answer that is being sent is the last one: no request is left, and none will be read."""
        return self.done_reading and not self._messages

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._watch, self._ending):
            if timer is not None:
                timer.cancel()
        self._server.closed(self)
        self._socket = None
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # asyncio's signature; aiohttp ends the connection
        """The client sends nothing more, like socat and ncat after their input. It may still read its answer."""
        # One step of the loop later, the answer to a request that has just arrived has begun. A client that asks and
        # leaves looks the same; among many requests, such clients would take the time of the others.
        asyncio.get_running_loop().call_soon(self.abort if self._server.crowded else self.finish)
        # With TLS, both directions end together.
        return self._socket is not None and self._socket.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()
        self._server.add_slow(self)

    def resume_writing(self) -> None:
        self._server.slow.pop(self, None)
        if self._watch is not None:
            self._watch.cancel()
        super().resume_writing()

    def _watch_reader(self) -> None:
        if self._socket is not None:
            self._buffered = self._socket.get_write_buffer_size()
            self._watch = asyncio.get_running_loop().call_later(self._server.limits.stall, self._check_reader)

    def _check_reader(self) -> None:
        if self._socket is not None and self._socket.get_write_buffer_size() >= self._buffered:
            self.abort()
        else:
            self._watch_reader()

    async def start(self) -> None:
        """Answers one request after the other. After that, the client has a moment to read what is not sent yet."""
        try:
            await super().start()
        finally:
            if self._socket is not None:
                self._ending = asyncio.get_running_loop().call_later(self._server.limits.stall, self.abort)

    def handle_error(
        self,
        request: web.BaseRequest,
        status: int = 500,
        exc: BaseException | None = None,
        message: str | None = None,  # noqa: ARG002  # not sent back, because it quotes what the client sent
    ) -> web.StreamResponse:
        """Answers a request that is not HTTP, and ends the connection if an answer was interrupted."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("the connection was interrupted")
        text = "Bad request.\n"
        if isinstance(exc, LineTooLong):
            status, text = 431, "The request line or a header is too long.\n"
        response = web.Response(status=status, text=text, headers=HEADERS)
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """Logs mistakes of clients, only at debug level. The exporter's own errors are logged where they happen."""
        structlog.get_logger().debug("connection interrupted", problem=repr(kw.get("exc_info") or args[:1]))


async def _first_bytes(sock: socket.socket) -> None:
    """Waits until the client has sent something, and leaves that in the socket. Raises `OSError` if it has left."""
    loop = asyncio.get_running_loop()
    arrived = asyncio.Event()
    loop.add_reader(sock, arrived.set)
    try:
        await arrived.wait()
    finally:
        loop.remove_reader(sock)
    if not sock.recv(1, socket.MSG_PEEK):
        raise ConnectionResetError("the client has left")
