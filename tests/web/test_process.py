"""The exporter as a process: addresses, TLS and users from files, scrapes by Prometheus, and its end."""

from __future__ import annotations

import asyncio
import base64
import json
import signal
import ssl
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable
from pathlib import Path

import bcrypt
import pytest

from tests.support.certificates import Authority
from tests.support.serving_process import started

pytestmark = pytest.mark.slow  # each test starts the exporter

HASH = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(4)).decode()
BASIC = "Basic " + base64.b64encode(b"prometheus:wonderland").decode()


def fetched(url: str, *, tls: ssl.SSLContext | None = None, authorization: str | None = None) -> bytes:
    request = urllib.request.Request(url, headers={"Authorization": authorization} if authorization else {})
    with urllib.request.urlopen(request, timeout=10, context=tls) as response:
        body: bytes = response.read()
    return body


async def test_prometheus_scrapes_over_tls_with_a_user(
    tmp_path: Path, tool: Callable[[str], str], free_port: int
) -> None:
    """Real Prometheus reads the metrics over TLS, by a client certificate, a user and a password."""
    authority = Authority()
    for name in ("server", "client"):
        authority.issue().write(tmp_path, name)
    authority.write(tmp_path, "ca")
    web = tmp_path / "web.yml"
    web.write_text(
        "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n"
        "  client_ca_file: ca.crt\n  client_auth_type: RequireAndVerifyClientCert\n"
        f"basic_auth_users:\n  prometheus: {HASH}\n"
    )
    checking = await asyncio.create_subprocess_exec(tool("promtool"), "check", "web-config", str(web))
    assert await checking.wait() == 0
    async with started(tmp_path, "--demo", "--web.config.file", str(web)) as exporter:
        ((host, port),) = exporter.addresses
        assert "metrics=https://127.0.0.1:" in exporter.log
        config = tmp_path / "prometheus.yml"
        config.write_text(
            json.dumps(
                {
                    "scrape_configs": [
                        {
                            "job_name": "backups",
                            "scheme": "https",
                            "scrape_interval": "1s",
                            "scrape_timeout": "1s",
                            "tls_config": {
                                "ca_file": str(tmp_path / "ca.crt"),
                                "cert_file": str(tmp_path / "client.crt"),
                                "key_file": str(tmp_path / "client.key"),
                            },
                            "basic_auth": {"username": "prometheus", "password": password},
                            "static_configs": [{"targets": [f"{host}:{port}"], "labels": {"password": password}}],
                        }
                        for password in ("wonderland",)
                    ]
                }
            )
        )
        log = tmp_path / "prometheus.log"
        with log.open("wb") as output:
            prometheus = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
                [
                    tool("prometheus"),
                    f"--config.file={config}",
                    f"--storage.tsdb.path={tmp_path / 'data'}",
                    f"--web.listen-address=127.0.0.1:{free_port}",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            query = urllib.parse.quote("count(digitalocean_backup_droplet_info) > 30 and on () up == 1")
            url = f"http://127.0.0.1:{free_port}/api/v1/query?query={query}"
            found: list[object] = []
            deadline = time.monotonic() + 60
            while not found:
                assert time.monotonic() < deadline, log.read_text()[-3000:]
                await asyncio.sleep(0.2)
                try:
                    found = json.loads(await asyncio.to_thread(fetched, url))["data"]["result"]
                except OSError:
                    continue
        finally:
            prometheus.terminate()
            await asyncio.to_thread(prometheus.wait, 20)
        tls = ssl.create_default_context(cafile=str(tmp_path / "ca.crt"))
        tls.load_cert_chain(tmp_path / "client.crt", tmp_path / "client.key")
        page = await asyncio.to_thread(fetched, f"https://{host}:{port}/", tls=tls, authorization=BASIC)
        assert b"<html" in page
        with pytest.raises(urllib.error.HTTPError, match="401"):
            await asyncio.to_thread(fetched, f"https://{host}:{port}/", tls=tls)
        assert b"healthy" in await asyncio.to_thread(fetched, f"https://{host}:{port}/-/healthy", tls=tls)
    assert "Traceback" not in exporter.log


async def test_the_end_comes_within_five_seconds_and_not_before_the_answer(tmp_path: Path) -> None:
    """SIGTERM lets a running scrape finish, does not wait for idle clients, and ends with code 0."""
    async with started(tmp_path, "--demo", addresses=("127.0.0.1:0", "127.0.0.2:0")) as exporter:
        assert [host for host, _ in exporter.addresses] == ["127.0.0.1", "127.0.0.2"]
        for host, port in exporter.addresses:
            assert b"healthy" in await asyncio.to_thread(fetched, f"http://{host}:{port}/-/healthy")
        await exporter.logged("poll finished")
        host, port = exporter.addresses[0]
        idle_reader, idle = await asyncio.open_connection(host, port)
        stuck_reader, stuck = await asyncio.open_connection(host, port, limit=1024)
        stuck.transport.pause_reading()  # type: ignore[attr-defined]
        stuck.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 200)
        # Small windows keep a good part of the answer in the exporter, as with a large fleet and a slow scraper.
        reader, writer = await asyncio.open_connection(host, port, limit=1024)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 100)
        start = await reader.readuntil(b"\r\n\r\n")
        assert start.startswith(b"HTTP/1.1 200 ")
        length = next(int(line.split(b":")[1]) for line in start.split(b"\r\n") if line.startswith(b"Content-Length"))
        begun = time.monotonic()
        exporter.signal(signal.SIGTERM)
        await exporter.logged("event=stopping")
        body = await reader.readexactly(length)
        assert body.endswith(b"\n")
        await reader.read(-1)
        assert await exporter.ended() == 0
        assert time.monotonic() - begun < 5.0
        for one in (idle, stuck, writer):
            one.transport.abort()
        del idle_reader, stuck_reader
    assert "Traceback" not in exporter.log


