"""The PromQL of the dashboards, from families of the metrics contract to what a panel shows.

Every expression bears two replicas of the exporter scraped side by side, also in the minutes in which they disagree
(a droplet renamed, retagged, its plan changed, and only one of them has polled since): values are reduced to one series
for each `account` and `droplet_id` before anything else, and the series that carry descriptions are cut to one for each
droplet by `topk`, so that no join ever meets two candidates. Names are left out of the reduction, for they are what can
disagree.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

PREFIX = "digitalocean_backup_"
DROPLET = "account, droplet_id"
"""What identifies a droplet; its name only describes it."""

ACCOUNT = 'account=~"$account"'
TAG = '${tag_label:raw}=~"$tag_value"'
ONE_DROPLET = 'droplet_id="$droplet"'
PLANNED = 'plan!=""'

DAY = 86400
WEEK = 7 * DAY


class State(IntEnum):
    """What a droplet's backups are like, the worst with the highest number: the order of the table."""

    NOT_EXPECTED = 0
    PROTECTED = 1
    FIRST_PENDING = 2
    UNPROTECTED = 3
    UNKNOWN = 4
    NEVER_TAKEN = 5
    OVERDUE = 6
    MISSING = 7


def family(name: str, *matchers: str) -> str:
    """A selector of one family, of the accounts chosen."""
    return f"{PREFIX}{name}{{{', '.join((ACCOUNT, *matchers))}}}"


def exporter(name: str, *matchers: str) -> str:
    """A selector of one of the exporter's own families that have an `account`."""
    return family(f"exporter_{name}", *matchers)


class Scope:
    """Which droplets a dashboard speaks of: those whose info series has the tag chosen, or the one chosen."""

    def __init__(self, *matchers: str, tagged: bool) -> None:
        self.matchers = matchers
        self.tagged = tagged

    def value(self, name: str, offset: str = "") -> str:
        """A family as one series for each droplet, however many replicas are scraped."""
        selector = family(name, *self.matchers) + (f" offset {offset}" if offset else "")
        return f"max by ({DROPLET}) ({selector})"

    @property
    def age(self) -> str:
        """The age of the newest backup that any replica knows of: one that has not polled since knows an older one."""
        return f"min by ({DROPLET}) ({family('newest_age_seconds', *self.matchers)})"

    @property
    def missed(self) -> str:
        """Windows missed, as the alerts see them: of two replicas, the one whose listings are good is believed."""
        windows = family("missed_windows", *self.matchers)
        believed = f"{windows} and on (account, job, instance) {exporter('up')} == 1"
        return f"(max by ({DROPLET}) ({believed}) or max by ({DROPLET}) ({windows}))"

    def within(self, expr: str) -> str:
        """Only the droplets of the tag chosen."""
        if not self.tagged:
            return expr
        return f"({expr}) and on ({DROPLET}) {family('droplet_info', TAG, *self.matchers)}"

    def described(self, source: str, labels: Sequence[str], *matchers: str) -> str:
        """One series of value 1 for each droplet, with these labels of its `droplet_info` or `policy_info`."""
        if self.tagged and source == "droplet_info":
            matchers = (TAG, *matchers)
        by = ", ".join((DROPLET, *labels))
        return f"topk by ({DROPLET}) (1, max by ({by}) ({family(source, *matchers, *self.matchers)}))"

    def labelled(self, source: str, labels: Sequence[str], value: str, *matchers: str) -> str:
        """A value of each droplet with labels of its description, which stand on the side that may be many."""
        return f"{self.described(source, labels, *matchers)} * on ({DROPLET}) group_left () ({value})"

    @property
    def never_taken(self) -> str:
        """Enabled and without a backup, two days after the droplet was made, nine where the plan is weekly.

        Where Prometheus remembers that backups were still off then, they have been switched on since, and it is early.
        """
        age = f"(time() - {self.value('droplet_created_timestamp_seconds')})"
        weekly = f"{self.value('interval_seconds')} >= {WEEK}"
        return (
            f"{self.value('enabled')} == 1 and {self.value('kept')} == 0 and {age} > {2 * DAY} "
            f"unless {self.value('enabled', '2d')} == 0 "
            f"unless (({age} < {9 * DAY} or {self.value('enabled', '9d')} == 0) and {weekly})"
        )

    @property
    def unknown(self) -> str:
        """Enabled and without a verdict though there are backups, or not known whether enabled (or even expected)."""
        return (
            f"({self.value('enabled')} == 1 unless {self.missed} unless {self.value('kept')} == 0) "
            f"or ({self.value('droplet_info')} unless {self.value('enabled')} unless {self.value('expected')} == 0)"
        )

    @property
    def unprotected(self) -> str:
        """Expected, and the policy says that backups are off."""
        return f"{self.value('expected')} == 1 and {self.value('enabled')} == 0"

    @property
    def protected(self) -> str:
        """Expected, enabled, with a backup, and not known to have missed a window: what the recording rules count."""
        return (
            f"{self.value('expected')} == 1 and {self.value('enabled')} == 1 "
            f"and {self.value('kept')} > 0 unless {self.missed} > 0"
        )

    @property
    def state(self) -> str:
        """Each droplet's `State`; the first alternative that holds a droplet wins."""
        enabled, expected = self.value("enabled"), self.value("expected")
        alternatives = (
            (State.MISSING, f"{self.missed} >= 2"),
            (State.OVERDUE, f"{self.missed} == 1"),
            (State.NEVER_TAKEN, self.never_taken),
            (State.FIRST_PENDING, f"{enabled} == 1 and {self.value('kept')} == 0"),
            (State.UNKNOWN, self.unknown),
            (State.UNPROTECTED, self.unprotected),
            (State.PROTECTED, f"{enabled} == 1"),
            (State.NOT_EXPECTED, f"{enabled} == 0 or {expected} == 0"),
        )
        return self.within(" or ".join(f"0 * ({expr}) + {state:d}" for state, expr in alternatives))

    def count(self, expr: str) -> str:
        """How many droplets; 0 only where it is known which are expected, and nothing where nothing is known."""
        return f"count({self.within(expr)}) or 0 * count({self.within(self.value('expected'))})"


