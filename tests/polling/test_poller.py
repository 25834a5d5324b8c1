"""One account is polled: what is learned, what is kept, and what is served."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator
from operator import is_
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from exporter.config.model import Account, Config, Poll, RateLimit
from exporter.config.tokens import TokenSource
from exporter.digitalocean.client import MOST_NOTED
from exporter.fleet.selection import Criteria, Selection
from exporter.fleet.state import Reason, State
from exporter.polling.poller import Poller
from tests.support.lookalike import OMIT, Fault, backup, disabled, policy
from tests.support.world import DAY, HOUR, MONDAY, TOKEN, World, add, healthy, take_backup

NOON = MONDAY + 12 * HOUR


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with World(healthy(3, now=NOON), at=NOON) as made:
        yield made


def selecting(**criteria: object) -> Config:
    selection = Selection(select=Criteria(**criteria))  # type: ignore[arg-type]
    return Config(accounts=(Account("prod", TokenSource(), selection=selection),), poll=Poll(timeout=2.0))


def excluding(**criteria: object) -> Config:
    selection = Selection(exclude=Criteria(**criteria))  # type: ignore[arg-type]
    return Config(accounts=(Account("prod", TokenSource(), selection=selection),), poll=Poll(timeout=2.0))


class TestWhatIsLearned:
    async def test_first_poll(self, world: World) -> None:
        """A first poll serves every Droplet, judged, with its backups."""
        assert await world.poll() == "success"
        samples = world.samples()
        assert world.ids == [1, 2, 3]
        assert samples['kept{droplet_id="1"}'] == 7
        assert samples['overdue{droplet_id="1"}'] == 0
        assert samples['enabled{droplet_id="1"}'] == 1
        assert samples['newest_age_seconds{droplet_id="1"}'] == 11 * HOUR
        assert samples['retention_days{droplet_id="1"}'] == 7
        assert samples['policy_supported{droplet_id="1"}'] == 1
        assert samples["droplets{}"] == 3
        assert samples["exporter_up{}"] == 1

    async def test_miss_and_recovery(self, world: World) -> None:
        """A window without a backup is overdue when it is due and the list was read; a new backup ends that."""
        await world.poll()
        assert await world.poll(MONDAY + DAY + 8 * HOUR) == "success"
        assert world.missed(1) == 0, "the window is over and not yet due"
        await world.poll(MONDAY + DAY + 10 * HOUR)
        assert world.missed(1) == 1
        await world.poll(MONDAY + 2 * DAY + 10 * HOUR)
        assert world.missed(1) == 2
        take_backup(world.account, 1, MONDAY + 3 * DAY + HOUR)
        await world.poll(MONDAY + 3 * DAY + 2 * HOUR)
        assert world.missed(1) == 0
        assert world.missed(2) == 2

    async def test_changes_among_the_unchanged(self, world: World) -> None:
        """A Droplet whose name or policy changes is served with the new one; the others stay the same objects."""
        await world.poll()
        before = world.poller.fleet.droplets
        await world.poll(after=300)
        assert all(map(is_, world.poller.fleet.droplets, before))
        world.account.droplet_list[1]["name"] = "renamed"
        world.account.policy_map["3"]["backup_policy"]["hour"] = 8
        await world.poll(after=300)
        after = world.poller.fleet.droplets
        assert after[0] is before[0]
        assert after[1].name == "renamed"
        assert after[2].policy is not None
        assert after[2].policy.hour == 8

    @pytest.mark.parametrize(("days", "state"), [(1, State.UNJUDGED), (2, State.STALE)])
    async def test_behind_at_the_start(self, days: int, state: State) -> None:
        """A Droplet whose backups ceased before the exporter began is unjudged, or stale by age, until its next window.

        Its own list is asked once to make sure of it, and not again before a window that counts is due.
        """
        account = healthy(1, now=NOON - days * DAY)
        account.policy_map["1"] = policy(1, hour=0, next_window=MONDAY + DAY)
        async with World(account, at=NOON) as world:
            assert (await world.requests())["backups"] == 1
            assert (world.state(1), world.reason(1), world.missed(1)) == (state, Reason.FIRST_LOOK, None)
            assert "backups" not in await world.requests(after=300)
            await world.poll(MONDAY + DAY + 10 * HOUR)
            assert (world.state(1), world.missed(1)) == (State.OVERDUE, 1)

    async def test_stale_is_read_hourly(self) -> None:
        """The own list of a stale Droplet is read once an hour, so that a backup which comes late ends it soon."""
        account = healthy(1, now=NOON - 4 * DAY)
        account.policy_map["1"] = policy(1, hour=0, next_window=MONDAY + DAY)
        async with World(account, at=NOON) as world:
            asked = [number for number in range(36) if "backups" in await world.requests(NOON + number * 300)]
            assert world.state(1) == State.STALE
        assert asked == [0, 12, 24]

    async def test_listed_without_a_list(self) -> None:
        """A Droplet that is listed and whose own list is answered by 404 has no miss, and is stale by its age."""
        async with World(healthy(1, now=NOON), at=NOON) as world:
            await world.poll()
            world.api.faults.append(Fault("backups", status=404))
            for days, state in ((1, State.PROTECTED), (2, State.PROTECTED), (3, State.STALE)):
                assert await world.poll(MONDAY + days * DAY + 8.5 * HOUR) == "success"
                assert (world.state(1), world.missed(1)) == (state, 0)

    async def test_gone_is_asked_hourly(self) -> None:
        """A Droplet that was destroyed while the policies still name it is gone, and is asked for once an hour."""
        account = healthy(1, now=NOON)
        async with World(account, at=NOON) as world:
            await world.poll()
            account.droplet_list.clear()
            account.backup_lists[1] = None
            due = MONDAY + DAY + 9 * HOUR
            asked = [number for number in range(24) if "backups" in await world.requests(due + number * 300)]
            assert world.state(1) == State.GONE
            assert world.samples()['state{droplet_id="1",state="gone"}'] == 1
        assert asked == [0, 12]

    async def test_gpu_droplets(self) -> None:
        """Droplets with a GPU come from a listing of their own."""
        account = healthy(1, now=NOON)
        add(account, 9, [], disabled(9), size="gpu-h100x1-80gb")
        async with World(account, at=NOON) as world:
            await world.poll()
            assert world.ids == [1, 9]
            assert (
                world.samples()['droplet_info{droplet_id="9",region="nyc3",size="gpu-h100x1-80gb",status="active"}']
                == 1
            )

    async def test_pages(self) -> None:
        """Fleets of several pages are served whole, distinct by id."""
        async with World(healthy(450, now=NOON, days=1), at=NOON) as world:
            assert await world.poll() == "success"
            assert world.ids == list(range(1, 451))

    async def test_disabled_with_backups(self) -> None:
        """Backups that stayed after they were switched off are counted, and not judged."""
        account = healthy(2, now=NOON)
        account.policy_map["2"] = disabled(2)
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert samples['kept{droplet_id="2"}'] == 7
            assert samples['enabled{droplet_id="2"}'] == 0
            assert 'overdue{droplet_id="2"}' not in samples
            assert 'interval_seconds{droplet_id="2"}' not in samples

    async def test_no_backups(self) -> None:
        """Without any backup the count is 0, and there is no newest or oldest backup."""
        account = healthy(1, now=NOON)
        add(account, 2, [], policy(2, hour=0, next_window=MONDAY + DAY))
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert samples['kept{droplet_id="2"}'] == 0
            assert not [name for name in samples if name.startswith(("newest", "oldest")) and '"2"' in name]

    async def test_without_ids(self) -> None:
        """A token that is shown no backup ids learns the backups from the Droplets' own lists."""
        account = healthy(2, now=NOON)
        for record in account.droplet_list:
            record["backup_ids"] = []
        async with World(account, at=NOON) as world:
            await world.poll()
            assert world.samples()['kept{droplet_id="1"}'] == 7
            account.backup_lists[1] = [*account.backup_lists[1], backup(77, MONDAY + DAY + HOUR)]  # type: ignore[misc]
            await world.poll(MONDAY + DAY + 4 * HOUR + 60)
            assert world.samples()['kept{droplet_id="1"}'] == 8, "read as the window ended"

    async def test_missing_key(self) -> None:
        """A policy that does not say whether backups are enabled leaves that and the verdict open."""
        account = healthy(1, now=NOON)
        account.policy_map["1"] = policy(1, backup_enabled=OMIT)
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert 'enabled{droplet_id="1"}' not in samples
            assert 'overdue{droplet_id="1"}' not in samples
            assert samples['policy_info{droplet_id="1",hour="0",plan="daily"}'] == 1

    async def test_policy_only(self) -> None:
        """A Droplet that only the policies name is served without a name."""
        account = healthy(1, now=NOON)
        account.policy_map["7"] = policy(7, hour=4, next_window=NOON + HOUR)
        account.backup_lists[7] = [backup(71, MONDAY - 20 * HOUR)]
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert world.droplet(7).name == ""
            assert samples['droplet_info{droplet_id="7"}'] == 1
            assert samples['enabled{droplet_id="7"}'] == 1
            assert samples['kept{droplet_id="7"}'] == 1
            assert 'expected{droplet_id="7"}' not in samples

    async def test_kubernetes_node(self) -> None:
        """A Kubernetes node is not expected to have backups; another Droplet is."""
        account = healthy(1, now=NOON)
        add(account, 2, [], disabled(2), tags=["k8s", "k8s:worker"])
        async with World(account, at=NOON) as world:
            await world.poll()
            assert world.samples()['expected{droplet_id="1"}'] == 1
            assert world.samples()['expected{droplet_id="2"}'] == 0


