"""HTTP on sockets, with a limit on everything that a client can make the exporter wait for or hold.

aiohttp parses and frames; what it leaves open is closed here: clients that stop reading, TLS clients that stay silent,
its own answers to what is no HTTP, a stop that takes no longer than promised.
"""

from __future__ import annotations

import asyncio
import contextlib
import resource
from asyncio import sslproto
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

import structlog
from aiohttp import hdrs, web
from aiohttp.http_exceptions import LineTooLong

from exporter.web.answer import Answer, text
from exporter.web.app import Respond
from exporter.web.settings import Settings

SERVER = "digitalocean-backup-exporter"
"""No version: who wants to attack one should have to find out."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What a client may take; seconds and bytes. Idle, stalled and trickling clients are gone within five seconds."""

    silence: float = 4.0
    """For a request to arrive with all its headers, on a new connection as on one that has been used."""
    body: float = 3.0
    """For a body to arrive after the answer; nothing here reads one."""
    handshake: float = 3.5
    """For a TLS handshake."""
    goodbye: float = 2.0
    """For the end of a TLS connection."""
    stall: float = 5.0
    """Without a byte read by a client that has an answer to read. Noticed after at most twice as long."""
    answer: float = 120.0
    """For a whole answer to be read, however large. Prometheus gives up earlier by itself."""
    stop: float = 3.5
    """For the answers in hand when the exporter is told to stop."""
    line: int = 8190
    """Bytes of the request line, and of each header."""
    headers: int = 64
    buffered: int = 64 * 1024
    """Bytes of an answer that wait in the exporter for a slow client."""
    connections: int = 8192
    """Open at once; the longest idle ones make room. Fewer where the system allows fewer files."""


class Server:
    """Answers on any number of addresses until it is stopped."""

    def __init__(
        self,
        respond: Respond,
        settings: Settings | None = None,
        *,
        limits: Limits | None = None,
    ) -> None:
        """`respond` makes the answer to a request."""
        self.limits = limits or Limits()
        self.connections: dict[Connection, None] = {}
        """Those open, the oldest first."""
        self.most_connections = min(self.limits.connections, max(64, raise_file_limit() - FILES_KEPT))
        self._respond = respond
        self._settings = settings or Settings()
        self._manager = web.Server(self._handle)
        self._listeners: list[asyncio.Server] = []
        self._none_open = asyncio.Event()
        self._log = structlog.get_logger()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        """Host and port of each listening socket."""
        return [sock.getsockname()[:2] for listener in self._listeners for sock in listener.sockets]

    async def listen(self, host: str, port: int) -> None:
        """Listens on one more address; an empty host means every interface. Raises `OSError`."""
        tls: dict[str, Any] = {}
        if self._settings.context is not None:
            # asyncio gives each connection a buffer of 256 KiB, and has no other place to ask for less: two thousand
            # silent clients would take half a gigabyte.
            sslproto.SSLProtocol.max_size = TLS_BUFFER
            tls = {
                "ssl": self._settings.context,
                "ssl_handshake_timeout": self.limits.handshake,
                "ssl_shutdown_timeout": self.limits.goodbye,
            }
        loop = asyncio.get_running_loop()
        self._listeners.append(await loop.create_server(self._connection, host or None, port, backlog=1024, **tls))

    async def stop(self) -> None:
        """Takes no more requests, lets the answers in hand end, and ends what has not ended in time."""
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
        await asyncio.sleep(0)  # their ends are noticed

    def opened(self, connection: Connection) -> None:
        """A connection was made; where there are too many, the one idle the longest makes room."""
        self.connections[connection] = None
        if len(self.connections) > self.most_connections:
            idle = next((other for other in self.connections if not other.answering), connection)
            idle.abort()

    def closed(self, connection: Connection) -> None:
        self.connections.pop(connection, None)
        if not self.connections:
            self._none_open.set()

    def _connection(self) -> Connection:
        return Connection(self, self._manager)

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        connection = cast(Connection, request.protocol)
        connection.answering = True
        try:
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
        except Exception:  # noqa: BLE001  # a fault of ours must cost this answer, not the connection's others
            self._log.exception("request failed", method=request.method, path=request.path)
            return text("Something went wrong here; the exporter's log says what.\n", 500)

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


