"""What the commands do: the parts wired together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable

import structlog
from aiohttp import web

from exporter import __version__
from exporter.clock import Clock
from exporter.config import Config, ConfigError
from exporter.metrics.exposition import render
from exporter.metrics.negotiation import TEXT
from exporter.metrics.telemetry import Telemetry
from exporter.reports.textfile import write
from exporter.service import Service
from exporter.web.app import application

STOP_WITHIN = 4.0
"""Seconds that a scrape in hand has to end after SIGTERM; one less than a stop may take."""

Load = Callable[[], Config]


async def serve(options: argparse.Namespace, config: Config | None, load: Load) -> int:
    """Polls and serves until SIGTERM or SIGINT; 0, or 2 if an address cannot be listened on."""
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    log = structlog.get_logger()
    async with _account_of(options, config, load) as (config, load, clock):
        service = Service(config, load, clock, Telemetry(__version__))
        runner = web.AppRunner(
            application(service, options.path, lifecycle=options.lifecycle),
            access_log=None,
            handle_signals=False,
            shutdown_timeout=STOP_WITHIN,
        )
        await runner.setup()
        for host, port in options.listen or [("", 9819)]:
            try:
                site = web.TCPSite(runner, host or None, port)
                await site.start()
            except OSError as error:
                log.error(
                    "cannot listen",
                    address=f"{host}:{port}",
                    problem=error.strerror,
                    remedy="free the address, or choose another by --web.listen-address",
                )
                await runner.cleanup()
                return 2
        for address in runner.addresses:
            host, port = address[:2]
            host = f"[{host}]" if ":" in host else host
            log.info("listening", metrics=f"http://{host}:{port}{options.path}", page=f"http://{host}:{port}/")
        reloads: set[asyncio.Task[None]] = set()

        def reload() -> None:
            task = asyncio.create_task(_reload(service))
            reloads.add(task)
            task.add_done_callback(reloads.discard)

        loop.add_signal_handler(signal.SIGHUP, reload)
        service.start()
        await stopping.wait()
        log.info("stopping")
        await asyncio.gather(service.stop(), runner.cleanup())
    return 0


async def once(options: argparse.Namespace, config: Config | None, load: Load) -> int:
    """One poll of every account; see the interface's exit codes."""
    async with _account_of(options, config, load) as (config, load, clock):
        telemetry = Telemetry(__version__, process=False)
        service = Service(config, load, clock, telemetry)
        results = await service.poll_once()
        learned = [status.learned for status in service.statuses]
        if not any(learned):
            return 2
        text = render(service.fleets, clock.now(), service.tag_labels) + TEXT.encode(telemetry.registry)
        if options.output is None:
            sys.stdout.buffer.write(text)
            sys.stdout.flush()
        else:
            try:
                write(options.output, text)
            except OSError as error:
                structlog.get_logger().error("cannot write", file=str(options.output), problem=error.strerror)
                return 2
        return 0 if set(results) == {"success"} else 1


async def _reload(service: Service) -> None:
    with contextlib.suppress(ConfigError):  # It is logged, and shows in the metrics.
        await service.reload()


@contextlib.asynccontextmanager
async def _account_of(
    options: argparse.Namespace, config: Config | None, load: Load
) -> AsyncIterator[tuple[Config, Load, Clock]]:
    """The configuration to follow; for the demo, the embedded account's, as long as it is served."""
    if config is not None:
        yield config, load, Clock()
        return
    from exporter.demo.account import demo_account

    clock = Clock(speed=options.speed)
    async with demo_account(clock) as demo:
        structlog.get_logger().info(
            "demo", note="a made-up account on loopback; nothing here is real", speed=options.speed
        )
        yield demo, lambda: demo, clock
