"""Faults of the host on which the exporter runs, brought on for real: disks, files and name servers that hang, a stderr
that nobody reads, no more threads, readers without end. A probe in a process of its own measures what clients see.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from tests.reliability.endings import Endings, end_again_and_again
from tests.reliability.probe import Probed, probed
from tests.reliability.section import Section, Told, table
from tests.support.api_process import api
from tests.support.certificates import Authority
from tests.support.processes import COMMAND, Exporter, exporter, until
from tests.support.tracing import held, injected, tracer_of

ACCOUNTS = 8
DROPLETS = 2_000
"""Of all accounts together."""
DELAY = "delay_enter=30s"
"""How long a file, a disk or a name server takes to answer."""
STOP_WITHIN = 5.0
"""Seconds."""
SECONDS = 20.0
"""How long each fault is measured."""
KILLED = 50
"""How often it is ended by SIGKILL amid reloads."""


@dataclass(frozen=True, slots=True)
class Host:
    """The files of an exporter."""

    folder: Path
    api_url: str

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def web(self) -> Path:
        return self.folder / "web.yml"

    @property
    def token(self) -> Path:
        return self.folder / "token"

    @property
    def certificate(self) -> Path:
        return self.folder / "server.crt"

    @property
    def hanging(self) -> Path:
        """A file that can be opened and hangs when it is read."""
        return self.folder / "hanging"

    @property
    def flags(self) -> Sequence[str]:
        return f"--config.file={self.config}", f"--web.config.file={self.web}", "--web.enable-lifecycle"

    def prepare(self) -> None:
        Authority().issue().write(self.folder, "server")
        self.token.write_text("a-token-of-the-tests\n")
        self.web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        self.configure(0)

    def configure(self, number: int) -> None:
        """Writes the configuration. With another number it is another one, by which all polls begin anew."""
        accounts = "\n".join(
            f"  - {{name: account-{each}, token_file: {self.token}, api_url: {self.api_url}}}"
            for each in range(ACCOUNTS)
        )
        beside = self.folder / "beside"
        beside.write_text(
            f"accounts:\n{accounts}\n"
            f"poll: {{interval: 3s, timeout: {10_000 + number}ms}}\n"
            "rate_limit: {per_minute: 1000000, per_hour: 60000000, reserve: 0}\n"
            f"state_file: {self.folder / 'state.json'}\n"
        )
        beside.replace(self.config)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of the host, and what proves that it was there."""

    name: str
    proof: Callable[[Exporter], object] = lambda _: True
    """Something that is true once the fault has done its work."""
    bring_on: Callable[[Host, Exporter], AbstractContextManager[None]] = lambda _, __: contextlib.nullcontext()
    """What makes the fault begin, once the exporter knows all Droplets."""
    under: Callable[[Host], Sequence[str]] = lambda _: ()
    """What starts the exporter, if the fault needs that."""
    from_the_start: bool = False
    """No poll succeeds. The exporter knows the Droplets by the state file that another one wrote."""
    readers: int = 0
    """How many read the page without a rest."""
    reloads: bool = True
    """Whether the configuration is another one every half second, and reloads that are asked for succeed.

    Without, SIGHUP asks for one at the beginning, and it fails.
    """


@dataclass(slots=True)
class Measured:
    """What came of a fault."""

    fault: str
    seen: Probed
    stopped_in: float
    """Seconds."""
    wrong: list[str] = field(default_factory=list)


def hangs(name: str, file: Callable[[Host], Path], *, reloads: bool = True) -> Fault:
    """A file that takes half a minute to be read."""

    @contextmanager
    def replaced(host: Host, _: Exporter) -> Iterator[None]:
        file(host).rename(host.hanging)
        file(host).symlink_to(host.hanging)
        yield

    return Fault(
        f"{name} hangs for 30 s", held, replaced, lambda host: injected("read", DELAY, host.hanging), reloads=reloads
    )


@contextmanager
def stderr_full(_: Host, running: Exporter) -> Iterator[None]:
    """Nobody reads the log any more, and its pipe is full."""
    with running.unread():
        fill(running)
        yield


