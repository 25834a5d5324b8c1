"""The commands, their flags and their help. `parse` turns a command line into one of the `Options`.

Nothing slow is imported here, so that `--help` answers at once.
"""

from __future__ import annotations

import argparse
import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NoReturn

from exporter import NAME, __version__
from exporter.cli.options import (
    CheckConfigOptions,
    CheckOptions,
    ConfigurationSource,
    LogOptions,
    OnceOptions,
    Options,
    ServeOptions,
    ShowOptions,
)
from exporter.console import print_error
from exporter.fleet.state import State

DESCRIPTION = "Prometheus exporter for the backups of DigitalOcean Droplets."
ENVIRONMENT = """\
environment, used if there is no --config.file:
  DIGITALOCEAN_ACCESS_TOKEN, DIGITALOCEAN_TOKEN   the API token
  DIGITALOCEAN_TOKEN_FILE                         a file with the API token
  DIGITALOCEAN_API_URL                            the API (default https://api.digitalocean.com)
"""
GENERAL = f"""\
examples:
  {NAME} serve --demo     a made-up fleet, to try it without a token
  {NAME} check            are my backups all right?
  {NAME} COMMAND --help   the command's flags, examples and exit codes

{ENVIRONMENT}"""
SERVE = f"""\
examples:
  {NAME} --demo --demo.speed 288
  {NAME} --config.file config.yaml --web.listen-address 127.0.0.1:9819
  {NAME} --config.file config.yaml --web.config.file web.yaml

signals: SIGHUP reads the configuration again; SIGTERM and SIGINT stop the exporter.

exit codes: 0 stopped; 2 could not start

{ENVIRONMENT}"""
ONCE = f"""\
The exporter's own counters, histograms and poll interval are left out, because they mean nothing in a file.

examples:
  {NAME} once --demo
  {NAME} once --output /var/lib/prometheus/node-exporter/digitalocean_backup.prom

exit codes: 0 written; 1 written, but the poll learned only a part; 2 not written, because the poll learned nothing or
  FILE cannot be written: FILE is unchanged

{ENVIRONMENT}"""
_BAD = " or ".join(", ".join(state.words for state in State if state.is_bad).rsplit(", ", 1))
CHECK = f"""\
With --only, the table and the exit code are only about the Droplets in those states. On a terminal, columns that do
not fit are left out, and colours are used unless NO_COLOR is set. In a pipe, the table has all columns and no colours.

examples:
  {NAME} check --demo
  {NAME} check --only overdue,unprotected
  {NAME} check --tag env:prod --tag env:stage
  {NAME} check --format json | jq '.droplets[] | select(.state == "overdue") | .name'

exit codes: 0 nothing is wrong; 1 a Droplet is {_BAD}; else 2 if a Droplet
  could not be judged, a listing was not complete or not understood, or there was no Droplet

{ENVIRONMENT}"""
SHOW = f"""\
Asks the API about this one Droplet: four requests to an account that has it, however large the fleet is. If you give
its name, all Droplets are listed first. If the API does not answer, the Droplet is shown as the state file has it.
Local times are those of the time zone TZ. NO_COLOR turns colours off.

examples:
  {NAME} show 441000000 --demo
  {NAME} show warehouse --demo
  {NAME} show 441000000 --format json | jq '.droplets[].backups[].created_at'

exit codes: 0 shown; 1 shown, but a part could not be read; 2 not shown: no account has it, several Droplets have the
  name, or no account could be asked

{ENVIRONMENT}"""
CHECK_CONFIG = f"""\
examples:
  {NAME} check-config
  {NAME} check-config --config.file config.yaml --web.config.file web.yaml

exit codes: 0 no mistakes; 2 mistakes

{ENVIRONMENT}"""

DEFAULT_COMMAND = "serve"
DEFAULT_ADDRESS = ("", 9819)
CANNOT_START = 2
"""Exit code when a command did not run: wrong flags, a wrong configuration, or a bug."""

STATES_BY_WORD = {
    # The metric `digitalocean_backup_overdue` is 1 for two missed windows too.
    state.value: frozenset({State.MISSING, state}) if state is State.OVERDUE else frozenset({state})
    for state in State
}
"""The words that `--only` accepts, and the states that each selects."""


