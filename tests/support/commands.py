"""The commands that end by themselves, run here in this process at an instant of one's own choice."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Self
from unittest import mock

from exporter.cli.main import main
from tests.support.lookalike import Api, Fault, Fixture
from tests.support.world import HandClock


@dataclass(frozen=True, slots=True)
class Done:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        """The table's rows, as words, without the title."""
        return [line.split() for line in self.out.split("\n\n")[0].splitlines()[1:]]

    def states(self) -> dict[str, str]:
        """Each Droplet's state by its id, as the table has them."""
        return {row[1]: row[0] for row in self.rows}


def command(*arguments: str, at: float, **environment: str) -> Done:
    """Runs a command with a clock that stands at `at` unless it sleeps; stdout and stderr are no terminals."""
    clock = HandClock()
    clock.set(at)
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", newline="\n", write_through=True) for _ in range(2))
    plain = {name: value for name, value in os.environ.items() if not name.startswith("DIGITALOCEAN_")}
    handlers = logging.getLogger().handlers[:]
    with (
        mock.patch("exporter.cli.source.Clock", return_value=clock),
        mock.patch.dict(os.environ, {**plain, **environment}, clear=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        time.tzset()
        try:
            code = main(arguments)
        except SystemExit as end:
            code = int(end.code or 0)
        finally:
            # The command has set up logging for a process of its own.
            logging.getLogger().handlers[:] = handlers
    time.tzset()
    return Done(code, *(stream.buffer.getvalue().decode() for stream in (out, err)))


class Served:
    """An account behind the API's look-alike, in a thread of its own; its environment for `command`."""

    def __init__(self, account: Fixture | Any, *faults: Fault, now: Callable[[], float], **api: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self.api = Api(account, now=now, token="t", **api)
        self.api.faults.extend(faults)

    @property
    def environment(self) -> dict[str, str]:
        return {"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": self.api.url}

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self.api.start(), self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self.api.stop(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


@contextlib.contextmanager
def served(account: Fixture, *faults: Fault, at: float, **api: Any) -> Iterator[Served]:
    with Served(account, *faults, now=lambda: at, **api) as running:
        yield running
