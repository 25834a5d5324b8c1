"""Where `state_file: auto` keeps what survives a restart."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from exporter import NAME

FILE = "state.json"


def automatic(environ: Mapping[str, str] = os.environ) -> Path | None:
    """`state.json` in systemd's $STATE_DIRECTORY, else in $XDG_STATE_HOME; `None`, and logged, if neither is writable.

    The directory is made if it is not there. https://specifications.freedesktop.org/basedir-spec/latest/
    """
    problems = []
    for directory in _candidates(environ):
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = unwritable(directory)
        if problem is None:
            return directory / FILE
        problems.append(f"{directory}: {problem}")
    structlog.get_logger().warning(
        "no state is kept",
        problem="; ".join(problems) or "neither STATE_DIRECTORY nor HOME is set",
        effect="after a restart nothing is known of the droplets until they are read again",
        remedy="name a file in a directory that may be written by state_file",
    )
    return None


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    found = []
    # systemd separates several directories by colons (systemd.exec(5), StateDirectory=).
    of_systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if of_systemd:
        found.append(Path(of_systemd))
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # a relative one is to be ignored, says the specification
        home = f"{environ['HOME']}/.local/state" if environ.get("HOME", "").startswith("/") else ""
    if home:
        found.append(Path(home) / NAME)
    return found


def unwritable(directory: Path) -> str | None:
    """Why this user can keep no file in the directory; `None` if one can be kept."""
    if not directory.is_dir():
        return "it is not there"
    return None if os.access(directory, os.W_OK | os.X_OK) else "this user may not write there"
