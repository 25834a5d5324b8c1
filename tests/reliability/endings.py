"""The end at any moment: SIGTERM or SIGKILL, again and again, on an exporter that polls and writes all the while."""

from __future__ import annotations

import random
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from structlog.testing import capture_logs

from exporter.polling.state_file import StateFile
from tests.reliability.section import Section, Told, row, table
from tests.support.lookalike import Api, served
from tests.support.processes import HURRIED, Exporter, exporter
from tests.support.world import healthy

DROPLETS = 50
IN_TIME = 5.0
"""Seconds within which it has to stop."""
TOKEN = "a-token-of-the-tests"


@dataclass(slots=True)
class Endings:
    """What came of them."""

    tried: int = 0
    slowest: float = 0.0
    """Seconds that the slowest took to stop."""
    wrong: list[str] = field(default_factory=list)


@contextmanager
def restless(folder: Path, state: Path) -> Iterator[Path]:
    """An API, and the configuration by which its account is polled and its state written without rest."""
    # The listing tells no ids, so that each list is read at each poll and there is something to write after it.
    account = healthy(DROPLETS, now=time.time())
    for record in account.droplet_list:
        record.pop("backup_ids", None)
    api = Api(account, now=time.time, token=TOKEN, per_minute=None, per_hour=None)
    config = folder / "config.yaml"
    with served(api):
        config.write_text(
            f"accounts: [{{name: prod, token_env: TOKEN_OF_THE_TESTS, api_url: {api.url}}}]\n"
            "poll: {interval: 1h}\n"
            "rate_limit: {per_minute: 1000000, per_hour: 60000000, reserve: 0}\n"
            f"state_file: {state}\n"
        )
        yield config


@contextmanager
def started(config: Path, within: Sequence[str] = ()) -> Iterator[Exporter]:
    """An exporter of it that is ready; `within`: the command that becomes it."""
    with exporter(f"--config.file={config}", command=(*within, *HURRIED), TOKEN_OF_THE_TESTS=TOKEN) as running:
        running.line('event="poll finished"')
        yield running


def end_again_and_again(
    times: int,
    how: signal.Signals,
    folder: Path,
    dice: random.Random,
    *,
    within: Sequence[str] = (),
    meanwhile: Callable[[Exporter, Path], AbstractContextManager[None]] = lambda _, __: nullcontext(),
) -> Endings:
    """Starts, with what the one before left, and ends so many exporters, each at some moment after it was ready.

    `within`: the command that becomes the exporter. `meanwhile`: what else is done with it and its configuration.
    """
    endings, state = Endings(), folder / "state"
    with restless(folder, state) as config:
        for number in range(times):
            with started(config, within) as running, meanwhile(running, config):
                time.sleep(dice.uniform(0.0, 0.4))
                running.process.send_signal(how)
                begun = time.monotonic()
                try:
                    code = running.process.wait(2 * IN_TIME)
                except subprocess.TimeoutExpired:
                    code = None
                took = time.monotonic() - begun
            endings.tried += 1
            endings.slowest = max(endings.slowest, took)
            endings.wrong += [f"{number}: {problem}" for problem in _wrong(how, code, took, running.log, state)]
    return endings


def _wrong(how: signal.Signals, code: int | None, took: float, log: list[str], state: Path) -> Iterator[str]:
    if how is signal.SIGTERM and (code != 0 or took > IN_TIME):
        yield f"exit code {code} after {took:.1f} s"
    # What it says of its own end, and of what it found at its start.
    yield from (line for line in log if "level=warn" in line or "level=error" in line or "Traceback" in line)
    with capture_logs() as told, closing(StateFile(state)) as store:
        kept = store._states.get("prod")
        found = None if kept is None or told else store.state("prod", kept.api_url)  # type: ignore[union-attr]
    if found is None or len(found.droplets) != DROPLETS:
        yield f"the state file does not hold what it should: {told}"


ENDINGS, SHARES = 100, 4
"""Of either kind, and in how many parts, so that all processors are busy."""
KINDS = (signal.SIGTERM, signal.SIGKILL)


def ends(how: signal.Signals, share: int) -> Endings:
    with tempfile.TemporaryDirectory() as folder:
        return end_again_and_again(ENDINGS // SHARES, how, Path(folder), random.Random(share))


def _ended_by(how: signal.Signals, tried: int) -> tuple[str, str]:
    return f"exporters ended by {how.name} at a random moment", f"{tried}"


def _told(found: Sequence[Endings]) -> Told:
    rows = []
    for how, shares in zip(KINDS, (found[:SHARES], found[SHARES:]), strict=True):
        tried = sum(one.tried for one in shares)
        wrong = {(place, one.partition(":")[0]) for place, share in enumerate(shares) for one in share.wrong}
        rows += [_ended_by(how, tried), ("of those as it should be, and the state whole", f"{tried - len(wrong)}")]
        if how is signal.SIGTERM:
            rows.append(("slowest of them to stop", f"{max(one.slowest for one in shares):.2f} s"))
    return Told(table(("what", "measured"), rows), [problem for one in found for problem in one.wrong])


SECTION = Section(
    "Ended at any moment",
    planned=[row(*_ended_by(how, ENDINGS)) for how in KINDS],
    jobs=[partial(ends, how, share) for how in KINDS for share in range(SHARES)],
    tell=_told,
)
