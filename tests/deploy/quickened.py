"""The shipped configuration with other addresses, and with every interval sixty times shorter: nothing else changes.

This is the one place that touches what `deploy/` ships before the end-to-end test runs it. It works on the text, so
that the routes, receivers, groupings, inhibitions, expressions and annotations that run are those that are shipped.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

FACTOR = 60
"""A minute of the shipped configuration is a second of the test."""

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0, "w": 604800.0}
_DURATION = r"(?:\d+(?:ms|[smhdw]))+"
_PLACES = re.compile(
    # The keys of a rule, of a group of rules, of a scrape and of a route.
    rf"(?P<key>^[ \t]*(?:- )?(?:for|keep_firing_for|(?:\w+_)?interval|group_wait):[ ]+){_DURATION}\b"
    # The ranges of an expression, with the step of a subquery, and its offsets.
    rf"|\[{_DURATION}(?::{_DURATION})?\]"
    rf"|\boffset[ ]{_DURATION}\b",
    re.MULTILINE,
)


def seconds(duration: str) -> float:
    """What a duration of Prometheus's, such as `1h30m`, comes to when it is quickened."""
    return sum(int(n) * _UNITS[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdw])", duration)) / FACTOR


def quickened(shipped: str, addresses: Mapping[str, str]) -> str:
    """The text of a shipped file with its addresses replaced. Each of them must be in the file."""
    text = _PLACES.sub(lambda place: re.sub(_DURATION, lambda d: f"{seconds(d[0]) * 1000:.0f}ms", place[0]), shipped)
    for address, ours in addresses.items():
        assert address in text, f"{address} is not in the shipped file"
        text = text.replace(address, ours)
    return text
