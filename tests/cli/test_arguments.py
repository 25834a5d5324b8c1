"""The command line itself: its help, its exit codes, and how it behaves at a terminal, in a pipe and under Ctrl-C."""

from __future__ import annotations

import ast
import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path
from typing import BinaryIO

import pytest

from exporter import NAME
from exporter.cli import arguments
from exporter.cli.options import ServeOptions
from exporter.fleet.state import State
from tests.support.commands import command
from tests.support.processes import COMMAND
from tests.support.world import MONDAY

COMMANDS = ("serve", "once", "check", "show", "check-config")


def own_environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("DIGITALOCEAN_", "COLUMNS"))}


class TestHelp:
    @pytest.mark.parametrize("name", COMMANDS)
    def test_each_command(self, name: str) -> None:
        """The help of each command has examples of it, its exit codes, and a text for every flag."""
        done = command(name, "--help", at=MONDAY)
        assert done.code == 0
        examples, after = done.out.split("\nexamples:\n")[1].split("\n\n", 1)
        lines = [line for line in examples.splitlines() if line.strip()]
        assert lines
        for line in lines:
            words = line.split(" | ")[0].split()[1:]
            assert words[0] == name or name == "serve"
            assert arguments.parse(words)
        assert "exit codes: 0" in after
        parser = arguments._parsers()[1][name]
        assert [flag for flag, action in parser.flags.items() if not action.help] == []

    def test_of_the_whole(self) -> None:
        """The help of the command names every command."""
        done = command("--help", at=MONDAY)
        assert done.code == 0
        for name in COMMANDS:
            assert re.search(rf"^    {name}\s+\w", done.out, re.MULTILINE)

    def test_states(self) -> None:
        """The help of check lists every state, the worst first."""
        listed = " ".join(command("check", "--help", at=MONDAY).out.split())
        assert f"in these states: {', '.join(State)};" in listed

    @pytest.mark.parametrize("columns", [60, 100])
    def test_columns(self, columns: int) -> None:
        """Prose fits COLUMNS; an example stays on its line, so that it can be copied."""
        for words in ([], *([name] for name in COMMANDS)):
            lines = command(*words, "--help", at=MONDAY, COLUMNS=str(columns)).out.splitlines()
            long = [line.strip() for line in lines if len(line) > columns]
            assert [line for line in long if not line.startswith(NAME)] == []

    def test_cheap(self) -> None:
        """--help imports nothing slow: no HTTP, no YAML, no tables."""
        program = (
            "import sys; from exporter.cli.arguments import parse\n"
            "try: parse(['check', '--help'])\n"
            "finally: print([*sys.modules])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
        modules = set(ast.literal_eval(done.stdout.splitlines()[-1]))
        assert modules.isdisjoint({"asyncio", "httpx", "aiohttp", "yaml", "rich", "structlog", "prometheus_client"})

    def test_every_state_has_its_own_word(self) -> None:
        """Each word of `--only` selects its state; overdue selects missing, too."""
        for state, meant in arguments.STATES_BY_WORD.items():
            assert meant == ({State.OVERDUE, State.MISSING} if state == "overdue" else {State(state)})


class TestDemo:
    @pytest.mark.parametrize(
        "words", [["once"], ["check"], ["check", "--format=json"], ["show", "441000000"], ["check-config"]]
    )
    def test_every_command(self, words: list[str]) -> None:
        """Every command can be tried without a token, and says nothing on stderr."""
        done = command(*words, "--demo", at=MONDAY)
        assert done.code == (1 if words[0] == "check" else 0)
        assert done.out
        assert done.err == ""

    @pytest.mark.parametrize("words", [["once"], ["check"], ["show", "1"], ["check-config"], ["serve"]])
    def test_not_with_a_configuration(self, words: list[str]) -> None:
        """`--demo` together with a configuration is an error."""
        done = command(*words, "--demo", "--config.file=x.yaml", at=MONDAY)
        assert (done.code, done.out) == (2, "")
        assert "leave out --demo or --config.file" in done.err

    def test_its_speed_alone(self) -> None:
        """A speed without `--demo` is an error."""
        done = command("check", "--demo.speed=288", at=MONDAY, DIGITALOCEAN_TOKEN="t")
        assert (done.code, done.out) == (2, "")
        assert "--demo.speed is only for the demo; add --demo" in done.err


class TestErrors:
    @pytest.mark.parametrize("words", [["once"], ["check"], ["show", "1"], ["check-config"]])
    def test_no_token(self, words: list[str]) -> None:
        """Without a token one line says how to give one, and how to do without."""
        done = command(*words, at=MONDAY)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert "DIGITALOCEAN_ACCESS_TOKEN" in done.err

    @pytest.mark.parametrize(
        ("words", "told"),
        [
            (["chekc"], 'unknown command "chekc"; did you mean check? (see digitalocean-backup-exporter --help)'),
            (["--demo", "xyz"], 'unknown command "xyz"; the commands are serve, once, check, show, check-config'),
            (["check", "--foo"], "unrecognized --foo (see digitalocean-backup-exporter check --help)"),
            (["--foo", "check"], "unrecognized --foo (see digitalocean-backup-exporter serve --help)"),
            (["check", "--acount=a"], "unrecognized --acount=a; did you mean --account? (see"),
            (
                ["--web.listen-adress", ":1"],
                "unrecognized --web.listen-adress; did you mean --web.listen-address? (see",
            ),
            (["check", "--format"], "--format: expected one argument (see digitalocean-backup-exporter check --help)"),
            (["check", "--only=\x1b[31mred"], r'"\x1b[31mred" is not a state; write one of missing, overdue'),
            (["show"], "required: DROPLET (see digitalocean-backup-exporter show --help)"),
        ],
    )
    def test_mistyped(self, words: list[str], told: str) -> None:
        """A mistyped flag or command is an error of one line that names the help."""
        done = command(*words, at=MONDAY)
        assert (done.code, done.out) == (2, "")
        assert len(done.err.splitlines()) == 1
        assert told in done.err

    @pytest.mark.parametrize("path", ["metrics", "", "/-/healthy", "/a/../b", "/.", "//m", "/m?x=1", "/m%20x", "/{m}"])
    def test_an_impossible_path(self, path: str) -> None:
        """A path for metrics that no client sends, or that is taken, is an error."""
        done = command("serve", f"--web.telemetry-path={path}", at=MONDAY)
        assert done.code == 2
        assert "is not a path for metrics; write it like /metrics" in done.err

    @pytest.mark.parametrize("path", ["/", "/metrics", "/a-b/c_d.e", "/metrics/"])
    def test_a_path(self, path: str) -> None:
        """Any other path will do."""
        options = arguments.parse(["serve", "--web.telemetry-path", path])
        assert isinstance(options, ServeOptions)
        assert options.telemetry_path == path

    def test_the_version_beside_other_flags(self) -> None:
        """--version and --help are answered wherever they stand."""
        assert command("--web.listen-address", ":1", "--version", at=MONDAY).out.startswith(NAME)
        assert command("--demo", "--help", at=MONDAY).out.startswith("usage: ")

    def test_a_bug_is_no_verdict(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """An error of our own is exit code 2: Python's 1 would say that a backup is missing."""

        def broken(*_: object) -> int:
            raise ZeroDivisionError

        monkeypatch.setattr("exporter.cli.check.check", broken)
        done = command("check", "--demo", at=MONDAY)
        assert done.code == 2
        assert "ZeroDivisionError" in done.err
        assert done.err.endswith("this is a bug, please report it with the lines above\n")

    def test_logs_where_asked(self) -> None:
        """What is logged, by the level and format asked for, goes to stderr."""
        done = command("check", "--demo", "--log.level=info", "--log.format=logfmt", at=MONDAY)
        assert 'event="poll finished"' in done.err
        assert "event=" not in done.out


@pytest.mark.slow  # a shell and the exporter each time
class TestPipes:
    @pytest.mark.parametrize("unbuffered", ["", "1"])
    @pytest.mark.parametrize("words", [["once"], ["once", "--output=/dev/stdout"]])
    def test_a_reader_that_has_seen_enough(self, words: list[str], unbuffered: str) -> None:
        """A broken pipe ends it at once and in silence."""
        reading, writing = os.pipe()
        fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096)
        process = subprocess.Popen(
            [*COMMAND, *words, "--demo"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
        )
        os.close(writing)
        assert os.read(reading, 100).startswith(b"# HELP")
        os.close(reading)
        assert process.communicate(timeout=30)[1] == b""
        assert process.returncode == 141

    def test_a_reader_that_has_gone(self) -> None:
        """A pipe that was never read, and fails only at the end, is handled in the same way."""
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run(
            [*COMMAND, "check-config", "--demo"],
            stdout=writing,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONUNBUFFERED": ""},
            check=False,
        )
        os.close(writing)
        assert (done.returncode, done.stderr) == (141, b"")

    def test_a_full_disk(self) -> None:
        """A result that cannot be written is an error of one line, exit code 2."""
        with Path("/dev/full").open("wb") as full:
            done = subprocess.run(
                [*COMMAND, "check-config", "--demo"],
                stdout=full,
                stderr=subprocess.PIPE,
                env={**os.environ, "PYTHONUNBUFFERED": ""},
                text=True,
                check=False,
            )
        assert done.returncode == 2
        assert done.stderr == (
            "digitalocean-backup-exporter: the result cannot be written to stdout: No space left on device; "
            "make space there\n"
        )

    def test_no_stdout(self) -> None:
        """If stdout is closed, the error says so."""
        done = subprocess.run(
            ["/bin/sh", "-c", f"exec {sys.executable} -m exporter check-config --demo >&-"],
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
        assert done.returncode == 2
        assert "stdout is closed" in done.stderr

    @pytest.mark.parametrize("stderr", ["2>&-", "2>/dev/full", "2>&1 >/dev/null | true"])
    def test_no_stderr(self, stderr: str) -> None:
        """A stderr that is closed, full or unread changes neither the exit code nor stdout."""
        for words, code in ((["check", "--demo", "--log.level=info"], 1), (["check"], 2), (["check", "--foo"], 2)):
            line = f"{sys.executable} -m exporter {' '.join(words)}"
            done = subprocess.run(
                ["/bin/sh", "-c", f"{{ {{ {line}; echo $? >&3; }} {stderr}; }} 3>&1"],
                stdout=subprocess.PIPE,
                text=True,
                check=False,
                env=own_environment(),
            )
            *out, told = done.stdout.splitlines()
            assert told == str(code)
            assert [line for line in out if "event=" in line or NAME in line] == []

    def test_an_encoding_without_the_letters(self) -> None:
        """Letters that the output's encoding lacks are replaced; JSON is always UTF-8."""
        done = subprocess.run(
            [*COMMAND, "check", "--demo"],
            capture_output=True,
            env={**os.environ, "PYTHONIOENCODING": "ascii"},
            check=False,
        )
        assert done.returncode == 1
        assert '???? "r?sum?"' in done.stdout.decode("ascii")
        assert done.stderr == b""


class Terminal:
    """A command on a terminal, and what it writes there."""

    def __init__(self, *arguments: str, columns: int = 100, stdout: BinaryIO | None = None, **environment: str) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self.process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=slave,
            stdout=stdout or slave,
            stderr=slave,
            start_new_session=True,
            # What a shell starts in the background ignores SIGINT, and so would all that is started by it.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            env={**own_environment(), "TERM": "xterm-256color", **environment},
        )
        os.close(slave)
        self.shown = ""

    def read(self, until: str | None = None, timeout: float = 60) -> str:
        """What was written up to some text, or to the end."""
        end = time.monotonic() + timeout
        while until is None or until not in self.shown:
            if not select.select([self._master], [], [], max(0.0, end - time.monotonic()))[0]:
                raise AssertionError(f"no {until!r} in {self.shown!r}")
            try:
                new = os.read(self._master, 65536)
            except OSError:  # Linux's way of saying that the other side is closed
                break
            self.shown += new.decode(errors="replace")
        return self.shown

    def close(self) -> int:
        code = self.process.wait(30)
        os.close(self._master)
        return code


def plain(shown: str) -> list[str]:
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown).replace("\r", "").split("\n")]


