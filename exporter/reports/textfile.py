"""The file for node_exporter's textfile collector: which metrics are in it, and how it is replaced in one step."""

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
"""Symbolic links that are followed one after the other; as many as Linux follows."""
READABLE = 0o644
"""The mode of a new file: node_exporter, which runs as another user, must be able to read it."""

OWN_FAMILIES = (
    families.UP,
    families.UNREAD_DROPLETS,
    families.LAST_POLL,
    families.LAST_LISTING,
    families.API_RATE_LIMIT,
    families.API_RATE_LIMIT_REMAINING,
    families.API_RATE_LIMIT_RESET,
)
"""The exporter's own families that are in a file: they say how the one poll went.

Counters and histograms start at 0 in each run, so they would never rise. The poll interval is decided by cron, and no
configuration is reloaded. `build_info` has no label `account`, so the series of two files would collide.
"""


def own_figures(registry: CollectorRegistry) -> bytes:
    """The text of the exporter's own families that have a meaning in a file."""
    return TEXT.encode(registry.restricted_registry([family.name for family in OWN_FAMILIES]))


def write(path: Path, text: bytes) -> None:
    """Replaces the file in one step and keeps its owner and permissions. Raises `OSError`; the file is unchanged then.

    A link is followed if it belongs to this user or to root. A path that is not a regular file, like /dev/stdout, is
    not replaced but written to. The collector reads only `*.prom`, so it never reads the half-written temporary file.
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
                with contextlib.suppress(PermissionError):  # only root may change the owner
                    os.fchown(file.fileno(), before.st_uid, before.st_gid)
            # The set-uid, set-gid and sticky bits are not kept.
            os.fchmod(file.fileno(), READABLE if before is None else before.st_mode & 0o777)
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _refuse_foreign_links(path: Path) -> None:
    """Raises `OSError` if the path is a link of another user. Through it, root would write to any file of the host."""
    for _ in range(LONGEST_CHAIN):
        if not path.is_symlink():
            return
        if path.lstat().st_uid not in (0, os.geteuid()):
            raise OSError(errno.EPERM, f"{path} is a link that another user made")
        path = path.parent / path.readlink()
    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
