"""Two accounts with one token share its budget; a token file that hangs only costs polls."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

import pytest

from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.digitalocean import http
from exporter.digitalocean.budget import Budget, Budgets
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from tests.support.lookalike import Api
from tests.support.world import MONDAY, TOKEN, HandClock, World, healthy


def some_budget() -> Budget:
    return Budget(250, 5000, 0.2, HandClock())


class TestBudgets:
    def test_a_token_has_one_at_each_address(self) -> None:
        budgets = Budgets(some_budget)
        first, second = some_budget(), some_budget()
        assert budgets.of("https://a", "token", first) is first
        assert budgets.of("https://a", "token", second) is first
        assert budgets.of("https://b", "token", second) is second

    def test_a_rotated_token_gets_one_of_its_own(self) -> None:
        """What was sent with the old token says nothing of the new one, and the old one may have other users."""
        budgets = Budgets(some_budget)
        first = some_budget()
        budgets.of("https://a", "old", first)
        rotated = budgets.of("https://a", "new", first)
        assert rotated is not first
        assert budgets.of("https://a", "old", rotated) is first


async def test_accounts_that_read_one_token_from_different_places_share_its_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Together they send at most as many requests as one token may."""
    monkeypatch.setenv("TOKEN_OF_THE_TESTS", TOKEN)
    file = tmp_path / "token"
    file.write_text(TOKEN)
    clock = HandClock()
    async with Api(healthy(3), now=clock.now, token=TOKEN) as api:
        accounts = (
            Account("one", TokenSource(env="TOKEN_OF_THE_TESTS"), api.url),
            Account("two", TokenSource(file=file), api.url),
        )
        config = Config(accounts, poll=Poll(timeout=5.0))
        service = Service(config, lambda: config, clock, Telemetry("0", process=False))
        await service.poll_once()
        budgets = {poller._budget for poller in service._pollers.values()}
    assert len(budgets) == 1
    assert budgets.pop().spare() == 4000 - sum(api.count().values())


async def test_a_token_that_is_never_read_costs_the_poll_and_not_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system that hangs blocks one thread; the event loop goes on, and the poll says why it failed."""
    gate = threading.Event()

    def hang(*_: object) -> str:
        gate.wait(60)
        return TOKEN

    monkeypatch.setattr(http, "FILES_WITHIN", 0.1)
    async with World(healthy(1), at=MONDAY) as world:
        monkeypatch.setattr(world.poller._client.http, "_read_token", hang)
        turns = 0
        poll = asyncio.create_task(world.poll())
        while not poll.done():
            turns += 1
            await asyncio.sleep(0)
        assert turns > 10
        assert await poll == "failure"
        assert "the token cannot be read" in world.poller.status.problems[0]
        gate.set()
