"""The fleet: is everything that ought to be backed up backed up, and if not, what."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from . import parts
from .parts import BLUE, GREEN, ORANGE, PURPLE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import DROPLET, FLEET, PLANNED, by_plan, by_tag, family, grouped, named, windows_of_day

AGE = f"{FLEET.age} and {FLEET.value('enabled')} == 1"
"""Of droplets whose backups are on: that of the others only grows, and means nothing."""
INTERVALS = f"{FLEET.age} / {FLEET.value('interval_seconds')} and {FLEET.value('enabled')} == 1"


def _numbers() -> parts.Line:
    share = f"count({FLEET.within(FLEET.protected)}) or 0 * count({FLEET.within(FLEET.value('expected'))} == 1)"
    expected = f"sum({FLEET.within(FLEET.value('expected'))})"
    return 3, [
        (
            3,
            parts.number(
                "Protected",
                "Share of the droplets that ought to have backups whose backups are on, which have one, and which are "
                "not known to have missed a window.",
                now(f"({share}) / ({expected} > 0)"),
                background=True,
            )
            .unit("percentunit")
            .decimals(1)
            .min(0)
            .max(1)
            .thresholds(steps(RED, (0.9, ORANGE), (0.98, YELLOW), (1, GREEN))),
        ),
        (
            3,
            parts.number(
                "Expected",
                "Droplets that ought to have backups (configuration `expect_backups`; by default all but Kubernetes "
                "nodes).",
                now(expected),
            )
            .unit("short")
            .decimals(0)
            .thresholds(steps("text")),
        ),
        (
            3,
            parts.counted(
                "Overdue",
                "Droplets whose last due window passed without a backup, by evidence of their own list of backups. "
                "Includes the missing ones.",
                FLEET.count(f"{FLEET.missed} > 0"),
                RED,
            ),
        ),
        (
            3,
            parts.counted(
                "Missing",
                "Droplets that missed two or more windows in a row. Act on these first.",
                FLEET.count(f"{FLEET.missed} >= 2"),
                RED,
            ),
        ),
        (
            3,
            parts.counted(
                "Never taken",
                "Droplets with backups enabled and no backup at all, two days after they were made, nine where the "
                "plan is weekly.",
                FLEET.count(FLEET.never_taken),
                ORANGE,
            ),
        ),
        (
            3,
            parts.counted(
                "Unprotected",
                "Droplets that ought to have backups and whose policy says that backups are off.",
                FLEET.count(FLEET.unprotected),
                ORANGE,
            ),
        ),
        (
            3,
            parts.counted(
                "Unknown",
                "Droplets of which nothing can be said: their list could not be read since their last window was due "
                "(the exporter's dashboard counts these as not judged), their plan is not known, or it is not known "
                "whether backups are on.",
                FLEET.count(FLEET.unknown),
                PURPLE,
            ),
        ),
        (
            3,
            parts.number(
                "Backups kept",
                "Size of all backups that exist, of the droplets chosen.",
                now(f"sum({FLEET.within(FLEET.value('kept_size_bytes'))})"),
            )
            .unit("bytes")
            .decimals(1)
            .thresholds(steps(BLUE)),
        ),
    ]


def _states() -> parts.Line:
    counts = f'count_values("state", {FLEET.state})'
    ring = parts.shares(
        "Droplets by state",
        f"Every droplet known, by the state of its backups. {parts.STATES_EXPLAINED}",
        now(counts, "{{state}}"),
    )
    history = (
        parts.stacked(
            "Droplets by state over time",
            f"How the fleet's state changed. {parts.STATES_EXPLAINED}",
            over_time(counts, "{{state}}"),
        )
        .unit("short")
        .decimals(0)
        .max_data_points(250)
        .min(0)
    )
    for state, (name, color) in reversed(list(parts.STATES.items())):
        ring = ring.override_by_name(str(int(state)), parts.colored(color, name))
        history = history.override_by_name(str(int(state)), parts.colored(color, name))
    expected = f"({FLEET.value('expected')} == 1)"
    protected = f"(({FLEET.protected}) or 0 * {expected})"
    share = (
        parts.lines(
            "Protected share by tag label",
            "Share of the expected droplets that are protected, by the tag label chosen above (by account, where "
            "none is). Droplets without such a tag are `none`.",
            over_time(grouped(by_tag("avg", protected)), "{{group}}"),
        )
        .unit("percentunit")
        .min(0)
        .max(1)
        .max_data_points(250)
        .legend(parts.legend("lastNotNull", "min"))
    )
    return 8, [(6, ring), (9, history), (9, share)]


def _table() -> parts.Line:
    columns = {
        "Value #A": settings(
            display_name="State",
            mappings=parts.state_values(),
            custom_cell_options=parts.COLOURED_CELL,
            custom_align="left",
            custom_width=150,
            links=parts.to_droplet(),
        ),
        "droplet_name": settings(display_name="Droplet", custom_min_width=160, links=parts.to_droplet()),
        "droplet_id": settings(display_name="ID", custom_width=100, links=parts.to_droplet()),
        "account": settings(display_name="Account"),
        "region": settings(display_name="Region", custom_width=80),
        "plan": settings(display_name="Plan", custom_width=120),
        "Value #C": settings(
            display_name="Missed",
            custom_width=85,
            thresholds=steps("text", (1, RED)),
            custom_cell_options=parts.COLOURED_TEXT,
        ),
        "Value #D": settings(display_name="Newest backup is", unit="s", decimals=1, custom_width=130),
        "Value #E": settings(
            display_name="Age in intervals",
            unit="percentunit",
            decimals=0,
            min=0,
            max=2,
            thresholds=steps(GREEN, (1.25, YELLOW), (2, RED)),
            custom_cell_options={"type": "gauge", "mode": "basic", "valueDisplayMode": "text"},
            custom_width=160,
        ),
        "Value #F": settings(
            display_name="Next window in",
            unit="h",
            decimals=1,
            mappings=parts.values({0: ("open now", GREEN)}),
            custom_width=125,
        ),
        "Value #G": settings(display_name="Kept", custom_width=70),
        "Value #H": settings(display_name="Newest size", unit="bytes", decimals=1, custom_width=110),
        "Value #I": settings(display_name="All sizes", unit="bytes", decimals=1, custom_width=110),
    }
    panel = parts.listing(
        "Droplets, the worst first",
        f"Every droplet chosen; a click on its state or name opens its dashboard. {parts.STATES_EXPLAINED} Age in "
        "intervals: the age of the newest backup against the time its plan leaves between two.",
        rows(FLEET.labelled("droplet_info", ["droplet_name", "region", "${tag_label:raw}"], FLEET.state)),
        rows(FLEET.within(FLEET.described("policy_info", ["plan"], PLANNED))),
        rows(FLEET.within(FLEET.missed)),
        rows(FLEET.within(FLEET.age)),
        rows(FLEET.within(INTERVALS)),
        rows(FLEET.within(FLEET.value("hours_until_next_window"))),
        rows(FLEET.within(FLEET.value("kept"))),
        rows(FLEET.within(FLEET.value("newest_size_bytes"))),
        rows(FLEET.within(FLEET.value("kept_size_bytes"))),
        order=[
            "Value #A",
            "droplet_name",
            "droplet_id",
            "account",
            "region",
            "plan",
            "Value #C",
            "Value #D",
            "Value #E",
            "Value #F",
            "Value #G",
            "Value #H",
            "Value #I",
        ],
    )
    for name, properties in columns.items():
        panel = panel.override_by_name(name, properties)
    panel = panel.override_by_name("Value #B", settings(custom_hidden=True))
    return 13, [(24, panel.sort_by(parts.sorted_by(("State", True), ("Age in intervals", True))))]


def _windows() -> parts.Line:
    ahead = " or ".join(windows_of_day(day) for day in range(7))
    load = (
        parts.matrix(
            "Windows over the coming week",
            "How many backup windows open in each of the next seven times 24 hours, by plan: the next window of each "
            "droplet and those that follow it at its plan's interval.",
            rows(ahead),
            row="day",
            column="plan",
        )
        .unit("short")
        .decimals(0)
        .axis_label("windows")
    )
    hours = FLEET.value("hours_until_next_window")
    soon = f"{hours} <= 168"
    start = FLEET.value("next_window_start_timestamp_seconds")
    for plan, color in parts.PLANS.items():
        load = load.override_by_regexp(plan, parts.colored(color))
    until = family("hours_until_next_window")
    counted_on = f"max by ({DROPLET}) (timestamp({until}) + 3600 * {until})"
    opens = f"1000 * (round({counted_on}, 60) and {hours} > 0 or {start} and {hours} == 0)"
    length = f"{FLEET.value('next_window_end_timestamp_seconds')} - {start}"
    upcoming = parts.listing(
        "Next windows",
        "Each droplet's next backup window, the soonest first, as far as it lies in the coming week. A window that "
        "is open opens in 0. Where the window that the API names has passed, the next is counted on from it by the "
        "plan's interval.",
        rows(FLEET.labelled("droplet_info", ["droplet_name"], soon)),
        rows(FLEET.within(f"{FLEET.described('policy_info', ['plan'], PLANNED)} and on ({DROPLET}) {soon}")),
        rows(FLEET.within(f"{opens} and {soon}")),
        rows(FLEET.within(f"{length} and {soon}")),
        order=["Value #A", "Value #C", "Value #D", "droplet_name", "droplet_id", "account", "plan"],
    )
    for name, properties in {
        "Value #A": settings(
            display_name="Opens in",
            unit="h",
            decimals=1,
            mappings=parts.values({0: ("open now", GREEN)}),
            custom_cell_options=parts.COLOURED_TEXT,
            custom_width=100,
        ),
        "Value #C": settings(display_name="Opens", unit="dateTimeAsIso", custom_width=170),
        "Value #D": settings(display_name="Length", unit="s", decimals=0, custom_width=90),
        "droplet_name": settings(display_name="Droplet", links=parts.to_droplet()),
        "droplet_id": settings(display_name="ID", custom_width=100, links=parts.to_droplet()),
        "account": settings(display_name="Account"),
        "plan": settings(display_name="Plan", custom_width=120),
        "Value #B": settings(custom_hidden=True),
    }.items():
        upcoming = upcoming.override_by_name(name, properties)
    return 9, [(10, load), (14, upcoming.sort_by(parts.sorted_by(("Opens in", False))))]


def _ages() -> parts.Line:
    plans = parts.shares(
        "Droplets by plan",
        "How many droplets are on each plan; usage-based plans count like any other.",
        now(by_plan("count", FLEET.value("enabled")), "{{plan}}"),
    )
    ages = (
        parts.ranked(
            "Age of the newest backup by plan",
            "The middle droplet and the oldest of each plan, of those with backups enabled.",
            now(by_plan("quantile", AGE, "0.5"), "{{plan}}, median"),
            now(by_plan("max", AGE), "{{plan}}, oldest"),
        )
        .unit("s")
        .decimals(1)
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(steps(BLUE))
        .override_by_regexp("/oldest$/", settings(color={"mode": "fixed", "fixedColor": "orange"}))
    )
    worst = (
        parts.lines(
            "Worst age by plan, in intervals",
            "The age of the newest backup of each plan's worst droplet, against the time its plan leaves between two "
            "backups. Up to about one and a window's length is normal; steadily above two means that windows are "
            "missed.",
            over_time(by_plan("max", INTERVALS), "{{plan}}"),
        )
        .unit("percentunit")
        .min(0)
        .max_data_points(250)
        .thresholds(steps("transparent", (2, RED)))
        .thresholds_style(parts.dashed_threshold())
        .legend(parts.legend("lastNotNull", "max"))
    )
    for plan, color in parts.PLANS.items():
        plans = plans.override_by_regexp(plan, parts.colored(color))
        worst = worst.override_by_regexp(plan, parts.colored(color))
    return 8, [(6, plans), (9, ages), (9, worst)]


def _sizes() -> parts.Line:
    kept = (
        parts.stacked(
            "Size of the backups kept, by tag label",
            "What all backups take, by the tag label chosen above (by account, where none is).",
            over_time(grouped(by_tag("sum", FLEET.value("kept_size_bytes"))), "{{group}}"),
            fill=30,
        )
        .line_width(1)
        .unit("bytes")
        .min(0)
        .legend(parts.legend("lastNotNull"))
    )
    largest = (
        parts.ranked(
            "Largest, all backups of a droplet",
            "The ten droplets whose backups take the most.",
            now(f"sort_desc(topk(10, {named(FLEET.value('kept_size_bytes'))}))", "{{shown}}"),
        )
        .unit("bytes")
        .decimals(1)
        .thresholds(steps(BLUE))
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .data_links(parts.series_to_droplet())
    )
    delta = f"max by ({DROPLET}) (delta({family('newest_size_bytes')}[$__range]))"
    growth = (
        parts.ranked(
            "Growth of the newest backup",
            "The ten droplets whose newest backup grew the most over the time shown.",
            now(f"sort_desc(topk(10, {named(delta)}))", "{{shown}}"),
        )
        .unit("bytes")
        .decimals(1)
        .thresholds(steps(BLUE, (10 * 1024**3, YELLOW), (50 * 1024**3, ORANGE)))
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .data_links(parts.series_to_droplet())
    )
    return 9, [(10, kept), (7, largest), (7, growth)]


def build() -> models.Dashboard:
    return parts.build(
        parts.FLEET_UID,
        "Is every droplet that ought to have backups backed up, and if not, which is not.",
        [parts.data_source_variable(), parts.account_variable(), *parts.tag_variables()],
        [
            parts.alerts(
                "Backup alerts", "DropletBackup.*", "red", text="{{droplet_name}} ({{droplet_id}}) in {{account}}"
            ),
            parts.alerts("Exporter alerts", "BackupExporter.*", "purple", text="{{account}}"),
        ],
        [
            _numbers(),
            _states(),
            _table(),
            "Windows",
            _windows(),
            "Ages",
            _ages(),
            "Sizes and growth",
            _sizes(),
        ],
        time="7d",
    )
