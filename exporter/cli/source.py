"""Whose configuration a command follows: the user's, or the demo's as long as its account is served."""

from __future__ import annotations

import argparse
import contextlib
from collections.abc import AsyncIterator, Callable

import structlog

from exporter.clock import Clock
from exporter.config.model import Config

Load = Callable[[], Config]


@contextlib.asynccontextmanager
async def followed(
    options: argparse.Namespace, config: Config | None, load: Load
) -> AsyncIterator[tuple[Config, Load, Clock]]:
    """The configuration to follow, how to read it anew, and the clock; without a configuration, the demo's."""
    if config is not None:
        yield config, load, Clock()
        return
    from exporter.demo.account import demo_account

    clock = Clock(speed=options.speed or 1.0)
    async with demo_account(clock) as demo:
        structlog.get_logger().info(
            "demo", note="a made-up account on loopback; nothing here is real", speed=clock.speed
        )
        yield demo, lambda: demo, clock
