"""Weeks of random events: nothing lost, nothing invented. `make soak` lives through more, and shrinks what it finds."""

from __future__ import annotations

import pytest

from tests.reliability.weeks import live_through

PARTS = 2
"""In how many parts they are lived through, so that several processors share the work."""
ACCOUNTS = 12
"""Of each part: ten weeks each, more or less."""


@pytest.mark.parametrize("part", range(PARTS))
def test_weeks(part: int) -> None:
    """Every true miss is shown, no other is; no series is lost or left behind; counters grow; no value is negative."""
    lived = live_through(ACCOUNTS, shrink=False)
    assert lived.weeks > 2 * ACCOUNTS, "weeks are lived through indeed"
    assert lived.polls > 10 * lived.weeks
