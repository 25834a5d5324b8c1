"""The commands that ask the API once and end: `once`, `check`, `show`. They return the exit code."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace

import structlog

from exporter import __version__, log
from exporter.cli.source import Load, followed
from exporter.clock import Clock
from exporter.config.model import Account, Config
from exporter.console import print_error, printable
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.client import Client
from exporter.fleet.assemble import Rules, droplet_of, supported_of
from exporter.fleet.model import Fleet
from exporter.metrics.exposition import render
from exporter.metrics.telemetry import Telemetry
from exporter.polling.single_droplet import SingleDroplet, ask_for_droplet
from exporter.polling.state_file import StateFile
from exporter.polling.status import Status
from exporter.reports import check_report, documents, table, textfile
from exporter.reports.check_report import CheckReport, Entry, entry_of
from exporter.reports.droplet_report import LINE_WIDTH, DropletReport, card
from exporter.reports.output import emit
from exporter.reports.phrases import State
from exporter.service import Service

DEMO_NOTE = "a made-up account: nothing here is real"


def once(options: argparse.Namespace, config: Config | None, load: Load) -> int:
    """One poll, the metrics to stdout or a file; 1 if it learned only part, 2 if nothing, or FILE cannot be written."""
    text, results = asyncio.run(_metrics(options, config, load))
    if text is None:
        print_error("nothing was learned" + (f"; {options.output} is as it was" if options.output else ""))
        return 2
    if options.output is None:
        emit(text)
    else:
        try:
            textfile.write(options.output, text)
        except BrokenPipeError:  # /dev/stdout, and who reads it has seen enough
            raise
        except OSError as error:
            structlog.get_logger().error(
                "cannot write",
                file=str(options.output),
                problem=error.strerror or str(error),
                effect="the file is as it was",
                remedy="name a file in a directory that exists, may be written and has room",
            )
            return 2
    return 0 if set(results) == {"success"} else 1


async def _metrics(options: argparse.Namespace, config: Config | None, load: Load) -> tuple[bytes | None, list[str]]:
    async with followed(options, config, load) as (config, load, clock):
        telemetry = Telemetry(__version__, process=False)
        service = Service(config, load, clock, telemetry, guest=True)
        async with _watched("listing droplets and policies", lambda: service.statuses):
            results: list[str] = list(await service.poll_once())
        if not any(status.learned for status in service.statuses):
            return None, results
        own = textfile.own_figures(telemetry.registry)
        return render(service.fleets, clock.now(), service.tag_labels) + own, results


def check(options: argparse.Namespace, config: Config | None, load: Load) -> int:
    """One poll, then every Droplet with its verdict, which is the exit code too."""
    found = asyncio.run(_survey(options, config, load))
    if found is None:
        return 2
    if options.tags and not sum(found.counts.values()) and found.complete:
        print_error(f"no droplet has the tag {' or '.join(options.tags)}; see check without --tag for what there is")
        return 2
    if options.format == "json":
        emit(documents.encode(documents.check_document(found)))
    elif found.learned:
        _tell_survey(found)
    return found.exit_code


async def _survey(options: argparse.Namespace, config: Config | None, load: Load) -> CheckReport | None:
    async with followed(options, config, load) as (config, load, clock):
        chosen = _chosen(config, options.accounts)
        if chosen is None:
            return None
        service = Service(chosen, load, clock, Telemetry(__version__, process=False), guest=True)
        async with _watched("listing droplets and policies", lambda: service.statuses):
            await service.poll_once()
        accounts = [
            check_report.Account(
                status.account,
                status.result or "failure",
                status.learned,
                status.account in service.remembered,
                status.unread,
                status.problems,
            )
            for status in service.statuses
        ]
        return check_report.survey(
            clock.now(),
            accounts,
            service.fleets,
            chosen.grace,
            tags=options.tags,
            only=options.only or tuple(State),
            tag_labels=service.tag_labels,
            notes=[DEMO_NOTE] if options.demo else [],
        )


def _tell_survey(found: CheckReport) -> None:
    laid = table.check_table(found)
    shown = ""
    if len(found.entries) != sum(found.counts.values()):
        shown = f" ({len(found.entries):,} shown)"
    end = "".join(f"Note: {printable(note)}.\n" for note in found.notes) + f"{found.summary}{shown}.\n"
    if _is_terminal(sys.stdout):
        from exporter.reports import terminal

        target = terminal.console()
        if found.entries:
            terminal.show_table(target, laid)
        target.print(f"\n{end}", end="")
    else:
        emit((table.plain(laid) + "\n" if found.entries else "") + end)


# One Droplet


@dataclass(frozen=True, slots=True)
class _Sight:
    """What one account showed of the Droplet, or did not."""

    account: Account
    look: SingleDroplet
    entry: Entry | None = None
    watched: bool = True


def show(options: argparse.Namespace, config: Config | None, load: Load) -> int:
    """One Droplet in full; 1 if something of it could not be read, 2 if no account knows it or none could be asked."""
    sights, at, settings = asyncio.run(_sights(options, config, load))
    if settings is None:
        return 2
    seen = [(sight, sight.entry) for sight in sights if sight.entry is not None]
    code = _told(options.droplet_id, sights)
    if options.format == "json":
        labels = tuple(label.label for label in settings.tag_labels)
        problems = [f"{sight.account.name}: {problem}" for sight in sights for problem in sight.look.errors]
        document = documents.show_document([entry for _, entry in seen], at, labels, code, problems)
        emit(documents.encode(document))
        return code
    width = LINE_WIDTH
    if _is_terminal(sys.stdout):
        width = max(10, min(width, shutil.get_terminal_size().columns - 6))
    cards = [
        card(
            entry,
            supported_of(entry.droplet.policy, sight.look.supported),
            settings.grace,
            at,
            watched=sight.watched,
            width=width,
        )
        for sight, entry in seen
    ]
    _tell_cards(cards, DEMO_NOTE if options.demo else "")
    return code


def _told(droplet_id: int, sights: Sequence[_Sight]) -> int:
    """Says on stderr what went wrong, and gives the exit code."""
    for sight in sights:
        for problem in {log.without_request(problem): problem for problem in sight.look.errors}.values():
            print_error(f"{sight.account.name}: {problem}")
    shown = [sight for sight in sights if sight.entry is not None]
    if shown:
        return 1 if any(sight.look.errors for sight in shown) else 0
    absent = [sight.account.name for sight in sights if sight.look.absent]
    if absent:
        where = f"the account {absent[0]} has" if len(absent) == 1 else f"none of the accounts {', '.join(absent)} has"
        negation = "no" if len(absent) == 1 else "a"
        print_error(f"{where} {negation} droplet {droplet_id}; check lists the droplets there are, with their ids")
    return 2


def _tell_cards(cards: Sequence[DropletReport], note: str) -> None:
    if not cards:
        return
    end = f"\nNote: {note}.\n" if note else ""
    if _is_terminal(sys.stdout):
        from exporter.reports import terminal

        target = terminal.console()
        for number, one in enumerate(cards):
            if number:
                target.print()
            terminal.show_card(target, one)
        target.print(end, end="")
    else:
        emit("\n".join(_plain_card(one) for one in cards) + end)


def _plain_card(one: DropletReport) -> str:
    text = f"{one.title}\n{table.facts(one.facts)}"
    if one.line:
        text += "\n" + "".join(f"  {line}\n" for line in one.line)
    if one.backups is not None:
        text += "\n" + "".join(f"  {line}\n" for line in table.plain(one.backups).splitlines())
    return text


async def _sights(
    options: argparse.Namespace, config: Config | None, load: Load
) -> tuple[list[_Sight], float, Config | None]:
    async with followed(options, config, load) as (config, load, clock):
        chosen = _chosen(config, options.accounts)
        if chosen is None:
            return [], clock.now(), None
        store = StateFile(chosen.state_file, guest=True)
        async with _watched("asking for the droplet", lambda: ()):
            sights = await asyncio.gather(
                *(_sight(options.droplet_id, account, chosen, store, clock) for account in chosen.accounts)
            )
        return list(sights), clock.now(), chosen


async def _sight(droplet_id: int, account: Account, settings: Config, store: StateFile, clock: Clock) -> _Sight:
    kept = store.state(account.name, account.api_url)
    before = kept.known().get(droplet_id) if kept is not None else None
    limits = settings.rate_limit
    client = Client(
        account.api_url,
        account.token.read,
        Budget(limits.per_minute, limits.per_hour, limits.reserve, clock),
        clock,
        timeout=settings.poll.timeout,
        log=structlog.get_logger().bind(account=account.name),
    )
    client.deadline = clock.now() + settings.poll.interval
    async with client:
        look = await ask_for_droplet(client, account.token, droplet_id, before, clock)
    known = look.known
    if known is None:
        return _Sight(account, look)
    now = clock.now()
    prefixes = tuple(label.prefix for label in settings.tag_labels)
    rules = Rules(account.selection, settings.expect_backups, prefixes, settings.grace)
    droplet = droplet_of(known, look.supported, rules, now)
    fleet = Fleet(account.name, (droplet,), tuple(look.supported.values()))
    entry = entry_of(fleet, droplet, now, settings.grace, remembered=before is not None)
    return _Sight(account, look, entry, account.selection.watches(droplet_id, known.description))


# What they share


def _chosen(settings: Config, names: Sequence[str]) -> Config | None:
    """The configuration with the named accounts alone; all, where none is named. `None` if one is not there."""
    unknown = [name for name in names if name not in {account.name for account in settings.accounts}]
    if unknown:
        there = ", ".join(account.name for account in settings.accounts)
        print_error(f'--account: there is no account "{unknown[0]}"; there is {there}')
        return None
    if not names:
        return settings
    return replace(settings, accounts=tuple(account for account in settings.accounts if account.name in names))


@contextlib.asynccontextmanager
async def _watched(doing: str, statuses: Callable[[], Sequence[Status]]) -> AsyncIterator[None]:
    """Shows on a terminal how it is getting on; what is logged meanwhile goes above the bar."""
    if not _is_terminal(sys.stderr):
        yield
        return
    from exporter.reports import terminal

    # Ended by SIGTERM, too, it gives the cursor back.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)
    async with terminal.progress(doing, statuses):
        yield


def _is_terminal(stream: object) -> bool:
    return stream is not None and getattr(stream, "isatty", lambda: False)() is True
