"""The file for node_exporter's textfile collector: it is written as a whole or not at all, and is collected."""

from __future__ import annotations

import os
import resource
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from exporter.metrics.families import EXPORTER_FAMILIES
from exporter.reports.textfile import OWN_FAMILIES, write
from tests.support.commands import command, served
from tests.support.lookalike import Fault
from tests.support.processes import until
from tests.support.prometheus_server import free_port, running
from tests.support.world import MONDAY, healthy

TEXT = b"# HELP a A.\n# TYPE a gauge\na 1\n"


class TestWriting:
    def test_a_new_file(self, tmp_path: Path) -> None:
        """node_exporter's user may read a new file, whatever the umask is, and no temporary file is left."""
        file = tmp_path / "backups.prom"
        before = os.umask(0o077)
        try:
            write(file, TEXT)
        finally:
            os.umask(before)
        assert file.read_bytes() == TEXT
        assert stat.S_IMODE(file.stat().st_mode) == 0o644
        assert list(tmp_path.iterdir()) == [file]

    def test_mode_and_owner_stay(self, tmp_path: Path) -> None:
        """A file that is there keeps its mode, and its owner where we may give it away."""
        file = tmp_path / "backups.prom"
        file.write_text("before")
        file.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(file, 65534, 65534)
        before = file.stat()
        write(file, TEXT)
        after = file.stat()
        assert file.read_bytes() == TEXT
        assert (after.st_mode, after.st_uid, after.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
        assert after.st_ino != before.st_ino

    def test_a_reader_never_sees_half(self, tmp_path: Path) -> None:
        """A reader gets the whole old text or the whole new text while the file is replaced."""
        file = tmp_path / "backups.prom"
        texts = [letter * 200_000 for letter in (b"a", b"b")]
        write(file, texts[0])
        seen: set[bytes] = set()
        done = threading.Event()

        def read() -> None:
            while not done.is_set():
                seen.add(file.read_bytes())

        reader = threading.Thread(target=read)
        reader.start()
        for number in range(40):
            write(file, texts[number % 2])
        done.set()
        reader.join()
        assert seen <= set(texts)

    def test_no_special_bits(self, tmp_path: Path) -> None:
        """A set-uid or set-gid bit is not passed on to what is written."""
        file = tmp_path / "backups.prom"
        file.write_text("before")
        file.chmod(0o6755)
        write(file, TEXT)
        assert stat.S_IMODE(file.stat().st_mode) == 0o755

    def test_a_pipe_without_a_reader(self, tmp_path: Path) -> None:
        """A named pipe without a reader is an error at once."""
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(OSError, match="No such device or address"):
            write(tmp_path / "pipe", TEXT)

    def test_a_link_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A link that another user planted is refused, wherever in a chain it stands; root's file stays as it was."""
        target, link, first = tmp_path / "shadow", tmp_path / "planted.prom", tmp_path / "first.prom"
        target.write_text("before")
        link.symlink_to(target)
        first.symlink_to(link)
        if os.geteuid() == 0:
            os.chown(link, 65534, 65534, follow_symlinks=False)
        else:  # only root gives links away; so the writer is somebody else instead
            monkeypatch.setattr(os, "geteuid", lambda: 65534)
        for path in (link, first):
            with pytest.raises(OSError, match="is a link that another user made"):
                write(path, TEXT)
        assert target.read_text() == "before"

    def test_a_link(self, tmp_path: Path) -> None:
        """A link stays one: what it leads to is replaced."""
        (tmp_path / "there").mkdir()
        target, link = tmp_path / "there" / "backups.prom", tmp_path / "link.prom"
        link.symlink_to(target)
        write(link, TEXT)
        assert link.is_symlink()
        assert target.read_bytes() == TEXT

    def test_a_pipe_is_not_replaced(self, tmp_path: Path) -> None:
        """What is no regular file is written to, not replaced: /dev/stdout, /dev/null, a named pipe."""
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        reading = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
        write(pipe, TEXT)
        with os.fdopen(reading, "rb") as stream:
            assert stream.read() == TEXT
        assert stat.S_ISFIFO(pipe.stat().st_mode)

    def test_a_full_disk(self, tmp_path: Path) -> None:
        """If there is no room for the new text, the old file stays, and no temporary file is left."""
        file = tmp_path / "backups.prom"
        file.write_text("before")
        code = f"import pathlib, exporter.reports.textfile as t; t.write(pathlib.Path({str(file)!r}), b'x' * 9999)"
        done = subprocess.run(
            [sys.executable, "-c", code],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            # The kernel ends the write half way, as a full disk does.
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096)),
        )
        assert "File too large" in done.stderr
        assert file.read_text() == "before"
        assert list(tmp_path.iterdir()) == [file]


