from __future__ import annotations

import asyncio
import base64
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import bcrypt
import pytest

from exporter.web.auth import (
    BAD_KEPT,
    GOOD_KEPT,
    WAITING,
    WAITING_OF_ADDRESS,
    BusyError,
    Guard,
    UncheckedError,
    credentials,
    matches,
)
from tests.support.serving import eventually


@pytest.fixture(autouse=True)
def patient_clients(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dozens of checks in a row, on a machine that does other things too, may take longer than clients wait."""
    monkeypatch.setattr("exporter.web.auth.CLIENT_WAITS", 60.0)


def basic(user: str | bytes, password: str | bytes) -> str:
    pair = b":".join(part if isinstance(part, bytes) else part.encode() for part in (user, password))
    return "Basic " + base64.b64encode(pair).decode()


def hashed(password: bytes, cost: int = 4, prefix: bytes = b"2b") -> str:
    return bcrypt.hashpw(password, bcrypt.gensalt(cost)).replace(b"$2b$", b"$" + prefix + b"$").decode()


USERS = {"alice": hashed(b"wonderland"), "bob": hashed(b"builder")}


class Checks:
    """A stand-in for bcrypt that counts, and waits until it may go on."""

    def __init__(self) -> None:
        self.asked: list[tuple[bytes, str]] = []
        self.at_once = 0
        self.most_at_once = 0
        self.go_on = threading.Event()
        self.go_on.set()

    def __call__(self, password: bytes, stored: str) -> bool:
        self.asked.append((password, stored))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        self.go_on.wait(60)
        self.at_once -= 1
        return stored == f"hash of {password.decode()}"

    @contextmanager
    def held(self) -> Iterator[None]:
        self.go_on.clear()
        try:
            yield
        finally:
            self.go_on.set()


def guarded(users: Mapping[str, str], checks: Callable[[bytes, str], bool]) -> Guard:
    return Guard(lambda: users, compare=checks)


# The hash


@pytest.mark.parametrize("prefix", [b"2a", b"2b", b"2x", b"2y"])
def test_the_right_password_matches(prefix: bytes) -> None:
    """Hashes of each kind that tools make are understood, and a wrong password is refused."""
    stored = hashed(b"wonderland", prefix=prefix)
    assert matches(b"wonderland", stored)
    assert not matches(b"Wonderland", stored)
    assert not matches(b"", stored)


@pytest.mark.parametrize("password", [b"", b"\x00", b"a\x00b", b"\xff\xfe", "päß".encode(), b"x" * 72, b"x" * 5000])
def test_any_password_can_be_checked(password: bytes) -> None:
    """Empty ones, NUL, what is no UTF-8, and those longer than the 72 bytes that bcrypt knows, as other tools do."""
    assert matches(password, hashed(password[:72]))
    assert not matches(password, USERS["alice"])


def test_a_hash_with_spare_bits_set_is_checked() -> None:
    """A salt that another tool wrote with bits set that do not count still lets its owner in."""
    stored = hashed(b"wonderland")
    place = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789".index(stored[28])
    other = "./ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"[place | 0xF]
    assert matches(b"wonderland", stored[:28] + other + stored[29:])


# The header


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic ",
        "Basic !!!!",
        "Basic YWxpY2U",
        "Basic YWxpY2U=",
        "Bearer " + base64.b64encode(b"alice:wonderland").decode(),
        base64.b64encode(b"alice:wonderland").decode(),
        "Basic alice:wonderland",
        "Basic é",
        basic(b"\xff\xfe", b"x"),
        basic(b"a\x00", b"b").replace("=", ""),
    ],
)
async def test_what_is_no_credentials_is_refused_at_once(header: str | None) -> None:
    """A header without user and password is refused without a check."""
    checks = Checks()
    assert not await guarded(USERS, checks).admits([] if header is None else [header], "a")
    assert checks.asked == []


def test_credentials_are_taken_apart_at_the_first_colon() -> None:
    """A password may hold colons; the scheme's name is in any case; names are UTF-8."""
    assert credentials("bAsIc " + basic("a", "b:c:").split()[1]) == ("a", b"b:c:")
    assert credentials(basic("", "")) == ("", b"")
    assert credentials(basic("ä", b"\xff")) == ("ä", b"\xff")


async def test_two_headers_are_one_too_many() -> None:
    """Two Authorization headers are refused, because a proxy may have looked at the other one."""
    guard = Guard(lambda: USERS)
    right = basic("alice", "wonderland")
    assert await guard.admits([right], "a")
    assert not await guard.admits([right, basic("alice", "x")], "a")


# The users


async def test_users_are_let_in_by_their_own_passwords() -> None:
    """A user is let in by the own password only; an unknown user is refused."""
    guard = Guard(lambda: USERS)
    assert await guard.admits([basic("alice", "wonderland")], "a")
    assert not await guard.admits([basic("alice", "builder")], "a")
    assert not await guard.admits([basic("bob", "wonderland")], "a")
    assert not await guard.admits([basic("carol", "wonderland")], "a")
    assert not await guard.admits([basic("", "")], "a")


async def test_without_users_everybody_is_let_in() -> None:
    """Where no users are set nothing is asked for."""
    assert await Guard(dict).admits([], "a")


async def test_users_are_those_of_now() -> None:
    """A user taken away or given another password is refused though remembered; a new one is let in."""
    users = {"alice": "hash of a"}
    checks = Checks()
    guard = guarded(users, checks)
    assert await guard.admits([basic("alice", "a")], "x")
    users["alice"] = "hash of b"
    assert not await guard.admits([basic("alice", "a")], "x")
    assert await guard.admits([basic("alice", "b")], "x")
    users["bob"] = "hash of c"
    assert await guard.admits([basic("bob", "c")], "x")
    del users["alice"]
    assert not await guard.admits([basic("alice", "b")], "x")


async def test_an_unknown_user_costs_what_a_known_one_does() -> None:
    """An unknown name is checked against a hash of the same cost, always the same hash for the same name."""
    checks = Checks()
    users = {"alice": hashed(b"a", 4), "bob": hashed(b"b", 4)}
    guard = guarded(users, checks)
    assert not await guard.admits([basic("carol", "x")], "a")
    assert not await guard.admits([basic("carol", "y")], "a")
    (_, first), (_, second) = checks.asked
    assert first == second
    assert first[:7] == "$2b$04$"
    assert not matches(b"x", first)

    # Seconds of the processor, for a busy machine makes any check take long.
    seconds = []

    def timed(password: bytes, stored: str) -> bool:
        begun = time.thread_time()
        right = matches(password, stored)
        seconds.append(time.thread_time() - begun)
        return right

    guard = guarded({"alice": hashed(b"a", 8)}, timed)
    for number in range(4):
        for user in ("alice", "nobody"):
            assert not await guard.admits([basic(user, str(number))], "a")
    assert 0.5 < min(seconds[::2]) / min(seconds[1::2]) < 2.0


async def test_an_unknown_name_is_refused_even_if_its_hash_matches() -> None:
    """Even if the stand-in's hash matched, an unknown name is not let in."""
    assert not await guarded(USERS, lambda *_: True).admits([basic("carol", "x")], "a")


# What it costs


async def test_a_password_is_checked_once() -> None:
    """The result of a check is remembered, whether the password was right or wrong."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    for _ in range(5):
        assert await guard.admits([basic("alice", "a")], "x")
        assert not await guard.admits([basic("alice", "b")], "x")
    assert len(checks.asked) == 2


async def test_the_same_password_asked_at_once_is_checked_once() -> None:
    """Twenty requests of one scraper after a start cost one check."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    assert all(await asyncio.gather(*(guard.admits([basic("alice", "a")], str(n)) for n in range(20))))
    assert len(checks.asked) == 1


async def test_guesses_do_not_evict_known_users() -> None:
    """Many guesses do not remove a known user from the memory of checks, and its size is limited."""
    calls = 0

    def compare(password: bytes, stored: str) -> bool:
        nonlocal calls
        calls += 1
        return stored == f"hash of {password.decode()}"

    guard = guarded({"alice": "hash of a"}, compare)
    assert await guard.admits([basic("alice", "a")], "x")
    guard._bad.update((number.to_bytes(4, "big"), None) for number in range(BAD_KEPT))
    for number in range(50):
        assert not await guard.admits([basic(f"guess {number}", "b")], "y")
    before = calls
    assert await guard.admits([basic("alice", "a")], "x")
    assert calls == before
    assert len(guard._bad) <= BAD_KEPT
    assert len(guard._good) <= GOOD_KEPT


async def test_passwords_are_not_kept() -> None:
    """The memory of checks holds neither names nor passwords, and differs between exporters."""
    guards = [guarded({"alice": "hash of a"}, Checks()) for _ in range(2)]
    for guard in guards:
        await guard.admits([basic("alice", "a")], "x")
        await guard.admits([basic("alice", "not this")], "x")
    assert all(
        b"alice" not in key and b"not this" not in key for guard in guards for key in (*guard._good, *guard._bad)
    )
    assert not set(guards[0]._good) & set(guards[1]._good)


async def test_checks_are_made_one_at_a_time_beside_the_loop() -> None:
    """With many guesses one thread checks passwords; the event loop and known users do not wait."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    assert await guard.admits([basic("alice", "a")], "x")
    with checks.held():
        guesses = [asyncio.ensure_future(guard.admits([basic("alice", f"b{n}")], "x")) for n in range(30)]
        await asyncio.sleep(0.05)
        async with asyncio.timeout(20):
            assert await guard.admits([basic("alice", "a")], "x")
        assert not any(guess.done() for guess in guesses)
    assert not any(await asyncio.gather(*guesses))
    assert checks.most_at_once == 1


async def test_a_guesser_delays_others_by_one_check_at_most() -> None:
    """Addresses are served in turn, so a client waits for one check of each other address at most."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    with checks.held():
        guesses = [asyncio.ensure_future(guard.admits([basic("alice", f"b{n}")], "guesser")) for n in range(50)]
        await asyncio.sleep(0.05)
        honest = asyncio.ensure_future(guard.admits([basic("alice", "a")], "scraper"))
        await asyncio.sleep(0)
        guesses += [asyncio.ensure_future(guard.admits([basic("alice", f"c{n}")], "another")) for n in range(50)]
        await asyncio.sleep(0)
    assert await honest
    await asyncio.gather(*guesses)
    assert checks.asked.index((b"a", "hash of a")) <= 2


async def test_more_checks_than_bearable_are_refused() -> None:
    """If too many checks are waiting, a client is refused, and gets in later."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)

    async def guess(address: int, number: int) -> bool:
        return await guard.admits([basic("alice", f"{address} {number}")], str(address))

    with checks.held():
        waiting = [asyncio.ensure_future(guess(0, 0))]
        await asyncio.sleep(0.05)
        addresses = range(WAITING // WAITING_OF_ADDRESS)
        waiting += [asyncio.ensure_future(guess(a, n + 1)) for a in addresses for n in range(WAITING_OF_ADDRESS)]
        await asyncio.sleep(0.05)
        for address in ("0", "new"):
            with pytest.raises(BusyError):
                await guard.admits([basic("alice", f"from {address}")], address)
        assert len(checks.asked) == 1
    assert await asyncio.gather(*waiting) == [False] * (WAITING + 1)
    assert await guard.admits([basic("alice", "a")], "new")


async def test_one_address_cannot_fill_the_line() -> None:
    """Beyond so many of one address its next is refused, and another's is not."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    with checks.held():
        waiting = [
            asyncio.ensure_future(guard.admits([basic("alice", f"b{n}")], "guesser")) for n in range(WAITING_OF_ADDRESS)
        ]
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await guard.admits([basic("alice", "a")], "guesser")
        waiting.append(asyncio.ensure_future(guard.admits([basic("alice", "c")], "scraper")))
        await asyncio.sleep(0.05)
    assert not any(await asyncio.gather(*waiting))


async def test_a_second_request_with_the_same_password_is_soon_served() -> None:
    """A scraper that was refused in a flood of guesses from its own address gets in when it asks again."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    with checks.held():
        guesses = [
            asyncio.ensure_future(guard.admits([basic("alice", f"b{n}")], "proxy")) for n in range(WAITING_OF_ADDRESS)
        ]
        await asyncio.sleep(0.05)
        guesses.append(asyncio.ensure_future(guard.admits([basic("alice", "c")], "proxy")))
        await asyncio.sleep(0)
        with pytest.raises(BusyError):
            await guard.admits([basic("alice", "a")], "proxy")
        again = asyncio.ensure_future(guard.admits([basic("alice", "a")], "proxy"))
        await asyncio.sleep(0)
    assert await again
    assert checks.asked.index((b"a", "hash of a")) <= 2
    assert not any(await asyncio.gather(*guesses))


async def test_a_client_that_disconnects_cancels_no_check() -> None:
    """A client that disconnects does not stop its check or later ones, and finds the result when it returns."""
    checks = Checks()
    guard = guarded({"alice": "hash of a"}, checks)
    with checks.held():
        first = asyncio.ensure_future(guard.admits([basic("alice", "a")], "x"))
        behind = asyncio.ensure_future(guard.admits([basic("alice", "b")], "x"))
        await asyncio.sleep(0.05)
        first.cancel()
    assert not await behind
    assert await guard.admits([basic("alice", "a")], "x")


# A check that fails


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("can't start new thread"), SystemExit(), StopIteration()]
)
async def test_a_check_that_breaks_is_an_answer_and_the_next_one_works(error: BaseException) -> None:
    """After any exception in a check, its client and the waiting ones get an answer."""
    broken = [error]

    def compare(password: bytes, stored: str) -> bool:
        if broken:
            raise broken.pop()
        return stored == f"hash of {password.decode()}"

    guard = guarded({"alice": "hash of a"}, compare)
    async with asyncio.timeout(5):
        first, behind = await asyncio.gather(
            guard.admits([basic("alice", "b")], "x"), guard.admits([basic("alice", "a")], "x"), return_exceptions=True
        )
        assert isinstance(first, UncheckedError)
        assert behind is True
        assert not await guard.admits([basic("alice", "b")], "x")


async def test_a_thread_that_does_not_start_is_an_answer_and_the_next_one_works() -> None:
    """If the system allows no more threads, the client gets a 503, and a later login works."""
    guard = guarded({"alice": "hash of a"}, lambda password, stored: stored == f"hash of {password.decode()}")
    with pytest.MonkeyPatch.context() as patch:

        def refuse(_: threading.Thread) -> None:
            raise RuntimeError("can't start new thread")

        patch.setattr(threading.Thread, "start", refuse)
        async with asyncio.timeout(5):
            with pytest.raises(UncheckedError):
                await guard.admits([basic("alice", "a")], "x")
    assert await guard.admits([basic("alice", "a")], "x")


async def test_a_check_that_takes_too_long_is_an_answer_and_the_next_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    """A check that does not end keeps its own client waiting for seconds, and the next client as long at most."""
    monkeypatch.setattr("exporter.web.auth.CLIENT_WAITS", 0.2)
    monkeypatch.setattr("exporter.web.auth.CHECK_SECONDS", 0.05)
    hang = threading.Event()

    def compare(password: bytes, stored: str) -> bool:
        if password == b"slow":
            hang.wait(10)
        return True

    guard = guarded({"alice": "hash of a"}, compare)
    try:
        with pytest.raises(UncheckedError):
            await guard.admits([basic("alice", "slow")], "x")
        assert await guard.admits([basic("alice", "a")], "x")
    finally:
        hang.set()
    await eventually(lambda: not guard._under_way)
    calls: list[object] = []
    monkeypatch.setattr(guard, "_compare", lambda *asked: calls.append(asked))
    assert await guard.admits([basic("alice", "slow")], "x")
    assert not calls
