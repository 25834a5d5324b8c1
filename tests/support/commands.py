"""Runs the commands that end by themselves in this process, at an instant that the test chooses."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from unittest import mock

from exporter.cli.main import main
from tests.support import lookalike
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
        """The table's rows, each as a list of words, without the title."""
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


@dataclass(frozen=True, slots=True)
class ServedApi:
    """An API that runs, and the environment by which `command` asks it."""

    api: Api

    @property
    def environment(self) -> dict[str, str]:
        return {"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": self.api.url}


@contextlib.contextmanager
def served(account: Fixture | Any, *faults: Fault, at: float, **options: Any) -> Iterator[ServedApi]:
    """Serves the account, with these faults, at an instant; `options` are those of the API."""
    api = Api(account, now=lambda: at, token="t", **options)
    api.faults.extend(faults)
    with lookalike.served(api):
        yield ServedApi(api)
