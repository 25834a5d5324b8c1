"""The parts of the dashboards: queries, panels with their usual settings, variables, links, the grid.

The panels of grafana-foundation-sdk come without `id` and its targets with an empty `refId`; both are given here, and
so is the place in the grid, which is 24 columns wide.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from grafana_foundation_sdk.builders import (
    barchart,
    bargauge,
    common,
    dashboard,
    piechart,
    prometheus,
    stat,
    statetimeline,
    table,
    timeseries,
)
from grafana_foundation_sdk.cog import builder as cog
from grafana_foundation_sdk.models import common as common_models
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import piechart as pie_models
from grafana_foundation_sdk.models import prometheus as prometheus_models

from . import queries
from .queries import State

GRID = 24
TAGS = ["digitalocean", "backup"]
FLEET_UID = "digitalocean-backup-fleet"
DROPLET_UID = "digitalocean-backup-droplet"
EXPORTER_UID = "digitalocean-backup-exporter"
TITLES = {
    FLEET_UID: "DigitalOcean backups / Fleet",
    DROPLET_UID: "DigitalOcean backups / Droplet",
    EXPORTER_UID: "DigitalOcean backups / Exporter",
}

GREEN, ORANGE, RED, PURPLE, BLUE, GREY = "green", "orange", "red", "purple", "blue", "#6e7681"
YELLOW = "dark-yellow"
"""Plain yellow is hard to read as text on the white of the light theme."""
STATES: Mapping[State, tuple[str, str]] = {
    State.MISSING: ("Missing", "dark-red"),
    State.OVERDUE: ("Overdue", "red"),
    State.STALE: ("Stale", "dark-orange"),
    State.NEVER_TAKEN: ("Never taken", "orange"),
    State.UNJUDGED: ("Unjudged", "purple"),
    State.UNPROTECTED: ("Unprotected", "yellow"),
    State.WAITING: ("Waiting", "blue"),
    State.PROTECTED: ("Protected", "green"),
    State.NOT_EXPECTED: ("Not expected", GREY),
    State.GONE: ("Gone", "#4d545c"),
}
"""The name and the colour of each state, the worst first."""

PLANS = {"/^daily/": "blue", "/^weekly/": "purple", "/^intra_daily/": "orange"}
"""A plan's colour, the same in every panel. Other plans get a colour of the palette."""

STATES_EXPLAINED = (
    "Missing: two or more windows passed without a backup. Overdue: one did. Stale: the newest backup is older than it "
    "may be. Never taken: backups are on, and none was ever made. Unjudged: nothing can be said. Unprotected: backups "
    "ought to be on and are off. Waiting: the first backup, or the first after a change, is not due yet."
)

Panel: TypeAlias = (
    bargauge.Panel | barchart.Panel | piechart.Panel | stat.Panel | statetimeline.Panel | table.Panel | timeseries.Panel
)


def datasource() -> models.DataSourceRef:
    """The data source that is chosen with the dashboard's variable."""
    return models.DataSourceRef(type_val="prometheus", uid="${datasource}")


# Targets


def over_time(expr: str, legend: str = "", *, interval: str | None = None) -> prometheus.Dataquery:
    """A query over the time range of the dashboard."""
    target = prometheus.Dataquery().expr(expr).range().legend_format(legend or "__auto")
    return target.interval(interval) if interval else target


def now(expr: str, legend: str = "") -> prometheus.Dataquery:
    """A query at the end of the dashboard's time range."""
    return prometheus.Dataquery().expr(expr).instant().legend_format(legend or "__auto")


def rows(expr: str) -> prometheus.Dataquery:
    """The same, as rows of a table with a column for each label."""
    return prometheus.Dataquery().expr(expr).instant().format(prometheus_models.PromQueryFormat.TABLE)


# Fields


def steps(base: str, *more: tuple[float, str]) -> dashboard.ThresholdsConfig:
    """Thresholds: a first colour, and other colours from certain values on."""
    found = [models.Threshold(color=base, value=None)]
    found += [models.Threshold(color=color, value=value) for value, color in more]
    return dashboard.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(found)


