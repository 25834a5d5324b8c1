"""What check says of the fleet as a whole."""

from __future__ import annotations

import pytest

from exporter.cli.arguments import CHECK
from exporter.fleet.model import Droplet, Fleet, Verdict
from exporter.fleet.state import State
from exporter.reports.check_report import AccountResult, check_report
from tests.support.world import HOUR, MONDAY


def test_an_outage_with_a_state_file() -> None:
    """In an outage the Droplets of the state file are reported with their age, and the exit code is 2."""
    droplet = Droplet(1, refreshed_at=MONDAY - 3 * HOUR)
    account = AccountResult("prod", "failure", learned=False, remembered=True)
    report = check_report(MONDAY, [account], [Fleet("prod", (droplet,), known=True)])
    assert report.exit_code == 2
    assert "prod: the API could not be asked; this is what the state file knows, 3 hours old" in report.notes
    assert report.summary.endswith(", as far as the state file knows")


def test_nothing_was_looked_at() -> None:
    """A report without any Droplet is never good."""
    for result, learned in (("success", True), ("failure", False)):
        account = AccountResult("prod", result, learned)  # type: ignore[arg-type]
        report = check_report(MONDAY, [account], [Fleet("prod", known=learned)])
        assert report.exit_code == 2
        assert "protected" not in report.summary


def test_all_that_is_missing_is_said() -> None:
    """An account of which records were not understood and lists not read has a note about each."""
    account = AccountResult("prod", "partial", learned=True, remembered=True, unread=2, left_out=1)
    notes = check_report(MONDAY, [account], [Fleet("prod", known=True)]).notes
    assert ["1 droplet " in note for note in notes] == [True, False]
    assert ["2 lists of backups" in note for note in notes] == [False, True]


@pytest.mark.parametrize("state", State)
def test_exit_code_of_each_state(state: State) -> None:
    """The exit code of a single Droplet is the one that the contract names, and the help names the same states."""
    fleet = Fleet("prod", (Droplet(1, verdict=Verdict(state)),), known=True)
    report = check_report(MONDAY, [AccountResult("prod", "success", learned=True, remembered=True)], [fleet])
    wrong = state in ("missing", "overdue", "stale", "never-taken", "unprotected")
    assert report.exit_code == (1 if wrong else 2 if state == "unjudged" else 0)
    ones = " ".join(CHECK.split()).partition("; 1 a Droplet is ")[2].partition(";")[0]
    assert (state.words in ones.replace(" or ", ", ").split(", ")) is wrong
