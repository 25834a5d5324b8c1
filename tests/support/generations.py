"""The two generations of Prometheus and Alertmanager that the deployed files must work with.

`stable` is what Debian stable installs (2.42 and 0.25); `newest` is what `.ci/fetch-prometheus3`
unpacks (3.x and 0.33).
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

NEWEST = Path(__file__).resolve().parents[2] / ".cache" / "prometheus3"


@dataclass(frozen=True, slots=True)
class Generation:
    """Where the programs of one generation are; `None`: in the PATH."""

    name: str
    folder: Path | None

    @property
    def missing(self) -> str:
        """What to do about programs that are not there; empty if all are."""
        if self.folder is not None:
            return "" if self.folder.is_dir() else f"{self.folder} is missing; run .ci/fetch-prometheus3"
        lacking = [name for name in ("prometheus", "promtool", "amtool") if shutil.which(name) is None]
        return f"not installed: {', '.join(lacking)}; apt-get install prometheus prometheus-alertmanager" * bool(
            lacking
        )

    def program(self, name: str) -> str:
        """The path of one of the programs."""
        if self.folder is not None:
            return str(self.folder / name)
        found = shutil.which(name)
        assert found is not None, self.missing
        return found

    @property
    def prometheus(self) -> str:
        return self.program("prometheus")

    @property
    def promtool(self) -> str:
        return self.program("promtool")

    @property
    def amtool(self) -> str:
        return self.program("amtool")

    @property
    def alertmanager(self) -> str:
        """Debian calls it prometheus-alertmanager, the project's own archive alertmanager."""
        if self.folder is None and shutil.which("alertmanager") is not None:
            return self.program("alertmanager")
        return self.program("prometheus-alertmanager")

    def versions(self) -> str:
        """The versions of Prometheus and Alertmanager as a text."""
        found = []
        for name, program in (("Prometheus", self.prometheus), ("Alertmanager", self.alertmanager)):
            text = subprocess.run([program, "--version"], capture_output=True, text=True, check=True)
            version = re.search(r"version (\d+\.\d+\.\d+)", text.stdout + text.stderr)
            assert version is not None, text
            found.append(f"{name} {version[1]}")
        return " and ".join(found)


GENERATIONS = (Generation("stable", None), Generation("newest", NEWEST))
