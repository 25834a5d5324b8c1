"""The demo's fleet has Droplets of every kind, follows its stories, and its listings agree."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from exporter.demo.api import is_gpu
from exporter.demo.fleet import DROPLETS, DemoDroplet, DemoFleet, demo_fleet
from tests.demo.conftest import START

MINUTE = 60.0
HOUR = 3600.0
DAY = 86400.0
INTERVALS = {"daily": DAY, "weekly": 7 * DAY, "intra_daily_4h": 4 * HOUR}
RETENTION = {"daily": 7 * DAY, "weekly": 28 * DAY, "intra_daily_4h": 7 * DAY}
GRACE = 4 * HOUR

STARTS = [START, 1_789_992_000.0, 1_789_992_000.0 + 1, 1_789_992_000.0 - 1, 1_835_481_599.5]
"""A Monday afternoon; the hour at which windows begin, and a second beside it; just before a leap year's March."""


def seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def named(fleet: DemoFleet, name: str, now: float) -> dict[str, Any]:
    return next(record for record in fleet.droplets(now) if record["name"] == name)


def backups(fleet: DemoFleet, name: str, now: float) -> list[Any]:
    return list(fleet.backups(fleet.id_of(name), now) or ())


def policy(fleet: DemoFleet, name: str, now: float) -> Any:
    return fleet.policies(now)[str(fleet.id_of(name))]


def only(name: str, start: float) -> DemoFleet:
    """The demo's fleet with all but one of its stories left out, to be quick."""
    rest = DemoDroplet("", None, record="none")
    return DemoFleet([row if row.name == name else rest for row in DROPLETS], start)


class Watch:
    """Reads one droplet's records from time to time, and counts the windows missed in a row."""

    def __init__(self, fleet: DemoFleet, name: str, since: float) -> None:
        self.fleet = fleet
        self.name = name
        self.since = since
        self.newest: tuple[float, float] | None = None

    def missed(self, now: float) -> int:
        record = policy(self.fleet, self.name, now)
        if not record["backup_enabled"]:
            return 0
        interval = INTERVALS[record["backup_policy"]["plan"]]
        length = record["backup_policy"]["window_length_hours"] * HOUR
        for one in backups(self.fleet, self.name, now):
            self.newest = max(self.newest or (0.0, 0.0), (seconds(one["created_at"]), one["size_gigabytes"]))
        created, size = self.newest or (None, self.disk(now))
        window = seconds(record["next_backup_window"]["start"])
        count = 0
        while (window > self.since) if created is None else (window > created + 15 * MINUTE):
            count += window + length + GRACE + size * 3 * MINUTE <= now
            window -= interval
        return count

    def disk(self, now: float) -> float:
        return float(named(self.fleet, self.name, now)["disk"])

    def changes(self, hours: float) -> list[tuple[float, int]]:
        """When, in hours, the count became what."""
        changes: list[tuple[float, int]] = []
        for step in range(int(hours * 3) + 1):
            missed = self.missed(self.since + step * 20 * MINUTE)
            if not changes or changes[-1][1] != missed:
                changes.append((step / 3, missed))
        return changes


