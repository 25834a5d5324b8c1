"""A file for node_exporter's textfile collector: what it holds, and how it is written, whole or not at all."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import tempfile
from pathlib import Path

from prometheus_client import CollectorRegistry

from exporter.metrics import families
from exporter.metrics.negotiation import TEXT

LONGEST_CHAIN = 40
"""Links one behind the other; as many as Linux follows."""
READABLE = 0o644
"""node_exporter runs as another user."""

OWN_FAMILIES = (
    families.UP,
    families.UNREAD_DROPLETS,
    families.LAST_POLL,
    families.LAST_LISTING,
    families.API_RATE_LIMIT,
    families.API_RATE_LIMIT_REMAINING,
    families.API_RATE_LIMIT_RESET,
)
"""What the exporter says of itself in a file: how the one poll went.

Counters and histograms would begin anew with each run and so never rise. The poll interval is that of whoever runs the
command, and nothing is ever reloaded. `build_info` has no label `account`, so two files would collide.
"""


def own_figures(registry: CollectorRegistry) -> bytes:
    """Those of the exporter's own families that mean something in a file."""
    return TEXT.encode(registry.restricted_registry([family.name for family in OWN_FAMILIES]))


def write(path: Path, text: bytes) -> None:
    """Replaces the file in one step, keeping its owner and permissions; raises `OSError` and leaves what was there.

    A link is followed if it is this user's or root's. What is no regular file, like /dev/stdout, cannot be replaced and
    is written to. The collector reads `*.prom` only, so it never sees the half-written neighbour.
    """
    _refuse_foreign_links(path)
    before = path.stat() if path.exists() else None
    if before is not None and not stat.S_ISREG(before.st_mode):
        # Without O_NONBLOCK, opening a named pipe that nobody reads would never return.
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_NONBLOCK), "wb") as stream:
            os.set_blocking(stream.fileno(), True)
            stream.write(text)
        return
    path = Path(os.path.realpath(path))
    handle, name = tempfile.mkstemp(prefix=".digitalocean-", suffix=".tmp", dir=path.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(text)
            file.flush()
            if before is not None:
                with contextlib.suppress(PermissionError):  # only root gives files away
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            # Set-uid and the like are not passed on.
            os.fchmod(file.fileno(), READABLE if before is None else before.st_mode & 0o777)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _refuse_foreign_links(path: Path) -> None:
    """Raises `OSError` for a link that another user made: it could lead root to any file of the host."""
    for _ in range(LONGEST_CHAIN):
        if not path.is_symlink():
            return
        if path.lstat().st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, f"{path} is a link that another user made")
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
