"""Runs the command that the user typed. An error becomes a message and an exit code."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from exporter.cli import arguments
from exporter.cli.arguments import CANNOT_START
from exporter.cli.options import CheckConfigOptions, CheckOptions, OnceOptions, Options, ServeOptions, ShowOptions
from exporter.console import (
    OutputError,
    detach,
    flush_stderr,
    occupy_standard_descriptors,
    print_error,
    print_text,
)

INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells report it: 128 plus the number of SIGINT."""
BROKEN_PIPE = 141
"""Exit code when the reader of stdout has closed the pipe: 128 plus the number of SIGPIPE."""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command and returns its exit code. Exits by itself after `--help`, `--version` and wrong flags."""
    occupy_standard_descriptors()
    try:
        return _run(arguments.parse(sys.argv[1:] if argv is None else argv))
    except OutputError as error:
        print_error(str(error))
        return CANNOT_START
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        detach(sys.stdout)
        return BROKEN_PIPE
    except Exception:  # noqa: BLE001  # Python would exit with 1, which has another meaning here
        import traceback

        print_text(traceback.format_exc())
        print_error("this is a bug, please report it with the lines above")
        return CANNOT_START
    finally:
        flush_stderr()


def _run(options: Options) -> int:
    # Each command's module is imported when it runs, so that `--help` stays fast.
    from exporter import log
    from exporter.config.yaml_document import ConfigError

    log.configure(options.logging.level, options.logging.style)
    try:
        match options:
            case ServeOptions():
                from exporter.cli.serve import serve

                return serve(options)
            case OnceOptions():
                from exporter.cli.once import once

                return once(options)
            case CheckOptions():
                from exporter.cli.check import check

                return check(options)
            case ShowOptions():
                from exporter.cli.show import show

                return show(options)
            case CheckConfigOptions():
                from exporter.cli.check_config import check_config

                return check_config(options)
    except ConfigError as error:
        for problem in error.problems:
            print_error(problem)
        return CANNOT_START
