"""A token is planted in every place that may hold one, everything goes wrong, and then it is looked for everywhere."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
import signal
import ssl
import sys
import time
import traceback
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path

import bcrypt
import pytest
import structlog

from exporter import log
from exporter.cli.main import main
from exporter.clock import Clock
from exporter.config.loading import load_file
from exporter.config.model import Account, Config
from exporter.config.tokens import TokenSource
from exporter.config.yaml_document import ConfigError
from exporter.digitalocean.budget import Budget
from exporter.digitalocean.client import Client
from exporter.digitalocean.errors import ApiError
from exporter.metrics.telemetry import Telemetry
from exporter.service import Service
from exporter.web.auth import Guard
from tests.digitalocean.wire import Answer, Heard, Server
from tests.support.certificates import Authority
from tests.support.lookalike import Api, Fixture, backup, droplet, policy
from tests.support.processes import run
from tests.support.serving_process import started

pytestmark = pytest.mark.slow  # starts every command several times

OURS = "sesame-Zq9x-open"
"""A token that looks like none, so that nothing but care keeps it out of sight."""
REAL = "dop_v1_" + "5ec2e7" * 10 + "beef"
PASSWORD = "wonderland-Zq9x"
HASH = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
HIDDEN = {
    "the token": OURS,
    "the start of the token": OURS[:12],
    "the token in base64": base64.b64encode(OURS.encode()).decode().rstrip("=")[:-1],
    "a real token": REAL,
    "the digits of a real token": REAL[7:40],
    "the password": PASSWORD,
    "the hash": HASH[7:],
}


def shown(text: str) -> list[str]:
    return [name for name, secret in HIDDEN.items() if secret.lower() in text.lower()]


def everything_in(files: Iterable[Path]) -> str:
    return "".join(file.read_text() for file in files)


# An API that gives away what it is told


Way = Callable[[str, str], bytes]
"""From a path and a token to what is sent back, to the letter."""


def answered(status: str, body: str, kind: str = "application/json", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body.encode())}", *headers]
    return ("\r\n".join([*head, "Connection: close", "", ""]) + body).encode()


def failed(status: str) -> Way:
    def way(_path: str, token: str) -> bytes:
        body = json.dumps({"id": token, "message": f"the token {token} is bad", "request_id": token})
        return answered(f"{status} {token}", body, "application/json", f"X-Request-Id: {token}")

    return way


def ways(elsewhere: str) -> dict[str, Way]:
    def listing(path: str, token: str) -> bytes:
        kind = "policies" if "policies" in path else "droplets"
        body = {
            kind: [{"id": 1, "name": "d", "created_at": token, "size_slug": {"of": token}}]
            if kind == "droplets"
            else {},
            "links": {"pages": {"next": f"{elsewhere}{path}?page=2", "last": f"{elsewhere}{path}?page=9"}},
            "meta": {"total": 300},
        }
        return answered("200 OK", json.dumps(body))

    return {
        "401": failed("401"),
        "403": failed("403"),
        "422": failed("422"),
        "429": lambda path, token: failed("429")(path, token).replace(b"\r\n", b"\r\nretry-after: 3600\r\n", 1),
        "500": failed("500"),
        "html": lambda _path, token: answered("200 OK", f"<html>Bearer {token}</html>", "text/html"),
        "odd type": lambda _path, token: answered("200 OK", token, f"text/{token}"),
        "small type": lambda _path, token: answered("200 OK", "{}", f"text/{token.lower()}"),
        "large type": lambda _path, token: answered("200 OK", "{}", f"text/{token.upper()}"),
        "odd encoding": lambda _path, token: answered(
            "200 OK", "{}", "application/json", f"Content-Encoding: {token.upper()}"
        ),
        "small redirect": lambda _path, token: answered("302 Found", "", "text/html", f"Location: //{token.lower()}/"),
        "large redirect": lambda _path, token: answered("301 Gone", "", "text/html", f"Location: /{token.upper()}"),
        "no json": lambda _path, token: answered("200 OK", f'{{"{token}": '),
        "no http": lambda _path, token: f"{token} is what you sent\r\n\r\n".encode(),
        "bad header": lambda _path, token: f"HTTP/1.1 200 OK\r\n{token}\r\n\r\n".encode(),
        "bad length": lambda _path, token: f"HTTP/1.1 200 OK\r\nContent-Length: {token}\r\n\r\n".encode(),
        "bad gzip": lambda _path, token: answered("200 OK", token, "application/json", "Content-Encoding: gzip"),
        "bad encoding": lambda _path, token: answered("200 OK", "{}", "application/json", f"Content-Encoding: {token}"),
        "cut short": lambda _path, token: answered("200 OK", token * 99)[:-500],
        "redirect": lambda path, token: answered(
            "302 Found", "", "text/html", f"Location: {elsewhere}{path}?t={token}"
        ),
        "odd redirect": lambda _path, token: answered("307 No", "", "text/html", f"Location: http://{token}/"),
        "permanent": lambda path, _token: answered("308 Gone", "", "text/html", f"Location: {elsewhere}{path}"),
        "links": listing,
    }


@contextlib.asynccontextmanager
async def giving_away() -> AsyncIterator[tuple[dict[str, str], Server]]:
    """The address of a server for each way, and the host to which some of them point and nothing may be sent."""
    async with contextlib.AsyncExitStack() as stack:
        elsewhere = await stack.enter_async_context(Server(b"", host="127.0.0.2"))

        async def listen(way: Way, tls: ssl.SSLContext | None = None) -> str:
            return (await stack.enter_async_context(Server(_giving(way), tls))).url

        urls = {name: await listen(way) for name, way in ways(elsewhere.url).items()}
        # A server for TLS that nobody trusts, one that speaks no TLS, and none at all.
        with _certificate() as tls:
            urls["untrusted"] = await listen(failed("401"), tls)
        urls["no tls"] = urls["401"].replace("http:", "https:")
        urls["nobody"] = "http://127.0.0.1:1"
        yield urls, elsewhere


def _giving(way: Way) -> Answer:
    async def answer(heard: Heard, writer: asyncio.StreamWriter) -> None:
        token = heard.headers.get("authorization", "").partition("Bearer ")[2]
        writer.write(way(heard.path, token))
        await writer.drain()
        writer.close()

    return answer


@contextlib.contextmanager
def _certificate() -> Iterator[ssl.SSLContext]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*Authority().issue().write(Path(folder), "nobody"))
        yield context


# Everything at once, as a process


async def test_a_running_exporter_keeps_its_secrets(tmp_path: Path) -> None:
    """With each account failing in its own way, at debug level, no output holds a token, a password or a hash."""
    now = time.time()
    good = Fixture([droplet(1)], {"1": policy(1, hour=4, now=now)}, {1: [backup(11, now - 3600)]})
    (tmp_path / "token").write_text(f"{OURS}\n")
    web = tmp_path / "web.yml"
    web.write_text(f"basic_auth_users: {{alice: {HASH}}}\n")
    config = tmp_path / "config.yaml"

    async with giving_away() as (urls, elsewhere), Api(good, token=OURS, now=time.time) as api:

        def write(**more: object) -> None:
            accounts: list[dict[str, object]] = [
                {"name": name, "api_url": url, "token_env" if number % 2 else "token_file": where(number)}
                for number, (name, url) in enumerate({**urls, "good": api.url}.items())
            ]
            state = str(tmp_path / "state.json")
            config.write_text(
                json.dumps({"accounts": accounts, "state_file": state, "poll": {"timeout": "2s"}, **more})
            )

        def where(number: int) -> str:
            return "THE_TOKEN" if number % 2 else str(tmp_path / "token")

        write()
        arguments = ("--config.file", str(config), "--web.config.file", str(web), "--web.enable-lifecycle")
        env = {"THE_TOKEN": OURS, "PYTHONASYNCIODEBUG": "1"}
        async with started(tmp_path, *arguments, "--log.level=debug", env=env) as exporter:
            host, port = exporter.addresses[0]
            basic = "Basic " + base64.b64encode(f"alice:{PASSWORD}".encode()).decode()

            def answer(path: str, method: str = "GET", authorization: str = basic) -> str:
                url = f"http://{host}:{port}{path}"
                request = urllib.request.Request(url, headers={"Authorization": authorization}, method=method)
                try:
                    with urllib.request.urlopen(request, timeout=20) as response:
                        return f"{response.status} {response.headers} {response.read().decode()}"
                except urllib.error.HTTPError as error:
                    return f"{error.code} {error.headers} {error.read().decode()}"

            polls = "digitalocean_backup_exporter_polls_total"
            await exporter.logged('event="poll finished"', times=len(urls) + 1)
            answers = [await asyncio.to_thread(answer, path) for path in ("/", "/metrics", "/-/ready", "/nothing")]
            assert f'{polls}{{account="401",result="failure"}} 1.0' in answers[1]
            assert f'{polls}{{account="good",result="success"}} 1.0' in answers[1]
            answers.append(await asyncio.to_thread(answer, "/metrics", authorization=basic[:-4]))
            answers.append(await asyncio.to_thread(answer, f"/{OURS}?{PASSWORD}"))
            # Configurations that hold a token where none belongs.
            mistakes: list[dict[str, object]] = [
                {"token": REAL},
                {REAL: 1},
                {"labels": {"tags": {"team": REAL}}},
                {"state_file": [REAL]},
                {"accounts": [{"name": "a", "token": REAL}]},
                {"accounts": [{"name": "a", "token_env": REAL}]},
                {"accounts": [{"name": REAL, "token_file": REAL}]},
                {"accounts": [{"name": "a", "token_env": "THE_TOKEN", "api_url": f"https://{REAL}@example.com"}]},
                {"accounts": [{"name": "a", "token_env": "THE_TOKEN", "api_url": f"https://{REAL}.example.com:x"}]},
                {"accounts": [{"name": "a", "token_env": "THE_TOKEN", "select": {"names": [f"[{REAL}"]}}]},
                {"poll": {"interval": REAL}},
            ]
            for mistake in mistakes:
                write(**mistake)
                answers.append(await asyncio.to_thread(answer, "/-/reload", "POST"))
                assert answers[-1].startswith("500 "), mistake
            config.write_text(f"accounts: [{REAL}\n")
            exporter.signal(signal.SIGHUP)
            web.write_text(f"basic_auth_users: {{alice: {HASH}, bob: {PASSWORD}}}\n")
            answers.append(await asyncio.to_thread(answer, "/"))
            await exporter.logged('event="reload failed"', times=len(mistakes) + 1)
            process = Path(f"/proc/{exporter.process.pid}")
            answers += [(process / name).read_bytes().decode() for name in ("cmdline", "comm")]
            state = (tmp_path / "state.json").read_text()
            assert '"good"' in state
        everything = {
            "log": exporter.log,
            "output": exporter.output.read_text(),
            "state": await asyncio.to_thread(
                lambda: "".join(file.read_text() for file in tmp_path.glob("state.json*"))
            ),
            **{answer[:60]: answer for answer in answers},
        }
        asked = [answer for answer in answers if OURS in answer]
        assert {name: shown(text) for name, text in everything.items() if shown(text)} == {}, asked
        assert not elsewhere.connections
        assert exporter.log.count('event="poll failed"') >= len(urls)
        assert "Traceback" not in exporter.log


async def test_commands_keep_their_secrets(tmp_path: Path) -> None:
    """No command shows the token, whatever fails."""
    (tmp_path / "bad.yaml").write_text(f"accounts: [{{name: a, token: {REAL}}}]\n{REAL}: {REAL}\n")
    async with giving_away() as (urls, _):
        base = {name: value for name, value in os.environ.items() if not name.startswith("DIGITALOCEAN_")}
        runs = [
            (["once"], {"DIGITALOCEAN_ACCESS_TOKEN": OURS, "DIGITALOCEAN_API_URL": urls["401"]}),
            (["check"], {"DIGITALOCEAN_TOKEN": OURS, "DIGITALOCEAN_API_URL": urls["html"]}),
            *(
                (["check", "--format=json"], {"DIGITALOCEAN_TOKEN": OURS, "DIGITALOCEAN_API_URL": urls[name]})
                for name in ("401", "small type", "large type", "odd encoding", "small redirect", "large redirect")
            ),
            (["check-config"], {"DIGITALOCEAN_TOKEN_FILE": OURS}),
            (["check-config"], {"DIGITALOCEAN_ACCESS_TOKEN": f"{OURS} {OURS}"}),
            (["check-config", "--config.file", str(tmp_path / "bad.yaml")], {}),
            (["--help"], {"DIGITALOCEAN_ACCESS_TOKEN": OURS}),
        ]

        async def told(arguments: list[str], env: dict[str, str]) -> str:
            level = [] if arguments[0] in ("check-config", "--help") else ["--log.level=debug"]
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "exporter", *arguments, *level),
                env={**base, **env},
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.STDOUT,
            )
            output, _ = await process.communicate()
            return output.decode()

        outputs = [await told(*run) for run in runs]
    assert all(outputs)
    # A path is shown as it is given; whoever puts a token in its place is told so without it if it looks like one.
    outputs[[arguments for arguments, _ in runs].index(["check-config"])] = ""
    assert [shown(output) for output in outputs] == [[]] * len(runs)


@pytest.mark.parametrize(
    "line",
    [
        REAL,
        f"--token {REAL}",
        f"--token={REAL}",
        f"serve {REAL}",
        f"serve --web.listen-address {REAL}",
        f"serve --log.level {REAL}",
        f"check --only {REAL}",
        f"check --demo --tag {REAL}",
        f"check --demo --account {REAL}",
        f"show {REAL}",
        f"once --demo --output /nowhere/{REAL}",
    ],
)
def test_a_token_among_the_arguments_is_not_repeated(line: str) -> None:
    """The error about a token among the arguments does not repeat it, because errors are kept in logs."""
    done = run(*line.split())
    assert done.returncode == 2
    assert "[a token]" in done.stderr or "unrecognized --token (see" in done.stderr
    assert shown(done.stdout + done.stderr) == []


def test_a_bug_shows_no_token(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """The traceback of a command that breaks has every token taken out."""
    monkeypatch.setattr("exporter.cli.check.check", lambda _: _break(f"sent {REAL}"))
    assert main(["check"]) == 2
    told = "".join(capfd.readouterr())
    assert "RuntimeError: sent [a token]" in told
    assert shown(told) == []


# One by one, in this process


def everything_of(error: BaseException | None) -> str:
    """An exception with all that hangs on it, as a traceback, a representation and its attributes."""
    if error is None:
        return ""
    own = [*traceback.format_exception(error), repr(error), str(error.args), str(getattr(error, "__dict__", ""))]
    before = error.__cause__ if error.__suppress_context__ else error.__context__
    return "\n".join([*own, everything_of(before)])


async def test_no_error_of_the_client_holds_the_token() -> None:
    """No error of the client, and no exception chained to it, shows the token."""

    async def errors_of(url: str) -> list[BaseException | None]:
        client = Client(url, lambda: OURS, Budget(250, 5000, 0.2, Clock()), Clock(), timeout=2.0)
        client.http.deadline = time.time() + 3.0
        async with client:
            errors: list[BaseException | None] = [(await client.droplets()).error, (await client.policies()).error]
            try:
                await client.droplet(1)
            except ApiError as error:
                errors.append(error)
            assert shown(repr(client)) == []
        return errors

    async with giving_away() as (urls, elsewhere):
        found = dict(zip(urls, await asyncio.gather(*map(errors_of, urls.values())), strict=True))
        assert {name for name, errors in found.items() if errors[-1] is None} == set()
        assert {name for name, errors in found.items() if shown("".join(map(everything_of, errors)))} == set()
        assert not elsewhere.connections


def test_no_value_shows_a_token_in_its_representation(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Configuration, accounts, sources, services and guards represent themselves without a token or a hash."""
    monkeypatch.setenv("THE_TOKEN", OURS)
    (tmp_path / "token").write_text(OURS)
    sources = TokenSource(env="THE_TOKEN"), TokenSource(file=tmp_path / "token")
    assert {source.read() for source in sources} == {OURS}
    config = Config(tuple(Account(str(number), source) for number, source in enumerate(sources)))
    service = Service(config, lambda: config, Clock(), Telemetry("1", process=False))
    values = [*sources, config, service, *service.statuses, *service.fleets, Guard(lambda: {"alice": HASH})]
    assert [shown(f"{value!r} {value}") for value in values] == [[]] * len(values)


