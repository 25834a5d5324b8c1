"""The API's look-alike for tests: a fixed account, builders of complete records, and a server round it.

account = Fixture(droplets=[droplet(1)], policies={"1": policy(1, hour=4)}, backups={1: [backup(11, created)]})
async with Api(account, now=lambda: now) as api:
    api.faults.append(Fault("backups", droplet_id=1, status=500))
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from exporter.demo.api import Api, Fault, Request
from exporter.demo.records import (
    OMIT,
    backup,
    disabled,
    droplet,
    image,
    instant,
    policy,
    supported_policy,
    window,
)

__all__ = [
    "OMIT",
    "Api",
    "Fault",
    "Fixture",
    "Request",
    "backup",
    "disabled",
    "droplet",
    "image",
    "instant",
    "policy",
    "served",
    "supported_policy",
    "window",
]


class Fixture:
    """An account that is what its lists hold, at any time; a test may change them while they are served.

    `backups` maps a droplet's id to its list, or to `None` for a 404. A droplet without an entry has none yet, and an
    id that no droplet has is answered with 404.
    """

    def __init__(
        self,
        droplets: list[Any] | None = None,
        policies: dict[str, Any] | None = None,
        backups: dict[int, list[Any] | None] | None = None,
        images: list[Any] | None = None,
        supported: list[Any] | None = None,
    ) -> None:
        self.droplet_list: list[Any] = [] if droplets is None else droplets
        self.policy_map: dict[str, Any] = {} if policies is None else policies
        self.backup_lists: dict[int, list[Any] | None] = {} if backups is None else backups
        self.image_list: list[Any] = [] if images is None else images
        self.supported_list: list[Any] = (
            [supported_policy("weekly"), supported_policy("daily")] if supported is None else supported
        )

    def droplets(self, now: float) -> Sequence[Any]:
        return self.droplet_list

    def policies(self, now: float) -> Mapping[str, Any]:
        return self.policy_map

    def backups(self, droplet_id: int, now: float) -> Sequence[Any] | None:
        if droplet_id in self.backup_lists:
            return self.backup_lists[droplet_id]
        known = any(isinstance(record, dict) and record.get("id") == droplet_id for record in self.droplet_list)
        return [] if known else None

    def images(self, now: float) -> Sequence[Any]:
        return self.image_list

    def supported_policies(self, now: float) -> Sequence[Any]:
        return self.supported_list


@contextmanager
def served(*apis: Api) -> Iterator[None]:
    """Serves them in a thread of their own, so that who waits for the exporter does not keep it waiting."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()

    def do(work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, loop).result(10)

    try:
        for api in apis:
            do(api.start())
        yield
    finally:
        for api in apis:
            do(api.stop())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
