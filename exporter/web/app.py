"""The paths of the HTTP server: metrics for Prometheus, health for orchestrators, a page for people.

A handler makes an `Answer`. `server` sends it, with limits that are the same for every client.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from aiohttp import hdrs, web
from prometheus_client import CollectorRegistry

from exporter.config.yaml_document import ConfigError
from exporter.metrics.negotiation import TextFormat, accepts_gzip, negotiate
from exporter.service import STUCK_AFTER, Service
from exporter.web.auth import Guard
from exporter.web.page import ASSETS, StatusPage, compressed
from exporter.web.server import Answer, Handler, request_header, text_answer

HEALTHY = "/-/healthy"
READY = "/-/ready"
RELOAD = "/-/reload"

OWN_METRICS_EVERY = 0.05
"""The exporter's metrics about itself are rendered once in this many seconds."""

Routes = Mapping[str, Mapping[str, Handler]]
"""For each path, its methods, and the handler of each method. `HEAD` is not in it, because `GET` answers it."""


class _OwnMetrics:
    """The text of the exporter's metrics about itself, rendered once for all scrapers that ask at the same time.

    Rendering takes milliseconds, more with many open files, so many scrapers would wait for each other.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._tasks: dict[TextFormat, asyncio.Task[bytes]] = {}
        self._made_at = 0.0

    async def text(self, style: TextFormat) -> bytes:
        """The text, rendered after this was called."""
        task = self._tasks.get(style)
        if task is None:
            task = self._tasks[style] = asyncio.create_task(self._make(style))
        return await asyncio.shield(task)

    async def _make(self, style: TextFormat) -> bytes:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(max(0.0, self._made_at + OWN_METRICS_EVERY - loop.time()))
        del self._tasks[style]
        try:
            return style.encode(self._registry)
        finally:
            self._made_at = loop.time()


def routes(service: Service, telemetry_path: str, *, lifecycle: bool, demo: bool = False) -> Routes:
    """Everything that is served. No request makes the exporter send a request to the API.

    `lifecycle`: whether `POST /-/reload` is allowed. `demo`: the page says that this is the demo.
    """

    own_metrics = _OwnMetrics(service.telemetry.registry)

    async def metrics(request: web.BaseRequest) -> Answer:
        style = negotiate(request_header(request, hdrs.ACCEPT))
        gzip = accepts_gzip(request_header(request, hdrs.ACCEPT_ENCODING))
        names = request.query.getall("name[]", [])
        now = service.clock.now()
        if names:
            own = style.encode(service.telemetry.registry.restricted_registry(names))
            pieces = await service.exposition.text_of(now, names, tail=own)
            if gzip:
                pieces = [await compressed(b"".join(pieces))]
        else:
            own = await own_metrics.text(style)
            pieces = await service.exposition.text_at(now, tail=own, gzip=gzip)
        headers: dict[str, str] = {hdrs.VARY: "Accept, Accept-Encoding"}
        if gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return Answer(pieces, content_type=style.content_type, headers=headers)

    async def healthy(_request: web.BaseRequest) -> Answer:
        stuck = sorted(service.stuck())
        if stuck:
            return text_answer(f"No poll has finished for {STUCK_AFTER} intervals: {', '.join(stuck)}.\n", 503)
        return text_answer("The exporter is healthy.\n")

    async def ready(_request: web.BaseRequest) -> Answer:
        waiting = sorted(status.account for status in service.statuses if not status.ready)
        if waiting:
            return text_answer(f"Waiting for the first complete listing of: {', '.join(waiting)}.\n", 503)
        return text_answer("The exporter is ready.\n")

    async def reload(request: web.BaseRequest) -> Answer:
        if _from_another_site(request):
            return text_answer("A page of another site may not reload the configuration.\n", 403)
        if not lifecycle:
            return text_answer("Reloading over HTTP is off; start with --web.enable-lifecycle, or send SIGHUP.\n", 403)
        try:
            # A client that leaves does not stop it.
            await asyncio.shield(service.reload())
        except ConfigError as error:
            return text_answer("The configuration was not reloaded:\n" + "\n".join(error.problems) + "\n", 500)
        return text_answer("The configuration was reloaded.\n")

    page = StatusPage(service, metrics=telemetry_path, healthy=HEALTHY, ready=READY, demo=demo)
    return {
        "/": {hdrs.METH_GET: page.answer},
        **{path: {hdrs.METH_GET: page.answer} for path in ASSETS},
        telemetry_path: {hdrs.METH_GET: metrics},
        HEALTHY: {hdrs.METH_GET: healthy},
        READY: {hdrs.METH_GET: ready},
        RELOAD: {hdrs.METH_POST: reload},
    }


def guarded(routes: Routes, guard: Guard) -> Handler:
    """Answers requests after the guard has checked the password.

    `/-/healthy` needs none, because it reveals nothing and probes have no password.
    """

    async def respond(request: web.BaseRequest) -> Answer:
        if request.path != HEALTHY:
            refusal = await guard.refusal(request)
            if refusal is not None:
                return refusal
        return await dispatch(routes, request)

    return respond


async def dispatch(routes: Routes, request: web.BaseRequest) -> Answer:
    """The answer of the path's handler; 404 if there is no such path, 405 if it does not have the method."""
    methods = routes.get(request.path)
    if methods is None:
        return text_answer("There is nothing at this path; see / for the paths.\n", 404)
    method = hdrs.METH_GET if request.method == hdrs.METH_HEAD else request.method
    handler = methods.get(method)
    if handler is None:
        allowed = [*methods, *([hdrs.METH_HEAD] if hdrs.METH_GET in methods else [])]
        return text_answer(
            f"This method is not allowed here; use {', '.join(allowed)}.\n", 405, {hdrs.ALLOW: ", ".join(allowed)}
        )
    return await handler(request)


def _from_another_site(request: web.BaseRequest) -> bool:
    """Whether a browser sent the request because of a page of another site. Other clients do not send these headers."""
    if request.headers.get("Sec-Fetch-Site", "same-origin") not in ("same-origin", "none"):
        return True
    origin = request.headers.get(hdrs.ORIGIN)
    return origin is not None and origin.partition("://")[2] != request.headers.get(hdrs.HOST)
