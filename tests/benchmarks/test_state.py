from __future__ import annotations

from tests.benchmarks.state import LOADED_WITHIN, WRITTEN_WITHIN, measure


def test_a_large_state_is_written_and_loaded_in_time() -> None:
    """A tenth of the largest account takes no longer than that may, and its writing leaves the loop to others."""
    found = measure(1_000)
    assert (found.droplets, found.backups) == (1_000, 7_000)
    assert found.written < WRITTEN_WITHIN
    assert found.loaded < LOADED_WITHIN
    assert found.pause < found.written / 2 or found.pause < 0.02
