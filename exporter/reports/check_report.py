"""What `check` reports after one poll: every Droplet with its state, the worst first; a summary; the exit code."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from exporter.fleet.model import AccountDroplet, Fleet
from exporter.fleet.state import State
from exporter.polling.status import PollResult
from exporter.reports.phrases import clock_words, count_states, duration_words, headline, plural, worst_first

SINGLE_LOOK = (
    "nothing is remembered from before, so windows before now do not count as missed: an old gap is unjudged or stale"
)
NO_TAGS = "the API does not send tags, so what depends on them is not known; give the token the scope tag:read"
NO_DROPLETS = "no droplets; if there should be some, the token may be another team's, or select leave them out"


@dataclass(frozen=True, slots=True)
class AccountResult:
    """How the poll of one account went."""

    name: str
    result: PollResult
    learned: bool
    """Whether the poll learned anything."""
    remembered: bool = False
    """Whether a state file contained what was known before."""
    watched: bool = False
    """Whether it counts as watched before this look although nothing is remembered: the demo does."""
    unread: int = 0
    """How many lists of backups had to be read and were not."""
    left_out: int = 0
    """How many Droplets are missing because their records could not be understood."""
    problems: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckReport:
    """The answer to the question "are my backups all right?"."""

    at: float
    accounts: tuple[AccountResult, ...]
    droplets: tuple[AccountDroplet, ...] = ()
    """The Droplets in the states that were asked for, the worst first."""
    counts: Mapping[State, int] = field(default_factory=lambda: count_states(()))
    """How many Droplets are in each state, including the states that were not asked for."""
    tag_labels: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    """What a reader needs to know to understand the report correctly."""

    @property
    def complete(self) -> bool:
        """Whether the listings of every account were complete and understood, so that no Droplet is missing."""
        return all(account.result != "failure" and not account.left_out for account in self.accounts)

    @property
    def learned(self) -> bool:
        """Whether the poll of any account learned anything."""
        return any(account.learned for account in self.accounts)

    @property
    def summary(self) -> str:
        """One sentence about all Droplets."""
        if not self.learned and not sum(self.counts.values()):
            return "The poll learned nothing"
        limit = "" if self.complete else ", as far as the droplets could be listed"
        if not self.learned:
            limit = ", as far as the state file knows"
        return headline(self.counts) + limit

    @property
    def exit_code(self) -> Literal[0, 1, 2]:
        """0: all is well; 1: something is wrong; 2: something is not known, or there was no Droplet."""
        if any(entry.state.is_bad for entry in self.droplets):
            return 1
        unsure = not self.complete or any(entry.state is State.UNJUDGED for entry in self.droplets)
        return 2 if unsure or not sum(self.counts.values()) else 0


def check_report(
    at: float,
    accounts: Iterable[AccountResult],
    fleets: Iterable[Fleet],
    *,
    tags: Collection[str] = (),
    only: Collection[State] = tuple(State),
    tag_labels: tuple[str, ...] = (),
    notes: Iterable[str] = (),
) -> CheckReport:
    """The report about these fleets at the time `at`.

    `tags`: if not empty, only about Droplets with any of them. `only`: the states that are shown and that decide the
    exit code. `notes`: more notes for the reader.
    """
    accounts_by_name = {account.name: account for account in accounts}
    fleets = list(fleets)
    entries = [
        AccountDroplet(fleet.account, droplet)
        for fleet in fleets
        for droplet in fleet.droplets
        if not tags or (droplet.description is not None and not set(tags).isdisjoint(droplet.description.tags or ()))
    ]
    entries.sort(key=lambda entry: (worst_first(entry.droplet), entry.account))
    all_notes = list(notes)
    empty = {fleet.account for fleet in fleets if not fleet.droplets}
    remembered = {
        fleet.account: max((droplet.refreshed_at or 0.0 for droplet in fleet.droplets), default=0.0)
        for fleet in fleets
        if fleet.droplets
    }
    """By account: when the newest of what is known was read, in Unix seconds; 0: not known."""
    for fleet in fleets:
        if fleet.clock_ahead is not None:
            clock = clock_words(fleet.clock_ahead)
            all_notes.append(f"{fleet.account}: {clock}, so nothing is judged until they agree; set the clock")
        if fleet.untagged:
            all_notes.append(f"{fleet.account}: {NO_TAGS}")
    for account in accounts_by_name.values():
        if account.result == "failure" and not account.learned and account.name in remembered:
            age = f", {duration_words(at - remembered[account.name])} old" if remembered[account.name] else ""
            all_notes.append(f"{account.name}: the API could not be asked; this is what the state file knows{age}")
        elif account.result == "failure":
            missing = "droplets may be missing here" if account.learned else "none of its droplets are here"
            all_notes.append(f"{account.name}: the listings are incomplete, so {missing}")
        else:
            if account.left_out:
                all_notes.append(
                    f"{account.name}: the records of {plural(account.left_out, 'droplet')} could not be understood, so "
                    "these are missing here"
                )
            if account.unread:
                all_notes.append(f"{account.name}: {plural(account.unread, 'list')} of backups could not be read")
            if account.name in empty and not account.left_out:
                all_notes.append(f"{account.name}: {NO_DROPLETS}")
    before = {account.name for account in accounts_by_name.values() if account.remembered or account.watched}
    if any(entry.account not in before for entry in entries):
        all_notes.append(SINGLE_LOOK)
    return CheckReport(
        at,
        tuple(accounts_by_name.values()),
        tuple(entry for entry in entries if entry.state in only),
        count_states(entry.state for entry in entries),
        tag_labels,
        tuple(all_notes),
    )
