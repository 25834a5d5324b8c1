"""A poller that spares nothing: it reads every Droplet's own list at every poll, through the same fleet functions."""

from __future__ import annotations

from dataclasses import replace

from msgspec import structs

from exporter.clock import Clock
from exporter.digitalocean.errors import ApiError, NotFound
from exporter.fleet.assemble import Rules, assemble, supported_of
from exporter.fleet.listings import AccountListings, learn
from exporter.fleet.model import Droplet, SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet, own_list_failed, own_list_read
from exporter.polling.conversion import backup_of, supported_policies_of
from exporter.polling.lister import Lister
from tests.support.cloud import Cloud, MemoryClient


class Thorough:
    """What the economical poller is measured against."""

    def __init__(self, cloud: Cloud, clock: Clock, rules: Rules) -> None:
        self.droplets: dict[int, Droplet] = {}
        self._client = MemoryClient(cloud, clock)
        self._lister = Lister(self._client, frozenset())
        self._clock = clock
        self._rules = rules
        self._tracked: dict[int, TrackedDroplet] = {}
        self._supported: dict[str, SupportedPolicy] = {}

    async def poll(self) -> None:
        listings, _ = await self._lister.listings()
        listings = replace(listings, gone=await self._gone(listings))
        if not self._supported:
            plans = await self._client.supported_policies()
            self._supported = supported_policies_of(plans.records.values())
        now = self._clock.now()
        for droplet_id in {*self._tracked, *listings.descriptions, *listings.policies}:
            learnt = learn(self._tracked.pop(droplet_id, None), droplet_id, listings, now, tells_backup_ids=False)
            if learnt is not None:
                self._tracked[droplet_id] = await self._read(learnt, now) if listings.told else learnt
        assembled = [
            assemble(tracked, self._supported, self._rules, now) for tracked in self._tracked.values() if tracked.named
        ]
        # Each verdict's misses are remembered for the next.
        self._tracked.update((one.source.id, one.source) for one in assembled)
        self.droplets = {one.droplet.id: one.droplet for one in assembled}

    async def _gone(self, listings: AccountListings) -> frozenset[int]:
        gone = set()
        for droplet_id in self._tracked:
            if listings.complete and not listings.names(droplet_id):
                try:
                    await self._client.droplet(droplet_id)
                except NotFound:
                    gone.add(droplet_id)
                except ApiError:
                    pass
        return frozenset(gone)

    async def _read(self, tracked: TrackedDroplet, now: float) -> TrackedDroplet:
        listing = await self._client.backups(tracked.id)
        found = {record.id: backup_of(record) for record in listing.records.values()}
        if listing.complete:
            return own_list_read(
                tracked,
                found,
                (),
                unreadable=0,
                read_at=listing.started_at,
                now=now,
                supported=supported_of(tracked.policy, self._supported),
            )
        if isinstance(listing.error, NotFound):
            return structs.replace(tracked, not_found_at=now, unread=False)
        return structs.replace(own_list_failed(tracked, (), now), unread=True)