@pytest.mark.parametrize("start", STARTS)
def test_every_kind_is_there_at_the_start(start: float) -> None:
    """Whenever the demo is started, its fleet has one of everything that an exporter has to bear."""
    fleet = demo_fleet(start)
    droplets = {record["id"]: record for record in fleet.droplets(start)}
    policies = {int(key): record for key, record in fleet.policies(start).items()}
    lists = {droplet_id: list(fleet.backups(droplet_id, start) or ()) for droplet_id in droplets}
    enabled = {key: record for key, record in policies.items() if record.get("backup_enabled")}
    settings = {key: record["backup_policy"] for key, record in enabled.items() if "backup_policy" in record}

    assert 25 <= len(droplets) <= 40
    assert {one["plan"] for one in settings.values()} == {"daily", "weekly", "intra_daily_4h"}
    assert len({one["weekday"] for one in settings.values() if one["plan"] == "weekly"}) >= 3
    assert len({one["hour"] for one in settings.values() if one["plan"] == "daily"}) == 6
    assert all("weekday" not in one for one in settings.values() if one["plan"] != "weekly")
    assert 23 in {one["window_length_hours"] for one in settings.values()}

    bare = {key for key, record in policies.items() if record == {"droplet_id": key, "backup_enabled": False}}
    assert any(not lists[key] and not droplets[key]["tags"][0].startswith("k8s") for key in bare)
    assert any(len(lists[key]) > 2 for key in bare), "one that kept its backups"
    nodes = [record for record in droplets.values() if "k8s" in record["tags"]]
    assert len(nodes) == 3
    assert all({"k8s", "k8s:worker"} < set(node["tags"]) and node["id"] in bare for node in nodes)

    assert [len(lists[key]) for key, record in droplets.items() if is_gpu(record)] == [7]
    assert any(set('"\\\n{}') < set(record["name"]) and "東" in record["name"] for record in droplets.values())
    assert len(policies.keys() - droplets.keys()) == len(droplets.keys() - policies.keys()) == 1
    assert any(record["next_backup_window"] is None for record in enabled.values())
    assert any("backup_policy" not in record for record in enabled.values())
    assert any("backup_enabled" not in record for record in policies.values())
    windows = [record["next_backup_window"] for record in enabled.values() if record["next_backup_window"]]
    assert any(seconds(window["start"]) <= start < seconds(window["end"]) for window in windows)
    assert {one["type"] for records in lists.values() for one in records} == {"backup", "snapshot"}
    assert any(start - seconds(record["created_at"]) <= HOUR + 1 for record in droplets.values())
    assert any("backups" not in droplets[key]["features"] for key in enabled if key in droplets)
    assert {record["status"] for record in droplets.values()} == {"active", "off"}
    never = [key for key in enabled.keys() & droplets.keys() if not lists[key]]
    assert any(start - seconds(droplets[key]["created_at"]) > 5 * DAY for key in never)
    newest = {key: max(records, key=lambda one: one["created_at"]) for key, records in lists.items() if records}
    largest = {key: max(one["size_gigabytes"] for one in records) for key, records in lists.items() if records}
    assert [droplets[key]["name"] for key in newest if newest[key]["size_gigabytes"] < largest[key] / 2] == [
        "git-mirror"
    ]
    assert sum("env:prod" in record["tags"] and "team:web" in record["tags"] for record in droplets.values()) > 3


def test_windows_are_where_the_policy_says() -> None:
    """The window that a policy names begins on its weekday and at its hour, UTC."""
    fleet = demo_fleet(START)
    settings = policy(fleet, "web-lon-01", START)["backup_policy"]
    assert (settings["weekday"], settings["hour"]) == ("SUN", 20)
    for record in fleet.policies(START).values():
        settings, window = record.get("backup_policy"), record.get("next_backup_window")
        if settings is not None and window is not None and settings["plan"] != "intra_daily_4h":
            begins = datetime.fromisoformat(window["start"])
            assert begins.hour == settings["hour"]
            assert settings.get("weekday") in (None, begins.strftime("%a").upper())
            length = settings["window_length_hours"] * HOUR
            assert seconds(window["end"]) - seconds(window["start"]) == length


@pytest.mark.parametrize("start", STARTS)
def test_at_the_start_three_are_overdue_and_their_backups_prove_it(start: float) -> None:
    """One window, four, two weekly ones: proved by the last two backups of each, which lie in neighbouring windows."""
    fleet = demo_fleet(start)
    overdue = {}
    for row in DROPLETS:
        if row.record == "full" and row.names == "next" and row.listed and backups(fleet, row.name, start):
            overdue[row.name] = Watch(fleet, row.name, start).missed(start)
    assert {name: missed for name, missed in overdue.items() if missed} == {
        "db-replica": 1,
        "db-analytics": 4,
        "warehouse": 2,
    }
    assert len(overdue) > 20
    for name in ("db-replica", "db-analytics", "warehouse"):
        settings = policy(fleet, name, start)
        interval = INTERVALS[settings["backup_policy"]["plan"]]
        phase = seconds(settings["next_backup_window"]["start"]) % interval
        newest, before = sorted((seconds(one["created_at"]) for one in backups(fleet, name, start)), reverse=True)[:2]
        assert (newest - phase) // interval == (before - phase) // interval + 1
        assert (newest - phase) % interval < 4 * HOUR


@pytest.mark.parametrize("start", STARTS)
def test_shop_checkout_always_misses_two_windows_and_takes_two(start: float) -> None:
    """`shop-checkout` is overdue within 12.2 hours, by two a day later, well on day two, and again every four days."""
    changes = Watch(only("shop-checkout", start), "shop-checkout", start).changes(96 * 3)
    assert [missed for _, missed in changes] == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0]
    for turn in range(3):
        one, two, well = (hour - 96 * turn for hour, _ in changes[1 + 3 * turn : 4 + 3 * turn])
        assert 8 <= one <= 12.6
        assert one + 23.5 <= two <= one + 24.5
        assert 48 <= well <= 56.4


