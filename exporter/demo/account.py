"""The demo's account: serves the made-up fleet by the demo's API, and gives the configuration that polls it."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

from exporter.clock import Clock
from exporter.config.model import Account, Config, Poll, TagLabel
from exporter.config.tokens import TokenSource
from exporter.demo.api import DemoApi
from exporter.demo.fleet import demo_fleet

WATCHED_FOR = 30 * 86400.0
"""The exporter counts as having watched the demo for so many seconds; otherwise it would show no missed windows."""
POLL_AT_MOST_EVERY = 1.0
"""Real seconds between two polls, at least, at any speed of the demo."""


@dataclass(frozen=True, slots=True)
class _DemoToken(TokenSource):
    """A token that is kept in memory only."""

    token: str = ""

    def __str__(self) -> str:
        return "the demo"

    def read(self, environ: Mapping[str, str] = os.environ) -> str:  # noqa: ARG002  # the signature of a TokenSource
        return self.token


@contextlib.asynccontextmanager
async def demo_account(clock: Clock) -> AsyncIterator[Config]:
    """Serves the demo's API on loopback while the context lasts; yields the configuration that polls it."""
    token = secrets.token_hex(16)
    async with DemoApi(demo_fleet(clock.now()), now=clock.now, token=token) as api:
        yield Config(
            accounts=(Account("demo", _DemoToken(token=token), api.url, watched_since=clock.now() - WATCHED_FOR),),
            # At a high speed, five minutes of the demo's time would be too short for a poll.
            poll=Poll(interval=max(300.0, clock.speed * POLL_AT_MOST_EVERY)),
            tag_labels=(TagLabel("team", "team:"), TagLabel("env", "env:")),
        )
