"""Warnings that are logged once and not at every poll: different clocks, missing tags or Droplets, a small budget."""

from __future__ import annotations

from structlog.typing import FilteringBoundLogger

from exporter.fleet.assemble import CLOCK_WRONG
from exporter.polling.read_plan import RequestForecast

CLOCKS_DIFFER = 60.0
"""Seconds between the API's clock and ours that cause a warning. A slow answer explains a smaller difference."""


class Notices:
    """One account's warnings. Each is logged when it begins to be true, not at every poll."""

    def __init__(self, log: FilteringBoundLogger) -> None:
        self._log = log
        self._tags_unknown = False
        self._short_of_budget = False
        self._skew: float | None = None
        """The difference that was last logged, in seconds."""

    def clock(self, skew: float | None) -> None:
        """`skew`: seconds by which the API's clock is ahead of ours; `None`: no answer had a `Date` yet."""
        if skew is None:
            return
        if abs(skew) <= CLOCKS_DIFFER:
            if self._skew is not None:
                self._log.info("the API's clock and ours agree again", ahead_seconds=round(skew))
            self._skew = None
        elif self._skew is None or abs(skew - self._skew) > CLOCKS_DIFFER:
            self._log.warning(
                "the API's clock and ours differ",
                ahead_seconds=round(skew),
                effect="nothing is judged until they agree"
                if abs(skew) > CLOCK_WRONG
                else "windows are judged by our clock, so verdicts come too early or too late by this difference",
                remedy="set this host's clock, by NTP or the like",
            )
            self._skew = skew

    def droplets(self, before: int, after: int) -> None:
        """How many Droplets were watched before and after a poll."""
        if 2 * after < before:
            self._log.warning(
                "most Droplets are gone",
                before=before,
                now=after,
                effect="those that the listings no longer name are not watched any more",
                remedy="if they were not destroyed, check which team the token belongs to",
            )

    def tags(self, *, unknown: bool, selects_blindly: bool) -> None:
        """`unknown`: the API shows no tags. `selects_blindly`: the account's Droplets are selected by tags."""
        if unknown and not self._tags_unknown:
            self._log.warning(
                "tags not known",
                problem="the API's records of Droplets have no tags",
                effect="no Droplet is selected, because the selection is by tags"
                if selects_blindly
                else "it is not known where backups are expected by tag, and labels made of tags are empty",
                remedy="give the token the scope tag:read",
            )
        self._tags_unknown = unknown

    def budget(self, forecast: RequestForecast, allowed: float) -> None:
        """`allowed`: requests an hour that the budget leaves to this account."""
        short = forecast.total > allowed
        if short and not self._short_of_budget:
            self._log.warning(
                "the budget is too small",
                needed_per_hour=round(forecast.total),
                listings=round(forecast.listings),
                new_backups=round(forecast.backups),
                verification=round(forecast.verification),
                allowed_per_hour=round(allowed),
                effect="lists of backups are read late",
                remedy="raise poll.interval or poll.verify_every, or split the account by select between tokens",
            )
        self._short_of_budget = short