@pytest.mark.parametrize("start", STARTS)
@pytest.mark.parametrize(
    ("name", "hours", "counts", "first"),
    [
        ("shop-search", 24 * 6, [0, 1, 0, 1, 0], (12, 16.6)),
        ("db-replica", 24 * 8, [1, 0, 1, 0], (8, 16.4)),
        ("db-analytics", 24 * 12, [4, 5, 0, 1, 2, 3, 4, 5, 0], (16, 21.6)),
        ("vpn-gateway", 24 * 5, [0, 1, 2, 3, 4], (13, 18)),
        ("web-nyc-01", 24 * 8, [0], None),
        ("session-store", 24 * 3, [0], None),
        ("metrics-archive", 24 * 9, [0], None),
        ("shop-next", 24 * 4, [0], None),
        ("crm", 24 * 4, [0], None),
    ],
)
def test_each_story_happens_as_written(
    start: float, name: str, hours: float, counts: list[int], first: tuple[float, float] | None
) -> None:
    """The others miss what their rows say, from the hour on that the module's text names."""
    changes = Watch(only(name, start), name, start).changes(hours)
    assert [missed for _, missed in changes][: len(counts)] == counts
    if first is not None:
        assert first[0] <= changes[1][0] <= first[1]


@pytest.mark.parametrize("start", STARTS)
def test_backups_are_switched_on(start: float) -> None:
    """The policy of a droplet says that backups are off, and half an hour after the start that they are on."""
    account, droplet_id = demo_fleet(start), str(demo_fleet(start).id_of("crm"))
    for minutes, on in ((0, False), (29, False), (30, True)):
        assert account.policies(start + minutes * 60)[droplet_id]["backup_enabled"] is on
        (record,) = [one for one in account.droplets(start + minutes * 60) if str(one["id"]) == droplet_id]
        assert ("backups" in record["features"]) is on


@pytest.mark.parametrize("start", STARTS)
def test_new_droplets_get_their_first_backup(start: float) -> None:
    """A droplet made an hour ago and one just switched on have no backup at the start and one half a day later."""
    fleet = demo_fleet(start)
    for name in ("shop-next", "crm"):
        assert backups(fleet, name, start) == []
        assert len(backups(fleet, name, start + 12 * HOUR)) == 1


def test_a_droplet_that_only_the_policies_name_is_not_found() -> None:
    """Its policy is still listed, but the droplet, its backups and its images are not."""
    fleet = demo_fleet(START)
    gone = fleet.id_of("destroyed-yesterday")
    assert policy(fleet, "destroyed-yesterday", START)["backup_enabled"] is True
    assert gone not in {record["id"] for record in fleet.droplets(START)}
    assert fleet.backups(gone, START) is None
    assert not [image for image in fleet.images(START) if image["name"].startswith("destroyed-yesterday")]
    assert fleet.backups(1, START) is None


@settings(max_examples=30)
@given(
    start=st.floats(1_600_000_000, 2_000_000_000, allow_nan=False),
    hours=st.lists(st.floats(0, 2000, allow_nan=False), min_size=2, max_size=2),
)
def test_listings_lists_and_images_agree(start: float, hours: list[float]) -> None:
    """The listing's ids are the own list's; images have them all, with the same attributes, and none unexplained."""
    fleet = demo_fleet(start)
    known: dict[int, tuple[int, str]] = {}
    for offset in hours:
        now = start + offset * HOUR
        images = {record["id"]: record for record in fleet.images(now)}
        assert len(images) == len(fleet.images(now)), "ids are unique"
        kept = set()
        for record in fleet.droplets(now):
            own = fleet.backups(record["id"], now) or ()
            assert [one["id"] for one in own] == record["backup_ids"]
            assert all(images[one]["type"] == "snapshot" for one in record["snapshot_ids"])
            for one in own:
                image = images[one["id"]]
                assert {key: image[key] for key in one} == one
                assert image["status"] == "available"
                assert known.setdefault(one["id"], (record["id"], one["created_at"])) == (
                    record["id"],
                    one["created_at"],
                )
                assert seconds(one["created_at"]) <= now
            kept |= set(record["backup_ids"]) | set(record["snapshot_ids"])
        for key in images.keys() - kept:
            assert images[key]["status"] == "pending" or images[key]["type"] == "custom"
            assert images[key]["status"] == "available" or images[key]["size_gigabytes"] is None


