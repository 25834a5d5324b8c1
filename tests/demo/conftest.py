"""What the tests of the look-alike share: a clock set by hand, and DigitalOcean's document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo.document import Document

START = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC, a Monday."""


class HandClock:
    """Unix seconds that stand still until a test moves them."""

    def __init__(self, time: float) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


@pytest.fixture
def clock() -> HandClock:
    return HandClock(START)


@pytest.fixture(scope="session")
def document(reference: Path) -> Document:
    return Document(reference)
