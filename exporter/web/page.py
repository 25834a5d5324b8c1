"""The status page. It is made on the server, has no scripts, and loads nothing from other hosts. What it shows depends
only on the fleet and its query string."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from gzip import compress
from importlib.resources import files
from math import ceil
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import hdrs, web

from exporter import __version__
from exporter.cooperative import with_pauses
from exporter.fleet.state import State
from exporter.metrics.exposition import without_surrogates
from exporter.metrics.negotiation import accepts_gzip
from exporter.polling.status import Status
from exporter.reports.phrases import instant_words, size_words
from exporter.service import Service
from exporter.threads import ThreadPool
from exporter.web.droplet_table import CurrentTable, SortColumn
from exporter.web.server import HTML, Answer, request_header, text_answer
from exporter.web.views import account_view, row_of, summary_of

if TYPE_CHECKING:
    from jinja2 import Template

STYLE = "/-/style.css"
ICON = "/-/icon.svg"
ASSETS = {STYLE: "text/css; charset=utf-8", ICON: "image/svg+xml"}
"""The paths of the other files that the page loads, and their content types."""

ROWS = 100
"""Droplets on one page."""
LONGEST_TEXT = 200
MOST_WORDS = 8
LEVEL = 4
"""Compression level."""
REFRESH = 5
"""Seconds after which the page reloads itself during the first poll, when it can only show progress."""
SHORTEST_REFRESH, LONGEST_REFRESH = 30.0, 3600.0
"""Seconds. The page reloads itself at the poll interval, within these bounds."""
PAGES_WAITING = 100
"""Different pages that wait until they are made. Readers of more get 503."""
PAGE_THREADS = ThreadPool("render the page", 2, caller_may_work=True)
RENDERED_WITHIN = 20.0

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers of the page and its assets. If escaping failed, foreign markup could still load nothing and run nothing."""

ATTENTION = "attention"
"""The value of `state` that selects all states that need attention."""
_STATES = {
    ATTENTION: frozenset(state for state in State if state.is_bad or state is State.UNJUDGED),
    **{state.value: frozenset({state}) for state in State},
}
_ALWAYS_COUNTED = (
    State.MISSING,
    State.OVERDUE,
    State.STALE,
    State.NEVER_TAKEN,
    State.UNJUDGED,
    State.UNPROTECTED,
    State.PROTECTED,
)

_HEADINGS = {
    SortColumn.NAME: "Droplet",
    SortColumn.STATE: "State",
    SortColumn.PLAN: "Plan",
    SortColumn.NEXT: "Next window, UTC",
    SortColumn.AGE: "Newest backup",
    SortColumn.KEPT: "Kept",
    SortColumn.SIZE: "Size",
}
_SORTINGS = {
    "state": "worst first",
    "-state": "best first",
    "name": "name, A to Z",
    "-name": "name, Z to A",
    "plan": "plan, most frequent first",
    "-plan": "plan, least frequent first",
    "next": "next window, soonest first",
    "-next": "next window, latest first",
    "-age": "newest backup, oldest first",
    "age": "newest backup, most recent first",
    "kept": "kept, fewest first",
    "-kept": "kept, most first",
    "-size": "size, largest first",
    "size": "size, smallest first",
}


