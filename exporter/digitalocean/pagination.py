"""Pages taken together: which to read next, when to stop, and whether all of them have come.

Neither the links nor `meta.total` are to be trusted alone: either may be missing or wrong, pages shift while they are
read, and a faulty API could go on for ever. So a page is asked for because something says that it exists, and the
reading ends where pages bring nothing new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from exporter.digitalocean.errors import ApiError, Incomplete, OutOfBudget, Throttled, Unauthorized, Unreachable
from exporter.digitalocean.records import PER_PAGE, Page

T = TypeVar("T")

MAX_PAGES = 1000
"""Where a listing is given up whatever it says: more than a token's budget can read again and again."""
_SURPLUS = 50
"""How many pages beyond those announced are read while each of them brings something new."""
_FATAL = (Unauthorized, Throttled, OutOfBudget, Unreachable)
"""Errors that the next page would meet as well."""


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """All that a paginated endpoint told."""

    started_at: float
    """When its first page was asked for, in Unix seconds: what it tells is no older."""
    records: dict[int, T] = field(default_factory=dict)
    """Distinct by id; one that came twice counts as it was read last."""
    rejected: frozenset[int] = frozenset()
    """The ids of records that could not be understood: what they are of exists."""
    unidentified: int = 0
    """Records that could not be understood and whose id could not be read either."""
    total: int | None = None
    """The greatest `meta.total` of the pages."""
    error: ApiError | None = None
    """Why it is not complete."""

    @property
    def complete(self) -> bool:
        """Whether every page was read and the records, those rejected included, are no fewer than `meta.total`."""
        return self.error is None


class PageCollector(Generic[T]):
    """A listing in the making. Pages are added, or reported as failed, in the order of their numbers from 1."""

    def __init__(self, endpoint: str, where: str) -> None:
        """`where` is what errors call the listing."""
        self._endpoint = endpoint
        self._where = where
        self._records: dict[int, T] = {}
        self._rejected: set[int] = set()
        self._ids: set[int] = set()
        self._unidentified = 0
        self._total: int | None = None
        self._expected = 1
        self._limit = MAX_PAGES
        self._first_length = 0
        self._steady = False
        self._fruitless = 0
        self._failures = 0
        self._promised = False
        self._linked = False
        self._ended = False
        self._error: ApiError | None = None
        self.reason: str | None = None
        """What was wrong with the first rejected record."""

    def wants(self, number: int) -> bool:
        """Whether this page is to be read, all before it having been dealt with."""
        return not self._ended and number <= self._limit

    def ahead(self, number: int) -> int:
        """The last page that may be asked for together with this one."""
        return min(self._expected, self._limit) if self._steady and number <= self._expected else number

    def add(self, number: int, page: Page[T]) -> None:
        """Take a page in."""
        known = len(self._ids)
        self._ids |= page.records.keys()
        self._ids |= page.rejected
        new = len(self._ids) - known
        self._records.update(page.records)
        self._rejected |= page.rejected
        self._unidentified += page.unidentified
        self.reason = self.reason or page.reason
        if page.total is not None:
            self._total = max(self._total or 0, page.total)
        if number == 1:
            self._announce(page)
        fruitful = new > 0 or (page.unidentified > 0 and number < self._expected)
        self._fruitless = 0 if fruitful else self._fruitless + 1
        self._steady = self._steady or (number > 1 and fruitful)
        self._promised = page.next_page
        self._linked = self._linked or page.next_page or page.last_page is not None
        if page.length == 0:
            self._ended = True
        elif number >= self._expected:
            full = page.length >= PER_PAGE or (number > 1 and page.length >= self._first_length)
            counted = self._linked if self._total is None else self._count() == self._total
            more = page.next_page or (full and not counted)
            self._ended = not more or (number > 1 and not fruitful)
        else:
            # One page without news may be an old one, shifted by records that were added meanwhile.
            self._ended = self._fruitless > 1

    def fail(self, number: int, error: ApiError) -> None:
        """A page could not be read. One such page costs only itself; after a second the rest is left alone."""
        self._error = self._error or error
        self._failures += 1
        self._ended = (
            number == 1 or number >= self._expected or self._failures > 1 or isinstance(error, _FATAL) or self._ended
        )

    @property
    def failed(self) -> bool:
        """Whether some page could not be read."""
        return self._failures > 0

    def listing(self, started_at: float) -> Pages[T]:
        """What was gathered."""
        return Pages(
            started_at=started_at,
            records=self._records,
            rejected=frozenset(self._rejected - self._records.keys()),
            unidentified=self._unidentified,
            total=self._total,
            error=self._error or self._shortfall(),
        )

    def _announce(self, page: Page[T]) -> None:
        by_total = math.ceil(page.total / page.length) if page.total and page.length else None
        said = [pages for pages in (by_total, page.last_page) if pages is not None]
        self._expected = min(said, default=1)
        self._limit = min(MAX_PAGES, max(said, default=1) + _SURPLUS)
        self._first_length = page.length
        # A short page that says nothing of a next one, yet counts more: the count may well be wrong, so ask singly.
        self._steady = page.length >= PER_PAGE or page.next_page

    def _count(self) -> int:
        return len(self._ids) + self._unidentified

    def _shortfall(self) -> Incomplete | None:
        count = self._count()
        if not self._ended:
            text = f"{self._where} does not end: {self._limit} pages were read, {count} records"
        elif self._total is not None and count < self._total:
            text = f"{self._where} counts {self._total} records, and its pages hold {count}"
        elif self._total is None and self._promised:
            text = f"{self._where} promises more pages, and they hold nothing new after {count} records"
        else:
            return None
        return Incomplete(self._endpoint, f"{text}: what is missing keeps its last known state until the next poll")
