"""The status page: what it says, that it can be trusted with any name, and how it looks in a real browser."""

from __future__ import annotations

import asyncio
import gzip
import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode, urljoin

import pytest

from exporter import __version__
from exporter.config.model import Config, MaxAge, Poll, RateLimit
from exporter.demo.fleet import demo_fleet
from exporter.fleet.model import Fleet
from exporter.fleet.selection import Criteria, Selection
from exporter.reports.phrases import MOST_DRAWN
from exporter.web.app import dispatch, routes
from exporter.web.droplet_table import CurrentTable, DropletTable, SortColumn, make_table
from exporter.web.page import Query, StatusPage
from tests.support.lookalike import Fault, Fixture, backup, disabled, policy
from tests.support.made_up_fleet import NOW, made_up_fleet
from tests.support.processes import exporter, until
from tests.support.serving import eventually, serving
from tests.support.world import DAY, HOUR, MONDAY, TOKEN, add, healthy
from tests.web.browser import PICTURES, Tab, chromium
from tests.web.site import Site, names_of, site

NOON = MONDAY + 12 * HOUR
HOSTILE = '<script>window.pwned=1;alert(1)</script><img src=x onerror="window.pwned=1">\'"&amp;{{ 7*7 }}'
HOSTILE_TAG = 'x:"><svg onload=window.pwned=1><a href=javascript:alert(1)>'


def text_of(page: str) -> str:
    """What a reader reads: tags dropped, entities undone, spaces joined."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", re.sub(r"<title>.*?</title>", "", page))).split())


class Parts(HTMLParser):
    """The elements and attributes of a page, as a browser finds them."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs


def mixed() -> Fixture:
    """A Droplet of each kind, judged at noon of a Monday: what `test_states` counts."""
    account = healthy(1, now=NOON, first_id=1)
    account.droplet_list[0]["name"] = "well"

    def one(droplet_id: int, name: str, ages: list[float], record: Any, size: float = 2.0, **over: Any) -> None:
        made = [
            backup(droplet_id * 1000 + place, MONDAY + HOUR - age * DAY, size=size) for place, age in enumerate(ages)
        ]
        add(account, droplet_id, made, record, name=name, **over)

    def daily(droplet_id: int) -> Any:
        return policy(droplet_id, hour=0, next_window=MONDAY + DAY, retention_days=7)

    one(2, "two missed", [2, 3, 4], daily(2), region="fra1")
    one(3, "one missed", [1, 2, 3], daily(3), tags=["team:web"])
    one(4, "never", [], daily(4))
    one(5, "off", [], disabled(5))
    one(6, "node", [], disabled(6), tags=["k8s"])
    one(7, "new", [], daily(7), created_at=NOON - HOUR)
    one(8, "weekly", [6, 13], policy(8, plan="weekly", weekday="TUE", hour=0, next_window=MONDAY + DAY), size=40.0)
    one(9, "unclear", [5], None)
    return account


