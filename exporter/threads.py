"""Threads for work that may block: files, name servers, passwords, compression. Each kind of work has its own pool.

The threads are daemons, so that the process can end while one of them hangs. Every wait for a pool has a time limit.
The event loop never waits for a thread; only the caller gets an error if its work was not done.

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

    def __init__(self, name: str, size: int, *, caller_may_work: bool = False) -> None:
        """`caller_may_work`: if no thread can be started, the caller does the work. For work that cannot hang."""
        self.name = name
        self._size = size
        self._caller_may_work = caller_may_work
        self._changed = threading.Condition()
        self._waiting: deque[_Work] = deque()
        self._threads = 0
        self._idle = 0

    async def run(self, function: Callable[[*_Arguments], _T], *arguments: *_Arguments, within: float) -> _T:
        """Calls the function in one of the pool's threads. Returns what it returns, and raises what it raises.

        Raises `ThreadPoolError` after `within` seconds; waiting for a free thread counts. Work that has begun cannot be
        stopped, even if the caller is cancelled: the thread is busy until the function returns, and the result is
        dropped. In a pool of one thread, the next work begins only then.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[_T] = loop.create_future()
        work = _Work(partial(function, *arguments), loop, result)
        try:
            self._add(work)
        except ThreadPoolError:
            if self._caller_may_work:
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
                    # A thread that is running already will do the work.
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
    """One call, and the future in the event loop that gets its result."""

    def __init__(self, call: Callable[[], Any], loop: asyncio.AbstractEventLoop, result: asyncio.Future[Any]) -> None:
        self._call = call
        self._loop = loop
        self._result = result

    def do(self) -> None:
        try:
            value = self._call()
        except BaseException as error:  # noqa: BLE001  # the caller waits for any result
            self._report(self._fail, error)
        else:
            self._report(self._succeed, value)

    def _report(self, in_loop: Callable[[Any], None], outcome: object) -> None:
        # A closed loop raises RuntimeError. Nobody waits in it any more.
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(in_loop, outcome)

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
"""For reading small files: token files and configurations."""
_LOOKUPS = ThreadPool("names", 16)
RESOLVE_WITHIN = 60.0
"""Seconds for the lookup of a name. A request has a shorter limit of its own."""


class EventLoop(asyncio.SelectorEventLoop):
    """An event loop that looks up names in threads of their own.

    asyncio would use the pool that other work needs too, and at its end would wait for each lookup that hangs.
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
            return await _LOOKUPS.run(socket.getaddrinfo, host, port, family, type, proto, flags, within=RESOLVE_WITHIN)
        except ThreadPoolError as error:
            raise socket.gaierror(socket.EAI_AGAIN, f"the name server does not answer ({error})") from error


def run(main: Coroutine[Any, Any, _T]) -> _T:
    """Like `asyncio.run`, with an `EventLoop`."""
    with asyncio.Runner(loop_factory=EventLoop) as runner:
        return runner.run(main)
