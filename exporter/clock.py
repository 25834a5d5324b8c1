"""The clock that the rest of the code asks for the time. In the demo it can run fast; tests set it by hand."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Clock:
    """A clock of Unix seconds that runs `speed` times as fast as the machine's."""

    speed: float = 1.0
    origin: float = field(default_factory=time.time)
    """The time, in Unix seconds, at which this clock and the machine's are equal."""

    def now(self) -> float:
        """The time in Unix seconds."""
        machine = time.time()
        return machine if self.speed == 1.0 else self.origin + (machine - self.origin) * self.speed

    async def sleep(self, seconds: float) -> None:
        """Sleeps until this many seconds of this clock have passed."""
        await asyncio.sleep(max(0.0, seconds) / self.speed)
