"""Asks for one Droplet by its own endpoints, in four requests at most, whatever the size of the fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from msgspec.structs import replace

from exporter.clock import Clock
from exporter.config.tokens import TokenError, TokenSource
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import ApiError
from exporter.fleet.listings import learn
from exporter.fleet.model import SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet
from exporter.polling.backup_reader import BackupReader
from exporter.polling.conversion import supported_policies_of
from exporter.polling.lister import Lister
from exporter.polling.read_plan import ReadPlan, Urgency
from exporter.polling.status import in_words


@dataclass(frozen=True, slots=True)
class SingleDroplet:
    """What one account knows of a Droplet."""

    tracked: TrackedDroplet | None = None
    """`None` if the account does not know it, or could not be asked."""
    supported: Mapping[str, SupportedPolicy] = field(default_factory=dict)
    absent: bool = False
    """Whether the account knows neither a Droplet nor a policy by this id."""
    errors: tuple[str, ...] = ()
    """One sentence for each thing that could not be read."""


async def ask_for_droplet(
    client: Client,
    token: TokenSource,
    droplet_id: int,
    before: TrackedDroplet | None,
    clock: Clock,
    *,
    watched_since: float | None = None,
) -> SingleDroplet:
    """Asks for the Droplet and its policy, and, if there is such a Droplet, for its backups and the supported policies.

    `token` is the source of the client's token, for error texts. `before` is what a state file kept of the Droplet.
    `watched_since` is when it was first seen, if that is not now. Never raises an `ApiError` or a `TokenError`.
    """
    try:
        await client.refresh_token()
    except (TokenError, ApiError) as error:
        return SingleDroplet(errors=(in_words(error, token),))
    listings, failed = await Lister(client, frozenset({droplet_id})).listings()
    if listings.gone:
        return SingleDroplet(absent=True)
    errors = [in_words(error, token) for error in failed]
    for what, rejected in (("Droplet", listings.rejected_droplets), ("policy", listings.rejected_policies)):
        if rejected:
            errors.append(f"the API's record of the {what} cannot be understood")
    if not listings.told:
        return SingleDroplet(errors=tuple(errors))
    plans = await client.supported_policies()
    if plans.error is not None:
        errors.append(in_words(plans.error, token))
    supported = supported_policies_of(plans.records.values())
    now = clock.now()
    tracked = learn(
        before, droplet_id, listings, now, tells_backup_ids=listings.tells_backup_ids, watched_since=watched_since
    )
    if tracked is None:
        return SingleDroplet(errors=tuple(errors))
    fleet = {droplet_id: tracked}
    # The urgency makes no difference: there is one list to read.
    plan = ReadPlan(((Urgency.DUE, droplet_id),))
    outcome = await BackupReader(client, clock, 1, 1.0).read(
        plan, fleet, keep=0, progress=lambda _: None, supported=supported
    )
    errors += [in_words(error, token) for error in outcome.errors]
    return SingleDroplet(replace(fleet[droplet_id], unread=not outcome.settled), supported, errors=tuple(errors))
