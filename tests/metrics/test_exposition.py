from __future__ import annotations

import asyncio
import math
import subprocess
import threading
import zlib
from collections.abc import Callable, Iterable, Sequence

import hypothesis
import pytest
from hypothesis import strategies as st
from msgspec.structs import replace
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text
from prometheus_client.samples import Sample

from exporter.fleet.model import (
    GIB,
    Backup,
    Description,
    Droplet,
    Fleet,
    Policy,
    Schedule,
    SupportedPolicy,
    Verdict,
    Window,
)
from exporter.fleet.state import Reason, State
from exporter.metrics import exposition, families
from exporter.metrics.exposition import Exposition, escape_label, number_text, render
from tests.support.samples import INSTANTS, NUMBERS, TEXT, fleets, plain_text

NOW = 1_700_000_000.0
HOUR = 3600.0
TAGS = ("App", "team")

WEB = Droplet(
    id=7,
    description=Description("web", "fra1", "s-1vcpu-1gb", "active", NOW - 1e6, 25 * GIB, ("team:ops",), None, 2),
    policy=Policy(True, "weekly", "SUN", 0, 4 * HOUR, 28.0, Window(NOW + 6 * HOUR, NOW + 10 * HOUR)),
    backups=(Backup(1, NOW - 700_000.0, 2 * GIB), Backup(2, NOW - 90_000.0, 2.5 * GIB)),
    refreshed_at=NOW - 60,
    expected=True,
    tag_labels=("", "ops"),
    interval=604800.0,
    retention_days=28.0,
    policy_supported=False,
    verdict=Verdict(
        State.MISSING,
        missed=(NOW - 2 * HOUR, NOW - HOUR),
        max_age=1_234_000.0,
        stale=False,
        lost=1,
        schedule=Schedule(NOW + 6 * HOUR, 604800.0, 4 * HOUR),
    ),
)
FLEET = Fleet("prod", (WEB,), (SupportedPolicy("weekly", window_length=4 * HOUR, retention_days=28.0),), known=True)

WEB_TEXT = """\
digitalocean_backup_droplet_info{App="",account="prod",droplet_id="7",droplet_name="web",region="fra1",\
size="s-1vcpu-1gb",status="active",team="ops"} 1.0
digitalocean_backup_droplet_created_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.699e+09
digitalocean_backup_expected{account="prod",droplet_id="7",droplet_name="web"} 1.0
digitalocean_backup_enabled{account="prod",droplet_id="7",droplet_name="web"} 1.0
digitalocean_backup_policy_info{account="prod",droplet_id="7",droplet_name="web",hour="0",plan="weekly",weekday="SUN"} \
1.0
digitalocean_backup_policy_supported{account="prod",droplet_id="7",droplet_name="web"} 0.0
digitalocean_backup_retention_days{account="prod",droplet_id="7",droplet_name="web"} 28.0
digitalocean_backup_interval_seconds{account="prod",droplet_id="7",droplet_name="web"} 604800.0
digitalocean_backup_next_window_start_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.7000216e+09
digitalocean_backup_next_window_end_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.700036e+09
digitalocean_backup_newest_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.69991e+09
digitalocean_backup_newest_size_bytes{account="prod",droplet_id="7",droplet_name="web"} 2.68435456e+09
digitalocean_backup_oldest_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.6993e+09
digitalocean_backup_kept{account="prod",droplet_id="7",droplet_name="web"} 2.0
digitalocean_backup_kept_size_bytes{account="prod",droplet_id="7",droplet_name="web"} 4.831838208e+09
digitalocean_backup_state{account="prod",droplet_id="7",droplet_name="web",state="missing"} 1.0
digitalocean_backup_missed_windows{account="prod",droplet_id="7",droplet_name="web"} 2.0
digitalocean_backup_overdue{account="prod",droplet_id="7",droplet_name="web"} 1.0
digitalocean_backup_max_age_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.234e+06
digitalocean_backup_stale{account="prod",droplet_id="7",droplet_name="web"} 0.0
digitalocean_backup_lost{account="prod",droplet_id="7",droplet_name="web"} 1.0
digitalocean_backup_attached_volumes{account="prod",droplet_id="7",droplet_name="web"} 2.0
digitalocean_backup_refreshed_timestamp_seconds{account="prod",droplet_id="7",droplet_name="web"} 1.69999994e+09
digitalocean_backup_droplets{account="prod"} 1.0
digitalocean_backup_unjudged_droplets{account="prod",reason="clock"} 0.0
digitalocean_backup_unjudged_droplets{account="prod",reason="unknown-policy"} 0.0
digitalocean_backup_unjudged_droplets{account="prod",reason="no-schedule"} 0.0
digitalocean_backup_unjudged_droplets{account="prod",reason="unread"} 0.0
digitalocean_backup_unjudged_droplets{account="prod",reason="first-look"} 0.0
digitalocean_backup_supported_policy_retention_seconds{account="prod",plan="weekly"} 2.4192e+06
digitalocean_backup_supported_policy_window_seconds{account="prod",plan="weekly"} 14400.0
digitalocean_backup_hours_until_next_window{account="prod",droplet_id="7",droplet_name="web"} 6.0
digitalocean_backup_newest_age_seconds{account="prod",droplet_id="7",droplet_name="web"} 90000.0
"""


