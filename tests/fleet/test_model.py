from __future__ import annotations

import gc

import pytest

from exporter.fleet.history import BackupHistory
from exporter.fleet.model import Backup, Description, Droplet, Policy, Verdict, Window
from exporter.fleet.state import State
from exporter.fleet.tracked import TrackedDroplet


@pytest.mark.parametrize(
    "value",
    [
        Backup(1, 2.0),
        Window(1.0, 2.0),
        Policy(next_window=Window(1.0, 2.0)),
        Description("web"),
        Verdict(State.PROTECTED),
        Droplet(1, Description("web"), Policy(), (Backup(1, 2.0),)),
        TrackedDroplet(1, BackupHistory(1.0)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_garbage_collector_leaves_the_fleet_alone(value: object) -> None:
    """The garbage collector does not track what a large fleet has many of, because that would delay scrapes."""
    assert not gc.is_tracked(value)
