"""How large the notifications are, sent by the real Alertmanager: `python -m tests.benchmarks.notifications`."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tests.support.alertmanager import LIMITS, notified
from tests.support.generations import GENERATIONS, Generation

COUNTS = (1, 11, 3_000)


def measure(generation: Generation) -> dict[str, list[int]]:
    """Of each receiver, the size in bytes of what it gets with each of these numbers of alerts firing."""
    sizes: dict[str, list[int]] = {name: [] for name in LIMITS}
    for count in COUNTS:
        with tempfile.TemporaryDirectory() as directory:
            firing, _ = notified(generation, count, Path(directory))
        for name, body in firing.items():
            sizes[name].append(len(body))
    return sizes


def missed(found: Mapping[str, Mapping[str, list[int]]]) -> bool:
    """Whether some receiver would refuse what it gets."""
    return any(max(numbers) > LIMITS[name] for sizes in found.values() for name, numbers in sizes.items())


def table(found: Mapping[str, Mapping[str, list[int]]]) -> list[str]:
    """The result as lines of Markdown, by the generation's name."""
    return [
        f"| receiver | Alertmanager | {' | '.join(f'{count:,} firing' for count in COUNTS)} | limit |",
        f"|---|---|{'---:|' * (len(COUNTS) + 1)}",
        *(
            f"| {name} | {generation} | {' | '.join(f'{number:,} B' for number in numbers)} "
            f"| ≤ {LIMITS[name]:,} B{' **missed**' if max(numbers) > LIMITS[name] else ''} |"
            for generation, sizes in found.items()
            for name, numbers in sizes.items()
        ),
    ]


def main() -> int:
    found = {generation.name: measure(generation) for generation in GENERATIONS}
    sys.stdout.write("\n".join(table(found)) + "\n")
    return 1 if missed(found) else 0


if __name__ == "__main__":
    sys.exit(main())
