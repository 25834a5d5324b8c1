"""`serve`: polls and serves until it is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import signal
import sys
from collections.abc import Callable
from functools import partial

import structlog

from exporter import __version__, threads
from exporter.cli.options import ServeOptions
from exporter.cli.source import load_configurations, loaded_configuration, open_to_everybody
from exporter.config.model import Config
from exporter.config.yaml_document import ConfigError
from exporter.console import write_in_background
from exporter.memory import return_freed_memory
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.supervision import keep_running
from exporter.web import app
from exporter.web.auth import Guard
from exporter.web.server import Server, systemd_sockets
from exporter.web.settings import WebSettings

STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
IGNORED_SIGNALS = (signal.SIGUSR1, signal.SIGUSR2)
"""Log rotation sends them. By default they end a Python process without a word; programs written in Go ignore them."""


def serve(options: ServeOptions) -> int:
    """Polls and serves until SIGTERM or SIGINT. Returns 0, or 2 if it cannot listen. Raises `ConfigError`."""
    return_freed_memory()
    log_lines_dropped = write_in_background()
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # the configuration is about to be read anyway
    for number in IGNORED_SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    for number in STOP_SIGNALS:
        # Until the event loop handles the signals. Files are read before that, and their disk may hang.
        signal.signal(number, lambda *_: sys.exit(0))
    config, settings = load_configurations(options.source, options.web_config)
    for problem in open_to_everybody(options.source, config, settings):
        structlog.get_logger().warning("file open to everybody", problem=problem)
    return threads.run(_serve(options, config, settings, log_lines_dropped))


async def _serve(
    options: ServeOptions, config: Config | None, settings: WebSettings, log_lines_dropped: Callable[[], int]
) -> int:
    reloading = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGHUP, reloading.set)
    log = structlog.get_logger()
    for note in settings.notes:
        log.warning("web configuration", file=str(options.web_config), note=note)
    async with loaded_configuration(options.source, config) as loaded:
        service = Service(
            loaded.config, loaded.reread, loaded.clock, Telemetry(__version__, log_lines_dropped=log_lines_dropped)
        )
        stopping = asyncio.Event()
        for number in STOP_SIGNALS:
            loop.add_signal_handler(number, stopping.set)
        service.telemetry.web_config(lambda: settings.followed)
        routes = app.routes(service, options.telemetry_path, lifecycle=options.lifecycle, demo=config is None)
        await service.judge_remembered()
        server = Server(app.guarded(routes, Guard(lambda: settings.users)), settings)
        if not await _listen(server, options):
            await server.stop()
            return 2
        scheme = "http" if settings.context is None else "https"
        for root in dict.fromkeys(f"{scheme}://{_host_for_browser(host)}:{port}" for host, port in server.addresses):
            page = {} if options.telemetry_path == "/" else {"page": f"{root}/"}
            log.info("listening", metrics=f"{root}{options.telemetry_path}", **page)
        # What is loaded now is never freed. A garbage collection that looks at it would only delay scrapes.
        gc.freeze()
        service.start()
        reloads = asyncio.create_task(
            keep_running("reload", partial(_reload_when_asked, reloading, service), partial(asyncio.sleep, 1.0))
        )
        await stopping.wait()
        log.info("stopping")
        reloads.cancel()
        await asyncio.gather(service.stop(), server.stop())
    return 0


async def _listen(server: Server, options: ServeOptions) -> bool:
    """Opens the listening sockets; `False` if that fails, which is logged."""
    log = structlog.get_logger()
    if options.systemd_socket:
        try:
            for sock in systemd_sockets():
                await server.listen_on(sock)
        except OSError as error:
            log.error(
                "cannot listen",
                problem=error.strerror,
                remedy="start the exporter with a .socket unit, or leave out --web.systemd-socket",
            )
            return False
        return True
    for host, port in options.addresses:
        try:
            await server.listen(host, port)
        except OSError as error:
            log.error(
                "cannot listen",
                address=f"{host}:{port}",
                problem=error.strerror,
                remedy="stop the program that uses the address, or choose another with --web.listen-address"
                if error.errno == errno.EADDRINUSE
                else "choose an address of this machine with --web.listen-address, like 127.0.0.1:9819 or [::1]:9819",
            )
            return False
    return True


def _host_for_browser(host: str) -> str:
    """The host to type into a browser for a listening address: localhost if that address is every interface."""
    if host in ("0.0.0.0", "::"):  # noqa: S104  # the user chose what to listen on
        return "localhost"
    return f"[{host}]" if ":" in host else host


async def _reload_when_asked(asked: asyncio.Event, service: Service) -> None:
    while True:
        await asked.wait()
        asked.clear()
        with contextlib.suppress(ConfigError):  # it is logged and served as a metric
            await service.reload()