def values(texts: Mapping[float | str, tuple[str, str]]) -> list[models.ValueMapping]:
    """Texts and colours that are shown instead of numbers or words."""
    results = {
        value if isinstance(value, str) else f"{value:g}": models.ValueMappingResult(
            text=text, color=color, index=index
        )
        for index, (value, (text, color)) in enumerate(texts.items())
    }
    return [models.ValueMap(options=results)]


def state_values() -> list[models.ValueMapping]:
    """Mappings for states as numbers."""
    return values({float(state): shown for state, shown in STATES.items()})


def state_words() -> list[models.ValueMapping]:
    """Mappings for states as the values of the label `state`."""
    return values({state.word: shown for state, shown in STATES.items()})


def fixed(color: str) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(color)


def color_mode(mode: models.FieldColorModeId) -> dashboard.FieldColor:
    return dashboard.FieldColor().mode(mode)


def settings(**properties: Any) -> list[models.DynamicConfigValue]:
    """The properties of an override. `custom_` means `custom.`, and snake case means camel case."""

    def named(key: str) -> str:
        prefix, key = ("custom.", key.removeprefix("custom_")) if key.startswith("custom_") else ("", key)
        head, *tail = key.split("_")
        return prefix + head + "".join(word.capitalize() for word in tail)

    return [
        models.DynamicConfigValue(id_val=named(key), value=value.build() if isinstance(value, cog.Builder) else value)
        for key, value in properties.items()
    ]


def colored(color: str, name: str | None = None) -> list[models.DynamicConfigValue]:
    """An override with a colour and, if the series is to be renamed, a name."""
    found = settings(color={"mode": "fixed", "fixedColor": color})
    return found + (settings(display_name=name) if name else [])


def dashed(color: str = GREY) -> list[models.DynamicConfigValue]:
    """The style of a line that is only for comparison."""
    return settings(
        color={"mode": "fixed", "fixedColor": color},
        custom_line_style={"fill": "dash", "dash": [10, 10]},
        custom_fill_opacity=0,
        custom_line_width=1,
        custom_stacking={"mode": "none", "group": "none"},
    )


# Panels

STEPS = common_models.LineInterpolation.STEP_AFTER
"""For counts, which change in steps."""


def dashed_threshold() -> common.GraphThresholdsStyleConfig:
    """Thresholds drawn as dashed lines across a panel."""
    return common.GraphThresholdsStyleConfig().mode(common_models.GraphThresholdsStyleMode.DASHED)


def legend(*calcs: str, right: bool = False) -> common.VizLegendOptions:
    """A legend below or to the right. With calculations, it is a table."""
    return (
        common.VizLegendOptions()
        .show_legend(True)
        .display_mode(common_models.LegendDisplayMode.TABLE if calcs else common_models.LegendDisplayMode.LIST)
        .placement(common_models.LegendPlacement.RIGHT if right else common_models.LegendPlacement.BOTTOM)
        .calcs(list(calcs))
    )


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def tooltip() -> common.VizTooltipOptions:
    """A tooltip with all series at the pointer, the greatest first."""
    return (
        common.VizTooltipOptions().mode(common_models.TooltipDisplayMode.MULTI).sort(common_models.SortOrder.DESCENDING)
    )


def number(title: str, description: str, target: prometheus.Dataquery, *, background: bool = False) -> stat.Panel:
    """One number, as of now.

    No line of the past below it: that takes a query over time, whose last point lies up to a step before the end, for a
    week most of an hour.
    """
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .with_target(target)
        .reduce_options(_last())
        .graph_mode(common_models.BigValueGraphMode.NONE)
        .color_mode(
            common_models.BigValueColorMode.BACKGROUND_SOLID if background else common_models.BigValueColorMode.VALUE
        )
        .text_mode(common_models.BigValueTextMode.VALUE)
        .justify_mode(common_models.BigValueJustifyMode.CENTER)
        .color_scheme(color_mode(models.FieldColorModeId.THRESHOLDS))
    )


def counted(title: str, description: str, expr: str, color: str) -> stat.Panel:
    """A number that should be 0. If it is not known, it has no colour, because green would be wrong."""
    panel = number(title, description, now(expr)).unit("short").decimals(0)
    return panel.thresholds(steps("text", (0, GREEN), (1, color))).min(0)


