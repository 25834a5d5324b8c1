"""The demo's account: the made-up fleet behind the look-alike of the API, and the configuration to poll it by."""

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
"""Seconds for which the exporter is taken to have watched the demo: a first look has no missed windows to show."""
POLL_AT_MOST_EVERY = 1.0
"""Seconds of the machine, whatever the demo's speed."""


@dataclass(frozen=True, slots=True)
class _DemoToken(TokenSource):
    """A token that is nowhere but here."""

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
            # At speed, polls follow each other so fast that they would have no time to be answered.
            poll=Poll(interval=max(300.0, clock.speed * POLL_AT_MOST_EVERY)),
            tag_labels=(TagLabel("team", "team:"), TagLabel("env", "env:")),
        )