class TestWhatIsGone:
    async def test_own_endpoint_denies_it(self, world: World) -> None:
        """A Droplet that complete listings no longer name is gone at once if its own endpoint answers 404."""
        await world.poll()
        world.account.droplet_list.pop()
        del world.account.policy_map["3"]
        await world.poll(after=300)
        assert world.ids == [1, 2]

    async def test_after_two_listings(self, world: World) -> None:
        """If its own endpoint fails it stays for a second complete listing, and no longer."""
        await world.poll()
        world.account.droplet_list.pop()
        del world.account.policy_map["3"]
        world.api.faults.append(Fault("droplet", status=500))
        await world.poll(after=300)
        assert world.ids == [1, 2, 3]
        world.api.faults.append(Fault("policies", status=502))
        world.api.faults.reverse()
        assert await world.poll(after=300) == "failure"
        assert world.ids == [1, 2, 3], "a listing that failed removes nothing"
        world.api.faults.clear()
        await world.poll(after=300)
        assert world.ids == [1, 2]

    async def test_still_has_a_policy(self, world: World) -> None:
        """A Droplet that the policies still name stays, with what was known of it."""
        await world.poll()
        world.account.droplet_list.pop()
        for _ in range(3):
            await world.poll(after=300)
        assert world.ids == [1, 2, 3]
        assert world.droplet(3).name != ""

    async def test_policy_gone(self, world: World) -> None:
        """A policy is gone after two complete listings without it, and not after one."""
        await world.poll()
        del world.account.policy_map["3"]
        await world.poll(after=300)
        assert world.droplet(3).policy is not None
        await world.poll(after=300)
        assert world.droplet(3).policy is None
        assert world.missed(3) is None

    async def test_listing_short_of_its_total(self, world: World) -> None:
        """A listing that holds fewer records than it counts is not complete and removes nothing."""
        await world.poll()
        world.account.droplet_list.pop()
        del world.account.policy_map["3"]

        def lie(answer: dict[str, dict[str, int]]) -> None:
            answer["meta"]["total"] = 3

        world.api.faults.append(Fault("droplets", edit=lie))
        for _ in range(3):
            assert await world.poll(after=300) == "failure"
        assert world.ids == [1, 2, 3]

    @pytest.mark.parametrize("bad", [None, 17, {"id": 3, "name": 5}, {"name": "nameless"}])
    async def test_rejected_record(self, world: World, bad: object) -> None:
        """A record that cannot be understood is counted, and present: what was known of the Droplet stays."""
        await world.poll()
        world.account.droplet_list[2] = bad
        del world.account.policy_map["3"]
        world.api.faults.append(Fault("droplet", status=500))
        for _ in range(4):
            assert await world.poll(after=300) == "success"
        assert world.ids == [1, 2, 3]
        assert world.droplet(3).name != ""
        assert world.samples()['exporter_rejected_records_total{endpoint="droplets"}'] >= 4

    async def test_rejected_policy(self, world: World) -> None:
        """A policy record that is null stays as it was known."""
        await world.poll()
        world.account.policy_map["3"] = None
        for _ in range(3):
            assert await world.poll(after=300) == "success"
        assert world.droplet(3).policy is not None
        assert world.missed(3) == 0


