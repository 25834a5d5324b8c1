"""The last verdict on each Droplet, so that a poll only judges the Droplets of which something changed."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from exporter.fleet.assemble import Assembled, Rules, assemble
from exporter.fleet.model import SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet
from exporter.polling.read_plan import ReadPolicy, no_reading_until


class JudgedDroplets:
    """The judged Droplets of one account. All of them are judged anew when the supported policies change."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._supported: Mapping[str, SupportedPolicy] | None = None
        self._assembled: dict[int, Assembled] = {}
        self._unread_until: dict[int, tuple[TrackedDroplet, float, float]] = {}
        """Droplets whose list need not be read: the Droplet as it was tracked, and from when until when that holds."""

    def begin(self, supported: Mapping[str, SupportedPolicy], tracked: Collection[int]) -> None:
        """Uses these supported policies from now on, and forgets Droplets that are no longer tracked."""
        if supported is not self._supported:
            self._assembled, self._unread_until, self._supported = {}, {}, supported
        for gone in self._assembled.keys() - tracked:
            del self._assembled[gone]
            self._unread_until.pop(gone, None)

    def watches(self, tracked: TrackedDroplet) -> bool:
        """Whether the Droplet is one to be served: a listing named it, and it is selected."""
        before = self._assembled.get(tracked.id)
        if before is not None and before.source is tracked:
            return True  # no other is judged
        return tracked.named and self._rules.watched.watches(tracked.id, tracked.description)

    def assembled(self, tracked: TrackedDroplet, now: float, clock_ahead: float | None) -> Assembled:
        """The Droplet as it is served. It is judged anew if it changed, or if time has ended its last verdict."""
        before = self._assembled.get(tracked.id)
        if before is None or not before.stands(tracked, now, clock_ahead):
            before = assemble(tracked, self._supported or {}, self._rules, now, clock_ahead)
            self._assembled[tracked.id] = before
        return before

    def needs_no_reading(self, tracked: TrackedDroplet, now: float) -> bool:
        """Whether it was found earlier that this Droplet's list need not be read at this time."""
        found = self._unread_until.get(tracked.id)
        return found is not None and found[0] is tracked and found[1] <= now < found[2]

    def remember_no_reading(self, tracked: TrackedDroplet, read_policy: ReadPolicy, now: float) -> None:
        """This Droplet's list need not be read now: remember until when, if its verdict shows that."""
        judged = self._assembled.get(tracked.id)
        # A stale Droplet's list is read every hour, although its verdict stands for longer.
        if judged is not None and judged.source is tracked and not judged.droplet.verdict.stale:
            self._unread_until[tracked.id] = tracked, now, no_reading_until(tracked, read_policy, judged.until, now)
