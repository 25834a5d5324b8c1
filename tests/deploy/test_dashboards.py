"""The Grafana dashboards: what they ask exists, is answered by the real Prometheus, and can be clicked through."""

from __future__ import annotations

import contextlib
import re
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana.generator import __main__ as generator
from exporter.metrics.families import FAMILIES
from tests.deploy import draw_dashboards, drawing, history
from tests.deploy.grafana import ALL, FOLDER, JSON, Display, Frame, Period, Session, interpolated, load
from tests.deploy.promql_labels import labels
from tests.support.prometheus_server import Prometheus, backfill, free_port, running

NAMES = ("fleet", "droplet", "exporter")
TAG_LABEL = "team"
TARGET = frozenset({"job", "instance"})
SERVED = {
    series: frozenset(family.labels)
    | TARGET
    | ({"le"} if series.endswith("_bucket") else set())
    | ({TAG_LABEL} if series == "digitalocean_backup_droplet_info" else set())
    for family in FAMILIES
    for series in family.series
} | dict.fromkeys(("process_resident_memory_bytes", "process_start_time_seconds"), TARGET)
"""Every series that the exporter serves, the client library's that are asked for included, and its labels."""
ALERTS = {"ALERTS": frozenset({"alertname", "alertstate", "severity", "account", "droplet_id", "droplet_name"})}
CHOSEN = {
    "account": ".*",
    "tag_label": TAG_LABEL,
    "tag_value": ".*",
    "droplet": "1",
    "__rate_interval": "20m",
    "__range": "7d",
}


def panels(dashboard: JSON) -> list[JSON]:
    """All panels but the headings."""
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def every_panel() -> list[tuple[str, JSON]]:
    return [(name, panel) for name in NAMES for panel in panels(load(name))]


def expressions() -> list[tuple[str, JSON, JSON]]:
    return [(name, panel, target) for name, panel in every_panel() for target in panel["targets"]]


def everything(node: object) -> Iterator[tuple[str, object]]:
    """Every key and value of a document, however deep."""
    if isinstance(node, dict):
        for key, value in node.items():
            yield key, value
            yield from everything(value)
    elif isinstance(node, list):
        for value in node:
            yield from everything(value)


# The documents


def test_the_committed_files_are_what_the_script_makes() -> None:
    """The JSON that is committed is the Python's output, and there is no other."""
    made = generator.dashboards()
    assert {path.name for path in (FOLDER / "dashboards").iterdir()} == set(made)
    for name, text in made.items():
        assert (FOLDER / "dashboards" / name).read_text(encoding="utf-8") == text, f"{name}: run the generator"
    assert generator.main(["--check"]) == 0


def test_check_tells_of_a_file_that_differs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`--check` names what is not as made, and leaves it; without it, it is written."""
    monkeypatch.setattr(generator, "TARGET", tmp_path)
    assert generator.main(["--check"]) == 1
    assert "droplet.json" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert generator.main([]) == 0
    assert generator.main(["--check"]) == 0


def test_identities_are_stable() -> None:
    """Links and bookmarks of users rest on the dashboards' uids."""
    assert {name: load(name)["uid"] for name in NAMES} == {
        "fleet": "digitalocean-backup-fleet",
        "droplet": "digitalocean-backup-droplet",
        "exporter": "digitalocean-backup-exporter",
    }


@pytest.mark.parametrize("name", NAMES)
def test_panels_and_queries_are_told_apart(name: str) -> None:
    """Ids and titles are unique in a dashboard, and the letters of the queries in a panel."""
    dashboard = load(name)
    titles = [panel["title"] for panel in dashboard["panels"]]
    assert len(set(titles)) == len(titles)
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)
    assert all(ids)
    for panel in panels(dashboard):
        letters = [target["refId"] for target in panel["targets"]]
        assert letters == sorted(set(letters))
        assert all(letters)


