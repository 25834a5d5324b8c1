"""The state file: what is written, when, and what becomes of one that cannot be used."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from exporter.config.model import Config, Poll, RateLimit
from exporter.fleet.history import BackupHistory, Departed, Settings
from exporter.fleet.model import GIB, Backup, Description, Policy, SupportedPolicy, Window
from exporter.fleet.state import Reason, State
from exporter.fleet.tracked import TrackedDroplet
from exporter.polling import state_file
from exporter.polling.state_file import MARK, AccountState, StateFile, _replace
from tests.support.lookalike import Fault, Fixture, backup, disabled, policy
from tests.support.world import DAY, HOUR, MONDAY, TOKEN, World, add, healthy, take_backup

ROOT = Path(__file__).resolve().parents[2]
VERSION_1 = Path(__file__).with_name("state-version-1.json")
"""What the last exporter that wrote version 1 kept of six Droplets."""

NOON = MONDAY + 12 * HOUR
URL = "https://api.digitalocean.com"
NO_TURNS = Config(accounts=(), poll=Poll(timeout=2.0, verify_every=1e9))

FULL = OSError(errno.ENOSPC, "No space left on device")


class Killed(BaseException):
    """The process ends here."""


STEPS = ["open", "write", "fsync", "rename"]
CHANGES: list[Callable[[bytes, int, bytes], bytes]] = [
    lambda whole, at, byte: whole[:at] + byte + whole[at + 1 :],
    lambda whole, at, byte: whole[:at] + byte + whole[at:],
    lambda whole, at, byte: whole[:at] + whole[at + 1 :],
    lambda whole, at, byte: whole[:at],
    lambda whole, at, byte: whole[at:],
    lambda whole, at, byte: whole + whole[at:],
    lambda whole, at, byte: whole[:at] + b"0" * (len(whole) - at),
]

numbers = st.floats(allow_nan=False, allow_infinity=False)
ids = st.integers(1, 2**63 - 1)
backups = st.builds(Backup, ids, numbers, st.none() | numbers)
maybe_numbers = st.none() | numbers
some_backups = st.none() | st.lists(backups, max_size=3).map(tuple)
histories = st.builds(
    BackupHistory,
    numbers,
    on_since=maybe_numbers,
    told_off=st.booleans(),
    silent=st.integers(0, 2),
    settings=st.builds(Settings, st.none() | st.text(), st.none() | st.integers(0, 23), st.none() | st.text()),
    changed_at=maybe_numbers,
    plan_changed_at=maybe_numbers,
    newest_made=st.none() | backups,
    own_list=some_backups,
    read_at=maybe_numbers,
    departed=st.lists(st.builds(Departed, ids, numbers, numbers, maybe_numbers), max_size=2).map(tuple),
    ever_backed_up=st.booleans(),
    last_judged_start=maybe_numbers,
    misses=st.lists(numbers, max_size=3).map(tuple),
)
knowns = st.builds(
    TrackedDroplet,
    ids,
    histories,
    st.none() | st.builds(Description, st.text(), created_at=maybe_numbers, tags=st.none() | st.tuples(st.text())),
    st.none()
    | st.builds(Policy, st.none() | st.booleans(), next_window=st.none() | st.builds(Window, numbers, numbers)),
    backups=some_backups,
    listed=st.none() | st.lists(ids, max_size=2).map(tuple),
    refreshed_at=maybe_numbers,
    unread=st.booleans(),
)
states = st.builds(
    AccountState,
    st.just(URL),
    st.lists(knowns, max_size=4, unique_by=lambda known: known.id),
    st.lists(st.builds(SupportedPolicy, st.text()), max_size=2),
    maybe_numbers,
)


def some_state(number: int = 1, droplets: int = 3) -> AccountState:
    """A state with this number in every part."""
    known = [
        TrackedDroplet(
            one, BackupHistory(number, newest_made=Backup(one, number), read_at=number), backups=(Backup(one, number),)
        )
        for one in range(1, droplets + 1)
    ]
    return AccountState(URL, known, [], number)


def kept(path: Path) -> AccountState | None:
    """What another exporter would find."""
    store = StateFile(path)
    store.close()
    return store.state("prod", URL)


def written_at(path: Path) -> int:
    return path.stat().st_mtime_ns


def content(path: Path) -> bytes:
    return path.read_bytes()


async def writes(path: Path, state: AccountState) -> None:
    store = StateFile(path)
    await store.save("prod", state)
    store.close()


def write(path: Path, state: AccountState) -> None:
    asyncio.run(writes(path, state))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "state"


class TestWriting:
    async def test_only_after_changes(self, file: Path) -> None:
        """A poll that learned nothing new leaves the file untouched, and one that did replaces it."""
        async with World(healthy(3, now=NOON), at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll()
            first = written_at(file)
            for _ in range(3):
                await world.poll(after=300)
            assert written_at(file) == first
            take_backup(world.account, 1, MONDAY + DAY + HOUR)
            await world.poll(MONDAY + DAY + 2 * HOUR)
            assert written_at(file) > first

    async def test_nothing_before_a_listing(self, file: Path) -> None:
        """An exporter that has learned nothing yet does not replace what an earlier one knew."""
        async with World(healthy(3, now=NOON), at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll()
            before = content(file)
            world.api.faults.append(Fault(status=503))
            await world.restart()
            await world.poll(after=300)
            assert content(file) == before

    async def test_private(self, file: Path) -> None:
        """Only the owner may read the file, whatever the umask is, and it holds no token."""
        before = os.umask(0)
        try:
            async with World(healthy(3, now=NOON), at=NOON, state_file=file) as world:
                await world.poll()
        finally:
            os.umask(before)
        assert [one.stat().st_mode & 0o777 for one in file.parent.iterdir()] == [0o600, 0o600]
        assert TOKEN.encode() not in content(file)

    @given(states)
    def test_comes_back(self, tmp_path_factory: pytest.TempPathFactory, state: AccountState) -> None:
        """What was kept is found as it was."""
        file = tmp_path_factory.mktemp("state") / "state"
        write(file, state)
        assert kept(file) == state

    def test_two_accounts(self, file: Path) -> None:
        """Accounts share the file, each known by its name and its API's address."""
        store = StateFile(file)
        asyncio.run(store.save("prod", some_state(1)))
        asyncio.run(store.save("test", some_state(2)))
        store.close()
        again = StateFile(file)
        assert again.state("prod", URL) == some_state(1)
        assert again.state("test", URL) == some_state(2)
        assert again.state("test", "https://api.example.com") is None
        again.forget(["prod"])
        asyncio.run(again.save("test", some_state(3)))
        again.close()
        assert kept(file) is None

    def test_an_account_that_returns_as_it_was(self, file: Path) -> None:
        """An account that was forgotten, and is configured again with nothing new, is kept again."""
        store = StateFile(file)
        for _ in range(2):
            asyncio.run(store.save("prod", some_state(1)))
            assert kept(file) == some_state(1)
            store.forget(["prod"])
            asyncio.run(store.save("test", some_state(2)))
            assert kept(file) is None
        store.close()


