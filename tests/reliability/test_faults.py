"""Every fault through the whole poller and the shipped rules: nothing lost, nothing invented, no hand needed."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from tests.reliability.faults import AT_ONCE, BEGIN, CASES, FIRED, OF_THE_MISSING, title, trials_of, try_all
from tests.reliability.recording import Recording, run_promtool

PARTS = math.ceil(len(CASES) / AT_ONCE)


@pytest.mark.parametrize("part", range(PARTS))
async def test_faults(part: int, tool: Callable[[str], str], tmp_path: Path) -> None:
    """While a fault lasts healthy data stay and the figures name it; once it is over all is well; no alert is false.

    The only alert about a Droplet is for the one whose backup was truly missed, and it comes after every fault.
    """
    promtool = tool("promtool")
    cases = CASES[part::PARTS]
    recording = Recording(BEGIN)
    with capture_logs() as log:
        findings = await try_all(cases, recording)
    assert [entry for entry in log if entry.get("exc_info")] == [], "a listing that fails is said; nothing breaks off"
    wrong = {name: finding.wrong for name, finding in findings.items() if finding.wrong}
    assert wrong == {}
    names = [title(case, cold=cold) for case, cold in trials_of(cases)]
    assert sorted(names) == sorted(findings)
    told = {
        FIRED: OF_THE_MISSING,
        'count(ALERTS{alertname="DropletBackupOverdue",alertstate="firing"})': {"{}": float(len(names))},
    }
    assert run_promtool(promtool, tmp_path, recording, told) == ""