class TestText:
    async def test_states(self) -> None:
        """The first line answers whether all is well, each state is counted, and the worst Droplets come first."""
        async with site(mixed(), at=NOON) as running:
            reply = await running.get()
        text = text_of(reply.text)
        assert reply.status == 200
        assert "4 of 9 droplets need attention: 2 missing, 1 overdue, 1 unprotected; 1 could not be judged" in text
        for count in (
            "9 droplets",
            "2 missing",
            "1 overdue",
            "1 unjudged",
            "2 protected",
            "1 waiting",
        ):
            assert count in text
        assert names_of(reply.text) == [
            "never",
            "two missed",
            "one missed",
            "unclear",
            "off",
            "new",
            "weekly",
            "well",
            "node",
        ]
        assert "no backup since Saturday's window, 2 missed" in text
        assert "weekly, Tuesdays 00:00-04:00 UTC kept 28 days" in text
        assert f"digitalocean-backup-exporter {__version__}" in text

    async def test_all_is_well(self) -> None:
        """The page says that no backup is missing."""
        async with site(healthy(3, now=NOON), at=NOON) as running:
            page = (await running.get()).text
        assert '<h1 id="summary">All 3 droplets are protected</h1>' in page
        assert 'class="summary good"' in page

    async def test_row(self) -> None:
        """A Droplet's row shows the newest backup's age, the number and size of all, and draws each of them."""
        async with site(healthy(1, now=NOON, days=5), at=NOON) as running:
            page = (await running.get()).text
        text = text_of(page)
        assert "11 h today 01:00" in text
        assert "tomorrow 00:00 in 12 h" in text
        assert "5 11.7 GiB newest 2.3 GiB" in text
        assert "<title>5 backups in the last 7 d, 11 h to 4 d 11 h old</title>" in page
        drawn = re.search(r'<path class="bars"[^>]* d="([^"]*)"', page)
        assert drawn is not None
        assert drawn[1].count("M") == 5

    async def test_missed_windows_are_drawn(self) -> None:
        """Each missed window is a cross in the drawing, and is in its title."""
        async with site(mixed(), at=NOON) as running:
            page = (await running.get("/?q=two+missed")).text
        drawn = re.search(r'<path class="missed" d="([^"]*)"', page)
        assert drawn is not None
        assert drawn[1].count("M") == 2
        assert "2 windows missed</title>" in page

    async def test_crosses_are_the_missed_windows(self) -> None:
        """The crosses stand where the windows of the verdict began, though the schedule lies elsewhere by now."""
        account = Fixture()
        add(account, 1, [backup(1, MONDAY - 4 * DAY + HOUR)], policy(1, hour=0, retention_days=7))
        async with site(account, at=NOON - DAY, watched_for=2 * DAY) as running:
            account.policy_map["1"] = policy(1, hour=20, retention_days=7)
            running.clock.set(NOON)
            await running.poll()
            (droplet,) = running.service.fleets[0].droplets
            page = (await running.get()).text
        missed = droplet.verdict.missed
        assert missed == (MONDAY - 2 * DAY, MONDAY - DAY)
        drawn = re.search(r'<path class="missed" d="([^"]*)"', page)
        assert drawn is not None
        places = [float(x) + 2.6 for x in re.findall(r"M([\d.]+) ", drawn[1])]
        assert places == pytest.approx(
            [4 + 152 * (1 - (NOON - start) / (1.04 * 7 * DAY)) for start in missed], abs=0.06
        )

    async def test_most_crosses(self) -> None:
        """Of more missed windows than fit in the drawing, the latest are drawn, and its title counts them all."""
        account = Fixture()
        add(account, 1, [], policy(1, hour=0, retention_days=90))
        async with site(account, at=NOON, watched_for=80 * DAY) as running:
            page = (await running.get()).text
        drawn = re.search(r'<path class="missed" d="([^"]*)"', page)
        assert drawn is not None
        assert drawn[1].count("M") == MOST_DRAWN == 60
        assert "80 windows missed</title>" in page
        first = float(drawn[1][1:].split()[0]) + 2.6
        assert first == pytest.approx(4 + 152 * (1 - (NOON - MONDAY + 59 * DAY) / (1.04 * 90 * DAY)), abs=0.06)

    async def test_age_limit_and_volumes(self) -> None:
        """A row shows how old the newest backup may be, and how many volumes are not backed up."""
        account = Fixture()
        made = [backup(1, MONDAY - DAY + HOUR)]
        record = policy(1, hour=0, next_window=MONDAY + DAY)
        add(account, 1, made, record, tags=["env:prod"], volume_ids=["a", "b"])
        add(account, 2, [backup(2, MONDAY + HOUR)], {**record, "droplet_id": 2}, volume_ids=["c"])
        limit = MaxAge(Selection(Criteria(tags=frozenset({"env:prod"}))), 26 * HOUR)
        config = Config((), poll=Poll(timeout=2.0), max_age=(limit,))
        async with site(account, at=MONDAY + 5 * HOUR, watched_for=0.0, config=config) as running:
            text = text_of((await running.get()).text)
        assert "stale the newest backup is 1 d 4 h old, over its limit of 1 d 2 h" in text
        assert "1 d 4 h yesterday 01:00 limit 1 d 2 h" in text
        assert "4 h today 01:00 limit 2 d 8 h" in text
        assert "2 volumes, not in its backups" in text
        assert "1 volume, not in its backups" in text

    async def test_first_look(self) -> None:
        """The row of a Droplet that cannot be judged yet says what is known, and which window decides."""
        account = Fixture()
        add(account, 1, [backup(1, MONDAY - DAY + HOUR)], policy(1, hour=0, next_window=MONDAY + DAY))
        async with site(account, at=NOON, watched_for=2 * HOUR) as running:
            text = text_of((await running.get()).text)
        assert "1 of 1 droplet could not be judged; nothing is known to be missing" in text
        assert "first seen 2 hours ago with its newest backup 1 d 11 h old; the window of tomorrow 00:00" in text

    async def test_account(self) -> None:
        """An account shows its last poll and the token's remaining requests."""
        async with site(healthy(2, now=NOON), at=NOON) as running:
            running.clock.set(NOON + 130)
            text = text_of((await running.get()).text)
            spent = sum(running.apis[0].count().values())
        assert "prod up to date Watched 2 droplets Last poll 2 min ago" in text
        assert f"Rate limit {5000 - spent:,} of 5,000 requests left" in text

    async def test_links(self) -> None:
        """The page leads to the metrics wherever they are, to health and to readiness."""
        async with site(healthy(1, now=NOON), at=NOON, metrics="/prom/m") as running:
            page = (await running.get()).text
            for path in re.findall(r'<nav aria-label="Exporter">(.*?)</nav>', page, re.DOTALL)[0].split('href="')[1:]:
                assert (await running.get(path.partition('"')[0])).status == 200
        assert '"./prom/m"' in page

    async def test_no_request_reaches_the_api(self) -> None:
        """Looking at the page costs the token nothing."""
        async with site(healthy(2, now=NOON), at=NOON) as running:
            running.apis[0].forget()
            for path in ("/", "/?sort=age", "/?q=x", "/-/style.css"):
                await running.get(path)
            assert not running.apis[0].count()

    async def test_several_accounts(self) -> None:
        """Several accounts share one table that shows the account of each Droplet."""
        async with site(healthy(2, now=NOON), healthy(1, now=NOON, first_id=50), at=NOON) as running:
            page = (await running.get()).text
            assert "All 3 droplets are protected" in page
            assert "<bdi>stage</bdi> · <bdi>id 50</bdi>" in page
            assert await running.names("/?account=stage") == ["droplet-50"]
            unknown = await running.get("/?account=other")
        assert len(names_of(unknown.text)) == 3
        assert "There is no account “other”; all are shown." in text_of(unknown.text)