def parse(argv: Sequence[str]) -> Options:
    """The options that the user typed. Exits after `--help` and `--version`, and with 2 if a flag is wrong."""
    arguments = list(argv)
    parser, commands = _parsers()
    given = parser.parse_args(_command_first(arguments, parser, commands))
    make: Callable[[argparse.Namespace], Options] = given.options
    return make(given)


def _parsers() -> tuple[_Parser, dict[str, _Parser]]:
    """The parser of the whole command line, and that of each command."""
    parser = _Parser(prog=NAME, usage=f"{NAME} [COMMAND] [FLAGS]", description=DESCRIPTION, epilog=GENERAL)
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    # The words in brackets make the column wide enough for check-config.
    commands = parser.add_subparsers(title="commands", metavar="COMMAND [FLAGS]", prog=NAME, parser_class=_Parser)

    serve = commands.add_parser(
        "serve",
        usage=f"{NAME} serve [FLAGS]",
        help="poll and serve /metrics until stopped (the default)",
        description="Polls and serves /metrics until stopped.",
        epilog=SERVE,
    )
    _add_config_flag(serve)
    _add_logging_flags(serve, level="info", styles=("logfmt", "json"))
    _add_demo_flags(serve)
    where = serve.add_mutually_exclusive_group()
    where.add_argument(
        "--web.listen-address",
        dest="addresses",
        metavar="HOST:PORT",
        action="append",
        type=_address_type,
        help="address to listen on; may be given several times (default :9819)",
    )
    where.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd opened for the exporter",
    )
    serve.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        default="/metrics",
        type=_path_type,
        help="path of the metrics (default /metrics)",
    )
    _add_web_config_flag(serve)
    serve.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="let POST /-/reload read the configuration again",
    )
    serve.set_defaults(options=_serve_options)

    once = commands.add_parser(
        "once",
        usage=f"{NAME} once [FLAGS]",
        help="one poll, the metrics to stdout or a file",
        description="One poll, the metrics to stdout or a file.",
        epilog=ONCE,
    )
    _add_one_poll_flags(once)
    once.add_argument(
        "--output",
        metavar="FILE",
        type=lambda text: None if text == "-" else _file_type(text),
        help="for node_exporter's textfile collector: written whole or not at all; - is stdout",
    )
    once.set_defaults(options=_once_options)

    check = commands.add_parser(
        "check",
        usage=f"{NAME} check [FLAGS]",
        help="one poll, then every Droplet with its verdict, the worst first",
        description="One poll, then every Droplet with its verdict, the worst first. The exit code is the verdict.",
        epilog=CHECK,
    )
    _add_one_poll_flags(check)
    _add_account_flag(check)
    check.add_argument(
        "--tag",
        dest="tags",
        metavar="TAG",
        action="append",
        default=[],
        help="only Droplets with this tag; if given several times, Droplets with any of the tags",
    )
    check.add_argument(
        "--only",
        metavar="STATE[,...]",
        action="extend",
        type=_states_type,
        default=[],
        help=f"only Droplets in these states: {', '.join(State)}; overdue includes missing",
    )
    _add_format_flag(check)
    check.set_defaults(options=_check_options)

    show = commands.add_parser(
        "show",
        usage=f"{NAME} show DROPLET [FLAGS]",
        help="one Droplet: its policy, next window, backups and verdict",
        description="One Droplet: its policy, its next window, its backups on a line through the retention period, "
        "the verdict.",
        epilog=SHOW,
    )
    show.add_argument(
        "droplet", metavar="DROPLET", type=_droplet_type, help="the Droplet's id, as check shows it, or its exact name"
    )
    _add_one_poll_flags(show)
    _add_account_flag(show)
    _add_format_flag(show)
    show.set_defaults(options=_show_options)

    check_config = commands.add_parser(
        "check-config",
        usage=f"{NAME} check-config [FLAGS]",
        help="read configuration and secrets, say what is wrong",
        description="Reads configuration and secrets as serve would and says what is wrong. Sends no request.",
        epilog=CHECK_CONFIG,
    )
    _add_config_flag(check_config)
    _add_logging_flags(check_config, level="warn", styles=("logfmt", "json"))
    _add_demo_flags(check_config)
    _add_web_config_flag(check_config)
    check_config.set_defaults(options=_check_config_options)
    return parser, dict(commands.choices)