def sample_lines(text: bytes, *names: str) -> str:
    """The lines that are samples, or those of the families named."""
    lines = [line for line in text.decode().split("\n") if line and not line.startswith("#")]
    return "".join(f"{line}\n" for line in lines if not names or line.split("{")[0] in names)


def lines_of(droplet: Droplet, *names: str, now: float = NOW) -> str:
    """The Droplet's samples of some families, in an account `a`."""
    page = render([Fleet("a", (droplet,), known=True)], now, TAGS)
    return sample_lines(page, *(f"digitalocean_backup_{name}" for name in names))


def account_lines(fleet: Fleet) -> str:
    return sample_lines(render([fleet], NOW), *(family.name for family in families.ACCOUNT_FAMILIES))


async def text_of(exposition: Exposition, now: float = NOW) -> bytes:
    return b"".join(await exposition.text_at(now))


def samples(parsed: Iterable[object]) -> list[Sample]:
    return [sample for family in parsed for sample in family.samples]  # type: ignore[attr-defined]


@pytest.fixture
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps so small that a handful of Droplets takes many, and a text that is compressed in a thread."""
    monkeypatch.setattr(exposition, "STEP", 1)
    monkeypatch.setattr(exposition, "SHORT", 300)


def test_known_droplet_has_every_family() -> None:
    """A Droplet of which all is known, and its account, have every family of the contract with its labels."""
    assert sample_lines(render([FLEET], NOW, TAGS)) == WEB_TEXT


def test_unknown_is_absent() -> None:
    """A Droplet with nothing but an empty policy has only its info and state, and its account has no counts."""
    fleet = Fleet("a", (Droplet(9, policy=Policy()),))
    assert sample_lines(render([fleet], NOW, TAGS)) == (
        'digitalocean_backup_droplet_info{App="",account="a",droplet_id="9",droplet_name="",region="",size="",status="",'
        'team=""} 1.0\n'
        'digitalocean_backup_state{account="a",droplet_id="9",droplet_name="",state="not-expected"} 1.0\n'
    )


def test_policy_that_is_off_says_only_that() -> None:
    """A policy that only says that backups are off gives `enabled` 0 and no policy_info."""
    assert lines_of(Droplet(1, policy=Policy(enabled=False)), "enabled", "policy_info") == (
        'digitalocean_backup_enabled{account="a",droplet_id="1",droplet_name=""} 0.0\n'
    )


def test_policy_info_leaves_missing_parts_empty() -> None:
    """A daily policy has no weekday, a plan may have no hour, and hour 0 is midnight, not missing."""
    head = 'digitalocean_backup_policy_info{account="a",droplet_id="1",droplet_name=""'
    midnight = lines_of(Droplet(1, policy=Policy(plan="daily", hour=0)), "policy_info")
    assert midnight == head + ',hour="0",plan="daily",weekday=""} 1.0\n'
    hourless = lines_of(Droplet(1, policy=Policy(plan="weekly", weekday="MON")), "policy_info")
    assert hourless == head + ',hour="",plan="weekly",weekday="MON"} 1.0\n'


def test_no_backups_are_zero_kept() -> None:
    """Without backups `kept` and its size are 0, with no newest or oldest; unread lists have no series."""
    names = (
        "kept",
        "kept_size_bytes",
        "newest_timestamp_seconds",
        "newest_size_bytes",
        "newest_age_seconds",
        "oldest_timestamp_seconds",
    )
    assert lines_of(Droplet(1, backups=()), *names) == (
        'digitalocean_backup_kept{account="a",droplet_id="1",droplet_name=""} 0.0\n'
        'digitalocean_backup_kept_size_bytes{account="a",droplet_id="1",droplet_name=""} 0.0\n'
    )
    assert lines_of(Droplet(1), *names) == ""


def test_backup_of_unknown_size_leaves_no_sum() -> None:
    """If the size of a backup is unknown there is no sum; the newest one's size is served only if it is known."""
    backups = (Backup(1, NOW - 10, None), Backup(2, NOW - 5, 3.0))
    sizes = ("newest_size_bytes", "kept_size_bytes")
    assert lines_of(Droplet(1, backups=backups), *sizes) == (
        'digitalocean_backup_newest_size_bytes{account="a",droplet_id="1",droplet_name=""} 3.0\n'
    )
    assert lines_of(Droplet(1, backups=backups[:1]), *sizes) == ""


