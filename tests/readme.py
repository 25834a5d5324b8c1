"""The parts of the documents that are made, not written; `python -m tests.readme` puts them in place."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from pathlib import Path

from exporter.metrics.families import ACCOUNT_FAMILIES, DROPLET_FAMILIES, EXPORTER_FAMILIES, IDENTITY, Family
from tests.reliability import attacks, replicas

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
METRICS = ROOT / "exporter" / "metrics" / "README.md"
SECURITY = ROOT / ".github" / "SECURITY.md"
AVAILABILITY = ROOT / "deploy" / "high-availability.md"
BENCHMARKS = ROOT / "tests" / "benchmarks" / "RESULTS.md"
RELIABILITY = ROOT / "tests" / "reliability" / "RESULTS.md"


def metric_reference() -> str:
    """The metrics of `families.py`, as their document shows them."""
    parts = []
    for title, families in (
        (f"Per Droplet (gauges; labels {_code(IDENTITY)} and those named)", DROPLET_FAMILIES),
        ("Per account (gauges)", ACCOUNT_FAMILIES),
        ("The exporter itself", EXPORTER_FAMILIES),
    ):
        own = IDENTITY if families is DROPLET_FAMILIES else ()
        rows = [_row(family, own) for family in families]
        parts.append(
            "\n".join([f"**{title}**", "", "| family | type | labels | meaning |", "|---|---|---|---|", *rows])
        )
    return "\n\n".join(parts)


def _row(family: Family, identity: tuple[str, ...]) -> str:
    more = [label for label in family.labels if label not in identity]
    labels = _code(more) + (" and one per tag label" if getattr(family, "tagged", False) else "")
    return f"| `{family.name}` | {family.type} | {labels} | {family.help} |"


def _code(labels: tuple[str, ...] | list[str]) -> str:
    return ", ".join(f"`{label}`" for label in labels)


FIGURES = (
    ("requests to the API in a day, for 10,000 Droplets", BENCHMARKS, ("requests, day",)),
    ("the same, of what a token may send", BENCHMARKS, ("the same, of what a token may send",)),
    ("a scrape of 10,000 Droplets", BENCHMARKS, ("scrape",)),
    ("memory with 10,000 Droplets, at most", BENCHMARKS, ("resident memory, at most",)),
    ("false alerts about a Droplet under faults", RELIABILITY, ("false alerts about a Droplet, by the shipped rules",)),
    (
        "droplet-weeks simulated / false alarms (but in the one condition named there) / misses never shown",
        RELIABILITY,
        ("droplet-weeks simulated", "false alarms", "misses never shown"),
    ),
)
"""The figures of the README: what it calls each, the file, and the rows that hold it."""


def figures() -> str:
    """The six figures that matter, as `make bench` and `make soak` measured them last."""
    rows = [f"| {what} | {' / '.join(measured(results, row) for row in rows)} |" for what, results, rows in FIGURES]
    return "\n".join(["| figure | measured |", "|---|---:|", *rows])


def measured(results: Path, what: str) -> str:
    """The value in the row of this name, or of this name and `in` so many polls: the second cell of the first one."""
    found = re.search(rf"^\| {re.escape(what)}(?: in [^|]*)? \| ([^|]+?) \|", results.read_text(), re.MULTILINE)
    if found is None:
        raise LookupError(f'{results.relative_to(ROOT)} has no row "{what}", which the README shows')
    return found[1]


def reliability(title: str) -> str:
    """A section of what `make soak` measured."""
    return RELIABILITY.read_text().partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


PARTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"figures": figures},
    METRICS: {"metrics": metric_reference},
    AVAILABILITY: {"replicas": partial(reliability, replicas.SECTION.title)},
    SECURITY: {"attacks": partial(reliability, attacks.SECTION.title)},
}
"""The documents, and what is made in each."""


def made(document: Path) -> str:
    """The document's text with all generated parts up to date."""
    text = document.read_text()
    for name, make in PARTS[document].items():
        begin, end = f"<!-- made: {name} -->\n", f"\n<!-- end: {name} -->"
        head, rest = text.split(begin)
        _, tail = rest.split(end)
        text = head + begin + make() + end + tail
    return text


if __name__ == "__main__":
    for document in PARTS:
        document.write_text(made(document))
