"""Brings on the worst days at length and writes what came of them to RESULTS.md: `make soak`, half an hour.

`python -m tests.reliability.soak WORD...` runs only the sections whose title holds one of the words; it writes nothing.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

from tests.reliability import attacks, conditions, demo_weeks, endings, faults, host_faults, load, replicas, weeks
from tests.reliability.section import Section, Told
from tests.support.machine import machine

RESULTS = Path(__file__).parent / "RESULTS.md"
PROCESSES = 2
SECTIONS: tuple[Section, ...] = (
    faults.SECTION,
    conditions.SECTION,
    weeks.SECTION,
    endings.SECTION,
    host_faults.SECTION,
    load.SECTION,
    demo_weeks.SECTION,
    replicas.SECTION,
    attacks.SECTION,
)


def main(words: Sequence[str]) -> int:
    if shutil.which("promtool") is None:
        print("promtool is not installed: apt-get install prometheus", file=sys.stderr)
        return 2
    begun = time.monotonic()
    chosen = [one for one in SECTIONS if not words or any(word.lower() in one.title.lower() for word in words)]
    told = run(chosen)
    minutes = (time.monotonic() - begun) / 60
    text = results(f"Measured by `make soak` in {minutes:.0f} minutes on {machine()}.", told)
    print(text)
    wrong = [problem for one in told.values() for problem in one.wrong]
    wrong += [f"not as planned, {place}" for place in unplanned(text, chosen)]
    print(*wrong, sep="\n", file=sys.stderr)
    if not wrong and not words:
        RESULTS.write_text(text)
    return 1 if wrong else 0


def run(sections: Sequence[Section]) -> dict[str, Told]:
    """What came of each section, by its title: those that share the machine first, the others one after the other."""
    found: dict[str, Told] = {}
    with ProcessPoolExecutor(PROCESSES) as workers:
        coming = {one.title: [workers.submit(job) for job in one.jobs] for one in sections if not one.alone}
        for one in sections:
            if not one.alone:
                found[one.title] = one.tell([job.result() for job in coming[one.title]])
                _say(one)
        for one in sections:
            if one.alone:
                found[one.title] = one.tell([workers.submit(job).result() for job in one.jobs])
                _say(one)
    return {one.title: found[one.title] for one in sections}


def results(head: str, told: dict[str, Told]) -> str:
    """The text of RESULTS.md."""
    parts = [line for title, one in told.items() for line in ("", f"## {title}", "", *one.lines)]
    return "\n".join(["# Reliability", "", head, *parts, ""])


def unplanned(text: str, sections: Sequence[Section]) -> list[str]:
    """Where the results are of a run of another size than the code's constants say."""
    wrong = []
    for section in sections:
        _, _, rest = text.partition(f"\n## {section.title}\n")
        part = rest.partition("\n## ")[0]
        wrong += [f"{section.title}: {line}" for line in section.planned if line not in part]
    return wrong


def _say(section: Section) -> None:
    sys.stderr.write(f"{section.title}: done\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
