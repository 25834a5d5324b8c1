"""The Grafana dashboards: what they ask exists, is answered by the real Prometheus, and can be clicked through."""

from __future__ import annotations

import contextlib
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml

from deploy.grafana.generator import __main__ as generator
from exporter.metrics.families import FAMILIES
from tests.deploy import history
from tests.deploy.promql_labels import labels
from tests.support.grafana import (
    ALL,
    FOLDER,
    JSON,
    NEWEST,
    OLDEST,
    Engine,
    Period,
    Session,
    View,
    engine,
    interpolated,
    load,
)
from tests.support.prometheus_server import Prometheus, backfill, free_port, running

NAMES = ("fleet", "droplet", "exporter")
TAG_LABEL = "team"
TARGET = frozenset({"job", "instance", "cluster"})
SERVED: dict[str, frozenset[str]] = {
    series: frozenset(family.labels)
    | TARGET
    | ({"le"} if series.endswith("_bucket") else set())
    | ({TAG_LABEL} if series == "digitalocean_backup_droplet_info" else set())
    for family in FAMILIES
    for series in family.series
} | dict.fromkeys(("process_resident_memory_bytes", "process_start_time_seconds"), TARGET)
"""Every series that the exporter serves, the client library's that are asked for included, and its labels."""
SERVED["ALERTS"] = frozenset(
    {"alertname", "alertstate", "severity", "cluster", "account", "droplet_id", "droplet_name"}
)
RULES = FOLDER.parent / "prometheus" / "rules" / "dashboards.yml"
for _group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]:
    for _rule in _group["rules"]:
        SERVED[_rule["record"]] = labels(_rule["expr"], SERVED)
