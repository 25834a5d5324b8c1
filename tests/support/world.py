"""One account, its poller and a clock set by hand; the API's look-alike is asked over real HTTP."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from prometheus_client.parser import text_string_to_metric_families

from exporter.clock import Clock
from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.fleet.model import Droplet
from exporter.fleet.state import Reason, State
from exporter.metrics.exposition import render
from exporter.metrics.negotiation import TEXT
from exporter.metrics.telemetry import Telemetry
from exporter.polling.poller import Poller
from exporter.polling.state_file import StateFile
from tests.support.lookalike import Api, Fixture, backup, droplet, policy

MONDAY = 1_790_553_600.0
"""2026-09-28 00:00 UTC."""
HOUR = 3600.0
DAY = 24 * HOUR
TOKEN = "a-token-of-the-tests"


@dataclass(frozen=True, slots=True)
class HandClock(Clock):
    """A clock that stands still until a test moves it; `sleep` moves it and ends at once."""

    hand: list[float] = field(default_factory=lambda: [MONDAY])

    def now(self) -> float:
        return self.hand[0]

    def set(self, instant: float) -> None:
        self.hand[0] = instant

    async def sleep(self, seconds: float) -> None:
        self.hand[0] += max(0.0, seconds)


class World:
    """What one exporter sees of one account."""

    def __init__(
        self,
        account: Any = None,
        *,
        config: Config | None = None,
        at: float = MONDAY,
        state_file: Path | None = None,
        **api: Any,
    ) -> None:
        self.clock = HandClock()
        self.clock.set(at)
        self.account: Any = account if account is not None else Fixture()
        self.api = Api(self.account, now=self.clock.now, token=TOKEN, **api)
        self.config = config or Config(accounts=(), poll=Poll(timeout=2.0))
        self.state_file = state_file
        self.store = StateFile(None)
        self.poller: Poller
        self.telemetry: Telemetry

    async def __aenter__(self) -> Self:
        await self.api.start()
        self._begin()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.poller.close()
        self.store.close()
        await self.api.stop()

    async def restart(self) -> None:
        """Starts a new poller, with the state file if there is one."""
        await self.poller.close()
        self.store.close()
        self._begin()

    def _begin(self) -> None:
        os.environ["TOKEN_OF_THE_TESTS"] = TOKEN
        given = self.config.accounts[0] if self.config.accounts else Account("prod", TokenSource())
        account = replace(given, token=TokenSource(env="TOKEN_OF_THE_TESTS"), api_url=self.api.url)
        self.store = StateFile(self.state_file)
        self.telemetry = Telemetry("0", process=False)
        self.poller = Poller(
            account,
            self.config,
            self.telemetry.account("prod", self.config.poll.interval),
            self.clock,
            store=self.store,
        )

    async def poll(self, at: float | None = None, *, after: float | None = None) -> str:
        """One poll, at an instant or so many seconds later."""
        if at is not None:
            self.clock.set(at)
        if after is not None:
            self.clock.set(self.clock.now() + after)
        return await self.poller.poll()

    async def requests(self, at: float | None = None, *, after: float | None = None) -> dict[str, int]:
        """How many requests one poll sends, by endpoint."""
        self.api.forget()
        await self.poll(at, after=after)
        return dict(self.api.count())

    def droplet(self, droplet_id: int) -> Droplet:
        return next(droplet for droplet in self.poller.fleet.droplets if droplet.id == droplet_id)

    @property
    def ids(self) -> list[int]:
        return [droplet.id for droplet in self.poller.fleet.droplets]

    def missed(self, droplet_id: int) -> int | None:
        return self.droplet(droplet_id).verdict.missed_windows

    def state(self, droplet_id: int) -> State:
        return self.droplet(droplet_id).verdict.state

    def reason(self, droplet_id: int) -> Reason | None:
        return self.droplet(droplet_id).verdict.reason

    def unjudged(self) -> float:
        """How many Droplets are unjudged, for any reason."""
        return sum(value for name, value in self.samples().items() if name.startswith("unjudged_droplets"))

    def samples(self) -> dict[str, float]:
        """Everything that is served, as `name{label="value"}` without the account, by value."""
        text = render([self.poller.fleet], self.clock.now()) + TEXT.encode(self.telemetry.registry)
        found = {}
        for family in text_string_to_metric_families(text.decode()):
            for sample in family.samples:
                labels = ",".join(
                    f'{name}="{value}"'
                    for name, value in sorted(sample.labels.items())
                    if name not in ("account", "droplet_name") and value
                )
                found[f"{sample.name.removeprefix('digitalocean_backup_')}{{{labels}}}"] = sample.value
        return found


def healthy(
    count: int, *, now: float = MONDAY, hour: int = 0, days: int = 7, first_id: int = 1, **fields: Mapping[str, Any]
) -> Fixture:
    """Droplets with daily backups in the window at `hour`, each window's backup taken an hour after its start."""
    account = Fixture()
    today = now - now % DAY + hour * HOUR
    last = today if today + 2 * HOUR <= now else today - DAY
    for droplet_id in range(first_id, first_id + count):
        made = [
            backup(droplet_id * 1000 + int((last - age * DAY) // DAY) % 1000, last - age * DAY + HOUR)
            for age in range(days)
        ]
        add(account, droplet_id, made, policy(droplet_id, hour=hour, next_window=last + DAY, retention_days=7))
    return account


def add(
    account: Fixture, droplet_id: int, made: list[dict[str, Any]], record: dict[str, Any] | None, **over: Any
) -> None:
    """A Droplet with these backups, in every listing that shows them."""
    account.droplet_list.append(droplet(droplet_id, backup_ids=[one["id"] for one in made], **over))
    account.backup_lists[droplet_id] = made
    account.image_list.extend({**one, "status": "available"} for one in made)
    if record is not None:
        account.policy_map[str(droplet_id)] = record


def take_backup(account: Fixture, droplet_id: int, created_at: float, *, size: float | None = 2.34) -> int:
    """A new backup of the Droplet, in every listing that shows it; its id."""
    made = backup(droplet_id * 1000 + int(created_at // DAY) % 1000, created_at, size=size)
    account.backup_lists[droplet_id] = [*(account.backup_lists[droplet_id] or []), made]
    record = next(one for one in account.droplet_list if one["id"] == droplet_id)
    record["backup_ids"] = [*record["backup_ids"], made["id"]]
    account.image_list.append({**made, "status": "available"})
    return int(made["id"])
