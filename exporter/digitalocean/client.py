"""A client of DigitalOcean's API: one method for each endpoint. Listings are read page by page to their end.

It uses only the page numbers of the links in an answer, because the token must not be sent to a link's address.
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, TypeVar

import structlog

from exporter.clock import Clock
from exporter.digitalocean import records
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.errors import ApiError, Rejected, Unreadable
from exporter.digitalocean.http import NOT_THE_API, ApiAnswer, Http, NullObserver, Observer
from exporter.digitalocean.pagination import MAX_PAGES, PageCollector, Pages
from exporter.digitalocean.records import PER_PAGE, Page, UnreadableBody

T = TypeVar("T")

MOST_NOTED = 10
"""Listings with records that cannot be understood, of which the log warns one by one."""


@dataclass(frozen=True, slots=True)
class ImagePage:
    """One page of `/v2/images?private=true`."""

    records: dict[int, records.ImageRecord]
    pages: int
    """How many pages there are, as far as this page shows."""
    rejected: frozenset[int] = frozenset()
    unidentified: int = 0


class Client:
    """One account's access to the API.

    All methods raise ApiError and nothing else. Listings do not raise it: their `error` says why they are not complete.
    """

    def __init__(
        self,
        base_url: str,
        token: Callable[[], str],
        budget: Budget,
        clock: Clock,
        *,
        observer: Observer | None = None,
        timeout: float = 10.0,
        concurrency: int = 8,
        proxy: str | None = None,
        budget_of: Callable[[str], Budget] | None = None,
        log: Any = None,
    ) -> None:
        """`token` reads the token. `timeout` limits a request and its whole answer, in real seconds.

        `proxy` is the address of the proxy to send requests through. Of the environment's variables only SSL_CERT_FILE
        and SSL_CERT_DIR are used. `budget_of` gives the budget of a new token. `log` is a structlog logger, bound to
        the account.
        """
        self._clock = clock
        self._observer: Observer = observer or NullObserver()
        self._concurrency = concurrency
        self._log = log if log is not None else structlog.get_logger()
        self._last_pages: dict[str, dict[int, tuple[bytes, Page[Any]]]] = {}
        """The last pages of each listing, and the digests of their bodies."""
        self._known_rejects: dict[str, tuple[frozenset[int], int]] = {}
        """By listing: the ids of the records that could not be understood, and how many had no readable id."""
        self.http = Http(
            base_url,
            token,
            budget,
            clock,
            self._observer,
            timeout=timeout,
            concurrency=concurrency,
            proxy=proxy,
            budget_of=budget_of,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Closes the connections."""
        await self.http.close()

    async def refresh_token(self) -> None:
        """Reads the token again, at the beginning of a poll; see `Http.refresh_token`."""
        await self.http.refresh_token()

    @property
    def clock_skew(self) -> float | None:
        """By how many seconds, at least, the last `Date` of the API was ahead of the clock. `None`: none came yet."""
        return self.http.clock_skew

    # Endpoints ------------------------------------------------------------------------------------------------------

    async def droplets(self, *, gpus: bool = False, keep: int = 0) -> Pages[records.DropletRecord]:
        """`/v2/droplets`: the Droplets without a GPU; with `gpus`, those with one."""
        path = "/v2/droplets?type=gpus" if gpus else "/v2/droplets"
        return await self._listing("droplets", path, records.read_droplets, keep, remember=True)

    async def droplet_count(self) -> int | None:
        """How many Droplets without a GPU `/v2/droplets` counts; `None` if the answer has no count."""
        endpoint, path = "droplets", "/v2/droplets"
        answer = await self.http.get(endpoint, path, {"page": "1", "per_page": "1"}, 0)
        return self._page(endpoint, path, answer, records.read_droplets).total

    async def policies(self, *, keep: int = 0) -> Pages[records.PolicyRecord]:
        """`/v2/droplets/backups/policies`: the policies of all Droplets, by Droplet id."""
        path = "/v2/droplets/backups/policies"
        return await self._listing("policies", path, records.read_policies, keep, remember=True)

    async def backups(self, droplet_id: int, *, keep: int = 0) -> Pages[records.BackupRecord]:
        """`/v2/droplets/{id}/backups`. Its error is NotFound if the Droplet is gone."""
        return await self._listing("backups", f"/v2/droplets/{droplet_id}/backups", records.read_backups, keep)

    async def supported_policies(self, *, keep: int = 0) -> Pages[records.SupportedPolicyRecord]:
        """`/v2/droplets/backups/supported_policies`: one page. Its records are numbered from 1 in the API's order."""
        endpoint, path = "supported_policies", "/v2/droplets/backups/supported_policies"
        begun = self._clock.now()
        try:
            answer = await self.http.get(endpoint, path, {}, keep)
            page = self._page(endpoint, path, answer, records.read_supported_policies)
        except ApiError as error:
            return Pages(begun, error=error)
        listing = Pages(answer.sent_at, page.records, page.rejected, page.unidentified, page.total)
        self._note_rejects(endpoint, path, listing, page.reason)
        return listing

    async def images(self, number: int, *, keep: int = 0) -> ImagePage:
        """One page of `/v2/images?private=true`, counted from 1: snapshots, custom images, and usually backups."""
        path = "/v2/images"
        answer = await self.http.get(
            "images", path, {"private": "true", "page": str(number), "per_page": str(PER_PAGE)}, keep
        )
        page = self._page("images", path, answer, records.read_images)
        pages = number + 1 if page.next_page else number
        if page.last_page is not None:
            pages = max(pages, page.last_page)
        elif page.total is not None and page.length:
            pages = max(pages, math.ceil(page.total / (page.length if number == 1 else max(page.length, PER_PAGE))))
        return ImagePage(page.records, min(pages, MAX_PAGES), page.rejected, page.unidentified)

    async def policy(self, droplet_id: int, *, keep: int = 0) -> records.PolicyRecord:
        """`/v2/droplets/{id}/backups/policy`."""
        endpoint, path = "policy", f"/v2/droplets/{droplet_id}/backups/policy"
        answer = await self.http.get(endpoint, path, {}, keep)
        with self._reading(endpoint, path):
            found = records.read_policy(answer.body, droplet_id)
        if isinstance(found, str):
            raise self._reject(endpoint, path, found)
        return found

    async def droplet(self, droplet_id: int, *, keep: int = 0) -> records.DropletRecord:
        """`/v2/droplets/{id}`."""
        endpoint, path = "droplet", f"/v2/droplets/{droplet_id}"
        answer = await self.http.get(endpoint, path, {}, keep)
        with self._reading(endpoint, path):
            found = records.read_droplet(answer.body)
        if isinstance(found, str):
            raise self._reject(endpoint, path, found)
        if found.id != droplet_id:
            raise self._reject(endpoint, path, f"it is of Droplet {found.id}")
        return found

    # Pages ----------------------------------------------------------------------------------------------------------

    async def _listing(
        self,
        endpoint: str,
        path: str,
        read: Callable[[bytes], Page[T]],
        keep: int,
        *,
        remember: bool = False,
    ) -> Pages[T]:
        """Reads all pages: first the first page, because it shows how many there are, then several at the same time.

        `remember`: keep the pages. A page that is unchanged at the next poll is not decoded again.
        """
        collector: PageCollector[T] = PageCollector(endpoint, self.http.where(path))
        before, pages = self._last_pages.get(path, {}), dict[int, tuple[bytes, Page[T]]]()
        started_at = self._clock.now()

        async def fetch(number: int) -> ApiAnswer:
            params = {"page": str(number), "per_page": str(PER_PAGE)}
            return await self.http.get(endpoint, path, params, keep)

        under_way: dict[int, asyncio.Task[ApiAnswer]] = {}
        number = 1
        try:
            while collector.wants(number):
                last = min(collector.ahead(number), number + self._concurrency - 1)
                for each in range(number, last + 1):
                    if each not in under_way:
                        under_way[each] = asyncio.create_task(fetch(each))
                try:
                    answer = await under_way[number]
                    # Decoding a page takes milliseconds: let other tasks run between two pages.
                    await asyncio.sleep(0)
                    # An unchanged page is not decoded again, and its records are the same objects as before.
                    digest = hashlib.blake2b(answer.body).digest()
                    known = before.get(number)
                    if known is not None and known[0] == digest:
                        page = known[1]
                        self._count_rejections(endpoint, page)
                    else:
                        page = self._page(endpoint, path, answer, read)
                    if remember:
                        pages[number] = digest, page
                    collector.add(number, page)
                except ApiError as error:
                    collector.fail(number, error)
                else:
                    if number == 1:
                        started_at = answer.sent_at
                del under_way[number]
                number += 1
        finally:
            for task in under_way.values():
                task.cancel()
            await asyncio.gather(*under_way.values(), return_exceptions=True)
        if remember:
            self._last_pages[path] = {**before, **pages} if collector.failed else pages
        listing = collector.listing(started_at)
        self._note_rejects(endpoint, path, listing, collector.reason)
        return listing

    def _page(self, endpoint: str, path: str, answer: ApiAnswer, read: Callable[[bytes], Page[T]]) -> Page[T]:
        with self._reading(endpoint, path):
            page = read(answer.body)
        self._count_rejections(endpoint, page)
        return page

    def _count_rejections(self, endpoint: str, page: Page[Any]) -> None:
        if page.rejections:
            self._observer.rejected(endpoint, page.rejections)

    @contextmanager
    def _reading(self, endpoint: str, path: str) -> Iterator[None]:
        try:
            yield
        except UnreadableBody as error:
            raise Unreadable(
                endpoint, f"{self.http.where(path)} did not answer as the API does: {error}; {NOT_THE_API}"
            ) from error

    def _reject(self, endpoint: str, path: str, reason: str) -> Rejected:
        self._observer.rejected(endpoint, 1)
        return Rejected(endpoint, f"the record of {self.http.where(path)} cannot be understood: {reason}")

    def _note_rejects(self, endpoint: str, path: str, listing: Pages[Any], reason: str | None) -> None:
        """Logs which records were left out: once as a warning, then at the level debug while they stay the same.

        Beyond `MOST_NOTED` listings the level is debug, because a change of the API concerns the lists of all Droplets.
        """
        key = f"{endpoint} {path}"
        found = (listing.rejected, listing.unidentified)
        before = self._known_rejects.pop(key, None)
        if not any(found):
            return
        others = len(self._known_rejects)
        self._known_rejects[key] = found
        (self._log.debug if found == before or others >= MOST_NOTED else self._log.warning)(
            "records left out, because they cannot be understood",
            endpoint=endpoint,
            url=self.http.where(path),
            count=len(listing.rejected) + listing.unidentified,
            ids=sorted(listing.rejected)[:20],
            reason=reason,
            effect="what was known before stays"
            + ("; more such listings are only logged at the level debug" if others == MOST_NOTED - 1 else ""),
            remedy="if it lasts, report it as a bug with these lines, or look for a newer version",
        )
