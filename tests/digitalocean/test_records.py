"""Records are read leniently where the API is lenient, and one that cannot be understood costs only itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.digitalocean import records
from exporter.digitalocean.records import (
    BackupRecord,
    DropletRecord,
    ImageRecord,
    NamedWindow,
    Page,
    PolicyRecord,
    PolicySettings,
    Region,
    SupportedPolicyRecord,
    UnreadableBody,
    unix_seconds,
)
from tests.support.api_records import date

HUGE = 10**400


def body(key: str, value: Any, **more: Any) -> bytes:
    return json.dumps({key: value, "links": {}, "meta": {"total": 1}, **more}).encode()


def one_droplet(**fields: Any) -> Page[DropletRecord]:
    return records.read_droplets(body("droplets", [{"id": 7, **fields}]))


def one_policy(**fields: Any) -> Page[PolicyRecord]:
    return records.read_policies(body("policies", {"7": fields}))


def one_backup(**fields: Any) -> Page[BackupRecord]:
    return records.read_backups(body("backups", [{"id": 7, "created_at": "2024-09-13T20:00:00Z", **fields}]))


# Droplets -------------------------------------------------------------------------------------------------------------


def test_a_droplet_is_read_with_the_fields_that_are_used() -> None:
    """A full record gives its values, the region its slug."""
    page = one_droplet(
        name="web-1",
        region={"slug": "nyc3", "name": "New York 3"},
        size_slug="s-1vcpu-1gb",
        status="active",
        created_at="2020-07-21T18:37:44Z",
        disk=25,
        tags=["web", "env:prod"],
        backup_ids=[53893572],
        memory="ignored",
        features=None,
    )
    assert page.records == {
        7: DropletRecord(
            7,
            "web-1",
            Region("nyc3"),
            "s-1vcpu-1gb",
            "active",
            date(1595356664),
            25.0,
            ("web", "env:prod"),
            (53893572,),
        )
    }


@pytest.mark.parametrize("name", ["name", "region", "size_slug", "status", "created_at", "disk", "tags", "backup_ids"])
def test_a_droplet_needs_only_its_id(name: str) -> None:
    """Every other field may be null or missing, and is then unknown."""
    assert one_droplet().records == one_droplet(**{name: None}).records == {7: DropletRecord(7)}


def test_no_backup_ids_differ_from_an_empty_list() -> None:
    """Missing ids are unknown, an empty list is a statement."""
    assert one_droplet().records[7].backup_ids is None
    assert one_droplet(backup_ids=[]).records[7].backup_ids == ()


@pytest.mark.parametrize(
    "fields",
    [
        {"name": "a" * 513},
        {"size_slug": "a" * 513},
        {"region": {"slug": "a" * 513}},
        {"tags": ["a" * 513]},
        {"tags": ["a"] * 1001},
        {"backup_ids": [1] * 10_001},
    ],
)
def test_a_text_or_list_far_beyond_the_apis_limits_costs_its_record(fields: dict[str, Any]) -> None:
    """Labels are made of these texts, and every scrape carries them."""
    assert one_droplet(**fields).rejected == {7}


@pytest.mark.parametrize("odd", ["x", 3, {"a": 1}, [None], [[]]])
def test_odd_snapshot_and_volume_ids_do_not_cost_the_record(odd: Any) -> None:
    """They only add to what is known of a Droplet."""
    assert set(one_droplet(snapshot_ids=odd, volume_ids=odd).records) == {7}


@pytest.mark.parametrize(
    "fields",
    [
        {"name": 3},
        {"region": "nyc3"},
        {"region": {"slug": 3}},
        {"size_slug": []},
        {"status": True},
        {"created_at": "yesterday"},
        {"created_at": 1595356664},
        {"created_at": "2024-02-30T00:00:00Z"},
        {"disk": "25"},
        {"disk": -1},
        {"disk": HUGE},
        {"tags": "web"},
        {"tags": [None]},
        {"backup_ids": {}},
        {"backup_ids": ["1"]},
        {"backup_ids": [0]},
    ],
)
def test_a_droplet_with_a_field_of_the_wrong_type_is_left_out_by_its_id(fields: dict[str, Any]) -> None:
    """A record with a field of the wrong type is left out, and its id is kept."""
    page = one_droplet(**fields)
    assert (page.records, page.rejected, page.unidentified) == ({}, frozenset({7}), 0)
    assert page.reason
    assert page.rejections == 1


@pytest.mark.parametrize("item", [None, 3, "x", [], {}, {"id": None}, {"id": 0}, {"id": -4}, {"id": 2**63}, {"id": []}])
def test_a_record_without_a_readable_id_is_counted_as_such(item: Any) -> None:
    """`null`, or a record without an id, is one rejected record of unknown id."""
    page = records.read_droplets(body("droplets", [item, {"id": 8}]))
    assert (set(page.records), page.rejected, page.unidentified, page.length) == ({8}, frozenset(), 1, 2)


@pytest.mark.parametrize("written", ["7", 7.0])
def test_an_id_of_the_wrong_type_still_names_its_droplet(written: Any) -> None:
    """An id as text is a mistake in the record, but a readable one."""
    page = records.read_droplets(body("droplets", [{"id": written}]))
    assert (page.records, page.rejected) == ({}, frozenset({7}))


def test_a_record_that_comes_good_and_bad_counts_as_good() -> None:
    """The same id twice on a page is one Droplet."""
    page = records.read_droplets(body("droplets", [{"id": 7, "disk": "x"}, {"id": 7}]))
    assert (set(page.records), page.rejected) == ({7}, frozenset())


@pytest.mark.parametrize(
    ("bad", "ids"),
    [
        (b'{"id": 5, "name": "\xff\xfe"}', {5}),
        (rb'{"id": 5, "name": "\ud800"}', {5}),
        (b'{"id": 5, "disk": NaN}', {5}),
        (b'{"id": 5, "disk": 1e999}', {5}),
        (b'{"id": 5, "disk": Infinity}', {5}),
    ],
)
def test_values_beyond_json_cost_their_record_only(bad: bytes, ids: set[int]) -> None:
    """Broken text, half a surrogate pair, NaN and numbers out of range: the neighbours are read."""
    page = records.read_droplets(b'{"droplets": [' + bad + b', {"id": 6}], "meta": {"total": 2}}')
    assert (set(page.records), page.rejected, page.total) == ({6}, frozenset(ids), 2)


# Instants -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "instant"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01t00:00:01z", 1.0),
        ("1970-01-01T00:00:00", 0.0),
        ("1970-01-01T05:30:00+05:30", 0.0),
        ("1969-12-31T19:00:00.25-05:00", 0.25),
        ("1970-01-01T00:00:00.123456789Z", 0.123457),
        ("2024-02-29T23:59:59Z", 1709251199.0),
        ("2199-12-31T23:59:59Z", 7258118399.0),
    ],
)
def test_instants_are_unix_seconds_whatever_their_offset(text: str, instant: float) -> None:
    """RFC 3339 with any offset and fraction; one without an offset is UTC."""
    assert unix_seconds(one_backup(created_at=text).records[7].created_at) == pytest.approx(instant, abs=1e-6)


@pytest.mark.parametrize(
    "text",
    [
        "0001-01-01T00:00:00Z",
        "0001-01-01T00:00:00+14:00",
        "1969-12-31T23:59:59Z",
        "2200-01-01T00:00:00Z",
        "9999-12-31T23:59:59Z",
        "9999-12-31T23:59:59-12:00",
    ],
)
def test_an_impossible_date_is_unknown(text: str) -> None:
    """A backup with such a date is left out, because it would look like a missed one; elsewhere the date is unknown."""
    assert one_backup(created_at=text).rejected == {7}
    assert unix_seconds(one_droplet(created_at=text).records[7].created_at) is None


# Policies -------------------------------------------------------------------------------------------------------------

PLAN = {"plan": "weekly", "weekday": "SUN", "hour": 20, "window_length_hours": 4, "retention_period_days": 28}
INTRA_DAILY = PolicyRecord(None, PolicySettings("intra_daily_4h", hour=0))
SOMEDAY = PolicyRecord(None, PolicySettings("whenever", "someday"))
END_ALONE = PolicyRecord(None, None, NamedWindow(None, date(100800)))
WINDOW = {"start": "1970-01-02T00:00:00Z", "end": "1970-01-02T04:00:00Z"}


def test_a_policy_is_read_with_its_settings_and_its_window() -> None:
    """All three parts are optional in the record, and here all are given."""
    page = one_policy(droplet_id=7, backup_enabled=True, backup_policy=PLAN, next_backup_window=WINDOW)
    assert page.records == {
        7: PolicyRecord(True, PolicySettings("weekly", "SUN", 20, 4.0, 28.0), NamedWindow(date(86400), date(100800)))
    }


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, PolicyRecord()),
        ({"droplet_id": 7, "backup_enabled": False}, PolicyRecord(False)),
        ({"backup_enabled": None, "backup_policy": None, "next_backup_window": None}, PolicyRecord()),
        ({"backup_policy": {}}, PolicyRecord(backup_policy=PolicySettings())),
        (
            {"backup_policy": {"plan": "intra_daily_4h", "hour": 0}},
            INTRA_DAILY,
        ),
        (
            {"backup_policy": {"plan": "whenever", "weekday": "someday"}},
            SOMEDAY,
        ),
        ({"backup_policy": {"window_length_hours": 0}}, PolicyRecord(None, PolicySettings(window_length_hours=0.0))),
        ({"backup_policy": {"window_length_hours": 1.5}}, PolicyRecord(None, PolicySettings(window_length_hours=1.5))),
        ({"next_backup_window": {}}, PolicyRecord(next_backup_window=NamedWindow())),
        ({"next_backup_window": {"start": WINDOW["start"]}}, PolicyRecord(next_backup_window=NamedWindow(date(86400)))),
        (
            {"next_backup_window": {"start": None, "end": WINDOW["end"]}},
            END_ALONE,
        ),
        ({"droplet_id": "nonsense"}, PolicyRecord()),
        ({"droplet_id": 8, "backup_enabled": True}, PolicyRecord(True)),
    ],
)
def test_a_policy_may_lack_anything_and_is_known_by_its_key(fields: dict[str, Any], expected: PolicyRecord) -> None:
    """Every shape seen in the field is read."""
    assert one_policy(**fields).records == {7: expected}


@pytest.mark.parametrize(
    "fields",
    [
        {"backup_enabled": 1},
        {"backup_enabled": "true"},
        {"backup_policy": "daily"},
        {"backup_policy": []},
        {"backup_policy": {"plan": 4}},
        {"backup_policy": {"weekday": 0}},
        {"backup_policy": {"hour": 24}},
        {"backup_policy": {"hour": -1}},
        {"backup_policy": {"hour": "20"}},
        {"backup_policy": {"window_length_hours": -4}},
        {"backup_policy": {"window_length_hours": 1e300}},
        {"backup_policy": {"retention_period_days": "7"}},
        {"next_backup_window": "now"},
        {"next_backup_window": {"start": "now", "end": WINDOW["end"]}},
        {"next_backup_window": {"start": 0, "end": 1}},
    ],
)
def test_a_policy_with_a_field_of_the_wrong_type_is_left_out_by_its_id(fields: dict[str, Any]) -> None:
    """A policy that is misunderstood is worse than one that is missing."""
    page = one_policy(**fields)
    assert (page.records, page.rejected, page.unidentified) == ({}, frozenset({7}), 0)


@pytest.mark.parametrize("record", [None, 3, [], "x"])
def test_a_policy_that_is_no_object_is_rejected_by_its_key(record: Any) -> None:
    """`null` under a Droplet's id says that the Droplet is there."""
    page = records.read_policies(body("policies", {"7": record, "8": {}}))
    assert (set(page.records), page.rejected, page.unidentified) == ({8}, frozenset({7}), 0)


