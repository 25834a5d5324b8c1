"""Writing to stdout and stderr: results go to stdout, everything else to stderr.

Each of them may be closed, full, or a pipe that nobody reads. A result that cannot be written is an error. A message
for stderr that cannot be written is dropped: it must not end a command or change its exit code.
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

DRAIN_SECONDS = 1.0
"""How long the process waits at its end until the last lines are written to stderr."""


class CurrentStderr:
    """A file for loggers that writes to what `sys.stderr` is at the moment: a progress bar replaces it, for example.

    If there is no stderr or it takes nothing, the text is dropped.
    """

    def write(self, text: str) -> None:
        # A closed file raises ValueError.
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.write(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            if sys.stderr is not None:
                sys.stderr.flush()


def occupy_standard_descriptors() -> None:
    """Opens /dev/null as stdin, stdout and stderr if the process was started without them.

    Otherwise the next file or socket would get the number of stderr, and what a C library writes to stderr would end
    up in the state file's lock or in a client's answer.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free: this one


class BackgroundStderr(io.TextIOBase):
    """Writes lines to stderr in a thread of its own, so that a pipe that nobody reads blocks only that thread.

    Lines wait for the pipe until they are `MOST_WAITING` bytes together. Further lines are dropped and counted.
    """

    MOST_WAITING = 256 * 1024

    def __init__(self, descriptor: int) -> None:
        self.dropped = 0
        """Lines that were not written: too many were waiting, or stderr refused them."""
        self._descriptor = descriptor
        self._waiting: deque[bytes] = deque()
        self._bytes = 0
        """The size of the waiting lines and of the line that is being written."""
        self._unfinished = ""
        self._changed = threading.Condition()
        self._writer: threading.Thread | None = None

    def write(self, text: str) -> int:
        with self._changed:
            *lines, self._unfinished = (self._unfinished + text).split("\n")
            for line in lines:
                encoded = f"{line}\n".encode(errors="backslashreplace")
                if self._bytes + len(encoded) > self.MOST_WAITING:
                    self.dropped += 1
                    continue
                self._waiting.append(encoded)
                self._bytes += len(encoded)
            self._keep_writing()
            self._changed.notify_all()
        return len(text)

    def _keep_writing(self) -> None:
        """Starts the thread that writes, if it is not running. If that fails, the next line tries again."""
        if self._writer is None or not self._writer.is_alive():
            writer = threading.Thread(target=self._write_lines, name="stderr", daemon=True)
            try:
                writer.start()
                self._writer = writer
            except (RuntimeError, MemoryError):
                self._write_what_fits()

    def _write_what_fits(self) -> None:
        """Writes lines without a thread, as long as that cannot block: a pipe that is ready takes PIPE_BUF bytes."""
        while self._waiting and len(self._waiting[0]) <= select.PIPE_BUF:
            if not select.select([], [self._descriptor], [], 0)[1]:
                break
            line = self._waiting.popleft()
            self.dropped += not self._write_line(line)
            self._bytes -= len(line)

    def drain(self, timeout: float) -> None:
        """Waits until every line is written, but at most `timeout` seconds."""
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
            except BlockingIOError:  # the process that made the pipe has made it non-blocking
                select.select([], [self._descriptor], [])
            except OSError:
                return False
        return True


def write_in_background() -> Callable[[], int]:
    """Replaces `sys.stderr` so that no write waits. Returns a function that returns how many lines were dropped."""
    if sys.stderr is None:
        return lambda: 0
    stderr = BackgroundStderr(sys.stderr.fileno())
    sys.stderr = cast(TextIO, stderr)
    return lambda: stderr.dropped


def print_text(text: str) -> None:
    """Writes the text to stderr, without tokens."""
    from exporter.config.tokens import redact  # imported here because `--help` does not need it

    CurrentStderr().write(redact(text))


def print_error(problem: str) -> None:
    """Writes an error of a command to stderr, in one line."""
    print_text(f"{NAME}: {printable(problem)}\n")


def flush_stderr() -> None:
    """Writes the last lines at the end of the process. Drops them if stderr fails.

    Otherwise the interpreter would try to write them and exit with a code of its own.
    """
    try:
        if isinstance(sys.stderr, BackgroundStderr):
            sys.stderr.drain(DRAIN_SECONDS)
        elif sys.stderr is not None:
            sys.stderr.flush()
    except OSError:
        detach(sys.stderr)


def detach(stream: TextIO) -> None:
    """Connects a broken stream to /dev/null, so that the interpreter's flush at its end does not fail."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, stream.fileno())
    os.close(null)


UNSAFE = re.compile("[\x7f-\x9f\u061c\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Characters that JSON allows and that change what a terminal shows: DEL, C1 controls, line separators, and marks that
change the direction of text (https://trojansource.codes)."""


def escaped(char: str) -> str:
    """A character as JSON escapes it: `\\u007f`."""
    return f"\\u{ord(char):04x}"


def printable(text: str) -> str:
    """The text with control characters escaped. In a name they could start a new line or change the terminal."""
    # The codec `unicode_escape` would be imported at its first use, when there may be no file left to open.
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def is_terminal(stream: object) -> bool:
    """Whether the stream is a terminal. `None`, a stream that is closed, is not."""
    return stream is not None and getattr(stream, "isatty", lambda: False)() is True


class OutputError(Exception):
    """The result cannot be written to stdout. The text says why and what to do."""


def print_result(result: str | bytes) -> None:
    """Writes a whole result to stdout.

    Text is written in the terminal's encoding, with ? for letters that the encoding lacks. Bytes are written as they
    are. Raises `OutputError`, or `BrokenPipeError` if the reader has closed the pipe.
    """
    if sys.stdout is None:  # closed by the process that started this one
        raise OutputError("stdout is closed; leave it open, or use a file")
    if isinstance(result, str):
        result = result.encode(sys.stdout.encoding or "utf-8", errors="replace")
    try:
        sys.stdout.flush()
        left = memoryview(result)
        while left:
            # With PYTHONUNBUFFERED, as in many images, one write to a pipe may write only a part.
            left = left[sys.stdout.buffer.write(left) :]
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        detach(sys.stdout)
        raise OutputError(f"the result cannot be written to stdout: {error.strerror}; make space there") from error
