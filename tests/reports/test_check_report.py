"""What check says of the fleet as a whole."""

from __future__ import annotations

from exporter.fleet.model import Droplet, Fleet
from exporter.reports.check_report import AccountResult, check_report
from tests.support.world import HOUR, MONDAY


def test_an_outage_with_a_state_file() -> None:
    """Droplets that the state file knows are reported with their age, and the exit code says that nobody was asked."""
    droplet = Droplet(1, refreshed_at=MONDAY - 3 * HOUR)
    account = AccountResult("prod", "failure", learned=False, remembered=True)
    report = check_report(MONDAY, [account], [Fleet("prod", (droplet,), known=True)])
    assert report.exit_code == 2
    assert "prod: the API could not be asked; this is what the state file knows, 3 hours old" in report.notes
    assert report.summary.endswith(", as far as the state file knows")


def test_nothing_was_looked_at() -> None:
    """Without a Droplet no report is good, whatever became of the poll."""
    for result, learned in (("success", True), ("failure", False)):
        account = AccountResult("prod", result, learned)  # type: ignore[arg-type]
        report = check_report(MONDAY, [account], [Fleet("prod", known=learned)])
        assert report.exit_code == 2
        assert "protected" not in report.summary