@pytest.mark.parametrize("key", ["", "x", "0", "-7", "7.0", " 7", "007", "٧", "9" * 30])
def test_a_key_that_is_no_id_gives_way_to_the_records_own(key: str) -> None:
    """If a key is no id, the record's droplet_id counts; without one the record is rejected."""
    assert set(records.read_policies(body("policies", {key: {"droplet_id": 9}})).records) == {9}
    page = records.read_policies(body("policies", {key: {"droplet_id": "?"}, "8": {}}))
    assert (set(page.records), page.rejected, page.unidentified) == ({8}, frozenset(), 1)


# Backups, images, supported policies ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "size"),
    [({}, None), ({"size_gigabytes": None}, None), ({"size_gigabytes": 2.34}, 2.34), ({"size_gigabytes": 0}, 0.0)],
)
def test_a_backup_needs_its_id_and_its_instant(fields: dict[str, Any], size: float | None) -> None:
    """A size may be missing or null; type, name and regions do not matter."""
    page = one_backup(type="snapshot", regions=[], name=None, **fields)
    assert page.records == {7: BackupRecord(7, date(1726257600), size)}


@pytest.mark.parametrize(
    "fields", [{"created_at": None}, {"created_at": ""}, {"size_gigabytes": "2"}, {"size_gigabytes": -0.1}]
)
def test_a_backup_without_a_good_instant_or_size_is_left_out(fields: dict[str, Any]) -> None:
    """A backup without a valid instant or size is left out; nothing is guessed."""
    assert one_backup(**fields).rejected == {7}


