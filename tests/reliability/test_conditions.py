"""Under each condition of the simulated weeks: no false alarm, and no miss that is called protected."""

from __future__ import annotations

import pytest

from tests.reliability.conditions import CONDITIONS, Condition, try_condition


@pytest.mark.parametrize("condition", CONDITIONS, ids=lambda condition: condition.name)
def test_condition(condition: Condition) -> None:
    """No window that was made is shown as missed; every miss whose list could be read is shown, once it is due."""
    found = try_condition(condition, seed=1, weeks=0.7)
    assert found.windows > 0
    assert condition.left or not found.false_alarms, found.examples
    assert not found.never_shown, found.examples
    assert not found.protected_hours, found.examples
