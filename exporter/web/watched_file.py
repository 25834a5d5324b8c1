"""A value that is read from files, and read again when they change, so that a new user needs no restart."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Generic, TypeVar

import structlog

from exporter.config.yaml_document import ConfigError

T = TypeVar("T")

SETTLED = 1.0
"""Seconds without a change after which a file counts as completely written. File times are coarse: two changes within
one tick look like one."""

_Signature = tuple[tuple[int, ...] | None, ...]


class WatchedFile(Generic[T]):
    """A value that is read from files. If they hold errors, the previous value stays, and the log says so."""

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        files: Callable[[T], Iterable[Path]],
        *,
        wait: Callable[[T, T], bool] = lambda old, new: False,  # noqa: ARG005
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`make` reads the value; it and this constructor raise `ConfigError`. `files` returns the files of a value.

        `wait` returns whether a change from an old to a new value must wait until the files have settled.
        """
        self._name = name
        self._make = make
        self._files = files
        self._wait = wait
        self._monotonic = monotonic
        self._value = make()
        self._signature = self._look()
        self._seen_at = monotonic()
        self._settled = False
        self._changed = False
        self._refused: tuple[str, ...] = ()

    def current(self) -> T:
        """The value by the files as they are now. Costs one `stat` of each file."""
        signature = self._look()
        now = self._monotonic()
        if signature != self._signature:
            self._signature, self._seen_at, self._settled, self._changed = signature, now, False, True
        if self._settled:
            return self._value
        settled = now - self._seen_at >= SETTLED
        log = structlog.get_logger()
        try:
            value = self._make()
        except ConfigError as error:
            self._settled = settled
            if error.problems != self._refused:
                self._refused = error.problems
                for problem in error.problems:
                    log.error("not read again", what=self._name, problem=problem, kept="what was read before")
            return self._value
        if not settled and self._wait(self._value, value):
            return self._value
        if self._changed:
            self._changed = False
            log.info("read again", what=self._name)
        self._refused = ()
        self._value, self._settled = value, settled
        return value

    def _look(self) -> _Signature:
        return tuple(_status(file) for file in self._files(self._value))


def _status(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    # The second time changes when a file becomes readable.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