@dataclass(frozen=True, slots=True)
class Query:
    """What the reader asked for: search, filters, order and page."""

    text: str = ""
    state: str = ""
    account: str = ""
    sort: str = SortColumn.STATE.value
    """A column; a `-` before it sorts the largest first."""
    page: int = 1
    notes: tuple[str, ...] = ()
    """Messages about parts of the query that were ignored."""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Query:
        """The query of a query string. An invalid value is ignored, and a note says so."""
        notes = []
        text = " ".join(asked.get("q", "").split())
        if len(text) > LONGEST_TEXT:
            text = text[:LONGEST_TEXT]
            notes.append(f"The search was cut to {LONGEST_TEXT} characters.")
        state, sort, page = asked.get("state", ""), asked.get("sort", ""), asked.get("page", "")
        if state and state not in _STATES:
            notes.append(f"There is no state {_quoted(state)}; all are shown.")
            state = ""
        if sort and sort not in _SORTINGS:
            notes.append(f"There is no column {_quoted(sort)} to sort by; the worst come first.")
            sort = ""
        number = int(page) if page.isascii() and page.isdecimal() and len(page) < 10 else 1
        return cls(
            text=text,
            state=state,
            account=asked.get("account", "")[:LONGEST_TEXT],
            sort=sort or SortColumn.STATE.value,
            page=max(1, number),
            notes=tuple(notes),
        )

    @property
    def column(self) -> SortColumn:
        return SortColumn(self.sort.removeprefix("-"))

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    @property
    def filters(self) -> bool:
        return bool(self.text or self.state or self.account)

    def link(self, **changes: str | int) -> str:
        """The address of the page with these changes of the query. Without `page`, it leads to the first page."""
        changed = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        given = {
            "q": without_surrogates(changed.text),
            "state": changed.state,
            "account": without_surrogates(changed.account),
            "sort": changed.sort if changed.sort != SortColumn.STATE else "",
            "page": changed.page if changed.page > 1 else "",
        }
        query = urlencode({name: value for name, value in given.items() if value})
        return f"./?{query}#droplets" if query else "./#droplets"

    def sort_link(self, column: SortColumn) -> str:
        """The address that sorts by the column, or that reverses the order if the table is sorted by it."""
        if self.column is column:
            return self.link(sort=column.value if self.descending else f"-{column.value}")
        return self.link(sort=f"-{column.value}" if column.descends_first else column.value)

    def aria_sort(self, column: SortColumn) -> str:
        """The value of `aria-sort`; empty if the table is not sorted by the column."""
        if self.column is not column:
            return ""
        return "descending" if self.descending else "ascending"


@dataclass(slots=True)
class _ComingPage:
    """A page that will be made for all readers that ask for the same."""

    making: asyncio.Task[bytes]
    readers: int = 0


