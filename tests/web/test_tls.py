from __future__ import annotations

import asyncio
import contextlib
import os
import ssl
import time
import tracemalloc
import warnings
from pathlib import Path

import pytest
import structlog

from exporter.config.yaml_document import ConfigError
from exporter.web.connection import Limits
from exporter.web.server import Answer
from exporter.web.settings import WebSettings
from tests.support.certificates import Authority
from tests.support.serving import Client, asked, connected, eventually, serving
from tests.web.test_server import MIB, SHORT

TLS = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
AUTHORITY = Authority()
SERVER = AUTHORITY.issue()
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(32)
"""The beginning of a TLS handshake."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    AUTHORITY.write(tmp_path, "ca")
    SERVER.write(tmp_path, "server")
    return tmp_path


def settings(folder: Path, more: str = "") -> WebSettings:
    (folder / "web.yml").write_text(TLS + more)
    return WebSettings(folder / "web.yml")


def trusting(client: tuple[Path, Path] | None = None) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=AUTHORITY.cert.decode())
    if client is not None:
        context.load_cert_chain(*client)
    return context


def serial_of(client: Client) -> int:
    shown = client.writer.get_extra_info("ssl_object").getpeercert()
    return int(shown["serialNumber"], 16)


async def test_answers_go_over_tls(folder: Path) -> None:
    """A client that trusts the authority is served; one that speaks plain HTTP is not."""
    async with serving(settings=settings(folder)) as server:
        assert (await asked(server, tls=trusting())).body == b"hello\n"
        async with connected(server) as plain:
            with pytest.raises(ConnectionError):
                await plain.ask()


@pytest.mark.parametrize(
    ("more", "offered", "works"),
    [
        ("", ssl.TLSVersion.TLSv1_3, True),
        ("", ssl.TLSVersion.TLSv1_2, True),
        ("", ssl.TLSVersion.TLSv1_1, False),
        ("  min_version: TLS13\n", ssl.TLSVersion.TLSv1_2, False),
        ("  min_version: TLS13\n", ssl.TLSVersion.TLSv1_3, True),
        ("  max_version: TLS12\n", ssl.TLSVersion.TLSv1_3, False),
        ("  max_version: TLS12\n", ssl.TLSVersion.TLSv1_2, True),
    ],
)
async def test_versions_are_those_configured(folder: Path, more: str, offered: ssl.TLSVersion, works: bool) -> None:
    """TLS 1.2 is the least, and min_version and max_version hold."""
    client = trusting()
    client.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # that is why it must not work
        client.minimum_version = client.maximum_version = offered
    async with serving(settings=settings(folder, more)) as server:
        if works:
            assert (await asked(server, tls=client)).status == 200
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asked(server, tls=client)


# Certificates that change


async def test_a_renewed_certificate_is_shown(folder: Path) -> None:
    """New connections see the certificate that lies there now; those that are open go on."""
    async with serving(settings=settings(folder)) as server, connected(server, tls=trusting()) as before:
        assert serial_of(before) == SERVER.serial_number
        renewed = AUTHORITY.issue()
        with structlog.testing.capture_logs() as logs:
            renewed.write(folder, "server")
            async with connected(server, tls=trusting()) as after:
                assert serial_of(after) == renewed.serial_number
                assert (await after.ask()).status == 200
        assert [(log["event"], log["what"]) for log in logs] == [("read again", "certificate")]
        assert (await before.ask()).status == 200


@pytest.mark.parametrize("broken", ["key of another", "no certificate", "no file", "nothing", "half"])
async def test_a_broken_pair_keeps_the_old_one(folder: Path, broken: str) -> None:
    """A certificate and key that do not match, or are incomplete, change nothing and are logged."""
    renewed = AUTHORITY.issue()
    async with serving(settings=settings(folder)) as server:
        with structlog.testing.capture_logs() as logs:
            match broken:
                case "key of another":
                    (folder / "server.crt").write_bytes(renewed.cert)
                case "no certificate":
                    (folder / "server.crt").write_bytes(b"what is this?")
                case "no file":
                    (folder / "server.key").unlink()
                case "nothing":
                    (folder / "server.key").write_bytes(b"")
                case "half":
                    (folder / "server.crt").write_bytes(renewed.cert[:300])
            for _ in range(2):
                async with connected(server, tls=trusting()) as client:
                    assert serial_of(client) == SERVER.serial_number
                    assert (await client.ask()).status == 200
            await eventually(lambda: bool(logs))  # a thread reads the files
        (log,) = logs
        assert (log["log_level"], log["event"], log["what"]) == ("error", "not read again", "certificate")
        assert "server." in log["problem"]
        renewed.write(folder, "server")
        async with connected(server, tls=trusting()) as client:
            assert serial_of(client) == renewed.serial_number


async def test_what_clients_must_show_follows_the_file(folder: Path) -> None:
    """Client certificates that are asked for from now on, and another server certificate, need no restart."""
    other = AUTHORITY.issue()
    other.write(folder, "other")
    async with serving(settings=settings(folder)) as server:
        assert (await asked(server, tls=trusting())).status == 200
        (folder / "web.yml").write_text(
            TLS.replace("server.", "other.")
            + "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
        )
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asked(server, tls=trusting())
        mine = AUTHORITY.issue().write(folder, "me")
        async with connected(server, tls=trusting(client=mine)) as client:
            assert serial_of(client) == other.serial_number


# Clients' certificates


@pytest.mark.parametrize(
    ("asked_for", "shown", "works"),
    [
        ("NoClientCert", "none", True),
        ("NoClientCert", "stranger", True),
        ("VerifyClientCertIfGiven", "none", True),
        ("VerifyClientCertIfGiven", "ours", True),
        ("VerifyClientCertIfGiven", "stranger", False),
        ("RequireAndVerifyClientCert", "none", False),
        ("RequireAndVerifyClientCert", "ours", True),
        ("RequireAndVerifyClientCert", "below", True),
        ("RequireAndVerifyClientCert", "stranger", False),
    ],
)
async def test_clients_are_let_in_by_their_certificates(folder: Path, asked_for: str, shown: str, works: bool) -> None:
    """Each client_auth_type accepts the clients that the toolkit accepts, also by an intermediate authority."""
    trusted = Authority(above=Authority()) if shown == "below" else AUTHORITY
    trusted.write(folder, "clients")
    signer = Authority() if shown == "stranger" else trusted
    client = None if shown == "none" else signer.issue().write(folder, "client")
    more = "" if asked_for == "NoClientCert" else f"  client_ca_file: clients.crt\n  client_auth_type: {asked_for}\n"
    async with serving(settings=settings(folder, more)) as server:
        if works:
            assert (await asked(server, tls=trusting(client=client))).status == 200
        else:
            with pytest.raises((ssl.SSLError, ConnectionError)):
                await asked(server, tls=trusting(client=client))


# Clients that take their time


async def test_silent_tls_clients_are_gone_in_five_seconds(folder: Path) -> None:
    """Clients that never begin or never end a handshake are disconnected within 5 s; others are served meanwhile."""
    ways: tuple[list[bytes], ...] = (
        [],
        [HELLO[:3]],
        [HELLO],
        [b"\x00" * 4],
        [b"GET / HTTP/1.1\r\n\r\n"],
        [HELLO + b"\x00"] + [b"\x00"] * 60,
    )
    async with serving(settings=settings(folder)) as server:

        async def silent(sends: list[bytes]) -> float:
            async with connected(server) as client:
                return await client.seconds_open(sends, 0.1)

        async def others() -> float:
            slowest = 0.0
            for _ in range(10):
                begun = time.perf_counter()
                assert (await asked(server, tls=trusting())).status == 200
                slowest = max(slowest, time.perf_counter() - begun)
                await asyncio.sleep(0.1)
            return slowest

        *seconds, slowest = await asyncio.gather(*(silent(list(way)) for way in ways * 10), others())
        assert max(seconds) < 5.0
        assert slowest < 3.0


async def test_a_large_answer_is_read_whole_over_tls(folder: Path) -> None:
    """A reader that pauses gets all of 25 MB, and the next answer on the same connection."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 25)

    async with serving(respond, settings=settings(folder)) as server, connected(server, tls=trusting()) as client:
        for _ in range(2):
            client.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            await eventually(lambda: bool(server.slow))
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            async with asyncio.timeout(10):
                assert (await client.reply()).body == MIB * 25


