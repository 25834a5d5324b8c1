"""Turns: of all clients that wait for something, only a few go on at a time, and addresses take turns."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Callable

ROOM_AGAIN = 0.01
"""Seconds until it is looked again whether there is room."""


class Turns:
    """Lets few clients go on in each step of the loop: otherwise thousands that ask together would hold up all else."""

    def __init__(self, at_once: int, room: Callable[[], int] | None = None) -> None:
        """`at_once`: how many turns begin in one step of the loop. `room`: returns for how many there is room.

        A client whose turn has come must take its room before it waits for anything else.
        """
        self._at_once = at_once
        self._room = room
        self._queues: OrderedDict[str, deque[asyncio.Future[None]]] = OrderedDict()
        """By address."""

    async def wait(self, address: str) -> None:
        """Waits until it is the turn of a client at this address."""
        turn = asyncio.get_running_loop().create_future()
        if not self._queues:
            turn.get_loop().call_soon(self._give)
        self._queues.setdefault(address, deque()).append(turn)
        await turn

    def _give(self) -> None:
        loop = asyncio.get_running_loop()
        most = self._at_once if self._room is None else min(self._at_once, self._room())
        given = 0
        while self._queues and given < most:
            address, queue = self._queues.popitem(last=False)
            turn = queue.popleft()
            if queue:
                self._queues[address] = queue
            if not turn.done():  # the client may have gone
                turn.set_result(None)
                given += 1
        if self._queues and most > 0:
            loop.call_soon(self._give)
        elif self._queues:
            loop.call_later(ROOM_AGAIN, self._give)
