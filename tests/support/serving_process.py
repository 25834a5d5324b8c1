"""The exporter as a process of its own, with what it writes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path

START_WITHIN = 60.0
"""Seconds; where many tests run at once, the imports alone take some."""


@dataclass(frozen=True, slots=True)
class Exporter:
    process: subprocess.Popen[bytes]
    output: Path
    log_file: Path

    @property
    def log(self) -> str:
        return self.log_file.read_text()

    @property
    def addresses(self) -> list[tuple[str, int]]:
        found = re.findall(r'metrics(?:=|": ")https?://\[?([^/"\]]+)\]?:(\d+)/', self.log)
        return [(host, int(port)) for host, port in found]

    async def logged(self, pattern: str, *, times: int = 1, within: float = START_WITHIN) -> None:
        """Waits until the log matches so often."""
        try:
            async with asyncio.timeout(within):
                while len(re.findall(pattern, self.log)) < times:
                    assert self.process.poll() is None, self.log
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise AssertionError(f"not logged: {pattern}\n{self.log}") from None

    def signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def ended(self, within: float = 10.0) -> int:
        return await asyncio.to_thread(self.process.wait, within)


@contextlib.asynccontextmanager
async def started(
    folder: Path, *arguments: str, env: Mapping[str, str] | None = None, addresses: tuple[str, ...] = ("127.0.0.1:0",)
) -> AsyncIterator[Exporter]:
    """`serve` with these arguments, once it listens."""
    listen = [f"--web.listen-address={address}" for address in addresses]
    command = [sys.executable, "-m", "exporter", "serve", *listen, *arguments]
    kept = {name: value for name, value in os.environ.items() if not name.startswith("DIGITALOCEAN_")}
    output, log = folder / "stdout", folder / "stderr"
    with output.open("wb") as out, log.open("wb") as err:
        process = subprocess.Popen(  # noqa: ASYNC220  # it returns at once
            command, stdout=out, stderr=err, env={**kept, **(env or {})}
        )
    exporter = Exporter(process, output, log)
    try:
        await exporter.logged('event=listening|"event": "listening"', times=len(addresses))
        yield exporter
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                await exporter.ended()
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
