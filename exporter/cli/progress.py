"""The bar that a command shows on a terminal while it asks the API."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence

from exporter.console import is_terminal
from exporter.polling.status import Status

REFRESH = 0.1
"""Seconds between two updates of the bar."""


@contextlib.asynccontextmanager
async def progress(doing: str, statuses: Callable[[], Sequence[Status]] = lambda: ()) -> AsyncIterator[None]:
    """Shows a bar on stderr while the context lasts, if that is a terminal; log lines appear above it."""
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from exporter.reports.terminal import console

    # SIGTERM would leave the cursor hidden; as an exception it passes through the bar's own clean-up.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        console=console(stderr=True),
        transient=True,
    ) as bar:
        task = bar.add_task(doing, total=None, count="")

        async def follow() -> None:
            while True:
                planned, done = _readings(statuses())
                if planned:
                    count = f"{done:,}/{planned:,}"
                    bar.update(task, description="reading backups", total=planned, completed=done, count=count)
                await asyncio.sleep(REFRESH)

        following = asyncio.create_task(follow())
        try:
            yield
        finally:
            following.cancel()


def _readings(statuses: Sequence[Status]) -> tuple[int, int]:
    """Lists of backups that are to be read and that were read, of all accounts."""
    planned = sum(status.readings_planned for status in statuses)
    return planned, min(planned, sum(status.readings_done for status in statuses))
