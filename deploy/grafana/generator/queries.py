"""The PromQL of the dashboards, made from the families of `exporter/metrics/families.py`.

The state of a droplet is never worked out here: it is what `digitalocean_backup_state` says. What the fleet dashboard
shows of many droplets, or over time, comes from the series that `deploy/prometheus/rules/dashboards.yml` records, so
that a load of it costs little at any fleet size.

Every expression bears two replicas of the exporter scraped side by side, also in the minutes in which they disagree
(a droplet renamed, its plan changed, and only one of them has polled since): values are reduced to one series for each
`cluster`, `account` and `droplet_id` before anything else. Names are left out of the reduction, because names are what
can disagree. `cluster` is a label that a Prometheus of several clusters has; where nobody sets it, it costs nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

PREFIX = "digitalocean_backup_"
ACCOUNT_BY = "cluster, account"
"""The labels that identify an account."""
DROPLET = f"{ACCOUNT_BY}, droplet_id"
"""The labels that identify a droplet. Its name can change."""

CHOSEN = 'cluster=~"$cluster", account=~"$account"'
TAG = '${tag_label:raw}=~"$tag_value"'
ONE_DROPLET = 'droplet_id="$droplet"'
PLANNED = 'plan!=""'
SHOWN_AT_MOST = 200
"""Rows of a table. More would only make a browser slow."""


class State(IntEnum):
    """The states as numbers, the worst with the highest: the order of tables and legends."""

    GONE = 0
    NOT_EXPECTED = 1
    PROTECTED = 2
    WAITING = 3
    UNPROTECTED = 4
    UNJUDGED = 5
    NEVER_TAKEN = 6
    STALE = 7
    OVERDUE = 8
    MISSING = 9

    @property
    def word(self) -> str:
        """The value of the label `state`."""
        return self.name.lower().replace("_", "-")


def family(name: str, *matchers: str) -> str:
    """A selector of one family, of the clusters and accounts chosen."""
    return f"{PREFIX}{name}{{{', '.join((CHOSEN, *matchers))}}}"


def exporter(name: str, *matchers: str) -> str:
    """A selector of one of the exporter's own families that have an `account`."""
    return family(f"exporter_{name}", *matchers)


def each(name: str, *matchers: str, how: str = "max", offset: str = "") -> str:
    """A family as one series for each droplet, however many replicas are scraped."""
    return f"{how} by ({DROPLET}) ({family(name, *matchers)}{f' offset {offset}' if offset else ''})"


def age(*matchers: str) -> str:
    """The age of the newest backup that any replica knows. A replica whose last poll is older knows an older one."""
    return each("newest_age_seconds", *matchers, how="min")


# One droplet


def one(name: str) -> str:
    """A family of the chosen droplet. There is a second series only if two accounts have the same droplet."""
    return each(name, ONE_DROPLET)


def described(source: str, labels: Sequence[str]) -> str:
    """One series of value 1 for the droplet chosen, with these labels of its `droplet_info` or `policy_info`."""
    by = ", ".join((DROPLET, *labels))
    return f"topk by ({DROPLET}) (1, max by ({by}) ({family(source, ONE_DROPLET)}))"


def state_of_one() -> str:
    """The state of the chosen droplet as a number. If two replicas disagree, the worse state."""
    words = [(state, each("state", ONE_DROPLET, f'state="{state.word}"')) for state in sorted(State, reverse=True)]
    return f" or on ({DROPLET}) ".join(f"{state:d} * {expr}" for state, expr in words)


# Many droplets, by the recorded series


def recorded(name: str, *matchers: str) -> str:
    """A recorded series, of the clusters, accounts and tag chosen."""
    return f"{name}{{{', '.join((CHOSEN, TAG, *matchers))}}}"


def droplets(*matchers: str) -> str:
    """One series for each droplet, with everything that describes it. The greater the value, the worse its state."""
    return recorded("droplet:digitalocean_backup_severity:max", *matchers)


def in_states(*matchers: str) -> str:
    """How many droplets are in each state, by tag and plan."""
    return recorded("tags:digitalocean_backup_state:count", *matchers)


UNCONCERNED = "|".join(state.word for state in (State.NOT_EXPECTED, State.GONE))
"""The states of droplets that need no backups."""


def count(state: State) -> str:
    """How many droplets are in a state: 0 if none is; no value if nothing is known."""
    matcher = f'state="{state.word}"'
    return f"sum({in_states(matcher)}) or 0 * sum({in_states()})"


def worst(*matchers: str) -> str:
    """The worst droplets: as many as a table shows."""
    return f"topk({SHOWN_AT_MOST}, {droplets(*matchers)})"


WORST = 'droplet_id=~"$worst"'
"""Selects the droplets of the fleet's table with a hidden variable. Finding them again for each column would cost more
than everything else on the dashboard."""


def grouped(expr: str) -> str:
    """An aggregate by the chosen tag label, whose value becomes the label `group`; `none` without such a tag."""
    named = f'label_replace({expr}, "group", "$1", "${{tag_label:raw}}", "(?s)(.+)")'
    return in_cluster(f'label_replace({named}, "group", "none", "${{tag_label:raw}}", "")', "group")


def in_cluster(expr: str, label: str = "account") -> str:
    """An aggregate with the cluster, if there is one, put before the account (or before another label)."""
    joined = f'label_join({expr}, "{label}", "/", "cluster", "{label}")'
    return f'label_replace({joined}, "{label}", "$1", "{label}", "(?s)/(.*)")'


def named(value: str) -> str:
    """A value of each droplet with the label `shown`: its name (or its id if it has no name) and its account."""
    shown = f'label_replace({value}, "shown", "$1", "droplet_id", "(.+)")'
    shown = f'label_replace({shown}, "shown", "$1", "droplet_name", "(?s)(.+)")'
    return f'label_join({shown}, "shown", " · ", "shown", "account")'
