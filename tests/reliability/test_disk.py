"""Disks that are full or may not be written: a small one of memory, mounted for the exporter alone."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.reliability.endings import restless, started
from tests.support.processes import COMMAND, Exporter, until
from tests.support.sandbox import require

SMALL = 'mount -t tmpfs -o size=256k,mode=700 none {0} && exec "$@"'


def within(disk: Path) -> tuple[str, ...]:
    """What starts a command for which a small disk is mounted there."""
    require()
    disk.mkdir()
    return "unshare", "--mount", "sh", "-ec", SMALL.format(disk), "sh"


class Disk:
    """The exporter's small disk, reached from outside."""

    def __init__(self, disk: Path, running: Exporter) -> None:
        self.pid = running.process.pid
        self.path = disk
        self.seen = Path(f"/proc/{self.pid}/root{disk}")
        self.filler = self.seen / "filler"

    def fill(self) -> None:
        with self.filler.open("wb", buffering=0) as file, pytest.raises(OSError, match="No space left"):
            file.writelines(iter(lambda: b"x" * 1000, None))

    def turn_read_only(self) -> None:
        """By another one over it: the kernel does not turn one by hand on which the lock is held."""
        self._mount("mount", "-t", "tmpfs", "-o", "ro", "none", str(self.path))

    def turn_writable(self) -> None:
        self._mount("umount", str(self.path))

    def _mount(self, *command: str) -> None:
        subprocess.run(["nsenter", f"--target={self.pid}", "--mount", *command], check=True)


def polls(running: Exporter) -> float:
    found = re.search(r'polls_total\{account="prod",result="success"\} (\S+)', running.get("/metrics"))
    assert found is not None
    return float(found[1])


def goes_on(running: Exporter) -> None:
    """Waits for three polls more."""
    before = polls(running)
    until(lambda: polls(running) >= before + 3, "it goes on polling")


def warnings(running: Exporter) -> Iterator[str]:
    for line in running.log:
        if "level=info" not in line:
            found = re.search(r'event="([^"]*)".*problem="([^"]*)"', line)
            yield f"{found[1]}: {found[2]}" if found else line


def test_state_file(tmp_path: Path) -> None:
    """A disk that is full, or read-only, costs a warning; polls and scrapes go on, and then the file is kept again."""
    disk = tmp_path / "disk"
    with restless(tmp_path, disk / "state") as config, started(config, within(disk)) as running:
        small = Disk(disk, running)
        kept = small.seen / "state"

        def written() -> int:
            return kept.stat().st_mtime_ns

        small.fill()
        until(lambda: list(warnings(running)), "it warns of the full disk")
        old, content = written(), kept.read_bytes()
        goes_on(running)
        assert (written(), kept.read_bytes()) == (old, content), "the old file is whole"
        assert list(warnings(running)) == ["state not kept: No space left on device"]
        small.filler.unlink()
        until(lambda: written() != old, "it keeps the state again")

        small.turn_read_only()
        until(lambda: len(list(warnings(running))) > 1, "it warns of the disk that is read-only")
        goes_on(running)
        # Of the lock's file, which is not on the disk over it, or of the state file, if it came between the two.
        assert {warning.rpartition(": ")[2] for warning in list(warnings(running))[1:]} == {"Read-only file system"}
        small.turn_writable()
        old = written()
        until(lambda: written() != old, "it keeps the state again")
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 5


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        ("head -c 1M /dev/zero > {0}/filler 2>/dev/null || true", "No space left on device"),
        ("mount -o remount,ro {0}", "Read-only file system"),
    ],
    ids=["full", "read-only"],
)
def test_textfile(spoil: str, why: str, tmp_path: Path) -> None:
    """`once --output` on such a disk says so, ends with 2, and leaves the file as it was and nothing beside it."""
    disk = tmp_path / "disk"
    script = f'echo before > {disk}/backups.prom; {spoil.format(disk)}; code=0; "$@" || code=$?; echo code $code; '
    script += f"cat {disk}/backups.prom; ls -A {disk}"
    command = [*within(disk), "sh", "-ec", script, "sh", *COMMAND, "once", "--demo", f"--output={disk}/backups.prom"]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    code, content, *files = done.stdout.splitlines()
    assert (code, content) == ("code 2", "before")
    assert set(files) <= {"backups.prom", "filler"}
    assert why in done.stderr
    assert len(done.stderr.splitlines()) == 1
