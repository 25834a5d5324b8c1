"""One droplet: its policy, its windows, and what became of them."""

from __future__ import annotations

from grafana_foundation_sdk.models import dashboard as models

from . import parts
from .parts import BLUE, GREEN, GREY, ORANGE, RED, YELLOW, now, over_time, rows, settings, steps
from .queries import ONE

NAME = "{{account}}"
"""A series is told apart by its account: two accounts of one team know the same droplets."""


def _now() -> parts.Line:
    state = (
        parts.number(
            "State",
            f"What can be said of this droplet's backups. {parts.STATES_EXPLAINED}",
            now(ONE.state, NAME),
            background=True,
        )
        .mappings(parts.state_values())
        .thresholds(steps(GREY))
    )
    missed = (
        parts.number(
            "Missed windows",
            "How many windows in a row were missed up to now. Nothing here means that it cannot be known.",
            now(ONE.missed, NAME),
        )
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(GREEN, (1, ORANGE), (2, RED)))
    )
    age = (
        parts.number(
            "Newest backup",
            "Age of the newest backup kept.",
            now(ONE.age, NAME),
        )
        .unit("s")
        .decimals(1)
        .thresholds(steps(BLUE))
    )
    until = (
        parts.number(
            "Next window",
            "Time until the next window opens.",
            now(ONE.value("hours_until_next_window"), NAME),
        )
        .unit("h")
        .decimals(1)
        .mappings(parts.values({0: ("open now", GREEN)}))
        .thresholds(steps(BLUE))
    )
    kept = (
        parts.number("Backups kept", "How many backups of this droplet exist.", now(ONE.value("kept"), NAME))
        .unit("short")
        .decimals(0)
        .min(0)
        .thresholds(steps(ORANGE, (1, GREEN)))
    )
    newest = (
        parts.number("Newest size", "Size of the newest backup kept.", now(ONE.value("newest_size_bytes"), NAME))
        .unit("bytes")
        .decimals(1)
        .min(0)
        .thresholds(steps(BLUE))
    )
    total = (
        parts.number(
            "Size of all",
            "Size of all backups of this droplet; absent if one of them is not known.",
            now(ONE.value("kept_size_bytes"), NAME),
        )
        .unit("bytes")
        .decimals(1)
        .min(0)
        .thresholds(steps(BLUE))
    )
    read = (
        parts.number(
            "List last read",
            "Time since this droplet's list of backups was last read from its own endpoint, or every id that a "
            "listing named for it was resolved. Lists that show no change are read again by `poll.verify_every`, a "
            "day unless configured.",
            now(f"clamp_min(time() - {ONE.value('refreshed_timestamp_seconds')}, 0)", NAME),
        )
        .unit("s")
        .decimals(1)
        .thresholds(steps(GREEN, (2 * 86400, YELLOW)))
    )
    return 3, [(3, panel) for panel in (state, missed, age, until, kept, newest, total, read)]


def _timeline() -> parts.Line:
    opened = f"{ONE.value('hours_until_next_window')} == bool 0"
    panel = parts.timeline(
        "State and windows",
        f"The droplet's state over time, and when its windows were open. {parts.STATES_EXPLAINED}",
        over_time(ONE.state, "State"),
        over_time(opened, "Window"),
    ).max_data_points(600)
    panel = panel.mappings(parts.state_values())
    return 5, [
        (
            24,
            panel.override_by_query(
                "B", settings(mappings=parts.values({0: ("closed", "#2c3235"), 1: ("open", "blue")}))
            ),
        )
    ]