@pytest.mark.parametrize("name", NAMES)
def test_panels_lie_side_by_side(name: str) -> None:
    """No two panels share a cell of the grid, none juts out, and no line leaves a gap."""
    taken: dict[tuple[int, int], str] = {}
    for panel in load(name)["panels"]:
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        for x in range(place["x"], place["x"] + place["w"]):
            for y in range(place["y"], place["y"] + place["h"]):
                assert (x, y) not in taken, f"{panel['title']} lies over {taken[x, y]}"
                taken[x, y] = panel["title"]
    assert len(taken) == 24 * (1 + max(y for _, y in taken))


def test_every_panel_says_what_it_shows() -> None:
    """Every panel has a title, a description in sentences, a unit or mapping where it shows numbers, and thresholds."""
    for name, panel in every_panel():
        where = f"{name}: {panel['title']}"
        assert panel["title"], where
        assert panel["description"].endswith("."), where
        assert len(panel["description"]) > 15, where
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults.get("thresholds"), where
        assert defaults.get("color"), where
        if panel["type"] != "table":
            assert defaults.get("unit") or defaults.get("mappings"), where


def test_no_data_source_is_named() -> None:
    """Whatever asks for data asks the data source that the variable names, so the dashboards fit any Grafana."""
    for name in NAMES:
        dashboard = load(name)
        assert dashboard["templating"]["list"][0]["type"] == "datasource"
        named = [value for key, value in everything(dashboard) if key == "datasource"]
        assert len(named) > 20
        assert all(value == {"type": "prometheus", "uid": "${datasource}"} for value in named)
        for panel in panels(dashboard):
            assert panel["datasource"]
            assert all(target["datasource"] for target in panel["targets"])


def test_variables() -> None:
    """Every reference is to a variable that the dashboard has or that Grafana provides."""
    own = {name: [v["name"] for v in load(name)["templating"]["list"]] for name in NAMES}
    assert own["fleet"] == ["datasource", "account", "tag_label", "tag_value"]
    assert own["droplet"] == ["datasource", "account", "tag_label", "tag_value", "droplet"]
    assert own["exporter"] == ["datasource", "account"]
    provided = {"__rate_interval", "__range", "__url_time_range", "__data", "__field", "__all", "1"}
    for name in NAMES:
        texts = [value for _, value in everything(load(name)) if isinstance(value, str)]
        used = {a or b for text in texts for a, b in re.findall(r"\$(\w+)|\$\{(\w+)", text)}
        assert used <= set(own[name]) | provided, name
        for definition in load(name)["templating"]["list"]:
            assert definition["description"]
            assert definition["label"]


def test_links_lead_to_dashboards_that_exist() -> None:
    """Every link, at the top or in a table's row, is to a shipped dashboard, and hands over variables that it has."""
    by_uid = {load(name)["uid"]: load(name) for name in NAMES}
    for name in NAMES:
        dashboard = load(name)
        urls = [str(value) for key, value in everything(dashboard) if key == "url"]
        others = set(by_uid) - {dashboard["uid"]}
        assert {link["url"].split("/")[2] for link in dashboard["links"]} == others
        assert all(link["keepTime"] and link["includeVars"] for link in dashboard["links"])
        for url in urls:
            match = re.fullmatch(r"/d/([\w-]+)/[\w-]+(?:\?(.*))?", url)
            assert match, url
            variables = {v["name"] for v in by_uid[match[1]]["templating"]["list"]}
            handed = re.findall(r"var-(\w+)=", match[2] or "") + re.findall(r"\{(\w+):queryparam\}", match[2] or "")
            assert set(handed) <= variables, url
    rows = [str(value) for key, value in everything(load("fleet")) if key == "url" and "__data.fields" in str(value)]
    assert rows
    assert all(
        "/d/digitalocean-backup-droplet/" in url and "var-droplet=" in url and "var-account=" in url for url in rows
    )


def test_a_row_links_with_columns_that_its_table_has() -> None:
    """The fields that a row's link hands over are columns of that table, under the name that the query gave them."""
    for name, panel in every_panel():
        for key, value in everything(panel["fieldConfig"]):
            for column in re.findall(r"__data\.fields\.(\w+)", str(value)) if key == "url" else []:
                for target in panel["targets"]:
                    assert column in labels(interpolated(target["expr"], CHOSEN), SERVED), f"{name}: {panel['title']}"