def lines(title: str, description: str, *targets: prometheus.Dataquery, fill: float = 8) -> timeseries.Panel:
    """Values over time."""
    panel = timeseries.Panel().title(title).description(description)
    for target in targets:
        panel = panel.with_target(target)
    return (
        panel.line_width(1.5)
        .fill_opacity(fill)
        .show_points(common_models.VisibilityMode.AUTO)
        .color_scheme(color_mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(steps(GREEN))
        .legend(legend())
        .tooltip(tooltip())
    )


def stacked(
    title: str, description: str, *targets: prometheus.Dataquery, bars: bool = False, fill: float = 60
) -> timeseries.Panel:
    """Parts of a whole over time."""
    panel = lines(title, description, *targets, fill=fill).stacking(
        common.StackingConfig().mode(common_models.StackingMode.NORMAL).group("A")
    )
    if bars:
        return panel.draw_style(common_models.GraphDrawStyle.BARS).line_width(0).fill_opacity(90)
    return panel.line_interpolation(common_models.LineInterpolation.STEP_AFTER).line_width(0)


def ranked(title: str, description: str, *targets: prometheus.Dataquery, above: bool = False) -> bargauge.Panel:
    """Bars one below the other, each with its name to the left, or above it, where a long name is not cut."""
    place = common_models.BarGaugeNamePlacement.TOP if above else common_models.BarGaugeNamePlacement.LEFT
    panel = bargauge.Panel().title(title).description(description)
    for target in targets:
        panel = panel.with_target(target)
    return (
        panel.reduce_options(_last())
        .orientation(common_models.VizOrientation.HORIZONTAL)
        .display_mode(common_models.BarGaugeDisplayMode.BASIC)
        .value_mode(common_models.BarGaugeValueMode.COLOR)
        .name_placement(place)
        .show_unfilled(True)
        .min_viz_height(14)
        .max_viz_height(28)
        .sizing(common_models.BarGaugeSizing.MANUAL)
        .min(0)
    )


def shares(title: str, description: str, target: prometheus.Dataquery) -> piechart.Panel:
    """A ring with the parts of a whole."""
    return (
        piechart.Panel()
        .title(title)
        .description(description)
        .with_target(target)
        .reduce_options(_last())
        .pie_type(pie_models.PieChartType.DONUT)
        .color_scheme(color_mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(steps(GREEN))
        .unit("short")
        .decimals(0)
        .legend(
            piechart.PieChartLegendOptions()
            .show_legend(True)
            .display_mode(common_models.LegendDisplayMode.TABLE)
            .placement(common_models.LegendPlacement.RIGHT)
            .values([pie_models.PieChartLegendValues.VALUE])
        )
    )


def matrix(title: str, description: str, target: prometheus.Dataquery, *, row: str, column: str) -> barchart.Panel:
    """Bars side by side, one for each value of the label `row`, in order, stacked by the label `column`."""
    field = f"{row}\\{column}"
    return (
        barchart.Panel()
        .title(title)
        .description(description)
        .with_target(target)
        .with_transformation(
            models.DataTransformerConfig(
                id_val="groupingToMatrix",
                options={"rowField": row, "columnField": column, "valueField": "Value", "emptyValue": "zero"},
            )
        )
        .with_transformation(
            models.DataTransformerConfig(
                id_val="sortBy", options={"fields": {}, "sort": [{"field": field, "desc": False}]}
            )
        )
        .x_field(field)
        .orientation(common_models.VizOrientation.VERTICAL)
        .stacking(common_models.StackingMode.NORMAL)
        .bar_width(0.75)
        .line_width(0)
        .fill_opacity(85)
        .show_value(common_models.VisibilityMode.NEVER)
        .legend(legend())
        .tooltip(tooltip())
        .color_scheme(color_mode(models.FieldColorModeId.PALETTE_CLASSIC))
        .thresholds(steps(GREEN))
    )


def timeline(title: str, description: str, *targets: prometheus.Dataquery) -> statetimeline.Panel:
    """States over time."""
    panel = statetimeline.Panel().title(title).description(description)
    for target in targets:
        panel = panel.with_target(target)
    return (
        panel.show_value(common_models.VisibilityMode.AUTO)
        .row_height(0.8)
        .merge_values(True)
        .fill_opacity(85)
        .line_width(0)
        .legend(common.VizLegendOptions().show_legend(False))
        .color_scheme(color_mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(steps(GREY))
    )


def listing(
    title: str,
    description: str,
    *targets: prometheus.Dataquery,
    order: Sequence[str],
    hidden: Sequence[str] = (),
    computed: Sequence[tuple[str, str, str, str]] = (),
) -> table.Panel:
    """A table joined from several queries by the labels that they share.

    `order` names the columns shown first, `hidden` those that are left out, `computed` new ones: each with its name,
    a column, an operator, and a number or another column. Grafana's join compares every row with every other as soon
    as one query has no answer, so no query may give more rows than `queries.SHOWN_AT_MOST`.
    """
    panel = table.Panel().title(title).description(description)
    for target in targets:
        panel = panel.with_target(target)
    if len(targets) > 1:
        panel = panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    for alias, left, operator, right in computed:
        panel = panel.with_transformation(
            models.DataTransformerConfig(
                id_val="calculateField",
                options={
                    "mode": "binary",
                    "alias": alias,
                    "binary": {"left": left, "operator": operator, "right": right},
                    "replaceFields": False,
                },
            )
        )
    return (
        panel.with_transformation(
            models.DataTransformerConfig(
                id_val="organize",
                options={
                    "excludeByName": dict.fromkeys(("Time", *hidden), True),
                    "indexByName": {name: index for index, name in enumerate(order)},
                    "renameByName": {},
                },
            )
        )
        .filterable(True)
        .min_width(80)
        .cell_height(common_models.TableCellHeight.SM)
        .show_header(True)
        .color_scheme(color_mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(steps("text"))
    )


def with_columns(panel: table.Panel, columns: Mapping[str, list[models.DynamicConfigValue]]) -> table.Panel:
    """The table with these settings of its columns."""
    for name, properties in columns.items():
        panel = panel.override_by_name(name, properties)
    return panel


COLOURED_CELL = {"type": "color-background", "mode": "basic"}
COLOURED_TEXT = {"type": "color-text"}


# Links


def path(uid: str) -> str:
    slug = TITLES[uid].lower().replace(" / ", "-").replace(" ", "-")
    return f"/d/{uid}/{slug}"


def to_dashboard(uid: str, title: str) -> dashboard.DashboardLink:
    """A link at the top of a dashboard that keeps its time and its variables."""
    return (
        dashboard.DashboardLink(title)
        .type(models.DashboardLinkType.LINK)
        .icon("dashboard")
        .tooltip(f"Open {TITLES[uid]} for the same choice")
        .url(path(uid))
        .keep_time(True)
        .include_vars(True)
    )


def to_droplet() -> list[dict[str, object]]:
    """A link from a table's row to that droplet's dashboard."""
    chosen = "&".join(
        (
            "${datasource:queryparam}",
            "${cluster:queryparam}",
            "var-account=${__data.fields.account:percentencode}",
            "var-droplet=${__data.fields.droplet_id:percentencode}",
            "${__url_time_range}",
        )
    )
    return [{"title": "Show this droplet", "url": f"{path(DROPLET_UID)}?{chosen}", "targetBlank": False}]


def series_to_droplet() -> list[cog.Builder[models.DashboardLink]]:
    """A link from a series with a droplet's labels to the droplet's dashboard."""
    chosen = "&".join(
        (
            "${datasource:queryparam}",
            "${cluster:queryparam}",
            "var-account=${__field.labels.account:percentencode}",
            "var-droplet=${__field.labels.droplet_id:percentencode}",
            "${__url_time_range}",
        )
    )
    return [dashboard.DashboardLink("Show this droplet").url(f"{path(DROPLET_UID)}?{chosen}")]


# Variables

_ALL = models.VariableOption(text="All", value="$__all")
_TARGET_LABELS = ("job", "instance", "namespace", "pod", "node", "service", "container", "endpoint", "prometheus.*")
_OWN_LABELS = ("cluster", "account", "plan", "state")
"""Of the recorded number of droplets, from which the tag labels are read."""


def _query(text: str) -> dict[str, object]:
    kinds = {"label_names": 0, "label_values": 1, "query_result": 3}
    return {
        "qryType": kinds[text.partition("(")[0]],
        "query": text,
        "refId": "PrometheusVariableQueryEditor-VariableQuery",
    }


def data_source_variable() -> dashboard.DatasourceVariable:
    return (
        dashboard.DatasourceVariable("datasource")
        .label("Data source")
        .description("The Prometheus, Thanos or Mimir that scrapes the exporter")
        .type("prometheus")
    )


def account_variables() -> list[dashboard.QueryVariable]:
    """Variables for clusters and accounts. If no series has a `cluster`, only All is offered, which then means none."""
    droplets = f"{queries.PREFIX}droplets"
    return [
        _chosen(
            "cluster", "Cluster", "Clusters of this Prometheus, if it has several", f"label_values({droplets}, cluster)"
        ),
        _chosen(
            "account",
            "Account",
            "Accounts of the exporter's configuration",
            f'label_values({droplets}{{cluster=~"$cluster"}}, account)',
        ),
    ]


def _chosen(name: str, label: str, description: str, query: str) -> dashboard.QueryVariable:
    """A variable with which one, several or all values can be chosen."""
    return (
        dashboard.QueryVariable(name)
        .label(label)
        .description(description)
        .datasource(datasource())
        .query(_query(query))
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(models.VariableOption(text=["All"], value=["$__all"]))
    )


def tag_variables() -> list[dashboard.QueryVariable]:
    """Variables for a tag label and its values.

    The label names are what the exporter's configuration made of the droplets' tags, so they are asked for: the labels
    of the recorded number of droplets less those that it always has and those of a scrape. The first choice, All, means
     `account`, which every series has: so everything works where no tag label is configured, and groups are then
    the accounts.
    """
    counted = "tags:digitalocean_backup_state:count"
    others = "|".join(("__.*", *_OWN_LABELS, *_TARGET_LABELS))
    label = (
        dashboard.QueryVariable("tag_label")
        .label("Tag label")
        .description("Groups and filters droplets by a configured tag label (labels.tags); All: by account")
        .datasource(datasource())
        .query(_query(f"label_names({counted})"))
        .regex(f"/^(?!(?:{others})$).+$/")
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
        .include_all(True)
        .all_value("account")
        .current(_ALL)
    )
    value = _chosen(
        "tag_value",
        "Tag value",
        "Only the droplets with these values of the tag label",
        f"label_values({counted}{{{queries.CHOSEN}}}, ${{tag_label:raw}})",
    )
    return [label, value]


def worst_variable() -> dashboard.QueryVariable:
    """A hidden variable with the ids of the worst droplets, which the columns of the fleet's table use."""
    return (
        dashboard.QueryVariable("worst")
        .label("Worst droplets")
        .description("The droplets of the table, found once for all its columns")
        .datasource(datasource())
        .query(_query(f"query_result(max by (droplet_id) ({queries.worst()}))"))
        .regex('/droplet_id="(?<value>[^"]+)"/')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.DISABLED)
        .multi(True)
        .include_all(True)
        .hide(models.VariableHide.HIDE_VARIABLE)
        .current(models.VariableOption(text=["All"], value=["$__all"]))
    )


def droplet_variable() -> dashboard.QueryVariable:
    """A variable for one droplet. It is shown by its name and account, or by its id if only a policy names it."""
    names = f"max by ({queries.DROPLET}, droplet_name) ({queries.family('droplet_info', queries.TAG)})"
    shown = f"max by (droplet_id, shown) ({queries.named(f'topk by ({queries.DROPLET}) (1, {names})')})"
    return (
        dashboard.QueryVariable("droplet")
        .label("Droplet")
        .description("The droplet shown, of the accounts and the tag chosen")
        .datasource(datasource())
        .query(_query(f"query_result({shown})"))
        .regex(r'/^\{droplet_id="(?<value>[^"]+)",shown="(?<text>[\s\S]+)"\} /')
        .refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(models.VariableSort.ALPHABETICAL_CASE_INSENSITIVE_ASC)
    )


# Annotations

FIRING = 'alertstate="firing"'


class _AlertAnnotation(models.AnnotationQuery):
    """An annotation with the fields of the Prometheus data source, which the SDK's class does not have."""

    title: str
    text: str

    def to_json(self) -> dict[str, object]:
        return super().to_json() | {
            "titleFormat": self.title,
            "textFormat": self.text,
            "tagKeys": "severity,account",
            "step": "60s",
            "useValueForTime": False,
        }


class _Built(cog.Builder[models.AnnotationQuery]):
    def __init__(self, annotation: models.AnnotationQuery) -> None:
        self._annotation = annotation

    def build(self) -> models.AnnotationQuery:
        return self._annotation


def alerts(
    name: str, alertnames: str, color: str, *matchers: str, text: str, counted: bool = False
) -> cog.Builder[models.AnnotationQuery]:
    """Marks from when to when an alert of the shipped rules fired.

    `counted` takes one series for each alert and account from what the rules record, instead of one for each droplet.
    Grafana draws a mark where a value is 1. Alerts that name no account (the exporter is down) show whichever account
    is chosen.
    """
    chosen = (f'alertname=~"{alertnames}"', 'cluster=~"$cluster|"', 'account=~"$account|"', *matchers)
    if counted:
        expr = f"account:digitalocean_backup_alerts_firing:count{{{', '.join(chosen)}}} > bool 0"
    else:
        by = f"alertname, severity, {queries.DROPLET}, droplet_name"
        expr = f"max by ({by}) (ALERTS{{{', '.join((FIRING, *chosen))}}})"
    annotation = _AlertAnnotation(name=name, datasource=datasource(), icon_color=color, expr=expr, built_in=None)
    annotation.title = "{{alertname}}"
    annotation.text = text
    return _Built(annotation)


# The grid

Line: TypeAlias = tuple[int, Sequence[tuple[int, Panel]]]
"""Panels side by side: their height, and each panel with its width."""


def build(
    uid: str,
    description: str,
    variables: Sequence[cog.Builder[models.VariableModel]],
    annotations: Sequence[cog.Builder[models.AnnotationQuery]],
    lines_of_panels: Sequence[str | Line],
    *,
    time: str,
    refresh: str = "1m",
) -> models.Dashboard:
    """A dashboard made of lines of panels. A text between the lines is a heading."""
    made = (
        dashboard.Dashboard(TITLES[uid])
        .uid(uid)
        .description(description)
        .tags(TAGS)
        .tooltip(models.DashboardCursorSync.CROSSHAIR)
        .time(f"now-{time}", "now")
        .refresh(refresh)
        .timezone("browser")
        .editable()
        .variables(list(variables))
        .annotations(list(annotations))
        .links([to_dashboard(other, TITLES[other].rpartition(" ")[2]) for other in TITLES if other != uid])
        .build()
    )
    made.panels = []
    y = 0
    for line in lines_of_panels:
        if isinstance(line, str):
            heading = dashboard.Row(line).build()
            heading.id_val, heading.grid_pos = len(made.panels) + 1, models.GridPos(h=1, w=GRID, x=0, y=y)
            made.panels.append(heading)
            y += 1
            continue
        height, placed = line
        x = 0
        for width, panel_builder in placed:
            panel = panel_builder.build()
            panel.id_val = len(made.panels) + 1
            panel.datasource = datasource()
            panel.grid_pos = models.GridPos(h=height, w=width, x=x, y=y)
            for letter, target in zip("ABCDEFGHIJKLMNOP", panel.targets or [], strict=False):
                assert isinstance(target, prometheus_models.Dataquery)
                target.ref_id, target.datasource = letter, datasource()
            made.panels.append(panel)
            x += width
        if x > GRID:
            raise ValueError(f"the panels at height {y} of {uid} are {x} columns wide; the grid has {GRID}")
        y += height
    return made
