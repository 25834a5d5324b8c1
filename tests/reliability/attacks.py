"""Clients that mean harm, and what they cost the exporter: the longest scrape meanwhile, and the memory.

Exporter, attackers and probe are processes of their own, so that none waits for another.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import itertools
import os
import socket
import ssl
import tempfile
import time
import urllib.parse
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import bcrypt

from tests.reliability.section import Section, Told, table
from tests.support.api_process import api
from tests.support.certificates import Authority
from tests.support.measured_process import MIB
from tests.support.processes import COMMAND, Exporter, exporter

DROPLETS = 3_000
SECONDS = 5.0
"""How long each attack lasts."""
AFTER = 2.0
"""Seconds after it during which the exporter is still watched."""
PROBED_EVERY = 0.05
PATIENCE = 60.0
"""Seconds for a scrape."""
BLOCK = 64 * 1024

MOST_FAILED = 0.05
"""Of the scrapes, where hundreds of clients fight for a few dozen connections."""

USER, PASSWORD = "prometheus", "a password"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()

HEAD = b"GET %s HTTP/1.1\r\nHost: x\r\n%s\r\n"
POST = b"POST / HTTP/1.1\r\nHost: x\r\n%s\r\n"
CHUNKED = POST % b"Transfer-Encoding: chunked\r\n"
HEADERS = b"GET / HTTP/1.1\r\n"


@dataclass(frozen=True, slots=True)
class Target:
    """What is attacked."""

    host: str
    port: int
    tls: bool = False

    def context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        return context


Work = Callable[[Target, float], Awaitable[None]]
"""An attack: on what, and until when by the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Attack:
    name: str
    work: Work
    locked: bool = False
    """Whether the exporter serves over TLS and asks for a password, which the attacker does not know."""
    files: int | None = None
    """The most files that the exporter may have open."""
    longest: float = 0.3
    """Seconds that a scrape may take."""
    growth: float = 100.0
    """MiB that it may take. The shipped memory limit is 512 MiB; nothing a client sends may come near half of it."""


@dataclass(slots=True)
class Suffered:
    """What an attack did. Times are seconds, memory is resident and in MiB."""

    scrapes: list[float] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    """Scrapes without a whole answer."""
    before: float = 0.0
    most: float = 0.0
    log: list[str] = field(default_factory=list)
    """Its lines meanwhile."""

    @property
    def longest(self) -> float:
        return max(self.scrapes)

    @property
    def growth(self) -> float:
        return self.most - self.before


# What the attackers do


@contextlib.asynccontextmanager
async def connected(target: Target) -> AsyncIterator[asyncio.StreamWriter]:
    """A connection that is never read from."""
    _, writer = await asyncio.open_connection(target.host, target.port, ssl=target.context(), limit=1024)
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    try:
        yield writer
    finally:
        writer.transport.abort()


async def again_and_again(end: float, count: int, once: Callable[[], Awaitable[None]]) -> None:
    """So many at the same time do something that ends with their connection, and do it again."""

    async def attacker() -> None:
        while time.monotonic() < end:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, TimeoutError):
                async with asyncio.timeout(end - time.monotonic()):
                    await once()
            await asyncio.sleep(0)

    await asyncio.gather(*(attacker() for _ in range(count)))


async def pour(target: Target, end: float, *, begin: bytes, rest: bytes, count: int = 30) -> None:
    """Begins with this, and then sends that until the connection ends."""

    async def once() -> None:
        async with connected(target) as writer:
            writer.write(begin)
            while not writer.transport.is_closing():
                writer.write(rest)
                await asyncio.wait_for(writer.drain(), 5.0)

    await again_and_again(end, count, once)


async def trickle(target: Target, end: float, *, begin: bytes, rest: bytes, count: int = 1000) -> None:
    """Begins with this, and then sends that little by little."""

    async def once() -> None:
        async with connected(target) as writer:
            writer.write(begin)
            while not writer.transport.is_closing():
                writer.write(rest)
                await asyncio.sleep(1.0)

    await again_and_again(end, count, once)