def _policy() -> parts.Line:
    policy = parts.listing(
        "Policy",
        "When this droplet's backups are taken, as its policy says (hours are UTC), and how long they are kept. "
        "`Supported` tells whether DigitalOcean lists the policy's hour and weekday as possible for its plan.",
        rows(ONE.labelled("policy_info", ["plan", "weekday", "hour"], f"{ONE.value('enabled')}")),
        rows(ONE.value("expected")),
        rows(ONE.value("interval_seconds")),
        rows(ONE.value("retention_days")),
        rows(ONE.value("policy_supported")),
        order=["plan", "weekday", "hour", "Value #A", "Value #B", "Value #C", "Value #D", "Value #E", "account"],
    )
    yes_or_no = parts.values({0: ("no", ORANGE), 1: ("yes", GREEN)})
    for name, properties in {
        "account": settings(display_name="Account"),
        "droplet_id": settings(custom_hidden=True),
        "plan": settings(display_name="Plan"),
        "weekday": settings(display_name="Weekday"),
        "hour": settings(display_name="Hour (UTC)"),
        "Value #A": settings(
            display_name="Enabled", mappings=yes_or_no, custom_cell_options=parts.COLOURED_TEXT, custom_width=85
        ),
        "Value #B": settings(
            display_name="Expected", mappings=parts.values({0: ("no", GREY), 1: ("yes", GREEN)}), custom_width=85
        ),
        "Value #C": settings(display_name="Interval", unit="s"),
        "Value #D": settings(display_name="Retention", unit="d"),
        "Value #E": settings(
            display_name="Supported", mappings=yes_or_no, custom_cell_options=parts.COLOURED_TEXT, custom_width=95
        ),
    }.items():
        policy = policy.override_by_name(name, properties)

    droplet = parts.listing(
        "Droplet",
        "What DigitalOcean tells of the droplet itself, and its value of the tag label chosen above.",
        rows(ONE.described("droplet_info", ["droplet_name", "region", "size", "status", "${tag_label:raw}"])),
        rows(f"1000 * {ONE.value('droplet_created_timestamp_seconds')}"),
        order=["droplet_name", "droplet_id", "account", "region", "size", "status", "Value #B"],
    )
    for name, properties in {
        "account": settings(display_name="Account"),
        "droplet_id": settings(display_name="ID"),
        "droplet_name": settings(display_name="Name"),
        "region": settings(display_name="Region", custom_width=75),
        "size": settings(display_name="Size"),
        "status": settings(display_name="Status", custom_width=75),
        "Value #A": settings(custom_hidden=True),
        "Value #B": settings(display_name="Created", unit="dateTimeAsIso", custom_width=160),
    }.items():
        droplet = droplet.override_by_name(name, properties)
    return 3, [(13, policy), (11, droplet)]


def _windows() -> parts.Line:
    start, end = ONE.value("next_window_start_timestamp_seconds"), ONE.value("next_window_end_timestamp_seconds")
    windows = parts.listing(
        "Windows and backups",
        "The next window as DigitalOcean names it (it may have passed until the API names the following one), and "
        "the newest and oldest backups kept.",
        rows(f"1000 * {start}"),
        rows(f"1000 * {end}"),
        rows(f"1000 * {ONE.value('newest_timestamp_seconds')}"),
        rows(f"1000 * {ONE.value('oldest_timestamp_seconds')}"),
        order=["Value #A", "Value #B", "Value #C", "Value #D", "account"],
    )
    for name, properties in {
        "account": settings(display_name="Account"),
        "droplet_id": settings(custom_hidden=True),
        "Value #A": settings(display_name="Next window opens", unit="dateTimeAsIso"),
        "Value #B": settings(display_name="Next window closes", unit="dateTimeAsIso"),
        "Value #C": settings(display_name="Newest backup", unit="dateTimeAsIso"),
        "Value #D": settings(display_name="Oldest backup", unit="dateTimeAsIso"),
    }.items():
        windows = windows.override_by_name(name, properties)
    return 3, [(24, windows)]


def _age() -> parts.Line:
    age = (
        parts.lines(
            "Age of the newest backup",
            "It falls with every backup and rises between them; well above the dashed line, the time the plan leaves "
            "between two backups, one was missed.",
            over_time(ONE.age, f"age, {NAME}"),
            over_time(ONE.value("interval_seconds"), f"interval, {NAME}"),
            fill=15,
        )
        .unit("s")
        .min(0)
        .override_by_regexp("/^interval/", parts.dashed("orange"))
        .override_by_regexp("/^age/", settings(color={"mode": "fixed", "fixedColor": "blue"}))
    )
    until = (
        parts.lines(
            "Time until the next window",
            "0 while a window is open.",
            over_time(ONE.value("hours_until_next_window"), NAME),
            fill=15,
        )
        .unit("h")
        .min(0)
        .color_scheme(parts.fixed("purple"))
    )
    return 8, [(14, age), (10, until)]


def _kept() -> parts.Line:
    count = (
        parts.lines(
            "Backups kept over time",
            "How many backups exist. The dashed line is how many the plan's interval leaves within the retention: "
            "fewer means that some were missed, deleted, or that the policy is young.",
            over_time(ONE.value("kept"), f"kept, {NAME}"),
            over_time(
                f"floor({ONE.value('retention_days')} * 86400 / {ONE.value('interval_seconds')})",
                f"by retention, {NAME}",
            ),
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
            over_time(ONE.value("newest_size_bytes"), f"newest, {NAME}"),
            over_time(ONE.value("kept_size_bytes"), f"all, {NAME}"),
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
            parts.account_variable(),
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
        [_now(), _timeline(), _policy(), _windows(), _age(), _kept()],
        time="14d",
    )