@pytest.mark.slow  # a terminal and the exporter each time
class TestTerminals:
    def test_check(self) -> None:
        """A terminal shows a progress bar during the poll, and then only a coloured table that fits its width."""
        terminal = Terminal("check", "--demo", columns=90)
        shown = terminal.read()
        assert terminal.close() == 1
        bar, table = shown.split("STATE", 1)
        assert "listing droplets and policies" in bar
        assert not re.search("listing|reading|0:0", bar.rsplit("\x1b[2K", 1)[1])
        assert "\x1b[1;31mmissing" in table
        assert "\x1b[32mprotected" in table
        lines = plain("STATE" + table)
        assert max(map(len, lines)) <= 90
        assert "7 of 39 droplets need attention" in "".join(lines)

    def test_narrow(self) -> None:
        """A terminal too narrow for a table gets a list."""
        terminal = Terminal("check", "--demo", "--only=missing", columns=40)
        lines = plain(terminal.read().split("\x1b[2K")[-1])
        terminal.close()
        assert any(re.fullmatch(r"missing \d+ warehouse", line) for line in lines)
        assert max(map(len, lines)) <= 40

    def test_a_narrow_card(self) -> None:
        """Of a Droplet's backups a narrow terminal shows whole columns, those that matter most."""
        terminal = Terminal("show", "441000289", "--demo", columns=40)
        shown = "\n".join(plain(terminal.read().split("\x1b[2K")[-1]))
        assert terminal.close() == 0
        assert re.search(r"^  CREATED \(UTC\) +AGE +SIZE\n  \S{10} \S{8} +\d+ d +\d+\.\d GiB$", shown, re.MULTILINE)

    def test_a_droplet_takes_long(self) -> None:
        """Asking for one Droplet shows a bar, too."""
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
            terminal = Terminal("show", "1", DIGITALOCEAN_TOKEN="t", DIGITALOCEAN_API_URL=url)
            terminal.read(until="asking for the droplet")
            terminal.process.send_signal(signal.SIGINT)
            shown = terminal.read()
            assert terminal.close() == 130
        assert "Traceback" not in shown

    def test_no_color(self) -> None:
        """With NO_COLOR set, the result has no escape sequences."""
        terminal = Terminal("show", "441000289", "--demo", NO_COLOR="1")
        shown = terminal.read().split("\x1b[2K")[-1]
        assert terminal.close() == 0
        assert "\x1b" not in shown
        assert "warehouse (441000289)" in shown

    def test_dumb(self) -> None:
        """A dumb terminal gets neither a bar nor colours."""
        terminal = Terminal("check", "--demo", "--only=missing", TERM="dumb")
        shown = terminal.read()
        terminal.close()
        assert "\x1b" not in shown
        assert "listing" not in shown

    @pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_interrupt(self, number: signal.Signals, code: int) -> None:
        """Ctrl-C and SIGTERM end it in silence, the bar taken away and the cursor shown again."""
        with socket.create_server(("127.0.0.1", 0)) as hanging:
            url = f"http://127.0.0.1:{hanging.getsockname()[1]}"
            terminal = Terminal("check", DIGITALOCEAN_TOKEN="t", DIGITALOCEAN_API_URL=url)
            terminal.read(until="listing droplets")
            terminal.process.send_signal(number)
            shown = terminal.read()
            assert terminal.close() == code, shown
        assert "Traceback" not in shown
        assert shown.rindex("\x1b[?25h") > shown.rindex("\x1b[?25l")
        assert plain(shown)[-1] == ""

    def test_a_result_that_goes_elsewhere(self, tmp_path: Path) -> None:
        """The bar is on stderr; a result that does not go to the terminal is plain."""
        with (tmp_path / "result").open("wb") as result:
            terminal = Terminal("check", "--demo", stdout=result)
            shown = terminal.read()
            assert terminal.close() == 1
        text = (tmp_path / "result").read_text()
        assert "listing droplets" in shown
        assert "STATE" not in shown
        assert text.startswith("STATE ")
        assert "\x1b" not in text
