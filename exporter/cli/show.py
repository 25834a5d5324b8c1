"""`show`: everything about one Droplet, which is asked for by its own endpoints."""

from __future__ import annotations

import asyncio
import shutil
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal

import structlog
from msgspec import structs

from exporter import log, threads
from exporter.cli.options import ShowOptions
from exporter.cli.progress import progress
from exporter.cli.source import DEMO_NOTE, loaded_configuration, restricted
from exporter.clock import Clock
from exporter.config.model import Account, Config
from exporter.config.tokens import TokenError
from exporter.console import is_terminal, print_error, print_result
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import ApiError
from exporter.fleet.assemble import assemble, clock_ahead_of
from exporter.fleet.listings import AccountListings
from exporter.fleet.model import AccountDroplet, Droplet
from exporter.polling.lister import Lister
from exporter.polling.single_droplet import SingleDroplet, ask_for_droplet
from exporter.polling.state_file import StateFile
from exporter.polling.status import in_words
from exporter.reports import documents, table
from exporter.reports.droplet_report import LINE_WIDTH, DropletReport, droplet_report
from exporter.reports.phrases import duration_words


@dataclass(frozen=True, slots=True)
class _AccountAnswer:
    """What one account has of the Droplet."""

    account: Account
    droplet_id: int
    lookup: SingleDroplet
    droplet: Droplet | None = None
    """`None` if the account does not have it, or could not be asked and the state file does not have it."""
    watched: bool = True
    """Whether the configuration selects the Droplet."""
    remembered: bool = False
    """Whether the API could not be asked, so that the Droplet is from the state file."""


def show(options: ShowOptions) -> int:
    """Prints the Droplet. Returns 0; 1 if a part could not be read; 2 if no account has it or none could be asked."""
    answers, at, config = threads.run(_ask_accounts(options))
    if not answers:
        return 2
    found = [
        (answer, AccountDroplet(answer.account.name, answer.droplet))
        for answer in answers
        if answer.droplet is not None
    ]
    code = _exit_code(answers, at)
    if options.as_json:
        labels = tuple(label.label for label in config.tag_labels)
        problems = [f"{answer.account.name}: {problem}" for answer in answers for problem in answer.lookup.errors]
        document = documents.show_document([droplet for _, droplet in found], at, labels, code, problems)
        print_result(documents.encode_document(document))
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


async def _ask_accounts(options: ShowOptions) -> tuple[list[_AccountAnswer], float, Config]:
    """The accounts' answers, the time of the answers in Unix seconds, and the configuration used."""
    async with loaded_configuration(options.source) as loaded:
        config = restricted(loaded.config, options.accounts)
        store = StateFile(config.state_file, short_lived=True)
        async with progress("asking for the droplet"):
            if isinstance(options.droplet, int):
                places = [(account, options.droplet) for account in config.accounts]
            else:
                places = await _find_by_name(options.droplet, config, store, loaded.clock)
            answers = await asyncio.gather(
                *(_ask_account(droplet_id, account, config, store, loaded.clock) for account, droplet_id in places)
            )
        return answers, loaded.clock.now(), config


async def _find_by_name(name: str, config: Config, store: StateFile, clock: Clock) -> list[tuple[Account, int]]:
    """The account and the id of the Droplet with this name; prints an error and returns nothing if there is not one."""
    listed = await asyncio.gather(*(_names(account, config, store, clock) for account in config.accounts))
    everything = [(account, droplet_id, names[droplet_id]) for account, names, _ in listed for droplet_id in names]
    found = [(account, droplet_id) for account, droplet_id, called in everything if called == name]
    if len(found) > 1:
        ids = ", ".join(f"{droplet_id} (account {account.name})" for account, droplet_id in found)
        print_error(f'{len(found)} droplets have the name "{name}": {ids}; show one by its id')
        return []
    if not found:
        near = get_close_matches(name, {called for _, _, called in everything}, 1)
        hint = f'did you mean "{near[0]}"?' if near else "check lists the droplets there are"
        if all(complete for _, _, complete in listed):
            print_error(f'no droplet has the name "{name}"; {hint}')
        else:
            hint = hint if near else "try again later, or give its id"
            print_error(f'no droplet with the name "{name}" is known, but not all could be listed; {hint}')
    return found