def test_verdict_that_is_out_has_no_series() -> None:
    """What could not be judged is counted for the account, and the Droplet has neither of the verdict's series."""
    unjudged = Droplet(1, verdict=Verdict(State.UNJUDGED, Reason.UNREAD))
    assert lines_of(unjudged, "missed_windows", "overdue", "stale", "lost", "max_age_seconds") == ""
    standing = replace(WEB, verdict=Verdict(State.OVERDUE, Reason.CLOCK, missed=(NOW,)))
    counted = account_lines(Fleet("a", (unjudged, standing, replace(WEB, id=8)), known=True))
    reasons = [line for line in counted.splitlines() if "unjudged_droplets" in line]
    assert len(reasons) == len(Reason)
    assert [line for line in reasons if not line.endswith(" 0.0")] == [
        'digitalocean_backup_unjudged_droplets{account="a",reason="unread"} 1.0'
    ]


def test_empty_account_is_not_an_unknown_one() -> None:
    """An account that was listed and has no Droplets counts 0 of them; one not listed yet has no counts."""
    assert account_lines(Fleet("a", known=True)).startswith('digitalocean_backup_droplets{account="a"} 0.0\n')
    assert account_lines(Fleet("a")) == ""


def test_supported_policy_of_a_name_is_the_first() -> None:
    """A plan that comes twice has one sample, the first's; what it leaves out is absent."""
    twice = (
        SupportedPolicy("daily", window_length=4 * HOUR),
        SupportedPolicy("weekly", retention_days=28.0),
        SupportedPolicy("daily", window_length=8 * HOUR, retention_days=7.0),
    )
    assert account_lines(Fleet("a", supported=twice)) == (
        'digitalocean_backup_supported_policy_retention_seconds{account="a",plan="weekly"} 2.4192e+06\n'
        'digitalocean_backup_supported_policy_window_seconds{account="a",plan="daily"} 14400.0\n'
    )


def test_age_is_never_negative() -> None:
    """A backup dated ahead of this machine's clock is of age 0."""
    assert lines_of(Droplet(1, backups=(Backup(1, NOW + 30),)), "newest_age_seconds").endswith("} 0.0\n")


def test_window_that_closed_without_interval_has_no_hours() -> None:
    """After the named window has closed, the hours are absent only for a Droplet without a schedule."""
    window = Window(NOW + HOUR, NOW + 2 * HOUR)
    odd = Droplet(1, policy=Policy(next_window=window))
    daily = replace(odd, id=2, verdict=Verdict(State.PROTECTED, schedule=Schedule(NOW + HOUR, 24 * HOUR, HOUR)))
    fleet = Fleet("a", (odd, daily), known=True)
    name = "digitalocean_backup_hours_until_next_window"
    assert [line[-4:] for line in sample_lines(render([fleet], NOW), name).splitlines()] == [" 1.0", " 1.0"]
    assert sample_lines(render([fleet], NOW + 3 * HOUR), name) == (
        f'{name}{{account="a",droplet_id="2",droplet_name=""}} 22.0\n'
    )


