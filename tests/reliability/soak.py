"""Brings on every fault, in minutes rather than seconds, and writes what came of it to RESULTS.md.

`python -m tests.reliability.soak [WORD...]`: only the faults whose name holds one of the words, and nothing is written.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
import time
from pathlib import Path

from structlog.testing import capture_logs

from tests.reliability.faults import BEGIN, CASES, MISSING, Finding, try_all
from tests.reliability.recording import Recording, run_promtool

RESULTS = Path(__file__).parent / "RESULTS.md"
FIRED = 'max by (alertname, droplet_id) (max_over_time(ALERTS{droplet_id!="",alertstate="firing"}[2d]))'


def main() -> int:
    words = sys.argv[1:]
    cases = [case for case in CASES if not words or any(word in case.name for word in words)]
    promtool = shutil.which("promtool")
    if promtool is None:
        print("promtool is not installed: apt-get install prometheus", file=sys.stderr)
        return 2
    begun = time.monotonic()
    recording = Recording(BEGIN)
    with capture_logs():
        findings = asyncio.run(try_all(cases, recording))
    wrong = {name: finding.wrong for name, finding in findings.items() if finding.wrong}
    with tempfile.TemporaryDirectory() as folder:
        told = {FIRED: {f'{{alertname="DropletBackupOverdue",droplet_id="{MISSING}"}}': 1.0}}
        false_alarms = run_promtool(promtool, Path(folder), recording, told)
    for name, problems in wrong.items():
        print(f"{name}: {'; '.join(problems)}")
    print(false_alarms)
    text = report(findings, len(cases), len(wrong), bool(false_alarms), time.monotonic() - begun)
    print(text)
    if not words:
        RESULTS.write_text(text)
    return 1 if wrong or false_alarms else 0


def report(findings: dict[str, Finding], faults: int, wrong: int, false_alarms: bool, seconds: float) -> str:
    rows = {
        "faults tried": faults,
        "trials, those of an exporter started into a fault included": len(findings),
        "trials survived": len(findings) - wrong,
        "polls": sum(finding.polls for finding in findings.values()),
        "false alerts about a Droplet": "some" if false_alarms else "none",
        "seconds": round(seconds),
    }
    return "\n".join(
        ["| what | measured |", "|---|---|", *(f"| {what} | {value} |" for what, value in rows.items()), ""]
    )


if __name__ == "__main__":
    sys.exit(main())
