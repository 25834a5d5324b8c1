"""Attacks in short: one of each kind. The bounds are wide, for many tests share the machine; `make soak` has the true
figures."""

from __future__ import annotations

import pytest

from tests.reliability.attacks import ATTACKS, FEW, Attack, tried, wrong

SHORT = (
    "30 connections: chunks of one byte",
    "30 connections: an upgrade, and then zeros",
    "30 connections: requests without end, no answer read",
    "1,500 readers that stop reading",
    f"300 silent connections, {FEW} files allowed",
    f"300 readers of 20 kB a second, {FEW} files allowed",
    "50 clients: searches whose answer nobody awaits",
)


@pytest.mark.parametrize("attack", [attack for attack in ATTACKS if attack.name in SHORT], ids=lambda one: one.name)
def test_an_attack(attack: Attack) -> None:
    """The exporter is scraped while it is attacked, its memory stays bounded, and its log says what is wrong once."""
    assert wrong(attack, tried(attack, 3.0, 500), longest=10.0) == []
