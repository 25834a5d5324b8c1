"""The time, as one injected thing: the demo runs it faster than life, tests set it by hand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """Unix seconds that pass `speed` times as fast as the machine's."""

    speed: float = 1.0
    origin: float = field(default_factory=time.time)
    """The machine's time at which both agree."""

    def now(self) -> float:
        machine = time.time()
        return machine if self.speed == 1.0 else self.origin + (machine - self.origin) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleeps until so many seconds of this clock have passed."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)
