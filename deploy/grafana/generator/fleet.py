"""The dashboard of the fleet: whether everything that should be backed up is backed up, and what is not."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from . import parts, queries
from .parts import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import DROPLET, PLANNED, WORST, State, age, each, grouped, in_states, named, recorded

LIMIT = f"{age(WORST)} / on ({DROPLET}) {each('max_age_seconds', WORST)}"
"""The age of the newest backup as a share of the age that it may have."""
CONCERNED = f'state!~"{queries.UNCONCERNED}"'


def _numbers() -> parts.Line:
    concerned = f"sum({in_states(CONCERNED)})"
    share = (
        parts.number(
            "Protected",
            "Share of the droplets that ought to have backups whose state is `protected`: backups are on, and none is "
            "missed, too old or unknown.",
            now(f"({queries.count(State.PROTECTED)}) / ({concerned} > 0)"),
            background=True,
        )
        .unit("percentunit")
        .decimals(1)
        .min(0)
        .max(1)
        .thresholds(steps(GREY, (0, RED), (0.9, ORANGE), (0.98, YELLOW), (1, GREEN)))
    )
    expected = (
        parts.number(
            "Expected",
            "Droplets that ought to have backups (configuration `expect_backups`; by default all but Kubernetes nodes) "
            "or whose backups are on.",
            now(concerned),
        )
        .unit("short")
        .decimals(0)
        .thresholds(steps("text"))
    )
    counted = [
        (width, parts.counted(parts.STATES[state][0], text, queries.count(state), color))
        for width, state, color, text in (
            (2, State.MISSING, RED, "Droplets that missed two or more windows. Act on these first."),
            (2, State.OVERDUE, RED, "Droplets that missed one window."),
            (
                2,
                State.STALE,
                ORANGE,
                "Droplets whose newest backup is older than it may be, or whose backups are all gone.",
            ),
            (
                3,
                State.NEVER_TAKEN,
                ORANGE,
                "Droplets with backups on that should have a backup by now and never had one.",
            ),
            (
                2,
                State.UNJUDGED,
                PURPLE,
                "Droplets that the exporter cannot judge. The exporter's dashboard shows the reasons.",
            ),
            (
                3,
                State.UNPROTECTED,
                ORANGE,
                "Droplets that ought to have backups and whose policy says that backups are off.",
            ),
        )
    ]
    lost = parts.counted(
        "Lost",
        "Backups that are gone before their time: deleted by hand, by a script, by an intruder. Backups that were "
        "turned into snapshots do not count.",
        f"sum({recorded('tags:digitalocean_backup_lost:sum')})",
        RED,
    )
    kept = (
        parts.number(
            "Backups kept",
            "Size of all backups of the chosen droplets.",
            now(f"sum({recorded('tags:digitalocean_backup_kept_size_bytes:sum')})"),
        )
        .unit("bytes")
        .thresholds(steps(BLUE))
    )
    return 3, [(3, share), (2, expected), *counted, (2, lost), (3, kept)]


def _states() -> parts.Line:
    counts = f"sum by (state) ({in_states()})"
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
        ring = ring.override_by_name(state.word, parts.colored(color, name))
        history = history.override_by_name(state.word, parts.colored(color, name))
    by = "cluster, ${tag_label:raw}"
    protected, concerned = (
        f"sum by ({by}) ({in_states(matcher)})" for matcher in (f'state="{State.PROTECTED.word}"', CONCERNED)
    )
    share = (
        parts.lines(
            "Protected share by tag label",
            "Share of the expected droplets that are protected, by the tag label chosen above (by account if none is "
            "chosen). Droplets without such a tag are `none`.",
            over_time(grouped(f"({protected} or 0 * {concerned}) / {concerned}"), "{{group}}"),
        )
        .unit("percentunit")
        .min(0)
        .max(1)
        .max_data_points(250)
        .legend(parts.legend("lastNotNull", "min"))
    )
    return 8, [(6, ring), (9, history), (9, share)]


def _table() -> parts.Line:
    labels = f"{DROPLET}, droplet_name, plan, state, ${{tag_label:raw}}"
    panel = parts.listing(
        f"Droplets, the {queries.SHOWN_AT_MOST} worst first",
        f"The {queries.SHOWN_AT_MOST} worst of the droplets chosen; a click on a state or name opens the droplet's "
        f"dashboard. {parts.STATES_EXPLAINED} Of limit: the age of the newest backup against the age that it may have.",
        rows(f"sort_desc(max by ({labels}) ({queries.worst(WORST)}))"),
        rows(each("missed_windows", WORST)),
        rows(age(WORST)),
        rows(LIMIT),
        rows(f"3600 * {each('hours_until_next_window', WORST)}"),
        rows(each("kept", WORST)),
        rows(each("kept_size_bytes", WORST)),
        order=["state", "droplet_name", "droplet_id", "cluster", "account", "plan"],
        hidden=["Value #A"],
    )
    return 13, [
        (
            24,
            parts.with_columns(
                panel,
                {
                    "state": settings(
                        display_name="State",
                        mappings=parts.state_words(),
                        custom_cell_options=parts.COLOURED_CELL,
                        custom_align="left",
                        custom_width=110,
                        links=parts.to_droplet(),
                    ),
                    "droplet_name": settings(display_name="Droplet", custom_min_width=160, links=parts.to_droplet()),
                    "droplet_id": settings(display_name="ID", custom_width=95, links=parts.to_droplet()),
                    "cluster": settings(display_name="Cluster"),
                    "account": settings(display_name="Account"),
                    "plan": settings(display_name="Plan", custom_width=125),
                    "Value #B": settings(
                        display_name="Missed",
                        custom_width=92,
                        thresholds=steps("text", (1, RED)),
                        custom_cell_options=parts.COLOURED_TEXT,
                    ),
                    "Value #C": settings(display_name="Newest backup", unit="s", decimals=1, custom_width=145),
                    "Value #D": settings(
                        display_name="Of limit",
                        unit="percentunit",
                        decimals=0,
                        thresholds=steps("text", (0, GREEN), (0.8, YELLOW), (1, RED)),
                        custom_cell_options=parts.COLOURED_TEXT,
                        custom_width=105,
                    ),
                    "Value #E": settings(
                        display_name="Next window",
                        unit="s",
                        decimals=1,
                        mappings=parts.values({0: ("open now", GREEN)}),
                        custom_width=130,
                    ),
                    "Value #F": settings(display_name="Kept", custom_width=78),
                    "Value #G": settings(display_name="Size of all", unit="bytes", custom_width=130),
                },
            ),
        )
    ]


def _windows() -> parts.Line:
    week = 'day=~"[0-6]"'
    days = f"sum by (plan, day) ({recorded('tags:digitalocean_backup_next_window_days:count', PLANNED, week)})"
    until = recorded("droplet:digitalocean_backup_next_window_seconds:soonest")
    load = (
        parts.matrix(
            "Next windows by day",
            "In how many days the next backup window of each droplet opens, by plan. `+0 d` is within the next 24 "
            "hours.",
            rows(f'label_replace({days}, "day", "+$1 d", "day", "(.+)")'),
            row="day",
            column="plan",
        )
        .unit("short")
        .decimals(0)
        .axis_label("droplets")
    )
    for plan, color in parts.PLANS.items():
        load = load.override_by_regexp(plan, parts.colored(color))
    labels = f"{DROPLET}, droplet_name, plan"
    upcoming = parts.listing(
        f"Next windows, the {queries.SHOWN_AT_MOST} soonest",
        "When each droplet's next backup window opens, by the schedule that the exporter judges it by. A window that "
        "is open opens in 0.",
        rows(f"sort(max by ({labels}) (bottomk({queries.SHOWN_AT_MOST}, {until})))"),
        order=["Value", "Opens", "droplet_name", "droplet_id", "cluster", "account", "plan"],
        hidden=["Milliseconds"],
        computed=[("Milliseconds", "Value", "*", "1000"), ("Opens", "Time", "+", "Milliseconds")],
    )
    return 9, [
        (10, load),
        (
            14,
            parts.with_columns(
                upcoming,
                {
                    "Value": settings(
                        display_name="Opens in",
                        unit="s",
                        decimals=1,
                        mappings=parts.values({0: ("open now", GREEN)}),
                        custom_cell_options=parts.COLOURED_TEXT,
                        custom_width=115,
                    ),
                    "Opens": settings(unit="dateTimeAsIso", custom_width=175),
                    "droplet_name": settings(display_name="Droplet", custom_min_width=120, links=parts.to_droplet()),
                    "droplet_id": settings(display_name="ID", custom_width=95, links=parts.to_droplet()),
                    "cluster": settings(display_name="Cluster"),
                    "account": settings(display_name="Account"),
                    "plan": settings(display_name="Plan", custom_width=125),
                },
            ),
        ),
    ]


def _ages() -> parts.Line:
    plans = parts.shares(
        "Droplets by plan",
        "How many droplets are on each plan; usage-based plans count like any other.",
        now(f"sum by (plan) ({in_states(PLANNED)})", "{{plan}}"),
    )
    aged = "tags:digitalocean_backup_newest_age_seconds"
    total, number, oldest = (
        f"{how} by (plan) ({recorded(f'{aged}:{what}', PLANNED)})"
        for how, what in (("sum", "sum"), ("sum", "count"), ("max", "max"))
    )
    ages = (
        parts.ranked(
            "Age of the newest backup by plan",
            "The mean and the oldest of each plan, of droplets with backups on.",
            now(f"{total} / {number}", "{{plan}}, mean"),
            now(oldest, "{{plan}}, oldest"),
        )
        .unit("s")
        .decimals(1)
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .thresholds(steps(BLUE))
        .override_by_regexp("/oldest$/", settings(color={"mode": "fixed", "fixedColor": "orange"}))
    )
    worst = (
        parts.lines(
            "Worst age by plan, against its limit",
            "The age of the newest backup of each plan's worst droplet, against the age that it may have. Above 100 % "
            "the droplet is stale, unless a newer backup was turned into a snapshot.",
            over_time(f"max by (plan) ({recorded('tags:digitalocean_backup_age_of_limit:max', PLANNED)})", "{{plan}}"),
        )
        .unit("percentunit")
        .min(0)
        .max_data_points(250)
        .thresholds(steps("transparent", (1, RED)))
        .thresholds_style(parts.dashed_threshold())
        .legend(parts.legend("lastNotNull", "max"))
    )
    for plan, color in parts.PLANS.items():
        plans = plans.override_by_regexp(plan, parts.colored(color))
        worst = worst.override_by_regexp(plan, parts.colored(color))
    return 9, [(6, plans), (9, ages), (9, worst)]


def _sizes() -> parts.Line:
    by_tag = f"sum by (cluster, ${{tag_label:raw}}) ({recorded('tags:digitalocean_backup_kept_size_bytes:sum')})"
    kept = (
        parts.stacked(
            "Size of the backups kept, by tag label",
            "The size of all backups, by the tag label chosen above (by account if none is chosen).",
            over_time(grouped(by_tag), "{{group}}"),
            fill=30,
        )
        .line_width(1)
        .unit("bytes")
        .min(0)
        .max_data_points(250)
        .legend(parts.legend("lastNotNull"))
    )
    sizes = recorded("droplet:digitalocean_backup_kept_size_bytes:largest")
    largest = (
        parts.ranked(
            "Largest, all backups of a droplet",
            "The ten droplets with the largest backups together.",
            now(f"sort_desc({named(f'topk(10, {sizes})')})", "{{shown}}"),
            above=True,
        )
        .unit("bytes")
        .thresholds(steps(BLUE))
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .data_links(parts.series_to_droplet())
    )
    grown = recorded("droplet:digitalocean_backup_newest_size_bytes:grown7d")
    growth = (
        parts.ranked(
            "Growth of the newest backup in seven days",
            "The ten droplets whose newest backup grew the most since seven days ago.",
            now(f"sort_desc({named(f'topk(10, {grown})')})", "{{shown}}"),
            above=True,
        )
        .unit("bytes")
        .no_value("none grew")
        .thresholds(steps(BLUE, (10 * 1024**3, YELLOW), (50 * 1024**3, ORANGE)))
        .color_scheme(parts.color_mode(models.FieldColorModeId.THRESHOLDS))
        .data_links(parts.series_to_droplet())
    )
    return 12, [(10, kept), (7, largest), (7, growth)]


def build() -> models.Dashboard:
    return parts.build(
        parts.FLEET_UID,
        "Whether every droplet that should have backups is backed up, and which are not. Uses the series that "
        "the shipped recording rules make: load deploy/prometheus/rules/dashboards.yml into Prometheus.",
        [parts.data_source_variable(), *parts.account_variables(), *parts.tag_variables(), parts.worst_variable()],
        [
            parts.alerts("Backup alerts", "DropletBackup.*", "red", counted=True, text="{{severity}} in {{account}}"),
            parts.alerts(
                "Exporter alerts", "BackupExporter.*", "purple", counted=True, text="{{severity}} in {{account}}"
            ),
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
