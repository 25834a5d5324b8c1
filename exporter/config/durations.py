"""Lengths of time as people write them."""

from __future__ import annotations

import re

from exporter.config.yaml_document import quoted

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "\N{MICRO SIGN}s": 10**3,
    "\N{GREEK SMALL LETTER MU}s": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
}
_NUMBER_AND_UNIT = re.compile(rf"([0-9]+\.?[0-9]*|\.[0-9]+)({'|'.join(_NANOSECONDS)})")
_LONGEST = 2**63
"""Nanoseconds. Go's durations must be shorter than this too."""


def parse_duration(text: str) -> float:
    """Seconds, from Go's notation: `90s`, `5m`, `1h30m`, `1.5h`, `250ms`.

    Raises `ValueError` with what to write instead if the text is not a duration, or if the duration is not positive.
    https://pkg.go.dev/time#ParseDuration
    """
    unsigned = text.removeprefix("-")
    steps = _NUMBER_AND_UNIT.findall(unsigned)
    if not steps or "".join(number + unit for number, unit in steps) != unsigned:
        if re.fullmatch(r"[1-9][0-9]{0,8}", text):
            raise ValueError(f"{text} is not a duration, it lacks a unit; write it like {text}s, {text}m or {text}h")
        raise not_a_duration(quoted(text))
    nanoseconds = sum(float(number) * _NANOSECONDS[unit] for number, unit in steps)
    if nanoseconds >= _LONGEST:
        raise ValueError(f"{quoted(text)} is over 292 years; write a duration like 90s, 5m or 1h30m")
    if unsigned != text or round(nanoseconds) == 0:
        raise ValueError(f"{quoted(text)} is not above zero; write a duration like 90s, 5m or 1h30m")
    return round(nanoseconds) / 10**9


def not_a_duration(shown: str) -> ValueError:
    """The error for a value that is no duration; `shown` is the value as an error message quotes it."""
    return ValueError(f"{shown} is not a duration; write it like 90s, 5m or 1h30m")


def duration_text(seconds: float) -> str:
    """The shortest text for this number of seconds that `parse_duration` reads: `5m`, `1h30m`, `250ms`."""
    nanoseconds = round(abs(seconds) * 10**9)
    sign = "-" if seconds < 0 else ""
    if 0 < nanoseconds < 10**9:
        return f"{sign}{_decimal(nanoseconds, 10**6)}ms"
    minutes, rest = divmod(nanoseconds, _NANOSECONDS["m"])
    parts = [f"{minutes // 60}h" * (minutes >= 60), f"{minutes % 60}m" * (minutes % 60 > 0)]
    if rest or not minutes:
        parts.append(f"{_decimal(rest, 10**9)}s")
    return sign + "".join(parts)


def _decimal(number: int, unit: int) -> str:
    """`number / unit` in decimal notation. `unit` is a power of ten."""
    whole, rest = divmod(number, unit)
    return f"{whole}.{rest:0{len(str(unit)) - 1}}".rstrip("0").rstrip(".") if rest else str(whole)