class Connection(web.RequestHandler):
    """One client's connection."""

    __slots__ = ("_buffered", "_ending", "_server", "_socket", "_watch", "answering")

    def __init__(self, server: Server, manager: web.Server) -> None:
        limits = server.limits
        super().__init__(
            manager,
            loop=asyncio.get_running_loop(),
            keepalive_timeout=limits.silence,
            lingering_time=limits.body,
            access_log=None,  # type: ignore[arg-type]  # as aiohttp's own runners let it be
            max_line_size=limits.line,
            max_field_size=limits.line,
            max_headers=limits.headers,
            auto_decompress=False,
        )
        self.answering = False
        self._server = server
        self._socket: asyncio.Transport | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._ending: asyncio.TimerHandle | None = None
        self._buffered = 0

    def finish(self) -> None:
        """Ends the connection: at once if it is idle, after its answer if it has one in hand."""
        if self.answering:
            self.close()
        else:
            self.force_close()

    def abort(self) -> None:
        """Ends the connection with whatever has not been sent."""
        if self._socket is not None:
            self._socket.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._socket = cast(asyncio.Transport, transport)
        # Over TLS asyncio would buffer eight times as much.
        self._socket.set_write_buffer_limits(self._server.limits.buffered)
        self._server.opened(self)
        super().connection_made(transport)

    def connection_lost(self, exc: BaseException | None) -> None:
        for timer in (self._watch, self._ending):
            if timer is not None:
                timer.cancel()
        self._server.closed(self)
        self._socket = None
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]  # as asyncio has it; aiohttp ends the connection
        """A client that will send no more, as socat and ncat are after their input, may still read its answer."""
        # Of a request that has just arrived the answer is begun by then.
        asyncio.get_running_loop().call_soon(self.finish)
        # Over TLS there is no end of one direction alone.
        return self._socket is not None and self._socket.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        super().pause_writing()
        self._watch_reader()

    def resume_writing(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().resume_writing()

    def _watch_reader(self) -> None:
        if self._socket is not None:
            self._buffered = self._socket.get_write_buffer_size()
            self._watch = asyncio.get_running_loop().call_later(self._server.limits.stall, self._is_it_reading)

    def _is_it_reading(self) -> None:
        if self._socket is not None and self._socket.get_write_buffer_size() >= self._buffered:
            self.abort()
        else:
            self._watch_reader()

    async def start(self) -> None:
        """Answers request after request; then what is still unsent has a moment to be read."""
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
        message: str | None = None,  # noqa: ARG002  # it quotes what the client sent
    ) -> web.StreamResponse:
        """The answer to what is no HTTP, and the end of an answer that broke off."""
        if isinstance(exc, ConnectionError) or request.writer.output_size > 0:
            raise ConnectionResetError("the connection broke off")
        what = "Bad request.\n"
        if isinstance(exc, LineTooLong):
            status, what = 431, "The request line or a header is too long.\n"
        response = web.Response(
            status=status, text=what, headers={hdrs.SERVER: SERVER, "X-Content-Type-Options": "nosniff"}
        )
        response.force_close()
        return response

    def log_exception(self, *args: Any, **kw: Any) -> None:
        """What clients do wrong is theirs to read about; faults of ours are logged where they happen."""
        structlog.get_logger().debug("connection broke off", problem=repr(kw.get("exc_info") or args[:1]))


def _parts(pieces: Iterable[bytes], size: int) -> Iterable[bytes | memoryview]:
    """The pieces, none of them longer than this."""
    for piece in pieces:
        if len(piece) <= size:
            yield piece
        else:
            whole = memoryview(piece)
            for start in range(0, len(piece), size):
                yield whole[start : start + size]


TLS_BUFFER = 32 * 1024
"""Bytes; twice a TLS record."""

FILES_KEPT = 64
"""Files that clients' connections leave for everything else: the API, the state file, the configuration."""


def raise_file_limit() -> int:
    """Takes as many open files as the system grants; returns how many."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS grants less than it says
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            soft = hard
    return soft if soft != resource.RLIM_INFINITY else 2**20
