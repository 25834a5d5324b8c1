"""The configuration as frozen values, with the defaults. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.config.proxies import Proxies
from exporter.config.tokens import TokenSource
from exporter.fleet.assemble import DEFAULT_GRACE, Rules
from exporter.fleet.selection import EVERYTHING, Criteria, Selection

API_URL = "https://api.digitalocean.com"
NO_PROXIES = Proxies()
ALL_BUT_KUBERNETES = Selection(exclude=Criteria(tags=frozenset({"k8s"})))
"""DigitalOcean does not allow backups on the nodes of its Kubernetes clusters."""


@dataclass(frozen=True, slots=True)
class Account:
    """One token's view of DigitalOcean, and the Droplets in it that are watched."""

    name: str
    token: TokenSource
    api_url: str = API_URL
    selection: Selection = EVERYTHING
    watched_since: float | None = None
    """Since when the account counts as watched, in Unix seconds; `None`: since the exporter's first poll.

    For the demo, which has no state file and would otherwise know only what happened after its start.
    """


@dataclass(frozen=True, slots=True)
class Poll:
    """How an account is polled."""

    interval: float = 300.0
    """Seconds from one poll to the next."""
    timeout: float = 10.0
    """Seconds for one request."""
    concurrency: int = 8
    """Requests in flight at the same time."""
    verify_every: float = 86400.0
    """Seconds after which a Droplet's list of backups is read again even if nothing seems to have changed."""


@dataclass(frozen=True, slots=True)
class RateLimit:
    """How many requests may be sent."""

    per_minute: int = 250
    per_hour: int = 5000
    reserve: float = 0.2
    """The part of the hour's requests, from 0 to below 1, that is left to the token's other users."""


@dataclass(frozen=True, slots=True)
class TagLabel:
    """A label of `digitalocean_backup_droplet_info`. Its value is the rest of the first tag with this prefix."""

    label: str
    prefix: str


@dataclass(frozen=True, slots=True)
class MaxAge:
    """How old the newest backup of the selected Droplets may be."""

    select: Selection
    age: float
    """Seconds."""


@dataclass(frozen=True, slots=True)
class Config:
    """The whole configuration."""

    accounts: tuple[Account, ...]
    poll: Poll = Poll()
    rate_limit: RateLimit = RateLimit()
    expect_backups: Selection = ALL_BUT_KUBERNETES
    grace: float = DEFAULT_GRACE
    """Seconds after the end of a backup window in which its backup may still appear."""
    tag_labels: tuple[TagLabel, ...] = ()
    max_age: tuple[MaxAge, ...] = ()
    """The first entry that selects a Droplet counts. If none does, the limit follows from the Droplet's plan."""
    state_file: Path | None = None
    proxies: Proxies = NO_PROXIES
    """From the environment, not from the file."""

    def rules(self, account: Account) -> Rules:
        """What the configuration says about the Droplets of one of its accounts."""
        return Rules(
            watched=account.selection,
            expected=self.expect_backups,
            tag_prefixes=tuple(label.prefix for label in self.tag_labels),
            grace=self.grace,
            max_age=tuple((limit.select, limit.age) for limit in self.max_age),
        )
