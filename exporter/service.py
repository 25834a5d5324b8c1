"""The running exporter: a poller for each account, the text of `/metrics`, and reloads of the configuration."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import TypeVar

import structlog

from exporter.clock import Clock
from exporter.config.model import Config
from exporter.config.yaml_document import ConfigError
from exporter.digitalocean.budget import Budget, Budgets
from exporter.fleet.model import Fleet
from exporter.metrics.exposition import Exposition
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from exporter.polling.status import PollResult, Status
from exporter.supervision import keep_running
from exporter.threads import FILES, ThreadPoolError

_T = TypeVar("_T")

READ_WITHIN = 10.0
"""Seconds for reading the configuration. A file of a megabyte takes three."""
STUCK_AFTER = 3
"""An account is stuck if no poll of it has finished for this many poll intervals."""


class Service:
    """Polls all configured accounts at the same time. Readers use `fleets`, `statuses` and `exposition`."""

    def __init__(
        self,
        config: Config,
        load: Callable[[], Config],
        clock: Clock,
        telemetry: Telemetry,
        *,
        short_lived: bool = False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`load` reads the configuration again. `short_lived`: for a command that soon ends; an exporter may hold the
        state file meanwhile.
        """
        self.clock = clock
        self.telemetry = telemetry
        self.exposition = Exposition([label.label for label in config.tag_labels])
        self._load = load
        self._budgets = Budgets(lambda: Budget(1, 1, 0.0, clock))
        self._config = config
        self._log = structlog.get_logger()
        self._reloading = asyncio.Lock()
        self._store = StateFile(config.state_file, short_lived=short_lived)
        telemetry.state_kept(self._store.is_saved)
        self.remembered = frozenset(
            account.name for account in config.accounts if self._store.state(account.name, account.api_url) is not None
        )
        """The names of the accounts that the state file contained at the start."""
        self.watchers: list[Callable[[], None]] = []
        """Functions that are called for each new fleet. The page uses one to prepare its table before a reader asks."""
        self._pollers: dict[str, Poller] = {}
        self._loops: dict[str, asyncio.Task[None]] = {}
        self._monotonic = monotonic
        self._finished: dict[str, tuple[Poller, float | None, float]] = {}
        """By account: the poller, the end of its last poll, and the monotonic time when that end was first seen."""
        for account in config.accounts:
            self._pollers[account.name] = self._poller(account.name, config, self.exposition, None, self._store)
        telemetry.reloaded(True, clock.now())

    @property
    def state_lost(self) -> bool:
        """Whether a state file is configured but is not written, so that a restart forgets what is known now."""
        return self._config.state_file is not None and not self._store.is_saved

    @property
    def fleets(self) -> tuple[Fleet, ...]:
        """What is known of each account, as of its last poll."""
        return tuple(poller.fleet for poller in self._pollers.values())

    @property
    def statuses(self) -> tuple[Status, ...]:
        """How the polls of each account go, in the order of `fleets`."""
        return tuple(poller.status for poller in self._pollers.values())

    def stuck(self) -> list[str]:
        """The accounts whose polls have not finished for `STUCK_AFTER` intervals.

        Measured by the monotonic clock, because setting the other clock must not look like a poll that hangs.
        """
        now, stuck = self._monotonic(), []
        for name in self._finished.keys() & self._pollers.keys():
            self._note_progress(name)
            since = self._finished[name][2]
            if now - since > STUCK_AFTER * self._pollers[name].status.interval / self.clock.speed:
                stuck.append(name)
        return stuck

    def _note_progress(self, name: str) -> None:
        poller = self._pollers[name]
        seen = self._finished.get(name)
        if seen is None or seen[:2] != (poller, poller.status.last_poll_at):
            self._finished[name] = (poller, poller.status.last_poll_at, self._monotonic())

    @property
    def tag_labels(self) -> tuple[str, ...]:
        """The names of the configured tag labels."""
        return tuple(label.label for label in self._config.tag_labels)

    async def judge_remembered(self) -> None:
        """Makes everything that the state file remembers ready for the first scrape."""
        for poller in self._pollers.values():
            try:
                await poller.judge_remembered()
            except Exception:  # noqa: BLE001  # a bug must cost what was remembered, not the start
                self._log.exception("state not served", account=poller.account.name)

    def start(self) -> None:
        """Starts polling. Call it in a running event loop."""
        for name, poller in self._pollers.items():
            self._begin(name, poller)

    def _begin(self, name: str, poller: Poller) -> None:
        work = keep_running(f"poll {name}", poller.run, lambda: self.clock.sleep(self._config.poll.interval))
        self._loops[name] = asyncio.create_task(work, name=f"poll {name}")
        self._note_progress(name)

    async def poll_once(self) -> list[PollResult]:
        """Polls every account once, all at the same time, and closes the pollers. Returns the accounts' results."""
        try:
            return await asyncio.gather(*(poller.poll() for poller in self._pollers.values()))
        finally:
            await asyncio.gather(*(poller.close() for poller in self._pollers.values()))
            self._store.close()

    async def reload(self) -> None:
        """Reads the configuration again and applies it. What is known of accounts that remain is kept.

        Raises `ConfigError` if it has mistakes or its files cannot be read in time. After any error the old
        configuration stays in use.
        """
        async with self._reloading:
            done = False
            try:
                # In a thread, because a large file takes seconds, and scrapes must be answered meanwhile.
                config = await self._read(self._load)
                store = None
                if config.state_file != self._config.state_file:
                    store = await self._read(lambda: StateFile(config.state_file))
                await self._apply(config, store or self._store)
                done = True
            except ConfigError as error:
                for problem in error.problems:
                    self._log.error("reload failed", problem=problem, kept="the previous configuration")
                raise
            finally:
                self.telemetry.reloaded(done, self.clock.now())
            self._log.info("reloaded", accounts=len(config.accounts))

    async def stop(self) -> None:
        """Stops polling and closes the state file."""
        await _cancel(self._loops.values())
        self._loops.clear()
        self._store.close()

    async def _read(self, read: Callable[[], _T]) -> _T:
        """Calls `read` in a thread, because the disk may hang. Raises `ConfigError` after `READ_WITHIN`."""
        try:
            return await FILES.run(read, within=READ_WITHIN)
        except ThreadPoolError as error:
            raise ConfigError(f"the configuration or state file cannot be read: {error}; check its disk") from error

    async def _apply(self, config: Config, store: StateFile) -> None:
        before = self._config
        accounts = {account.name: account for account in config.accounts}
        # A change outside of `accounts` concerns every account.
        rest_is_same = replace(before, accounts=()) == replace(config, accounts=())
        same = {account.name for account in before.accounts if rest_is_same and accounts.get(account.name) == account}
        changed = [name for name in self._pollers if name not in same]
        try:
            await _cancel(self._loops.pop(name) for name in changed)
            text = self.exposition
            if before.tag_labels != config.tag_labels:
                text = Exposition([label.label for label in config.tag_labels])
            pollers = {}
            for name in accounts:
                old = self._pollers.get(name)
                pollers[name] = (
                    old if old is not None and name in same else self._poller(name, config, text, old, store)
                )
            for name, poller in pollers.items():
                if name not in self._loops:
                    await poller.judge()
            gone = set(self._pollers).difference(pollers)
            # The new text is served only now, when it contains everything that the old one did.
            self._config, self._pollers, self.exposition = config, pollers, text
        finally:
            # After an error too: then the accounts are polled as before.
            for name, poller in self._pollers.items():
                if name not in self._loops:
                    self._begin(name, poller)
        if store is not self._store:
            self._store.close()
            self._store = store
            self.telemetry.state_kept(store.is_saved)
        store.forget(gone)
        for name in gone:
            self.telemetry.remove(name)
            await text.remove(name)

    def _poller(
        self, name: str, config: Config, text: Exposition, successor_of: Poller | None, store: StateFile
    ) -> Poller:
        account = next(account for account in config.accounts if account.name == name)
        return Poller(
            account,
            config,
            self.telemetry.account(name, config.poll.interval),
            self.clock,
            store=store,
            budgets=self._budgets,
            on_fleet=partial(self._publish, text),
            successor_of=successor_of,
        )

    async def _publish(self, text: Exposition, fleet: Fleet) -> None:
        """Renders a new fleet and calls the watchers."""
        await text.update(fleet)
        if fleet.account in self._loops:
            self._note_progress(fleet.account)
        for watcher in self.watchers:
            try:
                watcher()
            except Exception:  # noqa: BLE001  # a bug in a watcher must not end the poll
                self._log.exception("a watcher of new fleets failed")


async def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    ending = list(tasks)
    for task in ending:
        task.cancel()
    await asyncio.gather(*ending, return_exceptions=True)