class StatusPage:
    """Renders the page from what the service knows. It never waits for a poll."""

    def __init__(self, service: Service, *, metrics: str, healthy: str, ready: str, demo: bool = False) -> None:
        self._service = service
        self._demo = demo
        paths = {"metrics": metrics, "healthy": healthy, "ready": ready}
        # All links are relative, so that the page works behind a reverse proxy under any path.
        self._paths = {name: _relative(path) for name, path in paths.items()}
        self._tables = CurrentTable(lambda: service.fleets, service.clock.now)
        service.watchers.append(self._tables.prepare)
        self._turn = asyncio.Lock()
        """One page is made at a time, because each page that is being made slows scrapes down."""
        self._coming: dict[tuple[Query, bool], _ComingPage] = {}
        """The pages that are not begun yet, by query and whether they are compressed."""

    async def answer(self, request: web.BaseRequest) -> Answer:
        """The page or one of its assets, for a request."""
        gzip = accepts_gzip(request_header(request, hdrs.ACCEPT_ENCODING))
        headers = {**HEADERS, hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if request.path in ASSETS:
            content_type, body = ASSETS[request.path], asset(request.path)
            # If the content changes, the address changes too.
            headers[hdrs.CACHE_CONTROL] = "max-age=86400"
            if gzip:
                body = await compressed(body)
        else:
            query = Query.of(request.query)
            if len(self._coming) >= PAGES_WAITING and (query, gzip) not in self._coming:
                return text_answer("Too many readers; ask again.\n", 503, {hdrs.RETRY_AFTER: "5"})
            content_type, body = HTML, await self._page(query, gzip=gzip)
            headers[hdrs.CACHE_CONTROL] = "no-store"
        if gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
        return Answer((body,), content_type=content_type, headers=headers)

    async def _page(self, query: Query, *, gzip: bool) -> bytes:
        """The page, made after this was called, once for all readers that wait for the same."""
        key = (query, gzip)
        if key not in self._coming:
            self._coming[key] = _ComingPage(asyncio.create_task(self._make(query, gzip=gzip), name="make the page"))
        page = self._coming[key]
        page.readers += 1
        try:
            return await asyncio.shield(page.making)
        finally:
            page.readers -= 1
            if not page.readers:  # it is made, or all readers have gone
                page.making.cancel()
                if self._coming.get(key) is page:
                    del self._coming[key]

    async def _make(self, query: Query, *, gzip: bool) -> bytes:
        async with self._turn:
            del self._coming[query, gzip]  # readers that come from now on get a newer page
            body = await self.html(query)
        return await compressed(body) if gzip else body

    def _interval(self, statuses: Sequence[Status]) -> int:
        """Seconds after which the page reloads itself: the shortest poll interval, within bounds."""
        shortest = min((status.interval for status in statuses), default=0.0) / self._service.clock.speed
        return ceil(min(max(shortest, SHORTEST_REFRESH), LONGEST_REFRESH))

    async def html(self, query: Query) -> bytes:
        """The page for a query."""
        template = await PAGE_THREADS.run(_template, within=RENDERED_WITHIN)
        table = await self._tables.current()
        now = self._service.clock.now()
        statuses = self._service.statuses
        fleets = {fleet.account: fleet for fleet in table.fleets}
        # A reload may have added or removed an account while the table was made.
        statuses = tuple(status for status in statuses if status.account in fleets)
        several = len(statuses) > 1
        if query.account and query.account not in fleets:
            note = f"There is no account {_quoted(query.account)}; all are shown."
            query = replace(query, account="", notes=(*query.notes, note))
        found = await table.select(
            query.column,
            descending=query.descending,
            words=query.text.casefold().split()[:MOST_WORDS],
            states=_STATES.get(query.state),
            account=query.account or None,
        )
        pages = max(1, -(-len(found) // ROWS))
        query = replace(query, page=min(query.page, pages))
        first = (query.page - 1) * ROWS
        shown = found[first : first + ROWS]
        rows = [row_of(entry, now, several_accounts=several) async for entry in with_pauses(shown)]
        known = any(fleet.known for fleet in table.fleets)
        summary = summary_of(table, statuses, now)
        pieces = template.generate(
            version=__version__,
            paths=self._paths,
            style=f"{_relative(STYLE)}?{_digest()}",
            icon=_relative(ICON),
            demo=self._demo,
            state_lost=self._service.state_lost,
            query=query,
            summary=summary,
            refresh=REFRESH if summary.health == "busy" else self._interval(statuses),
            made_at=instant_words(now),
            accounts=[
                account_view(status, fleets[status.account], self._service.telemetry.allowance(status.account), now)
                for status in statuses
            ],
            several=several,
            known=known,
            total=len(table.droplets),
            states=[(state, count) for state, count in table.states.items() if count or state in _ALWAYS_COUNTED],
            attention=sum(table.states[state] for state in _STATES[ATTENTION]),
            kept=table.kept,
            size=size_words(table.size),
            headings=_HEADINGS,
            sortings=_SORTINGS,
            rows=rows,
            found=len(found),
            first=first + 1,
            last=first + len(rows),
            pages=pages,
        )
        return without_surrogates("".join([piece async for piece in with_pauses(pieces)])).encode()


async def compressed(body: bytes) -> bytes:
    """The body as gzip. Raises `ThreadPoolError` if it takes too long."""
    return await PAGE_THREADS.run(partial(compress, body, LEVEL, mtime=0), within=RENDERED_WITHIN)


def _relative(path: str) -> str:
    return f".{path}"


def _quoted(text: str) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text[:40]}\N{RIGHT DOUBLE QUOTATION MARK}"


@cache
def asset(path: str) -> bytes:
    """The content of one of `ASSETS`."""
    return files("exporter.web").joinpath("templates", path.rpartition("/")[2]).read_bytes()


@cache
def _digest() -> str:
    # A browser must not use the cached style of another version.
    return f"{zlib.crc32(asset(STYLE)):08x}"


@cache
def _template() -> Template:
    # Imported at the first request for the page: most exporters are only scraped.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html")
