from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from structlog.testing import capture_logs

from exporter.supervision import keep_running


def _fail(error: BaseException) -> Callable[[], None]:
    def fail() -> None:
        raise error

    return fail


@pytest.mark.parametrize(
    "end", [lambda: None, _fail(RuntimeError("can't start new thread")), _fail(asyncio.CancelledError())]
)
async def test_work_that_ends_in_any_way_is_logged_and_begun_again(end: Callable[[], None]) -> None:
    begun, paused = list[int](), list[int]()
    again = asyncio.Event()

    async def work() -> None:
        begun.append(1)
        if len(begun) == 3:
            again.set()
            await asyncio.Event().wait()
        end()

    async def pause() -> None:
        paused.append(1)
        await asyncio.sleep(0)

    with capture_logs() as logs:
        task = asyncio.create_task(keep_running("a task", work, pause))
        await asyncio.wait_for(again.wait(), 10)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert task.cancelled()
    assert (len(begun), len(paused)) == (3, 2)
    assert [(log["event"], log["task"]) for log in logs] == [("task ended", "a task")] * 2