async def test_clients_in_a_handshake_count(folder: Path) -> None:
    """Of the connections whose handshake has begun there is a limit; the oldest makes room; a stop ends them."""
    limits = Limits(tls_connections=5, handshake=60.0)
    async with contextlib.AsyncExitStack() as stack:
        logs = stack.enter_context(structlog.testing.capture_logs())
        server = await stack.enter_async_context(serving(settings=settings(folder), limits=limits))
        begun = [await stack.enter_async_context(connected(server)) for _ in range(5)]
        for client in begun:
            await client.send(HELLO)
            await asyncio.sleep(0.01)
        await eventually(lambda: len(server.tls_connections) == 5)
        assert (await asked(server, tls=trusting())).status == 200
        assert await begun[0].seconds_open() < 20.0
        assert len(server.tls_connections) <= 5
        started = time.perf_counter()
        await server.stop()
        assert time.perf_counter() - started < 20.0
        assert not server.connections
        assert not server.tls_connections
    (warning,) = (log for log in logs if log["event"] == "too many connections")
    assert warning["problem"] == "the limit of TLS connections is reached"
    assert warning["open"] == warning["most"] == 5
    assert "files" not in warning["remedy"], "more of them would not help"


async def test_silent_tls_clients_take_little_memory(folder: Path) -> None:
    """A client that has sent nothing costs less than 10 KiB, and one in a handshake less than 100 KiB."""
    async with serving(settings=settings(folder)) as server, contextlib.AsyncExitStack() as stack:
        tracemalloc.start()
        try:
            before, _ = tracemalloc.get_traced_memory()
            clients = [await stack.enter_async_context(connected(server)) for _ in range(50)]
            await eventually(lambda: len(server.connections) == 50)
            silent, _ = tracemalloc.get_traced_memory()
            for client in clients:
                await client.send(HELLO)
            await eventually(lambda: len(server.tls_connections) == 50)
            begun, _ = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (silent - before) / 50 < 10 * 1024
    assert (begun - before) / 50 < 100 * 1024


