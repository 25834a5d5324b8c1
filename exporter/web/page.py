"""The status page: made on the server, no script, nothing from elsewhere; its query string is its whole state."""

from __future__ import annotations

import asyncio
import time
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from gzip import compress
from importlib.resources import files
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from aiohttp import hdrs, web

from exporter import __version__
from exporter.fleet.state import State
from exporter.metrics.exposition import encodable
from exporter.metrics.negotiation import accepts_gzip
from exporter.reports.phrases import instant_words, size_words
from exporter.service import Service
from exporter.web.answer import HTML, Answer
from exporter.web.droplet_table import Boards, Column
from exporter.web.views import account_view, answer_of, row_of

if TYPE_CHECKING:
    from jinja2 import Template

STYLE = "/-/style.css"
ICON = "/-/icon.svg"
ASSETS = {STYLE: "text/css; charset=utf-8", ICON: "image/svg+xml"}
"""Path and content type of what the page needs besides itself."""

ROWS = 100
"""Droplets on one page."""
LONGEST_TEXT = 200
MOST_WORDS = 8
LEVEL = 4
"""Of compression."""
REFRESH = 5
"""Seconds after which the page asks anew while there is nothing to show but progress."""
PAUSE_AFTER = 0.002
"""Seconds of work after which others get the loop."""

HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Of the page and its assets. Even what slipped through escaping could load nothing and run nothing."""

ATTENTION = "attention"
"""The value of `state` that means every state somebody should look at."""
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
    Column.NAME: "Droplet",
    Column.STATE: "State",
    Column.PLAN: "Plan",
    Column.NEXT: "Next window, UTC",
    Column.AGE: "Newest backup",
    Column.KEPT: "Kept",
    Column.SIZE: "Size",
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
    """What the reader asked to see."""

    text: str = ""
    state: str = ""
    account: str = ""
    sort: str = Column.STATE.value
    """A column; with a `-` before it, the largest first."""
    page: int = 1
    notes: tuple[str, ...] = ()
    """What was asked and cannot be had."""

    @classmethod
    def of(cls, asked: Mapping[str, str]) -> Query:
        """From a query string; what makes no sense is left out, and said."""
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
            sort=sort or Column.STATE.value,
            page=max(1, number),
            notes=tuple(notes),
        )

    @property
    def column(self) -> Column:
        return Column(self.sort.removeprefix("-"))

    @property
    def descending(self) -> bool:
        return self.sort.startswith("-")

    @property
    def filters(self) -> bool:
        return bool(self.text or self.state or self.account)

    def link(self, **changes: str | int) -> str:
        """The address of the same page but for these changes; any other change leads to its first page."""
        changed = replace(self, **{"page": 1, **changes})  # type: ignore[arg-type]
        given = {
            "q": encodable(changed.text),
            "state": changed.state,
            "account": encodable(changed.account),
            "sort": changed.sort if changed.sort != Column.STATE else "",
            "page": changed.page if changed.page > 1 else "",
        }
        query = urlencode({name: value for name, value in given.items() if value})
        return f"/?{query}#droplets" if query else "/#droplets"

    def sort_link(self, column: Column) -> str:
        """Sorts by the column, or turns the order round if it is sorted by it already."""
        if self.column is column:
            return self.link(sort=column.value if self.descending else f"-{column.value}")
        return self.link(sort=f"-{column.value}" if column.descends_first else column.value)

    def aria_sort(self, column: Column) -> str:
        """The value of `aria-sort`; empty where the table is not sorted by the column."""
        if self.column is not column:
            return ""
        return "descending" if self.descending else "ascending"


class Page:
    """Renders the page from what the service knows; nothing here waits for a poll."""

    def __init__(self, service: Service, *, metrics: str, healthy: str, ready: str) -> None:
        self._service = service
        self._paths = {"metrics": metrics, "healthy": healthy, "ready": ready}
        self._boards = Boards(lambda: service.fleets, service.clock.now)
        service.watchers.append(self._boards.prepare)

    async def answer(self, request: web.BaseRequest) -> Answer:
        """The page, or the asset that it needs, for a request."""
        gzip = accepts_gzip(request.headers.get(hdrs.ACCEPT_ENCODING))
        headers = {**HEADERS, hdrs.VARY: hdrs.ACCEPT_ENCODING}
        if request.path in ASSETS:
            content_type, body = ASSETS[request.path], asset(request.path)
            # Its address changes with its content.
            headers[hdrs.CACHE_CONTROL] = "max-age=86400"
        else:
            content_type, body = HTML, await self.html(request.query)
            headers[hdrs.CACHE_CONTROL] = "no-store"
        if gzip:
            headers[hdrs.CONTENT_ENCODING] = "gzip"
            body = await asyncio.to_thread(compress, body, LEVEL, mtime=0)
        return Answer((body,), content_type=content_type, headers=headers)

    async def html(self, asked: Mapping[str, str]) -> bytes:
        """The page for a query string."""
        template = await asyncio.to_thread(_template)
        query = Query.of(asked)
        board = await self._boards.current()
        now = self._service.clock.now()
        statuses = self._service.statuses
        fleets = {fleet.account: fleet for fleet in board.fleets}
        # An account may have been added or dropped while the board was made.
        statuses = tuple(status for status in statuses if status.account in fleets)
        several = len(statuses) > 1
        if query.account and query.account not in fleets:
            note = f"There is no account {_quoted(query.account)}; all are shown."
            query = replace(query, account="", notes=(*query.notes, note))
        found = await board.found(
            query.column,
            descending=query.descending,
            words=query.text.casefold().split()[:MOST_WORDS],
            states=_STATES.get(query.state),
            account=query.account or None,
        )
        pages = max(1, -(-len(found) // ROWS))
        query = replace(query, page=min(query.page, pages))
        first = (query.page - 1) * ROWS
        rows = []
        for entry in found[first : first + ROWS]:
            rows.append(row_of(entry, now, several_accounts=several))
            if len(rows) % 20 == 0:
                await asyncio.sleep(0)
        known = any(fleet.known for fleet in board.fleets)
        answer = answer_of(board, statuses, now)
        pieces = template.generate(
            version=__version__,
            paths=self._paths,
            style=f"{STYLE}?{_digest()}",
            icon=ICON,
            query=query,
            answer=answer,
            refresh=REFRESH if answer.level == "busy" else None,
            made_at=instant_words(now),
            accounts=[
                account_view(status, fleets[status.account], self._service.telemetry.allowance(status.account), now)
                for status in statuses
            ],
            several=several,
            known=known,
            total=len(board.entries),
            states=[(state, count) for state, count in board.states.items() if count or state in _ALWAYS_COUNTED],
            attention=sum(board.states[state] for state in _STATES[ATTENTION]),
            kept=board.kept,
            size=size_words(board.size),
            headings=_HEADINGS,
            sortings=_SORTINGS,
            rows=rows,
            found=len(found),
            first=first + 1,
            last=first + len(rows),
            pages=pages,
        )
        text = []
        since = time.perf_counter()
        for piece in pieces:
            text.append(piece)
            if time.perf_counter() - since > PAUSE_AFTER:
                await asyncio.sleep(0)
                since = time.perf_counter()
        return encodable("".join(text)).encode()


def _quoted(text: str) -> str:
    return f"\N{LEFT DOUBLE QUOTATION MARK}{text[:40]}\N{RIGHT DOUBLE QUOTATION MARK}"


@cache
def asset(path: str) -> bytes:
    """The content of one of `ASSETS`."""
    return files("exporter.web").joinpath("templates", path.rpartition("/")[2]).read_bytes()


@cache
def _digest() -> str:
    # A new version's style must not be mixed with an old one from the browser's cache.
    return f"{zlib.crc32(asset(STYLE)):08x}"


@cache
def _template() -> Template:
    # Loaded when the page is first asked for: most exporters are only ever scraped.
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("exporter.web"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html")
