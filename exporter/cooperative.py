"""Work over a whole fleet that lets other tasks run: scrapes are answered while a poll learns and judges.

async for droplet in unhurried(droplets): ...         one by one
await in_steps(render(fleet))                         work written as a generator that yields between its steps
at_once(render(fleet))                                the same work where nothing else waits
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterable
from typing import TypeVar

_T = TypeVar("_T")

STEP = 0.001
"""Seconds of work after which other tasks run. A scrape is made in steps of about the same length."""

Steps = Generator[None, None, _T]
"""Work that yields every millisecond or so, and returns its result."""


async def unhurried(items: Iterable[_T]) -> AsyncIterator[_T]:
    """The items one by one. Other tasks run every millisecond or so, and must not change the items meanwhile."""
    await asyncio.sleep(0)
    since = time.perf_counter()
    for number, item in enumerate(items):
        if number % 16 == 15 and time.perf_counter() - since > STEP:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item


async def in_steps(steps: Steps[_T]) -> _T:
    """The result of the work. Other tasks run between its steps."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _T = done.value
            return result
        await asyncio.sleep(0)


def at_once(steps: Steps[_T]) -> _T:
    """The result of the work, done without a pause."""
    while True:
        try:
            next(steps)
        except StopIteration as done:
            result: _T = done.value
            return result
