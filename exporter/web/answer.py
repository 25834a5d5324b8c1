"""What is sent back to a request."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

PLAIN = "text/plain; charset=utf-8"
HTML = "text/html; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer, its body in pieces, which are not copied."""

    pieces: Sequence[bytes]
    status: int = 200
    content_type: str = PLAIN
    headers: Mapping[str, str] = field(default_factory=dict)


def text(what: str, status: int = 200, headers: Mapping[str, str] | None = None) -> Answer:
    """A short answer in plain text."""
    return Answer((what.encode(),), status, headers=headers or {})
