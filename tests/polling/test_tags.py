"""If the API shows no tags, it is unknown which tags a Droplet has."""

from __future__ import annotations

from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll
from exporter.config.tokens import TokenSource
from exporter.fleet.selection import Criteria, Selection
from exporter.fleet.state import State
from tests.support.lookalike import Fixture, droplet
from tests.support.world import World

WITHOUT_TAGS = {"tags": None}


def _account() -> Fixture:
    return Fixture(droplets=[droplet(1) | WITHOUT_TAGS], policies={"1": {"droplet_id": 1, "backup_enabled": False}})


async def test_no_droplet_is_called_unprotected() -> None:
    """Without tags it is not known which Droplets are expected to have backups; one log line names the scope."""
    async with World(_account()) as world:
        with capture_logs() as log:
            assert await world.poller.poll() == "success"
            await world.poller.poll()
        (found,) = world.poller.fleet.droplets
        assert (found.expected, found.verdict.state) == (None, State.UNJUDGED)
        assert [name for name in world.samples() if name.startswith("expected")] == []
        assert [line["remedy"] for line in log if line["event"] == "tags not known"] == [
            "give the token the scope tag:read"
        ]


async def test_selection_by_tags_watches_nothing_and_says_so() -> None:
    """The poll is a failure, because an empty fleet must not look good."""
    selection = Selection(select=Criteria(tags=frozenset({"env:prod"})))
    config = Config(accounts=(Account("prod", TokenSource(), selection=selection),), poll=Poll(timeout=2.0))
    async with World(_account(), config=config) as world:
        assert await world.poll() == "failure"
        assert world.ids == []
        assert any("tag:read" in problem for problem in world.poller.status.problems)
