"""What it costs to ask the command what it can do."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.support.processes import COMMAND

CPU_SECONDS = 0.2
TRIES = 5


@pytest.mark.parametrize("words", ["--help", "--version", "check --help", "show --help"])
def test_help_costs_next_to_nothing(words: str) -> None:
    """Help and version take under 0.2 s of CPU, the best of a few tries on a machine that others use too."""
    assert min(_cpu_seconds(words.split()) for _ in range(TRIES)) < CPU_SECONDS


def _cpu_seconds(words: list[str]) -> float:
    process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0
    return usage.ru_utime + usage.ru_stime
