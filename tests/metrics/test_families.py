from __future__ import annotations

import re

import pytest

from exporter.metrics.families import FAMILIES, Family


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_row_keeps_the_rules_of_the_table(family: Family) -> None:
    """Every row has the product's prefix, a suffix true to its type, and a help text that both formats write alike."""
    assert re.fullmatch(r"digitalocean_backup_[a-z_]+", family.name)
    assert family.name.endswith("_total") == (family.type == "counter")
    assert not set('\\\n"') & set(family.help)
    assert family.help.endswith(".")
    if family.name.endswith("_timestamp_seconds"):
        assert "Unix time" in family.help


def test_names_are_unique() -> None:
    """No two families have the same name, or the same name of a stored series."""
    stored = [series for family in FAMILIES for series in family.series]
    assert len(set(stored)) == len(stored)


def test_histogram_is_stored_under_three_names() -> None:
    """Rules and panels may name a histogram's buckets, count and sum, and not the histogram itself."""
    assert Family(name="x", help="", type="histogram").series == ("x_bucket", "x_count", "x_sum")
