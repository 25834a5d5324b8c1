"""`python -m exporter`, but that polls follow each other without a wait, each with all the time it takes."""

from __future__ import annotations

import asyncio
import sys

from exporter.cli.main import main
from exporter.polling.poller import Poller


async def _run(self: Poller) -> None:
    try:
        while True:
            await self.poll()
            await asyncio.sleep(0.05)
    finally:
        await self.close()


if __name__ == "__main__":
    Poller.run = _run  # type: ignore[method-assign]
    sys.exit(main())
