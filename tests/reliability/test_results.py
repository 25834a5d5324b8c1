"""RESULTS.md tells of a run of the size that the code has now."""

from __future__ import annotations

from dataclasses import replace

from tests.reliability.section import Section, Told
from tests.reliability.soak import RESULTS, SECTIONS, results, unplanned


def test_a_shorter_run_is_found() -> None:
    """A count that is not as planned is named, and so is a section that is missing or holds another's count."""
    whole = Section("Whole", ("| tried | 20 |",), (), lambda _: Told(()))
    other = replace(whole, title="Other")
    assert unplanned(results("", {"Whole": Told(["| tried | 20 |"])}), [whole]) == []
    assert unplanned(results("", {"Whole": Told(["| tried | 2 |"])}), [whole]) == ["Whole: | tried | 20 |"]
    assert unplanned(results("", {"Whole": Told(["| tried | 20 |"])}), [other]) == ["Other: | tried | 20 |"]
    both = {"Other": Told(["| tried | 2 |"]), "Whole": Told(["| tried | 20 |"])}
    assert unplanned(results("", both), [other, whole]) == ["Other: | tried | 20 |"]


def test_what_is_published_is_the_whole_run() -> None:
    """The committed results hold every count that the code's constants plan: they are of no shorter run."""
    assert unplanned(RESULTS.read_text(), SECTIONS) == []