class TestCrash:
    def test_kill(self, file: Path) -> None:
        """An exporter killed at any moment leaves a whole file, no older than the last one it had finished."""
        script = """if True:
            import asyncio, os, random, signal, sys, time
            from pathlib import Path
            from msgspec import structs
            from exporter.polling.state_file import StateFile
            from tests.polling.test_state_file import URL, some_state

            file, done = Path(sys.argv[1]), Path(sys.argv[2])
            some, number = some_state(1, 1000), 0

            async def write(number):
                store = StateFile(file)
                while True:
                    number += 1
                    await store.save("prod", structs.replace(some, supported_at=number))
                    os.pwrite(handle, b"%9d" % number, 0)

            handle = os.open(done, os.O_RDWR | os.O_CREAT)
            for life in range(30):
                child = os.fork()
                if not child:
                    asyncio.run(write(number))
                while not done.stat().st_size:
                    time.sleep(0.001)
                time.sleep(random.uniform(0.0, 0.1))
                os.kill(child, signal.SIGKILL)
                os.waitpid(child, 0)
                store = StateFile(file)
                state = store.state("prod", URL)
                store.close()
                assert state is not None, f"nothing in life {life}"
                number = int(state.supported_at)
                assert state == structs.replace(some, supported_at=number), f"something else in life {life}"
                assert number >= int(done.read_text()), f"an old one in life {life}"
            print(number)
        """
        done = subprocess.run(
            [sys.executable, "-c", script, str(file), str(file.with_name("done"))],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=100,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert int(done.stdout) > 5, "it got to write"

    @pytest.mark.parametrize("step", STEPS)
    def test_disk_full(self, file: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A write that fails at any step is logged once and leaves the old file; the next write succeeds."""
        write(file, some_state(1))
        store = StateFile(file)
        with monkeypatch.context() as patch, capture_logs() as logs:
            break_at(step, FULL, patch)
            for number in (2, 3):
                asyncio.run(store.save("prod", some_state(number)))
        store.close()
        assert [log["problem"] for log in logs] == [FULL.strerror]
        assert not file.with_name("state.new").exists(), "half a file would take the last space"
        assert kept(file) == some_state(1)
        write(file, some_state(4))
        assert kept(file) == some_state(4)

    @pytest.mark.parametrize("step", STEPS)
    def test_broken_off(self, file: Path, step: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A process that ends at any step of a write leaves the old file; the next one is not hindered."""
        write(file, some_state(1))
        with monkeypatch.context() as patch, suppress(Killed):
            break_at(step, Killed(), patch)
            _replace(file, content(file)[:100])
        assert kept(file) == some_state(1)
        write(file, some_state(2))
        assert kept(file) == some_state(2)

    @pytest.mark.parametrize("cause", ["directory missing", "disk read-only"])
    def test_mended_after_the_start(self, file: Path, cause: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that cannot be written at the start is written as soon as it can be; the log says both once."""
        file = file / "state"
        with capture_logs() as logs:
            with monkeypatch.context() as patch:
                if cause == "disk read-only":
                    file.parent.mkdir()
                    break_at("open", OSError(errno.EROFS, "Read-only file system"), patch)
                store = StateFile(file)
                for number in (1, 2):
                    asyncio.run(store.save("prod", some_state(number)))
                    assert not store.is_saved
            file.parent.mkdir(exist_ok=True)
            asyncio.run(store.save("prod", some_state(2)))
        assert store.is_saved
        store.close()
        assert [log["event"] for log in logs] == ["state not kept", "state kept again"]
        assert kept(file) == some_state(2)

    def test_a_disk_that_is_mounted_late(self, tmp_path: Path) -> None:
        """A state that only appears after the start is not replaced: verdicts rest on it, and it was not read."""
        late = tmp_path / "late"
        with capture_logs() as logs:
            store = StateFile(late / "state")
            late.mkdir()
            write(late / "state", some_state(1))
            asyncio.run(store.save("prod", some_state(2)))
        assert not store.is_saved
        store.close()
        assert "now there is one" in logs[-1]["problem"]
        assert kept(late / "state") == some_state(1)

    def test_removed(self, file: Path) -> None:
        """A file that somebody removes is written again, also if nothing has changed."""
        store = StateFile(file)
        asyncio.run(store.save("prod", some_state(1)))
        file.unlink()
        asyncio.run(store.save("prod", some_state(1)))
        store.close()
        assert kept(file) == some_state(1)

    def test_lock_removed(self, file: Path) -> None:
        """After file and lock are removed, one exporter at a time writes: the one that has the new lock."""
        first = StateFile(file)
        asyncio.run(first.save("prod", some_state(1)))
        file.unlink()
        file.with_name("state.lock").unlink()
        second = StateFile(file)
        asyncio.run(second.save("prod", some_state(2)))
        with capture_logs() as logs:
            asyncio.run(first.save("prod", some_state(1)))
        assert [log["problem"] for log in logs] == ["another exporter holds the file"]
        assert (first.is_saved, kept(file)) == (False, some_state(2))
        second.close()
        asyncio.run(first.save("prod", some_state(1)))
        assert (first.is_saved, kept(file)) == (True, some_state(1))
        first.close()

    def test_mended_disk(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """After a full disk has room again, nothing that was learned meanwhile is lost."""
        store = StateFile(file)
        with monkeypatch.context() as patch, capture_logs():
            break_at("fsync", FULL, patch)
            asyncio.run(store.save("prod", some_state(1)))
        asyncio.run(store.save("prod", some_state(1)))
        store.close()
        assert kept(file) == some_state(1)


class HalfWritten:
    """A file of which only the first half is written."""

    def __init__(self, stream: Any, problem: BaseException) -> None:
        self._stream, self._problem = stream, problem

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()

    def write(self, content: bytes) -> None:
        self._stream.write(content[: len(content) // 2])
        self._stream.flush()
        raise self._problem


def break_at(step: str, problem: BaseException, patch: pytest.MonkeyPatch) -> None:
    """Lets one of the system calls of a write fail."""
    opened = os.fdopen

    def broken(*_: object, **__: object) -> Any:
        raise problem

    match step:
        case "open":
            patch.setattr(os, "open", broken)
        case "write":
            patch.setattr(os, "fdopen", lambda *given: HalfWritten(opened(*given), problem))
        case "fsync":
            patch.setattr(os, "fsync", broken)
        case "rename":
            patch.setattr(Path, "replace", broken)


class TestUnusable:
    """A file that cannot be used is a warning and a cold start."""

    @given(st.binary(max_size=300) | st.binary(max_size=300).map(lambda rest: MARK + rest))
    def test_anything(self, tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
        """Any content of the file is ignored without an exception."""
        file = tmp_path_factory.mktemp("state") / "state"
        file.write_bytes(content)
        with capture_logs() as logs:
            assert kept(file) is None
        assert {log["event"] for log in logs} <= {"state not used"}
        assert logs or not content

    @given(
        state=states, at=st.floats(0, 1, exclude_max=True), change=st.sampled_from(CHANGES), byte=st.integers(0, 255)
    )
    def test_damage(
        self,
        tmp_path_factory: pytest.TempPathFactory,
        state: AccountState,
        at: float,
        change: Callable[[bytes, int, bytes], bytes],
        byte: int,
    ) -> None:
        """A file that was damaged anywhere gives the true state or none."""
        file = tmp_path_factory.mktemp("state") / "state"
        write(file, state)
        whole = file.read_bytes()
        file.write_bytes(change(whole, int(at * len(whole)), bytes([byte])))
        with capture_logs() as logs:
            found = kept(file)
        assert found == state or (found is None and (logs or not file.read_bytes()))

    @pytest.mark.parametrize("number", ["0", "3", "99", '"1"', "null", "[]"])
    def test_other_version(self, file: Path, number: str) -> None:
        """A file of another version is put aside, for that version to find."""
        write(file, some_state())
        other = MARK + number.encode() + b"," + file.read_bytes().split(b",", 1)[1]
        file.write_bytes(other)
        with capture_logs() as logs:
            assert kept(file) is None
        assert "nothing is known until the first poll" in logs[0]["effect"]
        assert not file.exists()
        assert file.with_name("state.broken").read_bytes() == other
        write(file, some_state(2))
        assert kept(file) == some_state(2)

    def test_foreign(self, file: Path) -> None:
        """A file of another program is not changed, now or later."""
        file.write_text("root:x:0:0:root:/root:/bin/sh\n")
        with capture_logs() as logs:
            write(file, some_state())
        assert [log["problem"] for log in logs] == ["it is not a state file of this exporter"]
        assert list(file.parent.iterdir()) == [file], "and no lock is put beside it"
        assert file.read_text().startswith("root:")

    @pytest.mark.parametrize("make", [os.mkdir, os.mkfifo], ids=["directory", "pipe"])
    def test_no_file(self, file: Path, make: Callable[[Path], None]) -> None:
        """A directory, a pipe or a device in the file's place is not changed, and does not block."""
        make(file)
        with capture_logs() as logs:
            write(file, some_state())
        assert [log["event"] for log in logs] == ["state not used"]

    def test_no_directory(self, file: Path) -> None:
        """If the directory of the state file is missing, the start logs that."""
        with capture_logs() as logs:
            write(file / "missing" / "state", some_state())
        assert [log["event"] for log in logs] == ["state not kept"]
        assert "No such file" in logs[0]["problem"]

    @pytest.mark.parametrize("name", ["state.new", "state.lock"])
    def test_name_beside_it_taken(self, file: Path, name: str) -> None:
        """A directory in the place of the lock or the new file costs the state and nothing else."""
        file.with_name(name).mkdir()
        with capture_logs() as logs:
            write(file, some_state())
        assert [log["event"] for log in logs] == ["state not kept"]
        assert not file.exists()

    def test_name_aside_taken(self, file: Path) -> None:
        """A broken file that cannot be put aside is replaced."""
        file.write_bytes(MARK)
        (file.with_name("state.broken") / "full").mkdir(parents=True)
        with capture_logs() as logs:
            write(file, some_state())
        assert [log["effect"] for log in logs] == ["nothing is known until the first poll"]
        assert kept(file) == some_state()

    def test_unreadable(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A file that must not be read is not replaced either."""
        write(file, some_state())

        def denied(*_: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied")

        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(Path, "open", denied)
            write(file, some_state(2))
        assert [log["problem"] for log in logs] == ["it cannot be read: Permission denied"]
        assert kept(file) == some_state()

    def test_no_locks(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The log says that a file system has no locks, and not that another exporter holds the file."""

        def unsupported(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(fcntl, "flock", unsupported)
            write(file, some_state())
        assert "cannot be locked" in logs[0]["problem"]
        assert not file.exists()

    async def test_cold_start(self, file: Path) -> None:
        """After a broken file the first poll reads everything and serves the truth."""
        await writes(file, some_state())
        before = content(file)
        os.truncate(file, 200)
        with capture_logs() as logs:
            async with World(healthy(3, now=NOON), at=NOON, state_file=file) as world:
                assert await world.poll() == "success"
                assert world.samples()['kept{droplet_id="1"}'] == 7
                assert world.missed(1) == 0
        assert logs[0]["event"] == "state not used"
        assert content(file) != before


class TestRestart:
    async def test_outage(self, file: Path) -> None:
        """An exporter that restarts during an outage serves all that was known, and judges it again."""
        account = healthy(3, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll()
            take_backup(account, 1, MONDAY + DAY + HOUR)
            await world.poll(MONDAY + DAY + 10 * HOUR)
            before = world.samples()
            world.api.faults.append(Fault(status=503))
            await world.restart()
            assert await world.poll(after=300) == "failure"
            after = world.samples()
            assert after["exporter_up{}"] == 0
            droplets = {name: value for name, value in before.items() if "droplet_id" in name}
            moving = {name for name in droplets if name.startswith(("hours_until", "newest_age"))}
            assert {name for name in after if "droplet_id" in name} == droplets.keys()
            assert {name: after[name] for name in droplets.keys() - moving} == {
                name: value for name, value in droplets.items() if name not in moving
            }
            assert (world.missed(1), world.missed(2)) == (0, 1)
            await world.poll(MONDAY + 2 * DAY + 10 * HOUR)
            assert (world.state(1), world.reason(1), world.missed(1)) == (State.UNJUDGED, Reason.UNREAD, None)
            assert (world.state(2), world.reason(2), world.missed(2)) == (State.OVERDUE, Reason.UNREAD, 1)

    def test_version_1(self, file: Path) -> None:
        """A file of version 1 is read; what it lacks is unknown."""
        write_version_1(file, URL)
        state = kept(file)
        assert state is not None
        known = state.tracked()
        assert list(known) == [1, 2, 3, 4, 5, 6]
        history = known[1].history
        assert (history.first_seen, history.on_since, history.read_at) == (
            NOON - 3 * DAY,
            NOON - 3 * DAY,
            NOON - 2 * HOUR,
        )
        assert history.newest_made == Backup(1724, MONDAY + HOUR, 2.34 * GIB)
        assert history.settings == Settings("daily", named_start=MONDAY + DAY, named_length=4 * HOUR)
        assert [one.id for one in known[1].backups or ()] == list(range(1715, 1725))
        assert (known[1].description, known[1].policy) == (None, None)
        assert known[3].history.newest_made == Backup(3723, MONDAY - DAY + HOUR, 2.34 * GIB), "the newest had no size"
        assert (known[4].history.on_since, known[4].history.told_off) == (None, True)
        assert known[6].history.policy_unknown
        assert [plan.plan for plan in state.supported] == ["weekly", "daily"]

    async def test_upgrade(self, file: Path) -> None:
        """After an upgrade from version 1 misses are shown as before, without a new first look."""
        account = Fixture()
        for droplet_id, ages, record in (
            (1, range(10), policy(1, hour=0, next_window=MONDAY + DAY)),
            (2, (3, 4, 5), policy(2, hour=0, next_window=MONDAY + DAY)),
            (4, (9,), disabled(4)),
            (5, (8, 15, 22), policy(5, plan="weekly", weekday="SUN", hour=0, next_window=MONDAY + 6 * DAY)),
        ):
            made = [backup(droplet_id * 1000 + age, MONDAY - age * DAY + HOUR) for age in ages]
            add(account, droplet_id, made, record)
        async with World(account, at=NOON, config=NO_TURNS) as world:
            write_version_1(file, world.api.url)
            world.state_file = file
            await world.restart()
            await world.poll(NOON + HOUR)
            assert {one: (world.state(one).value, world.missed(one)) for one in world.ids} == {
                1: ("protected", 0),
                2: ("missing", 3),
                4: ("unprotected", None),
                5: ("overdue", 1),
            }
        assert content(file).startswith(MARK + b"2,")


def write_version_1(path: Path, url: str) -> None:
    """The file that an exporter of version 1 wrote on Monday at noon, as if it had asked the API at this address."""
    accounts = json.loads(VERSION_1.read_bytes())["accounts"]
    accounts["prod"]["api_url"] = url
    encoded = msgspec.json.encode(accounts)
    digest = hashlib.sha256(encoded).hexdigest()
    path.write_bytes(MARK + b'1,"sha256":"' + digest.encode() + b'","accounts":' + encoded + b"}")


class TestTwoExporters:
    def test_second_goes_without(self, file: Path) -> None:
        """A second exporter on the same file logs that, and writes nothing until the first has ended."""
        first = StateFile(file)
        asyncio.run(first.save("prod", some_state(1)))
        with capture_logs() as logs:
            second = StateFile(file)
        assert [log["problem"] for log in logs] == ["another exporter holds the file"]
        asyncio.run(second.save("prod", some_state(2)))
        second.close()
        first.close()
        assert kept(file) == some_state(1)
        write(file, some_state(3))
        assert kept(file) == some_state(3)

    def test_second_leaves_a_broken_file(self, file: Path) -> None:
        """A second exporter does not put aside what is the first one's."""
        first = StateFile(file)
        file.write_bytes(MARK)
        with capture_logs():
            assert kept(file) is None
        assert file.exists()
        first.close()

    def test_short_lived(self, file: Path) -> None:
        """A command that polls once reads the file and writes it only while no exporter holds it."""
        write(file, some_state(1))
        command = StateFile(file, short_lived=True)
        assert command.state("prod", URL) == some_state(1)
        running = StateFile(file)
        asyncio.run(command.save("prod", some_state(2)))
        running.close()
        assert kept(file) == some_state(1)
        asyncio.run(command.save("prod", some_state(3)))
        assert kept(file) == some_state(3), "and lets go of it"


class TestTime:
    async def test_clock_set_back(self, file: Path) -> None:
        """A state with times in the future proves nothing: it causes no alarm and hides no missed window."""
        account = healthy(2, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll()
            await world.poll(NOON + 5 * DAY)
            assert world.missed(1) == 5
            await world.restart()
            take_backup(account, 1, MONDAY + DAY + HOUR)
            await world.poll(NOON + DAY)
            assert world.missed(1) == 0
            assert world.missed(2) == 1, "proved anew"
            await world.poll(NOON + 2 * DAY)
            assert world.missed(1) == 1

    async def test_first_seen_in_times_to_come(self, file: Path) -> None:
        """A Droplet first seen by a clock that was ahead is judged from when the clock was set right."""
        account = healthy(1, now=NOON)
        add(account, 2, [], policy(2, hour=0, next_window=MONDAY + DAY))
        async with World(account, at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll(NOON + 5 * DAY)
            await world.restart()
            await world.poll(NOON)
            await world.poll(NOON + DAY)
            assert world.missed(2) == 1

    async def test_change_before_the_restart(self, file: Path) -> None:
        """Windows count from the policy's last change, though it was an earlier run that saw it."""
        account = healthy(1, now=NOON)
        async with World(account, at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll()
            account.policy_map["1"] = policy(1, plan="intra_daily_4h", hour=0, next_window=MONDAY + DAY + 12 * HOUR)
            await world.poll(NOON + DAY)
            await world.restart()
            await world.poll(after=300)
            assert world.missed(1) == 0, "there were no windows of 4 hours before"
            await world.poll(NOON + DAY + 13 * HOUR)
            assert world.missed(1) == 1, "that from 16:00, for the one from 12:00 had begun"

    async def test_plans_of_times_to_come(self, file: Path) -> None:
        """Supported policies that were read in the future are read again."""
        async with World(healthy(1, now=NOON), at=NOON, config=NO_TURNS, state_file=file) as world:
            await world.poll(NOON + 5 * DAY)
            await world.restart()
            assert (await world.requests(NOON))["supported_policies"] == 1

    async def test_ids_that_lag(self, file: Path) -> None:
        """A restart does not lose the backups that only the Droplet's own list has."""
        account = healthy(2, now=NOON)
        account.droplet_list[0]["backup_ids"] = account.droplet_list[0]["backup_ids"][1:]
        for record in account.policy_map.values():
            record["backup_policy"]["plan"] = "one that has no windows"
        config = replace(NO_TURNS, rate_limit=RateLimit(per_hour=40))
        async with World(account, at=NOON, config=config, state_file=file) as world:
            await world.poll()
            assert world.samples()['kept{droplet_id="1"}'] == 7
            await world.restart()
            await world.poll(after=300)
            assert world.samples()['kept{droplet_id="1"}'] == 7


def wait_for_the_write(store: StateFile) -> None:
    with store._write_lock:
        pass


class TestSlowDisk:
    async def test_a_disk_that_hangs_costs_a_poll_its_limit_and_the_next_nothing(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """No second write begins while the first hangs, also where the first poll was cancelled; then all is kept."""
        gate, writes = threading.Event(), list[str]()
        sync = os.fsync

        def hang(handle: int) -> None:
            writes.append("begun")
            gate.wait(60)
            sync(handle)

        monkeypatch.setattr(os, "fsync", hang)
        monkeypatch.setattr(state_file, "WRITE_WITHIN", 0.05)
        store = StateFile(file)
        with capture_logs() as logs:
            await store.save("prod", some_state(1))
            assert not store.is_saved
            await store.save("prod", some_state(2))
        assert writes == ["begun"]
        assert [log["event"] for log in logs] == ["state not kept"]
        assert not store.is_saved
        assert not await asyncio.to_thread(file.exists)
        gate.set()
        await asyncio.to_thread(wait_for_the_write, store)
        await store.save("prod", some_state(3))
        assert store.is_saved
        store.close()
        assert kept(file) == some_state(3)

    async def test_the_lock_is_held_until_the_last_write_has_ended(
        self, file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """While a write goes on, neither a reload nor the end of the process lets another exporter write."""
        gate, begun = threading.Event(), threading.Event()
        sync = os.fsync

        def hang(handle: int) -> None:
            begun.set()
            gate.wait(60)
            sync(handle)

        store = StateFile(file)
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", hang)
            task = asyncio.create_task(store.save("prod", some_state(1)))
            await asyncio.to_thread(begun.wait)
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            store.close()
            with capture_logs() as logs:
                second = StateFile(file)
            assert [log["problem"] for log in logs] == ["another exporter holds the file"]
            gate.set()
            await asyncio.to_thread(wait_for_the_write, store)
        await second.save("prod", some_state(2))
        assert second.is_saved, "the second takes the file over once the first has let go"
        second.close()
        assert kept(file) == some_state(2)


class TestOwner:
    def test_owner_and_mode_stay(self, file: Path) -> None:
        """What root writes can be read by the exporter's user as before; the mode stays in any case."""
        write(file, some_state(1))
        file.chmod(0o640)
        if os.geteuid() == 0:
            os.chown(file, 12345, 12345)
        owner = file.stat().st_uid
        write(file, some_state(2))
        assert (file.stat().st_uid, file.stat().st_mode & 0o777) == (owner, 0o640)

    def test_a_new_file_belongs_to_its_directorys_owner(self, file: Path) -> None:
        if os.geteuid() == 0:
            os.chown(file.parent, 12345, 12345)
        write(file, some_state(1))
        assert {one.stat().st_uid for one in file.parent.iterdir()} == {file.parent.stat().st_uid}

    def test_a_lock_that_is_a_link_is_not_followed(self, file: Path, tmp_path: Path) -> None:
        """A user who may write to the directory cannot make the exporter create a file elsewhere."""
        elsewhere = tmp_path / "elsewhere"
        file.with_name("state.lock").symlink_to(elsewhere)
        with capture_logs() as logs:
            write(file, some_state())
        assert "state.lock cannot be written" in logs[0]["problem"]
        assert not elsewhere.exists()
        assert not file.exists()
