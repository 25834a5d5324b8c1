"""Clocks that tests set, so that no test waits."""

from __future__ import annotations

import asyncio
import heapq
import itertools

from exporter.clock import Clock

NOON = 1_790_000_000.0


class JumpClock(Clock):
    """A clock that stands still; `sleep` moves it on and ends at once. It records what was slept."""

    slept: list[float]

    def __init__(self, start: float = NOON) -> None:
        super().__init__(1.0, 0.0)
        self.set(start)
        object.__setattr__(self, "slept", [])

    def set(self, time: float) -> None:
        object.__setattr__(self, "time", time)

    def now(self) -> float:
        time: float = self.time  # type: ignore[attr-defined]
        return time

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.set(self.now() + max(0.0, seconds))
        await asyncio.sleep(0)


class EventClock(JumpClock):
    """A clock for many tasks: when all of them wait, it moves on to the end of the next `sleep`."""

    def __init__(self, start: float = NOON) -> None:
        super().__init__(start)
        object.__setattr__(self, "sleepers", [])
        object.__setattr__(self, "numbers", itertools.count())

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        awake: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(
            self.sleepers,  # type: ignore[attr-defined]
            (self.now() + max(0.0, seconds), next(self.numbers), awake),  # type: ignore[attr-defined]
        )
        await awake

    async def run(self, until: float) -> None:
        """Let time pass until then."""
        sleepers: list[tuple[float, int, asyncio.Future[None]]] = self.sleepers  # type: ignore[attr-defined]
        while True:
            for _ in range(5):
                await asyncio.sleep(0)
            if not sleepers or sleepers[0][0] > until:
                break
            at, _, awake = heapq.heappop(sleepers)
            self.set(max(self.now(), at))
            if not awake.done():
                awake.set_result(None)
        self.set(max(until, self.now()))
