"""Work over a whole fleet that leaves the loop to others: scrapes are answered while a poll learns and judges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable
from typing import TypeVar

_T = TypeVar("_T")

STEP = 0.001
"""Seconds after which others have the loop: a scrape is made in about as long steps, so that it takes turns."""


async def unhurried(items: Iterable[_T]) -> AsyncIterator[_T]:
    """The items one by one, letting others have the loop every millisecond or so.

    What is being walked must not change meanwhile: others run.
    """
    await asyncio.sleep(0)
    since = time.perf_counter()
    for number, item in enumerate(items):
        if number % 16 == 15 and time.perf_counter() - since > STEP:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item
