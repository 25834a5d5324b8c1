from __future__ import annotations

import asyncio

from tests.benchmarks.polls import pauses


def test_polls_leave_the_loop_to_others() -> None:
    """No poll of a large fleet computes for long without a break, the setting up of the first connection apart."""
    found = asyncio.run(pauses(3_000))
    assert found.steady < 25, found
    assert found.cold < 150, found