def test_families_of_several_accounts_are_grouped_once() -> None:
    """Every family has one head, and below it the samples of all accounts by name."""
    page = render([replace(FLEET, account="b"), replace(FLEET, account="a")], NOW, TAGS).decode()
    names = [line.split(" ")[2] for line in page.split("\n") if line.startswith("# TYPE ")]
    assert len(names) == len(set(names)) == len(families.DROPLET_FAMILIES) + len(families.ACCOUNT_FAMILIES)
    kept = page.split("# TYPE digitalocean_backup_kept gauge\n")[1].split("#")[0]
    assert [line.split('"')[1] for line in kept.splitlines()] == ["a", "b"]


@hypothesis.given(fleets(2), INSTANTS)
def test_text_is_the_client_librarys_byte_for_byte(fleets: list[Fleet], now: float) -> None:
    """For any Droplets of any accounts the text is that of the client library, byte for byte."""
    assert render(fleets, now, TAGS) == plain_text(fleets, now, TAGS)


@pytest.mark.usefixtures("small_steps")
@hypothesis.settings(
    suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture],
    max_examples=hypothesis.settings().max_examples // 4,  # each is a dozen compressed pages
)
@hypothesis.given(st.lists(fleets(1), min_size=1, max_size=3), INSTANTS)
def test_page_is_that_of_the_latest_fleets(polls: list[list[Fleet]], now: float) -> None:
    """After any polls and removals of accounts, page and compressed page are the text of the fleets known last."""

    async def run() -> None:
        exposition, known = Exposition(TAGS[:1]), dict[str, Fleet]()
        for listed in polls:
            for account in known.keys() - {fleet.account for fleet in listed}:
                await exposition.remove(account)
            known = {fleet.account: fleet for fleet in listed}
            for fleet in listed:
                await exposition.update(fleet)
            wanted = plain_text(listed, now, TAGS[:1])
            assert await text_of(exposition, now) == wanted
            packed = zlib.decompressobj(wbits=31)
            page = b"".join(await exposition.text_at(now, tail=b"# EOF\n", gzip=True))
            assert packed.decompress(page) == wanted + b"# EOF\n"
            assert packed.eof, "length and checksum were not those of the text"
            assert packed.unused_data == b"", "more than one gzip member, which some clients cannot read"

    asyncio.run(run())


@hypothesis.given(NUMBERS)
def test_numbers_read_back(value: float) -> None:
    """Every number is written such that the client library reads the very same one."""
    read = samples(parse_text(f"x {number_text(value)}\n"))[0].value
    assert read == value or (math.isnan(read) and math.isnan(value))


@hypothesis.given(TEXT, TEXT, TEXT)
def test_odd_names_survive_the_round_trip(account: str, name: str, tag: str) -> None:
    """Names of any characters come out of the client library's parsers of both formats as they went in."""
    droplet = replace(WEB, description=Description(name, tag, name, tag), tag_labels=(tag, name))
    page = render(
        [Fleet(account, (droplet,), (SupportedPolicy(name, window_length=1.0),), known=True)], NOW, TAGS
    ).decode()
    openmetrics = parse_openmetrics(page + "# EOF\n")  # type: ignore[no-untyped-call]
    for read in (samples(parse_text(page)), samples(openmetrics)):
        labels = {sample.name.removeprefix("digitalocean_backup_"): sample.labels for sample in read}
        assert labels["droplet_info"] == {
            "account": account,
            "droplet_id": "7",
            "droplet_name": name,
            "region": tag,
            "size": name,
            "status": tag,
            "App": tag,
            "team": name,
        }
        assert labels["newest_age_seconds"] == {"account": account, "droplet_id": "7", "droplet_name": name}
        assert labels["supported_policy_window_seconds"] == {"account": account, "plan": name}