def test_a_backup_without_created_at_is_left_out() -> None:
    """A backup without `created_at` is left out."""
    assert records.read_backups(body("backups", [{"id": 7}])).rejected == {7}


def test_images_are_read() -> None:
    """An image gives what a backup needs, its status and its type; all but the id may be missing."""
    full = {
        "id": 5,
        "type": "backup",
        "status": "available",
        "created_at": "1970-01-01T00:00:10Z",
        "size_gigabytes": 1.5,
        "min_disk_size": 25,
        "slug": None,
    }
    page = records.read_images(body("images", [full, {"id": 6}, {"id": 8, "created_at": 3}]))
    assert page.records == {5: ImageRecord(5, "backup", "available", date(10), 1.5), 6: ImageRecord(6)}
    assert page.rejected == {8}


def test_supported_policies_are_read_in_order_and_need_a_name() -> None:
    """Plans have no id: they are numbered; one without a name is left out."""
    weekly = {
        "name": "weekly",
        "possible_window_starts": [0, 4],
        "window_length_hours": 4,
        "retention_period_days": 28,
        "possible_days": ["SUN", "MON"],
    }
    page = records.read_supported_policies(
        json.dumps({"supported_policies": [weekly, {"possible_days": []}, {"name": "daily"}]}).encode()
    )
    assert page.records == {
        1: SupportedPolicyRecord("weekly", (0, 4), ("SUN", "MON"), 4.0, 28.0),
        3: SupportedPolicyRecord("daily"),
    }
    assert (page.unidentified, page.total) == (1, None)


