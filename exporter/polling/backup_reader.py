"""Reads backups as planned: Droplets' own lists by a few workers, or many new ids by one sweep over the images."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from msgspec.structs import replace

from exporter.clock import Clock
from exporter.cooperative import with_pauses
from exporter.digitalocean.client import Client, ImagePage
from exporter.digitalocean.errors import ApiError, NotFound, OutOfBudget, Throttled, Unauthorized
from exporter.fleet.assemble import supported_of
from exporter.fleet.model import Backup, SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet, backups_resolved, own_list_failed, own_list_read
from exporter.polling.conversion import backup_of, backup_of_image
from exporter.polling.read_plan import ReadPlan, Urgency, pages_of, sweep_is_idle, sweep_lists_backups, sweep_pays

HOPELESS_AFTER = 20
"""After so many failures and no list read, a poll leaves the other lists: the endpoint is down, not one Droplet."""

FAILED_SHARE = 4
"""Lists that could not be read last time may take this part (1/4) of the requests in flight."""


@dataclass(frozen=True, slots=True)
class ReadResult:
    """What was read of a plan."""

    settled: frozenset[int] = frozenset()
    """The Droplets whose list need not be read any more: it was read, all ids were resolved, or the Droplet is gone."""
    swept: frozenset[int] = frozenset()
    """The Droplets with new backups that were found among the images."""
    errors: tuple[ApiError, ...] = ()
    """One error of each kind that occurred."""


class BackupReader:
    """Reads one account's backups. Between polls it only remembers what a sweep costs and whether it helps."""

    def __init__(self, client: Client, clock: Clock, concurrency: int, verify_every: float) -> None:
        self._client = client
        self._clock = clock
        self._concurrency = concurrency
        self._verify_every = verify_every
        self.sweep_pages = 1
        """How many pages of images there were at the last sweep."""
        self._no_sweep_before = 0.0
        self._tracked: dict[int, TrackedDroplet] = {}
        self._keep = 0
        self._supported: Mapping[str, SupportedPolicy] = {}
        self._progress: Callable[[int], None] = _no_progress
        self._begin()

    def _begin(self) -> None:
        self._settled = set[int]()
        self._swept = set[int]()
        self._failed = 0
        self._done = 0
        self._stopped = False
        self._errors = dict[str, ApiError]()

    async def read(
        self,
        plan: ReadPlan,
        tracked: dict[int, TrackedDroplet],
        *,
        keep: int,
        progress: Callable[[int], None],
        supported: Mapping[str, SupportedPolicy] = MappingProxyType({}),
    ) -> ReadResult:
        """Reads as much of the plan as budget and time allow, and changes `tracked` accordingly.

        `keep` requests of the hour are left for listings. `progress` is called with the number of lists dealt with.
        """
        self._begin()
        self._tracked, self._keep, self._progress = tracked, keep, progress
        self._supported = supported
        async with asyncio.TaskGroup() as background:

            async def lists(droplet_ids: Sequence[int]) -> None:
                # A list that failed before may hang until the poll's end, so the others neither wait for it nor lack
                # workers because of it.
                failed = [droplet_id for droplet_id in droplet_ids if tracked[droplet_id].failed_at is not None]
                background.create_task(self._lists(failed, max(1, self._concurrency // FAILED_SHARE)))
                await self._lists([one for one in droplet_ids if tracked[one].failed_at is None], self._concurrency)

            await lists(plan.ids(Urgency.DUE, Urgency.OVERDUE))
            changed = plan.ids(Urgency.CHANGED)
            await self._sweep(changed)
            await lists([droplet_id for droplet_id in changed if droplet_id not in self._settled])
            await lists(plan.ids(Urgency.STALE, Urgency.WINDOW_ENDED, Urgency.IDLE, Urgency.VERIFY, Urgency.UNSURE))
        return ReadResult(frozenset(self._settled), frozenset(self._swept), tuple(self._errors.values()))

    # Own lists

    async def _lists(self, droplet_ids: Sequence[int], workers: int) -> None:
        if self._stopped or not droplet_ids:
            return
        waiting = iter(droplet_ids)

        async def work() -> None:
            for droplet_id in waiting:
                await self._list(droplet_id)
                if self._stopped:
                    return

        await run_together(work for _ in range(min(workers, len(droplet_ids))))

    async def _list(self, droplet_id: int) -> None:
        listing = await self._client.backups(droplet_id, keep=self._keep)
        tracked, now = self._tracked[droplet_id], self._clock.now()
        found = {record.id: backup_of(record) for record in listing.records.values()}
        if listing.complete:
            before = {backup.id for backup in tracked.backups or ()}
            # A record whose id cannot be read may be any of the known backups.
            unclear = listing.rejected | before if listing.unidentified else listing.rejected
            self._tracked[droplet_id] = own_list_read(
                tracked,
                found,
                unclear,
                unreadable=listing.unidentified + len(listing.rejected - before),
                read_at=listing.started_at,
                now=now,
                supported=supported_of(tracked.policy, self._supported),
            )
            self._settle(droplet_id)
            self._progress(self._done)
        elif isinstance(listing.error, NotFound):
            # No error: the Droplet was destroyed after the listing, or only a policy names it.
            self._tracked[droplet_id] = replace(tracked, not_found_at=now, unread=False)
            self._settle(droplet_id)
            self._progress(self._done)
        else:
            self._tracked[droplet_id] = own_list_failed(tracked, found.values(), now)
            self._note(listing.error)

    def _settle(self, droplet_id: int) -> None:
        self._settled.add(droplet_id)
        self._failed = 0
        self._done += 1

    def _note(self, error: ApiError | None) -> None:
        if error is None:
            return
        self._errors.setdefault(f"{type(error).__name__} {error.endpoint}", error)
        self._failed += 1
        nothing_works = self._failed >= HOPELESS_AFTER and not self._done
        if nothing_works or isinstance(error, OutOfBudget | Throttled | Unauthorized):
            self._stopped = True

    # The sweep

    async def _sweep(self, droplet_ids: Sequence[int]) -> None:
        """Looks the new ids of many Droplets up among the account's images, if that takes fewer requests."""
        now = self._clock.now()
        if self._stopped or now < self._no_sweep_before <= now + self._verify_every:
            return
        wanted: dict[int, int] = {}
        async for droplet_id in with_pauses(droplet_ids):
            wanted.update(dict.fromkeys(self._tracked[droplet_id].unresolved(now), droplet_id))
        if not wanted:
            return
        droplets = len(set(wanted.values()))
        listed = set[int]()
        async for tracked in with_pauses(self._tracked.values()):
            listed.update(tracked.listed or ())
        if not sweep_pays(droplets, max(self.sweep_pages, pages_of(len(listed))) + 1):
            return
        found: dict[int, Backup] = {}
        try:
            await self._sweep_into(found, wanted, droplets, listed)
        except (OutOfBudget, Throttled) as error:
            self._note(error)
        except ApiError as error:
            # Own lists show the same. Do not ask for images at every poll if the token may not read them.
            self._errors.setdefault("sweep", error)
            self._no_sweep_before = now + self._verify_every
        await self._resolve(found, wanted)

    async def _sweep_into(
        self, found: dict[int, Backup], wanted: Mapping[int, int], droplets: int, listed: Set[int]
    ) -> None:
        shows_backups = False

        def take(page: ImagePage) -> None:
            nonlocal shows_backups
            shows_backups = shows_backups or not listed.isdisjoint(page.records)
            for image in page.records.values():
                backup = backup_of_image(image) if image.id in wanted else None
                if backup is not None:
                    found[backup.id] = backup

        first = await self._client.images(1, keep=self._keep)
        take(first)
        pages = self.sweep_pages = first.pages
        if not sweep_lists_backups(pages, len(listed)):
            self._no_sweep_before = self._clock.now() + self._verify_every
        elif sweep_pays(droplets, pages):
            read = 1
            numbers = iter(range(2, pages + 1))

            async def work() -> None:
                nonlocal read
                for number in numbers:
                    if len(found) == len(wanted) or (not shows_backups and sweep_is_idle(read, droplets)):
                        return
                    take(await self._client.images(number, keep=self._keep))
                    read += 1

            await run_together(work for _ in range(min(self._concurrency, pages - 1)))
            if not shows_backups:
                self._no_sweep_before = self._clock.now() + self._verify_every

    async def _resolve(self, found: dict[int, Backup], wanted: dict[int, int]) -> None:
        now = self._clock.now()
        async for droplet_id in with_pauses({wanted[backup_id] for backup_id in found if backup_id in wanted}):
            tracked = backups_resolved(self._tracked[droplet_id], found, now)
            self._tracked[droplet_id] = tracked
            self._swept.add(droplet_id)
            if not tracked.unresolved(now):
                self._settle(droplet_id)
        self._progress(self._done)


async def run_together(workers: Iterable[Callable[[], Coroutine[Any, Any, None]]]) -> None:
    """Runs them at the same time. If one fails, cancels the others and raises its `ApiError`."""
    try:
        async with asyncio.TaskGroup() as group:
            for worker in workers:
                group.create_task(worker())
    except* ApiError as errors:
        raise errors.exceptions[0] from None


def _no_progress(_done: int) -> None: ...
