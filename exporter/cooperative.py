"""Work over a whole fleet that lets other tasks run: scrapes are answered while a poll learns and judges.

async for droplet in with_pauses(droplets): ...       one by one
await run_with_pauses(render(fleet))                  work written as a generator that yields between its steps
run_without_pauses(render(fleet))                     the same work where nothing else waits
await sorted_with_pauses(keys)                        a long list, sorted
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Generator, Iterable, Iterator, Sequence
from typing import Any, TypeVar

_T = TypeVar("_T")

STEP = 0.001
"""Seconds of work after which other tasks run. A scrape is made in steps of about the same length."""
SORTED_TOGETHER = 1000
"""Items that are sorted in one step: about a millisecond of work."""

Steps = Generator[None, None, _T]
"""Work that yields at least every millisecond or so, and returns its result."""


async def with_pauses(items: Iterable[_T]) -> AsyncIterator[_T]:
    """The items one by one. Other tasks run every millisecond or so, and must not change the items meanwhile."""
    await asyncio.sleep(0)
    since = time.perf_counter()
    for number, item in enumerate(items):
        if number % 16 == 15 and time.perf_counter() - since > STEP:
            await asyncio.sleep(0)
            since = time.perf_counter()
        yield item


async def run_with_pauses(steps: Steps[_T]) -> _T:
    """The result of the work. Other tasks run between its steps, after every millisecond or so."""
    since = time.perf_counter()
    while True:
        result = _step(steps)
        if result is not None:
            return result[0]
        if time.perf_counter() - since > STEP:
            await asyncio.sleep(0)
            since = time.perf_counter()


def run_without_pauses(steps: Steps[_T]) -> _T:
    """The result of the work, done without a pause."""
    while (result := _step(steps)) is None:
        pass
    return result[0]


def _step(steps: Steps[_T]) -> tuple[_T] | None:
    """Does one step. Returns the result in a tuple when the work is done, else `None`."""
    try:
        next(steps)
    except StopIteration as done:
        return (done.value,)
    return None


async def sorted_with_pauses(items: Sequence[Any]) -> list[Any]:
    """The items in ascending order. Other tasks run between the steps of the sorting."""
    # Python merges two sorted runs quickly, so short runs are sorted first and then joined in pairs.
    runs = [sorted(items[start : start + SORTED_TOGETHER]) for start in range(0, len(items), SORTED_TOGETHER)]
    while len(runs) > 1:
        await asyncio.sleep(0)
        pairs: Iterator[list[Any]] = iter(runs)
        merged = []
        for one in pairs:
            merged.append(sorted(one + next(pairs, [])))
            await asyncio.sleep(0)
        runs = merged
    return runs[0] if runs else []