FLEET = Scope(tagged=True)
ONE = Scope(ONE_DROPLET, tagged=False)


def grouped(expr: str) -> str:
    """An aggregate by the tag label chosen, its value as the label `group`; `none` where a droplet has no such tag."""
    named = f'label_replace({expr}, "group", "$1", "${{tag_label:raw}}", "(?s)(.+)")'
    return f'label_replace({named}, "group", "none", "${{tag_label:raw}}", "")'


def named(value: str) -> str:
    """A value of each droplet with the label `shown`: its name, or its id where it has none, and its account."""
    shown = FLEET.labelled("droplet_info", ["droplet_name"], value)
    shown = f'label_replace({shown}, "shown", "$1", "droplet_id", "(.+)")'
    shown = f'label_replace({shown}, "shown", "$1", "droplet_name", "(?s)(.+)")'
    return f'label_join({shown}, "shown", " · ", "shown", "account")'


def by_tag(aggregate: str, value: str) -> str:
    """A value of each droplet, aggregated by the tag label chosen (by account, where none is)."""
    labelled = FLEET.labelled("droplet_info", ["${tag_label:raw}"], value)
    return f"{aggregate} by (${{tag_label:raw}}) ({labelled})"


def by_plan(aggregate: str, value: str, parameter: str = "") -> str:
    """A value of each droplet, aggregated by the plan of its policy."""
    labelled = FLEET.labelled("policy_info", ["plan"], FLEET.within(value), PLANNED)
    return f"{aggregate} by (plan) ({parameter + ', ' if parameter else ''}{labelled})"


def windows_of_day(day: int) -> str:
    """How many windows open in that day from now (0: the next 24 hours), by plan, each repeating every interval."""
    until = f"(3600 * {FLEET.value('hours_until_next_window')})"
    interval = FLEET.value("interval_seconds")

    def opened(before: int) -> str:
        return f"clamp_min(ceil(({before * DAY} - {until}) / {interval}), 0)"

    count = f"{opened(day + 1)} - {opened(day)}" if day else opened(1)
    label = f"{day}–{day + 1} d"
    return f'label_replace({by_plan("sum", count)}, "day", "{label}", "", "")'
