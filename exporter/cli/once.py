"""`once`: one poll, then the metrics are written to stdout or to a file."""

from __future__ import annotations

import structlog

from exporter import __version__, threads
from exporter.cli.options import OnceOptions
from exporter.cli.progress import progress
from exporter.cli.source import loaded_configuration
from exporter.console import print_error, print_result
from exporter.metrics.exposition import render
from exporter.metrics.telemetry import Telemetry
from exporter.reports import textfile
from exporter.service import Service


def once(options: OnceOptions) -> int:
    """Polls once and writes the metrics.

    Returns 0; 1 if the poll learned only a part; 2 if it learned nothing or the file cannot be written.
    """
    text, whole = threads.run(_metrics(options))
    if text is None:
        print_error("the poll learned nothing" + (f"; {options.output} is unchanged" if options.output else ""))
        return 2
    if options.output is None:
        print_result(text)
    else:
        try:
            textfile.write(options.output, text)
        except BrokenPipeError:  # FILE is /dev/stdout, and its reader has closed the pipe
            raise
        except OSError as error:
            structlog.get_logger().error(
                "cannot write",
                file=str(options.output),
                problem=error.strerror or str(error),
                effect="the file is unchanged",
                remedy="name a file in a directory that exists, that this user may write to, and that has space",
            )
            return 2
    return 0 if whole else 1


async def _metrics(options: OnceOptions) -> tuple[bytes | None, bool]:
    """The text of the metrics, or `None` if the poll learned nothing; and whether it learned everything."""
    async with loaded_configuration(options.source) as loaded:
        telemetry = Telemetry(__version__, process=False)
        service = Service(loaded.config, loaded.reread, loaded.clock, telemetry, short_lived=True)
        async with progress("listing droplets and policies", lambda: service.statuses):
            results = await service.poll_once()
        whole = set(results) == {"success"} and not any(status.left_out for status in service.statuses)
        if not any(status.learned for status in service.statuses):
            return None, whole
        own = textfile.own_figures(telemetry.registry)
        return render(service.fleets, loaded.clock.now(), service.tag_labels) + own, whole
