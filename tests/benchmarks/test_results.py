from __future__ import annotations

import re
import subprocess
from pathlib import Path
from xml.etree import ElementTree

from tests.benchmarks import dashboards, notifications, rules, state
from tests.benchmarks.__main__ import GROWTH_OF, POLLS_FOR_MEMORY, RESULTS, SMALL
from tests.benchmarks.chart import growth
from tests.benchmarks.economy import LARGE, SIZES, Count
from tests.support.committed import committed

DAYS = [
    Count("day", 100, ours=1_000, floor=900, plain=30_000),
    Count("day", 20_000, ours=80_000, floor=58_000, plain=5_800_000),
]


def test_results_hold_what_was_wanted() -> None:
    """The results that are committed miss nothing that was wanted."""
    assert "missed" not in RESULTS.read_text()


def test_what_is_published_is_the_whole_run() -> None:
    """The committed results are of the sizes that the code's constants name: of no shorter run."""
    results = RESULTS.read_text()
    for size in (
        f"## At {LARGE:,} Droplets",
        f"| its growth in a thousand polls within the hour, at {SMALL} Droplets |",
        f"## From {SIZES[0]:,} to {SIZES[-1]:,} Droplets",
        f"with {rules.DROPLETS:,} Droplets of which {rules.MISSING:,} miss their backups",
        f"with {dashboards.DROPLETS:,} Droplets served by {dashboards.REPLICAS} replicas",
        f"## The state file, with {state.DROPLETS:,} Droplets",
        *(f"| {count:,} firing |" for count in notifications.COUNTS),
    ):
        assert size in results
    polls = re.search(r"^\| resident memory, at most in ([0-9]+) polls \|", results, re.MULTILINE)
    assert polls
    assert int(polls[1]) >= POLLS_FOR_MEMORY
    grown = [re.search(rf"^\| {count:,} \|( [^|]+ \|){{7}}$", results, re.MULTILINE) for count in GROWTH_OF]
    assert all(grown)


def test_figures_are_published_of_committed_code_alone(tmp_path: Path) -> None:
    """A commit is named while the working tree is as committed, but for the results themselves."""

    def git(*arguments: str) -> None:
        command = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@example.com", *arguments]
        subprocess.run(command, check=True, capture_output=True)

    results, code = tmp_path / "RESULTS.md", tmp_path / "code.py"
    git("init")
    code.write_text("a = 1\n")
    git("add", ".")
    git("commit", "--message=one")
    results.write_text("of a run\n")
    name = committed(results, root=tmp_path)
    assert name
    code.write_text("a = 2\n")
    assert committed(results, root=tmp_path) is None
    git("commit", "--all", "--message=two")
    assert committed(results, root=tmp_path) not in (None, name)
    (tmp_path / "more.py").touch()
    assert committed(results, root=tmp_path) is None


def test_chart() -> None:
    """The chart is well-formed SVG that says in words what it shows, and draws more requests higher up."""
    root = ElementTree.fromstring(growth(DAYS))
    space = "{http://www.w3.org/2000/svg}"
    title = root.findtext(f"{space}title") or ""
    for number in ("100", "20,000", "1,000", "80,000", "30,000", "5,800,000", "120,000"):
        assert number in title
    dots = {
        kind: [float(dot.get("cy", "")) for dot in root.iter(f"{space}circle") if dot.get("class") == f"dot-{kind}"]
        for kind in ("ours", "plain")
    }
    assert len(dots["ours"]) == len(dots["plain"]) == len(DAYS)
    for ours, plain in zip(dots["ours"], dots["plain"], strict=True):
        assert plain < ours
    assert dots["ours"][1] < dots["ours"][0]
