"""`serve`: the parts wired together."""

from __future__ import annotations

import argparse
import asyncio
import errno
import gc
import signal

import structlog

from exporter import __version__
from exporter.cli.source import Load, followed
from exporter.config.model import Config
from exporter.config.yaml_document import ConfigError
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.web import app
from exporter.web.auth import Guard
from exporter.web.server import Server
from exporter.web.settings import Settings


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
    async with followed(options, config, load) as (config, load, clock):
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
                    remedy="free the address, or choose another by --web.listen-address"
                    if error.errno == errno.EADDRINUSE
                    else "name an address of this machine by --web.listen-address, like 127.0.0.1:9819 or [::1]:9819",
                )
                await server.stop()
                return 2
        scheme = "http" if settings.context is None else "https"
        for root in dict.fromkeys(f"{scheme}://{_to_open(host)}:{port}" for host, port in server.addresses):
            log.info("listening", metrics=f"{root}{options.path}", page=f"{root}/")
        # What is loaded by now stays for good: the garbage collector need not hold up scrapes to visit it.
        gc.freeze()
        service.start()
        reloads = asyncio.create_task(_reload_whenever(reloading, service))
        await stopping.wait()
        log.info("stopping")
        reloads.cancel()
        await asyncio.gather(service.stop(), server.stop())
    return 0


def _to_open(host: str) -> str:
    """The host of a listening socket as one opens it; every interface is this machine, too."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # what it listens on was the user's choice
        return "localhost"
    return f"[{host}]" if ":" in host else host


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