# Single records -------------------------------------------------------------------------------------------------------


def test_a_single_droplet_and_policy_are_read_like_those_of_a_list() -> None:
    """The record under `droplet` or `policy` is the same record."""
    assert records.read_droplet(b'{"droplet": {"id": 7, "name": "a"}}') == DropletRecord(7, "a")
    assert records.read_policy(b'{"policy": {"droplet_id": 7, "backup_enabled": true}}', 7) == PolicyRecord(True)


@pytest.mark.parametrize("record", ["null", "3", '{"id": 7, "disk": "x"}', "{}"])
def test_a_single_droplet_that_cannot_be_understood_says_why(record: str) -> None:
    """The reason comes back in place of the record."""
    assert isinstance(records.read_droplet(b'{"droplet": ' + record.encode() + b"}"), str)


@pytest.mark.parametrize("record", ["null", '{"backup_enabled": 3}', '{"droplet_id": 8, "backup_enabled": true}'])
def test_a_single_policy_that_cannot_be_understood_says_why(record: str) -> None:
    """So does a policy, and one that is of another Droplet."""
    assert isinstance(records.read_policy(b'{"policy": ' + record.encode() + b"}", 7), str)


def test_an_answer_without_its_record_is_unreadable() -> None:
    """No `policy` in the answer is the answer's fault, not a record's."""
    with pytest.raises(UnreadableBody, match="no `policy`"):
        records.read_policy(b"{}", 7)
    with pytest.raises(UnreadableBody, match="no `droplet`"):
        records.read_droplet(b"{}")


