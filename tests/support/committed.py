"""Which commit the code that runs is of: what a published figure must say."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def committed(*made: Path, root: Path = ROOT) -> str | None:
    """The short name of the commit that is checked out; `None` if the working tree differs from it.

    Differences in the files `made`, which the run itself writes, do not count.
    """
    others = [f":(exclude){path.relative_to(root)}" for path in made]
    if _git(root, "status", "--porcelain", "--", ".", *others):
        return None
    return _git(root, "rev-parse", "--short", "HEAD")


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()