def test_lone_surrogate_costs_only_itself() -> None:
    """Half a surrogate pair, which JSON can spell and UTF-8 cannot, becomes U+FFFD; whole pairs are what they mean."""
    assert escape_label("a\ud800b\udfff\ud83d\ude00") == "a\ufffdb\ufffd😀"
    fleet = Fleet("\udcff", (replace(WEB, description=Description("\ud800")),))
    assert 'droplet_name="\ufffd"' in render([fleet], NOW, TAGS).decode()


def test_promtool_objects_to_the_two_allowed_names_alone(tool: Callable[[str], str]) -> None:
    """Prometheus' own check of a page with every family complains of the two names that keep their human unit."""
    page = render([FLEET], NOW, TAGS)
    checked = subprocess.run([tool("promtool"), "check", "metrics"], input=page, capture_output=True, check=False)
    complaints = {line.split(" ")[0] for line in (checked.stdout + checked.stderr).decode().splitlines()}
    assert complaints == {"digitalocean_backup_hours_until_next_window", "digitalocean_backup_retention_days"}


async def test_page_before_the_first_poll_has_no_samples() -> None:
    """Before any poll the page is there, with the families' heads and no sample."""
    page = await text_of(Exposition(TAGS))
    assert page.startswith(b"# HELP digitalocean_backup_droplet_info ")
    assert sample_lines(page) == ""


async def test_values_move_between_polls() -> None:
    """What moves with the clock is right at every scrape, to a second, without a poll in between."""
    exposition = Exposition(TAGS)
    await exposition.update(FLEET)
    for passed in (0.0, 0.4, 1.0, 59.9, 7200.0, 60.0):
        text = await text_of(exposition, NOW + passed)
        read = {sample.name: sample.value for sample in samples(parse_text(text.decode()))}
        assert abs(read["digitalocean_backup_newest_age_seconds"] - (90_000 + passed)) < 1
        assert abs(read["digitalocean_backup_hours_until_next_window"] * 3600 - (6 * 3600 - passed)) < 1


async def test_parallel_scrapes_share_one_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    """What moves with the clock is computed once a second, however many scrapers ask, plain or compressed."""
    asked: list[float] = []

    def counted(_schedule: Schedule | None, _window: Window | None, now: float) -> float:
        asked.append(now)
        return 1.0

    monkeypatch.setattr(families, "hours_until_next_window", counted)
    exposition = Exposition(TAGS)
    await exposition.update(FLEET)
    pages = await asyncio.gather(*(exposition.text_at(NOW + turn / 10, gzip=turn % 2 == 0) for turn in range(10)))
    assert asked == [NOW]
    assert len({b"".join(page) for page in pages[1::2]}) == 1
    await exposition.text_at(NOW + 1)
    assert asked == [NOW, NOW + 1]


@pytest.mark.usefixtures("small_steps")
@pytest.mark.parametrize("gzip", [False, True])
async def test_scraper_that_gives_up_takes_nothing_from_the_others(gzip: bool) -> None:
    """If a scrape is cancelled during the computation, the others that wait for it still get their page."""
    exposition = Exposition(TAGS)
    await exposition.update(FLEET)
    first = asyncio.create_task(exposition.text_at(NOW, gzip=gzip))
    second = asyncio.create_task(exposition.text_at(NOW, gzip=gzip))
    await asyncio.sleep(0)
    first.cancel()
    page = b"".join(await second)
    assert first.cancelled()
    assert (zlib.decompress(page, wbits=31) if gzip else page) == render([FLEET], NOW, TAGS)


@pytest.mark.usefixtures("small_steps")
async def test_scrapes_go_on_while_a_poll_is_rendered() -> None:
    """During a rendering scrapes are answered, with the whole text from before it and never half of the new one."""
    old = replace(FLEET, droplets=tuple(replace(WEB, id=number) for number in range(100)))
    new = replace(old, droplets=tuple(replace(WEB, id=number, backups=()) for number in range(50)))
    exposition = Exposition(TAGS)
    await exposition.update(old)
    await text_of(exposition)  # what moves with the clock is computed once a second: now, not during the update
    before, after = render([old], NOW, TAGS), render([new], NOW, TAGS)
    update = asyncio.create_task(exposition.update(new))
    seen = []
    while not update.done():
        seen.append(await text_of(exposition))
        await asyncio.sleep(0)
    assert len(seen) > 3
    assert set(seen) <= {before, after}
    assert await text_of(exposition) == after


