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
    """Shows a progress bar on stderr while the context lasts, if stderr is a terminal. Log lines appear above the bar.

    `doing` is the text at the bar until the polls begin to read lists of backups.
    """
    if not is_terminal(sys.stderr):
        yield
        return
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from exporter.reports.terminal import terminal_console

    # SIGTERM would end the process with the cursor hidden. As an exception it lets the bar clean up first.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, sys.exit, 128 + signal.SIGTERM)
    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        console=terminal_console(stderr=True),
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
    """How many lists of backups the polls of all accounts will read, and how many they have read."""
    planned = sum(status.readings_planned for status in statuses)
    return planned, min(planned, sum(status.readings_done for status in statuses))
