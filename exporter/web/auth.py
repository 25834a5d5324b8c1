"""Who may read: users and passwords, checked without giving those who guess the exporter's time.

A password costs a bcrypt hash once, in a thread, one after the other; what came of it is remembered. Who waits is
served in turn by address, so that one who guesses does not keep others waiting. Where a guesser's address is the
scraper's too, as behind a proxy, this helps: a scraper asks again with the same password, a guesser with another.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from aiohttp import hdrs, web

from exporter.web.answer import Answer, text

GOOD_KEPT = 256
BAD_KEPT = 4096
"""Verdicts that are remembered; guesses do not push out who was let in."""
WAITING = 1024
WAITING_OF_ADDRESS = 256
"""Checks that may wait at once, of all and of one address. What is more is refused, to be asked again."""
AGAIN = 32
"""Checks of passwords refused before that may wait at once."""

Compare = Callable[[bytes, str], bool]


def matches(password: bytes, stored: str) -> bool:
    """Whether a bcrypt hash is that of the password. Takes as long as the hash's cost says."""
    import bcrypt  # not above: most exporters have no users

    # Of the salt's last character two bits count; others may be set all the same, and bcrypt refuses them.
    salt = stored[:28] + _ALPHABET[_ALPHABET.index(stored[28]) & 0x30]
    # The algorithm knows no more than 72 bytes; other tools leave out the rest without a word.
    made = bcrypt.hashpw(password[:72], salt.encode())
    return hmac.compare_digest(made[29:], stored[29:].encode())


_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def credentials(authorization: str | None) -> tuple[str, bytes] | None:
    """User and password of an `Authorization` header; `None` if it holds none that could be right (RFC 7617)."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):  # a UnicodeDecodeError is one
        return None


class BusyError(Exception):
    """More passwords are waiting to be checked than ever should."""


@dataclass(frozen=True, slots=True)
class _Check:
    password: bytes
    stored: str
    verdict: asyncio.Future[bool]


class Guard:
    """Checks passwords, and remembers by a digest what came of it; the passwords themselves are not kept."""

    def __init__(self, users: Callable[[], Mapping[str, str]], *, compare: Compare = matches) -> None:
        """`users` gives name to bcrypt hash as they are now; with none, everybody is let in."""
        self._users = users
        self._compare = compare
        self._secret = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._bad: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[bool]] = {}
        self._queues: OrderedDict[str, deque[_Check]] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._again: deque[_Check] = deque()
        self._worker: asyncio.Task[None] | None = None

    async def refusal(self, request: web.BaseRequest) -> Answer | None:
        """What to answer in place of what was asked for; `None` to who may read."""
        try:
            if await self.admits(request.headers.getall(hdrs.AUTHORIZATION, []), request.remote or ""):
                return None
        except BusyError:
            return text("Too many passwords to check; ask again.\n", 429, {hdrs.RETRY_AFTER: "5"})
        return text("Unauthorized.\n", 401, {hdrs.WWW_AUTHENTICATE: "Basic"})

    async def admits(self, authorization: list[str], address: str) -> bool:
        """Whether someone with such headers may read. Raises `BusyError`."""
        users = self._users()
        if not users:
            return True
        given = credentials(authorization[0]) if len(authorization) == 1 else None
        if given is None:
            return False
        user, password = given
        stored = users.get(user)
        against = stored if stored is not None else self._nobody(user, users)
        digest = self._digest(user.encode(), against.encode(), password)
        if digest in self._good:
            self._good.move_to_end(digest)
            return True
        if digest in self._bad:
            self._bad.move_to_end(digest)
            return False
        verdict = self._under_way.get(digest)
        if verdict is None:
            check = _Check(password, against, asyncio.get_running_loop().create_future())
            self._enqueue(check, digest, address)
            verdict = self._under_way[digest] = check.verdict
            verdict.add_done_callback(lambda _: self._under_way.pop(digest, None))
        right = await asyncio.shield(verdict) and stored is not None
        _remember(digest, *((self._good, GOOD_KEPT) if right else (self._bad, BAD_KEPT)))
        return right

    def _digest(self, *parts: bytes) -> bytes:
        return hmac.digest(self._secret, b"".join(len(part).to_bytes(8, "big") + part for part in parts), "sha256")

    def _nobody(self, user: str, users: Mapping[str, str]) -> str:
        """A hash for a name that nobody has, as slow as somebody's, and always the same one's."""
        hashes = sorted(users.values())
        place = int.from_bytes(self._digest(user.encode())[:4], "big") % len(hashes)
        return hashes[place][:7] + "." * 53

    def _enqueue(self, check: _Check, digest: bytes, address: str) -> None:
        queue = self._queues.get(address, deque())
        if digest in self._refused and len(self._again) < AGAIN:
            del self._refused[digest]
            self._again.append(check)
        elif len(queue) < WAITING_OF_ADDRESS and sum(map(len, self._queues.values())) < WAITING:
            self._queues[address] = queue
            queue.append(check)
        else:
            _remember(digest, self._refused, BAD_KEPT)
            raise BusyError
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="check passwords")

    async def _work(self) -> None:
        while self._queues or self._again:
            if self._again:
                await self._in_thread(self._again.popleft())
            if self._queues:
                address, queue = self._queues.popitem(last=False)
                check = queue.popleft()
                if queue:
                    self._queues[address] = queue
                await self._in_thread(check)

    async def _in_thread(self, check: _Check) -> None:
        """Makes one check. A thread of its own, for one of a pool would hold up the exporter's end by a slow hash."""
        loop = asyncio.get_running_loop()

        def tell(right: bool) -> None:
            if not check.verdict.done():
                check.verdict.set_result(right)

        def run() -> None:
            try:
                right = self._compare(check.password, check.stored)
            except ValueError:
                right = False
            with suppress(RuntimeError):  # the loop has ended in the meantime
                loop.call_soon_threadsafe(tell, right)

        threading.Thread(target=run, name="check password", daemon=True).start()
        await check.verdict


def _remember(digest: bytes, verdicts: OrderedDict[bytes, None], most: int) -> None:
    verdicts[digest] = None
    verdicts.move_to_end(digest)
    while len(verdicts) > most:
        verdicts.popitem(last=False)
