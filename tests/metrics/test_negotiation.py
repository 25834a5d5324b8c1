from __future__ import annotations

import pytest

from exporter.metrics.negotiation import OPENMETRICS, TEXT, TextFormat, accepts_gzip, negotiate

PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;"
    "q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (PROMETHEUS_2, OPENMETRICS),
        (PROMETHEUS_3, OPENMETRICS),
        (None, TEXT),
        ("", TEXT),
        ("*/*", TEXT),
        ("text/html,application/xhtml+xml,*/*;q=0.8", TEXT),
        ("application/openmetrics-text", OPENMETRICS),
        ('Application/OpenMetrics-Text; Version="1.0.0"', OPENMETRICS),
        ("*/*,application/openmetrics-text", OPENMETRICS),
        ("text/plain;q=0.9,application/openmetrics-text;q=0.1", TEXT),
        ("application/openmetrics-text;q=0.5,text/plain;q=0.5", OPENMETRICS),
        ("application/openmetrics-text;q=0", TEXT),
        ("application/openmetrics-text;version=0.0.1,text/plain;q=0.1", TEXT),
        ("application/openmetrics-text;version=2.0.0", TEXT),
        ("application/openmetrics-text;version=x", TEXT),
        ("application/openmetrics-text;q=x", OPENMETRICS),
        ("application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited", TEXT),
        (",;,;=;q", TEXT),
    ],
)
def test_format_is_the_one_asked_for(accept: str | None, chosen: TextFormat) -> None:
    """OpenMetrics 1.0 is served if the client prefers it, text 0.0.4 for any other header."""
    assert negotiate(accept) is chosen


@pytest.mark.parametrize(
    ("header", "accepted"),
    [
        ("gzip", True),
        ("gzip, deflate, br", True),
        ("GZIP;q=0.5", True),
        ("*", True),
        ("identity;q=0.5, gzip", True),
        (None, False),
        ("", False),
        ("gzip;q=0", False),
        ("identity, gzip;q=0.5", False),
        ("deflate, br", False),
        ("gzippy", False),
    ],
)
def test_gzip_is_for_clients_that_accept_it(header: str | None, accepted: bool) -> None:
    """A page is compressed if the client accepts gzip, and not if it refuses it by a weight of 0."""
    assert accepts_gzip(header) is accepted
