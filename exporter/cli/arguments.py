"""Commands and flags. What a command needs is imported when it runs, so that `--help` costs nothing."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from exporter import NAME, __version__
from exporter.console import detach, flush_stderr, print_error, print_text

if TYPE_CHECKING:
    from exporter.config.model import Config
    from exporter.web.settings import Settings

T = TypeVar("T")

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

exit codes: 0 written; 1 written, but the poll learned only part; 2 the poll learned nothing, or FILE cannot be written:
  then it is as it was

{ENVIRONMENT}"""
CHECK = f"""\
With --only, the table and the exit code are about the Droplets in those states alone. On a terminal the table leaves
out what does not fit, and is in colour unless NO_COLOR is set; in a pipe, and as JSON, it is whole and plain.

examples:
  {NAME} check --demo
  {NAME} check --only overdue,unprotected
  {NAME} check --tag env:prod --tag env:stage
  {NAME} check --format json | jq '.droplets[] | select(.state == "overdue") | .name'

exit codes: 0 all protected; 1 something overdue, never taken or unprotected; else 2 if something could not be judged,
  or not asked

{ENVIRONMENT}"""
SHOW = f"""\
Asks for this one Droplet alone: four requests to an account that has it, whatever the size of the fleet. Local time is
that of TZ; NO_COLOR is respected.

examples:
  {NAME} show 441000000 --demo
  {NAME} show 441000000 --format json | jq '.droplets[].backups[].created_at'

exit codes: 0 shown; 1 shown, but something of it could not be read; 2 no account has it, or none could be asked

{ENVIRONMENT}"""
CHECK_CONFIG = f"""\
examples:
  {NAME} check-config
  {NAME} check-config --config.file config.yaml --web.config.file web.yaml

exit codes: 0 good; 2 something is wrong

{ENVIRONMENT}"""

STATES = (
    "missing",
    "overdue",
    "never-taken",
    "unjudged",
    "unprotected",
    "waiting",
    "protected",
    "not-expected",
    "gone",
)
"""As in `reports.words`, which is too dear to import for a `--help`."""

