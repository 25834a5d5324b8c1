"""Each Droplet as last judged: one of which nothing changed is neither judged nor planned anew at every poll."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from exporter.fleet.assemble import Assembled, Rules, assemble
from exporter.fleet.model import SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet
from exporter.polling.read_plan import ReadPolicy, no_reading_until


class JudgedDroplets:
    """The Droplets of one account, by id. What was judged by other supported policies is forgotten."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._supported: Mapping[str, SupportedPolicy] | None = None
        self._assembled: dict[int, Assembled] = {}
        self._quiet: dict[int, tuple[TrackedDroplet, float, float]] = {}
        """Droplets that need no reading: as they were tracked then, since when, and until when at least."""

    def begin(self, supported: Mapping[str, SupportedPolicy], tracked: Collection[int]) -> None:
        """Judges by these supported policies from now on, and forgets the Droplets that are tracked no longer."""
        if supported is not self._supported:
            self._assembled, self._quiet, self._supported = {}, {}, supported
        for gone in self._assembled.keys() - tracked:
            del self._assembled[gone]
            self._quiet.pop(gone, None)

    def assembled(self, known: TrackedDroplet, now: float, clock_ahead: float | None) -> Assembled:
        """The Droplet as served: the one from before, unless it changed or the time has come to judge it anew."""
        before = self._assembled.get(known.id)
        if before is None or not before.stands(known, now, clock_ahead):
            before = assemble(known, self._supported or {}, self._rules, now, clock_ahead)
            self._assembled[known.id] = before
        return before

    def needs_no_reading(self, known: TrackedDroplet, now: float) -> bool:
        """Whether it is known that this Droplet's list need not be read now."""
        quiet = self._quiet.get(known.id)
        return quiet is not None and quiet[0] is known and quiet[1] <= now < quiet[2]

    def remember_no_reading(self, known: TrackedDroplet, read_policy: ReadPolicy, now: float) -> None:
        """This Droplet has no reason to be read now; remember for how long, if its verdict tells."""
        judged = self._assembled.get(known.id)
        # A stale one is read again within the hour, though its verdict stands for longer.
        if judged is not None and judged.source is known and not judged.droplet.verdict.stale:
            self._quiet[known.id] = known, now, no_reading_until(known, read_policy, judged.until, now)