class _Parser(argparse.ArgumentParser):
    """Reports mistakes in one line, with the flag or command that was probably meant."""

    def __init__(self, **given: Any) -> None:
        super().__init__(
            formatter_class=lambda prog: _Formatter(prog, max_help_position=30), allow_abbrev=False, **given
        )

    @property
    def flags(self) -> dict[str, argparse.Action]:
        return self._option_string_actions

    def error(self, message: str) -> NoReturn:
        """Prints the message in one line and exits. argparse would print the whole usage first and hide the message."""
        print_error(f"{message} (see {self.prog} --help)")
        self.exit(CANNOT_START)

    def refuse(self, unknown: Sequence[str], flags: Iterable[str]) -> NoReturn:
        """Reports words that are not flags, with a similar flag if there is one, and exits."""
        near = get_close_matches(unknown[0].partition("=")[0], flags, 1, cutoff=0.8)
        self.error(f"unrecognized {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses, and reports unknown words here, so that the message names the command and not the whole program."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown, self.flags)
        return options, unknown


class _Formatter(argparse.HelpFormatter):
    """Wraps sentences at the terminal's width, or at COLUMNS. An example stays on one line, to be copied."""

    def _fill_text(self, text: str, width: int, indent: str) -> str:
        paragraphs = ["\n".join(self._paragraph(lines, width)) for lines in text.strip().split("\n\n")]
        return textwrap.indent("\n\n".join(paragraphs), indent) + "\n"

    def _paragraph(self, text: str, width: int) -> Iterator[str]:
        first, *others = text.splitlines()
        if not first.endswith(":"):
            yield from textwrap.wrap(" ".join(text.split()), width, subsequent_indent="  " * ("codes: " in first))
            return
        yield first
        for line in others:
            yield from self._definition(line, width)

    @staticmethod
    def _definition(line: str, width: int) -> Iterator[str]:
        """A line with a word or a command, then spaces, then what it means; wrapped if it is too long."""
        match = re.fullmatch(r"(  \S.*?) {3,}(\S.*)", line)
        if match is None or len(line) <= width:
            yield line
            return
        yield match[1]
        yield from textwrap.wrap(match[2], width, initial_indent="      ", subsequent_indent="      ")


def _add_one_poll_flags(parser: argparse.ArgumentParser) -> None:
    _add_config_flag(parser)
    # A person at a terminal reads these logs: sentences, and only if something is wrong.
    _add_logging_flags(parser, level="warn", styles=("sentences", "logfmt", "json"))
    _add_demo_flags(parser)


def _add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument("--config.file", dest="config", metavar="FILE", type=_file_type, help="configuration (YAML)")


def _add_logging_flags(parser: argparse.ArgumentParser, *, level: str, styles: tuple[str, ...]) -> None:
    parser.add_argument(
        "--log.level",
        dest="log_level",
        default=level,
        choices=("debug", "info", "warn", "error"),
        help=f"log events of this level and above to stderr (default {level})",
    )
    parser.add_argument(
        "--log.format",
        dest="log_format",
        default=styles[0],
        choices=styles,
        help=f"format of the log (default {styles[0]})",
    )


def _add_demo_flags(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--demo", action="store_true", help="a made-up account served on loopback: no token, no network"
    )
    parser.add_argument(
        "--demo.speed",
        dest="speed",
        metavar="N",
        type=_speed_type,
        help="how many times faster than real time the demo's time passes (default 1); 288: a day takes five minutes",
    )


def _add_account_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--account",
        dest="accounts",
        metavar="NAME",
        action="append",
        default=[],
        help="only this account; may be given several times (default: all accounts)",
    )


def _add_format_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--format", choices=("table", "json"), default="table", help="format of the result (default table)"
    )


def _add_web_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        type=lambda text: _file_type(text) if text else None,
        help="TLS, users and headers, in the format of Prometheus's exporters",
    )


