"""Fleets to render, and the same samples rendered by the client library, to compare with."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import floor

from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from exporter.fleet.model import (
    Backup,
    Description,
    Droplet,
    Fleet,
    Policy,
    Schedule,
    SupportedPolicy,
    Verdict,
    Window,
)
from exporter.fleet.state import Reason, State
from exporter.metrics.families import (
    ACCOUNT_FAMILIES,
    DROPLET_FAMILIES,
    ClockFamily,
    DropletFamily,
    Family,
    ListingFamily,
)


class PlainCollector(Collector):
    """The same table, in the client library's own way: a family object a row, a sample object a value."""

    def __init__(self, fleets: Iterable[Fleet], now: float, tag_labels: Sequence[str] = ()) -> None:
        self.fleets = sorted(fleets, key=lambda fleet: fleet.account)
        self.now = floor(now)
        self.tag_labels = tag_labels

    def collect(self) -> Iterator[GaugeMetricFamily]:
        droplets = [(fleet.account, droplet) for fleet in self.fleets for droplet in fleet.droplets]
        clocked = [family for family in DROPLET_FAMILIES if isinstance(family, ClockFamily)]
        for family in DROPLET_FAMILIES:
            if isinstance(family, DropletFamily):
                made = empty(family, family.label_names(self.tag_labels))
                for account, d in droplets:
                    tags = d.tag_labels if family.tagged else ()
                    add(made, [account, str(d.id), d.name, *family.more(d), *tags], family.value(d))
                yield made
            elif isinstance(family, ListingFamily):
                made = empty(family, family.labels)
                for fleet in self.fleets:
                    for d in fleet.droplets:
                        add(made, [fleet.account, str(d.id), d.name], family.value(d, fleet))
                yield made
        for account_family in ACCOUNT_FAMILIES:
            made = empty(account_family, account_family.labels)
            for fleet in self.fleets:
                for more, value in account_family.samples(fleet):
                    add(made, [fleet.account, *more], value)
            yield made
        for clock_family in clocked:
            made = empty(clock_family, clock_family.labels)
            for account, d in droplets:
                basis = clock_family.basis(d)
                moved = None if basis is None else clock_family.at(basis, self.now)
                add(made, [account, str(d.id), d.name], moved)
            yield made


def empty(family: Family, label_names: Sequence[str]) -> GaugeMetricFamily:
    return GaugeMetricFamily(family.name, family.help, labels=label_names)


def add(family: GaugeMetricFamily, labels: Sequence[str], value: float | None) -> None:
    if value is not None:
        family.add_metric(labels, value)


def plain_text(fleets: Iterable[Fleet], now: float, tag_labels: Sequence[str] = ()) -> bytes:
    registry = CollectorRegistry()
    registry.register(PlainCollector(fleets, now, tag_labels))
    return generate_latest(registry)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    [
        'say "hi"',
        "back\\slash",
        "two\nlines",
        "tab\tcr\r",
        "\\n",
        '\\"',
        "",
        "naïve",
        "日本語",
        "🦭",
        "\x85\u2028",
        "{}%s",
    ]
)
NUMBERS = st.floats(allow_subnormal=True) | st.integers(-(2**53), 2**53).map(float) | st.sampled_from([-0.0, 1e6, 1e16])
INSTANTS = st.integers(0, 4_000_000_000).map(float) | st.floats(-1e12, 1e12)


def maybe(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[object]:
    return st.none() | strategy


POLICIES = st.builds(
    Policy,
    enabled=maybe(st.booleans()),
    plan=maybe(TEXT),
    weekday=maybe(TEXT),
    hour=maybe(st.integers(0, 23)),
    next_window=maybe(st.builds(Window, INSTANTS, INSTANTS)),
)
BACKUPS = st.lists(st.builds(Backup, st.integers(), NUMBERS, maybe(NUMBERS)), max_size=3).map(tuple)
SUPPORTED = st.builds(SupportedPolicy, TEXT, window_length=maybe(NUMBERS), retention_days=maybe(NUMBERS))


def droplets(tags: int) -> st.SearchStrategy[Droplet]:
    return st.builds(
        Droplet,
        id=st.integers(0, 2**63),
        description=maybe(
            st.builds(Description, TEXT, TEXT, TEXT, TEXT, maybe(NUMBERS), volumes=maybe(st.integers(0, 9)))
        ),
        policy=maybe(POLICIES),
        backups=maybe(BACKUPS),
        refreshed_at=maybe(NUMBERS),
        expected=maybe(st.booleans()),
        tag_labels=st.tuples(*[TEXT] * tags),
        interval=maybe(st.integers(1, 10**6).map(float)),
        retention_days=maybe(NUMBERS),
        policy_supported=maybe(st.booleans()),
        verdict=st.builds(
            Verdict,
            st.sampled_from(State),
            maybe(st.sampled_from(Reason)),
            missed=maybe(st.lists(INSTANTS, max_size=3).map(tuple)),
            max_age=maybe(NUMBERS),
            stale=maybe(st.booleans()),
            lost=maybe(st.integers(0, 9)),
            schedule=maybe(st.builds(Schedule, INSTANTS, st.integers(1, 10**6).map(float), st.floats(0, 1e6))),
        ),
        confirmed=st.booleans(),
    )


def fleets(tags: int) -> st.SearchStrategy[list[Fleet]]:
    fleet = st.builds(
        Fleet,
        account=TEXT,
        droplets=st.lists(droplets(tags), max_size=4).map(tuple),
        supported=st.lists(SUPPORTED, max_size=3).map(tuple),
        listed_at=maybe(INSTANTS),
        known=st.booleans(),
    )
    return st.lists(fleet, max_size=3, unique_by=lambda fleet: fleet.account)
