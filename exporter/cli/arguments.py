"""The commands and their flags: what is typed becomes one of the `Options`.

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
    Logging,
    OnceOptions,
    Options,
    ServeOptions,
    ShowOptions,
    Source,
)
from exporter.console import print_error
from exporter.fleet.state import State

DESCRIPTION = "Prometheus exporter for the backups of DigitalOcean Droplets."
ENVIRONMENT = """\
environment, where no --config.file is given:
  DIGITALOCEAN_ACCESS_TOKEN, DIGITALOCEAN_TOKEN   the API token
  DIGITALOCEAN_TOKEN_FILE                         the file that holds it
  DIGITALOCEAN_API_URL                            default https://api.digitalocean.com
"""
GENERAL = f"""\
examples:
  {NAME} serve --demo     a made-up fleet, to look around without a token
  {NAME} check            are my backups all right?
  {NAME} COMMAND --help   the command's flags, examples and exit codes

{ENVIRONMENT}"""
SERVE = f"""\
examples:
  {NAME} --demo --demo.speed 288
  {NAME} --config.file config.yaml --web.listen-address 127.0.0.1:9819
  {NAME} --config.file config.yaml --web.config.file web.yaml

signals: SIGHUP reads the configuration anew; SIGTERM and SIGINT stop.

exit codes: 0 stopped; 2 could not start

{ENVIRONMENT}"""
ONCE = f"""\
The exporter's own counters, histograms and configured interval are left out: they would mean nothing in a file.

examples:
  {NAME} once --demo
  {NAME} once --output /var/lib/prometheus/node-exporter/digitalocean_backup.prom

exit codes: 0 written; 1 written, but the poll learned only part; 2 the poll learned nothing, or FILE cannot be
  written, and FILE is as it was

{ENVIRONMENT}"""
_BAD = " or ".join(", ".join(state.words for state in State if state.is_bad).rsplit(", ", 1))
CHECK = f"""\
With --only, the table and the exit code are about the Droplets in those states alone. On a terminal the table leaves
out what does not fit, and is in colour unless NO_COLOR is set; in a pipe, and as JSON, it is whole and plain.

examples:
  {NAME} check --demo
  {NAME} check --only overdue,unprotected
  {NAME} check --tag env:prod --tag env:stage
  {NAME} check --format json | jq '.droplets[] | select(.state == "overdue") | .name'

exit codes: 0 nothing is wrong; 1 some Droplet is {_BAD}; else 2 if some could not
  be judged, if a listing was not complete, or if there was no Droplet to look at

{ENVIRONMENT}"""
SHOW = f"""\
Asks for this one Droplet alone: four requests to an account that has it, whatever the size of the fleet. By its name,
the Droplets are listed first. While the API cannot be asked, what the state file knows is shown. Local time is that of
TZ; NO_COLOR is respected.

examples:
  {NAME} show 441000000 --demo
  {NAME} show warehouse --demo
  {NAME} show 441000000 --format json | jq '.droplets[].backups[].created_at'

exit codes: 0 shown; 1 shown, but something of it could not be read; 2 no account has it,
  several have the name, or none could be asked

{ENVIRONMENT}"""
CHECK_CONFIG = f"""\
examples:
  {NAME} check-config
  {NAME} check-config --config.file config.yaml --web.config.file web.yaml

exit codes: 0 good; 2 something is wrong

