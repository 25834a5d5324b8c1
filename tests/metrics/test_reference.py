"""The README's metric reference."""

from __future__ import annotations

from tests.readme import README, made


def test_reference_is_the_table() -> None:
    """The README describes exactly the families that are served: `python -m tests.readme` writes them anew."""
    text = README.read_text()
    assert made(text) == text
