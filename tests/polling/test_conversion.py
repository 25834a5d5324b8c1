"""What the API's records mean: units, and what is unknown."""

from __future__ import annotations

from typing import Any

import pytest

from exporter.digitalocean.records import (
    BackupRecord,
    DropletRecord,
    ImageRecord,
    NamedWindow,
    PolicyRecord,
    PolicySettings,
    Region,
    SupportedPolicyRecord,
)
from exporter.fleet.model import GIB, Backup, Description, Policy, Window
from exporter.polling.conversion import (
    backup_of,
    backup_of_image,
    description_of,
    policy_of,
    supported_policies_of,
)
from tests.support.api_records import date


def test_a_policys_hours_become_seconds() -> None:
    record = PolicyRecord(True, PolicySettings("weekly", "SUN", 20, 4.0, 28.0), NamedWindow(date(0), date(14400)))
    assert policy_of(record) == Policy(True, "weekly", "SUN", 20, 14400.0, 28.0, Window(0.0, 14400.0))
    assert policy_of(PolicyRecord()) == Policy()


@pytest.mark.parametrize(
    ("start", "end"), [(None, date(1)), (date(1), None), (None, None), (date(-1), date(1)), (date(1), date(9e9))]
)
def test_half_a_window_is_no_window(start: Any, end: Any) -> None:
    assert policy_of(PolicyRecord(next_backup_window=NamedWindow(start, end))).next_window is None


def test_gigabytes_become_bytes() -> None:
    assert backup_of(BackupRecord(7, date(60), 1.5)) == Backup(7, 60.0, 1.5 * GIB)
    assert backup_of(BackupRecord(7, date(60))) == Backup(7, 60.0, None)
    assert description_of(DropletRecord(7, disk=25.0)).disk == 25 * GIB


def test_a_region_without_a_slug_is_empty() -> None:
    assert description_of(DropletRecord(7, region=Region())).region == ""


def test_missing_tags_are_unknown_and_no_tags_are_none() -> None:
    assert description_of(DropletRecord(7)).tags is None
    assert description_of(DropletRecord(7, tags=())).tags == ()


@pytest.mark.parametrize(
    ("told", "ids"), [(None, None), ([], ()), ([5, 6], (5, 6)), ("5", None), ([5, "6"], None), ([True], None)]
)
def test_snapshot_ids_of_a_wrong_type_are_unknown(told: Any, ids: tuple[int, ...] | None) -> None:
    assert description_of(DropletRecord(7, snapshot_ids=told)).snapshot_ids == ids


@pytest.mark.parametrize(("told", "count"), [(None, None), ([], 0), (["a", "b"], 2), ("a", None), ([1], None)])
def test_volumes_are_counted_and_of_a_wrong_type_unknown(told: Any, count: int | None) -> None:
    assert description_of(DropletRecord(7, volume_ids=told)).volumes == count


@pytest.mark.parametrize(
    "image",
    [
        ImageRecord(7, "backup", "pending", date(60), 1.0),
        ImageRecord(7, "backup", "available", None, 1.0),
        ImageRecord(7, "backup", "available", date(60), None),
    ],
)
def test_an_image_in_the_making_is_no_backup_yet(image: ImageRecord) -> None:
    assert backup_of_image(image) is None


def test_of_a_plan_that_comes_twice_the_first_counts() -> None:
    plans = [SupportedPolicyRecord("daily", retention_period_days=7.0), SupportedPolicyRecord("daily")]
    assert [plan.retention_days for plan in supported_policies_of(plans).values()] == [7.0]


def test_a_bare_record_describes_a_droplet_without_details() -> None:
    assert description_of(DropletRecord(7)) == Description(tags=None)