# Pages ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("links", "next_page", "last_page"),
    [
        (None, False, None),
        ({}, False, None),
        ([], False, None),
        ({"pages": None}, False, None),
        ({"pages": {}}, False, None),
        ({"pages": {"first": "https://x/?page=1", "prev": "https://x/?page=1"}}, False, None),
        ({"pages": {"next": "https://x/?page=2&per_page=200", "last": "https://x/?per_page=200&page=9"}}, True, 9),
        ({"pages": {"next": "", "last": ""}}, False, None),
        ({"pages": {"next": 2, "last": 9}}, False, None),
        ({"pages": {"next": "https://x/", "last": "https://x/?page=-3"}}, True, None),
        ({"pages": {"last": "http://[::1/?page=3"}}, False, None),
        ({"pages": {"last": "https://x/?page=99999999999"}}, False, None),
        ({"pages": {"last": "https://x/?page=٣"}}, False, None),
    ],
)
def test_of_the_links_only_the_page_numbers_are_read(links: Any, next_page: bool, last_page: int | None) -> None:
    """Whether there is a next page and which is the last; nonsense is no link."""
    page = records.read_droplets(body("droplets", [], links=links))
    assert (page.next_page, page.last_page) == (next_page, last_page)


@pytest.mark.parametrize("meta", [None, {}, [], {"total": None}, {"total": "3"}, {"total": -1}, {"total": 1.5}, 3])
def test_a_total_that_is_no_count_is_unknown(meta: Any) -> None:
    """A mistyped `meta` costs the count, not the page."""
    page = records.read_droplets(body("droplets", [{"id": 7}], meta=meta))
    assert (set(page.records), page.total) == ({7}, None)


def test_null_in_place_of_the_list_is_an_empty_one_only_if_the_count_says_so() -> None:
    """`null` in place of a list is an empty list only if `meta.total` is 0."""
    assert records.read_droplets(b'{"droplets": null, "meta": {"total": 0}}').length == 0
    assert records.read_policies(b'{"meta": {"total": 0}}').length == 0
    for text in (b'{"droplets": null}', b'{"droplets": null, "meta": {"total": 3}}', b'{"meta": {"total": 3}}'):
        with pytest.raises(UnreadableBody, match="no `droplets`"):
            records.read_droplets(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "an empty answer"),
        (b"  \n", "an empty answer"),
        (b"<html>", "not JSON"),
        (b'{"droplets": [{"id": 1}', "not JSON"),
        (b"[]", "not an object"),
        (b"null", "not an object"),
        (b'{"droplets": {}}', "`droplets` cannot be read"),
        (b'{"droplets": 3}', "`droplets` cannot be read"),
        (b'{"droplets": "null"}', "`droplets` cannot be read"),
        (b'{"drop\xfflets": []}', "no `droplets`"),
        (b'{"droplets": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "not JSON"),
        (b'{"droplets": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}", "not JSON"),
        (b"\xef\xbb\xbf{}", "no `droplets`"),
        (b'{"droplets": []} {}', "not JSON"),
        (b"\xff\xfe{\x00}\x00", "not JSON"),
    ],
)
def test_a_body_that_is_not_the_apis_says_what_was_found(text: bytes, message: str) -> None:
    """HTML, half a page, the wrong type, a tower of brackets: one documented error."""
    with pytest.raises(UnreadableBody, match=message):
        records.read_droplets(text)


