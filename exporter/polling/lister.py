"""The listings of one poll: of all Droplets, or of single Droplets if few are selected by id and that is cheaper."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Generic, TypeVar

from exporter.cooperative import with_pauses
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import ApiError, NotFound, Rejected
from exporter.digitalocean.pagination import Pages
from exporter.digitalocean.records import DropletRecord, PolicyRecord
from exporter.fleet.listings import AccountListings
from exporter.polling.conversion import description_of, policy_of
from exporter.polling.read_plan import pages_of

_R = TypeVar("_R")
_T = TypeVar("_T")


class Lister:
    """Asks for one account's listings, and remembers how many requests they take."""

    def __init__(self, client: Client, droplet_ids: frozenset[int]) -> None:
        self._client = client
        self._droplet_ids = droplet_ids
        self._cost_of_all: int | None = None
        self._policies = _CachedConversion(policy_of)
        self._descriptions = _CachedConversion(description_of)

    @property
    def cost(self) -> int:
        """How many requests the next listings take, as far as is known."""
        of_all = self._cost_of_all or 3
        return min(of_all, 2 * len(self._droplet_ids)) if self._droplet_ids else of_all

    async def listings(self) -> tuple[AccountListings, tuple[ApiError, ...]]:
        """The listings, and the errors that made them incomplete. Never raises an `ApiError`."""
        if self._droplet_ids and await self._cheaper_one_by_one():
            return await self._of_selected()
        return await self._of_all()

    async def _cheaper_one_by_one(self) -> bool:
        singly = 2 * len(self._droplet_ids)
        # Listing all Droplets takes three requests at least, so a single Droplet is always cheaper alone.
        if self._cost_of_all is None and singly > 3:
            # One request shows how many pages the listing of all Droplets has; they may be a hundred.
            with suppress(ApiError):
                count = await self._client.droplet_count()
                self._cost_of_all = None if count is None else 2 * pages_of(count) + 1
        return singly < (self._cost_of_all or 3)

    async def _of_all(self) -> tuple[AccountListings, tuple[ApiError, ...]]:
        policies, droplets, gpus = await asyncio.gather(
            self._client.policies(), self._client.droplets(), self._client.droplets(gpus=True)
        )
        if policies.complete and droplets.complete and gpus.complete:
            self._cost_of_all = sum(pages_of(listing.total or 0) for listing in (policies, droplets, gpus))
        errors = (policies.error, droplets.error, gpus.error)
        listings = await self._converted(policies, (droplets, gpus))
        if self._droplet_ids:
            listings = _only(listings, self._droplet_ids)
        return listings, tuple(error for error in errors if error is not None)

    async def _converted(
        self, policies: Pages[PolicyRecord], droplets: Sequence[Pages[DropletRecord]]
    ) -> AccountListings:
        described = {droplet_id: record for listing in droplets for droplet_id, record in listing.records.items()}
        return AccountListings(
            policies=await self._policies.of(policies.records),
            descriptions=await self._descriptions.of(described),
            backup_ids=_backup_ids(described),
            rejected_policies=policies.rejected,
            rejected_droplets=frozenset[int]().union(*(listing.rejected for listing in droplets)),
            policies_complete=policies.complete,
            droplets_complete=all(listing.complete for listing in droplets),
            unidentified_policies=policies.unidentified,
            unidentified_droplets=sum(listing.unidentified for listing in droplets),
        )

    async def _of_selected(self) -> tuple[AccountListings, tuple[ApiError, ...]]:
        ids = sorted(self._droplet_ids)
        droplets, policies = await asyncio.gather(_each(ids, self._client.droplet), _each(ids, self._client.policy))
        described, errors = _records(droplets), (*_errors(droplets), *_errors(policies))
        missing = _failed_with(NotFound, droplets) & _failed_with(NotFound, policies)
        return AccountListings(
            policies={droplet_id: policy_of(record) for droplet_id, record in _records(policies).items()},
            descriptions={droplet_id: description_of(record) for droplet_id, record in described.items()},
            backup_ids=_backup_ids(described),
            rejected_policies=_failed_with(Rejected, policies),
            rejected_droplets=_failed_with(Rejected, droplets),
            policies_complete=not _errors(policies),
            droplets_complete=not _errors(droplets),
            gone=missing,
        ), errors


class _CachedConversion(Generic[_R, _T]):
    """Converts records. A record that is the same object as at the last poll gives the same value, too."""

    def __init__(self, convert: Callable[[_R], _T]) -> None:
        self._convert = convert
        self._records: Mapping[int, _R] = {}
        self._values: Mapping[int, _T] = {}

    async def of(self, records: Mapping[int, _R]) -> Mapping[int, _T]:
        before, known = self._records, self._values
        values = {}
        async for droplet_id, record in with_pauses(records.items()):
            values[droplet_id] = known[droplet_id] if before.get(droplet_id) is record else self._convert(record)
        self._records, self._values = records, values
        return values


def _only(listings: AccountListings, droplet_ids: frozenset[int]) -> AccountListings:
    """Only these Droplets. The others must not look lost when the next poll asks for the selected ones alone."""
    return replace(
        listings,
        policies={one: policy for one, policy in listings.policies.items() if one in droplet_ids},
        descriptions={one: description for one, description in listings.descriptions.items() if one in droplet_ids},
    )


def _backup_ids(described: Mapping[int, DropletRecord]) -> dict[int, tuple[int, ...]]:
    return {droplet_id: record.backup_ids for droplet_id, record in described.items() if record.backup_ids is not None}


async def _each(ids: Iterable[int], ask: Callable[[int], Awaitable[_T]]) -> dict[int, _T | ApiError]:
    async def answer(droplet_id: int) -> tuple[int, _T | ApiError]:
        try:
            return droplet_id, await ask(droplet_id)
        except ApiError as error:
            return droplet_id, error

    return dict(await asyncio.gather(*(answer(droplet_id) for droplet_id in ids)))


def _records(answers: Mapping[int, _T | ApiError]) -> dict[int, _T]:
    return {droplet_id: answer for droplet_id, answer in answers.items() if not isinstance(answer, ApiError)}


def _errors(answers: Mapping[int, object]) -> list[ApiError]:
    """Errors that leave open whether a Droplet exists. A 404, or a record that cannot be read, does not."""
    return [
        answer
        for answer in answers.values()
        if isinstance(answer, ApiError) and not isinstance(answer, NotFound | Rejected)
    ]


def _failed_with(kind: type[ApiError], answers: Mapping[int, object]) -> frozenset[int]:
    return frozenset(droplet_id for droplet_id, answer in answers.items() if isinstance(answer, kind))
