from __future__ import annotations

import hypothesis
from hypothesis import strategies as st

from exporter.fleet.model import Fleet
from exporter.metrics.exposition import Exposition, render
from tests.metrics.samples import INSTANTS, fleets, plain_text


@hypothesis.given(fleets(2), INSTANTS)
def test_text_is_the_client_librarys_byte_for_byte(fleets: list[Fleet], now: float) -> None:
    """Whatever is known of any Droplets of any accounts, the text is the one that the client library gives."""
    assert render(fleets, now, ("team", "App")) == plain_text(fleets, now, ("team", "App"))
