"""What the exporter is told to do, as frozen values. Times are in seconds."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from exporter.config.proxies import Proxies
from exporter.config.tokens import TokenSource
from exporter.fleet.assemble import Rules
from exporter.fleet.selection import Criteria, Selection

API_URL = "https://api.digitalocean.com"
EVERY_DROPLET = Selection()
NO_PROXIES = Proxies()
ALL_BUT_KUBERNETES = Selection(exclude=Criteria(tags=frozenset({"k8s"})))
"""DigitalOcean does not allow backups on the nodes of its Kubernetes clusters."""


@dataclass(frozen=True, slots=True)
class Account:
    """One token's view of DigitalOcean, and the Droplets in it that are watched."""

    name: str
    token: TokenSource
    api_url: str = API_URL
    selection: Selection = EVERY_DROPLET
    watched_since: float | None = None
    """As if the exporter had watched the account since then, in Unix seconds: the demo has no state file."""


@dataclass(frozen=True, slots=True)
class Poll:
    """How an account is polled; seconds, and the requests in flight at once."""

    interval: float = 300.0
    timeout: float = 10.0
    concurrency: int = 8
    verify_every: float = 86400.0


@dataclass(frozen=True, slots=True)
class RateLimit:
    """Requests that may be sent, and the part of the hour's that is left to the token's other users."""

    per_minute: int = 250
    per_hour: int = 5000
    reserve: float = 0.2


@dataclass(frozen=True, slots=True)
class TagLabel:
    """A label of `digitalocean_backup_droplet_info`, made of the rest of the first tag with this prefix."""

    label: str
    prefix: str


@dataclass(frozen=True, slots=True)
class MaxAge:
    """How old the newest backup of the Droplets selected may be, in seconds."""

    select: Selection
    age: float


@dataclass(frozen=True, slots=True)
class Config:
    """What the exporter was told; times are seconds."""

    accounts: tuple[Account, ...]
    poll: Poll = Poll()
    rate_limit: RateLimit = RateLimit()
    expect_backups: Selection = ALL_BUT_KUBERNETES
    grace: float = 14400.0
    tag_labels: tuple[TagLabel, ...] = ()
    max_age: tuple[MaxAge, ...] = ()
    """The first entry that means a Droplet counts; without one, its plan tells."""
    state_file: Path | None = None
    proxies: Proxies = NO_PROXIES
    """Of the environment, not of the file."""

    def rules(self, account: Account) -> Rules:
        """What it says of the Droplets of one of its accounts."""
        return Rules(
            watched=account.selection,
            expected=self.expect_backups,
            tag_prefixes=tuple(label.prefix for label in self.tag_labels),
            grace=self.grace,
            max_age=tuple((limit.select, limit.age) for limit in self.max_age),
        )