def fill(running: Exporter) -> bool:
    """Fills the pipe to which the exporter logs; whether it took anything."""
    took = 0
    pipe = os.open(f"/proc/{running.process.pid}/fd/2", os.O_WRONLY | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        while True:
            took += os.write(pipe, b"x" * 511 + b"\n")
    os.close(pipe)
    return took > 0


@contextmanager
def pipes(host: Host, _: Exporter) -> Iterator[None]:
    """Files that were replaced by pipes into which nobody writes."""
    for file in (host.token, host.config, host.web, host.certificate):
        file.unlink()
        os.mkfifo(file)
    yield


def logged(pattern: str) -> Callable[[Exporter], object]:
    return lambda running: any(re.search(pattern, line) for line in running.log)


FAULTS = (
    Fault("none"),
    Fault("stderr is a pipe that nobody reads, and full", lambda running: not fill(running), stderr_full),
    Fault(
        "the name server does not answer for 30 s",
        held,
        under=lambda _: injected("openat", DELAY, Path("/etc/hosts")),
        from_the_start=True,
    ),
    hangs("the token file", lambda host: host.token, reloads=False),
    hangs("the configuration", lambda host: host.config, reloads=False),
    hangs("the web configuration", lambda host: host.web),
    hangs("the certificate", lambda host: host.certificate),
    Fault("all four are pipes into which nobody writes", logged("not a regular file"), pipes, reloads=False),
    Fault("the state file's disk takes 30 s for an fsync", held, under=lambda _: injected("fsync", DELAY)),
    Fault(
        "no thread can be started (pids limit)",
        logged("no thread can be started"),
        under=lambda _: injected("clone,clone3", "error=EAGAIN"),
        from_the_start=True,
        reloads=False,
    ),
    Fault("20 readers of the page", readers=20),
    Fault("60 readers of the page", readers=60),
)


@contextmanager
def started(fault: Fault) -> Iterator[tuple[Host, Exporter]]:
    """An exporter that knows all Droplets."""
    with tempfile.TemporaryDirectory() as folder, api(DROPLETS // ACCOUNTS) as url:
        # By a name, so that the name server is asked.
        host = Host(Path(folder), url.replace("127.0.0.1", "localhost"))
        host.prepare()
        if fault.from_the_start:
            with exporter(*host.flags) as before:
                wait_for_polls(before)
                assert before.stop() == 0
        with exporter(*host.flags, command=(*fault.under(host), *COMMAND)) as running:
            running.line("listening")
            if not fault.from_the_start:
                wait_for_polls(running)
            yield host, running


def end_in_storms(times: int, folder: Path, dice: random.Random) -> Endings:
    """Ends an exporter by SIGKILL so many times, amid reloads one after the other, while its disk is slow."""
    slow = injected("fsync", "delay_enter=50ms")
    return end_again_and_again(times, signal.SIGKILL, folder, dice, within=slow, meanwhile=reload_storm)


@contextmanager
def reload_storm(running: Exporter, config: Path) -> Iterator[None]:
    """Reloads every 20 ms, each of another configuration."""
    text = config.read_text()

    def configure(number: int) -> None:
        beside = config.with_name("beside")
        beside.write_text(text.replace("interval: 1h", f"interval: {3600 + number % 100}s"))
        beside.replace(config)
        running.process.send_signal(signal.SIGHUP)

    with again_and_again(configure, every=0.02):
        yield


def wait_for_polls(running: Exporter) -> None:
    for number in range(ACCOUNTS):
        running.line(f'event="poll finished" account=account-{number} result=success')


@contextmanager
def again_and_again(work: Callable[[int], None], every: float) -> Iterator[None]:
    """Does the work in a thread until the block ends, with a number that grows."""
    over = threading.Event()

    def do() -> None:
        number = 0
        while not over.wait(every):
            number += 1
            work(number)

    thread = threading.Thread(target=do)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def brought_on(fault: Fault, seconds: float) -> Measured:
    """What clients see of an exporter during so many seconds of the fault, and how it ends while that lasts."""
    with started(fault) as (host, running), contextlib.ExitStack() as during:
        if fault.reloads:
            during.enter_context(again_and_again(lambda number: host.configure(number % 1000), every=0.5))
        during.enter_context(fault.bring_on(host, running))
        if not fault.reloads:
            running.process.send_signal(signal.SIGHUP)
        seen = probed(running.url, seconds, readers=fault.readers, reloads=fault.reloads, droplets=DROPLETS)
        measured = Measured(fault.name, seen, 0.0)
        for each in (seen.plain, seen.gzip, seen.health, seen.page, seen.reload):
            measured.wrong += each.failed
        until(lambda: fault.proof(running), f"the fault: {fault.name}", timeout=10)
        measured.stopped_in, code = stopped(running)
    if code != 0 or measured.stopped_in > STOP_WITHIN:
        measured.wrong.append(f"SIGTERM: code {code} after {measured.stopped_in:.1f} s")
    return measured


def stopped(running: Exporter) -> tuple[float, int]:
    """Seconds until SIGTERM has ended the exporter, and its exit code."""
    tracer = tracer_of(running)
    begun = time.monotonic()
    running.process.terminate()
    with contextlib.suppress(AssertionError):
        until(lambda: main_thread_ended(running), "the end", timeout=6 * STOP_WITHIN)
    took = time.monotonic() - begun
    # strace takes note of the other threads' end only when it has done with what hangs.
    if tracer:
        os.kill(tracer, signal.SIGKILL)
    return took, running.process.wait(10)


def main_thread_ended(running: Exporter) -> bool:
    """Whether the process has ended, of which strace may not have let go."""
    status = Path(f"/proc/{running.process.pid}/status")
    return running.process.poll() is not None or "State:\tZ" in status.read_text()


def measured(place: int) -> Measured:
    return brought_on(FAULTS[place], SECONDS)


def storms(times: int) -> Endings:
    with tempfile.TemporaryDirectory() as folder:
        return end_in_storms(times, Path(folder), random.Random(0))


def _told(found: Sequence[Measured | Endings]) -> Told:
    faults = [one for one in found if isinstance(one, Measured)]
    [ended] = [one for one in found if isinstance(one, Endings)]
    lines = [
        f"The longest times that clients waited in {SECONDS:.0f} s of each fault. {ACCOUNTS} accounts together have",
        f"{DROPLETS:,} Droplets and are polled every three seconds. A probe in a process of its own scrapes five",
        "times a second, in turn plain and gzip; it asks for health and page once a second, and every five seconds for",
        "a reload, which changes every account. Stop: from SIGTERM to the end with code 0 while the fault lasts.",
        "`make test` tries each for a few seconds.",
        "",
        *table(
            ("fault", "scrape", "gzip scrape", "health", "page", "reload", "stop"),
            [(one.fault, *_figures(one)) for one in faults],
        ),
        "",
        _storms(ended.tried),
        f"the state file was whole, and used by the next start, {ended.tried - len(ended.wrong):,} times.",
    ]
    wrong = [f"{one.fault}: {problem}" for one in faults for problem in one.wrong]
    return Told(lines, [*wrong, *(f"storms: {problem}" for problem in ended.wrong)])


def _figures(one: Measured) -> Iterator[str]:
    for each in (one.seen.plain, one.seen.gzip, one.seen.health, one.seen.page, one.seen.reload):
        yield f"{1e3 * each.longest:,.0f} ms" if each.answers else "refused"
    yield f"{one.stopped_in:.1f} s"


def _storms(times: int) -> str:
    return f"Ended by SIGKILL {times:,} times, amid reloads 20 ms apart, on a disk that needs 50 ms to sync:"


SECTION = Section(
    "Faults of the host",
    planned=(f"in {SECONDS:.0f} s of each fault", *(f"| {fault.name} | " for fault in FAULTS), _storms(KILLED)),
    jobs=(*(partial(measured, place) for place in range(len(FAULTS))), partial(storms, KILLED)),
    tell=_told,
    alone=True,
)
