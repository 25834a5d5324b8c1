"""Tasks that must not end while the exporter runs."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import structlog


async def keep_running(name: str, work: Callable[[], Awaitable[Any]], pause: Callable[[], Awaitable[None]]) -> None:
    """Calls `work` again whenever it ends, until cancelled, with a `pause` between. The end is logged.

    A cancellation that nobody asked of this task, which a library may raise, is an end like any other.
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
        except Exception:  # noqa: BLE001  # whatever it is, the task must go on
            structlog.get_logger().exception("task ended", task=name, effect="it is started again")
        await pause()
