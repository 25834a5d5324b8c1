"""A server on a real socket that answers with any bytes a test wants, and records what it was sent."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

Answer = Callable[["Heard", asyncio.StreamWriter], Awaitable[None]]


@dataclass(frozen=True)
class Heard:
    """A request as it arrived."""

    number: int
    """From 1."""
    target: str
    headers: dict[str, str]

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    @property
    def query(self) -> dict[str, str]:
        return dict(pair.split("=", 1) for pair in self.target.partition("?")[2].split("&") if pair)


class Server:
    """Answers each request by a coroutine; `connections` counts also those that never asked anything."""

    def __init__(self, answer: Answer | bytes, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self.requests: list[Heard] = []
        self.connections = 0
        self.answer = answer
        self._tls = tls
        self._host = host
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Server:
        self._server = await asyncio.start_server(self._serve, self._host, 0, ssl=self._tls)
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def port(self) -> int:
        assert self._server is not None
        return int(self._server.sockets[0].getsockname()[1])

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                first, *lines = head.decode("latin-1").split("\r\n")
                headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
                heard = Heard(len(self.requests) + 1, first.split(" ")[1], headers)
                self.requests.append(heard)
                if isinstance(self.answer, bytes):
                    writer.write(self.answer)
                    await writer.drain()
                    break
                await self.answer(heard, writer)
                await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError, ssl.SSLError):
            pass
        finally:
            self._tasks.discard(task)
            writer.close()


def http(
    body: bytes | Any, status: int = 200, content_type: str | None = "application/json", /, **headers: str
) -> bytes:
    """A whole answer; the names of headers are given with underscores."""
    if not isinstance(body, bytes):
        body = json.dumps(body).encode()
    lines = [f"HTTP/1.1 {status} X"]
    if content_type is not None:
        lines.append(f"content-type: {content_type}")
    if "transfer_encoding" not in headers:
        headers.setdefault("content_length", str(len(body)))
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


def droplets(*ids: int, total: int | None = None, links: Any = None) -> dict[str, Any]:
    """A page of the Droplet listing."""
    return {
        "droplets": [{"id": each} for each in ids],
        "links": links or {},
        "meta": {"total": len(ids) if total is None else total},
    }


def reset(writer: asyncio.StreamWriter) -> None:
    """End the connection with a reset instead of an orderly end."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
