from __future__ import annotations

from tests.benchmarks.scrape import measure


def test_scrape_is_far_quicker_than_the_client_library() -> None:
    """A scrape is at least 20 times faster than the client library's rendering of the same samples, and gzip no slower
    than its level 1."""
    rows = {row.what: row for row in measure(1_000)}
    for what in ("scrape, ready to be sent", "scrape, joined to one"):
        plain = rows[what].plain
        assert plain is not None
        assert plain >= 20 * rows[what].ours, rows
    assert rows["scrape, gzip"].ours <= rows["gzip level 1 of the ready page"].ours, rows
