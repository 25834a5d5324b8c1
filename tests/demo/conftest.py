"""What the tests of the look-alike share: a clock set by hand, and DigitalOcean's document."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.demo.document import Document
from tests.support.world import HandClock

START = 1_790_000_000.0
"""2026-09-21 14:13:20 UTC, a Monday."""


@pytest.fixture
def clock() -> HandClock:
    return HandClock(hand=[START])


@pytest.fixture(scope="session")
def document(reference: Path) -> Document:
    return Document(reference)
