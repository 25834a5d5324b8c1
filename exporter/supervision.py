"""Tasks that must not end while the exporter runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog


async def keep_running(name: str, work: Callable[[], Awaitable[Any]], pause: Callable[[], Awaitable[None]]) -> None:
    """Calls `work` again each time it ends, after a `pause`, until this task is cancelled. Each end is logged.

    If `work` raises `CancelledError` although nobody cancelled this task, as libraries may, that is an end too.
    """
    task = asyncio.current_task()
    assert task is not None
    while True:
        try:
            await work()
            structlog.get_logger().error("task ended", task=name, effect="it is started again")
        except asyncio.CancelledError:
            if task.cancelling():
                raise
            structlog.get_logger().exception("task ended", task=name, effect="it is started again")
        except Exception:  # noqa: BLE001  # the task must go on after any error
            structlog.get_logger().exception("task ended", task=name, effect="it is started again")
        await pause()