class TestUnwell:
    async def test_before_the_first_poll(self) -> None:
        """Before the first poll the page says so, and reloads itself."""
        async with site(healthy(2, now=NOON), at=NOON, polled=False) as running:
            page = (await running.get()).text
        assert "Not known yet: the first poll is running" in page
        assert '<meta http-equiv="refresh" content="5">' in page
        assert "The fleet in numbers" not in page
        assert "All" not in text_of(page)

    async def test_progress_of_the_first_poll(self) -> None:
        """During the first poll the page shows how many lists are read."""
        account = healthy(30, now=NOON)
        async with site(account, at=NOON, polled=False) as running:
            running.apis[0].faults += [Fault("backups", hang=True), Fault("images", status=500)]
            poll = asyncio.create_task(running.poll())
            async with asyncio.timeout(20):
                while not running.service.statuses[0].readings_planned:  # noqa: ASYNC110  # what a reader sees
                    await asyncio.sleep(0.01)
            page = (await running.get()).text
            poll.cancel()
            await asyncio.gather(poll, return_exceptions=True)
        assert "of 30 lists of backups read in this poll" in page
        assert '<progress max="30" value="0">' in page

    async def test_wrong_token(self) -> None:
        """If the token is refused, the page shows the API's message and calls nothing good."""
        async with site(healthy(2, now=NOON), at=NOON, polled=False) as running:
            running.apis[0].token = "another"
            await running.poll()
            page = (await running.get()).text
        text = text_of(page)
        assert "Not known: the API could not be read yet" in text
        assert 'class="summary bad"' in page
        assert "401" in text
        assert "TOKEN_OF_THE_TESTS" in text
        assert TOKEN not in page

    async def test_failing_after_good_polls(self) -> None:
        """When listings fail, the page says since when its data are old; it keeps them, and is no longer green."""
        async with site(healthy(2, now=NOON), at=NOON) as running:
            running.apis[0].faults.append(Fault(status=500))
            running.clock.set(NOON + 2 * HOUR)
            await running.poll()
            page = (await running.get()).text
        text = text_of(page)
        assert 'class="summary warn"' in page
        assert "As of today 12:00 UTC: all 2 droplets are protected" in text
        assert "the last complete listing was today 12:00 UTC, 2 hours ago" in text
        assert "500" in text
        assert len(names_of(page)) == 2

    async def test_polls_that_stopped(self) -> None:
        """Data are called old after three intervals without a poll, whatever its result was."""
        async with site(healthy(2, now=NOON), at=NOON) as running:
            running.clock.set(NOON + 14 * 60)
            assert "The data" not in text_of((await running.get()).text)
            running.clock.set(NOON + 16 * 60)
            text = text_of((await running.get()).text)
        assert "The data are old: the last complete listing was today 12:00 UTC, 16 minutes ago." in text

    async def test_one_account_of_two_fails(self) -> None:
        """If nothing is known of an account, the page does not say that all is right, and names it."""
        async with site(healthy(2, now=NOON), healthy(1, now=NOON), at=NOON, polled=False) as running:
            running.apis[1].token = "another"
            await running.poll()
            page = (await running.get()).text
        assert 'class="summary warn"' in page
        assert "Nothing is known yet of account stage: no listing could be read" in text_of(page)

    async def test_cold_start_beyond_the_budget(self) -> None:
        """A start too large for the budget says how far it is."""
        config = Config((), poll=Poll(timeout=2.0), rate_limit=RateLimit(per_hour=40, reserve=0))
        async with site(healthy(60, now=NOON), at=NOON, config=config, polled=False) as running:
            running.apis[0].faults.append(Fault("images", status=403))
            await running.poll()
            page = (await running.get()).text
            unread = running.service.statuses[0].unread
        assert 0 < unread < 60
        assert f"{unread} of 60 droplets: backups not read yet" in text_of(page)
        assert f'<progress max="60" value="{60 - unread}">' in page
        assert "The rate limit" in page or "the rate limit" in page

    @pytest.mark.parametrize(("ahead", "words"), [(2 * DAY, "2 days ahead of"), (-3 * HOUR, "3 hours behind")])
    async def test_clocks_that_differ(self, ahead: float, words: str) -> None:
        """Where the clocks differ by more than an hour, a banner says by how much, what follows and what to do."""
        async with site(healthy(2, now=NOON), at=NOON, polled=False) as running:
            running.apis[0].now = lambda: NOON + ahead
            await running.poll()
            text = text_of((await running.get()).text)
            running.apis[0].now = lambda: NOON + 60
            await running.poll()
            agreed = text_of((await running.get()).text)
        assert f"The API's clock is {words} this host's, so nothing is judged." in text
        assert "prod clocks differ" in text
        assert "Nothing is judged until the clocks agree: set the clock of this host." in text
        assert "2 of 2 droplets could not be judged" in text
        assert "clock" not in agreed
        assert "All 2 droplets are protected" in agreed

    async def test_unknown_tags(self) -> None:
        """If the API shows no tags, the account says so, and what to do."""
        account = healthy(2, now=NOON)
        for record in account.droplet_list:
            del record["tags"]
        async with site(account, at=NOON) as running:
            text = text_of((await running.get()).text)
        assert (
            "The tags of 2 droplets are not known: the API did not send them. Give the token the scope tag:read."
            in text
        )

    async def test_held_back(self) -> None:
        """The rate limit is named where it held readings back, and not where they failed for another cause."""
        said = "The rate limit did not allow the rest."
        config = Config((), poll=Poll(timeout=2.0), rate_limit=RateLimit(per_hour=40, reserve=0))
        async with site(healthy(60, now=NOON), at=NOON, config=config, polled=False) as running:
            running.apis[0].faults.append(Fault("images", status=403))
            await running.poll()
            assert said in text_of((await running.get()).text)
        async with site(healthy(3, now=NOON), at=NOON, polled=False) as running:
            running.apis[0].faults += [Fault("backups", status=500), Fault("images", status=500)]
            await running.poll()
            text = text_of((await running.get()).text)
        assert "3 of 3 droplets: backups not read yet" in text
        assert said not in text

    async def test_many_readers_wait_for_each_other(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """One page is made at a time, because scrapes take turns with it."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            made = MadeByHand(monkeypatch)
            readers = [asyncio.create_task(running.get(f"/?q={number}")) for number in range(20)]
            for _ in range(5):
                assert (await running.get("/metrics")).status == 200
            assert len(made.texts) == 1
            made.go_on.set()
            assert {page.status for page in await asyncio.gather(*readers)} == {200}
            assert sorted(made.texts) == sorted(str(number) for number in range(20))

    async def test_readers_of_the_same_page_share_it(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A page is made once for all that wait for it, but anew for those that ask when it has been begun."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            made = MadeByHand(monkeypatch)
            readers = [asyncio.create_task(running.get()) for _ in range(20)]
            await eventually(lambda: made.texts == [""])
            readers += [asyncio.create_task(running.get()) for _ in range(20)]
            readers += [asyncio.create_task(running.get(**{"Accept-Encoding": "gzip"})) for _ in range(20)]
            for _ in range(5):
                assert (await running.get("/metrics")).status == 200
            made.go_on.set()
            pages = await asyncio.gather(*readers)
            assert made.texts == ["", "", ""]  # one more plain, one more compressed
            assert [page.headers.get("Content-Encoding") for page in pages] == [None] * 40 + ["gzip"] * 20
            assert {gzip.decompress(page.body) for page in pages[40:]} == {page.body for page in pages[:40]}

    async def test_no_page_is_made_for_readers_that_have_gone(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Nothing is made for a reader that has left while it waited, and others get their page."""
        monkeypatch.setattr("exporter.web.server.CROWD", 0)
        async with site(healthy(1, now=NOON), at=NOON) as running:
            made = MadeByHand(monkeypatch)
            staying = asyncio.create_task(running.get("/?q=staying"))
            await eventually(lambda: made.texts == ["staying"])
            leaving = [asyncio.create_task(running.get(f"/?q={number}")) for number in range(80)]
            assert (await running.get("/metrics")).status == 200
            for reader in leaving:
                reader.cancel()
            await asyncio.gather(*leaving, return_exceptions=True)
            assert (await running.get("/metrics")).status == 200
            made.go_on.set()
            assert (await staying).status == 200
            assert (await running.get("/?q=last")).status == 200
            assert made.texts == ["staying", "last"]

    async def test_state_that_is_not_kept(self, tmp_path: Path) -> None:
        """While the state file cannot be written the page says what that means, and where the reason is."""
        said = "The state file is not written, so a restart forgets what is known now. The log says why."
        config = Config((), poll=Poll(timeout=2.0), state_file=tmp_path / "state.json")
        async with site(healthy(1, now=NOON), at=NOON, config=config) as running:
            assert said not in text_of((await running.get()).text)
            in_the_way = tmp_path / "state.json.new"
            in_the_way.mkdir()
            running.clock.set(NOON + 86400)
            await running.poll()
            assert said in text_of((await running.get()).text)
            in_the_way.rmdir()
            await running.poll()
            assert said not in text_of((await running.get()).text)
        async with site(healthy(1, now=NOON), at=NOON) as running:
            assert said not in text_of((await running.get()).text), "nothing is to be kept"

    async def test_empty_account(self) -> None:
        """An account without Droplets is not called protected, and a reason is offered."""
        async with site(Fixture(), at=NOON) as running:
            page = (await running.get()).text
        text = text_of(page)
        assert 'class="summary warn"' in page
        assert "There is no droplet to look at" in text
        assert "A token of the wrong team looks the same." in text

    async def test_many_problems(self) -> None:
        """Of a thousand problems the page shows ten, and says how many more there are."""
        account = healthy(40, now=NOON)
        async with site(account, at=NOON, polled=False) as running:
            running.apis[0].faults.append(Fault("backups", status=500))
            running.apis[0].faults.append(Fault("images", status=500))
            await running.poll()
            count = len(running.service.statuses[0].problems)
            page = (await running.get()).text
        assert page.count("<li>GET") + page.count("<li>/v2") <= 10
        if count > 10:
            assert f"and {count - 10} more; the log has them all" in page


class TestQuery:
    @pytest.fixture
    async def running(self) -> Any:
        async with site(mixed(), at=NOON) as running:
            yield running

    @pytest.mark.parametrize(
        ("asked", "names"),
        [
            ("q=missed", ["two missed", "one missed"]),
            ("q=MISSED+fra1", ["two missed"]),
            ("q=team%3Aweb", ["one missed"]),
            ("q=weekly", ["weekly"]),
            ("q=8", ["weekly", "node"]),
            ("state=unprotected", ["off"]),
            ("state=attention", ["never", "two missed", "one missed", "unclear", "off"]),
            ("state=missing&q=one", []),
            ("q=%20%20", None),
            ("state=", None),
        ],
    )
    async def test_filter(self, running: Site, asked: str, names: list[str] | None) -> None:
        """Droplets are found by words of name, id, region, size, tags, plan and account, and by state."""
        found = await running.names(f"/?{asked}")
        assert found == names if names is not None else len(found) == 9

    @pytest.mark.parametrize(
        ("sort", "first", "last"),
        [
            ("state", "never", "node"),
            ("-state", "node", "never"),
            ("name", "never", "well"),
            ("-name", "well", "never"),
            ("age", "well", None),
            ("-age", "weekly", None),
            ("kept", None, "well"),
            ("-kept", "well", None),
            ("-size", "weekly", None),
            ("plan", None, None),
            ("next", None, None),
        ],
    )
    async def test_sort(self, running: Site, sort: str, first: str | None, last: str | None) -> None:
        """The table sorts by any column either way, and says by which; what has no value comes last both ways."""
        page = (await running.get(f"/?sort={quote(sort)}")).text
        names = names_of(page)
        assert len(names) == 9
        assert first is None or names[0] == first
        assert last is None or names[-1] == last
        if sort.removeprefix("-") in ("age", "size"):
            assert set(names[-4:]) == {"never", "off", "node", "new"}
        direction = "descending" if sort.startswith("-") else "ascending"
        assert re.findall(r'class="(\w+)" aria-sort="(\w+)"', page) == [(sort.removeprefix("-"), direction)]

    async def test_heading_turns_the_order_round(self, running: Site) -> None:
        """A heading's link sorts by its column and, followed again, turns the order round; filters stay."""
        seen = []
        path = "/?q=e&sort=size"
        for _ in range(2):
            page = (await running.get(path)).text
            link = re.search(r'class="size"[^>]*><a href="([^"#]*)', page)
            assert link is not None
            path = unescape(link[1])
            seen.append(path)
        assert seen == ["./?q=e&sort=-size", "./?q=e&sort=size"]

    @pytest.mark.parametrize(
        ("asked", "note"),
        [
            ("state=nonsense", "There is no state “nonsense”; all are shown."),
            ("sort=nonsense", "There is no column “nonsense” to sort by; the worst come first."),
            ("sort=--age", "There is no column “--age” to sort by"),
            ("q=" + "x" * 300, "The search was cut to 200 characters."),
        ],
    )
    async def test_what_cannot_be_had_is_said(self, running: Site, asked: str, note: str) -> None:
        """A query that makes no sense gives the page and a note about what was ignored."""
        reply = await running.get(f"/?{asked}")
        assert reply.status == 200
        assert note in text_of(reply.text)

    @pytest.mark.parametrize(
        "asked",
        [
            "page=0",
            "page=-1",
            "page=99999999999999999999",
            "page=1e3",
            "page=²",
            "q=%ff%fe",
            "q=%00%0a",
            "q=%ed%a0%80",
            "state=%00",
            "q=a&q=b&q=c",
            "sort",
            "&&&=&=x",
            "q=" + "%20x" * 100,
            "account=" + "y" * 3000,
            "unknown=1",
        ],
    )
    async def test_nonsense_does_no_harm(self, running: Site, asked: str) -> None:
        """No query breaks the page."""
        assert (await running.get("/?" + quote(asked, safe="%=&+"))).status == 200

    async def test_pages(self) -> None:
        """A hundred Droplets make a page; a page too far is the last, and filters lead through the pages."""
        async with site(healthy(250, now=NOON, days=1), at=NOON) as running:
            first = (await running.get("/?sort=name")).text
            assert len(names_of(first)) == 100
            assert "1 to 100 of 250 droplets" in text_of(first)
            assert "Page 1 of 3" in text_of(first)
            assert 'rel="prev"' not in first
            seen = names_of(first)
            page = first
            while following := re.search(r'rel="next" href="([^"#]*)', page):
                page = (await running.get(unescape(following[1]))).text
                seen += names_of(page)
            assert sorted(seen) == sorted(f"droplet-{number}" for number in range(1, 251))
            assert len(seen) == 250
            last = (await running.get("/?sort=name&page=77")).text
            assert "Page 3 of 3" in text_of(last)
            assert len(names_of(last)) == 50


class TestHostile:
    @pytest.mark.parametrize("value", [HOSTILE, HOSTILE_TAG, "a\x00b\x1b[31m", "‮evil", "{% raw %}", "a" * 500])
    async def test_names_and_tags(self, value: str) -> None:
        """Names of Droplets, tags and regions are always text on the page."""
        account = Fixture()
        made = [backup(1001, MONDAY + HOUR)]
        record = policy(1, hour=0, next_window=MONDAY + DAY, plan="daily", weekday=value)
        add(account, 1, made, record, name=value, tags=[value], status=value, size_slug=value)
        account.droplet_list[0]["region"] = {"slug": value, "name": value}
        async with site(account, at=NOON) as running:
            reply = await running.get()
        assert reply.status == 200
        assert names_of(reply.text) == [value]
        self._assert_inert(reply.text)

    @pytest.mark.parametrize("name", ["q", "state", "sort", "account", "page", "other"])
    async def test_query(self, name: str) -> None:
        """What a query says comes back as text and nothing else."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            reply = await running.get("/?" + urlencode({name: HOSTILE}))
        assert reply.status == 200
        self._assert_inert(reply.text)

    async def test_account_name_and_plan(self) -> None:
        """The name of an account and an unknown plan are always text on the page."""
        account = healthy(1, now=NOON)
        account.policy_map["1"]["backup_policy"]["plan"] = HOSTILE
        async with site(account, Fixture(), at=NOON, names=(HOSTILE, "x")) as running:
            page = (await running.get()).text
        assert HOSTILE in unescape(page)
        self._assert_inert(page)

    @staticmethod
    def _assert_inert(page: str) -> None:
        parts = Parts()
        parts.feed(page)
        assert not parts.tags & {"script", "iframe", "object", "embed", "style", "base"}
        assert page.count("<img") == 1
        assert not {name for name, _ in parts.attributes if name.startswith("on") or name in ("style", "srcdoc")}
        assert {value[0] for name, value in parts.attributes if name in ("href", "src", "action") and value} <= {
            ".",
            "#",
        }
        assert " 49 " not in text_of(page)


class TestHttp:
    async def test_headers(self) -> None:
        """The headers allow only the page's own style and icon, no script, and no frame."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            reply = await running.get()
        rules = dict(rule.strip().partition(" ")[::2] for rule in reply.headers["Content-Security-Policy"].split(";"))
        assert rules == {
            "default-src": "'none'",
            "style-src": "'self'",
            "img-src": "'self'",
            "form-action": "'self'",
            "base-uri": "'none'",
            "frame-ancestors": "'none'",
        }
        assert reply.headers["X-Content-Type-Options"] == "nosniff"
        assert reply.headers["Referrer-Policy"] == "no-referrer"
        assert reply.headers["Cache-Control"] == "no-store"
        assert reply.headers["Content-Type"] == "text/html; charset=utf-8"

    async def test_nothing_from_elsewhere(self) -> None:
        """The page names no other host, has no script and no inline style, and all it refers to is served."""
        async with site(mixed(), at=NOON) as running:
            page = (await running.get()).text
            for path in set(re.findall(r'(?:src|href|action)="([^"#][^"]*)"', page)):
                assert path.startswith("./")
                assert (await running.get(unescape(path).partition("#")[0])).status == 200
        assert not re.search(r"https?://|<script|<style| style=|javascript:", page)

    async def test_assets(self) -> None:
        """Style and icon come with their types, and the style's address changes with its content."""
        async with site(Fixture(), at=NOON) as running:
            style, icon = await running.get("/-/style.css"), await running.get("/-/icon.svg")
            page = (await running.get()).text
        assert style.headers["Content-Type"] == "text/css; charset=utf-8"
        assert icon.headers["Content-Type"] == "image/svg+xml"
        assert "max-age" in style.headers["Cache-Control"]
        assert re.search(r'href="\./-/style\.css\?[0-9a-f]{8}"', page)
        assert "@import" not in style.text
        assert "url(" not in style.text

    async def test_behind_a_proxy(self, tool: Callable[[str], str], tmp_path: Path) -> None:
        """Behind nginx under a sub-path every link, form, style and icon of the page leads to the exporter."""
        async with site(mixed(), at=NOON) as running:
            with nginx(tool("nginx"), tmp_path, running.url) as proxy:
                page = (await running.get(f"{proxy}/tools/backups/")).text
                assert len(names_of(page)) == 9
                links = set(re.findall(r'(?:src|href|action)="([^"#][^"]*)"', page))
                assert len(links) > 10
                for link in links:
                    reply = await running.get(urljoin(f"{proxy}/tools/backups/", unescape(link)))
                    assert reply.status == 200, link

    async def test_demo_and_refresh(self) -> None:
        """The demo's page says that it is the demo; every page reloads itself at the poll interval, within bounds."""
        async with site(healthy(1, now=NOON), at=NOON, config=Config((), poll=Poll(interval=300.0))) as running:
            page = (await running.get("/?q=x")).text
            assert "This is the demo" not in page
            assert '<meta http-equiv="refresh" content="300">' in page
            table = routes(running.service, "/metrics", lifecycle=False, demo=True)
            async with serving(lambda request: dispatch(table, request)) as server:
                page = (await running.get("http://{}:{}/".format(*server.addresses[0]))).text
            assert "This is the demo" in page
        async with site(healthy(1, now=NOON), at=NOON, config=Config((), poll=Poll(interval=1.0))) as running:
            assert '<meta http-equiv="refresh" content="30">' in (await running.get()).text

    async def test_gzip(self) -> None:
        """The page is compressed where that is accepted."""
        async with site(healthy(50, now=NOON), at=NOON) as running:
            plain = await running.get(**{"Accept-Encoding": "identity"})
            packed = await running.get(**{"Accept-Encoding": "gzip"})
        assert "Content-Encoding" not in plain.headers
        assert packed.headers["Content-Encoding"] == "gzip"
        assert len(packed.body) < len(plain.body) / 4
        assert gzip.decompress(packed.body) == plain.body

    async def test_head_and_post(self) -> None:
        """HEAD has the page's headers and no body; nothing can be posted."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            head = await running.get(method="HEAD")
            post = await running.get(method="POST")
        assert head.status == 200
        assert head.body == b""
        assert post.status == 405


class TestLarge:
    FLEET = made_up_fleet(10_000)

    async def test_sorting_and_filtering_pause(self) -> None:
        """Work over ten thousand Droplets is done in steps, between which scrapes have the loop."""
        turns = 0

        async def scrape() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        other = asyncio.create_task(scrape())
        try:
            table = await make_table((self.FLEET,), NOW)
            assert turns >= 10
            turns = 0
            await table.select(SortColumn.NAME)
            assert turns >= 10
            turns = 0
            await table.select(words=["web", "fra"])
            assert turns >= 10
        finally:
            other.cancel()

    async def test_sorted_in_steps_is_sorted(self) -> None:
        """Sorting in steps gives the order that sorting at once gives."""
        table = await make_table((self.FLEET,), NOW)
        ages = [entry.droplet.newest.created_at for entry in table.droplets if entry.droplet.newest]
        assert ages == sorted(ages)
        names = [entry.droplet.name for entry in await table.select(SortColumn.NAME)]
        assert names == sorted(names)
        assert len(set(names)) == 10_000

    async def test_one_table_for_all_readers(self) -> None:
        """A fleet is sorted once for all readers; a new fleet is seen at once."""
        fleets = [self.FLEET]
        tables = CurrentTable(lambda: (fleets[0],), lambda: NOW)
        first, *others = await asyncio.gather(*(tables.current() for _ in range(10)))
        assert all(other is first for other in others)
        fleets[0] = Fleet("production", known=True)
        assert not (await tables.current()).droplets

    async def test_reader_between_the_end_of_a_table_and_its_callbacks(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A reader that comes when the table's task has ended, and its callbacks have not run, gets the table at once.

        Awaiting a task that is done does not yield. A loop that does so never lets the callbacks run.
        """
        gate = asyncio.get_running_loop().create_future()
        asked = 0

        def fleets() -> tuple[Fleet, ...]:
            nonlocal asked
            asked += 1
            assert asked < 50, "the reader asks again and again without yielding"
            return (self.FLEET,)

        async def gated(fleets: tuple[Fleet, ...], now: float) -> DropletTable:
            await gate
            return DropletTable(fleets, (), {}, 0, 0.0, now)

        monkeypatch.setattr("exporter.web.droplet_table.make_table", gated)
        tables = CurrentTable(fleets, lambda: NOW)
        first = asyncio.create_task(tables.current())
        await asyncio.sleep(0)
        await asyncio.sleep(0)  # the table's task waits at the gate
        gate.set_result(None)  # the loop runs the task's last step next,
        second = asyncio.create_task(tables.current())  # and then, before the task's callbacks, this reader
        assert await first is await second

    async def test_fleets_that_change_faster_than_a_table_is_made(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """If every fleet changes while its table is made, as with hundreds of accounts, the reader still gets one."""
        fleets = [(Fleet("production", known=True),)]

        async def overtaken(of: tuple[Fleet, ...], now: float) -> DropletTable:
            await asyncio.sleep(0)
            fleets[0] = (Fleet("production", known=True),)
            return DropletTable(of, (), {}, 0, 0.0, now)

        monkeypatch.setattr("exporter.web.droplet_table.make_table", overtaken)
        tables = CurrentTable(lambda: fleets[0], lambda: NOW)
        async with asyncio.timeout(10):
            assert (await tables.current()).fleets

    def test_many_readers_while_polls_run(self) -> None:
        """Sixty readers all get the page during quick polls, and the exporter still answers and stops."""
        with exporter("--demo", "--demo.speed=20000") as running:
            running.line('event="poll finished"')
            with ThreadPoolExecutor(60) as readers:
                replies = list(readers.map(lambda _: running.status("/"), range(240)))
            assert {status for status, _ in replies} == {200}
            assert running.status("/-/healthy")[0] == 200
            assert running.stop() == 0

    async def test_ready_before_it_is_asked_for(self) -> None:
        """Once somebody has looked at the page, a poll prepares it for the next look; before that it costs nothing."""
        async with site(healthy(3, now=NOON), at=NOON, polled=False) as running:
            made = []

            async def counted(fleets: tuple[Fleet, ...], now: float) -> DropletTable:
                made.append(now)
                return await make_table(fleets, now)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr("exporter.web.droplet_table.make_table", counted)
                await running.poll()
                assert made == []
                await running.get()
                assert made == [NOON]
                running.clock.set(NOON + 300)
                await running.poll()
                await asyncio.sleep(0.01)
                assert made == [NOON, NOON + 300]
                running.clock.set(NOON + 330)
                await running.get()
                assert made == [NOON, NOON + 300]

    async def test_reader_disconnects(self) -> None:
        """A reader who disconnects does not cancel the table for the others."""
        tables = CurrentTable(lambda: (self.FLEET,), lambda: NOW)
        leaver = asyncio.create_task(tables.current())
        stayer = asyncio.create_task(tables.current())
        await asyncio.sleep(0)
        leaver.cancel()
        assert len((await stayer).droplets) == 10_000


class MadeByHand:
    """Pages are made only once they may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.texts: list[str] = []
        """What was searched for, by each page that has been begun."""
        self.go_on = asyncio.Event()
        html = StatusPage.html

        async def by_hand(page: StatusPage, query: Query) -> bytes:
            self.texts.append(query.text)
            await self.go_on.wait()
            return await html(page, query)

        monkeypatch.setattr(StatusPage, "html", by_hand)


@contextmanager
def nginx(program: str, folder: Path, upstream: str) -> Iterator[str]:
    """A reverse proxy that serves the upstream under `/tools/backups/`; gives its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; error_log stderr; pid {folder}/pid; events {{}} http {{ {paths} access_log off;"
        f" server {{ listen 127.0.0.1:{port}; location /tools/backups/ {{ proxy_pass {upstream}/; }} }} }}"
    )
    process = subprocess.Popen([program, "-c", str(folder / "nginx.conf")], stderr=subprocess.DEVNULL)

    def listens() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", port)):
            return True
        return False

    try:
        until(listens, "nginx listens")
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def devtools(tool: Callable[[str], str]) -> Iterator[str]:
    with chromium(tool("chromium")) as address:
        yield address


@pytest.fixture
async def tab(devtools: str) -> Any:
    async with Tab(devtools) as tab:
        yield tab


CONTRAST = r"""
(() => {
  const parts = (text) => { const n = text.match(/[\d.]+/g).map(Number); return [...n.slice(0, 3), n[3] ?? 1]; };
  const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3])).concat(1);
  const linear = (c) => c <= 10.31 ? c / 3294.6 : ((c / 255 + .055) / 1.055) ** 2.4;
  const light = ([r, g, b]) => .2126 * linear(r) + .7152 * linear(g) + .0722 * linear(b);
  const white = [255, 255, 255, 1];
  const ground = (e) => e ? over(parts(getComputedStyle(e).backgroundColor), ground(e.parentElement)) : white;
  const poor = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const text = walker.currentNode.data.trim(), e = walker.currentNode.parentElement;
    if (!text || e.closest('title, option') || !e.getClientRects().length) continue;
    const under = ground(e), style = getComputedStyle(e);
    const [a, b] = [light(over(parts(style.color), under)), light(under)].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05), large = parseFloat(style.fontSize) >= 24;
    if (ratio < (large ? 3 : 4.5)) poor.push(`${text} ${ratio.toFixed(2)} ${style.color}`);
  }
  return poor;
})()
"""
"""Texts whose contrast with their ground is under WCAG 2's AA (1.4.3)."""
NAMES = "[...document.querySelectorAll('tbody th > bdi')].map(e => e.textContent)"


class TestBrowser:
    """The page in real headless Chromium; screenshots are in `test-output/page`."""

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    # A screen of 1280 pixels, less a scrollbar.
    @pytest.mark.parametrize(("width", "height"), [(1264, 1000), (390, 1400)])
    async def test_looks(self, tab: Tab, scheme: Any, width: int, height: int) -> None:
        """The demo's fleet is readable on a desktop and a phone, light and dark, and the browser objects to nothing."""
        at = MONDAY + 9 * HOUR
        async with site(demo_fleet(at), at=at, names=("demo",)) as running:
            await tab.look(width, height, scheme)
            await tab.open(running.url)
            await tab.picture(PICTURES / f"demo-{width}-{scheme}.png")
            assert tab.complaints == []
            assert {url.removeprefix(running.url).partition("?")[0] for url in tab.requests} <= {
                "/",
                "/-/style.css",
                "/-/icon.svg",
            }
            assert await tab.run(CONTRAST) == []
            assert await tab.run("document.documentElement.scrollWidth <= innerWidth")
            edges = [
                f"document.querySelector('.{one}').getBoundingClientRect().right" for one in ("droplets", "summary")
            ]
            assert await tab.run(" <= ".join(edges)), "the table juts out"
            ground = await tab.run("getComputedStyle(document.body).backgroundColor")
            assert (sum(map(int, re.findall(r"\d+", ground))) < 384) == (scheme == "dark")
            shown = await tab.run(NAMES)
            record = next(one for one in demo_fleet(at).droplets(at) if '"' in one["name"])
            assert record["name"] in shown

    async def test_narrow_phone(self, tab: Tab) -> None:
        """On a narrow phone nothing is cut off, also with long names without spaces."""
        account = healthy(2, now=NOON)
        account.droplet_list[0].update(name="x" * 250, tags=["y" * 250])
        async with site(account, at=NOON) as running:
            await tab.look(320, 800)
            await tab.open(running.url)
            assert await tab.run("document.documentElement.scrollWidth") <= 320

    async def test_filter_by_keyboard(self, tab: Tab) -> None:
        """A word and Enter filter the table, and the address can be shared."""
        async with site(mixed(), at=NOON) as running:
            await tab.open(running.url)
            await tab.click("input[name=q]")
            await tab.type("missed fra1")
            async with tab.loading():
                await tab.press("Enter", 13)
            assert await tab.run(NAMES) == ["two missed"]
            assert "q=missed+fra1" in await tab.run("location.search")
            assert await tab.run("document.querySelector('input[name=q]').value") == "missed fra1"
            async with tab.loading():
                await tab.click("a.clear")
            assert await tab.run("document.querySelectorAll('tbody tr').length") == 9

    async def test_filter_by_number(self, tab: Tab) -> None:
        """A click on a number shows the Droplets that it counts."""
        async with site(mixed(), at=NOON) as running:
            await tab.open(running.url)
            async with tab.loading():
                await tab.click("a.tile.overdue")
            assert await tab.run(NAMES) == ["one missed"]
            assert await tab.run("document.querySelector('select[name=state]').value") == "overdue"

    async def test_sort_by_click(self, tab: Tab) -> None:
        """A click on a heading sorts by it, also for screen readers; a second click reverses the order."""
        async with site(mixed(), at=NOON) as running:
            await tab.look(1280, 900)
            await tab.open(running.url)
            for first, direction in (("weekly", "descending"), ("well", "ascending")):
                async with tab.loading():
                    await tab.click("thead th.age a")
                assert await tab.run("document.querySelector('tbody th bdi').textContent") == first
                assert await tab.run("document.querySelector('th.age').getAttribute('aria-sort')") == direction

    async def test_hostile_names(self, tab: Tab) -> None:
        """Scripts in a name, a tag, an account's name, a problem or a query do not run in a real browser."""
        account = Fixture()
        record = policy(1, hour=0, next_window=MONDAY + DAY)
        add(account, 1, [backup(1001, MONDAY + HOUR)], record, name=HOSTILE, tags=[HOSTILE_TAG])
        async with site(account, Fixture(), at=NOON, names=(HOSTILE_TAG, HOSTILE)) as running:
            for path in (
                "/",
                "/?" + urlencode({"q": "<script>", "state": HOSTILE, "sort": HOSTILE_TAG, "account": HOSTILE}),
            ):
                await tab.open(running.url + path)
                assert await tab.run("window.pwned === undefined")
                assert await tab.run("document.querySelectorAll('script, iframe, [onerror], [onload]').length") == 0
            await tab.open(running.url)
            assert await tab.run("document.querySelector('tbody th bdi').textContent") == HOSTILE
            assert await tab.run("document.querySelector('.tag').textContent") == HOSTILE_TAG
            await tab.picture(PICTURES / "hostile.png")
        assert tab.complaints == []

    async def test_policy_stops_what_escaping_missed(self, tab: Tab) -> None:
        """If a script got into the page, the browser would neither run it nor load anything for it."""
        async with site(healthy(1, now=NOON), at=NOON) as running:
            await tab.open(running.url)
            await tab.run(
                "document.body.insertAdjacentHTML('beforeend', '<img src=x: onerror=\"window.pwned=1\">');"
                "const script = document.createElement('script'); script.textContent = 'window.pwned = 1';"
                "document.body.append(script);"
                "new Promise(done => setTimeout(done, 50))"
            )
            assert await tab.run("window.pwned === undefined")
        assert any("Content Security Policy" in complaint for complaint in tab.complaints)

    async def test_screen_reader(self, tab: Tab) -> None:
        """A screen reader finds landmarks, the verdict, named fields, headings and texts for the drawings."""
        async with site(mixed(), at=NOON) as running:
            await tab.look(1280, 900)
            await tab.open(running.url)
            nodes = await tab.accessible()
            await tab.look(390, 900)
            small = await tab.accessible()
        roles = [node["role"] for node in nodes]
        for landmark in ("banner", "main", "contentinfo", "search"):
            assert roles.count(landmark) == 1
        names = {(node["role"], node["name"]) for node in nodes}
        assert ("navigation", "Exporter") in names
        assert any(role == "heading" and name.startswith("4 of 9 droplets need attention") for role, name in names)
        for field in (("searchbox", "Search"), ("combobox", "State"), ("combobox", "Sort by"), ("button", "Show")):
            assert field in names
        assert all(node["name"] for node in nodes if node["role"] in ("link", "image", "combobox", "meter", "heading"))
        assert ("image", "3 backups in the last 7 d, 2 d 11 h to 4 d 11 h old; 2 windows missed") in names
        for shown in (nodes, small):
            shown_roles = [node["role"] for node in shown]
            assert shown_roles.count("table") == 1
            assert shown_roles.count("row") == 10
            assert shown_roles.count("columnheader") == 8
            assert shown_roles.count("rowheader") == 9

    async def test_keyboard(self, tab: Tab) -> None:
        """The first stop of the keyboard leads past the numbers to the Droplets, and every stop can be seen."""
        async with site(mixed(), at=NOON) as running:
            await tab.look(1280, 900)
            await tab.open(running.url)
            await tab.press("Tab", 9)
            assert await tab.run("document.activeElement.className") == "skip"
            assert await tab.run("document.activeElement.getBoundingClientRect().x >= 0")
            await tab.press("Tab", 9)
            assert await tab.run("getComputedStyle(document.activeElement).outlineStyle") == "solid"

    async def test_pictures_of_bad_days(self, tab: Tab) -> None:
        """A failing account, an empty one and one not polled yet are shown without a complaint of the browser."""
        async with site(healthy(3, now=NOON), healthy(2, now=NOON), Fixture(), at=NOON) as running:
            running.apis[1].token = "another"
            running.clock.set(NOON + 3 * HOUR)
            await running.poll()
            await tab.look(1280, 900)
            await tab.open(running.url)
            assert await tab.run(CONTRAST) == []
            await tab.picture(PICTURES / "failing.png")
        async with site(Fixture(), at=NOON) as running:
            await tab.open(running.url)
            await tab.picture(PICTURES / "empty.png")
        async with site(healthy(3, now=NOON), at=NOON, polled=False) as running:
            await tab.open(running.url)
            assert await tab.run(CONTRAST) == []
            await tab.picture(PICTURES / "first-poll.png")
        assert tab.complaints == []


async def test_too_many_readers_are_told_to_ask_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the pages that may wait, one is answered with 503; afterwards it is served as before."""
    monkeypatch.setattr("exporter.web.page.PAGES_WAITING", 3)
    async with site(healthy(2)) as at:
        replies = await asyncio.gather(*(at.get(f"/?q={number}") for number in range(20)))
        assert {reply.status for reply in replies} == {200, 503}
        assert {reply.headers.get("Retry-After") for reply in replies if reply.status == 503} == {"5"}
        assert (await at.get()).status == 200
