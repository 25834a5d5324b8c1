from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import gzip
import itertools
import resource
import socket
import subprocess
import sys
import time
import weakref
from dataclasses import replace

import pytest
import structlog
from aiohttp import web

from exporter.web.connection import SERVER, Limits
from exporter.web.server import IDLE_AFTER, SEND_BUFFER, Answer, Server, raise_file_limit, text_answer
from tests.support.serving import GET, asked, connected, eventually, hello, serving

SHORT = Limits(silence=0.3, body=0.3, handshake=0.3, goodbye=0.3, stall=0.2, answer=30.0, stop=0.5)
POST = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
MIB = bytes(range(256)) * 4096


class Pieces(list[bytes]):
    """An answer's pieces whose end can be noticed."""


# Clients that take their time


async def test_incomplete_requests_are_disconnected_within_five_seconds() -> None:
    """By the limits as they are, idle, stalled and trickling clients are gone within 5 s; others notice nothing."""
    endless = itertools.repeat
    slow = {
        "silent": ([], 0.0),
        "stalled in the request line": ([b"GET / HT"], 0.0),
        "stalled in the headers": ([b"GET / HTTP/1.1\r\nHost: x\r\nA: b"], 0.0),
        "trickling the request line": (itertools.chain([b"GET /"], endless(b"a")), 0.2),
        "trickling a header": (itertools.chain([b"GET / HTTP/1.1\r\nA: "], endless(b"b")), 0.2),
        "trickling headers": (itertools.chain([b"GET / HTTP/1.1\r\n"], endless(b"A: b\r\n")), 0.2),
        "idle after an answer": ([GET], 0.0),
        "stalled in the body": ([POST], 0.0),
        "trickling the body": (itertools.chain([POST], endless(b"x")), 0.2),
        "stalled in a chunk": ([CHUNKED + b"5\r\nab"], 0.0),
        "trickling chunks": (itertools.chain([CHUNKED], endless(b"1\r\nx\r\n")), 0.2),
        "waiting to be told to go on": ([POST.replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")], 0.0),
        "upgrading to something else": (
            itertools.chain(
                [GET.replace(b"\r\n\r\n", b"\r\nConnection: upgrade\r\nUpgrade: h2c\r\n\r\n")], endless(b"x")
            ),
            0.2,
        ),
        "tunnelling": (itertools.chain([b"CONNECT x:1 HTTP/1.1\r\nHost: x\r\n\r\n"], endless(b"x")), 0.2),
    }

    async with serving() as server:

        async def measured(sends: object, every: float) -> float:
            async with connected(server) as client:
                return await client.seconds_open(sends, every)  # type: ignore[arg-type]

        async def others() -> float:
            slowest = 0.0
            for _ in range(20):
                begun = time.perf_counter()
                assert (await asked(server)).body == b"hello\n"
                slowest = max(slowest, time.perf_counter() - begun)
                await asyncio.sleep(0.1)
            return slowest

        *seconds, slowest = await asyncio.gather(*(measured(*how) for how in slow.values()), others())
        assert slowest < 3.0
        ends = dict(zip(slow, seconds, strict=True))
        assert {name: after for name, after in ends.items() if after > 5.0} == {}
        await eventually(lambda: not server.connections)


async def test_the_time_limit_is_per_request() -> None:
    """The time limit is per request, so a connection in use stays open longer."""
    async with serving(limits=SHORT) as server, connected(server) as client:
        for _ in range(4):
            assert (await client.ask()).status == 200
            await asyncio.sleep(0.15)


async def test_two_thousand_open_connections_leave_scrapes_alone() -> None:
    """With 2,000 connections that send half a request, a scrape is answered as ever."""
    assert raise_file_limit() >= 4200, (
        "this test opens 2,000 connections, both ends of each; raise the open files limit"
    )
    async with serving(limits=Limits(silence=30.0, stop=0.1)) as server:
        address = server.addresses[0]
        waiting = []
        try:
            for number in range(2000):
                client = socket.socket()
                client.setblocking(False)
                waiting.append(client)
                await asyncio.get_running_loop().sock_connect(client, address)
                client.send(GET[: number % 20])
            await eventually(lambda: len(server.connections) == 2000)
            begun = time.perf_counter()
            for _ in range(10):
                assert (await asked(server)).status == 200
            assert time.perf_counter() - begun < 20.0
            assert len(server.connections) >= 2000
        finally:
            for client in waiting:
                client.close()


@pytest.mark.parametrize("idle_after", [IDLE_AFTER, 60.0])
async def test_too_many_connections_make_room_for_new_ones(idle_after: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the most that may be open the one idle the longest is ended, even if none has been for long; one that is
    being answered is not."""
    monkeypatch.setattr("exporter.web.server.IDLE_AFTER", idle_after)
    going_on = asyncio.Event()

    async def respond(request: web.BaseRequest) -> Answer:
        if request.path == "/slow":
            await going_on.wait()
        return text_answer("hello\n")

    async with serving(respond, limits=Limits(silence=60.0)) as server:
        server.most_connections = 3
        async with connected(server) as busy, connected(server) as idle, connected(server) as younger:
            await busy.send(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda: any(connection.answering for connection in server.connections))
            await asyncio.sleep(1.5 * IDLE_AFTER)
            assert (await asked(server)).status == 200
            assert await idle.seconds_open() < 20.0
            assert (await younger.ask()).status == 200
            going_on.set()
            assert (await busy.reply()).status == 200


async def test_a_listener_without_files_tries_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no connection can be accepted, the log says so once, and clients are accepted as soon as it can be done."""
    problems = iter([OSError(errno.EMFILE, "Too many open files")] * 3)

    class Listener(socket.socket):
        def accept(self) -> tuple[socket.socket, object]:
            for problem in problems:
                raise problem
            return super().accept()

    with structlog.testing.capture_logs() as logs:
        server = Server(hello)
        listener = Listener()
        listener.bind(("127.0.0.1", 0))
        await server.listen_on(listener)
        async with connected(server) as idle:
            assert (await idle.ask()).status == 200
            assert (await asked(server)).status == 200
        await server.stop()
    assert [log["problem"] for log in logs] == ["no connection can be accepted: Too many open files"]
    assert "LimitNOFILE" in logs[0]["remedy"]


def test_as_many_files_may_be_open_as_the_system_grants() -> None:
    """The soft limit of open files is raised to the hard one, and the number of clients follows from it."""
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (256, 700));"
        "from exporter.web.server import Server, raise_file_limit; import asyncio;"
        "print(raise_file_limit(), resource.getrlimit(resource.RLIMIT_NOFILE)[0]);"
        "exec('async def most(): return Server(None).most_connections'); print(asyncio.run(most()))"
    )
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[1] >= 700
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["700", "700", "613"]


# Clients that do not read


async def test_a_client_that_stops_reading_is_disconnected() -> None:
    """A client that stops in the middle of 25 MB is disconnected, and nothing of its answer is kept."""
    made: list[weakref.ref[Pieces]] = []

    async def respond(_request: object) -> Answer:
        pieces = Pieces([MIB] * 25)
        made.append(weakref.ref(pieces))
        return Answer(pieces)

    async with serving(respond, limits=SHORT) as server, connected(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        begun = time.perf_counter()
        await client.send(GET)
        await eventually(lambda: bool(server.connections) and bool(made))
        await eventually(lambda: not server.connections)
        assert time.perf_counter() - begun < 20.0
        await asyncio.sleep(0.05)
        gc.collect()
        assert made[0]() is None


async def test_of_many_slow_readers_the_slowest_are_let_go() -> None:
    """Each answer that waits for its reader takes memory, so that there is a limit to them; newer ones go on."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 25)

    async with serving(respond, limits=Limits(slow_readers=3)) as server, contextlib.AsyncExitStack() as stack:
        clients = []
        for _ in range(5):
            clients.append(await stack.enter_async_context(connected(server)))
            clients[-1].writer.transport.pause_reading()  # type: ignore[attr-defined]
            await clients[-1].send(GET)
            await eventually(lambda: any(one.answering for one in server.connections))
            await asyncio.sleep(0.05)
        await eventually(lambda: len(server.connections) == 3)
        clients[-1].writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert len((await clients[-1].reply()).body) == 25 * len(MIB)
        buffered = [one._socket.get_write_buffer_size() for one in server.connections if one._socket]
        assert max(buffered) <= server.limits.buffered


async def test_a_slow_reader_gets_everything() -> None:
    """A client that reads little by little, for longer than it may pause, gets the whole answer."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 25)

    limits = replace(SHORT, stall=1.0)
    async with serving(respond, limits=limits) as server:
        host, port = server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, limit=2**16)
        writer.write(GET)
        await reader.readuntil(b"\r\n\r\n")
        begun = time.perf_counter()
        got = bytearray()
        for _ in range(25):
            got += await reader.readexactly(len(MIB))
            await asyncio.sleep(0.1)
        assert got == MIB * 25
        assert time.perf_counter() - begun > 2 * limits.stall
        writer.close()


async def test_an_answer_must_be_read_in_time() -> None:
    """A client that reads just enough not to stall has a limit for the answer as a whole."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 100)

    limits = Limits(stall=5.0, answer=0.6)
    async with serving(respond, limits=limits) as server:
        host, port = server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, limit=2**10)
        writer.write(GET)
        begun = time.perf_counter()
        with contextlib.suppress(ConnectionError):
            while await reader.read(100_000):  # noqa: ASYNC110  # it reads slowly, it does not wait
                await asyncio.sleep(0.02)
        assert 0.5 < time.perf_counter() - begun < 10.0, "all of it would take twenty seconds"
        writer.transport.abort()


async def test_a_client_that_only_sends_is_disconnected() -> None:
    """Requests sent one behind the other by a client that reads no answer end with the connection."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB[:50_000]])

    async with serving(respond, limits=SHORT) as server, connected(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        client.writer.write(GET * 2000)
        await eventually(lambda: bool(server.connections))
        await eventually(lambda: not server.connections)


@pytest.mark.parametrize("request_", [GET, GET.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n")])
async def test_a_client_that_does_not_read_the_end_is_disconnected(request_: bytes) -> None:
    """When a connection is closed, unsent data waits for the reader for a short time only."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 25)

    # With so much room the answer is handed over whole, and only the connection's end waits for the reader.
    limits = replace(SHORT, buffered=2**26)
    async with serving(respond, limits=limits) as server, connected(server) as client:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(request_)
        await eventually(lambda: bool(server.connections))
        (connection,) = server.connections
        await eventually(lambda: not connection.answering)
        await eventually(lambda: not server.connections)


# Requests that are none


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"b" * 9000 + b"\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"a" * 9000 + b": b\r\n\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: x\r\n" + b"A: b\r\n" * 100 + b"\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(200) + b"\r\n\r\n", 400),
        (b"<script>alert(1)</script>\r\n\r\n", 400),
        (b"GET / HTTP/9.9\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/2.0\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/0.9\r\n\r\n", 400),
        (b"GET /\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\x00b\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"SCRIPT / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
    ],
)
async def test_what_is_no_request_gets_a_short_answer(request_: bytes, status: int) -> None:
    """Long lines, many headers and data that is not HTTP get 431 or 400 with a reason, and the connection ends."""
    with structlog.testing.capture_logs() as logs:
        async with serving() as server, connected(server) as client:
            reply = await client.ask(request_)
            assert reply.status == status
            assert reply.headers["server"] == SERVER
            assert reply.body in (b"Bad request.\n", b"The request line or a header is too long.\n")
            assert await client.seconds_open() < 3.0
    assert [log for log in logs if log["log_level"] != "debug"] == []


@pytest.mark.parametrize(
    "request_",
    [
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nabcde",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET / HTTP/1.0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    ],
    ids=["length", "chunked", "chunked in HTTP/1.0"],
)
async def test_a_request_with_a_body_is_the_last_of_its_connection(request_: bytes) -> None:
    """What comes before such a request is answered, and so is the request itself; what follows it is not."""
    async with serving() as server, connected(server) as client:
        await client.send(GET + request_ + GET)
        assert (await client.reply()).status == 200
        last = await client.reply()
        assert last.status == 200
        assert last.headers.get("connection", "close") == "close"
        assert await client.reader.read() == b""


async def test_addresses_take_turns() -> None:
    """A client whose request comes after hundreds from another address is answered as one of the first."""
    answered: list[str] = []

    async def respond(request: web.BaseRequest) -> Answer:
        answered.append(request.remote or "")
        return await hello(request)

    async with serving(respond) as server:
        loop = asyncio.get_running_loop()
        clients = [socket.create_connection(server.addresses[0]) for _ in range(300)]
        other = socket.create_connection(server.addresses[0], source_address=("127.0.0.2", 0))
        await eventually(lambda: len(server.connections) == 301)
        for client in [*clients, other]:
            client.sendall(GET)
        other.setblocking(False)
        assert (await loop.sock_recv(other, 100)).startswith(b"HTTP/1.1 200")
        await eventually(lambda: len(answered) == 301)
        for client in [*clients, other]:
            client.close()
    assert answered.index("127.0.0.2") < 20


async def test_many_long_headers_are_read_no_further_than_the_limit() -> None:
    """A client cannot fill the memory with headers that are each short enough."""
    async with serving() as server, connected(server) as client:
        sent = 0
        header = b"A: " + b"b" * 8000 + b"\r\n"
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n")
        while sent < 2000 and server.connections:
            try:
                await client.send(header)
            except ConnectionError:
                break
            sent += 1
            await asyncio.sleep(0)
        assert sent < 100


@pytest.mark.parametrize("host", [b"", b"\xff\xfe", b"a b", b"[::", b"x" * 5000, b"<script>", b"evil.example:99999999"])
async def test_the_host_does_not_matter(host: bytes) -> None:
    """Any Host header is accepted, and it is not repeated in the answer."""
    async with serving() as server:
        reply = await asked(server, b"GET / HTTP/1.1\r\nHost: " + host + b"\r\n\r\n")
    assert reply.status in (200, 400)
    assert reply.body in (b"hello\n", b"Bad request.\n")


async def test_a_request_without_a_host_is_answered() -> None:
    """What HTTP 1.0 clients and hand-made checks send is enough."""
    async with serving() as server:
        assert (await asked(server, b"GET / HTTP/1.0\r\n\r\n")).body == b"hello\n"
        assert (await asked(server, b"GET http://elsewhere.example/ HTTP/1.1\r\nHost: x\r\n\r\n")).body == b"hello\n"


async def test_a_client_that_has_sent_all_it_will_is_answered() -> None:
    """A client that closes its sending side after a request, as socat and ncat do, still gets the answer."""

    async def slow(_request: object) -> Answer:
        await asyncio.sleep(0.1)
        return Answer([MIB] * 3)

    async with serving(slow) as server:
        for request, length in {GET: 3 * len(MIB), b"": 0, b"GET / HT": 0}.items():
            async with connected(server) as client:
                await client.send(request)
                client.writer.write_eof()
                async with asyncio.timeout(20):
                    _, _, body = (await client.reader.read()).partition(b"\r\n\r\n")
            assert len(body) == length
        await eventually(lambda: not server.connections)


async def test_a_compressed_body_is_not_unpacked() -> None:
    """A body is never looked at, whether it would grow a thousandfold or is not what it is said to be."""
    bomb = gzip.compress(bytes(50_000_000))
    async with serving() as server:
        begun = time.process_time()
        for body in (bomb, b"no gzip at all"):
            head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(body)
            assert (await asked(server, head + body)).status == 200
            assert (await asked(server)).status == 200
        assert time.process_time() - begun < 0.3


async def test_a_fault_of_ours_is_logged_and_not_shown() -> None:
    """An exception in a handler is a 500 without details; the log has them, and the connection stays open."""

    async def respond(_request: object) -> Answer:
        raise RuntimeError("what only the log may know")

    with structlog.testing.capture_logs() as logs:
        async with serving(respond) as server, connected(server) as client:
            for _ in range(2):
                reply = await client.ask()
                assert (reply.status, reply.headers["server"]) == (500, SERVER)
                assert b"know" not in reply.body
    assert [log["event"] for log in logs if log["log_level"] == "error"] == ["request failed"] * 2


async def test_an_answer_to_head_has_no_body() -> None:
    """HEAD has the headers of GET, including its length, and the connection stays usable."""
    async with serving() as server, connected(server) as client:
        head = await client.ask(GET.replace(b"GET", b"HEAD"))
        assert head.headers["content-length"] == "6"
        assert (await client.ask()).body == b"hello\n"


# The end


async def test_a_stop_lets_the_answer_in_hand_end() -> None:
    """A stop ends idle connections at once, sends a slow reader all of its answer, and takes no new clients."""

    async def respond(request: web.BaseRequest) -> Answer:
        return Answer([MIB] * 25) if request.path == "/large" else await hello(request)

    server = Server(respond, limits=Limits(stop=5.0))
    await server.listen("127.0.0.1", 0)
    async with connected(server) as idle, connected(server) as used, connected(server) as half:
        await used.ask()
        await half.send(b"GET / HT")
        host, port = server.addresses[0]
        reader, writer = await asyncio.open_connection(host, port, limit=2**16)
        writer.write(GET.replace(b"GET /", b"GET /large"))
        await reader.readexactly(1000)
        begun = time.perf_counter()
        stopping = asyncio.ensure_future(server.stop())
        assert max(await asyncio.gather(idle.seconds_open(), used.seconds_open(), half.seconds_open())) < 3.0
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        assert not stopping.done()
        await asyncio.sleep(0.2)
        rest = bytearray()
        while piece := await reader.read(2**20):
            rest += piece
        assert rest.endswith(MIB)
        assert len(rest) > 25 * len(MIB) - 1000
        await stopping
        assert time.perf_counter() - begun < 20.0
        writer.close()


async def test_a_stop_does_not_wait_for_clients_that_do_not_read() -> None:
    """A client that does not read, or a handler that never ends, delays a stop up to the limit only."""

    async def respond(request: web.BaseRequest) -> Answer:
        if request.path == "/never":
            await asyncio.sleep(3600)
        return Answer([MIB] * 25)

    server = Server(respond, limits=Limits(stop=0.4))
    await server.listen("127.0.0.1", 0)
    async with connected(server) as client, connected(server) as other:
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(GET)
        await other.send(GET.replace(b"GET /", b"GET /never"))
        await eventually(lambda: [c.answering for c in server.connections] == [True, True])
        begun = time.perf_counter()
        await server.stop()
        assert 0.3 < time.perf_counter() - begun < 20.0
        assert not server.connections


async def test_several_addresses_are_served() -> None:
    """All addresses give the same answers; an address that is in use is an error."""
    async with serving() as server:
        await server.listen("127.0.0.2", 0)
        await server.listen("::1", 0)
        assert [host for host, _ in server.addresses] == ["127.0.0.1", "127.0.0.2", "::1"]
        for host, port in server.addresses:
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(GET)
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            writer.close()
        with pytest.raises(OSError, match="in use"):
            await server.listen(*server.addresses[0])


def test_limits_are_those_promised() -> None:
    """What the contract promises in seconds is what the defaults add up to."""
    limits = Limits()
    assert max(limits.silence, limits.body, limits.handshake, limits.stop, limits.stall) <= 5.0
    assert limits.answer <= 300.0
    assert limits.connections > 2000


async def test_a_name_with_an_address_that_is_absent_listens_on_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    """If a name has addresses that this machine lacks, only the others are used; with none, the start fails."""
    absent = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("2001:db8::1", 0, 0, 0))  # an address for documentation
    present = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
    found = [absent, present]
    monkeypatch.setattr("exporter.web.server.socket.getaddrinfo", lambda *_, **__: found)
    server = Server(hello)
    await server.listen("localhost", 0)
    assert [host for host, _ in server.addresses] == ["127.0.0.1"]
    found = [absent]
    with pytest.raises(OSError, match=r"."):
        await server.listen("localhost", 0)
    await server.stop()


async def test_the_system_buffers_little_for_each_client() -> None:
    """The system's buffers for a client that does not read are limited."""
    async with serving() as server, connected(server):
        await eventually(lambda: bool(server.connections))
        [connection] = server.connections
        assert connection._socket is not None
        sock = connection._socket.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) <= 2 * SEND_BUFFER


@pytest.mark.parametrize(
    "begin",
    [
        b"NONSENSE\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 999999999\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    ],
    ids=["no HTTP", "chunk extension", "body", "upgrade"],
)
async def test_what_follows_an_odd_request_is_not_read(begin: bytes) -> None:
    """Garbage after an error, in a body or after an upgrade is left unread: it costs no memory and no time."""
    async with serving() as server, connected(server) as client:
        await eventually(lambda: bool(server.connections))
        await client.send(begin)
        await eventually(
            lambda: any(connection.done_reading for connection in server.connections) or not server.connections
        )
        [connection] = server.connections or [None]
        if connection is not None:
            assert connection._socket is not None
            assert not connection._socket.is_reading()
        assert await client.seconds_open() < 7