NOTHING = 2
"""Exit code: could not start."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        options = _parser().parse_args(_with_command(arguments))
        run: Callable[[argparse.Namespace], int] = options.run
        return run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough.
        detach(sys.stdout)
        return 141
    except Exception:  # noqa: BLE001  # Python's own exit code for it is 1, which is a verdict here
        import traceback

        print_text(traceback.format_exc())
        print_error("this is a bug, please report it with the lines above")
        return NOTHING
    finally:
        flush_stderr()


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=NAME, usage=f"{NAME} [COMMAND] [FLAGS]", description=DESCRIPTION, epilog=GENERAL)
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    # The words in brackets make the column as wide as check-config needs it.
    commands = parser.add_subparsers(title="commands", metavar="COMMAND [FLAGS]", prog=NAME, parser_class=_Parser)

    serve = commands.add_parser(
        "serve",
        help="poll and serve /metrics until stopped (the default)",
        description="Polls and serves /metrics until stopped.",
        epilog=SERVE,
    )
    _configuration(serve)
    _logging(serve, level="info", styles=("logfmt", "json"))
    _demo(serve)
    serve.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="HOST:PORT",
        action="append",
        type=_address,
        help="where to listen; may be given several times (default :9819)",
    )
    serve.add_argument(
        "--web.telemetry-path",
        dest="path",
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
    serve.set_defaults(run=_serve)

    once = commands.add_parser(
        "once",
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
    once.set_defaults(run=partial(_poll_once, "once"))

    check = commands.add_parser(
        "check",
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
        help=f"show Droplets in these states alone: {', '.join(STATES)}; overdue includes missing",
    )
    _format(check)
    check.set_defaults(run=partial(_poll_once, "check"))

    show = commands.add_parser(
        "show",
        help="one Droplet: its policy, next window, backups and verdict",
        description="One Droplet: its policy, its next window, its backups on a line through the retention period, "
        "the verdict.",
        epilog=SHOW,
    )
    show.add_argument("droplet_id", metavar="DROPLET_ID", type=_droplet_id, help="the Droplet's number, as check shows")
    _one_poll(show)
    _accounts(show)
    _format(show)
    show.set_defaults(run=partial(_poll_once, "show"))

    check_config = commands.add_parser(
        "check-config",
        help="read configuration and secrets, say what is wrong",
        description="Reads configuration and secrets as serve would and says what is wrong with them. Contacts nobody.",
        epilog=CHECK_CONFIG,
    )
    _configuration(check_config)
    _logging(check_config, level="warn", styles=("logfmt", "json"))
    _demo(check_config)
    _web_config(check_config)
    check_config.set_defaults(run=_check_config)
    return parser


class _Parser(argparse.ArgumentParser):
    def __init__(self, **given: Any) -> None:
        super().__init__(
            formatter_class=lambda prog: argparse.RawDescriptionHelpFormatter(prog, max_help_position=30),
            allow_abbrev=False,
            **given,
        )

    def error(self, message: str) -> NoReturn:
        """One line, as of any other mistake; the usage would push it out of sight."""
        print_error(f"{message} (see {self.prog} --help)")
        self.exit(NOTHING)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """What a command does not know, it tells itself, and so with its own name."""
        options, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized {' '.join(unknown)}")
        return options, unknown


def _one_poll(parser: argparse.ArgumentParser) -> None:
    _configuration(parser)
    # In sentences, for who stands at a terminal; and quiet unless something is wrong.
    _logging(parser, level="warn", styles=("sentences", "logfmt", "json"))
    _demo(parser)


def _configuration(parser: argparse.ArgumentParser) -> None:
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
        type=lambda text: Path(text) if text else None,
        help="TLS, users and headers, in the format of Prometheus's exporters",
    )


def _with_command(arguments: list[str]) -> list[str]:
    """The arguments with the command in front: `serve` where none is named, and flags may come before it."""
    commands = ("serve", "once", "check", "show", "check-config")
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word in commands:
            return [word, *arguments[:place], *arguments[place + 1 :]]
        if word in ("-h", "--help", "--version"):
            return [word]
        if not word.startswith("-"):
            from difflib import get_close_matches

            near = get_close_matches(word, commands, 1)
            meant = f"did you mean {near[0]}?" if near else f"the commands are {', '.join(commands)}"
            _parser().error(f'unknown command "{word}"; {meant}')
        flag_with_value = "=" not in word and word not in ("--demo", "--web.enable-lifecycle")
        place += 2 if flag_with_value else 1
    return ["serve", *arguments]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise argparse.ArgumentTypeError(
            f'"{text}" is not an address; write it like :9819, 127.0.0.1:9819 or [::1]:9819'
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _path(text: str) -> str:
    # What a client would normalise or cut off is never asked for.
    if text != "/" and not re.fullmatch(r"(?!/-/)(/(?!\.\.?(/|$))[\w.~-]+)+/?", text, re.ASCII):
        raise argparse.ArgumentTypeError(f'"{text}" is not a path of its own; write it like /metrics')
    return text


def _file(text: str) -> Path:
    if not text or "\0" in text:
        raise argparse.ArgumentTypeError(f'"{text}" is not the name of a file')
    return Path(text)


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 100_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a speed; write a number from 1 to 100000')
    return speed


def _droplet_id(text: str) -> int:
    if text.isascii() and text.isdecimal() and 0 < int(text[:20]) < 2**63:
        return int(text)
    raise argparse.ArgumentTypeError(f'"{text}" is not the id of a Droplet; write its number, as check shows it')


def _states(text: str) -> list[Any]:
    from exporter.reports.check_report import ONLY

    words = [word.strip() for word in text.split(",") if word.strip()]
    unknown = next((word for word in words if word not in ONLY), None)
    if unknown is not None or not words:
        raise argparse.ArgumentTypeError(f'"{unknown or text}" is not a state; write one of {", ".join(STATES)}')
    return [state for word in words for state in ONLY[word]]


def _loader(options: argparse.Namespace) -> Callable[[], Config]:
    def load() -> Config:
        from exporter.config import loading

        return loading.load(options.config) if options.config else loading.from_environment()

    return load


def _settings(options: argparse.Namespace) -> Callable[[], Settings]:
    def load() -> Settings:
        from exporter.web.settings import Settings

        return Settings(options.web_config)

    return load


def _configured(load: Callable[[], T]) -> T | None:
    """The configuration; if it has mistakes, they are told and there is none."""
    from exporter.config.yaml_document import ConfigError

    try:
        return load()
    except ConfigError as error:
        for problem in error.problems:
            print_error(problem)
        return None


def _serve(options: argparse.Namespace) -> int:
    import asyncio

    from exporter.cli import serve as command

    if not _prepared(options):
        return NOTHING
    load = _loader(options)
    config = None if options.demo else _configured(load)
    settings = _configured(_settings(options))
    if (config is None and not options.demo) or settings is None:
        return NOTHING
    return asyncio.run(command.serve(options, config, load, settings))


def _poll_once(command: str, options: argparse.Namespace) -> int:
    from exporter.cli import check as one_poll
    from exporter.reports.output import CannotWrite

    if not _prepared(options):
        return NOTHING
    load = _loader(options)
    config = None if options.demo else _configured(load)
    if config is None and not options.demo:
        return NOTHING
    run: Callable[..., int] = getattr(one_poll, command)
    try:
        return run(options, config, load)
    except CannotWrite as error:
        print_error(str(error))
        return NOTHING


def _prepared(options: argparse.Namespace) -> bool:
    from exporter import log

    log.configure(options.log_level, options.log_format)
    if options.demo and options.config:
        print_error("--demo brings an account of its own; leave out --demo or --config.file")
        return False
    if options.speed is not None and not options.demo:
        print_error("--demo.speed is the demo's; add --demo, or leave it out")
        return False
    return True


def _check_config(options: argparse.Namespace) -> int:
    from exporter.reports.output import CannotWrite, emit

    if not _prepared(options):
        return NOTHING
    config = None if options.demo else _configured(_loader(options))
    settings = _configured(_settings(options))
    if (config is None and not options.demo) or settings is None:
        return NOTHING
    for note in settings.notes:
        print_error(f"{options.web_config}: {note}")
    names = ", ".join(account.name for account in config.accounts) if config else "demo"
    source = "the demo" if options.demo else options.config or "environment"
    try:
        emit(f"{source}: good; accounts: {names}\n")
    except CannotWrite as error:
        print_error(str(error))
        return NOTHING
    return 0
