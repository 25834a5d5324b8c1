"""The exporter as a process of its own, started as a user starts it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TypeVar

_T = TypeVar("_T")

COMMAND = (sys.executable, "-m", "exporter")
HURRIED = (sys.executable, "-m", "tests.support.hurried")
"""The same, but that polls follow each other without a wait."""


class Exporter:
    """A running `serve`, its log as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.log: list[str] = []
        self._news = threading.Condition()
        self._may_read = threading.Event()
        self._may_read.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self._may_read.wait()
            with self._news:
                self.log.append(line.rstrip("\n"))
                self._news.notify_all()
        with self._news:
            self._news.notify_all()

    @contextmanager
    def unread(self) -> Iterator[None]:
        """As long as the block lasts nobody reads the log."""
        self._may_read.clear()
        try:
            yield
        finally:
            self._may_read.set()

    def line(self, pattern: str, timeout: float = 120) -> re.Match[str]:
        """The first line of the log that holds the pattern, waited for."""
        with self._news:
            found = None

            def there() -> bool:
                nonlocal found
                found = next((match for line in self.log if (match := re.search(pattern, line))), None)
                return found is not None or self.process.poll() is not None

            self._news.wait_for(there, timeout)
        assert found is not None, f"no line with {pattern} in:\n" + "\n".join(self.log)
        return found

    @property
    def url(self) -> str:
        return self.line(r"metrics=(https?://\S+?)/metrics")[1]

    def get(self, path: str, **headers: str) -> str:
        request = urllib.request.Request(self.url + path, headers=headers)
        with urllib.request.urlopen(request, timeout=60) as answer:
            return str(answer.read().decode())

    def status(self, path: str, method: str = "GET") -> tuple[int, str]:
        request = urllib.request.Request(self.url + path, method=method)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()

    def stop(self, timeout: float = 10) -> int:
        """Asks it to stop and gives its exit code."""
        self.process.terminate()
        return self.process.wait(timeout)


@contextmanager
def exporter(*arguments: str, command: Sequence[str] = COMMAND, **environment: str) -> Iterator[Exporter]:
    """`serve` on a free port of loopback, ended with the block."""
    process = subprocess.Popen(
        [*command, "serve", "--web.listen-address=127.0.0.1:0", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**_plain(os.environ), **environment},
    )
    running = Exporter(process)
    try:
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        running._reader.join()
        assert process.stderr is not None
        process.stderr.close()


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command that ends by itself."""
    return subprocess.run(
        [*COMMAND, *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**_plain(os.environ), **environment},
    )


def until(found: Callable[[], _T], what: str, timeout: float = 120) -> _T:
    """What another process comes to show, once it is true."""
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        value = found()
        if value:
            return value
        time.sleep(0.05)
    raise AssertionError(f"{what}: not within {timeout} s")


def _plain(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.startswith("DIGITALOCEAN_")}
