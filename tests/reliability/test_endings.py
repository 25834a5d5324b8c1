"""Ended at any moment, the exporter loses nothing: by SIGTERM and by SIGKILL; `make soak` does it more often."""

from __future__ import annotations

import random
import signal
from pathlib import Path

import pytest

from tests.reliability.endings import end_again_and_again

TIMES = 3


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_endings(how: signal.Signals, tmp_path: Path) -> None:
    """Whenever it is ended the state file is whole and the next start uses it; SIGTERM ends it with 0 within 5 s."""
    endings = end_again_and_again(TIMES, how, tmp_path, random.Random(how))
    assert endings.wrong == []
    assert endings.tried == TIMES