def test_provisioning() -> None:
    """Grafana finds Prometheus and the dashboards where the compose file has them, at the first login."""
    source = yaml.safe_load((FOLDER / "provisioning/datasources/prometheus.yml").read_text())
    (prometheus,) = [s for s in source["datasources"] if s["type"] == "prometheus"]
    assert prometheus["url"] == "http://prometheus:9090"
    assert prometheus["isDefault"] is True
    assert "uid" not in prometheus
    provider = yaml.safe_load((FOLDER / "provisioning/dashboards/dashboards.yml").read_text())
    scrapes = yaml.safe_load((FOLDER.parent / "compose/prometheus.yml").read_text())["global"]["scrape_interval"]
    assert prometheus["jsonData"]["timeInterval"] == scrapes
    (files,) = provider["providers"]
    assert files["type"] == "file"
    assert files["options"]["path"] == "/etc/grafana/dashboards"
    assert provider["apiVersion"] == source["apiVersion"] == 1


# What they ask


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_asked_that_is_not_served(name: str) -> None:
    """Every expression parses, and names only families and labels that the exporter serves, where they are named."""
    dashboard = load(name)
    for panel in panels(dashboard):
        columns: set[str] = set()
        for target in panel["targets"]:
            found = labels(interpolated(target["expr"], CHOSEN), SERVED)
            columns |= found | {f"Value #{target['refId']}"}
            legend = set(re.findall(r"\{\{(\w+)\}\}", target.get("legendFormat", "")))
            assert legend <= found, f"{panel['title']}: {legend} of {found}"
        if panel["type"] == "table":
            named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
            assert named <= columns, f"{panel['title']}: {named - columns}"
    for annotation in dashboard["annotations"]["list"]:
        assert labels(interpolated(annotation["expr"], CHOSEN), ALERTS)


def test_the_check_of_labels_sees_what_is_wrong() -> None:
    """A family, label or join that does not exist is refused."""
    for wrong in (
        "digitalocean_backup_gone",
        'digitalocean_backup_kept{plan="daily"}',
        "sum by (plan) (digitalocean_backup_kept)",
        "digitalocean_backup_kept * on (account, droplet_id) group_left (plan) digitalocean_backup_droplet_info",
        'label_replace(digitalocean_backup_kept, "x", "$1", "plan", "(.+)")',
        "histogram_quantile(0.9, digitalocean_backup_exporter_poll_duration_seconds_sum)",
    ):
        with pytest.raises(LookupError):
            labels(wrong, SERVED)


def test_alert_marks_name_shipped_alerts() -> None:
    """The annotations show every shipped alert, on the fleet's dashboard each exactly once."""
    names = re.findall(
        r"^ *- alert: (\w+)$",
        "\n".join(p.read_text() for p in (FOLDER.parent / "prometheus/rules").glob("*.yml")),
        re.M,
    )
    assert len(names) > 10
    patterns = [re.findall(r'alertname=~"([^"]+)"', a["expr"])[0] for a in load("fleet")["annotations"]["list"]]
    for name in names:
        assert sum(re.fullmatch(pattern, name) is not None for pattern in patterns) == 1, name
    for name in NAMES:
        for annotation in load(name)["annotations"]["list"]:
            assert 'alertstate="firing"' in annotation["expr"]


# What they are answered

STEP = 1800.0


@pytest.fixture(scope="module")
def story() -> history.Story:
    """Two days of two replicas that disagree about one droplet in the last hour."""
    end = 1_790_791_440.0  # 2026-09-30 18:04 UTC, an hour like any other
    return history.Story(end, disagree_until=end)


@pytest.fixture(scope="module")
def prometheus(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, story: history.Story
) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    backfill(tool("promtool"), history.openmetrics(story, story.end - 2 * history.DAY, STEP), directory)
    with running(tool("prometheus"), directory, lookback=f"{STEP + 300:.0f}s") as server:
        yield server


