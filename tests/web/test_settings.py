from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path
from typing import Any

import bcrypt
import pytest
import structlog

from exporter.web import watched_file
from exporter.web.settings import WebSettings
from exporter.web.watched_file import SETTLED
from tests.support.certificates import Authority

ALICE = bcrypt.hashpw(b"wonderland", bcrypt.gensalt(4)).decode()
BOB = bcrypt.hashpw(b"builder", bcrypt.gensalt(4)).decode()


class Time:
    """Seconds that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def settle(self) -> None:
        self.now += SETTLED


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "web.yml"


def told(logs: list[MutableMapping[str, Any]]) -> list[str]:
    return [f"{log['log_level']} {log['event']}" for log in logs]


def users_of(file: Path, **users: str) -> None:
    file.write_text("basic_auth_users:\n" + "".join(f"  {name}: {stored}\n" for name, stored in users.items()))


def test_without_a_file_everybody_may_read_over_plain_http() -> None:
    """Where no file is named there is no TLS, no user and no header."""
    settings = WebSettings()
    assert (settings.context, dict(settings.users), dict(settings.headers)) == (None, {}, {})


def test_users_and_headers_follow_the_file(file: Path) -> None:
    """A change of users or headers counts from the next request on; the log says so once."""
    users_of(file, alice=ALICE)
    settings = WebSettings(file)
    with structlog.testing.capture_logs() as logs:
        users_of(file, alice=ALICE, bob=BOB)
        assert settings.users == {"alice": ALICE, "bob": BOB}
        users_of(file, bob=ALICE)
        assert settings.users == {"bob": ALICE}
        assert settings.users == {"bob": ALICE}
        file.write_text(
            "http_server_config: {headers: {X-Frame-Options: deny}}\nbasic_auth_users: {bob: " + BOB + "}\n"
        )
        assert settings.headers == {"X-Frame-Options": "deny"}
    assert told(logs) == ["info read again"] * 3


def test_changes_within_a_tick_of_the_clock_are_seen(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two changes within one tick of the file's time both count, if the first is recent."""
    monkeypatch.setattr("exporter.web.watched_file._file_times", lambda _: (1, 1, 1, 1))
    users_of(file, alice=ALICE)
    settings = WebSettings(file)
    assert settings.users == {"alice": ALICE}
    users_of(file, alice=BOB)  # of the same length
    assert settings.users == {"alice": BOB}


def test_a_file_that_rests_is_not_read_again(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once it has settled a file costs a look at its status, not a reading."""
    clock = Time()
    users_of(file, alice=ALICE)
    settings = WebSettings(file, monotonic=clock)
    clock.settle()
    assert settings.users == {"alice": ALICE}
    monkeypatch.setattr("exporter.web.settings.load_web_config", lambda _: pytest.fail("it was read"))
    for _ in range(3):
        clock.now += 60
        assert settings.users == {"alice": ALICE}


def test_many_requests_cause_few_looks_at_the_files(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look takes a thread and a millisecond, so a client that hurries does not cause more than a few."""
    looks: list[Any] = []
    start = watched_file._start_thread

    def counted(work: Any, *arguments: object) -> bool:
        looks.append(work)
        return start(work, *arguments)

    monkeypatch.setattr(watched_file, "_start_thread", counted)
    monkeypatch.setattr(watched_file, "LOOKS_WITHIN", 60.0)
    users_of(file, alice=ALICE)
    settings = WebSettings(file)
    looks.clear()
    for _ in range(1000):
        assert settings.users == {"alice": ALICE}
    assert 0 < len(looks) <= watched_file.LOOKS


@pytest.mark.parametrize("broken", ["basic_auth_users: [", "basic_auth_users: {alice: secret}\n", "zzz: 1\n", None])
def test_a_broken_file_keeps_what_was_read_before(file: Path, broken: str | None) -> None:
    """A file that is broken or gone changes nothing; the log says why, once; mended, it counts again."""
    clock = Time()
    users_of(file, alice=ALICE)
    settings = WebSettings(file, monotonic=clock)
    with structlog.testing.capture_logs() as logs:
        if broken is None:
            file.unlink()
        else:
            file.write_text(broken)
        for _ in range(4):
            assert settings.users == {"alice": ALICE}
            clock.settle()
    assert told(logs) == ["error not read again"]
    assert str(file) in logs[0]["problem"]
    assert "secret" not in str(logs)
    with structlog.testing.capture_logs() as logs:
        users_of(file, bob=BOB)
        assert settings.users == {"bob": BOB}
    assert told(logs) == ["info read again"]


def test_a_file_that_is_being_written_opens_no_door(file: Path) -> None:
    """An empty file, for example during a write or on a full disk, lets no one in without a password."""
    clock = Time()
    users_of(file, alice=ALICE)
    settings = WebSettings(file, monotonic=clock)
    clock.settle()
    file.write_text("")
    assert settings.users == {"alice": ALICE}
    users_of(file, bob=BOB)
    assert settings.users == {"bob": BOB}
    file.write_text("")
    clock.now += SETTLED / 2
    assert settings.users == {"bob": BOB}
    assert settings.followed
    with structlog.testing.capture_logs() as logs:
        clock.settle()
        assert settings.users == {"bob": BOB}
        assert not settings.followed
        clock.settle()
        assert settings.users == {"bob": BOB}
    assert told(logs) == ["error not read again"]
    assert "the last user was removed" in logs[0]["problem"]
    users_of(file, alice=ALICE)
    assert settings.users == {"alice": ALICE}
    assert settings.followed


def test_tls_is_settled_at_the_start(tmp_path: Path, file: Path) -> None:
    """Switching TLS on or off in the file takes a restart; until then the old file counts, and the log says so."""
    Authority().issue().write(tmp_path, "server")
    tls = "tls_server_config: {cert_file: server.crt, key_file: server.key}\n"
    for before, after, on in ((tls, "", True), ("", tls, False)):
        file.write_text(before)
        clock = Time()
        settings = WebSettings(file, monotonic=clock)
        assert (settings.context is not None) is on
        with structlog.testing.capture_logs() as logs:
            file.write_text(after + f"basic_auth_users: {{alice: {ALICE}}}\n")
            assert settings.users == {}
            clock.settle()
            assert settings.users == {}
            assert not settings.followed
        assert told(logs) == ["error not read again"]
        assert "restart it" in logs[0]["problem"]
        assert (settings.context is not None) is on
