from __future__ import annotations

import asyncio

from tests.benchmarks.polls import pauses


def test_polls_leave_the_loop_to_others() -> None:
    """No poll of a large fleet computes for long without a break; in the first, setting up the connections does."""
    found = asyncio.run(pauses(6_000))
    assert found.steady < found.poll / 10, found
    assert found.cold < 3 * found.poll, found
