"""The HTTP interface: metrics for Prometheus, health for orchestrators, a page for people."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from html import escape

from aiohttp import hdrs, web

from exporter import __version__
from exporter.config import ConfigError
from exporter.metrics.negotiation import accepts_gzip, negotiate
from exporter.polling.status import Status
from exporter.service import Service

HEALTHY = "/-/healthy"
READY = "/-/ready"
RELOAD = "/-/reload"


def application(service: Service, telemetry_path: str, *, lifecycle: bool) -> web.Application:
    """Everything that is served; no request makes the exporter call the API."""

    async def metrics(request: web.Request) -> web.StreamResponse:
        style = negotiate(request.headers.get(hdrs.ACCEPT))
        gzip = accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING))
        own = style.encode(service.telemetry.registry)
        pieces = await service.exposition.page(service.clock.now(), tail=own, gzip=gzip)
        headers: dict[str, str] = {hdrs.CONTENT_TYPE: style.content_type, hdrs.VARY: "Accept, Accept-Encoding"}
        if gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return await _send(request, pieces, headers)

    async def healthy(_request: web.Request) -> web.Response:
        return _text("The exporter is healthy.\n")

    async def ready(_request: web.Request) -> web.Response:
        waiting = sorted(status.account for status in service.statuses if not status.ready)
        if waiting:
            return _text(f"Waiting for the first complete listing of: {', '.join(waiting)}.\n", status=503)
        return _text("The exporter is ready.\n")

    async def reload(_request: web.Request) -> web.Response:
        if not lifecycle:
            return _text("Reloading over HTTP is off; start with --web.enable-lifecycle, or send SIGHUP.\n", status=403)
        try:
            await service.reload()
        except ConfigError as error:
            return _text("The configuration was not reloaded:\n" + "\n".join(error.problems) + "\n", status=500)
        return _text("The configuration was reloaded.\n")

    async def page(_request: web.Request) -> web.Response:
        return web.Response(text=_page(service.statuses, telemetry_path), content_type="text/html", charset="utf-8")

    app = web.Application(middlewares=[_plain_errors])
    app.router.add_get(telemetry_path, metrics)
    app.router.add_get(HEALTHY, healthy)
    app.router.add_get(READY, ready)
    app.router.add_post(RELOAD, reload)
    if telemetry_path != "/":
        app.router.add_get("/", page)
    app.on_response_prepare.append(_name_no_version)
    return app


async def _send(request: web.Request, pieces: Iterable[bytes], headers: dict[str, str]) -> web.StreamResponse:
    response = web.StreamResponse(headers=headers)
    pieces = list(pieces)
    response.content_length = sum(map(len, pieces))
    await response.prepare(request)
    if request.method != hdrs.METH_HEAD:
        for piece in pieces:
            await response.write(piece)
    await response.write_eof()
    return response


def _text(text: str, status: int = 200) -> web.Response:
    return web.Response(text=text, status=status)


@web.middleware
async def _plain_errors(
    request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
) -> web.StreamResponse:
    try:
        return await handler(request)
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = _text(f"Not allowed here; use {allowed}.\n", status=405)
        response.headers[hdrs.ALLOW] = allowed
        return response
    except web.HTTPNotFound:
        return _text("There is nothing here; see / for what there is.\n", status=404)


async def _name_no_version(_request: web.Request, response: web.StreamResponse) -> None:
    response.headers[hdrs.SERVER] = "digitalocean-backup-exporter"


def _page(statuses: Iterable[Status], telemetry_path: str) -> str:
    rows = "".join(
        f"<tr><td>{escape(status.account)}</td><td>{escape(status.result or 'none yet')}</td></tr>"
        for status in statuses
    )
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><title>DigitalOcean backup exporter</title>"
        f"<h1>DigitalOcean backup exporter {__version__}</h1>"
        f"<table><tr><th>Account<th>Last poll</tr>{rows}</table>"
        f'<p><a href="{escape(telemetry_path)}">Metrics</a> <a href="{HEALTHY}">Health</a>'
        f' <a href="{READY}">Readiness</a>'
    )