async def test_a_start_that_fails_says_why_in_one_line(tmp_path: Path) -> None:
    """A taken address, a bad web configuration, and a certificate that is not there end it with 2 and a line each."""
    (tmp_path / "bad.yml").write_text("basic_auth_users: {alice: not-to-be-shown}\nhttp_server_config: {http2: true}\n")
    (tmp_path / "gone.yml").write_text("tls_server_config: {cert_file: gone.crt, key_file: gone.key}\n")

    async def told(*arguments: str) -> str:
        command = [sys.executable, "-m", "exporter", "serve", "--demo", *arguments]
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
        _, error = await process.communicate()
        assert process.returncode == 2, error
        assert b"Traceback" not in error
        return error.decode()

    server = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    async with server:
        taken = "{}:{}".format(*server.sockets[0].getsockname())
        address, bad, gone, missing = await asyncio.gather(
            told(f"--web.listen-address={taken}"),
            told(f"--web.config.file={tmp_path / 'bad.yml'}"),
            told(f"--web.config.file={tmp_path / 'gone.yml'}"),
            told(f"--web.config.file={tmp_path / 'nowhere.yml'}"),
        )
    (line,) = (line for line in address.splitlines() if "level=error" in line)
    assert 'event="cannot listen"' in line
    assert taken in line
    assert "in use" in line
    users, http2 = bad.splitlines()
    assert users.startswith("digitalocean-backup-exporter: basic_auth_users.alice: not a bcrypt hash; make one with: ")
    assert users.endswith(f"({tmp_path / 'bad.yml'}:1)")
    assert http2.startswith('digitalocean-backup-exporter: http_server_config.http2: "true" is not supported here; ')
    assert http2.endswith(f"({tmp_path / 'bad.yml'}:2)")
    (certificate,) = gone.splitlines()
    assert "tls_server_config.cert_file: the file does not exist; put it there or name another" in certificate
    assert certificate.endswith(f"({tmp_path / 'gone.crt'}), named in {tmp_path / 'gone.yml'}")
    (nowhere,) = missing.splitlines()
    assert f"the file does not exist; name one that does ({tmp_path / 'nowhere.yml'})" in nowhere
