"""How much of the memory that was freed the C library keeps for itself."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD = -1
KEPT = 128 * 1024
"""Bytes, glibc's own value at the start of a process."""


def return_freed_memory() -> None:
    """Lets freed memory go back to the system.

    glibc keeps more and more of it once large blocks were freed, up to 64 MiB. A large fleet would then take a fifth
    more memory. Where the C library is another one, nothing happens.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):
        ctypes.CDLL(None).mallopt(_M_TRIM_THRESHOLD, KEPT)