async def crowd(target: Target, end: float, *, count: int, send: bytes = b"") -> None:
    """Keeps so many connections open that send no more than this, and opens anew those that were closed."""

    async def once() -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port)
        try:
            writer.write(send)
            await reader.read()
        finally:
            writer.transport.abort()

    await again_and_again(end, count, once)


async def stop_reading(target: Target, end: float, *, count: int, send: bytes) -> None:
    """So many ask and never read; those that are let go come back."""

    async def once() -> None:
        async with connected(target) as writer:
            writer.write(send)
            while not writer.transport.is_closing():
                await asyncio.sleep(0.5)
                writer.write(b"\r\n")

    await again_and_again(end, count, once)


async def sip(target: Target, end: float, *, count: int) -> None:
    """So many ask for everything and read just enough not to count as stalled."""

    async def once() -> None:
        async with connected(target) as writer:
            writer.write(HEAD % (b"/metrics", b""))
            sock = writer.get_extra_info("socket")
            while not writer.transport.is_closing():
                await asyncio.sleep(0.2)
                with contextlib.suppress(BlockingIOError):
                    os.read(sock.fileno(), 4096)

    await again_and_again(end, count, once)


async def hurry(target: Target, end: float, *, requests: Sequence[bytes], count: int = 50, wait: bool = True) -> None:
    """So many connect, send one of the requests, read a little of the answer and connect anew."""
    sent = itertools.cycle(requests)

    async def once() -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.context())
        try:
            writer.write(next(sent))
            await asyncio.wait_for(reader.read(BLOCK), 0.5 if wait else 0.01)
        finally:
            writer.transport.abort()

    await again_and_again(end, count, once)


async def guess(target: Target, end: float, *, count: int = 50) -> None:
    """So many try a new password with each request."""
    numbers = itertools.count()

    async def once() -> None:
        reader, writer = await asyncio.open_connection(target.host, target.port, ssl=target.context())
        try:
            while True:
                told = base64.b64encode(f"{USER}:{next(numbers)}".encode())
                writer.write(HEAD % (b"/metrics", b"Authorization: Basic %s\r\n" % told))
                await reader.readuntil(b"\r\n\r\n")
        finally:
            writer.transport.abort()

    await again_and_again(end, count, once)


HEALTHY = HEAD % (b"/-/healthy", b"")
METRICS = HEAD % (b"/metrics", b"")
FAMILIES = HEAD % (b"/metrics?" + b"&".join([b"name[]=digitalocean_backup_droplet_info"] * 200), b"")
SEARCHES = [HEAD % (b"/?q=a+b+c+%d" % number, b"Accept-Encoding: gzip\r\n") for number in range(1000)]
UPGRADE = HEAD % (b"/", b"Connection: upgrade\r\nUpgrade: websocket\r\n")
PACKED = POST % b"Content-Encoding: gzip\r\nContent-Length: 99999999\r\n"


def client_hello() -> bytes:
    """The first message of a TLS handshake."""
    message = ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(ssl.MemoryBIO(), message, server_hostname="x").do_handshake()
    return message.read()


FEW = 128
"""Files; some systems allow no more."""

