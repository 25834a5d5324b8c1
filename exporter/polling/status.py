"""The state of an account's polls, for the page, the commands and `/-/ready`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from exporter.config.tokens import TokenError, TokenSource
from exporter.digitalocean.errors import ApiError, Unauthorized

PollResult = Literal["success", "partial", "failure"]
"""`failure`: a listing was not complete. `partial`: a list of backups had to be read and was not."""


@dataclass(frozen=True, slots=True)
class Status:
    """One account's polls so far. It is immutable: the poller replaces it."""

    account: str
    interval: float
    ready: bool = False
    """Whether there ever was a complete listing of policies or Droplets."""
    learned: bool = False
    """Whether any poll learned anything."""
    result: PollResult | None = None
    """The result of the last finished poll."""
    polling_since: float | None = None
    last_poll_at: float | None = None
    last_listing_at: float | None = None
    next_poll_at: float | None = None
    unread: int = 0
    """How many lists the last poll had to read and did not."""
    left_out: int = 0
    """How many Droplets of the last listings are not served, because their records cannot be understood."""
    readings_done: int = 0
    readings_planned: int = 0
    problems: tuple[str, ...] = ()
    """One sentence for each thing that went wrong in the last poll."""
    held_back: bool = False
    """Whether the rate limit prevented a request of the last poll."""


def in_words(error: ApiError | TokenError, token: TokenSource) -> str:
    """The error as a sentence. If a better token would help, it names the source of the token."""
    return f"{error}; the token is from {token}" if isinstance(error, Unauthorized) else str(error)
