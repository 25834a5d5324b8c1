"""Whatever the host does, clients are answered and SIGTERM ends the exporter; `make soak` measures it at length."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.reliability.host_faults import FAULTS, Fault, brought_on, end_in_storms

SECONDS = 4.0
LONGEST = 10.0
"""Seconds for an answer where many tests share the machine. What hangs takes thirty."""
KILLED = 3


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_fault(fault: Fault, tool: Callable[[str], str]) -> None:
    """Scrapes are whole and not late, health, page and reloads too, and SIGTERM ends it within 5 s with code 0."""
    tool("strace")
    found = brought_on(fault, SECONDS)
    assert found.wrong == []
    seen = found.seen
    assert seen.plain.answers + seen.gzip.answers > SECONDS
    assert max(each.longest for each in (seen.plain, seen.gzip, seen.health, seen.page, seen.reload)) < LONGEST


def test_reload_storms_on_a_slow_disk(tmp_path: Path, tool: Callable[[str], str]) -> None:
    """Killed amid reloads and slow writes, it leaves a state file that is whole, and the next start uses it."""
    tool("strace")
    endings = end_in_storms(KILLED, tmp_path, random.Random(0))
    assert endings.wrong == []
    assert endings.tried == KILLED