ATTACKS = (
    Attack("30 connections: a chunk header without end", partial(pour, begin=CHUNKED + b"1;", rest=b"a" * BLOCK)),
    Attack("30 connections: chunks of one byte", partial(pour, begin=CHUNKED, rest=b"1\r\nx\r\n" * 10_000)),
    Attack("30 connections: an upgrade, and then zeros", partial(pour, begin=UPGRADE, rest=bytes(BLOCK))),
    Attack("30 connections: a compressed body without end", partial(pour, begin=PACKED, rest=bytes(BLOCK))),
    Attack("30 connections: what is no HTTP", partial(pour, begin=b"", rest=b"NONSENSE\r\n\r\n" * 5000)),
    Attack("30 connections: a header without end", partial(pour, begin=HEADERS + b"A: ", rest=b"a" * BLOCK)),
    Attack("30 connections: headers without end", partial(pour, begin=HEADERS, rest=b"A: b\r\n" * 10_000)),
    Attack("30 connections: empty lines without end", partial(pour, begin=b"", rest=b"\r\n" * 30_000)),
    Attack(
        "1 connection: requests without end, no answer read", partial(pour, begin=b"", rest=HEALTHY * 1500, count=1)
    ),
    Attack("30 connections: requests without end, no answer read", partial(pour, begin=b"", rest=HEALTHY * 1500)),
    Attack("30 connections: scrapes without end, no answer read", partial(pour, begin=b"", rest=METRICS * 1500)),
    Attack("1,000 connections: headers that trickle", partial(trickle, begin=HEADERS, rest=b"A: b\r\n"), longest=1.0),
    Attack("1,500 readers that stop reading", partial(stop_reading, count=1500, send=METRICS), longest=1.5),
    Attack("1,000 readers of 20 kB a second", partial(sip, count=1000), longest=1.0),
    Attack("6,000 silent connections", partial(crowd, count=6000), longest=1.0),
    Attack("6,000 silent connections, 4,096 files allowed", partial(crowd, count=6000), files=4096, longest=1.0),
    Attack(f"300 silent connections, {FEW} files allowed", partial(crowd, count=300), files=FEW, longest=1.0),
    Attack(f"300 readers of 20 kB a second, {FEW} files allowed", partial(sip, count=300), files=FEW, longest=1.0),
    Attack(f"300 silent, {FEW} files allowed, TLS", partial(crowd, count=300), files=FEW, locked=True, longest=1.0),
    Attack("2,000 silent connections, TLS", partial(crowd, count=2000), locked=True, longest=1.0),
    Attack("2,000 TLS handshakes that stop", partial(crowd, count=2000, send=client_hello()), locked=True, longest=3.0),
    Attack("50 clients: TLS handshakes, one after the other", partial(hurry, requests=[b""]), locked=True, longest=1.0),
    Attack("50 clients that guess passwords, TLS", guess, locked=True, longest=1.0),
    Attack("50 clients: scrapes, one after the other", partial(hurry, requests=[METRICS]), longest=1.0),
    Attack("50 clients: single families, one after the other", partial(hurry, requests=[FAMILIES]), longest=1.0),
    Attack("50 clients: searches of the page, one after the other", partial(hurry, requests=SEARCHES), longest=1.0),
    Attack(
        "50 clients: searches whose answer nobody awaits", partial(hurry, requests=SEARCHES, wait=False), longest=1.0
    ),
)


# What is watched meanwhile


def run_attack(attack: Attack, target: Target, end: float) -> None:
    asyncio.run(_bounded(attack.work(target, end), end))


async def _bounded(work: Awaitable[None], end: float) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(end - time.monotonic()):
            await work


def probe(target: Target, end: float) -> tuple[list[float], list[str]]:
    """Scrapes until the end, each by a connection of its own: how long each took, and what went wrong."""
    context = target.context()
    request = HEAD % (
        b"/metrics",
        f"Authorization: {AUTHORIZATION}\r\nAccept-Encoding: gzip\r\nConnection: close\r\n".encode(),
    )
    took, failed = [], []
    while time.monotonic() < end:
        begun = time.perf_counter()
        try:
            with contextlib.ExitStack() as stack:
                sock = stack.enter_context(socket.create_connection((target.host, target.port), timeout=PATIENCE))
                if context is not None:
                    sock = stack.enter_context(context.wrap_socket(sock, suppress_ragged_eofs=False))
                sock.sendall(request)
                answer = b"".join(iter(partial(sock.recv, 2**20), b""))
            head, _, body = answer.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0] or -1)
            if not head.startswith(b"HTTP/1.1 200 ") or len(body) != length:
                failed.append(f"{head[:40]!r}, {len(body)} bytes of {length}")
        except OSError as error:
            failed.append(repr(error))
        took.append(time.perf_counter() - begun)
        time.sleep(PROBED_EVERY)
    return took, failed


