"""Work over a whole fleet that leaves the loop to others: scrapes are answered while a poll learns and judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_T = TypeVar("_T")

STEP = 0.004
"""Seconds after which others have the loop."""


async def unhurried(items: Iterable[_T]) -> AsyncIterator[_T]:
    """The items one by one, letting others have the loop every few milliseconds.

    What is being walked must not change meanwhile: others run.
    """
    await asyncio.sleep(0)
    since = time.perf_counter()
    for number, item in enumerate(items):
        if number % 32 == 31 and time.perf_counter() - since > STEP:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item
