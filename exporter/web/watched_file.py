"""A value that is read from files, and read again when they change, so that a new user needs no restart."""

from __future__ import annotations

import threading
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

PATIENCE = 0.05
"""Seconds that the event loop waits for the files. After that the previous value is used until they have been read."""
LOOKS, LOOKS_WITHIN = 20, 0.2
"""How often the files are looked at in so many seconds. Each look takes a millisecond, and a client that hurries causes
thousands."""
FIRST_PATIENCE = 10.0
"""Seconds for the first reading, before anything is served."""

_Signature = tuple[tuple[int, ...] | None, ...]


class WatchedFile(Generic[T]):
    """A value that is read from files. If they have mistakes, the previous value stays, and the mistakes are logged."""

    def __init__(
        self,
        name: str,
        make: Callable[[], T],
        files: Callable[[T], Iterable[Path]],
        *,
        refuse: Callable[[T, T], str | None] = lambda old, new: None,  # noqa: ARG005
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`name` is for the log. `make` reads the value. `files` returns the files that a value was read from.

        `refuse` returns why a change from an old to a new value is not allowed, or `None`. Raises the `ConfigError` of
        `make`, and one if the files cannot be read in time.
        """
        self._name = name
        self._make = make
        self._files = files
        self._refuse = refuse
        self._monotonic = monotonic
        self._busy = threading.Lock()
        self._looks = 0
        self._counted_from = 0.0
        """When the first of these looks was."""
        self._value = self._first()
        self._seen_at = monotonic()
        self._settled = False
        self._changed = False
        self.problems: tuple[str, ...] = ()
        """Why the files as they are now are not used; empty if they are."""

    def current(self) -> T:
        """The value of the files as they are now, or were a moment ago, or the previous value if they cannot be read
        quickly.

        The files are read in a thread, because a file system may hang. The caller waits at most `PATIENCE` seconds, and
        does not wait while an earlier reading hangs.
        """
        if self._may_look() and self._busy.acquire(blocking=False):
            done = threading.Event()
            if _start_thread(self._read, done):
                done.wait(PATIENCE)
            else:
                self._busy.release()
        return self._value

    def _may_look(self) -> bool:
        now = self._monotonic()
        if now - self._counted_from > LOOKS_WITHIN:
            self._looks, self._counted_from = 0, now
        self._looks += 1
        return self._looks <= LOOKS

    def _first(self) -> T:
        results: list[T | BaseException] = []
        done = threading.Event()

        def read() -> None:
            try:
                self._value = self._make()
                self._signature = self._file_signature()
                results.append(self._value)
            except BaseException as error:  # noqa: BLE001  # raised again by the caller
                results.append(error)
            finally:
                done.set()

        if not _start_thread(read):
            read()
        if not done.wait(FIRST_PATIENCE):
            raise ConfigError(f"{self._name}: not read within {FIRST_PATIENCE:g} s; is its file system hanging?")
        if isinstance(results[0], BaseException):
            raise results[0]
        return results[0]

    def _read(self, done: threading.Event) -> None:
        try:
            self._refresh()
        except Exception:  # noqa: BLE001  # after a bug, the files must be read again the next time
            structlog.get_logger().exception("not read again", what=self._name, kept="what was read before")
        finally:
            self._busy.release()
            done.set()

    def _refresh(self) -> None:
        signature = self._file_signature()
        now = self._monotonic()
        if signature != self._signature:
            self._signature, self._seen_at, self._settled, self._changed = signature, now, False, True
        if self._settled:
            return
        settled = now - self._seen_at >= SETTLED
        try:
            value = self._make()
        except ConfigError as error:
            self._keep_value(error.problems, settled)
            return
        refused = self._refuse(self._value, value)
        if refused is not None:
            # A file that is being written is empty for a moment. That is not reported.
            self._keep_value((refused,) if settled else self.problems, settled)
            return
        if self._changed:
            self._changed = False
            structlog.get_logger().info("read again", what=self._name)
        self.problems = ()
        self._value, self._settled = value, settled

    def _keep_value(self, problems: tuple[str, ...], settled: bool) -> None:
        self._settled = settled
        if problems != self.problems:
            self.problems = problems
            for problem in problems:
                structlog.get_logger().error(
                    "not read again", what=self._name, problem=problem, kept="what was read before"
                )

    def _file_signature(self) -> _Signature:
        return tuple(_file_times(file) for file in self._files(self._value))


def _start_thread(work: Callable[..., None], *arguments: object) -> bool:
    """Starts a daemon thread; `False` if the system allows no more threads."""
    try:
        threading.Thread(target=work, args=arguments, name="read files", daemon=True).start()
    except (RuntimeError, MemoryError):
        return False
    return True


def _file_times(file: Path) -> tuple[int, ...] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    # The ctime changes when a file becomes readable.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino
