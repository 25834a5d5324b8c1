"""The dashboard of one droplet: its policy, its windows and its backups."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from . import parts
from .parts import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import ONE_DROPLET, age, described, in_cluster, one, state_of_one

NAME = "{{account}}"
"""Series are named by their account, because two accounts of one team have the same droplets."""


def _shown(expr: str) -> str:
    """The name of a series: its cluster and its account, so that no two series have the same name."""
    return in_cluster(f"({expr})")


def _now() -> parts.Line:
    state = (
        parts.number(
            "State",
            f"What can be said of this droplet's backups. {parts.STATES_EXPLAINED}",
            now(_shown(state_of_one()), NAME),
            background=True,
        )
        .mappings(parts.state_values())
        .thresholds(steps(GREY))
    )
    missed = (
        parts.number(
            "Missed windows",
            "How many windows were missed since the newest backup. If nothing is shown, it is not known.",
            now(_shown(one("missed_windows")), NAME),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (1, ORANGE), (2, RED)))
    )
    newest_age = (
        parts.number("Newest backup", "Age of the newest backup kept.", now(_shown(age(ONE_DROPLET)), NAME))
        .unit("s")
        .decimals(1)
        .thresholds(steps(BLUE))
    )
    until = (
        parts.number(
            "Next window",
            "Time until the next window opens, by the schedule that the droplet is judged by.",
            now(_shown(f"3600 * {one('hours_until_next_window')}"), NAME),
        )
        .unit("s")
        .decimals(1)
        .mappings(parts.values({0: ("open now", GREEN)}))
        .thresholds(steps(BLUE))
    )
    kept = (
        parts.number("Backups kept", "How many backups of this droplet exist.", now(_shown(one("kept")), NAME))
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, ORANGE), (1, GREEN)))
    )
    lost = (
        parts.number(
            "Lost",
            "Backups that are gone before their time, each until its retention would have ended.",
            now(_shown(one("lost")), NAME),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps("text", (0, GREEN), (1, RED)))
    )
    total = (
        parts.number(
            "Size of all",
            "Size of all backups of this droplet together; absent if the size of one is not known.",
            now(_shown(one("kept_size_bytes")), NAME),
        )
        .unit("bytes")
        .min(0)
        .thresholds(steps(BLUE))
    )
    read = (
        parts.number(
            "List last read",
            "Time since this droplet's list of backups was last read from its own endpoint, or every id that a "
            "listing named for it was found. Lists without a known change are read again after `poll.verify_every`, "
            "by default a day.",
            now(_shown(f"clamp_min(time() - {one('refreshed_timestamp_seconds')}, 0)"), NAME),
        )
        .unit("s")
        .decimals(1)
        .thresholds(steps("text", (0, GREEN), (2 * 86400, YELLOW)))
    )
    return 3, [(3, panel) for panel in (state, missed, newest_age, until, kept, lost, total, read)]


def _timeline() -> parts.Line:
    opened = f"{one('hours_until_next_window')} == bool 0"
    panel = (
        parts.timeline(
            "State and windows",
            f"The droplet's state over time, and when its windows were open. {parts.STATES_EXPLAINED}",
            over_time(state_of_one(), "State"),
            over_time(opened, "Window"),
        )
        .max_data_points(600)
        .mappings(parts.state_values())
    )
    windows = settings(mappings=parts.values({0: ("closed", "#6e768155"), 1: ("open", "blue")}))
    return 5, [(24, panel.override_by_query("B", windows))]


def _tables() -> list[parts.Line]:
    yes_or_no = parts.values({0: ("no", ORANGE), 1: ("yes", GREEN)})
    policy = parts.with_columns(
        parts.listing(
            "Policy",
            "When this droplet's backups are taken, as its policy says (hours are UTC), how long they are kept, and "
            "how old the newest may be. `Supported` says whether DigitalOcean lists the policy's hour and weekday as "
            "possible for its plan.",
            rows(one("enabled")),
            rows(one("expected")),
            rows(described("policy_info", ["plan", "weekday", "hour"])),
            rows(one("interval_seconds")),
            rows(f"86400 * {one('retention_days')}"),
            rows(one("max_age_seconds")),
            rows(one("policy_supported")),
            order=["Value #A", "Value #B", "plan", "weekday", "hour", *(f"Value #{letter}" for letter in "DEFG")],
            hidden=["droplet_id", "Value #C"],
        ),
        {
            "cluster": settings(display_name="Cluster"),
            "account": settings(display_name="Account"),
            "plan": settings(display_name="Plan", custom_min_width=125),
            "weekday": settings(display_name="Weekday", custom_min_width=105),
            "hour": settings(display_name="Hour (UTC)", custom_min_width=125),
            "Value #A": settings(
                display_name="Enabled",
                mappings=yes_or_no,
                custom_cell_options=parts.COLOURED_TEXT,
                custom_min_width=100,
            ),
            "Value #B": settings(
                display_name="Expected",
                mappings=parts.values({0: ("no", GREY), 1: ("yes", GREEN)}),
                custom_min_width=105,
            ),
            "Value #D": settings(display_name="Interval", unit="s", custom_min_width=105),
            "Value #E": settings(display_name="Retention", unit="s", custom_min_width=115),
            "Value #F": settings(display_name="May be as old as", unit="s", decimals=1, custom_min_width=170),
            "Value #G": settings(
                display_name="Supported",
                mappings=yes_or_no,
                custom_cell_options=parts.COLOURED_TEXT,
                custom_min_width=115,
            ),
        },
    )
    droplet = parts.with_columns(
        parts.listing(
            "Droplet",
            "What DigitalOcean says about the droplet, and its value of the tag label chosen above. Attached "
            "volumes are not part of a droplet's backups.",
            rows(described("droplet_info", ["droplet_name", "region", "size", "status", "${tag_label:raw}"])),
            rows(f"1000 * {one('droplet_created_timestamp_seconds')}"),
            rows(one("attached_volumes")),
            order=[
                "droplet_name",
                "droplet_id",
                "cluster",
                "account",
                "region",
                "size",
                "status",
                "Value #B",
                "Value #C",
            ],
            hidden=["Value #A"],
        ),
        {
            "cluster": settings(display_name="Cluster"),
            "account": settings(display_name="Account"),
            "droplet_id": settings(display_name="ID", custom_min_width=115),
            "droplet_name": settings(display_name="Name", custom_min_width=160),
            "region": settings(display_name="Region", custom_min_width=90),
            "size": settings(display_name="Size", custom_min_width=130),
            "status": settings(display_name="Status", custom_min_width=90),
            "Value #B": settings(display_name="Created", unit="dateTimeAsIso", custom_min_width=175),
            "Value #C": settings(
                display_name="Volumes",
                thresholds=steps("text", (1, ORANGE)),
                custom_cell_options=parts.COLOURED_TEXT,
                custom_min_width=105,
            ),
        },
    )
    start, end = one("next_window_start_timestamp_seconds"), one("next_window_end_timestamp_seconds")
    windows = parts.with_columns(
        parts.listing(
            "Windows and backups",
            "The next window as DigitalOcean names it (after it has passed, until the API names the following one), "
            "and the newest and oldest backups that exist.",
            rows(f"1000 * {start}"),
            rows(f"1000 * {end}"),
            rows(f"1000 * {one('newest_timestamp_seconds')}"),
            rows(f"1000 * {one('oldest_timestamp_seconds')}"),
            order=["Value #A", "Value #B", "Value #C", "Value #D", "cluster", "account"],
            hidden=["droplet_id"],
        ),
        {
            "cluster": settings(display_name="Cluster"),
            "account": settings(display_name="Account"),
            "Value #A": settings(display_name="Next window opens", unit="dateTimeAsIso", custom_min_width=175),
            "Value #B": settings(display_name="Next window closes", unit="dateTimeAsIso", custom_min_width=185),
            "Value #C": settings(display_name="Newest backup", unit="dateTimeAsIso", custom_min_width=175),
            "Value #D": settings(display_name="Oldest backup", unit="dateTimeAsIso", custom_min_width=175),
        },
    )
    return [(4, [(24, policy)]), (4, [(24, droplet)]), (4, [(24, windows)])]


def _age() -> parts.Line:
    ages = (
        parts.lines(
            "Age of the newest backup",
            "It falls with every backup and rises between them. The lower dashed line is the plan's time between two "
            "backups: well above it, a backup was missed. Above the upper dashed line the droplet is stale.",
            over_time(_shown(age(ONE_DROPLET)), f"age, {NAME}"),
            over_time(_shown(one("interval_seconds")), f"interval, {NAME}"),
            over_time(_shown(one("max_age_seconds")), f"limit, {NAME}"),
            fill=15,
        )
        .unit("s")
        .min(0)
        .override_by_regexp("/^interval/", parts.dashed("orange"))
        .override_by_regexp("/^limit/", parts.dashed("red"))
        .override_by_regexp("/^age/", settings(color={"mode": "fixed", "fixedColor": "blue"}))
    )
    until = (
        parts.lines(
            "Time until the next window",
            "0 while a window is open.",
            over_time(_shown(f"3600 * {one('hours_until_next_window')}"), NAME),
            fill=15,
        )
        .unit("s")
        .min(0)
        .color_scheme(parts.fixed("purple"))
    )
    return 8, [(14, ages), (10, until)]


def _kept() -> parts.Line:
    fitting = f"floor({one('retention_days')} * 86400 / {one('interval_seconds')})"
    count = (
        parts.lines(
            "Backups kept over time",
            "How many backups exist. The dashed line is how many the plan makes within the retention. If there are "
            "fewer, some were missed or deleted, or the policy is new.",
            over_time(_shown(one("kept")), f"kept, {NAME}"),
            over_time(_shown(fitting), f"by retention, {NAME}"),
            fill=15,
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .line_interpolation(parts.STEPS)
        .override_by_regexp("/^by retention/", parts.dashed())
        .override_by_regexp("/^kept/", settings(color={"mode": "fixed", "fixedColor": "green"}))
    )
    size = (
        parts.lines(
            "Size over time",
            "Size of the newest backup, and of all that are kept. A newest backup much smaller than those before it "
            "may lack data.",
            over_time(_shown(one("newest_size_bytes")), f"newest, {NAME}"),
            over_time(_shown(one("kept_size_bytes")), f"all, {NAME}"),
            fill=10,
        )
        .unit("bytes")
        .min(0)
        .line_interpolation(parts.STEPS)
        .override_by_regexp("/^newest/", settings(color={"mode": "fixed", "fixedColor": "blue"}))
        .override_by_regexp("/^all/", settings(color={"mode": "fixed", "fixedColor": "purple"}))
    )
    return 8, [(12, count), (12, size)]


def build() -> models.Dashboard:
    return parts.build(
        parts.DROPLET_UID,
        "One droplet's policy, windows, and backups.",
        [
            parts.data_source_variable(),
            *parts.account_variables(),
            *parts.tag_variables(),
            parts.droplet_variable(),
        ],
        [
            parts.alerts(
                "Backup alerts",
                "DropletBackup.*",
                "red",
                'droplet_id="$droplet"',
                text="{{droplet_name}} ({{droplet_id}}) in {{account}}",
            )
        ],
        [_now(), _timeline(), *_tables(), _age(), _kept()],
        time="14d",
    )
