"""Commands and flags. What a command needs is imported when it runs, so that `--help` costs nothing."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from exporter import __version__

if TYPE_CHECKING:
    from exporter.config import Config
    from exporter.web.settings import Settings

T = TypeVar("T")

NAME = "digitalocean-backup-exporter"
DESCRIPTION = "Prometheus exporter for the backups of DigitalOcean Droplets."
ENVIRONMENT = """\
environment, where no --config.file is given:
  DIGITALOCEAN_ACCESS_TOKEN, DIGITALOCEAN_TOKEN   the API token
  DIGITALOCEAN_TOKEN_FILE                         the file that holds it
  DIGITALOCEAN_API_URL                            default https://api.digitalocean.com
"""

PARTLY, NOTHING = 1, 2
"""Exit codes: learned only part; learned nothing, or could not start."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(_with_command(arguments))
    run: Callable[[argparse.Namespace], int] = options.run
    try:
        return run(options)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # Whoever read the output has seen enough. Python would complain once more when it flushes stdout at the end.
        sys.stderr.close()
        return 141


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog=NAME, description=DESCRIPTION, epilog=ENVIRONMENT)
    parser.add_argument("--version", action="version", version=f"{NAME} {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=_Parser)

    serve = commands.add_parser("serve", help="poll and serve /metrics until stopped (the default)", epilog=ENVIRONMENT)
    _common(serve)
    serve.add_argument(
        "--web.listen-address",
        dest="listen",
        metavar="HOST:PORT",
        action="append",
        type=_address,
        help="where to listen; may be given several times (default :9819)",
    )
    serve.add_argument("--web.telemetry-path", dest="path", metavar="PATH", default="/metrics", type=_path)
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
    )
    _common(once)
    once.add_argument(
        "--output",
        metavar="FILE",
        type=Path,
        help="for node_exporter's textfile collector: written whole or not at all",
    )
    once.set_defaults(run=_once)

    check = commands.add_parser(
        "check-config",
        help="read configuration and secrets, say what is wrong",
        description="Reads configuration and secrets as serve would and says what is wrong with them. Contacts nobody.",
    )
    _common(check, demo=False)
    _web_config(check)
    check.set_defaults(run=_check_config)
    return parser


class _Parser(argparse.ArgumentParser):
    def __init__(self, **given: Any) -> None:
        super().__init__(formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False, **given)


def _common(parser: argparse.ArgumentParser, *, demo: bool = True) -> None:
    parser.add_argument("--config.file", dest="config", metavar="FILE", type=Path, help="configuration (YAML)")
    parser.add_argument("--log.level", dest="log_level", default="info", choices=("debug", "info", "warn", "error"))
    parser.add_argument("--log.format", dest="log_format", default="logfmt", choices=("logfmt", "json"))
    if demo:
        parser.add_argument(
            "--demo", action="store_true", help="a made-up account served on loopback: no token, no network"
        )
        parser.add_argument(
            "--demo.speed",
            dest="speed",
            metavar="N",
            type=_speed,
            default=1.0,
            help="how many times faster than life the demo's time passes; 288 makes a day of five minutes",
        )


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
    commands = ("serve", "once", "check-config")
    place = 0
    while place < len(arguments):
        word = arguments[place]
        if word in commands:
            return [word, *arguments[:place], *arguments[place + 1 :]]
        if word in ("-h", "--help", "--version") or not word.startswith("-"):
            return arguments
        flag_with_value = "=" not in word and word not in ("--demo", "--web.enable-lifecycle")
        place += 2 if flag_with_value else 1
    return ["serve", *arguments]


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    if not port.isdecimal() or int(port) > 65535:
        raise argparse.ArgumentTypeError(
            f'"{text}" is not an address; write it like :9819, 127.0.0.1:9819 or [::1]:9819'
        )
    return host.removeprefix("[").removesuffix("]"), int(port)


def _path(text: str) -> str:
    if not text.startswith("/") or "{" in text or text.startswith("/-/"):
        raise argparse.ArgumentTypeError(f'"{text}" is not a path of its own; write it like /metrics')
    return text


def _speed(text: str) -> float:
    try:
        speed = float(text)
    except ValueError:
        speed = 0.0
    if not 1 <= speed <= 100_000:
        raise argparse.ArgumentTypeError(f'"{text}" is not a speed; write a number from 1 to 100000')
    return speed


def _loader(options: argparse.Namespace) -> Callable[[], Config]:
    def load() -> Config:
        from exporter import config

        return config.load(options.config) if options.config else config.from_environment()

    return load


def _settings(options: argparse.Namespace) -> Callable[[], Settings]:
    def load() -> Settings:
        from exporter.web.settings import Settings

        return Settings(options.web_config)

    return load


def _configured(load: Callable[[], T]) -> T | None:
    """The configuration; if it has mistakes, they are told and there is none."""
    from exporter.config import ConfigError

    try:
        return load()
    except ConfigError as error:
        for problem in error.problems:
            print(f"{NAME}: {problem}", file=sys.stderr)  # noqa: T201  # before anything is logged
        return None


def _check_config(options: argparse.Namespace) -> int:
    config, settings = _configured(_loader(options)), _configured(_settings(options))
    if config is None or settings is None:
        return NOTHING
    for note in settings.notes:
        print(f"{NAME}: {options.web_config}: {note}", file=sys.stderr)  # noqa: T201  # beside the command's result
    names = ", ".join(account.name for account in config.accounts)
    print(f"{options.config or 'environment'}: good; accounts: {names}")  # noqa: T201  # the command's result
    return 0


def _serve(options: argparse.Namespace) -> int:
    return _run(options, "serve")


def _once(options: argparse.Namespace) -> int:
    return _run(options, "once")


def _run(options: argparse.Namespace, command: str) -> int:
    import asyncio

    from exporter import commands, log

    log.configure(options.log_level, options.log_format)
    if options.demo and options.config:
        print(  # noqa: T201  # before anything is logged
            f"{NAME}: --demo brings an account of its own; leave out --demo or --config.file", file=sys.stderr
        )
        return NOTHING
    load = _loader(options)
    config = None if options.demo else _configured(load)
    settings = _configured(_settings(options)) if command == "serve" else None
    if (config is None and not options.demo) or (settings is None and command == "serve"):
        return NOTHING
    if settings is not None:
        return asyncio.run(commands.serve(options, config, load, settings))
    return asyncio.run(commands.once(options, config, load))