def _break(what: str) -> None:
    raise RuntimeError(what)


@pytest.mark.parametrize("style", ["logfmt", "json"])
def test_the_log_takes_tokens_out(
    style: log.Format, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a token, and a token that was read, is taken out of events, fields and tracebacks."""
    before = structlog.get_config()
    monkeypatch.setenv("THE_TOKEN", OURS)
    TokenSource(env="THE_TOKEN").read()
    try:
        log.configure("debug", style)
        logger = structlog.get_logger().bind(account=f"of {REAL}")
        event = f"sent {REAL}"
        logger.info(event, headers={"Authorization": f"Bearer {REAL}"}, path=Path(REAL), number=1)
        try:
            _break(f"the tokens {REAL} and {OURS}")
        except RuntimeError:
            logger.exception("it broke")
    finally:
        structlog.configure(**before)
    written = capsys.readouterr().err
    assert written.count("[a token]") == 7
    assert shown(written) == []


def test_no_mistake_in_a_configuration_shows_a_token(tmp_path: Path) -> None:
    """A file that is a token, or holds one instead of anything else, is refused without showing it."""
    file = tmp_path / "config.yaml"
    for text in (
        REAL,
        f"- {REAL}",
        f"{REAL}: {REAL}",
        f"accounts: {REAL}",
        f"? {REAL}\n: [",
        f"a: *{REAL}",
        f"%{REAL}",
    ):
        file.write_text(text)
        with pytest.raises(ConfigError) as caught:
            load_file(file)
        assert shown(everything_of(caught.value)) == [], text