def tried(attack: Attack, seconds: float = SECONDS, droplets: int = DROPLETS) -> Suffered:
    """The attack on an exporter of so many Droplets."""
    with (
        api(droplets) as url,
        ProcessPoolExecutor(2) as others,
        serving(url, locked=attack.locked, files=attack.files) as (running, target),
    ):
        pid = running.process.pid
        suffered = Suffered(before=_resident(pid))
        lines = len(running.log)
        end = time.monotonic() + seconds
        probing = others.submit(probe, target, end + AFTER)
        attacking = others.submit(run_attack, attack, target, end)
        while time.monotonic() < end + AFTER:
            suffered.most = max(suffered.most, _resident(pid))
            time.sleep(0.05)
        attacking.result()
        suffered.scrapes, suffered.failed = probing.result()
        suffered.log = running.log[lines:]
        return suffered


@contextlib.contextmanager
def serving(url: str, *, locked: bool, files: int | None) -> Iterator[tuple[Exporter, Target]]:
    """An exporter that has polled, and where it serves."""
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        config = folder / "config.yaml"
        config.write_text(
            f"accounts: [{{name: production, token_env: TOKEN_OF_THE_ATTACKED, api_url: {url}}}]\n"
            "poll: {interval: 1h, timeout: 1m}\nstate_file: null\n"
        )
        arguments = [f"--config.file={config}"]
        if locked:
            Authority().issue().write(folder, "server")
            stored = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(10)).decode()
            (folder / "web.yml").write_text(
                f"tls_server_config: {{cert_file: server.crt, key_file: server.key}}\n"
                f"basic_auth_users: {{{USER}: {stored}}}\n"
            )
            arguments.append(f"--web.config.file={folder / 'web.yml'}")
        command = COMMAND if files is None else ("sh", "-c", f'ulimit -n {files}; exec "$@"', "sh", *COMMAND)
        with exporter(*arguments, command=command, TOKEN_OF_THE_ATTACKED="a" * 20) as running:
            running.line('event="poll finished"', PATIENCE)
            address = urllib.parse.urlsplit(running.line(r"metrics=(https?://\S+?)/metrics")[1])
            target = Target(address.hostname or "", address.port or 0, locked)
            probe(target, time.monotonic() + 1.0)  # what only the first scrape costs, such as checking the password
            yield running, target


def _resident(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096 / MIB


def wrong(attack: Attack, suffered: Suffered, *, longest: float) -> list[str]:
    """What an attack did that none may do; `longest`: seconds that a scrape may take."""
    found = []
    if len(suffered.failed) > MOST_FAILED * len(suffered.scrapes):
        found.append(f"{len(suffered.failed)} of {len(suffered.scrapes)} scrapes failed: {suffered.failed[0]}")
    if suffered.longest > longest:
        found.append(f"a scrape took {suffered.longest:.2f} s")
    if suffered.growth > attack.growth:
        found.append(f"the memory grew by {suffered.growth:.0f} MiB")
    if len(suffered.log) > 1:
        found.append(f"{len(suffered.log)} lines in the log: {suffered.log[:2]}")
    return [f"{attack.name}: {problem}" for problem in found]


_COLUMNS = (
    "attack",
    "scrapes meanwhile",
    "of those failed",
    "the longest",
    "memory at most",
    "of it since the attack began",
)


def _told(found: Sequence[Suffered]) -> Told:
    rows = [
        (
            attack.name,
            f"{len(one.scrapes)}",
            f"{len(one.failed)}",
            f"{1000 * one.longest:.0f} ms",
            f"{one.most:.0f} MiB",
            f"{max(0.0, one.growth):.0f} MiB",
        )
        for attack, one in zip(ATTACKS, found, strict=True)
    ]
    head = f"Each for {SECONDS:.0f} s on an exporter of {DROPLETS:,} Droplets, from the address of the scraper itself."
    problems = [
        problem
        for attack, one in zip(ATTACKS, found, strict=True)
        for problem in wrong(attack, one, longest=attack.longest)
    ]
    return Told([head, "", *table(_COLUMNS, rows)], problems)


SECTION = Section(
    "Attacks by clients without credentials",
    planned=[f"| {attack.name} |" for attack in ATTACKS],
    jobs=[partial(tried, attack) for attack in ATTACKS],
    tell=_told,
    alone=True,
)
