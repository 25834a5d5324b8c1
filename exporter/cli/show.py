"""`show`: one Droplet in full, asked for by its own endpoints."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import structlog

from exporter import log
from exporter.cli.options import ShowOptions
from exporter.cli.progress import progress
from exporter.cli.source import DEMO_NOTE, configuration_source, restricted
from exporter.clock import Clock
from exporter.config.model import Account, Config
from exporter.console import is_terminal, print_error, print_result
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.client import Client
from exporter.fleet.assemble import Rules, assemble
from exporter.fleet.model import Fleet
from exporter.polling.single_droplet import SingleDroplet, ask_for_droplet
from exporter.polling.state_file import StateFile
from exporter.reports import documents, table
from exporter.reports.check_report import JudgedDroplet, judged
from exporter.reports.droplet_report import LINE_WIDTH, DropletReport, droplet_report


@dataclass(frozen=True, slots=True)
class _AccountAnswer:
    """What one account said of the Droplet."""

    account: Account
    told: SingleDroplet
    judged: JudgedDroplet | None = None
    """`None` where the account does not have it, or could not be asked."""
    watched: bool = True


def show(options: ShowOptions) -> int:
    """Prints the Droplet. 0; 1 if something of it could not be read; 2 if no account has it or none could be asked."""
    answers, at, config = asyncio.run(_answers(options))
    found = [(answer, answer.judged) for answer in answers if answer.judged is not None]
    code = _exit_code(options.droplet_id, answers)
    if options.as_json:
        labels = tuple(label.label for label in config.tag_labels)
        problems = [f"{answer.account.name}: {problem}" for answer in answers for problem in answer.told.errors]
        document = documents.show_document([droplet for _, droplet in found], at, labels, code, problems)
        print_result(documents.encode(document))
        return code
    width = LINE_WIDTH
    if is_terminal(sys.stdout):
        width = max(10, min(width, shutil.get_terminal_size().columns - 6))
    reports = [
        droplet_report(
            droplet,
            at,
            watched=answer.watched,
            width=width,
        )
        for answer, droplet in found
    ]
    _print_reports(reports, DEMO_NOTE if options.source.demo else "")
    return code


async def _answers(options: ShowOptions) -> tuple[list[_AccountAnswer], float, Config]:
    async with configuration_source(options.source) as source:
        config = restricted(source.config, options.accounts)
        store = StateFile(config.state_file, guest=True)
        async with progress("asking for the droplet"):
            answers = await asyncio.gather(
                *(_ask(options.droplet_id, account, config, store, source.clock) for account in config.accounts)
            )
        return answers, source.clock.now(), config


async def _ask(droplet_id: int, account: Account, config: Config, store: StateFile, clock: Clock) -> _AccountAnswer:
    kept = store.state(account.name, account.api_url)
    before = kept.known().get(droplet_id) if kept is not None else None
    limits = config.rate_limit
    client = Client(
        account.api_url,
        account.token.read,
        Budget(limits.per_minute, limits.per_hour, limits.reserve, clock),
        clock,
        timeout=config.poll.timeout,
        proxy=config.proxies.proxy_for(account.api_url),
        log=structlog.get_logger().bind(account=account.name),
    )
    client.deadline = clock.now() + config.poll.interval
    async with client:
        told = await ask_for_droplet(client, account.token, droplet_id, before, clock)
    known = told.known
    if known is None:
        return _AccountAnswer(account, told)
    now = clock.now()
    prefixes = tuple(label.prefix for label in config.tag_labels)
    limits_by_age = tuple((limit.select, limit.age) for limit in config.max_age)
    rules = Rules(account.selection, config.expect_backups, prefixes, config.grace, limits_by_age)
    droplet = assemble(known, told.supported, rules, now).droplet
    fleet = Fleet(account.name, (droplet,), tuple(told.supported.values()))
    verdict = judged(fleet, droplet, now)
    return _AccountAnswer(account, told, verdict, account.selection.watches(droplet_id, known.description))


def _exit_code(droplet_id: int, answers: Sequence[_AccountAnswer]) -> Literal[0, 1, 2]:
    """Prints what went wrong to stderr, and gives the exit code."""
    for answer in answers:
        for problem in {log.without_request(problem): problem for problem in answer.told.errors}.values():
            print_error(f"{answer.account.name}: {problem}")
    found = [answer for answer in answers if answer.judged is not None]
    if found:
        return 1 if any(answer.told.errors for answer in found) else 0
    absent = [answer.account.name for answer in answers if answer.told.absent]
    if absent:
        where = (
            f"the account {absent[0]} has no" if len(absent) == 1 else f"none of the accounts {', '.join(absent)} has a"
        )
        print_error(f"{where} droplet {droplet_id}; check lists the droplets there are, with their ids")
    return 2


def _print_reports(reports: Sequence[DropletReport], note: str) -> None:
    if not reports:
        return
    end = f"\nNote: {note}.\n" if note else ""
    if is_terminal(sys.stdout):
        from exporter.reports import terminal

        target = terminal.console()
        for number, report in enumerate(reports):
            if number:
                target.print()
            terminal.show_droplet(target, report)
        target.print(end, end="")
    else:
        print_result("\n".join(_plain(report) for report in reports) + end)


def _plain(report: DropletReport) -> str:
    text = f"{report.title}\n{table.facts(report.facts)}"
    if report.line:
        text += "\n" + "".join(f"  {line}\n" for line in report.line)
    if report.backups is not None:
        text += "\n" + "".join(f"  {line}\n" for line in table.plain(report.backups).splitlines())
    return text
