from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest

from exporter.config.tokens import TokenError, TokenSource, looks_like_token, redact

TOKEN = "dop_v1_" + "0123456789abcdef" * 4


def test_a_file_is_read_each_time(tmp_path: Path) -> None:
    """A token that was rotated in its file is the one that the next reading gives."""
    file = tmp_path / "token"
    source = TokenSource(file=file)
    file.write_text("first\n")
    assert source.read() == "first"
    file.write_text("second\n")
    assert source.read() == "second"


def test_a_variable_is_read_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A variable is looked up at each reading."""
    source = TokenSource(env="SOME_TOKEN")
    monkeypatch.setenv("SOME_TOKEN", "first")
    assert source.read() == "first"
    monkeypatch.setenv("SOME_TOKEN", "second")
    assert source.read() == "second"


@pytest.mark.parametrize("content", [b"abc", b"abc\n", b"abc\r\n", b"  abc\n\n", b"\xef\xbb\xbfabc\n"])
def test_what_surrounds_a_token_is_no_part_of_it(tmp_path: Path, content: bytes) -> None:
    """Line ends, blanks and a byte order mark around a token are left out."""
    (tmp_path / "token").write_bytes(content)
    assert TokenSource(file=tmp_path / "token").read() == "abc"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b" \n", "is empty"),
        (b"not shown", "holds a space"),
        (b"not\nshown", "holds a space"),
        (b"not\x00shown", "holds a space"),
        ("not-shown-\N{SNOWMAN}".encode(), "holds a space"),
        (b"not-shown-\xff\xfe", "holds a space"),
        (b"not-shown" * 1000, "is longer than any token"),
    ],
)
def test_what_could_not_be_sent_is_no_token(tmp_path: Path, content: bytes, said: str) -> None:
    """A file that holds anything but one token is an error that names the file and shows none of its content."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(TokenError, match=said) as caught:
        TokenSource(file=file).read()
    assert str(caught.value).startswith(f"the file {file} ")
    chain = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert not any("shown" in repr(error) or "shown" in repr(vars(error)) for error in chain if error)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    """A file that is missing, a directory or a pipe is an error at once; a pipe would block every later poll."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "plain").write_text("x")
    for name, said in {
        "missing": "does not exist",
        ".": "is a directory",
        "pipe": "is not a regular file",
        "plain/below": "cannot be read: Not a directory",
        "x" * 300: "cannot be read: File name too long",
    }.items():
        with pytest.raises(TokenError, match=said):
            TokenSource(file=tmp_path / name).read()


def test_a_file_of_someone_else() -> None:
    """A file that the exporter may not read is named, with the reason."""
    me = os.geteuid()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "token"
        file.write_text("secret")
        file.chmod(0)
        Path(folder).chmod(0o755)
        try:
            if me == 0:  # root may read everything
                os.seteuid(65534)
            with pytest.raises(TokenError, match=f"the file {file} cannot be read: Permission denied"):
                TokenSource(file=file).read()
        finally:
            os.seteuid(me)


def test_a_variable_that_is_unset() -> None:
    """A variable without a value is named."""
    with pytest.raises(TokenError, match="the environment variable SOME_TOKEN is not set"):
        TokenSource(env="SOME_TOKEN").read({})
    with pytest.raises(TokenError, match="the environment variable SOME_TOKEN is empty"):
        TokenSource(env="SOME_TOKEN").read({"SOME_TOKEN": "\n"})


def test_a_source_shows_its_place_and_never_its_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """A source's text and representation say where the token is, not what it is."""
    monkeypatch.setenv("SOME_TOKEN", TOKEN)
    source = TokenSource(env="SOME_TOKEN")
    source.read()
    assert str(source) == "the environment variable SOME_TOKEN"
    assert str(TokenSource(file=Path("/run/secrets/x"))) == "the file /run/secrets/x"
    assert TOKEN not in repr(source)


def test_tokens_are_known_by_their_look() -> None:
    """Personal, OAuth and refresh tokens and those of older days are taken out of a text; other text stands."""
    for token in (TOKEN, "doo_v1_abc", "dor_v1_abc", "0123456789abcdef" * 4):
        assert looks_like_token(f'"{token}"')
        assert redact(f"sent {token}, refused") == "sent [a token], refused"
    layer = f"/var/lib/overlay/{'0123456789abcdef' * 4}/token"
    assert redact(layer) == layer
    assert not looks_like_token("DOP_V1_TOKEN")


def test_a_token_that_begins_like_another() -> None:
    """Of two tokens that were read the longer one is taken out whole, whichever was read first."""
    for token in ("a-token-of-mine", "a-token-of-mine-and-more"):
        TokenSource(env="A_TOKEN").read({"A_TOKEN": token})
    assert redact("sent a-token-of-mine-and-more, refused") == "sent [a token], refused"


def test_quotes_around_a_token_are_pointed_out(tmp_path: Path) -> None:
    """Quotes that a shell would take away stand in an environment file as they are."""
    (tmp_path / "token").write_text('"not-shown"\n')
    with pytest.raises(TokenError, match="has quotes around the token; remove them") as caught:
        TokenSource(file=tmp_path / "token").read()
    assert "not-shown" not in str(caught.value)


def test_a_credential_of_systemd_is_explained() -> None:
    """The error says that a file under /run/credentials exists only within the unit."""
    with pytest.raises(TokenError, match="systemd creates it for the unit"):
        TokenSource(file=Path("/run/credentials/digitalocean-backup-exporter.service/token")).read()


def test_case_hides_no_token() -> None:
    """Servers and proxies repeat headers in small letters, or in capitals."""
    environ = {"TOKEN": "Some-Token-Of-No-Known-Look"}
    TokenSource(env="TOKEN").read(environ)
    for text in (TOKEN, TOKEN.upper(), environ["TOKEN"].lower(), environ["TOKEN"].upper()):
        assert redact(f"<{text}>") == "<[a token]>"