async def _names(
    account: Account, config: Config, store: StateFile, clock: Clock
) -> tuple[Account, dict[int, str], bool]:
    """The account, the names of its Droplets by id, and whether all Droplets were listed and understood.

    The names are those in the state file if no listing has any.
    """
    async with _client(account, config, clock) as client:
        try:
            await client.refresh_token()
        except (TokenError, ApiError) as error:
            print_error(f"{account.name}: {in_words(error, account.token)}")
            listings = AccountListings()
        else:
            listings, errors = await Lister(client, frozenset()).listings()
            _print_problems(account, [in_words(error, account.token) for error in errors])
    understood = not listings.rejected_droplets and not listings.unidentified_droplets
    names = {droplet_id: described.name for droplet_id, described in listings.descriptions.items()}
    if not names:
        saved = store.state(account.name, account.api_url)
        droplets = saved.tracked().values() if saved is not None else ()
        names = {droplet.id: droplet.description.name for droplet in droplets if droplet.description is not None}
    return account, names, listings.droplets_complete and understood


def _print_problems(account: Account, problems: Iterable[str]) -> None:
    """Prints each problem to stderr; of those that several requests have in common, one."""
    for problem in {log.without_request(problem): problem for problem in problems}.values():
        print_error(f"{account.name}: {problem}")


def _client(account: Account, config: Config, clock: Clock) -> Client:
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
    client.http.deadline = clock.now() + config.poll.interval
    return client


async def _ask_account(
    droplet_id: int, account: Account, config: Config, store: StateFile, clock: Clock
) -> _AccountAnswer:
    """What the account has of the Droplet, from the API or else from the state file."""
    saved = store.state(account.name, account.api_url)
    before = saved.tracked().get(droplet_id) if saved is not None else None
    async with _client(account, config, clock) as client:
        lookup = await ask_for_droplet(
            client, account.token, droplet_id, before, clock, watched_since=account.watched_since
        )
    known, remembered = lookup.tracked, False
    if known is None and saved is not None and before is not None and not lookup.absent:
        known, remembered = structs.replace(before, unread=True), True
        lookup = replace(lookup, supported={policy.plan: policy for policy in saved.supported})
    if known is None:
        return _AccountAnswer(account, droplet_id, lookup)
    now = clock.now()
    ahead = clock_ahead_of(client.clock_skew)
    droplet = assemble(known, lookup.supported, config.rules(account), now, ahead).droplet
    watched = account.selection.watches(droplet_id, known.description)
    return _AccountAnswer(account, droplet_id, lookup, droplet, watched, remembered)


def _exit_code(answers: Sequence[_AccountAnswer], at: float) -> Literal[0, 1, 2]:
    """Prints to stderr what went wrong. Returns the exit code."""
    for answer in answers:
        _print_problems(answer.account, answer.lookup.errors)
    found = [answer for answer in answers if answer.droplet is not None]
    for answer in found:
        if answer.remembered and answer.droplet is not None:
            read_at = answer.droplet.refreshed_at
            age = f", {duration_words(at - read_at)} old" if read_at is not None else ""
            print_error(f"{answer.account.name}: the API could not be asked; this is what the state file knows{age}")
    if found and not all(answer.remembered for answer in found):
        return 1 if any(answer.lookup.errors for answer in found) else 0
    absent = [answer.account.name for answer in answers if answer.lookup.absent]
    if absent:
        where = (
            f"the account {absent[0]} has no" if len(absent) == 1 else f"none of the accounts {', '.join(absent)} has a"
        )
        print_error(f"{where} droplet {answers[0].droplet_id}; check lists the droplets there are, with their ids")
    return 2


def _print_reports(reports: Sequence[DropletReport], note: str) -> None:
    if not reports:
        return
    end = f"\nNote: {note}.\n" if note else ""
    if is_terminal(sys.stdout):
        from exporter.reports import terminal

        target = terminal.terminal_console()
        for number, report in enumerate(reports):
            if number:
                target.print()
            terminal.show_droplet(target, report)
        target.print(end, end="")
    else:
        print_result("\n".join(_plain(report) for report in reports) + end)


def _plain(report: DropletReport) -> str:
    text = f"{report.title}\n{table.facts_text(report.facts)}"
    if report.line:
        text += "\n" + "".join(f"  {line}\n" for line in report.line)
    if report.backups is not None:
        text += "\n" + "".join(f"  {line}\n" for line in table.plain_text(report.backups).splitlines())
    return text