@pytest.fixture(scope="module")
def period(story: history.Story) -> Period:
    return Period(story.end - history.DAY, story.end, STEP)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_answered_once(name: str, prometheus: Prometheus, period: Period) -> None:
    """Every query has data, with two replicas that disagree no thing twice, and says so under names that differ."""
    session = Session(load(name), prometheus, period, {"droplet": "441000006"})
    for panel in panels(session.dashboard):
        shown: list[str] = []
        for target in panel["targets"]:
            answer = session.series(panel, target)
            where = f"{panel['title']}: {session.expression(panel, target)}"
            assert answer, where
            assert_once(answer, panel, where)
            values = [float(v) for one in answer for _, v in one.get("values") or [one["value"]]]
            assert all(value == value for value in values), f"NaN: {where}"
        for frame in session.frames(panel):
            if panel["type"] not in ("table", "barchart"):
                shown += [f.title for f in frame.fields if f.name == "Value"]
        assert len(set(shown)) == len(shown), f"{panel['title']}: {shown}"


@contextlib.contextmanager
def demo(speed: int) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """The exporter in its demo mode; gives its address and its process."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-m", "exporter", "serve", "--demo", f"--demo.speed={speed}"]
    process = subprocess.Popen(
        [*command, f"--web.listen-address={address}", "--log.level=error"], cwd=FOLDER.parents[1]
    )
    try:
        yield address, process
    finally:
        process.terminate()
        process.wait(10)


@pytest.fixture(scope="module")
def scraped(tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """Prometheus after it scraped two replicas of the demo, whose day lasts five minutes, for some seconds."""
    with contextlib.ExitStack() as stack:
        replicas = [stack.enter_context(demo(288)) for _ in history.REPLICAS]
        directory = tmp_path_factory.mktemp("demo")
        server = stack.enter_context(
            running(
                tool("prometheus"), directory, targets={"digitalocean-backup": [address for address, _ in replicas]}
            )
        )
        enough = "count(count_over_time(digitalocean_backup_exporter_up[1m]) >= 3) == 2"
        deadline = time.monotonic() + 60
        while not server.instant(enough, time.time()):
            assert all(process.poll() is None for _, process in replicas), "the demo ended; see stderr"
            assert time.monotonic() < deadline, server.instant("digitalocean_backup_exporter_up", time.time())
            time.sleep(0.25)
        yield server


def test_the_demo_fills_every_panel(scraped: Prometheus) -> None:
    """Every query on two replicas of the demo has data, no droplet or account twice, on all three dashboards."""
    now = time.time()
    (found,) = scraped.instant('max by (droplet_id) (digitalocean_backup_kept{droplet_name="shop-checkout"})', now)
    droplet = found["metric"]["droplet_id"]
    for name in NAMES:
        choices: list[dict[str, str | list[str]]] = [
            {},
            {"tag_label": "team"},
            {"tag_label": "env", "tag_value": ["prod"]},
        ]
        for chosen in choices:
            session = Session(load(name), scraped, Period(now - 300, now, 1), chosen | {"droplet": droplet})
            for panel in panels(session.dashboard):
                for target in panel["targets"]:
                    answer = session.at_end(panel, target)
                    where = f"{panel['title']}: {session.expression(panel, target)}"
                    assert answer, where
                    assert_once(answer, panel, where)


def assert_once(answer: list[JSON], panel: JSON, where: str) -> None:
    """No droplet has two series, and no series is told from another by its replica alone."""
    droplets = [
        (one["metric"].get("account"), one["metric"]["droplet_id"]) for one in answer if "droplet_id" in one["metric"]
    ]
    assert len(set(droplets)) == len(droplets), where
    assert not any("instance" in one["metric"] for one in answer) or panel["title"] == "Exporters", where


@pytest.mark.parametrize("label", [ALL, TAG_LABEL, "nothing_of_the_kind"])
def test_tag_label_can_be_any_or_none(label: str, prometheus: Prometheus, period: Period, story: history.Story) -> None:
    """Groups are those of the tag label chosen, the accounts where none is, and one where droplets lack it."""
    session = Session(load("fleet"), prometheus, period, {"tag_label": label})
    assert session.variables["tag_label"].options == [(TAG_LABEL, TAG_LABEL)]
    (panel,) = [p for p in panels(session.dashboard) if p["title"] == "Size of the backups kept, by tag label"]
    groups = {frame.fields[1].title for frame in session.frames(panel)}
    assert (
        groups
        == {
            ALL: {"production", "staging"},
            TAG_LABEL: {"web", "data", "platform", "none"},
            "nothing_of_the_kind": {"none"},
        }[label]
    )
    assert worst_first(session)


def test_everything_works_without_tag_labels(tool: Callable[[str], str], tmp_path: Path, story: history.Story) -> None:
    """Where no tag label is configured, the choice is All alone, and it shows the whole fleet."""
    lines = (
        re.sub(r'(droplet_info\{.*)team="[^"]*",?', r"\1", line) for line in history.openmetrics(story, story.end, 60)
    )
    backfill(tool("promtool"), (line.replace(',,"', ',"') for line in lines), tmp_path)
    with running(tool("prometheus"), tmp_path) as server:
        session = Session(load("fleet"), server, Period(story.end - 3600, story.end, 60))
        assert session.variables["tag_label"].options == []
        assert len(worst_first(session)) == len(history.FLEET)


def worst_first(session: Session) -> list[dict[str, object]]:
    """The rows of the fleet's table, by column, in the order in which they are shown."""
    (panel,) = [p for p in panels(session.dashboard) if p["title"] == "Droplets, the worst first"]
    (frame,) = session.frames(panel)
    rows = [{f.title: Display(f.config).show(f.values[i]) for f in frame.fields} for i in range(len(frame))]
    for column in reversed(panel["options"]["sortBy"]):
        rows.sort(
            key=lambda row, c=column: row[c["displayName"]].number or 0.0,  # type: ignore[misc]
            reverse=column["desc"],
        )
    return [{title: cell.text for title, cell in row.items()} for row in rows]


