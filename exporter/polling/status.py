"""How an account's polls go, for people and for `/-/ready`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.config.tokens import TokenError, TokenSource
from exporter.digitalocean.errors import ApiError, Unauthorized

PollResult = Literal["success", "partial", "failure"]
"""`failure`: a listing was not complete. `partial`: a Droplet's list of backups that had to be read was not."""


@dataclass(frozen=True, slots=True)
class Status:
    """One account's polls so far; replaced whole, like the fleet."""

    account: str
    interval: float
    ready: bool = False
    """Whether a complete listing of policies or Droplets was ever had."""
    learned: bool = False
    """Whether any poll brought anything at all."""
    result: PollResult | None = None
    """Of the last finished poll."""
    polling_since: float | None = None
    last_poll_at: float | None = None
    last_listing_at: float | None = None
    next_poll_at: float | None = None
    unread: int = 0
    """Lists that the last poll had to read and did not."""
    readings_done: int = 0
    readings_planned: int = 0
    problems: tuple[str, ...] = ()
    """What went wrong in the last poll, in words."""
    held_back: bool = False
    """Whether the rate limit kept the last poll from a request."""


def in_words(error: ApiError | TokenError, token: TokenSource) -> str:
    """What went wrong, and where the token is from if another one mends it."""
    return f"{error}; the token is from {token}" if isinstance(error, Unauthorized) else str(error)
