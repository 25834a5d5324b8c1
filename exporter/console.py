"""The process's streams: results go to stdout, everything else to stderr.

Either may be closed, full, or a pipe that nobody reads any more. A result that cannot be written is an error. A message
to stderr that cannot be written is dropped: it must not end a command or change its exit code.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import select
import sys
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO, cast

from exporter import NAME

LAST_LINES_WITHIN = 1.0
"""Seconds that the process waits at its end for stderr to take the last lines."""


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


class BackgroundStderr(io.TextIOBase):
    """Writes lines to stderr from a thread of its own, so that a pipe that nobody reads blocks nothing else.

    Lines that wait for the pipe are kept up to `ROOM` bytes. Further lines are dropped and counted.
    """

    ROOM = 256 * 1024

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        """Lines that were not written: there was no room, or stderr refused them."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        """Of the lines that wait, the one that is being written included."""
        self._unfinished = ""
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None

    def write(self, text: str) -> int:
        with self._changed:
            *lines, self._unfinished = (self._unfinished + text).split("\n")
            for line in lines:
                encoded = f"{line}\n".encode(errors="backslashreplace")
                if self._bytes + len(encoded) > self.ROOM:
                    self.dropped += 1
                    continue
                self._waiting.append(encoded)
                self._bytes += len(encoded)
            self._keep_writing()
            self._changed.notify_all()
        return len(text)

    def _keep_writing(self) -> None:
        """Starts the thread that writes, also after it ended. Where that fails, lines wait and the next one tries."""
        if self._writer is None or not self._writer.is_alive():
            writer = threading.Thread(target=self._write_lines, name="stderr", daemon=True)
            with contextlib.suppress(RuntimeError, MemoryError):
                writer.start()
                self._writer = writer

    def drain(self, timeout: float) -> None:
        """Waits until every line is written, but no longer than so many seconds."""
        with self._changed:
            self._changed.wait_for(lambda: not self._bytes, timeout)

    def fileno(self) -> int:
        return self._descriptor

    def isatty(self) -> bool:
        return os.isatty(self._descriptor)

    def _write_lines(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                line = self._waiting.popleft()
            written = False
            try:
                written = self._write_line(line)
            finally:
                with self._changed:
                    self._bytes -= len(line)
                    self.dropped += not written
                    self._changed.notify_all()

    def _write_line(self, line: bytes) -> bool:
        left = memoryview(line)
        while left:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # the process that made the pipe asked for this
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


def write_in_background() -> Callable[[], int]:
    """From here on nothing waits for stderr. Returns the function that tells how many lines were dropped."""
    if sys.stderr is None:
        return lambda: 0
    stderr = BackgroundStderr(sys.stderr.fileno())
    sys.stderr = cast(TextIO, stderr)
    return lambda: stderr.dropped


def print_text(text: str) -> None:
    """Writes lines as they are, but for tokens."""
    from exporter.config.tokens import redact  # not above: `--help` does without it

    Stderr().write(redact(text))


def print_error(problem: str) -> None:
    """A command's own error, in one line."""
    print_text(f"{NAME}: {printable(problem)}\n")


def flush_stderr() -> None:
    """At the end: lines that stderr does not take are dropped, or the interpreter would end with a code of its own."""
    try:
        if isinstance(sys.stderr, BackgroundStderr):
            sys.stderr.drain(LAST_LINES_WITHIN)
        elif sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        detach(sys.stderr)


def detach(stream: TextIO) -> None:
    """Makes the interpreter's own flush of a stream, at its end, succeed: what is left there nobody will read."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)


UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that JSON allows and a terminal acts on: DEL, C1 controls, line separators and those that turn text round
(https://trojansource.codes)."""


def escaped(char: str) -> str:
    return f"\\u{ord(char):04x}"


def printable(text: str) -> str:
    """Names come from outside: a control character in one must not start a line of its own, or drive a terminal."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def is_terminal(stream: object) -> bool:
    return stream is not None and getattr(stream, "isatty", lambda: False)() is True


class OutputError(Exception):
    """Stdout does not take the result; the text says why and what to do."""


def print_result(result: str | bytes) -> None:
    """Writes a whole result to stdout.

    Text is written in the terminal's encoding, with ? for letters that it lacks. Bytes are written as they are. Raises
    `OutputError`, and `BrokenPipeError` where the reader has closed the pipe.
    """
    if sys.stdout is None:  # closed by the process that started this one
        raise OutputError("stdout is closed; leave it open, or use a file")
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
        raise OutputError(f"the result cannot be written to stdout: {error.strerror}; free space there") from error