def appearances(fleet: DemoFleet, name: str, start: float, hours: float) -> Iterator[tuple[float, dict[str, Any]]]:
    """Each backup that appears, and the minute at which it did."""
    seen = set(named(fleet, name, start)["backup_ids"])
    for minute in range(int(hours * 60)):
        now = start + minute * MINUTE
        for new in set(named(fleet, name, now)["backup_ids"]) - seen:
            seen.add(new)
            yield now, next(one for one in backups(fleet, name, now) if one["id"] == new)


@pytest.mark.parametrize("name", ["web-nyc-01", "db-primary", "session-store", "shop-frontend"])
def test_a_backup_begins_in_its_window_and_appears_when_it_is_done(name: str) -> None:
    """It is created within its window, and shows one to three minutes a GiB later."""
    fleet = only(name, START)
    settings = policy(fleet, name, START)
    interval = INTERVALS[settings["backup_policy"]["plan"]]
    phase = seconds(settings["next_backup_window"]["start"]) % interval
    found = list(appearances(fleet, name, START, 24 * 4))
    assert len(found) in (4, 24)
    for now, one in found:
        created = seconds(one["created_at"])
        assert (created - phase) % interval < 4 * HOUR
        assert one["size_gigabytes"] * MINUTE <= now - created <= (one["size_gigabytes"] * 3 + 1) * MINUTE


def test_a_backup_that_is_being_made_is_a_pending_image() -> None:
    """Before it is done an image is there, pending and of no size, and no list names it."""
    fleet = demo_fleet(START)
    appeared, one = next(appearances(fleet, "db-primary", START, 24))
    now = appeared - 10 * MINUTE
    pending = next(image for image in fleet.images(now) if image["id"] == one["id"])
    assert (pending["status"], pending["size_gigabytes"], pending["type"]) == ("pending", None, "backup")
    assert one["id"] not in named(fleet, "db-primary", now)["backup_ids"]


def test_backups_expire_by_their_plans_retention() -> None:
    """Weekly backups are kept four weeks, others seven days, which makes four, seven or forty-two without a miss."""
    fleet = demo_fleet(START)
    for name, counts in (("web-lon-01", {4}), ("web-nyc-01", {6, 7, 8}), ("session-store", {41, 42, 43})):
        retention = RETENTION[policy(fleet, name, START)["backup_policy"]["plan"]]
        for day in range(40):
            now = START + day * DAY
            own = backups(fleet, name, now)
            assert len(own) in counts | {min(counts) - 1}
            assert all(now - seconds(one["created_at"]) <= retention for one in own)


def test_a_backup_moved_to_the_snapshots_leaves_the_droplets_backups() -> None:
    """Every fifth backup of `build-cache` becomes one of the account's snapshots some hours after it was made."""
    fleet = demo_fleet(START)
    gone: dict[int, float] = {}
    before: set[int] = set()
    for hour in range(24 * 8):
        now = START + hour * HOUR
        current = set(named(fleet, "build-cache", now)["backup_ids"])
        gone |= dict.fromkeys((one for one in before - current), now)
        before = current
        record = named(fleet, "build-cache", now)
        for one in record["snapshot_ids"]:
            image = next(image for image in fleet.images(now) if image["id"] == one)
            assert one in gone
            assert (image["type"], image["status"]) == ("snapshot", "available")
            assert now > seconds(image["created_at"]) + 6 * HOUR
    assert len(named(fleet, "build-cache", START + 8 * DAY)["snapshot_ids"]) == 2
    assert len(named(fleet, "build-cache", START + 60 * DAY)["snapshot_ids"]) in (5, 6), "each is kept four weeks"


def test_a_late_policy_names_a_window_that_is_over() -> None:
    """`web-stage-01` names a window for hours after its end, as the real API does."""
    fleet = demo_fleet(START)
    ends = {
        hour: seconds(policy(fleet, "web-stage-01", START + hour * HOUR)["next_backup_window"]["end"])
        for hour in range(24)
    }
    assert any(end < START + hour * HOUR for hour, end in ends.items())
    assert any(end > START + hour * HOUR for hour, end in ends.items())


def test_the_story_of_a_switched_off_droplet_stands_still() -> None:
    """The backups of a disabled droplet stay unchanged for weeks."""
    fleet = demo_fleet(START)
    assert backups(fleet, "legacy-api", START) == backups(fleet, "legacy-api", START + 60 * DAY) != []