class TestFaults:
    @pytest.mark.parametrize("endpoint", ["policies", "droplets"])
    @pytest.mark.parametrize(
        "fault",
        [
            Fault(status=502),
            Fault(body=b"<html>sorry</html>", content_type="text/html"),
            Fault(cut=100),
            Fault(reset=True),
            Fault(body=b'{"droplets": "no", "policies": 7, "meta": {"total": 3}}'),
            Fault(body=b"[]"),
        ],
        ids=["502", "html", "half a page", "reset", "wrong type", "not an object"],
    )
    async def test_listing_fails(self, world: World, endpoint: str, fault: Fault) -> None:
        """After any failure of a listing the last good data are served with `up` 0, until a listing succeeds."""
        await world.poll()
        before = world.samples()
        fault.endpoint = endpoint
        world.api.faults.append(fault)
        assert await world.poll(after=300) == "failure"
        after = world.samples()
        assert after["exporter_up{}"] == 0
        droplets = {name for name in before if "droplet_id" in name}
        assert {name for name in after if "droplet_id" in name} == droplets
        assert after['kept{droplet_id="1"}'] == 7
        assert endpoint in " ".join(world.poller.status.problems)
        world.api.faults.clear()
        assert await world.poll(after=300) == "success"
        assert world.samples()["exporter_up{}"] == 1
        assert world.poller.status.problems == ()

    async def test_hanging_api(self, world: World) -> None:
        """An API that never answers costs the poll's time limit, not the exporter."""
        await world.poll()
        world.api.faults.append(Fault(hang=True))
        world.poller._client.http.timeout = 0.1
        assert await world.poll(after=300) == "failure"
        assert world.ids == [1, 2, 3]

    async def test_one_failing_list(self, world: World) -> None:
        """One Droplet's failing list costs that Droplet's freshness only, and is counted as unread."""
        await world.poll()
        world.api.faults.append(Fault("backups", droplet_id=1, status=500))
        assert await world.poll(MONDAY + DAY + 10 * HOUR) == "partial"
        samples = world.samples()
        assert samples["exporter_unread_droplets{}"] == 1
        assert samples['unjudged_droplets{reason="unread"}'] == 1
        assert 'overdue{droplet_id="1"}' not in samples, "no evidence"
        assert samples['overdue{droplet_id="2"}'] == 1
        assert samples["exporter_up{}"] == 1

    async def test_outage_across_windows(self, world: World) -> None:
        """An outage over several windows adds no missed window; the first good poll shows the truth."""
        await world.poll()
        world.api.faults.append(Fault(status=503))
        for day in range(1, 4):
            take_backup(world.account, 1, MONDAY + day * DAY + HOUR)
            assert await world.poll(MONDAY + day * DAY + 10 * HOUR) == "failure"
            assert world.missed(1) is None
            assert world.missed(2) is None
        world.api.faults.clear()
        await world.poll(after=300)
        assert world.missed(1) == 0
        assert world.missed(2) == 3

    async def test_overdue_stands_through_an_outage(self, world: World) -> None:
        """What was proved to be missed stays so while the API is away; the next window is not judged."""
        await world.poll()
        await world.poll(MONDAY + DAY + 10 * HOUR)
        world.api.faults.append(Fault(status=503))
        await world.poll(MONDAY + 2 * DAY + 10 * HOUR)
        assert (world.state(1), world.reason(1), world.missed(1)) == (State.OVERDUE, Reason.UNREAD, 1)
        assert world.unjudged() == 0, "the state of each is a worse one"

    @pytest.mark.parametrize("status", [401, 403])
    async def test_unauthorized(self, world: World, status: int) -> None:
        """The error of a refused token names its source, and never shows the token."""
        world.api.faults.append(Fault(status=status))
        assert await world.poll() == "failure"
        told = " ".join(world.poller.status.problems)
        assert str(status) in told
        assert "environment variable TOKEN_OF_THE_TESTS" in told
        assert TOKEN not in told
        assert world.samples()[f'exporter_api_requests_total{{code="{status}",endpoint="droplets"}}'] >= 1

    async def test_too_many_requests(self, world: World) -> None:
        """After a 429 the poll waits as long as the answer asks, and goes on."""
        world.api.faults.append(Fault("policies", times=1, status=429, headers={"retry-after": "30"}))
        assert await world.poll() == "success"
        assert world.clock.now() >= NOON + 30
        assert world.samples()["exporter_api_throttled_seconds_total{}"] >= 30

    async def test_vanished_since_the_listing(self) -> None:
        """A Droplet destroyed between the listing and its backups is no error of the poll."""
        account = healthy(2, now=NOON)
        for record in account.droplet_list:
            record["backup_ids"] = []
        account.backup_lists[2] = None
        async with World(account, at=NOON) as world:
            assert await world.poll() == "success"
            assert world.samples()["exporter_unread_droplets{}"] == 0
            assert world.unjudged() == 0

    async def test_hanging_list(self) -> None:
        """A list that failed before and hangs now delays no other list, although it is the most urgent."""
        account = healthy(2, now=NOON)
        config = Config(accounts=(), poll=Poll(timeout=0.5))
        async with World(account, at=NOON, config=config) as world:
            await world.poll()
            take_backup(account, 2, MONDAY + DAY + HOUR)
            world.api.faults.append(Fault("backups", droplet_id=1, hang=True))
            await world.poll(MONDAY + DAY + 10 * HOUR)
            take_backup(account, 2, MONDAY + 2 * DAY + HOUR)
            world.api.forget()
            await world.poll(MONDAY + 2 * DAY + 3 * HOUR)
            read = [request.path for request in world.api.requests if request.endpoint == "backups"]
            assert read.index("/v2/droplets/2/backups") < 2, "not after every attempt at the other"

    async def test_bad_backup_record(self) -> None:
        """A backup record that is not understood costs itself, and proves no miss."""
        account = healthy(1, now=NOON)
        account.droplet_list[0]["backup_ids"] = []
        async with World(account, at=NOON) as world:
            await world.poll()
            account.backup_lists[1] = [*account.backup_lists[1], {"id": 5, "created_at": "yesterday"}]  # type: ignore[misc]
            await world.poll(MONDAY + DAY + 10 * HOUR)
            samples = world.samples()
            assert samples['kept{droplet_id="1"}'] == 7
            assert 'overdue{droplet_id="1"}' not in samples
            assert samples['unjudged_droplets{reason="unread"}'] == 1
            assert samples['exporter_rejected_records_total{endpoint="backups"}'] == 1

    async def test_backup_of_times_to_come(self) -> None:
        """A backup that is dated far ahead may be the one of any window: it answers none, and none is missed."""
        account = healthy(1, now=NOON)
        async with World(account, at=NOON) as world:
            await world.poll()
            take_backup(account, 1, MONDAY + 400 * DAY)
            await world.poll(MONDAY + DAY + 10 * HOUR)
            assert (world.state(1), world.reason(1), world.missed(1)) == (State.UNJUDGED, Reason.UNREAD, None)

    async def test_no_backup_record_is_understood(self) -> None:
        """If no record of a list is understood, the Droplet is unjudged and its backups are not counted."""
        account = healthy(1, now=NOON)
        account.backup_lists[1] = [{**record, "size_gigabytes": "2.5"} for record in account.backup_lists[1] or []]
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert 'kept{droplet_id="1"}' not in samples
            assert 'overdue{droplet_id="1"}' not in samples
            assert samples['unjudged_droplets{reason="unread"}'] == 1

    async def test_unknown_size(self) -> None:
        """Where one record of a list is not understood the sum of the sizes is unknown."""
        account = healthy(1, now=NOON)
        account.droplet_list[0]["backup_ids"] = []
        account.backup_lists[1] = [*(account.backup_lists[1] or []), None]
        async with World(account, at=NOON) as world:
            await world.poll()
            samples = world.samples()
            assert samples['kept{droplet_id="1"}'] == 7
            assert 'kept_size_bytes{droplet_id="1"}' not in samples

    async def test_lower_limit_than_configured(self) -> None:
        """A token whose hour is smaller than configured still has lists read, in what its listings leave."""
        account = healthy(4, now=NOON)
        config = Config(accounts=(), poll=Poll(interval=10.0, timeout=2.0))
        async with World(account, at=NOON, config=config, per_hour=1000) as world:
            assert await world.poll() == "success"
            assert world.samples()['kept{droplet_id="1"}'] == 7

    async def test_held_back_beyond_the_poll(self, world: World) -> None:
        """The time for which a 429 delays requests counts as throttled, also while no poll waits."""
        world.api.faults.append(Fault("policies", times=1, status=429, headers={"retry-after": "900"}))
        assert await world.poll() == "failure"
        assert await world.poll(after=300) == "failure"
        assert await world.poll(after=700) == "success"
        assert 900 <= world.samples()["exporter_api_throttled_seconds_total{}"] <= 1000

    async def test_gpu_listing_fails(self, world: World) -> None:
        """The error of a failing listing of GPU Droplets shows which listing failed."""
        world.api.faults.append(Fault("droplets", edit=_fail_gpus))
        await world.poll()
        assert world.samples()["exporter_up{}"] == 0
        assert "/v2/droplets?type=gpus" in world.poller.status.problems[0]

    async def test_supported_policies_fail(self, world: World) -> None:
        """Without the supported policies everything else is served, and they come when they can."""
        world.api.faults.append(Fault("supported_policies", status=500))
        assert await world.poll() == "success"
        assert 'policy_supported{droplet_id="1"}' not in world.samples()
        world.api.faults.clear()
        await world.poll(after=300)
        assert world.samples()['policy_supported{droplet_id="1"}'] == 1

    async def test_rotated_token(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """The token is read at every poll; if it is missing, the poll fails and the error names its source."""
        await world.poll()
        monkeypatch.delenv("TOKEN_OF_THE_TESTS")
        assert await world.poll(after=300) == "failure"
        assert "TOKEN_OF_THE_TESTS" in world.poller.status.problems[0]
        monkeypatch.setenv("TOKEN_OF_THE_TESTS", TOKEN)
        assert await world.poll(after=300) == "success"


def _fail_gpus(answer: dict[str, object]) -> object:
    return answer if answer["droplets"] else {"droplets": 7}


class TestSelection:
    async def test_by_tag(self) -> None:
        """Only Droplets with a selected tag are served, and none before the first complete Droplet listing."""
        account = healthy(3, now=NOON)
        account.droplet_list[1]["tags"] = ["web"]
        async with World(account, at=NOON, config=selecting(tags=frozenset({"web"}))) as world:
            world.api.faults.append(Fault("droplets", status=500))
            await world.poll()
            assert world.ids == []
            assert "droplets{}" not in world.samples()
            assert world.poller.status.ready, "the policies were listed"
            world.api.faults.clear()
            await world.poll(after=300)
            assert world.ids == [2]

    async def test_tag_goes_and_comes_back(self) -> None:
        """A Droplet that loses its selected tag is no longer served, until it has it again."""
        account = healthy(3, now=NOON)
        account.droplet_list[1]["tags"] = ["web"]
        async with World(account, at=NOON, config=selecting(tags=frozenset({"web"}))) as world:
            served = []
            for tags in (["web"], [], [], ["web"]):
                account.droplet_list[1]["tags"] = tags
                await world.poll(after=300)
                served.append(world.ids)
            assert served == [[2], [], [], [2]]

    async def test_by_name_and_region(self) -> None:
        """Every key given has to be met, a name by the whole of it."""
        account = healthy(3, now=NOON)
        for record, name in zip(account.droplet_list, ["web-1", "web-10", "db-1"], strict=True):
            record["name"] = name
        config = selecting(names=(re.compile("web-."), re.compile("db-.*")), regions=frozenset({"nyc3"}))
        async with World(account, at=NOON, config=config) as world:
            await world.poll()
            assert world.ids == [1, 3]

    async def test_exclude(self) -> None:
        """A Droplet that meets any excluded key is left out; one that only policies name is not."""
        account = healthy(3, now=NOON)
        account.droplet_list[1]["tags"] = ["scratch"]
        account.policy_map["7"] = disabled(7)
        async with World(account, at=NOON, config=excluding(tags=frozenset({"scratch"}))) as world:
            await world.poll()
            assert world.ids == [1, 3, 7]

    async def test_one_by_id(self) -> None:
        """A single Droplet is asked for at its own endpoints, which is cheaper than listing."""
        config = selecting(droplet_ids=frozenset({2}))
        async with World(healthy(3, now=NOON), at=NOON, config=config) as world:
            requests = await world.requests()
            assert world.ids == [2]
            assert world.missed(2) == 0
            assert (requests["droplet"], requests["policy"]) == (1, 1)
            assert "droplets" not in requests
            assert "policies" not in requests
            assert world.poller.status.ready

    async def test_one_by_id_gone(self) -> None:
        """A selected Droplet whose own endpoints answer 404 is gone, and that is no failure."""
        config = selecting(droplet_ids=frozenset({2}))
        account = healthy(3, now=NOON)
        async with World(account, at=NOON, config=config) as world:
            await world.poll()
            account.droplet_list.pop(1)
            del account.policy_map["2"]
            assert await world.poll(after=300) == "success"
            assert world.ids == []
            assert world.samples()["droplets{}"] == 0

    async def test_few_of_many_by_id(self) -> None:
        """Few of many are asked for one by one from the start, after one look at how many Droplets there are."""
        config = selecting(droplet_ids=frozenset({2, 3}))
        async with World(healthy(450, now=NOON, days=1), at=NOON, config=config) as world:
            requests = await world.requests()
            assert requests == {"droplets": 1, "droplet": 2, "policy": 2, "supported_policies": 1, "backups": 2}
            assert world.ids == [2, 3]
            requests = await world.requests(after=300)
            assert requests == {"droplet": 2, "policy": 2}
            assert world.ids == [2, 3]

    async def test_one_of_those_known(self, tmp_path: Path) -> None:
        """Droplets known from before and selected no longer are not asked for."""
        async with World(healthy(3, now=NOON), at=NOON, state_file=tmp_path / "state") as world:
            await world.poll()
            world.config = selecting(droplet_ids=frozenset({2}))
            await world.restart()
            assert await world.requests(after=300) == {"droplet": 1, "policy": 1}
            assert world.ids == [2]


class TestTheLoop:
    async def test_never_dies_of_a_bug(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bug in the exporter ends one poll only: it is logged and shown, and the next poll works."""
        await world.poll()

        def broken(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        with monkeypatch.context() as patch:
            patch.setattr("exporter.polling.poller.learn", broken)
            await world.poll(after=300)
            assert "bug" in world.poller.status.problems[0]
        assert await world.poll(after=300) == "success"
        assert world.ids == [1, 2, 3]

    async def test_interval(self, world: World) -> None:
        """Polls begin once per interval, however long one takes, and never two at once."""
        began: list[float] = []
        poll = world.poller.poll

        async def watched() -> str:
            began.append(world.clock.now())
            if len(began) == 2:
                world.clock.set(world.clock.now() + 290)
            result = await poll()
            if len(began) == 4:
                raise KeyboardInterrupt
            return result

        world.poller.poll = watched  # type: ignore[method-assign, assignment]
        with pytest.raises(KeyboardInterrupt):
            await world.poller.run()
        assert [round(later - first) for first, later in itertools.pairwise(began)] == [300, 300, 300]
        assert NOON <= began[0] <= NOON + 2

    async def test_too_short_an_interval(self) -> None:
        """Where the minute's limit does not allow a poll at every interval, polls come late and do not fail."""
        config = Config(accounts=(), poll=Poll(interval=5.0, timeout=2.0), rate_limit=RateLimit(per_minute=20))
        async with World(healthy(3, now=NOON), at=NOON, config=config, per_minute=20) as world:
            results: list[str] = []
            poll = world.poller.poll

            async def watched() -> str:
                results.append(await poll())
                if len(results) == 20:
                    raise KeyboardInterrupt
                return results[-1]

            world.poller.poll = watched  # type: ignore[method-assign, assignment]
            with pytest.raises(KeyboardInterrupt):
                await world.poller.run()
            assert set(results) == {"success"}
            assert world.clock.now() - NOON > 120


async def test_rejects_are_logged_once(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """Records left out are warned of once, not at every poll, while they stay the same."""
    world.account.droplet_list.append(None)
    for _ in range(3):
        await world.poll(after=300)
    assert capsys.readouterr().out.count("[warning  ] records left out") == 1


async def test_a_change_that_all_lists_have_does_not_flood_the_log() -> None:
    """If the lists of many Droplets cannot be understood, the log warns of the first ones, and says so."""
    async with World(healthy(30)) as world:
        world.account.image_list.clear()
        for backups in world.account.backup_lists.values():
            assert backups is not None
            backups.append({"id": 99, "created_at": "soon"})
        with capture_logs() as logs:
            await world.poll()
        told = [log for log in logs if log["event"].startswith("records left out") and log["log_level"] == "warning"]
        assert len(told) == MOST_NOTED
        assert [log["effect"].count("only logged at the level debug") for log in told] == [0] * 9 + [1]
        assert world.samples()['exporter_rejected_records_total{endpoint="backups"}'] == 30


async def test_a_fleet_that_vanishes_is_warned_of_once(world: World) -> None:
    """Listings that are complete and name hardly any Droplet are no failure; the log says what to check."""
    with capture_logs() as logs:
        await world.poll()
        del world.account.droplet_list[1:]
        world.account.policy_map = {"1": world.account.policy_map["1"]}
        for _ in range(4):
            assert await world.poll(after=300) == "success"
    assert world.ids == [1]
    [told] = [log for log in logs if log["event"] == "most Droplets are gone"]
    assert (told["before"], told["now"]) == (3, 1)
    assert "which team" in told["remedy"]


@pytest.mark.parametrize("status", [301, 401, 403, 404, 418, 500])
async def test_one_cause_is_told_once(world: World, status: int) -> None:
    """What all listings have in common is one line of the log and of the page, which says what to do."""
    await world.poll()
    world.api.faults.append(Fault(status=status))
    with capture_logs() as logs:
        assert await world.poll(after=300) == "failure"
    [told] = [log for log in logs if log["event"] == "poll failed"]
    assert told["endpoint"] == "policies droplets"
    assert [told["problem"]] == list(world.poller.status.problems)
    assert re.search(r"check|see|set|scopes|wrong", told["problem"])


class TestFaultsOfOurs:
    """An exception anywhere in a poll ends only that poll and is logged with its traceback."""

    @pytest.mark.parametrize("step", ["judge", "_keep", "_note_unread", "_note_tags", "_learn", "_refresh"])
    async def test_the_poll_counts_as_a_failure_and_the_next_is_a_success(
        self, step: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def broken(*_: object) -> None:
            raise RuntimeError("can't start new thread")

        async with World(healthy(2)) as world:
            await world.poll()
            with monkeypatch.context() as patch, capture_logs() as logs:
                patch.setattr(world.poller, step, broken)
                assert await world.poll(after=300) == "failure"
            [told] = [log for log in logs if log["event"] == "poll broke off"]
            assert told["exc_info"]
            assert world.poller.status.problems == (
                'the poll broke off: RuntimeError("can\'t start new thread"); this is a bug, please report it',
            )
            assert world.samples()['exporter_polls_total{result="failure"}'] == 1
            assert world.samples()["exporter_up{}"] == 0
            assert world.ids == [1, 2], "what is known is served on"
            assert await world.poll(after=300) == "success"

    async def test_what_fails_around_a_poll_does_not_end_the_polling(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even the end of a poll may go wrong for good."""
        polls = list[str]()

        async def poll(self: Poller) -> str:
            polls.append("begun")
            if len(polls) == 3:
                raise asyncio.CancelledError
            raise MemoryError

        async with World(healthy(1)) as world:
            monkeypatch.setattr(Poller, "poll", poll)
            with capture_logs() as logs, pytest.raises(asyncio.CancelledError):
                await world.poller.run()
            assert [log["event"] for log in logs if log["log_level"] == "error"] == ["poll broke off"] * 2
            assert world.poller.status.result == "failure"


async def test_the_rate_limit_is_named_only_where_it_was_the_cause() -> None:
    async with World(healthy(2)) as world:
        world.api.faults.append(Fault("policies", status=500))
        await world.poll()
        assert not world.poller.status.held_back
        world.api.faults.clear()
        world.api.per_hour = 0
        await world.poll(after=300)
        assert world.poller.status.held_back
