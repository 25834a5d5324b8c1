"""Threads for work that may block: files, name servers, passwords, compression. Each kind has a pool of its own.

A pool's threads are daemons, so that the process can end while one of them hangs. Nothing waits for a pool without a
limit: the event loop goes on, and only the caller learns that its work was not done.

    DISK = ThreadPool("disk", 1)
    content = await DISK.run(path.read_bytes, within=5.0)
"""

from __future__ import annotations

import asyncio
import socket
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

_T = TypeVar("_T")
_Arguments = TypeVarTuple("_Arguments")

IDLE = 10.0
"""Seconds without work after which a thread ends."""


class ThreadPoolError(Exception):
    """Work that was not done: it took too long, or no thread could be started. The text says which."""


class ThreadPool:
    """At most `size` threads. They start when there is work and end when there has been none for a while."""

    def __init__(self, name: str, size: int, *, here: bool = False) -> None:
        """`here`: where no thread can be started, the caller does the work. For work that needs only the processor."""
        self.name = name
        self._size = size
        self._here = here
        self._changed = threading.Condition()
        self._waiting: deque[_Work] = deque()
        self._threads = 0
        self._idle = 0

    async def run(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments, within: float) -> _T:
        """What the function returns or raises, called in one of the pool's threads.

        Raises `ThreadPoolError` after `within` seconds, the time spent waiting for a thread included. Work that has
        begun cannot be stopped, also if the caller is cancelled: its thread is busy until the function returns, and
        what it returns is dropped. In a pool of one thread, what was given later begins only then.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()
        work = _Work(partial(function, *arguments), loop, result)
        try:
            self._add(work)
        except ThreadPoolError:
            if self._here:
                return function(*arguments)
            raise
        try:
            done, _ = await asyncio.wait([result], timeout=within)
            if not done:
                raise ThreadPoolError(f"{self.name}: not done within {within:.3g} s")
            return result.result()
        finally:
            if not result.done():
                result.cancel()
                self._drop(work)

    def _add(self, work: _Work) -> None:
        with self._changed:
            if len(self._waiting) >= self._idle and self._threads < self._size:
                try:
                    threading.Thread(target=self._serve, name=self.name, daemon=True).start()
                except (RuntimeError, MemoryError) as error:
                    # The threads that run already will do it.
                    if not self._threads:
                        raise ThreadPoolError(f"{self.name}: no thread can be started: {error}") from error
                else:
                    self._threads += 1
            self._waiting.append(work)
            self._changed.notify()

    def _drop(self, work: _Work) -> None:
        with self._changed, suppress(ValueError):
            self._waiting.remove(work)

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._idle += 1
                found = self._changed.wait_for(lambda: self._waiting, IDLE)
                self._idle -= 1
                if not found:
                    self._threads -= 1
                    return
                work = self._waiting.popleft()
            work.do()
            del work


class _Work:
    """One call, and the future of the loop that waits for it."""

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any]) -> None:
        self._call = call
        self._loop = loop
        self._result = result

    def do(self) -> None:
        try:
            value = self._call()
        except BaseException as error:  # noqa: BLE001  # whatever it is, the waiting caller must learn of it
            self._tell(self._fail, error)
        else:
            self._tell(self._succeed, value)

    def _tell(self, settle: Callable[[Any], None], outcome: object) -> None:
        # A loop that is closed has nobody left who waits.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(settle, outcome)

    def _succeed(self, value: Any) -> None:
        if not self._result.done():
            self._result.set_result(value)

    def _fail(self, error: BaseException) -> None:
        if self._result.done():
            return
        if not isinstance(error, Exception) or isinstance(error, StopIteration):
            # A future does not take StopIteration, and a SystemExit must not end the loop.
            wrapped = RuntimeError(f"{type(error).__name__} in a thread")
            wrapped.__cause__ = error
            error = wrapped
        self._result.set_exception(error)


FILES = ThreadPool("files", 4)
"""Small files: token files and configurations."""
_NAMES = ThreadPool("names", 16)
RESOLVE_WITHIN = 60.0
"""Seconds for a lookup; a request has a shorter limit of its own."""


class Loop(asyncio.SelectorEventLoop):
    """An event loop that resolves names in threads of its own.

    asyncio would use the one pool that other work waits for too, and would wait at the end for each lookup that hangs.
    """

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002  # the name is asyncio's
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        try:
            return await _NAMES.run(socket.getaddrinfo, host, port, family, type, proto, flags, within=RESOLVE_WITHIN)
        except ThreadPoolError as error:
            raise socket.gaierror(socket.EAI_AGAIN, f"the name server does not answer ({error})") from error


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """`asyncio.run`, with a `Loop`."""
    with asyncio.Runner(loop_factory=Loop) as runner:
        return runner.run(main)
