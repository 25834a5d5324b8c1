"""Where an API token comes from, and how it is kept out of what is written.

No public value, message or exception of this module holds a token.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 4096
"""Bytes; more than any header that a server takes."""

_SENDABLE = re.compile(r"[\x21-\x7e]+")

_TOKEN = re.compile(r"do[opr]_v1_\w*|(?<![\w/])[0-9a-f]{64}(?![\w/])", re.ASCII)
"""DigitalOcean's tokens: personal, OAuth and refresh; and the 64 hexadecimal digits that they were before."""


_TELLING = 12
"""Characters; what is shorter could be part of any word, and is no token of DigitalOcean's."""

_MOST_SEEN = 1000

_seen: dict[str, None] = {}
"""Tokens that were read, the oldest first: the last filter before anything is written must know what to look for."""


class TokenError(Exception):
    """A source that gives no token: which, why, and the remedy."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """The environment variable or the file that holds a token; exactly one of them."""

    env: str | None = None
    file: Path | None = None

    def __str__(self) -> str:
        return f"the file {self.file}" if self.file is not None else f"the environment variable {self.env}"

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The token as it is now, without the whitespace around it.

        Raises `TokenError` if there is none, or if what is there could not be sent in a header.
        """
        token = (self._environment(environ) if self.file is None else self._content(self.file)).strip()
        if not token:
            raise TokenError(f"{self} is empty; put the token there")
        if len(token) > _LONGEST:
            raise TokenError(f"{self} is longer than any token; it must hold the token alone")
        if not _SENDABLE.fullmatch(token):
            raise TokenError(
                f"{self} holds a space, a line break or a character no token has; it must hold the token alone"
            )
        if len(token) >= _TELLING:
            _seen[token] = None
            if len(_seen) > _MOST_SEEN:
                del _seen[next(iter(_seen))]
        return token

    def _environment(self, environ: Mapping[str, str]) -> str:
        found = environ.get(self.env or "")
        if found is None:
            raise TokenError(f"{self} is not set; set it to the token")
        return found

    def _content(self, file: Path) -> str:
        try:
            mode = file.stat().st_mode
            # A pipe would give the token once, and hold up every later poll.
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "no regular file"
                raise TokenError(f"{self} is {kind}; name a file that holds the token")
            with file.open("rb") as stream:
                content = stream.read(_LONGEST + 64)
        except FileNotFoundError:
            raise TokenError(f"{self} does not exist; put the token there") from None
        except OSError as error:
            raise TokenError(f"{self} cannot be read: {error.strerror}; let the exporter's user read it") from None
        # A decoding error would carry the content along; a character put in for a bad byte is refused like any other.
        return content.decode("utf-8-sig", errors="replace")


def looks_like_token(text: str) -> bool:
    """Whether there is something in the text that DigitalOcean would have given out as a token."""
    return _TOKEN.search(text) is not None


def redact(text: str) -> str:
    """The text with everything taken out that looks like a token, and every token that was read, whatever its look."""
    text = _TOKEN.sub("[a token]", text)
    # The longest first: one that begins like another would leave the other's end behind.
    for token in sorted(_seen, key=len, reverse=True):
        text = re.sub(re.escape(token), "[a token]", text, flags=re.IGNORECASE)
    return text
