"""If stderr is not read, the exporter goes on, drops lines and counts them."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator

import pytest

from exporter.console import BackgroundStderr
from tests.support.processes import COMMAND, until


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """The ends of a pipe with little room."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
    yield reading, writing
    for end in (reading, writing):
        with contextlib.suppress(OSError):
            os.close(end)


def fill(writing: int) -> None:
    os.set_blocking(writing, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writing, b"x" * 512)
    os.set_blocking(writing, True)


def test_lines_without_room_are_dropped_and_counted(pipe: tuple[int, int]) -> None:
    """Writing never waits; lines for which there was room come out in order once somebody reads, others are counted."""
    reading, writing = pipe
    stderr = BackgroundStderr(writing)
    lines = 20_000
    for number in range(lines):
        stderr.write(f"line {number:06} {'x' * 80}\n")
    assert 0 < stderr.dropped < lines
    kept = lines - stderr.dropped
    with open(reading, closefd=False) as stream:
        numbers = [int(stream.readline().split()[1]) for _ in range(kept)]
    # The pipe makes room for a few lines more while others are dropped.
    assert numbers == sorted(set(numbers))
    stderr.drain(10)
    stderr.write("and ")
    stderr.write("another\n")
    stderr.drain(10)
    assert os.read(reading, 100) == b"and another\n"


def test_lines_that_stderr_refuses_are_counted(pipe: tuple[int, int]) -> None:
    """A pipe whose reader has gone refuses every line."""
    reading, writing = pipe
    os.close(reading)
    stderr = BackgroundStderr(writing)
    stderr.write("one\ntwo\n")
    stderr.drain(10)
    assert stderr.dropped == 2


def test_without_a_thread(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no thread can be started, lines are written if there is room, and else wait until a thread can be."""
    reading, writing = pipe
    stderr = BackgroundStderr(writing)
    with monkeypatch.context() as limited:
        limited.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("none left")))
        stderr.write("one\n")
        assert os.read(reading, 100) == b"one\n"
        fill(writing)
        stderr.write("two\n")
    assert os.read(reading, 4096).strip(b"x") == b""
    stderr.write("three\n")
    stderr.drain(10)
    assert os.read(reading, 100) == b"two\nthree\n"
    assert stderr.dropped == 0


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_the_thread_that_writes_is_replaced(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """If the writing thread ends, only the line that it was writing is lost, and it is counted."""
    reading, writing = pipe
    stderr = BackgroundStderr(writing)
    with monkeypatch.context() as broken:
        broken.setattr(os, "write", lambda *_: (_ for _ in ()).throw(MemoryError))
        stderr.write("lost\n")
        stderr.drain(10)
        assert stderr._writer is not None
        stderr._writer.join(10)
    assert stderr.dropped == 1
    stderr.write("another\n")
    stderr.drain(10)
    assert os.read(reading, 100) == b"another\n"


def test_a_pipe_that_does_not_block(pipe: tuple[int, int]) -> None:
    """Lines wait for room also in a pipe that another process made non-blocking."""
    reading, writing = pipe
    fill(writing)
    os.set_blocking(writing, False)
    stderr = BackgroundStderr(writing)
    stderr.write("a line\n")
    stderr.drain(0.01)
    assert os.read(reading, 4096).strip(b"x") == b""
    stderr.drain(10)
    assert os.read(reading, 100) == b"a line\n"
    assert stderr.dropped == 0


def test_a_log_collector_that_stalls(pipe: tuple[int, int]) -> None:
    """With stderr a full pipe, scrapes, health and reloads go on, and SIGTERM ends the process in 5 s with code 0."""
    _, writing = pipe
    fill(writing)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [*COMMAND, "serve", "--demo", f"--web.listen-address=127.0.0.1:{port}", "--log.level=debug"], stderr=writing
    )
    try:

        def get(path: str) -> str:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
                    return str(answer.read().decode())
            except OSError:
                return ""

        until(lambda: "digitalocean_backup_kept" in get("/metrics"), "metrics with a full stderr")
        for _ in range(5):
            process.send_signal(signal.SIGHUP)
            assert "digitalocean_backup_exporter_log_lines_dropped_total 0.0" in get("/metrics")
            assert get("/-/healthy")
        stopped = time.monotonic()
        process.terminate()
        assert process.wait(10) == 0
        assert time.monotonic() - stopped < 5
    finally:
        process.kill()
        process.wait()