def test_the_table_of_the_fleet(prometheus: Prometheus, period: Period) -> None:
    """Every droplet has one row, with its state, and the worst stand first."""
    rows = worst_first(Session(load("fleet"), prometheus, period))
    assert [row["State"] for row in rows] == [
        "Missing",
        "Overdue",
        "Never taken",
        "Unknown",
        "Unprotected",
        "First backup to come",
        *["Protected"] * 8,
        "Not expected",
    ]
    assert [row["Droplet"] for row in rows[:6]] == [
        "db-analytics",
        "db-replica",
        "vpn-gateway",
        "stage-api",
        "legacy-ftp",
        "shop-next",
    ]
    assert rows[0]["Missed"] == "4"
    assert rows[0]["Plan"] == "daily"
    assert {row["ID"] for row in rows} == {str(droplet.id) for droplet in history.FLEET}


def test_the_numbers_of_the_fleet(prometheus: Prometheus, period: Period) -> None:
    """The figures at the top count each droplet once, and those of one account or tag only theirs."""

    def numbers(**chosen: str | list[str]) -> dict[str, str]:
        session = Session(load("fleet"), prometheus, period, chosen)
        found = {}
        for panel in panels(session.dashboard):
            if panel["type"] == "stat":
                (frame,) = session.frames(panel)
                found[panel["title"]] = Display(frame.fields[1].config).show(frame.fields[1].values[-1]).text
        return found

    fleet = numbers()
    assert (fleet["Expected"], fleet["Overdue"], fleet["Missing"], fleet["Never taken"]) == ("14", "2", "1", "1")
    assert (fleet["Unprotected"], fleet["Unknown"], fleet["Protected"]) == ("1", "1", f"{9 / 14:.1%}")
    staging = numbers(account=["staging"])
    assert (staging["Expected"], staging["Overdue"], staging["Protected"]) == ("4", "0", "75.0%")
    data = numbers(tag_label="team", tag_value=["data", "platform"])
    # Seven, and the droplet that one replica still knows by its old tag.
    assert (data["Expected"], data["Overdue"], data["Unprotected"]) == ("8", "2", "1")