class TestOnce:
    """`once --output` as cron runs it."""

    @pytest.mark.parametrize(
        ("place", "why"),
        [
            ("missing/backups.prom", "No such file or directory"),
            ("file/backups.prom", "Not a directory"),
            ("directory", "Is a directory"),
            ("x" * 300, "File name too long"),
        ],
    )
    def test_unwritable(self, tmp_path: Path, place: str, why: str) -> None:
        """A file that cannot be written is an error of one line with reason and remedy, and exit code 2."""
        (tmp_path / "directory").mkdir()
        (tmp_path / "file").write_text("")
        done = command("once", "--demo", f"--output={tmp_path / place}", at=MONDAY)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert why in done.err
        assert "name a file in a directory" in done.err
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["directory", "file"]

    def test_a_device_that_is_full(self) -> None:
        """So is a device that takes nothing; it is still there afterwards."""
        done = command("once", "--demo", "--output=/dev/full", at=MONDAY)
        assert done.code == 2
        assert "No space left on device" in done.err
        assert stat.S_ISCHR(Path("/dev/full").stat().st_mode)

    def test_partly_learned(self, tmp_path: Path) -> None:
        """An incomplete poll is written and marked as such, with exit code 1 and the errors on stderr."""
        file = tmp_path / "backups.prom"
        with served(healthy(2, now=MONDAY), Fault("droplets", status=500), at=MONDAY) as api:
            done = command("once", f"--output={file}", at=MONDAY, **api.environment)
        assert done.code == 1
        assert "answered 500" in done.err
        assert 'digitalocean_backup_exporter_up{account="default"} 0.0\n' in file.read_text()

    def test_records_not_understood(self, tmp_path: Path) -> None:
        """A Droplet that is missing because its record is odd makes exit code 1."""
        account = healthy(2, now=MONDAY)
        account.droplet_list[1], account.policy_map["2"] = {"id": 2, "name": 7}, None
        with served(account, at=MONDAY) as api:
            done = command("once", f"--output={tmp_path / 'backups.prom'}", at=MONDAY, **api.environment)
        assert done.code == 1

    def test_nothing_learned(self, tmp_path: Path) -> None:
        """If nothing was learned the file stays, to the last bit of its times; that is said, and exit code 2."""
        file = tmp_path / "backups.prom"
        file.write_text("before")
        before = file.stat()
        with served(healthy(2, now=MONDAY), at=MONDAY) as api:
            environment = {**api.environment, "DIGITALOCEAN_TOKEN": "another"}
            done = command("once", f"--output={file}", at=MONDAY, **environment)
        assert done.code == 2
        assert done.err.endswith(f"exporter: the poll learned nothing; {file} is unchanged\n")
        assert file.stat() == before

    def test_stdout_by_name(self) -> None:
        """A file named - is stdout, as with other tools."""
        assert command("once", "--demo", "--output=-", at=MONDAY).out.startswith("# HELP digitalocean_backup_")

    def test_own_families(self) -> None:
        """Of the exporter's own families there are those that say how this poll went, and no counter."""
        families = list(text_string_to_metric_families(command("once", "--demo", at=MONDAY).out))
        own = {family.name for family in families if family.name.startswith("digitalocean_backup_exporter_")}
        assert own == {family.name for family in OWN_FAMILIES}
        assert {family.type for family in families} == {"gauge"}
        assert not [family.name for family in families if family.name.startswith(("python_", "process_"))]
        assert set(OWN_FAMILIES) < set(EXPORTER_FAMILIES)

    def test_promtool(self, tool: Callable[[str], str]) -> None:
        """`promtool check metrics` objects to the two names that keep a human unit, and to nothing else."""
        text = command("once", "--demo", at=MONDAY).out
        promtool = [tool("promtool"), "check", "metrics"]
        done = subprocess.run(promtool, input=text, capture_output=True, text=True, check=False)
        complaints = {line.split()[0] for line in (done.stdout + done.stderr).splitlines() if line}
        assert complaints == {
            "digitalocean_backup_hours_until_next_window",
            "digitalocean_backup_retention_days",
        }


@contextmanager
def node_exporter(program: str, directory: Path) -> Iterator[str]:
    """node_exporter with only its textfile collector; its address."""
    address = f"127.0.0.1:{free_port()}"
    process = subprocess.Popen(
        [
            program,
            "--collector.disable-defaults",
            "--collector.textfile",
            f"--collector.textfile.directory={directory}",
            f"--web.listen-address={address}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield address
    finally:
        process.terminate()
        process.wait(10)


def test_node_exporter(tool: Callable[[str], str], tmp_path: Path) -> None:
    """node_exporter's own textfile collector serves the file whole, odd names and all, and Prometheus scrapes it."""
    collected = tmp_path / "collected"
    collected.mkdir()
    file = collected / "digitalocean_backup.prom"
    now = time.time()
    assert command("once", "--demo", f"--output={file}", at=now).code == 0
    written = {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(file.read_text())
        for sample in family.samples
    }
    with (
        node_exporter(tool("prometheus-node-exporter"), collected) as address,
        running(tool("prometheus"), tmp_path, targets={"node": [address]}) as prometheus,
    ):

        def scraped() -> bool:
            return bool(prometheus.instant("node_textfile_mtime_seconds", time.time()))

        until(scraped, "a scrape")
        assert prometheus.instant("node_textfile_scrape_error", time.time())[0]["value"][1] == "0"
        found = prometheus.instant('{__name__=~"digitalocean_backup_.*"}', time.time())
        got = {}
        for series in found:
            # Prometheus drops labels that are empty; the file has them.
            labels = {name: value for name, value in series["metric"].items() if name not in ("job", "instance")}
            got[labels.pop("__name__"), *sorted(labels.items())] = float(series["value"][1])
        expected = {
            (name, *((label, value) for label, value in labels if value)): value_of
            for (name, *labels), value_of in written.items()
        }
        assert got == expected
        overdue = prometheus.instant("sum(digitalocean_backup_overdue)", time.time())
        assert overdue[0]["value"][1] == "4"