def _command_first(arguments: list[str], parser: _Parser, commands: dict[str, _Parser]) -> list[str]:
    """The arguments with the command moved to the front, and with `serve` if there is no command.

    argparse itself does not accept a command's flags before the command.
    """
    flags = {flag: action for command in commands.values() for flag, action in command.flags.items()}
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word in commands:
            return [word, *arguments[:place], *arguments[place + 1 :]]
        if word in parser.flags:  # --help and --version, which need no command
            return [word]
        if not word.startswith("-"):
            near = get_close_matches(word, commands, 1)
            meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}"
            parser.error(f'unknown command "{word}"; {meant}')
        flag, equals, _ = word.partition("=")
        if flag not in flags:  # it is not known whether the next word is its value
            commands[DEFAULT_COMMAND].refuse([word], flags)
        place += 1 if equals or flags[flag].nargs == 0 else 2
    return [DEFAULT_COMMAND, *arguments]


# From argparse's namespace to options


def _logging_options(given: argparse.Namespace) -> LogOptions:
    return LogOptions(given.log_level, given.log_format)


def _source(given: argparse.Namespace) -> ConfigurationSource:
    command: _Parser = given.parser
    if given.demo and given.config:
        command.error("--demo has an account of its own; leave out --demo or --config.file")
    if given.speed is not None and not given.demo:
        command.error("--demo.speed is only for the demo; add --demo, or leave out --demo.speed")
    return ConfigurationSource(given.config, given.demo, given.speed or 1.0)


def _serve_options(given: argparse.Namespace) -> ServeOptions:
    return ServeOptions(
        _logging_options(given),
        _source(given),
        tuple(given.addresses or [DEFAULT_ADDRESS]),
        given.systemd_socket,
        given.telemetry_path,
        given.web_config,
        given.lifecycle,
    )


def _once_options(given: argparse.Namespace) -> OnceOptions:
    return OnceOptions(_logging_options(given), _source(given), given.output)


def _check_options(given: argparse.Namespace) -> CheckOptions:
    return CheckOptions(
        _logging_options(given),
        _source(given),
        tuple(given.accounts),
        tuple(given.tags),
        frozenset(given.only or State),
        given.format == "json",
    )


def _show_options(given: argparse.Namespace) -> ShowOptions:
    return ShowOptions(
        _logging_options(given), _source(given), given.droplet, tuple(given.accounts), given.format == "json"
    )


def _check_config_options(given: argparse.Namespace) -> CheckConfigOptions:
    return CheckConfigOptions(_logging_options(given), _source(given), given.web_config)


# The types of the flags' values. Each raises `ArgumentTypeError` with what to write instead.


def _address_type(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(
            f'"{text}" is not an address; write it like :9819, 127.0.0.1:9819 or [::1]:9819'
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _path_type(text: str) -> str:
    # Clients resolve dots and cut off a query, so no request would ever have such a path.
    if text != "/" and not re.fullmatch(r"(?!/-/)(/(?!\.\.?(/|$))[\w.~-]+)+/?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f'"{text}" is not a path for metrics; write it like /metrics')
    return text


def _file_type(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f'"{text}" is not the name of a file; write a path')
    if text.startswith("~"):
        raise argparse.ArgumentTypeError(
            f'"{text}" begins with ~, which the shell expands only at the beginning of a word; write the whole path'
        )
    return Path(text)


def _speed_type(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 100_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a speed; write a number from 1 to 100000')
    return speed


def _droplet_type(text: str) -> int | str:
    if not (text.isascii() and text.isdecimal()):
        from exporter.config.tokens import looks_like_token

        if text.strip() and not looks_like_token(text):
            return text
        raise argparse.ArgumentTypeError(f'"{text}" is not a Droplet; write its id, as check shows it, or its name')
    if 0 < int(text[:20]) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f'"{text}" is not the id of a Droplet; write its number, as check shows it')


def _states_type(text: str) -> Iterable[State]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = next((word for word in words if word not in STATES_BY_WORD), None)
    if unknown is not None or not words:
        raise argparse.ArgumentTypeError(f'"{unknown or text}" is not a state; write one of {", ".join(State)}')
    return [state for word in words for state in STATES_BY_WORD[word]]
