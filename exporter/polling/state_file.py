"""The state file, which survives a restart: one file for all accounts, replaced as a whole, readable by its owner only.

It holds all that is tracked of each Droplet: what is served (description, policy, backups) and what verdicts need (the
history). So an exporter that restarts during an outage still serves what was known. The file holds no secret.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import hashlib
import os
import stat
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import structlog

from exporter.cooperative import with_pauses
from exporter.fleet.history import BackupHistory, Settings
from exporter.fleet.model import Backup, SupportedPolicy
from exporter.fleet.tracked import TrackedDroplet
from exporter.threads import ThreadPool, ThreadPoolError

MARK = b'{"digitalocean_backup_exporter_state":'
"""Every state file begins with this, whatever its version. A file that begins otherwise is never replaced."""
VERSION = 2
HELD = "another exporter holds the file"
AFTER_A_RESTART = "a restart finds an older state, or none"
WRITE_WITHIN = 10.0
"""Seconds that a poll waits for its disk, at most."""


class AccountState(msgspec.Struct, frozen=True):
    """What the file holds of one account: each Droplet as it is tracked, and the supported policies."""

    api_url: str
    droplets: list[TrackedDroplet]
    supported: list[SupportedPolicy] = []
    supported_at: float | None = None

    def tracked(self) -> dict[int, TrackedDroplet]:
        return {droplet.id: _restarted(droplet) for droplet in self.droplets}


def _restarted(droplet: TrackedDroplet) -> TrackedDroplet:
    """The Droplet after a restart, without what only holds from one poll to the next."""
    history = droplet.history
    if history.own_list is not None and history.own_list == droplet.backups:
        # In memory the same list twice would take twice the room.
        history = msgspec.structs.replace(history, own_list=droplet.backups)
    return msgspec.structs.replace(droplet, history=history, failed_at=None)


class _DropletV1(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A Droplet in version 1 of the file. What that version lacks is unknown."""

    id: int
    first_seen: float
    read_at: float | None
    refreshed_at: float | None
    newest: Backup | None
    previous: Backup | None
    policy: dict[str, Any]
    backups: tuple[Backup, ...] | None
    listed: list[int] | None = None

    def tracked(self) -> TrackedDroplet:
        seen = self.policy
        settings = Settings(
            plan=seen.get("plan"), named_start=seen.get("named_start"), named_length=seen.get("named_length")
        )
        on = seen.get("enabled")
        changed_at = seen.get("changed_at")
        backups = (self.newest, self.previous, *(self.backups or ()))
        sized = [backup for backup in backups if backup is not None and backup.size is not None]
        history = BackupHistory(
            self.first_seen,
            on_since=(changed_at or self.first_seen) if on else None,
            told_off=on is False,
            settings=settings,
            changed_at=changed_at,
            newest_made=max(sized, key=lambda backup: (backup.created_at, backup.id), default=None),
            own_list=self.backups if self.read_at is not None else None,
            read_at=self.read_at,
            ever_backed_up=self.newest is not None,
        )
        return TrackedDroplet(
            self.id,
            history,
            backups=self.backups,
            listed=None if self.listed is None else tuple(self.listed),
            refreshed_at=self.refreshed_at,
        )


class _AccountV1(msgspec.Struct, frozen=True):
    api_url: str
    droplets: list[_DropletV1]
    supported: list[SupportedPolicy] = []
    supported_at: float | None = None

    def converted(self) -> AccountState:
        droplets = [droplet.tracked() for droplet in self.droplets]
        return AccountState(self.api_url, droplets, self.supported, self.supported_at)


class _File(msgspec.Struct, frozen=True):
    digitalocean_backup_exporter_state: int
    sha256: str
    """The digest of `accounts`. Without it, a digit changed by a disk or an editor would not be noticed."""
    accounts: msgspec.Raw


