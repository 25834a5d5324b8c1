from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import time

import pytest

from exporter import threads
from exporter.threads import ThreadPool, ThreadPoolError


@pytest.fixture
def gate() -> threading.Event:
    """Blocks the functions of a test until it is set."""
    return threading.Event()


async def test_the_result_and_the_arguments_pass_through() -> None:
    assert await ThreadPool("sums", 1).run(sum, [1, 2], within=5) == 3


async def test_an_exception_of_the_function_is_the_callers() -> None:
    with pytest.raises(ZeroDivisionError):
        await ThreadPool("sums", 1).run(divmod, 1, 0, within=5)


@pytest.mark.parametrize("error", [StopIteration(), SystemExit(3), KeyboardInterrupt()])
async def test_an_exception_that_would_end_the_loop_reaches_the_caller_as_a_runtime_error(error: BaseException) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(RuntimeError, match=f"{type(error).__name__} in a thread"):
        await ThreadPool("failing", 1).run(fail, within=5)


async def test_a_function_that_hangs_delays_only_up_to_its_limit(gate: threading.Event) -> None:
    pool = ThreadPool("hanging", 1)
    with pytest.raises(ThreadPoolError, match=r"hanging: not done within 0\.05 s"):
        await pool.run(gate.wait, within=0.05)
    with pytest.raises(ThreadPoolError):
        await pool.run(sum, [1], within=0.05)
    gate.set()
    assert await pool.run(sum, [1], within=5) == 1, "the thread is free again, and what waited in vain is not done"


async def test_in_a_pool_of_one_a_cancelled_caller_lets_nothing_else_begin_before_its_work_ends(
    gate: threading.Event,
) -> None:
    pool = ThreadPool("one", 1)
    order: list[str] = []
    begun = threading.Event()

    def first() -> None:
        begun.set()
        gate.wait()
        order.append("first")

    task = asyncio.create_task(pool.run(first, within=60))
    await asyncio.to_thread(begun.wait)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    second = asyncio.create_task(pool.run(order.append, "second", within=5))
    await asyncio.sleep(0)
    gate.set()
    await second
    assert order == ["first", "second"]


async def test_no_more_threads_than_its_size_and_none_when_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "IDLE", 0.01)
    pool = ThreadPool("counted", 3)
    names = await asyncio.gather(*(pool.run(threading.get_ident, within=5) for _ in range(20)))
    assert 1 <= len(set(names)) <= 3
    for thread in threading.enumerate():
        if thread.name == "counted":
            await asyncio.to_thread(thread.join, 60)
    assert not [thread for thread in threading.enumerate() if thread.name == "counted"]
    assert await pool.run(sum, [2], within=5) == 2


class TestNoThreadCanBeStarted:
    @pytest.fixture
    def refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        monkeypatch.setattr(threading.Thread, "start", refuse)

    @pytest.mark.usefixtures("refused")
    async def test_without_a_thread_the_call_fails_at_once(self) -> None:
        with pytest.raises(ThreadPoolError, match="no thread can be started: can't start new thread"):
            await ThreadPool("starved", 2).run(sum, [1], within=60)

    @pytest.mark.usefixtures("refused")
    async def test_work_that_needs_only_the_processor_is_done_by_the_caller(self) -> None:
        """So that scrapes and the page are served where no thread can be started."""
        pool = ThreadPool("starved", 2, caller_may_work=True)
        assert await pool.run(threading.get_ident, within=60) == threading.get_ident()
        with pytest.raises(ZeroDivisionError):
            await pool.run(divmod, 1, 0, within=60)

    async def test_those_that_run_do_the_work(self, monkeypatch: pytest.MonkeyPatch, gate: threading.Event) -> None:
        pool = ThreadPool("half starved", 2)
        first = asyncio.create_task(pool.run(gate.wait, within=60))
        await asyncio.sleep(0)
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", lambda _: (_ for _ in ()).throw(RuntimeError("none left")))
            second = asyncio.create_task(pool.run(sum, [4], within=60))
            await asyncio.sleep(0)
        gate.set()
        assert await first
        assert await second == 4


def test_a_process_ends_while_a_thread_of_a_pool_hangs() -> None:
    program = """
import asyncio, time
from exporter.threads import ThreadPool, ThreadPoolError

async def main():
    try:
        await ThreadPool("hanging", 1).run(time.sleep, 600, within=0.1)
    except ThreadPoolError as error:
        print(error)

asyncio.run(main())
"""
    begun = time.perf_counter()
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "hanging: not done within 0.1 s\n", "")
    assert time.perf_counter() - begun < 30


def test_names_that_are_never_resolved_hold_up_no_other_thread_and_not_the_end() -> None:
    """asyncio's own pool stays free, a lookup can be given up, and the process ends while lookups hang."""
    program = """
import asyncio, socket, time
from exporter import threads

socket.getaddrinfo = lambda *_: time.sleep(600)

async def look_up():
    try:
        async with asyncio.timeout(0.2):
            await asyncio.get_running_loop().getaddrinfo("api.example", 443)
    except TimeoutError:
        return "given up"

async def main():
    print(await asyncio.gather(*(look_up() for _ in range(40))) == ["given up"] * 40)
    print(await asyncio.wait_for(asyncio.to_thread(sum, [1, 2]), 5))

threads.run(main())
"""
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "True\n3\n", "")
