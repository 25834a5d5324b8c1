"""A wire between the exporter and the API's look-alike that can be told to fail, byte by byte."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from typing import Literal, Self
from urllib.parse import urlsplit

Ill = Literal["refuse", "reset", "close", "silent", "trickle", "noise", "flood", "tls"]

_FLOOD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 524288000\r\n\r\n"
_BLANKS = b" " * (1 << 20)


class Wire:
    """Passes everything on while `ill` is `None`.

    refuse: nobody listens. reset, close: the answer ends at a random byte, by a reset or in good order. silent: taken
    and never answered. trickle: the answer at ten bytes a second. noise: random bytes instead of HTTP. flood: 500 MB
    of blanks. tls: an alert of TLS, as one that expects it would send.
    """

    def __init__(self, url: str, seed: int = 0) -> None:
        parts = urlsplit(url)
        self._to = (str(parts.hostname), int(parts.port or 80))
        self._random = random.Random(seed)  # no secret hangs on it
        self._server: asyncio.Server | None = None
        self._port = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._ill: Ill | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._unlisten()
        await self._hang_up()

    async def fall(self, ill: Ill | None) -> None:
        """From now on the wire fails like this, or is whole again; connections that stand are cut."""
        self._ill = ill
        await self._hang_up()
        if ill == "refuse":
            self._unlisten()
        elif self._server is None:
            await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self._port)
        self._port = self._server.sockets[0].getsockname()[1]

    def _unlisten(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _hang_up(self) -> None:
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                await self._answer(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        match self._ill:
            case "silent":
                await asyncio.Event().wait()
            case "noise":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(self._random.randbytes(self._random.randrange(1, 400)))
                await writer.drain()
            case "tls":
                writer.write(b"\x15\x03\x01\x00\x02\x02\x28")
                await writer.drain()
            case "flood":
                await reader.readuntil(b"\r\n\r\n")
                writer.write(_FLOOD)
                for _ in range(500):
                    writer.write(_BLANKS)
                    await writer.drain()
            case _:
                await self._pass_on(reader, writer)

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        api_reader, api_writer = await asyncio.open_connection(*self._to)
        there = asyncio.create_task(_pump(reader, api_writer))
        try:
            if self._ill in ("reset", "close"):
                answer = await api_reader.read(1 << 16)
                writer.write(answer[: self._random.randrange(len(answer))])
                await writer.drain()
                if self._ill == "reset":
                    _reset(writer)
            elif self._ill == "trickle":
                while byte := await api_reader.read(1):
                    writer.write(byte)
                    await writer.drain()
                    await asyncio.sleep(0.1)
            else:
                await _pump(api_reader, writer)
        finally:
            there.cancel()
            with suppress(asyncio.CancelledError, OSError):
                await there
            api_writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)
        await writer.drain()


def _reset(writer: asyncio.StreamWriter) -> None:
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
