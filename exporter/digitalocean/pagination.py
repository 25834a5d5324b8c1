"""Which page of a listing to read next, when to stop, and whether the listing is complete.

Links and `meta.total` may be missing or wrong, pages shift while they are read, and the pages of a faulty API may never
end. So a page is read if links, `meta.total` or a full page show that it exists, and reading ends when pages bring
nothing new.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from exporter.digitalocean.errors import ApiError, Incomplete, OutOfBudget, Throttled, Unauthorized, Unreachable
from exporter.digitalocean.records import PER_PAGE, Page

T = TypeVar("T")

MAX_PAGES = 1000
"""A listing is read no further than this: a token's budget does not allow more at every poll."""
_SURPLUS = 50
"""How many pages beyond the announced ones are read, while each of them brings something new."""
_FATAL = (Unauthorized, Throttled, OutOfBudget, Unreachable)
"""Errors that the next page would have as well."""


@dataclass(frozen=True, slots=True)
class Pages(Generic[T]):
    """A listing: the records of all its pages."""

    started_at: float
    """When its first page was asked for, in Unix seconds. Its records are not older than that."""
    records: dict[int, T] = field(default_factory=dict)
    """By id. If a record came twice, the last one counts."""
    rejected: frozenset[int] = frozenset()
    """The ids of records that could not be understood. The Droplets, or whatever else they describe, exist."""
    unidentified: int = 0
    """Records that could not be understood and whose id could not be read either."""
    total: int | None = None
    """The greatest `meta.total` of the pages."""
    error: ApiError | None = None
    """Why it is not complete; `None`: it is."""

    @property
    def complete(self) -> bool:
        """Whether all pages were read, and they have at least `meta.total` records, including rejected ones."""
        return self.error is None


class PageCollector(Generic[T]):
    """Collects the pages of a listing. Pages are added, or reported as failed, in the order of their numbers from 1."""

    def __init__(self, endpoint: str, where: str) -> None:
        """`where`: how errors name the listing."""
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
        """Whether to read this page, after all pages before it were added or failed."""
        return not self._ended and number <= self._limit

    def ahead(self, number: int) -> int:
        """The last page that may be read at the same time as this one."""
        return min(self._expected, self._limit) if self._steady and number <= self._expected else number

    def add(self, number: int, page: Page[T]) -> None:
        """Adds a page."""
        known = len(self._ids)
        self._ids.update(page.records, page.rejected)
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
            # New records at the front shift old ones to this page, so one page without anything new is no end.
            self._ended = self._fruitless > 1

    def fail(self, number: int, error: ApiError) -> None:
        """A page could not be read. The others are still read; after a second failure they are not."""
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
        """The listing so far."""
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
        # If the first page is short and has no link to a next one, `meta.total` may be wrong: read one page at a time.
        self._steady = page.length >= PER_PAGE or page.next_page

    def _count(self) -> int:
        return len(self._ids) + self._unidentified

    def _shortfall(self) -> Incomplete | None:
        count = self._count()
        if not self._ended:
            text = f"{self._where} does not end: {self._limit} pages with {count} records were read"
        elif self._total is not None and count < self._total:
            text = f"{self._where} counts {self._total} records, and its pages have {count}"
        elif self._total is None and self._promised:
            text = f"{self._where} links to more pages, and they have nothing new after {count} records"
        else:
            return None
        return Incomplete(self._endpoint, f"{text}; what is missing is served as last known until the next poll")
