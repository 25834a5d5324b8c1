"""Where an API token comes from, and how it is removed from everything that is written.

No value, message or exception of this module contains a token, except what `TokenSource.read` returns.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_LONGEST = 4096
"""Bytes. Servers do not accept a header as long as this."""

_SENDABLE = re.compile(r"[\x21-\x7e]+")

_TOKEN = re.compile(r"do[opr]_v1_\w*|(?<![\w/])[0-9a-f]{64}(?![\w/])", re.ASCII)
"""DigitalOcean's tokens: personal, OAuth and refresh, and the older ones of 64 hexadecimal digits."""

_TOKEN_IN_ANY_CASE = re.compile(r"do[opr]_v1_[0-9a-f]{8}\w*|(?<![\w/])[0-9a-f]{64}(?![\w/])", re.ASCII | re.IGNORECASE)
"""The same in upper or lower case, as a server may send it back. Eight digits are required, so that the name of a
variable like DOP_V1_TOKEN does not match."""

REDACTED = "[a token]"

_SHORTEST_REDACTED = 12
"""Characters. A shorter text could be part of any word, and DigitalOcean's tokens are longer."""

_MOST_SEEN = 1000

_seen: dict[str, None] = {}
"""Tokens that were read, the oldest first. `redact` removes them from everything that is written."""


class TokenError(Exception):
    """A token cannot be read. The text says from where, why, and what to do."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """The environment variable or the file that holds a token. Exactly one of the two is set."""

    env: str | None = None
    file: Path | None = None

    def __str__(self) -> str:
        return f"the file {self.file}" if self.file is not None else f"the environment variable {self.env}"

    def read(self, environ: Mapping[str, str] = os.environ) -> str:
        """The token as it is now, without the whitespace around it.

        Raises `TokenError` if there is no token, or if it contains something that cannot be sent in a header.
        """
        token = (self._from_environment(environ) if self.file is None else self._from_file(self.file)).strip()
        if not token:
            raise TokenError(f"{self} is empty; put the token there")
        if len(token) > _LONGEST:
            raise TokenError(f"{self} is longer than any token; it must hold the token alone")
        if token[0] in "\"'" and token[-1] == token[0]:
            raise TokenError(f"{self} has quotes around the token; remove them, they would be sent with it")
        if not _SENDABLE.fullmatch(token):
            raise TokenError(
                f"{self} holds a space, a line break or a character that no token has; it must hold the token alone"
            )
        if len(token) >= _SHORTEST_REDACTED:
            _seen[token] = None
            if len(_seen) > _MOST_SEEN:
                del _seen[next(iter(_seen))]
        return token

    def _from_environment(self, environ: Mapping[str, str]) -> str:
        found = environ.get(self.env or "")
        if found is None:
            raise TokenError(f"{self} is not set; set it to the token")
        return found

    def _from_file(self, file: Path) -> str:
        try:
            mode = file.stat().st_mode
            # A pipe would give the token once, and block every later poll.
            if not stat.S_ISREG(mode):
                kind = "a directory" if stat.S_ISDIR(mode) else "not a regular file"
                raise TokenError(f"{self} is {kind}; name a file that holds the token")
            with file.open("rb") as stream:
                content = stream.read(_LONGEST + 64)
        except FileNotFoundError:
            raise TokenError(f"{self} does not exist; {_remedy(file)}") from None
        except OSError as error:
            raise TokenError(f"{self} cannot be read: {error.strerror}; let the exporter's user read it") from None
        # A decoding error would contain the content. With `replace`, a bad byte becomes a character that is refused.
        return content.decode("utf-8-sig", errors="replace")


def _remedy(file: Path) -> str:
    if file.parts[:1] == ("~",):
        return "~ is not expanded here; write the whole path"
    if file.parts[:3] == ("/", "run", "credentials"):
        return (
            "systemd creates it for the unit, and only while the unit runs: check the unit's LoadCredential, or, "
            "outside the unit, name another file"
        )
    return "put the token there"


def looks_like_token(text: str) -> bool:
    """Whether the text contains something in the form of a DigitalOcean token."""
    return _TOKEN.search(text) is not None


def redact(text: str) -> str:
    """The text without tokens: those that look like one, and those that were read, whatever they look like."""
    text = _TOKEN_IN_ANY_CASE.sub(REDACTED, _TOKEN.sub(REDACTED, text))
    lowered = text.lower()
    # The longest first: of a token that begins with another one, the rest would be left.
    for token in sorted(_seen, key=len, reverse=True):
        # Servers send headers back in small letters, so case does not count.
        if token.lower() in lowered:
            text = re.sub(re.escape(token), lambda _: REDACTED, text, flags=re.IGNORECASE)
            lowered = text.lower()
    return text
