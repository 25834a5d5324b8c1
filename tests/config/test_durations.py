from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.durations import duration_text, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("90s", 90.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("24h", 86400.0),
        ("1.5h", 5400.0),
        (".5s", 0.5),
        ("250ms", 0.25),
        ("300ms", 0.3),
        ("1s1h", 3601.0),
        ("1m1m", 120.0),
        ("7us", 7e-6),
        ("7\N{MICRO SIGN}s", 7e-6),
        ("7\N{GREEK SMALL LETTER MU}s", 7e-6),
        ("1ns", 1e-9),
        ("2562047h", 2562047 * 3600.0),
    ],
)
def test_go_notation_is_read(text: str, seconds: float) -> None:
    """Any length that Go's notation can write is read exactly."""
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    ["", "s", "5", "5 m", "5m ", "5M", "1d", "5min", "1h-5m", "+5m", "1,5h", "١s", "1e3s", "0x1s", "nan", "infs", "."],
)
def test_anything_else_is_no_duration(text: str) -> None:
    """What Go's notation does not know is refused, with an example of what it does."""
    with pytest.raises(ValueError, match=r"is not a duration.*; write it like"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["0s", "0h0m", "-5m", "0.1ns", "0.0000000000001s"])
def test_a_duration_is_above_zero(text: str) -> None:
    """Nothing lasts no time or less."""
    with pytest.raises(ValueError, match="is not above zero"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["2562048h", "9" * 400 + "s", "9" * 5000 + "ns"])
def test_a_duration_ends(text: str) -> None:
    """What Go could not hold is refused."""
    with pytest.raises(ValueError, match="is over 292 years"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (0.25, "250ms"),
        (0.0000015, "0.0015ms"),
        (1, "1s"),
        (1.5, "1.5s"),
        (59.999, "59.999s"),
        (60, "1m"),
        (300, "5m"),
        (3600, "1h"),
        (3605, "1h5s"),
        (5400, "1h30m"),
        (86400, "24h"),
        (-90, "-1m30s"),
    ],
)
def test_a_duration_is_written_short(seconds: float, text: str) -> None:
    """Messages write a duration as a person would."""
    assert duration_text(seconds) == text


@given(st.integers(1, 10**15))
def test_what_is_written_is_read_again(nanoseconds: int) -> None:
    """Writing and reading a duration loses nothing."""
    assert parse_duration(duration_text(nanoseconds / 10**9)) == nanoseconds / 10**9