class StateFile:
    """The state file. One exporter at a time holds its lock; others read the file and do not write it.

    Without a path it keeps nothing. `short_lived`: for a command that soon ends. It holds the lock only while it
    writes, so that an exporter that starts meanwhile gets it, and it logs no warning if an exporter holds the lock.
    """

    def __init__(self, path: Path | None, *, short_lived: bool = False) -> None:
        self._path = path
        self._short_lived = short_lived
        self._log = structlog.get_logger().bind(state_file=str(path))
        self._lock: int | None = None
        self._writing = asyncio.Lock()
        self._disk = ThreadPool("state file", 1)
        self._write_lock = threading.Lock()
        """Held by the thread that writes. The thread may go on after the poll that started it has ended."""
        self._closed = False
        self._in_file: Mapping[str, AccountState | msgspec.Raw] = {}
        """The states that were last written."""
        self._unwritable: str | None = None
        """Why the file is not written, as last logged."""
        self._states: dict[str, AccountState | msgspec.Raw] = {}
        """By account, as read at the start or as last saved. The latter is kept encoded, which takes less memory."""
        self._encoded: dict[str, AccountState] = {}
        """What was encoded. It takes little memory, because the poller holds the same Droplets."""
        self._usable = True
        """Whether the file may be replaced: there is no file, or it is a state file."""
        self._absent_at_start = False
        """Whether there was no file at the start, and no lock that keeps others from writing one."""
        if path is not None:
            foreign = False
            with contextlib.suppress(OSError):
                foreign = not _is_ours(path)
            # Beside a file of another program no lock is created: /etc/passwd.lock, for example, has a meaning.
            self._lock = None if foreign else self._locked(path)
            self._absent_at_start = self._lock is None and self._unwritable != HELD and not os.path.lexists(path)
            self._states = self._read(path)
            if short_lived:
                self._release()
        self.is_saved = self._usable and path is not None and (short_lived or self._lock is not None)
        """Whether a restart would find what is known now: the file was written, or can be."""

    def close(self) -> None:
        """Releases the lock, after a write that is under way."""
        self._closed = True
        if self._write_lock.acquire(blocking=False):
            self._release()
            self._write_lock.release()

    def _release(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def state(self, account: str, api_url: str) -> AccountState | None:
        """What the file holds of the account; `None` if it was polled at another address."""
        found = self._states.get(account)
        if isinstance(found, msgspec.Raw):
            found = msgspec.json.decode(found, type=AccountState)
        return found if found is not None and found.api_url == api_url else None

    def forget(self, accounts: Iterable[str]) -> None:
        """Drops accounts that are no longer configured."""
        for account in accounts:
            self._states.pop(account, None)
            self._encoded.pop(account, None)

    async def save(self, account: str, state: AccountState, within: float = WRITE_WITHIN) -> None:
        """Writes the file if its content changes. If it cannot be written, logs a warning, once.

        If the disk hangs, it gives up after `within` seconds, while the write goes on in its thread. No other write
        begins until that one ends; the next poll then writes everything.
        """
        path = self._path
        if path is None:
            return
        if state != self._encoded.get(account):
            self._states[account] = await _encode(state)
            self._encoded[account] = state
        within = min(within, WRITE_WITHIN)
        try:
            async with asyncio.timeout(within), self._writing:
                if not self._write_lock.locked():
                    await self._disk.run(self._write, path, dict(self._states), within=WRITE_WITHIN)
        except (TimeoutError, ThreadPoolError) as error:
            self.is_saved = False
            reason = str(error) or f"not done within {within:.3g} s"
            self._warn(f"it could not be written: {reason}", "look at the disk that holds it")

    def _write(self, path: Path, states: Mapping[str, AccountState | msgspec.Raw]) -> None:
        """Runs in a thread, never twice at once."""
        with self._write_lock:
            if self._closed and not self._short_lived:
                return
            # The lock's file may have been removed, and another exporter may hold a new one; or it may have ended.
            if self._lock is not None and not _is_at(self._lock, _lock_of(path)):
                self._release()
                self._in_file = {}
            if self._lock is None and self._usable:
                self._lock = self._locked(path)
            if self._lock is None:
                self.is_saved = False
                return
            try:
                if self._absent_at_start and os.path.lexists(path):
                    # Verdicts rest on that file, and it was not read.
                    self.is_saved = False
                    self._warn("there was no such file at the start, and now there is one", "restart, to use that file")
                    return
                self._absent_at_start = False
                self._write_if_changed(path, states)
            finally:
                if self._short_lived or self._closed:
                    self._release()

    def _write_if_changed(self, path: Path, states: Mapping[str, AccountState | msgspec.Raw]) -> None:
        if states != self._in_file or not os.path.lexists(path):
            self._in_file = {}  # frees memory that the encoding needs
            accounts = msgspec.json.encode(states)
            try:
                _replace(path, *_pieces_of(accounts))
            except OSError as error:
                self.is_saved = False
                self._warn(error.strerror or str(error), "make the directory writable, or free space on its disk")
                return
            self._in_file = states
        if self._unwritable is not None:
            (self._log.debug if self._short_lived else self._log.info)("state kept again")
        self._unwritable = None
        self.is_saved = True

    def _warn(self, problem: str, remedy: str) -> None:
        """Logs why the file is not written, once until the reason changes."""
        if self._unwritable != problem:
            self._log.warning("state not kept", problem=problem, effect=AFTER_A_RESTART, remedy=remedy)
        self._unwritable = problem

    def _locked(self, path: Path) -> int | None:
        """Locks the file. `None` if that fails, which is logged once; each write tries again."""
        lock = _lock_of(path)
        handle = None
        try:
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
            _give_to_owner_of(path, handle)
        except OSError as error:
            if handle is not None:
                os.close(handle)
            self._warn(
                f"{lock} cannot be written: {error.strerror}",
                "create the directory, make it writable and free space on its disk, or set state_file: null",
            )
            return None
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(handle)
            logged = self._unwritable == HELD
            self._unwritable = HELD
            (self._log.debug if self._short_lived or logged else self._log.warning)(
                "state not kept",
                problem=HELD,
                effect="this one reads it and does not write it",
                remedy="give each exporter a state_file of its own",
            )
            return None
        except OSError as error:
            os.close(handle)
            self._warn(f"{lock} cannot be locked: {error.strerror}", "put state_file on a file system that has locks")
            return None
        return handle

    def _read(self, path: Path) -> dict[str, AccountState | msgspec.Raw]:
        try:
            ours = _is_ours(path)
            content = path.read_bytes() if ours else b""
        except FileNotFoundError:
            return {}
        except OSError as error:
            self._use_no_file(f"it cannot be read: {error.strerror}", "give the exporter the right to read it")
            return {}
        if not ours:
            self._use_no_file("it is not a state file of this exporter", "name another file as state_file")
            return {}
        if not content:
            self._log.warning("state not used", problem="it is empty", effect="nothing is known until the first poll")
            return {}
        try:
            return {**_accounts_in(content)}
        except (msgspec.MsgspecError, ValueError, RecursionError) as error:
            self._put_aside(path, str(error))
            return {}

    def _use_no_file(self, problem: str, remedy: str) -> None:
        self._log.warning(
            "state not used", problem=problem, effect="the file is left as it is, and no state is kept", remedy=remedy
        )
        self._usable = False
        self._release()

    def _put_aside(self, path: Path, problem: str) -> None:
        aside = path.with_name(path.name + ".broken")
        effect = "nothing is known until the first poll"
        if self._lock is not None:
            with contextlib.suppress(OSError):
                path.replace(aside)
                effect = f"moved to {aside}; {effect}"
        self._log.warning("state not used", problem=problem, effect=effect)


class _Version(msgspec.Struct, frozen=True):
    digitalocean_backup_exporter_state: int


async def _encode(state: AccountState) -> msgspec.Raw:
    # One Droplet at a time, so that scrapes are answered meanwhile.
    droplets = [msgspec.Raw(msgspec.json.encode(droplet)) async for droplet in with_pauses(state.droplets)]
    return msgspec.Raw(msgspec.json.encode({**msgspec.structs.asdict(state), "droplets": droplets}))


def _digest(accounts: bytes) -> str:
    return hashlib.sha256(accounts).hexdigest()


def _pieces_of(accounts: bytes) -> tuple[bytes, bytes, bytes]:
    """The file's content, in pieces: joining them would double the memory."""
    head = msgspec.json.encode(_File(VERSION, _digest(accounts), msgspec.Raw(b"0"))).removesuffix(b"0}")
    return head, accounts, b"}"


def _accounts_in(content: bytes) -> dict[str, AccountState]:
    """The accounts in a file's content; raises MsgspecError, ValueError or RecursionError if it is damaged."""
    version = msgspec.json.decode(content, type=_Version).digitalocean_backup_exporter_state
    if version not in (1, VERSION):
        raise ValueError(f"its version is {version}, and this exporter writes {VERSION}")
    file = msgspec.json.decode(content, type=_File)
    if _digest(bytes(file.accounts)) != file.sha256:
        raise ValueError("it was changed or damaged after it was written")
    if version == 1:
        before = msgspec.json.decode(file.accounts, type=dict[str, _AccountV1])
        return {name: account.converted() for name, account in before.items()}
    return msgspec.json.decode(file.accounts, type=dict[str, AccountState])


def _is_ours(path: Path) -> bool:
    """Whether it is a state file, or an empty file. A device or a pipe is not opened: reading it may never end."""
    if not stat.S_ISREG(path.stat().st_mode):
        return False
    with path.open("rb") as file:
        return file.read(len(MARK)) in (b"", MARK)


def _replace(path: Path, *content: bytes) -> None:
    """Replaces the file: whenever the machine stops, the old file or the new one is there, and it is whole."""
    beside = path.with_name(path.name + ".new")
    beside.unlink(missing_ok=True)
    handle = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "wb") as file:
            _give_to_owner_of(path, handle)
            for piece in content:
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    except OSError:
        # Half a file would take the last space of a disk that is full.
        with contextlib.suppress(OSError):
            beside.unlink()
        raise


def _lock_of(path: Path) -> Path:
    """The lock is a file of its own, because each write replaces the state file."""
    return path.with_name(path.name + ".lock")


def _is_at(handle: int, path: Path) -> bool:
    """Whether the open file is still the one at the path."""
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(handle), os.lstat(path))
    return False


def _give_to_owner_of(path: Path, handle: int) -> None:
    """Gives an open file the owner and mode of the state file. If there is none, gives it its directory's owner.

    A command run as root must not leave files that the exporter's own user cannot read.
    """
    try:
        found = path.lstat()
    except FileNotFoundError:
        found = path.parent.stat()
    else:
        if stat.S_ISREG(found.st_mode):
            os.fchmod(handle, found.st_mode & 0o666)
    if os.geteuid() == 0 and os.fstat(handle).st_uid != found.st_uid:
        os.fchown(handle, found.st_uid, found.st_gid)
