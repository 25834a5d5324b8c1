"""Stderr: where everything goes that is no result. It may be closed, full or a pipe that nobody reads any more.

What is said there is said for people: that it cannot be must end nothing and change no exit code.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

from exporter import NAME


class Stderr:
    """A file for loggers: whatever stderr is at the moment, as when a progress bar stands there; else nowhere."""

    def write(self, text: str) -> None:
        # A ValueError is that of a closed file.
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()


def print_text(text: str) -> None:
    """Writes lines as they are, but for tokens."""
    from exporter.config.tokens import redact  # not above: `--help` does without it

    Stderr().write(redact(text))


def print_error(problem: str) -> None:
    """A command's own error, in one line."""
    print_text(f"{NAME}: {printable(problem)}\n")


def flush_stderr() -> None:
    """At the end: lines that stderr did not take are dropped, or the interpreter would end with a code of its own."""
    try:
        if sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        detach(sys.stderr)


def detach(stream: TextIO) -> None:
    """Makes the interpreter's own flush of a stream, at its end, succeed: what is left there nobody will read."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


def printable(text: str) -> str:
    """Names come from outside: a control character in one must not write a line of its own, nor drive a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
