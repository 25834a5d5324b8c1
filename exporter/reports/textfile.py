"""A file for node_exporter's textfile collector, written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

READABLE = 0o644
"""node_exporter runs as another user."""


def write(path: Path, text: bytes) -> None:
    """Replaces the file in one step, keeping its mode; raises `OSError` and leaves what was there.

    The collector reads `*.prom` only, so it never sees the half-written neighbour.
    """
    mode = path.stat().st_mode & 0o7777 if path.exists() else READABLE
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
            os.fchmod(file.fileno(), mode)
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