def test_a_key_that_is_no_text_costs_its_policy_only() -> None:
    """Broken UTF-8 in a key of the map leaves the other Droplets' policies."""
    page = records.read_policies(b'{"policies": {"\xff": {}, "\xfe": {"droplet_id": 9}, "8": {}}}')
    assert (set(page.records), page.unidentified) == ({8, 9}, 1)


def test_policies_in_a_list_are_unreadable() -> None:
    """The policies come as a map."""
    with pytest.raises(UnreadableBody, match="`policies` cannot be read"):
        records.read_policies(b'{"policies": [{"droplet_id": 7}]}')


# The official document ------------------------------------------------------------------------------------------------


def test_every_example_of_the_official_document_is_read_without_a_rejection(reference: Path) -> None:
    """DigitalOcean's own examples are understood to the last record."""
    document = yaml.safe_load(reference.read_text())
    components = document["components"]
    readers: dict[str, tuple[Any, str]] = {
        "all_droplet_backup_policies": (records.read_policies, "policies"),
        "all_droplet_backups": (records.read_backups, "backups"),
        "all_droplets": (records.read_droplets, "droplets"),
        "all_images": (records.read_images, "images"),
        "droplets_supported_backup_policies": (records.read_supported_policies, "supported_policies"),
    }
    seen = 0
    for name, (read, key) in readers.items():
        content = components["responses"][name]["content"]["application/json"]
        examples = [content["example"]] if "example" in content else content["examples"].values()
        for example in examples:
            value = (
                example if "$ref" not in example else components["examples"][example["$ref"].split("/")[-1]]["value"]
            )
            page: Page[Any] = read(json.dumps(value, default=lambda instant: instant.isoformat()).encode())
            ids = list(value[key]) if key == "policies" else [one.get("id") for one in value[key]]
            assert page.length == len(ids)
            assert key == "supported_policies" or set(page.records) == {int(each) for each in ids}
            assert page.rejections == 0
            seen += page.length
    assert seen > 15


# Anything -------------------------------------------------------------------------------------------------------------

ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from([2**63, HUGE, "7", 7, 0]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["id", "droplet_id", "created_at", "backup_policy", "next_backup_window", "pages", "total", "start"]
            )
            | st.text(max_size=3),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)
KEYS = ("droplets", "policies", "backups", "images", "supported_policies", "droplet", "policy")


def read_all(text: bytes) -> None:
    """Every reader; what they may raise is UnreadableBody."""
    for read in (
        records.read_droplets,
        records.read_policies,
        records.read_backups,
        records.read_images,
        records.read_supported_policies,
        records.read_droplet,
        lambda body: records.read_policy(body, 7),
    ):
        try:
            found: Any = read(text)
        except UnreadableBody:
            continue
        if isinstance(found, Page):
            assert len(found.records) + found.rejections <= found.length


@given(value=ANY, meta=ANY, links=ANY)
def test_whatever_json_comes_a_page_or_the_documented_error_goes(value: Any, meta: Any, links: Any) -> None:
    """No value in any place makes a reader raise anything else, or count more records than there are."""
    read_all(json.dumps({**dict.fromkeys(KEYS, value), "meta": meta, "links": links}).encode())
    read_all(json.dumps(value).encode())


@given(st.binary(max_size=60), st.integers(0, 10_000))
def test_whatever_bytes_come_a_page_or_the_documented_error_goes(noise: bytes, at: int) -> None:
    """Random bytes, and JSON with some bytes overwritten, raise nothing but `UnreadableBody`."""
    read_all(noise)
    good = json.dumps(
        {
            "droplets": [{"id": 7, "name": "x", "created_at": "2024-09-13T20:00:00Z"}],
            "policies": {"7": {"backup_policy": PLAN, "next_backup_window": WINDOW}},
            "meta": {"total": 1},
            "links": {"pages": {"next": "https://x/?page=2"}},
        }
    ).encode()
    at %= len(good)
    read_all(good[:at] + noise + good[at + len(noise) :])
    read_all(good[:at])
