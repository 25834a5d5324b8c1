"""`check`: one poll, then every Droplet with its verdict. The exit code says whether all is well."""

from __future__ import annotations

import sys

from exporter import __version__, threads
from exporter.cli.options import CheckOptions
from exporter.cli.progress import progress
from exporter.cli.source import DEMO_NOTE, loaded_configuration, restricted
from exporter.console import is_terminal, print_error, print_result, printable
from exporter.metrics.telemetry import Telemetry
from exporter.reports import documents, table
from exporter.reports.check_report import AccountResult, CheckReport, check_report
from exporter.service import Service


def check(options: CheckOptions) -> int:
    """Polls once and prints the report. Returns the exit code that `check --help` describes."""
    report = threads.run(_report(options))
    no_droplets = not sum(report.counts.values())
    if options.as_json:
        print_result(documents.encode_document(documents.check_document(report)))
    elif options.tags and no_droplets and report.complete:
        print_error(f"no droplet has the tag {' or '.join(options.tags)}; check without --tag shows all droplets")
    elif report.learned or not no_droplets:
        _print_report(report)
    return report.exit_code


async def _report(options: CheckOptions) -> CheckReport:
    async with loaded_configuration(options.source) as loaded:
        config = restricted(loaded.config, options.accounts)
        service = Service(config, loaded.reread, loaded.clock, Telemetry(__version__, process=False), short_lived=True)
        async with progress("listing droplets and policies", lambda: service.statuses):
            results = await service.poll_once()
        accounts = [
            AccountResult(
                account.name,
                result,
                status.learned,
                remembered=account.name in service.remembered,
                watched=account.watched_since is not None,
                unread=status.unread,
                left_out=status.left_out,
                problems=status.problems,
            )
            for account, status, result in zip(config.accounts, service.statuses, results, strict=True)
        ]
        return check_report(
            loaded.clock.now(),
            accounts,
            service.fleets,
            tags=options.tags,
            only=options.only,
            tag_labels=service.tag_labels,
            notes=[DEMO_NOTE] if options.source.demo else [],
        )


def _print_report(report: CheckReport) -> None:
    rows = table.check_table(report)
    shown = ""
    if len(report.droplets) != sum(report.counts.values()):
        shown = f" ({len(report.droplets):,} shown)"
    end = "".join(f"Note: {printable(note)}.\n" for note in report.notes) + f"{report.summary}{shown}.\n"
    if is_terminal(sys.stdout):
        from exporter.reports import terminal

        target = terminal.terminal_console()
        if report.droplets:
            terminal.show_table(target, rows)
        target.print(f"\n{end}", end="")
    else:
        print_result((table.plain_text(rows) + "\n" if report.droplets else "") + end)
