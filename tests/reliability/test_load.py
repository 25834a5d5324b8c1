"""Many scrapers, many accounts, a long run: nothing fails, and nothing grows. How fast it is `make soak` tells."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

from tests.reliability.demo_weeks import IN_A_WEEK, watch_the_demo
from tests.reliability.load import SCRAPERS, loaded
from tests.support.lookalike import Api, Fault, served
from tests.support.processes import exporter
from tests.support.world import healthy


def test_fifty_scrapers() -> None:
    """Fifty scrapers and endless polls of 2,000 Droplets: every answer whole, memory and file descriptors flat."""
    load = loaded(12.0, droplets=2_000, every=2.0)
    assert load.wrong == []
    assert len(load.scrapes) > 2 * SCRAPERS
    assert load.polls > 0
    assert load.growth < 0.1
    assert max(load.files) <= load.files_at_rest + SCRAPERS + 10, "a connection each, and the exporter's own"


def test_twenty_accounts(tmp_path: Path) -> None:
    """Of twenty accounts one hangs and one refuses its token; the others are polled as if they were alone."""
    apis = [
        Api(healthy(5, now=time.time(), first_id=10 * number), now=time.time, token=f"token-{number}")
        for number in range(1, 21)
    ]
    apis[6].faults.append(Fault(hang=True))
    apis[13].token = "another"
    names = [f"account-{number:02}" for number in range(1, 21)]
    well = {*names} - {"account-07", "account-14"}
    with ExitStack() as stack:
        stack.enter_context(served(*apis))
        config = tmp_path / "config.yaml"
        config.write_text(
            "accounts:\n"
            + "".join(
                f"  - {{name: {name}, token_env: TOKEN_{number}, api_url: {api.url}}}\n"
                for number, (name, api) in enumerate(zip(names, apis, strict=True), 1)
            )
        )
        tokens = {f"TOKEN_{number}": f"token-{number}" for number in range(1, 21)}
        running = stack.enter_context(exporter(f"--config.file={config}", **tokens))
        for name in well:
            running.line(f'event="poll finished" account={name} result=success droplets=5 unread=0')
        running.line("answered 401.*TOKEN_14")
        waiting = "Waiting for the first complete listing of: account-07, account-14.\n"
        assert running.status("/-/ready") == (503, waiting)
        page = running.get("/metrics")
        told = {line.split('"')[1] for line in page.splitlines() if line.startswith("digitalocean_backup_overdue{")}
        assert told == well
        assert page.count("\ndigitalocean_backup_overdue{") == 5 * len(well)
        began = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - began < 5


def test_a_week_of_the_demo() -> None:
    """A week at speed: nothing is warned of, only Droplets whose story says so miss windows, and all of those do."""
    week = watch_the_demo(speed=16_000, days=7)
    assert week.wrong == []
    assert week.polls >= 20
    assert week.overdue >= IN_A_WEEK
