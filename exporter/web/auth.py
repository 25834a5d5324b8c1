"""Users and passwords, checked so that a client that guesses passwords cannot use up the exporter's time.

A bcrypt hash is slow on purpose. Each password is hashed once, in a thread, one after the other, and the result is
remembered. Addresses take turns, so that one client that guesses does not delay the others. Behind a proxy, guesser and
scraper have the same address. Therefore a password that was refused because too many were waiting is checked first if
it comes again: a scraper repeats its password, a guesser does not.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hmac
import secrets
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import structlog
from aiohttp import hdrs, web

from exporter.threads import ThreadPool
from exporter.web.server import Answer, text_answer

GOOD_KEPT = 256
BAD_KEPT = 4096
"""How many results are remembered. Wrong passwords have their own store, so that they do not push out right ones."""
WAITING = 1024
WAITING_OF_ADDRESS = 256
"""Checks that may wait at the same time, of all addresses and of one. More are refused with 429."""
REPEATED_WAITING = 32
"""Passwords that were refused before and came again: how many of them may wait for their check at the same time."""

CLIENT_WAITS = 4.5
"""Seconds that a request waits for its check. Then it gets 503. The check goes on, and its result is remembered."""
CHECK_SECONDS = 5.0
"""Seconds after which the next check begins, even if the one before has not ended."""
LONGEST_CHECK = 60.0
"""Seconds after which a check counts as failed. A hash with the highest cost of bcrypt takes longer."""

CHALLENGE = 'Basic realm="digitalocean-backup-exporter", charset="UTF-8"'

Compare = Callable[[bytes, str], bool]


def matches(password: bytes, stored: str) -> bool:
    """Whether this is the bcrypt hash of the password. The cost in the hash decides how long this takes."""
    import bcrypt  # imported here because most exporters have no users

    # Only two bits of the salt's last character count. bcrypt refuses a salt with others set, which some tools write.
    salt = stored[:28] + _BCRYPT_ALPHABET[_BCRYPT_ALPHABET.index(stored[28]) & 0x30]
    # The algorithm uses at most 72 bytes. Other tools cut silently, so this does too.
    made = bcrypt.hashpw(password[:72], salt.encode())
    return hmac.compare_digest(made[29:], stored[29:].encode())


_BCRYPT_ALPHABET = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


def credentials(authorization: str | None) -> tuple[str, bytes] | None:
    """User and password in an `Authorization` header (RFC 7617); `None` if there are none."""
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return None
    try:
        user, colon, password = base64.b64decode(encoded.strip(), validate=True).partition(b":")
        return (user.decode(), password) if colon else None
    except (binascii.Error, ValueError):  # UnicodeDecodeError is a ValueError
        return None


class BusyError(Exception):
    """Too many passwords are waiting to be checked."""


class UncheckedError(Exception):
    """It is not known whether the password is right: the check failed or took too long."""


@dataclass(frozen=True, slots=True)
class _Check:
    """A password that is to be checked, and the future that gets the result."""

    password: bytes
    stored: str
    known: bool
    """Whether a user has this name."""
    digest: bytes
    verdict: asyncio.Future[bool]


class Guard:
    """Checks passwords and remembers the results by a digest; the passwords themselves are not kept."""

    def __init__(self, users: Callable[[], Mapping[str, str]], *, compare: Compare = matches) -> None:
        """`users` returns the current names with their bcrypt hashes. If there are none, everybody may read."""
        self._users = users
        self._compare = compare
        self._secret = secrets.token_bytes(32)
        self._good: OrderedDict[bytes, None] = OrderedDict()
        self._bad: OrderedDict[bytes, None] = OrderedDict()
        self._under_way: dict[bytes, asyncio.Future[bool]] = {}
        self._queues: OrderedDict[str, deque[_Check]] = OrderedDict()
        self._refused: OrderedDict[bytes, None] = OrderedDict()
        self._repeated: deque[_Check] = deque()
        self._worker: asyncio.Task[None] | None = None
        self._checks: set[asyncio.Task[None]] = set()
        self._threads = ThreadPool("check passwords", 2)

    async def refusal(self, request: web.BaseRequest) -> Answer | None:
        """The answer to a client that may not read; `None` if it may."""
        try:
            if await self.admits(request.headers.getall(hdrs.AUTHORIZATION, []), request.remote or ""):
                return None
        except BusyError:
            return text_answer(
                "Too many passwords are waiting to be checked; try again.\n", 429, {hdrs.RETRY_AFTER: "5"}
            )
        except UncheckedError:
            return text_answer("The password could not be checked now; try again.\n", 503, {hdrs.RETRY_AFTER: "5"})
        return text_answer("Unauthorized.\n", 401, {hdrs.WWW_AUTHENTICATE: CHALLENGE})

    async def admits(self, authorization: list[str], address: str) -> bool:
        """Whether a client with these `Authorization` headers may read. Raises `BusyError` and `UncheckedError`."""
        users = self._users()
        if not users:
            return True
        given = credentials(authorization[0]) if len(authorization) == 1 else None
        if given is None:
            return False
        user, password = given
        stored = users.get(user)
        against = stored if stored is not None else self._decoy_hash(user, users)
        digest = self._digest(user.encode(), against.encode(), password)
        if digest in self._good:
            self._good.move_to_end(digest)
            return True
        if digest in self._bad:
            self._bad.move_to_end(digest)
            return False
        verdict = self._under_way.get(digest)
        if verdict is None:
            verdict = asyncio.get_running_loop().create_future()
            self._enqueue(_Check(password, against, stored is not None, digest, verdict), address)
            self._under_way[digest] = verdict
            verdict.add_done_callback(lambda _: self._under_way.pop(digest, None))
        # `wait` leaves the future alone when this client gives up: others may wait for the same check.
        done, _ = await asyncio.wait([verdict], timeout=CLIENT_WAITS)
        if not done:
            raise UncheckedError
        return verdict.result()

    def _digest(self, *parts: bytes) -> bytes:
        return hmac.digest(self._secret, b"".join(len(part).to_bytes(8, "big") + part for part in parts), "sha256")

    def _decoy_hash(self, user: str, users: Mapping[str, str]) -> str:
        """A hash for an unknown name. As slow as a user's hash, so that time does not reveal which names exist."""
        hashes = sorted(users.values())
        place = int.from_bytes(self._digest(user.encode())[:4], "big") % len(hashes)
        return hashes[place][:7] + "." * 53

    def _enqueue(self, check: _Check, address: str) -> None:
        queue = self._queues.get(address, deque())
        if check.digest in self._refused and len(self._repeated) < REPEATED_WAITING:
            del self._refused[check.digest]
            self._repeated.append(check)
        elif len(queue) < WAITING_OF_ADDRESS and sum(map(len, self._queues.values())) < WAITING:
            self._queues[address] = queue
            queue.append(check)
        else:
            _remember(check.digest, self._refused, BAD_KEPT)
            raise BusyError
        if self._worker is None or self._worker.done():
            self._worker = asyncio.create_task(self._work(), name="check passwords")

    async def _work(self) -> None:
        while self._queues or self._repeated:
            if self._repeated:
                await self._check_in_turn(self._repeated.popleft())
            if self._queues:
                address, queue = self._queues.popitem(last=False)
                check = queue.popleft()
                if queue:
                    self._queues[address] = queue
                await self._check_in_turn(check)

    async def _check_in_turn(self, check: _Check) -> None:
        """Makes one check. The next begins when this one ends, or after a while if it does not end."""
        making = asyncio.create_task(self._check(check), name="check a password")
        self._checks.add(making)
        making.add_done_callback(self._checks.discard)
        await asyncio.wait([making], timeout=CHECK_SECONDS)

    async def _check(self, check: _Check) -> None:
        """Checks a password. The future gets a result or an exception in any case, because clients wait for it."""
        try:
            matched = await self._threads.run(self._compare, check.password, check.stored, within=LONGEST_CHECK)
        except ValueError:
            matched = False  # bcrypt refuses the stored hash
        except Exception as error:  # noqa: BLE001  # no thread, no memory, a bug: the clients must get an answer
            structlog.get_logger().error(
                "password not checked", problem=str(error) or repr(error), effect="the login is answered with 503"
            )
            check.verdict.set_exception(UncheckedError())
            check.verdict.exception()  # marks it as read: perhaps all clients have left
            return
        right = matched and check.known
        _remember(check.digest, *((self._good, GOOD_KEPT) if right else (self._bad, BAD_KEPT)))
        check.verdict.set_result(right)


def _remember(digest: bytes, verdicts: OrderedDict[bytes, None], most: int) -> None:
    verdicts[digest] = None
    verdicts.move_to_end(digest)
    while len(verdicts) > most:
        verdicts.popitem(last=False)