WINDOW = 1440
"""Pixels of a browser's window in which titles and tables must fit, without a menu beside it."""
CHOSEN = {
    "worst": "1|2",
    "cluster": ".*",
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
    """Every key and value of a document at any depth."""
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
    assert {path.name for path in (FOLDER / "dashboards").glob("*.json")} == set(made)
    for name, text in made.items():
        assert (FOLDER / "dashboards" / name).read_text(encoding="utf-8") == text, f"{name}: run the generator"
    assert generator.main(["--check"]) == 0


def test_check_reports_a_file_that_differs(
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
def test_panels_and_queries_have_their_own_ids(name: str) -> None:
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


def size_of(panel: JSON) -> tuple[float, float]:
    """Width and height in pixels of what is within a panel's borders, its title's line included."""
    cell = (WINDOW - 32 - 23 * 8) / 24
    return panel["gridPos"]["w"] * (cell + 8) - 8 - 18, panel["gridPos"]["h"] * 38 - 8 - 18


def test_no_title_is_cut() -> None:
    """Every panel is wide enough for its title and the mark of its description."""
    for name, panel in every_panel():
        width, _ = size_of(panel)
        # At Grafana's 14 pixels, bold: a letter takes some 7.6.
        assert 7.6 * len(panel["title"]) + 24 <= width, f"{name}: {panel['title']}"


def test_no_data_source_is_named() -> None:
    """Every query uses the data source of the variable, so that the dashboards fit any Grafana."""
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
    assert own["fleet"] == ["datasource", "cluster", "account", "tag_label", "tag_value", "worst"]
    assert own["droplet"] == ["datasource", "cluster", "account", "tag_label", "tag_value", "droplet"]
    assert own["exporter"] == ["datasource", "cluster", "account"]
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
            columns |= {"Value"} if len(panel["targets"]) == 1 else set()
            columns |= {t["options"].get("alias") for t in panel["transformations"]}
            named = {o["matcher"]["options"] for o in panel["fieldConfig"]["overrides"]}
            assert named <= columns, f"{panel['title']}: {named - columns}"
    for annotation in dashboard["annotations"]["list"]:
        assert labels(interpolated(annotation["expr"], CHOSEN), SERVED)


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
            assert 'alertstate="firing"' in annotation["expr"] or "alerts_firing" in annotation["expr"]


def test_whatever_keeps_the_account_keeps_the_cluster() -> None:
    """Every aggregation and every join that keeps `account` also keeps `cluster`."""
    for name, panel, target in expressions():
        for kept in re.findall(r"(?:by|on) \(([^)]*)\)", target["expr"]):
            assert ("account" in kept) == ("cluster, account" in kept), f"{name}: {panel['title']}: {kept}"


def test_what_the_linter_would_say_has_a_reason() -> None:
    """Every exclusion in dashboard-linter's file has a reason."""
    excluded = yaml.safe_load((FOLDER / "dashboards" / ".lint").read_text(encoding="utf-8"))["exclusions"]
    assert {"template-job-rule", "target-instance-rule"} <= set(excluded)
    assert all(len(entry["reason"]) > 40 for entry in excluded.values())


def test_the_library_knows_whatever_an_override_sets(engine_of: Engine) -> None:
    """No override sets a property that the engine would leave out; nothing hides a column in a way that 13 ignores."""
    known = set(engine_of.ask("properties"))
    for name, panel in every_panel():
        for override in panel["fieldConfig"]["overrides"]:
            used = {setting["id"] for setting in override["properties"]}
            assert used <= known, f"{name}: {panel['title']}: {used - known}"
        assert "hidden" not in panel["fieldConfig"]["defaults"].get("custom", {})


# What they are answered

STEP = 1800.0


@pytest.fixture(scope="module", params=[OLDEST, NEWEST], ids=["11", "newest"])
def engine_of(tool: Callable[[str], str], request: pytest.FixtureRequest) -> Iterator[Engine]:
    with engine(tool("node"), request.param) as found:
        yield found


@pytest.fixture(scope="module")
def story() -> history.Story:
    """Two days of two replicas that disagree about one droplet in the last hour."""
    end = 1_790_791_440.0  # 2026-09-30 18:04 UTC, an hour like any other
    return history.Story(end, disagree_until=end)


def with_records(tool: Callable[[str], str], directory: Path, lines: Iterator[str], period: Period) -> None:
    """A data directory with these lines, and with what the rules would have recorded from them."""
    backfill(tool("promtool"), lines, directory)
    for of_records in (False, True):
        with running(tool("prometheus"), directory, lookback=f"{STEP + 300:.0f}s") as server:
            found = history.recorded(server, RULES, period.start, period.end, period.scrape, of_records=of_records)
            recorded = list(found)
        backfill(tool("promtool"), iter(recorded), directory)


@pytest.fixture(scope="module")
def prometheus(
    tool: Callable[[str], str], tmp_path_factory: pytest.TempPathFactory, story: history.Story, period: Period
) -> Iterator[Prometheus]:
    directory = tmp_path_factory.mktemp("prometheus")
    lines = history.openmetrics(story, story.end - 2 * history.DAY, STEP)
    with_records(tool, directory, lines, period)
    # A sample stands until the next: what was written beforehand has no mark where a series ends.
    with running(tool("prometheus"), directory, lookback=f"{STEP - 1:.0f}s") as server:
        yield server


@pytest.fixture(scope="module")
def period(story: history.Story) -> Period:
    return Period(story.end - history.DAY, story.end, STEP)


@pytest.mark.parametrize("name", NAMES)
def test_every_query_is_answered_once(name: str, prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """Every query has data, with two replicas that disagree no thing twice, and says so under names that differ."""
    session = Session(load(name), prometheus, engine_of, period, {"droplet": "441000006"})
    for panel in panels(session.dashboard):
        for target in panel["targets"]:
            # The history has a point every half hour, not every few seconds as a scrape gives.
            target.pop("interval", None)
            answer = session.series(panel, target)
            where = f"{panel['title']}: {session.expression(panel, target)}"
            assert answer, where
            assert_once(answer, panel, where)
            values = [float(v) for one in answer for _, v in one.get("values") or [one["value"]]]
            assert all(value == value for value in values), f"NaN: {where}"
        view = session.view(panel)
        if panel["type"] not in ("table", "barchart"):
            shown = [column.title for frame in view.frames for column in frame if column.name == "Value"]
            assert len(set(shown)) == len(shown), f"{panel['title']}: {shown}"


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_reads_well(name: str, prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """No figure is worded like `0.0 hour` or `2  polls`, no column has the name of its query, and every table fits."""
    session = Session(load(name), prometheus, engine_of, period, {"droplet": "441000006"})
    for panel in panels(session.dashboard):
        view = session.view(panel)
        texts = [cell.text for frame in view.frames for column in frame for cell in column.cells]
        texts += [shown.text for _, shown in view.figures]
        for text in texts:
            assert "  " not in text, f"{panel['title']}: {text!r}"
            assert not re.fullmatch(r"[\d.]+ (hour|day|week|min)", text) or text.startswith("1 "), panel["title"]
        if panel["type"] == "table":
            assert_fits(panel, view)


def assert_fits(panel: JSON, view: View) -> None:
    """A table is no wider than its panel, shows a row, and each column is wide enough for its title and its texts."""
    (columns,) = view.frames
    width, height = size_of(panel)
    assert height >= 32 + 36 + 36, f"{panel['title']}: below title and header there is no room for a row"
    wanted = 0
    for column in columns:
        assert "Value" not in column.title, panel["title"]
        custom = {**panel["fieldConfig"]["defaults"]["custom"], **column.config["custom"]}
        assert custom.get("cellOptions", {}).get("type") != "gauge", "a gauge without a value draws a mark as if it had"
        least = custom.get("width") or custom["minWidth"]
        wanted += least
        where = f"{panel['title']}: {column.title}"
        # At Grafana's 14 pixels a digit or letter takes some 7.5, a title besides its arrow and its filter.
        assert 7.5 * len(column.title) + 45 <= least or len(column.title) < 8, where
        if custom.get("width"):
            assert max(7.5 * len(cell.text) + 16 for cell in column.cells) <= least, where
    assert wanted <= width, f"{panel['title']}: {wanted} of {width:.0f} pixels"


def test_nothing_known_is_no_good_news(engine_of: Engine) -> None:
    """A figure without a value is neither green nor red."""
    judging = {engine_of.color(name) for name in ("green", "dark-yellow", "orange", "red", "dark-red", "purple")}
    for name, panel in every_panel():
        if panel["type"] == "stat":
            view = engine_of.view(panel, [{"refId": "A", "format": None, "legend": "", "result": []}])
            ((_, figure),) = view.figures
            assert figure.color not in judging, f"{name}: {panel['title']}"


def test_a_query_without_an_answer_costs_a_table_only_its_column(
    prometheus: Prometheus, engine_of: Engine, period: Period
) -> None:
    """If one family has no series, every droplet still has its row."""
    session = Session(load("fleet"), prometheus, engine_of, period)
    panel = session.panel("Droplets, the 200 worst first")
    for target in panel["targets"]:
        if "kept_size_bytes" in target["expr"]:
            target["expr"] = 'vector(1) and on () up{job="nothing"}'
    rows = session.view(panel).rows
    assert len(rows) == len(history.FLEET)
    assert {row["ID"] for row in rows} == {str(droplet.id) for droplet in history.FLEET}


def test_tables_are_limited() -> None:
    """Each query of a table asks for at most 200 droplets, and the title says so."""
    for name, panel in every_panel():
        if panel["type"] != "table" or name != "fleet":
            continue
        assert "the 200 " in panel["title"]
        assert all(re.search(r"(top|bottom)k\(200, |\$worst", target["expr"]) for target in panel["targets"])
    (worst,) = [v for v in load("fleet")["templating"]["list"] if v["name"] == "worst"]
    assert "topk(200, " in worst["query"]["query"]


def test_steps_are_rounded_as_grafana_rounds_them(prometheus: Prometheus, engine_of: Engine) -> None:
    """A week in 250 points is half an hour; a rate is over no less than four times the least step."""
    session = Session(load("exporter"), prometheus, engine_of, Period(0, 7 * history.DAY, 15))
    assert engine_of.ask("step", start=0, end=7 * history.DAY, points=250, least=15) == 1800
    target = {"expr": "rate(x[$__rate_interval])", "interval": "5m"}
    assert session.expression({"maxDataPoints": 10_000}, target) == "rate(x[1200s])"
    assert session.expression({"maxDataPoints": 250}, target) == "rate(x[2100s])"


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
        folder = tmp_path_factory.mktemp("demo")
        quick = folder / RULES.name
        quick.write_text(re.sub(r"(?m)^    interval: 2m$", "    interval: 1s", RULES.read_text(encoding="utf-8")))
        server = stack.enter_context(
            running(
                tool("prometheus"),
                folder,
                targets={"digitalocean-backup": [address for address, _ in replicas]},
                rules=[quick],
            )
        )
        enough = (
            "count(count_over_time(digitalocean_backup_exporter_up[1m]) >= 3) == 2 "
            "and on () count_over_time(tags:digitalocean_backup_state:count[1m]) >= 2"
        )
        deadline = time.monotonic() + 180
        while not server.instant(enough, time.time()):
            assert all(process.poll() is None for _, process in replicas), "the demo ended; see stderr"
            assert time.monotonic() < deadline, server.instant("digitalocean_backup_exporter_up", time.time())
            time.sleep(0.25)
        yield server


# Nothing may have grown, or fired, within the seconds for which the demo was scraped.
CAN_BE_EMPTY = {"Growth of the newest backup in seven days"}


def test_the_demo_fills_every_panel(scraped: Prometheus, engine_of: Engine) -> None:
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
            period = Period(now - 300, now, 1)
            session = Session(load(name), scraped, engine_of, period, chosen | {"droplet": droplet})
            for panel in panels(session.dashboard):
                for target in panel["targets"]:
                    answer = session.at_end(panel, target)
                    where = f"{panel['title']}: {session.expression(panel, target)}"
                    assert answer or panel["title"] in CAN_BE_EMPTY, where
                    assert_once(answer, panel, where)


def assert_once(answer: list[JSON], panel: JSON, where: str) -> None:
    """No droplet has two series, and no two series differ only by their replica."""
    droplets = [
        (one["metric"].get("account"), one["metric"]["droplet_id"]) for one in answer if "droplet_id" in one["metric"]
    ]
    assert len(set(droplets)) == len(droplets), where
    assert not any("instance" in one["metric"] for one in answer) or panel["title"] == "Exporters", where


@pytest.mark.parametrize("label", [ALL, TAG_LABEL, "nothing_of_the_kind"])
def test_tag_label_can_be_any_or_none(label: str, prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """Groups are those of the tag label chosen, the accounts where none is, and one where droplets lack it."""
    session = Session(load("fleet"), prometheus, engine_of, period, {"tag_label": label})
    assert session.variables["tag_label"].options == [(TAG_LABEL, TAG_LABEL)]
    view = session.view(session.panel("Size of the backups kept, by tag label"))
    groups = {frame[1].title for frame in view.frames}
    assert (
        groups
        == {
            ALL: {"production", "staging"},
            TAG_LABEL: {"web", "data", "platform", "none"},
            "nothing_of_the_kind": {"none"},
        }[label]
    )
    assert worst_first(session)


def test_everything_works_without_tag_labels(
    tool: Callable[[str], str], tmp_path: Path, story: history.Story, engine_of: Engine
) -> None:
    """If no tag label is configured, the only choice is All, which shows the whole fleet."""
    lines = (
        re.sub(r'(droplet_info\{.*)team="[^"]*",?', r"\1", line) for line in history.openmetrics(story, story.end, 60)
    )
    period = Period(story.end - 60, story.end, 60)
    with_records(tool, tmp_path, (line.replace(',,"', ',"') for line in lines), period)
    with running(tool("prometheus"), tmp_path) as server:
        session = Session(load("fleet"), server, engine_of, Period(story.end - 3600, story.end, 60))
        assert session.variables["tag_label"].options == []
        assert len(worst_first(session)) == len(history.FLEET)


def test_two_clusters_may_know_the_same_droplets(
    tool: Callable[[str], str], tmp_path: Path, story: history.Story, engine_of: Engine
) -> None:
    """Two clusters that share account and droplet ids in one Prometheus count twice, and can be chosen."""
    whole = list(history.openmetrics(story, story.end, 60))
    lines = [line.replace("{", f'{{cluster="{name}",', 1) for name in ("eu", "us") for line in whole[:-1]]
    with_records(tool, tmp_path, iter([*lines, whole[-1]]), Period(story.end - 60, story.end, 60))
    with running(tool("prometheus"), tmp_path) as server:
        period = Period(story.end - 3600, story.end, 60)
        both = Session(load("fleet"), server, engine_of, period)
        assert both.variables["cluster"].options == [("eu", "eu"), ("us", "us")]
        assert len(worst_first(both)) == 2 * len(history.FLEET)
        groups = [frame[1].title for frame in both.view(both.panel("Protected share by tag label")).frames]
        assert sorted(groups) == ["eu/production", "eu/staging", "us/production", "us/staging"]
        one = Session(load("fleet"), server, engine_of, period, {"cluster": ["eu"]})
        assert {row["Cluster"] for row in worst_first(one)} == {"eu"}
        droplet = Session(load("droplet"), server, engine_of, period, {"droplet": "441000006"})
        (state,) = {shown.text for _, shown in droplet.view(droplet.panel("State")).figures}
        assert state == "Missing"


def worst_first(session: Session) -> list[dict[str, str]]:
    """The rows of the fleet's table, by column, in the order in which they are shown."""
    return session.view(session.panel("Droplets, the 200 worst first")).rows


def test_the_table_of_the_fleet(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """Every droplet has one row, with its state in words and colour, and the worst stand first."""
    session = Session(load("fleet"), prometheus, engine_of, period)
    view = session.view(session.panel("Droplets, the 200 worst first"))
    rows = view.rows
    assert [row["State"] for row in rows] == [
        "Missing",
        "Overdue",
        "Never taken",
        "Unjudged",
        "Unprotected",
        "Waiting",
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
    (columns,) = view.frames
    states = next(column for column in columns if column.title == "State")
    assert states.cells[0].color == engine_of.color("dark-red")
    assert states.cells[7].color == engine_of.color("green")
    assert not {"Time", "region", "size", "status"} & {column.title for column in columns}


def test_the_numbers_of_the_fleet(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """The figures at the top count each droplet once, and those of one account or tag only theirs."""

    def numbers(**chosen: str | list[str]) -> dict[str, str]:
        session = Session(load("fleet"), prometheus, engine_of, period, chosen)
        found = {}
        for panel in panels(session.dashboard):
            if panel["type"] == "stat":
                ((_, figure),) = session.view(panel).figures
                found[panel["title"]] = figure.text
        return found

    fleet = numbers()
    assert (fleet["Expected"], fleet["Overdue"], fleet["Missing"], fleet["Never taken"]) == ("14", "1", "1", "1")
    assert (fleet["Unprotected"], fleet["Unjudged"], fleet["Protected"]) == ("1", "1", f"{8 / 14:.1%}")
    assert (fleet["Stale"], fleet["Lost"]) == ("0", "2")
    staging = numbers(account=["staging"])
    assert (staging["Expected"], staging["Overdue"], staging["Protected"]) == ("4", "0", "50.0%")
    data = numbers(tag_label="team", tag_value=["data", "platform"])
    # Seven, or eight with the droplet that one replica still knows by its old tag.
    assert data["Expected"] in ("7", "8")
    assert (data["Overdue"], data["Missing"], data["Unprotected"]) == ("1", "1", "1")


def test_next_windows_are_counted_and_listed(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """Every planned droplet's next window is counted once, and listed, the soonest first, with the hour it opens."""
    session = Session(load("fleet"), prometheus, engine_of, period)
    planned = [d for d in history.FLEET if d.plan and d.enabled]
    (frame,) = session.view(session.panel("Next windows by day")).frames
    days, *plans = frame
    assert days.cells[0].text == "+0 d"
    # What was recorded of the droplet that the replicas disagree about stands a while under the plan of before.
    counted = sum(cell.number or 0 for plan in plans for cell in plan.cells)
    assert counted in (len(planned), len(planned) + 1)
    rows = session.view(session.panel("Next windows, the 200 soonest")).rows
    assert len(rows) == len(planned)
    opens = [row["Opens"] for row in rows]
    assert opens == sorted(opens)
    assert list(rows[0])[:3] == ["Opens in", "Opens", "Droplet"]
    assert "Milliseconds" not in rows[0]


def test_only_what_grew_has_grown(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """The droplets whose newest backup grew are listed, the greatest growth first, and none that shrank."""
    session = Session(load("fleet"), prometheus, engine_of, period)
    figures = session.view(session.panel("Growth of the newest backup in seven days")).figures
    sizes = [shown.number for _, shown in figures]
    assert sizes == sorted(sizes, key=lambda size: -(size or 0))
    assert all(size and size > 0 for size in sizes)
    assert "web-03 · production" not in {title for title, _ in figures}


def test_a_droplet_can_be_chosen(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """Droplets are listed by name and account, or by id without a name; a choice shows only that Droplet."""
    session = Session(load("droplet"), prometheus, engine_of, period)
    offered = dict(session.variables["droplet"].options)
    assert len(offered) == len(history.FLEET)
    assert offered["db-analytics · production"] == "441000006"
    assert offered["551000004 · staging"] == "551000004"
    chosen: dict[str, str | list[str]] = {"droplet": "441000006", "account": ["production"]}
    session = Session(load("droplet"), prometheus, engine_of, period, chosen)
    for panel in panels(session.dashboard):
        view = session.view(panel)
        assert all(column.cells for frame in view.frames for column in frame)
        if panel["type"] == "table":
            assert len(view.rows) == 1, panel["title"]
    assert [shown.text for _, shown in session.view(session.panel("State")).figures] == ["Missing"]


def test_an_unprotected_droplet_is_said_to_be_off(prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """The policy of a droplet without a plan says that backups are off, and that they are expected."""
    session = Session(load("droplet"), prometheus, engine_of, period, {"droplet": "441000010"})
    (row,) = session.view(session.panel("Policy")).rows
    assert (row["Enabled"], row["Expected"]) == ("no", "yes")
    (droplet,) = session.view(session.panel("Droplet")).rows
    assert (droplet["Name"], droplet["Volumes"]) == ("legacy-ftp", "0")


def test_names_are_offered_whole(
    tool: Callable[[str], str], tmp_path: Path, story: history.Story, engine_of: Engine
) -> None:
    """A name that holds quotes, braces, backslashes or a line break can be chosen like any other."""
    odd = 'кафе "x" C:\\tmp\n{droplet_id="1",shown="2"} 東京'
    labels_of = {"account": "a", "droplet_id": "7", "droplet_name": odd, "job": "j", "instance": "i"}
    lines = history.text([("digitalocean_backup_droplet_info", labels_of, 1.0)], at=story.end)
    backfill(tool("promtool"), iter([*lines, "# EOF\n"]), tmp_path)
    with running(tool("prometheus"), tmp_path) as server:
        session = Session(load("droplet"), server, engine_of, Period(story.end - 3600, story.end, 60))
    assert session.variables["droplet"].options == [(f"{odd} · a", "7")]


@pytest.mark.parametrize("name", NAMES)
def test_firing_alerts_are_marked(name: str, prometheus: Prometheus, engine_of: Engine, period: Period) -> None:
    """The marks of alerts are asked for without error; Grafana marks where a value is 1, so no other is given."""
    session = Session(load(name), prometheus, engine_of, period, {"droplet": "441000006"})
    found = {annotation["name"]: answer for annotation, answer in session.annotations()}
    if name != "exporter":
        assert {one["metric"]["alertname"] for one in found["Backup alerts"]} == {
            "DropletBackupOverdue",
            "DropletBackupMissing",
        }
        assert {value for one in found["Backup alerts"] for _, value in one["values"]} == {"1"}