async def test_idle_and_trickling_tls_clients_are_gone_too(folder: Path) -> None:
    """After the handshake the limits are those of plain HTTP, and the end of TLS has one as well."""
    async with serving(settings=settings(folder), limits=SHORT) as server:

        async def slow(sends: list[bytes]) -> float:
            async with connected(server, tls=trusting()) as client:
                return await client.seconds_open(sends, 0.05)

        ways: tuple[list[bytes], ...] = (
            [],
            [b"GET / HTTP/1.1\r\nA: "] + [b"b"] * 100,
            [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"],
        )
        assert max(await asyncio.gather(*map(slow, ways))) < 3.5
        await eventually(lambda: not server.connections)


async def test_a_client_that_stops_reading_over_tls_is_disconnected(folder: Path) -> None:
    """A client that stops reading 25 MB over TLS is disconnected, and little is buffered for it."""

    async def respond(_request: object) -> Answer:
        return Answer([MIB] * 25)

    limits = Limits(stall=0.3, goodbye=0.2)
    async with (
        serving(respond, settings=settings(folder), limits=limits) as server,
        connected(server, tls=trusting()) as client,
    ):
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        await client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        await eventually(lambda: bool(server.connections))
        (connection,) = server.connections
        await eventually(lambda: connection.writing_paused)
        assert connection.transport is not None
        assert connection.transport.get_write_buffer_size() < 300_000
        await eventually(lambda: not server.connections)


@pytest.mark.parametrize("file", ["server.crt", "server.key"])
def test_a_pipe_in_a_certificates_place_is_refused(file: str, folder: Path) -> None:
    """Reading it would never end. The pair from before is used, and the next good one is."""
    made = settings(folder)
    content = (folder / file).read_bytes()
    (folder / file).unlink()
    os.mkfifo(folder / file)
    assert made.context is not None
    made.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert made._certificate is not None
    (problem,) = made._certificate.problems
    assert "this is not a regular file; name one that holds a " in problem
    with pytest.raises(ConfigError, match="not a regular file"):
        WebSettings(folder / "web.yml")
    (folder / file).unlink()
    (folder / file).write_bytes(content)
    made.context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_side=True)
    assert made.followed
