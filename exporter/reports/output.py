"""Where results go: stdout, which may be a pipe that nobody reads to its end."""

from __future__ import annotations

import sys

from exporter.console import detach


class CannotWrite(Exception):  # noqa: N818 - says what happened
    """Stdout does not take the result; the text says why and what to do."""


def emit(result: str | bytes) -> None:
    """Writes a result to stdout, whole.

    Text is written in the terminal's encoding, with ? for letters that it lacks; bytes as they are. Raises
    `CannotWrite`, and `BrokenPipeError` where the reader has gone.
    """
    if sys.stdout is None:  # closed by who started us
        raise CannotWrite("stdout is closed; leave it open, or use a file")
    if isinstance(result, str):
        result = result.encode(sys.stdout.encoding or "utf-8", errors="replace")
    try:
        sys.stdout.flush()
        left = memoryview(result)
        while left:
            # With PYTHONUNBUFFERED, as in many images, a pipe takes what it has room for and no more.
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        detach(sys.stdout)
        raise CannotWrite(f"the result cannot be written to stdout: {error.strerror}; free space there") from error