@pytest.mark.usefixtures("small_steps")
async def test_accounts_updated_at_once_are_both_there() -> None:
    """Polls of several accounts that end together, and a removal among them, all count."""
    exposition = Exposition(TAGS)
    await exposition.update(replace(FLEET, account="gone"))
    both = [replace(FLEET, account=name) for name in ("b", "a")]
    await asyncio.gather(exposition.update(both[0]), exposition.remove("gone"), exposition.update(both[1]))
    assert await text_of(exposition) == render(both, NOW, TAGS)


async def test_slow_rendering_does_not_undo_a_later_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow rendering of one account does not replace the text of another account that ended later."""
    exposition_ = Exposition(TAGS)
    together, later_is_done, calls = exposition._Snapshot.of, threading.Event(), iter(range(9))

    def slow_at_first(accounts: Sequence[exposition._AccountText]) -> exposition._Snapshot:
        call = next(calls)
        if call == 0:
            later_is_done.wait(0.2)
        snapshot = together(accounts)
        if call == 1:
            later_is_done.set()
        return snapshot

    monkeypatch.setattr(exposition._Snapshot, "of", slow_at_first)
    both = [replace(FLEET, account=name) for name in ("a", "b")]
    await asyncio.gather(*map(exposition_.update, both))
    assert await text_of(exposition_) == render(both, NOW, TAGS)


async def test_droplet_without_tag_values_has_empty_labels() -> None:
    """A Droplet whose tags are unknown has empty tag labels."""
    text = lines_of(replace(WEB, tag_labels=()), "droplet_info")
    assert 'App=""' in text
    assert 'team=""' in text


def numbered(count: int) -> tuple[Droplet, ...]:
    return tuple(replace(WEB, id=number, description=Description(f"web-{number}")) for number in range(count))


async def test_updated_text_is_the_client_librarys() -> None:
    """After Droplets changed, came, went, were renamed or reordered, the text equals a complete rendering."""
    every = numbered(350)
    changed = tuple(replace(d, expected=False) if d.id in (3, 150, 349) else d for d in every)
    renamed = (replace(every[0], description=Description("new")), *every[1:])
    steps = (every, changed, (*every, *numbered(360)[350:]), every[:120] + every[121:], renamed, every[::-1], every[:1])
    exposition_ = Exposition(TAGS)
    for listed, droplets in enumerate((*steps, (), every)):
        fleet = replace(FLEET, droplets=droplets, listed_at=NOW + listed)
        await exposition_.update(fleet)
        assert await text_of(exposition_) == plain_text([fleet], NOW, TAGS)
        page = b"".join(await exposition_.text_at(NOW, gzip=True))
        assert zlib.decompress(page, wbits=31) == plain_text([fleet], NOW, TAGS)


async def test_steady_update_renders_nothing() -> None:
    """Unchanged Droplets keep their text; for a changed Droplet only its own batch is rendered."""
    every = numbered(350)
    exposition_ = Exposition(TAGS)
    await exposition_.update(replace(FLEET, droplets=every))
    before = exposition_._accounts["prod"]
    await exposition_.update(replace(FLEET, droplets=(*every,)))
    steady = exposition_._accounts["prod"]
    assert all(a is b for a, b in zip(before.static, steady.static, strict=True))
    assert steady.moving is before.moving
    await exposition_.update(replace(FLEET, droplets=(*every[:349], replace(every[349], expected=False))))
    after = exposition_._accounts["prod"]
    place = [family.name for family in exposition.STATIC_FAMILIES].index("digitalocean_backup_expected")
    same = [a is b for a, b in zip(before.static[place].text, after.static[place].text, strict=True)]
    assert same == [True, True, True, False]
