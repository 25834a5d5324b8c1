"""A server on loopback and clients on bare sockets, to measure what the one grants the others."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import time
from collections.abc import AsyncIterator, Callable, Iterable
from dataclasses import dataclass

from exporter.web.connection import Limits
from exporter.web.server import Answer, Handler, Server, text_answer
from exporter.web.settings import WebSettings

GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


async def hello(_request: object) -> Answer:
    return text_answer("hello\n")


@contextlib.asynccontextmanager
async def serving(
    respond: Handler = hello, settings: WebSettings | None = None, limits: Limits | None = None
) -> AsyncIterator[Server]:
    server = Server(respond, settings, limits=limits)
    await server.listen("127.0.0.1", 0)
    try:
        yield server
    finally:
        await server.stop()
        await asyncio.sleep(0.01)


@dataclass(frozen=True, slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Client:
    """A connection by hand."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def reply(self, *, head: bool = False) -> Reply:
        try:
            return await self._reply(head=head)
        except asyncio.IncompleteReadError:
            raise ConnectionResetError("the server ended the connection") from None

    async def _reply(self, *, head: bool) -> Reply:
        start, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        length = 0 if head else int(headers.get("content-length", 0))
        return Reply(int(start.split()[1]), headers, await self.reader.readexactly(length))

    async def ask(self, request: bytes = GET) -> Reply:
        await self.send(request)
        return await self.reply(head=request.startswith(b"HEAD"))

    async def seconds_open(self, sends: Iterable[bytes] = (), every: float = 0.0) -> float:
        """Sends these, one after the other, and returns how long it took the server to end the connection."""
        begun = time.perf_counter()
        ended = asyncio.ensure_future(self._ended())
        for data in sends:
            if ended.done():
                break
            with contextlib.suppress(ConnectionError):
                await self.send(data)
            await asyncio.wait([ended], timeout=every)
        async with asyncio.timeout(20):
            await ended
        return time.perf_counter() - begun

    async def _ended(self) -> None:
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def close(self) -> None:
        self.writer.transport.abort()


@contextlib.asynccontextmanager
async def connected(server: Server, *, tls: ssl.SSLContext | None = None) -> AsyncIterator[Client]:
    host, port = server.addresses[0]
    reader, writer = await asyncio.open_connection(
        host, port, ssl=tls, server_hostname="localhost" if tls else None, limit=2**26
    )
    client = Client(reader, writer)
    try:
        yield client
    finally:
        client.close()
        await asyncio.sleep(0)


async def asked(server: Server, request: bytes = GET, *, tls: ssl.SSLContext | None = None) -> Reply:
    async with connected(server, tls=tls) as client:
        return await client.ask(request)


async def eventually(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():  # noqa: ASYNC110  # there is nobody to tell us
            await asyncio.sleep(0.01)
