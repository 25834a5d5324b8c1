"""What the commands do: the parts wired together."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable

import structlog

from exporter import __version__
from exporter.clock import Clock
from exporter.config import Config, ConfigError
from exporter.metrics.exposition import render
from exporter.metrics.negotiation import TEXT
from exporter.metrics.telemetry import Telemetry
from exporter.reports.textfile import write
from exporter.service import Service
from exporter.web import app
from exporter.web.auth import Guard
from exporter.web.server import Server
from exporter.web.settings import Settings

Load = Callable[[], Config]


async def serve(options: argparse.Namespace, config: Config | None, load: Load, settings: Settings) -> int:
    """Polls and serves until SIGTERM or SIGINT; 0, or 2 if an address cannot be listened on."""
    stopping = asyncio.Event()
    reloading = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    log = structlog.get_logger()
    for note in settings.notes:
        log.warning("web configuration", file=str(options.web_config), note=note)
    async with _account_of(options, config, load) as (config, load, clock):
        service = Service(config, load, clock, Telemetry(__version__))
        routes = app.routes(service, options.path, lifecycle=options.lifecycle)
        server = Server(app.locked(routes, Guard(lambda: settings.users)), settings)
        for host, port in options.listen or [("", 9819)]:
            try:
                await server.listen(host, port)
            except OSError as error:
                log.error(
                    "cannot listen",
                    address=f"{host}:{port}",
                    problem=error.strerror,
                    remedy="free the address, or choose another by --web.listen-address",
                )
                await server.stop()
                return 2
        scheme = "http" if settings.context is None else "https"
        for host, port in server.addresses:
            root = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
            log.info("listening", metrics=f"{root}{options.path}", page=f"{root}/")
        service.start()
        reloads = asyncio.create_task(_reload_whenever(reloading, service))
        await stopping.wait()
        log.info("stopping")
        reloads.cancel()
        await asyncio.gather(service.stop(), server.stop())
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


async def _reload_whenever(asked: asyncio.Event, service: Service) -> None:
    while True:
        await asked.wait()
        asked.clear()
        try:
            await service.reload()
        except ConfigError:
            pass  # It is logged, and shows in the metrics.
        except Exception:  # noqa: BLE001  # a fault of ours must not be the last reload there is
            structlog.get_logger().exception("reload broke off")


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