{ENVIRONMENT}"""

DEFAULT_COMMAND = "serve"
DEFAULT_ADDRESS = ("", 9819)
CANNOT_START = 2
"""Exit code."""

ONLY = {
    # The metric `digitalocean_backup_overdue` is 1 for two missed windows too.
    state.value: frozenset({State.MISSING, state}) if state is State.OVERDUE else frozenset({state})
    for state in State
}
"""The words that `--only` takes, and the states that each means."""


def parse(argv: Sequence[str]) -> Options:
    """What the user asked for. Exits after `--help` and `--version`, and with 2 if a flag is wrong."""
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
    _configuration(serve)
    _logging(serve, level="info", styles=("logfmt", "json"))
    _demo(serve)
    where = serve.add_mutually_exclusive_group()
    where.add_argument(
        "--web.listen-address",
        dest="addresses",
        metavar="HOST:PORT",
        action="append",
        type=_address,
        help="where to listen; may be given several times (default :9819)",
    )
    where.add_argument(
        "--web.systemd-socket",
        dest="systemd_socket",
        action="store_true",
        help="listen on the sockets that systemd hands over",
    )
    serve.add_argument(
        "--web.telemetry-path",
        dest="telemetry_path",
        metavar="PATH",
        default="/metrics",
        type=_path,
        help="where the metrics are (default /metrics)",
    )
    _web_config(serve)
    serve.add_argument(
        "--web.enable-lifecycle",
        dest="lifecycle",
        action="store_true",
        help="let POST /-/reload read the configuration anew",
    )
    serve.set_defaults(options=_serve_options)

    once = commands.add_parser(
        "once",
        usage=f"{NAME} once [FLAGS]",
        help="one poll, the metrics to stdout or a file",
        description="One poll, the metrics to stdout or a file.",
        epilog=ONCE,
    )
    _one_poll(once)
    once.add_argument(
        "--output",
        metavar="FILE",
        type=lambda text: None if text == "-" else _file(text),
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
    _one_poll(check)
    _accounts(check)
    check.add_argument(
        "--tag",
        dest="tags",
        metavar="TAG",
        action="append",
        default=[],
        help="look at Droplets with this tag alone; may be given several times, and then any will do",
    )
    check.add_argument(
        "--only",
        metavar="STATE[,...]",
        action="extend",
        type=_states,
        default=[],
        help=f"show Droplets in these states alone: {', '.join(State)}; overdue includes missing",
    )
    _format(check)
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
        "droplet", metavar="DROPLET", type=_droplet, help="the Droplet's id, as check shows it, or its exact name"
    )
    _one_poll(show)
    _accounts(show)
    _format(show)
    show.set_defaults(options=_show_options)

    check_config = commands.add_parser(
        "check-config",
        usage=f"{NAME} check-config [FLAGS]",
        help="read configuration and secrets, say what is wrong",
        description="Reads configuration and secrets as serve would and says what is wrong with them. Contacts nobody.",
        epilog=CHECK_CONFIG,
    )
    _configuration(check_config)
    _logging(check_config, level="warn", styles=("logfmt", "json"))
    _demo(check_config)
    _web_config(check_config)
    check_config.set_defaults(options=_check_config_options)
    return parser, dict(commands.choices)


class _Parser(argparse.ArgumentParser):
    def __init__(self, **given: Any) -> None:
        super().__init__(
            formatter_class=lambda prog: _Formatter(prog, max_help_position=30), allow_abbrev=False, **given
        )

    @property
    def flags(self) -> dict[str, argparse.Action]:
        return self._option_string_actions

    def error(self, message: str) -> NoReturn:
        """One line. argparse would print the whole usage above it, and the message is easily overlooked there."""
        print_error(f"{message} (see {self.prog} --help)")
        self.exit(CANNOT_START)

    def refuse(self, unknown: Sequence[str], flags: Iterable[str]) -> NoReturn:
        """Reports words that are no flags, with the flag that was meant, if one is near."""
        near = get_close_matches(unknown[0].partition("=")[0], flags, 1, cutoff=0.8)
        self.error(f"unrecognized {' '.join(unknown)}" + (f"; did you mean {near[0]}?" if near else ""))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Reports unknown words here, so that the message names the command and not the whole program."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.refuse(unknown, self.flags)
        return options, unknown


class _Formatter(argparse.HelpFormatter):
    """Wraps prose at the terminal's width, or at COLUMNS. Commands stay on their lines, so that they can be copied."""

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
        """A word or a command, and after a gap what it means."""
        match = re.fullmatch(r"(  \S.*?) {3,}(\S.*)", line)
        if match is None or len(line) <= width:
            yield line
            return
        yield match[1]
        yield from textwrap.wrap(match[2], width, initial_indent="      ", subsequent_indent="      ")


def _one_poll(parser: argparse.ArgumentParser) -> None:
    _configuration(parser)
    # Sentences, because a person at a terminal reads them; quiet unless something is wrong.
    _logging(parser, level="warn", styles=("sentences", "logfmt", "json"))
    _demo(parser)