def test_windows_of_the_week_are_counted(prometheus: Prometheus, period: Period) -> None:
    """A daily plan has a window on each of the seven days, a weekly one in all, and one of four hours six a day."""
    session = Session(load("fleet"), prometheus, period)
    (panel,) = [p for p in panels(session.dashboard) if p["type"] == "barchart"]
    (frame,) = session.frames(panel)
    days, *plans = frame.fields
    assert days.values == [f"{day}–{day + 1} d" for day in range(7)]
    counts = {plan.name: plan.values for plan in plans}
    planned = [d for d in history.FLEET if d.plan and d.enabled]
    # The droplet that the replicas disagree about counts once, under either plan.
    daily = sum(d.plan == "daily" for d in planned)
    assert set(counts["daily"]) <= {float(daily), float(daily - 1)}
    # A window that opens just as the week is read lies on the border of two days.
    assert set(counts["intra_daily_4h"]) <= {5.0, 6.0, 7.0}
    assert sum(float(v or 0) for v in counts["weekly"]) >= sum(d.plan == "weekly" for d in planned)


def test_a_droplet_can_be_chosen(prometheus: Prometheus, period: Period) -> None:
    """Droplets are offered by name and account, by id where they have no name, and the choice shows that one alone."""
    session = Session(load("droplet"), prometheus, period)
    offered = dict(session.variables["droplet"].options)
    assert len(offered) == len(history.FLEET)
    assert offered["db-analytics · production"] == "441000006"
    assert offered["551000004 · staging"] == "551000004"
    session = Session(load("droplet"), prometheus, period, {"droplet": "441000006", "account": ["production"]})
    for panel in panels(session.dashboard):
        for frame in session.frames(panel):
            assert len(frame) > 0
            if panel["type"] == "table":
                assert len(frame) == 1, panel["title"]
    (state,) = [p for p in panels(session.dashboard) if p["title"] == "State"]
    assert latest(session.frames(state)) == "Missing"


def latest(frames: list[Frame]) -> str:
    (frame,) = frames
    value = frame.fields[1]
    return Display(value.config).show(value.values[-1]).text


def test_names_are_offered_whole(tool: Callable[[str], str], tmp_path: Path, story: history.Story) -> None:
    """A name that holds quotes, braces, backslashes or a line break can be chosen like any other."""
    odd = 'кафе "x" C:\\tmp\n{droplet_id="1",shown="2"} 東京'
    labels_of = {"account": "a", "droplet_id": "7", "droplet_name": odd, "job": "j", "instance": "i"}
    lines = history.text([("digitalocean_backup_droplet_info", labels_of, 1.0)], at=story.end)
    backfill(tool("promtool"), iter([*lines, "# EOF\n"]), tmp_path)
    with running(tool("prometheus"), tmp_path) as server:
        session = Session(load("droplet"), server, Period(story.end - 3600, story.end, 60))
    assert session.variables["droplet"].options == [(f"{odd} · a", "7")]


@pytest.mark.parametrize("name", NAMES)
def test_firing_alerts_are_marked(name: str, prometheus: Prometheus, period: Period) -> None:
    """The marks of alerts are asked for without error, and those of droplets are found."""
    session = Session(load(name), prometheus, period, {"droplet": "441000006"})
    found = {annotation["name"]: answer for annotation, answer in session.annotations()}
    if name != "exporter":
        assert {one["metric"]["alertname"] for one in found["Backup alerts"]} == {
            "DropletBackupOverdue",
            "DropletBackupMissing",
        }


def test_a_dashboard_is_drawn(
    tool: Callable[[str], str], tmp_path: Path, prometheus: Prometheus, period: Period
) -> None:
    """The drawing script makes a picture of a whole dashboard, with every panel's title and figures on the page."""
    session = Session(load("droplet"), prometheus, period, {"droplet": "441000006"})
    page, height = drawing.page(session)
    for panel in panels(session.dashboard):
        assert f"<h2>{panel['title']}</h2>" in page
    assert "No data" not in page
    assert ">Missing</text>" in page
    picture = tmp_path / "droplet.png"
    draw_dashboards.screenshot(tool("chromium"), page, height, picture)
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG")
    assert struct.unpack(">II", content[16:24]) == (drawing.WIDTH, height)
    assert len(content) > 50_000
