"""Which state file `state_file: auto` means."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping
from pathlib import Path

import structlog

from exporter import NAME

FILE_NAME = "state.json"


def automatic_state_file(environ: Mapping[str, str] = os.environ) -> Path | None:
    """`state.json` in systemd's $STATE_DIRECTORY, else in $XDG_STATE_HOME. The directory is created if it is missing.

    Returns `None` and logs why if neither directory is writable.
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    problems = []
    for directory in _candidates(environ):
        with contextlib.suppress(OSError):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        problem = why_unwritable(directory)
        if problem is None:
            return directory / FILE_NAME
        problems.append(f"{directory}: {problem}")
    structlog.get_logger().warning(
        "no state is kept",
        problem="; ".join(problems) or "neither STATE_DIRECTORY nor HOME is set",
        effect="after a restart nothing is known of the droplets until they are read again",
        remedy="set state_file to a file in a directory that this user may write to",
    )
    return None


def _candidates(environ: Mapping[str, str]) -> list[Path]:
    found = []
    # systemd separates several directories by colons (systemd.exec(5), StateDirectory=).
    systemd_directory = environ.get("STATE_DIRECTORY", "").split(":")[0]
    if systemd_directory:
        found.append(Path(systemd_directory))
    home = environ.get("XDG_STATE_HOME", "")
    if not home.startswith("/"):  # the specification says to ignore a relative path
        home = f"{environ['HOME']}/.local/state" if environ.get("HOME", "").startswith("/") else ""
    if home:
        found.append(Path(home) / NAME)
    return found


def why_unwritable(directory: Path) -> str | None:
    """Why this user cannot keep a file in the directory; `None` if the user can."""
    if not directory.is_dir():
        return "it does not exist"
    return None if os.access(directory, os.W_OK | os.X_OK) else "this user may not write to it"