def _configuration(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(parser=parser)
    parser.add_argument("--config.file", dest="config", metavar="FILE", type=_file, help="configuration (YAML)")


def _logging(parser: argparse.ArgumentParser, *, level: str, styles: tuple[str, ...]) -> None:
    parser.add_argument(
        "--log.level",
        dest="log_level",
        default=level,
        choices=("debug", "info", "warn", "error"),
        help=f"what is logged to stderr (default {level})",
    )
    parser.add_argument(
        "--log.format", dest="log_format", default=styles[0], choices=styles, help=f"and how (default {styles[0]})"
    )


def _demo(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--demo", action="store_true", help="a made-up account served on loopback: no token, no network"
    )
    parser.add_argument(
        "--demo.speed",
        dest="speed",
        metavar="N",
        type=_speed,
        help="how many times faster than life the demo's time passes (default 1); 288 makes a day of five minutes",
    )


def _accounts(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--account",
        dest="accounts",
        metavar="NAME",
        action="append",
        default=[],
        help="ask this account alone; may be given several times (default all)",
    )


def _format(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--format", choices=("table", "json"), default="table", help="default table")


def _web_config(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--web.config.file",
        dest="web_config",
        metavar="FILE",
        type=lambda text: _file(text) if text else None,
        help="TLS, users and headers, in the format of Prometheus's exporters",
    )


def _command_first(arguments: list[str], parser: _Parser, commands: dict[str, _Parser]) -> list[str]:
    """The arguments with the command in front; flags may stand before it, and without a command it is `serve`."""
    flags = {flag: action for command in commands.values() for flag, action in command.flags.items()}
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word in commands:
            return [word, *arguments[:place], *arguments[place + 1 :]]
        if word in parser.flags:  # --help and --version, the flags of no command
            return [word]
        if not word.startswith("-"):
            near = get_close_matches(word, commands, 1)
            meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}"
            parser.error(f'unknown command "{word}"; {meant}')
        flag, equals, _ = word.partition("=")
        if flag not in flags:  # whether the next word is its value cannot be known
            commands[DEFAULT_COMMAND].refuse([word], flags)
        place += 1 if equals or flags[flag].nargs == 0 else 2
    return [DEFAULT_COMMAND, *arguments]


# What was parsed, as options


def _logging_of(given: argparse.Namespace) -> Logging:
    return Logging(given.log_level, given.log_format)


def _source_of(given: argparse.Namespace) -> Source:
    command: _Parser = given.parser
    if given.demo and given.config:
        command.error("--demo brings an account of its own; leave out --demo or --config.file")
    if given.speed is not None and not given.demo:
        command.error("--demo.speed is the demo's; add --demo, or leave it out")
    return Source(given.config, given.demo, given.speed or 1.0)


def _serve_options(given: argparse.Namespace) -> ServeOptions:
    return ServeOptions(
        _logging_of(given),
        _source_of(given),
        tuple(given.addresses or [DEFAULT_ADDRESS]),
        given.systemd_socket,
        given.telemetry_path,
        given.web_config,
        given.lifecycle,
    )


def _once_options(given: argparse.Namespace) -> OnceOptions:
    return OnceOptions(_logging_of(given), _source_of(given), given.output)


def _check_options(given: argparse.Namespace) -> CheckOptions:
    return CheckOptions(
        _logging_of(given),
        _source_of(given),
        tuple(given.accounts),
        tuple(given.tags),
        frozenset(given.only or State),
        given.format == "json",
    )


def _show_options(given: argparse.Namespace) -> ShowOptions:
    return ShowOptions(
        _logging_of(given), _source_of(given), given.droplet, tuple(given.accounts), given.format == "json"
    )


def _check_config_options(given: argparse.Namespace) -> CheckConfigOptions:
    return CheckConfigOptions(_logging_of(given), _source_of(given), given.web_config)


# The types of values. Each raises `ArgumentTypeError` with what to write instead.


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(
            f'"{text}" is not an address; write it like :9819, 127.0.0.1:9819 or [::1]:9819'
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _path(text: str) -> str:
    # Clients normalise dots and cut off a query, so such a path would never be asked for.
    if text != "/" and not re.fullmatch(r"(?!/-/)(/(?!\.\.?(/|$))[\w.~-]+)+/?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f'"{text}" is not a path of its own; write it like /metrics')
    return text


def _file(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f'"{text}" is not the name of a file')
    if text.startswith("~"):
        raise argparse.ArgumentTypeError(
            f'"{text}" begins with ~, which the shell expands only at the beginning of a word; write the whole path'
        )
    return Path(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 100_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a speed; write a number from 1 to 100000')
    return speed


def _droplet(text: str) -> int | str:
    if not (text.isascii() and text.isdecimal()):
        from exporter.config.tokens import looks_like_token

        if text.strip() and not looks_like_token(text):
            return text
        raise argparse.ArgumentTypeError(f'"{text}" is not a Droplet; write its id, as check shows it, or its name')
    if 0 < int(text[:20]) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f'"{text}" is not the id of a Droplet; write its number, as check shows it')


def _states(text: str) -> Iterable[State]:
    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = next((word for word in words if word not in ONLY), None)
    if unknown is not None or not words:
        raise argparse.ArgumentTypeError(f'"{unknown or text}" is not a state; write one of {", ".join(State)}')
    return [state for word in words for state in ONLY[word]]
