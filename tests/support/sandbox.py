"""A stand-in for a container: a file tree, a user and a network, by the kernel's namespaces."""

from __future__ import annotations

import ctypes
import http.client
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

LIBC = ctypes.CDLL(None)
NEEDED = ("unshare", "nsenter", "setpriv", "chroot", "ip")


def require() -> None:
    """Skip where namespaces cannot be had; fail in CI, where nothing may be skipped."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if not missing and os.geteuid() == 0:
        return
    problem = (
        f"{', '.join(missing)} not installed (apt-get install util-linux iproute2)" if missing else "not run as root"
    )
    if os.environ.get("CI") == "true":
        pytest.fail(f"no namespaces: {problem}")
    pytest.skip(f"no namespaces: {problem}")


@dataclass(frozen=True, slots=True)
class Mount:
    """What lies at `target` in the sandbox: a file or folder of this machine, or, with no source, an empty tmpfs."""

    target: str
    source: Path | None = None
    writable: bool = False


@dataclass(frozen=True, slots=True)
class Network:
    """A network with nothing but a loopback interface, kept by the process `pid`."""

    pid: int

    def get(self, url: str) -> str:
        """The body that a URL of that network answers with; raises `ConnectionError` if it does not answer 200."""
        answered: list[str | OSError] = []
        # The network belongs to a thread: this one enters the other, and ends with it.
        thread = threading.Thread(target=self._get, args=(url, answered))
        thread.start()
        thread.join()
        (answer,) = answered
        if isinstance(answer, OSError):
            raise ConnectionError(f"{url}: {answer}")
        return answer

    def _get(self, url: str, answered: list[str | OSError]) -> None:
        where = urllib.parse.urlsplit(url)
        assert where.hostname is not None
        connection = http.client.HTTPConnection(where.hostname, where.port, timeout=30)
        try:
            with Path(f"/proc/{self.pid}/ns/net").open() as space:
                LIBC.setns(space.fileno(), 0)
            connection.request("GET", where.path)
            answer = connection.getresponse()
            text = answer.read().decode()
            answered.append(text if answer.status == 200 else OSError(f"{answer.status} {text[-500:]}"))
        except OSError as error:
            answered.append(error)
        finally:
            connection.close()

    def answers(self, url: str) -> bool:
        """Whether a URL of that network answers 200; raises `ConnectionError` if it does not."""
        self.get(url)
        return True


@contextmanager
def network() -> Iterator[Network]:
    """A network for as long as the block lasts."""
    script = "ip link set lo up && echo up && exec sleep infinity"
    holder = subprocess.Popen(["unshare", "--net", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "up\n"
        yield Network(holder.pid)
    finally:
        holder.kill()
        holder.communicate()


@dataclass(frozen=True, slots=True)
class Sandbox:
    """This machine's files with mounts over them.

    Nothing that is written beside the writable mounts reaches the machine; with `read_only` nothing can be written
    there at all. With `user`, a numeric user and group, commands run without any capability, as in a container that
    drops all of them; without, as root. With `network`, they see that network alone.
    """

    mounts: tuple[Mount, ...] = ()
    read_only: bool = True
    user: int | None = None
    network: Network | None = None

    def argv(self, command: Sequence[str], env: Mapping[str, str]) -> list[str]:
        """What to start on this machine so that `command` runs within; the process started becomes the command."""
        base, root = "/media", "/media/root"
        lines = [
            "mount --make-rprivate /",
            f"mount -t tmpfs tmpfs {base}",
            f"mkdir {base}/upper {base}/work {root}",
            f"mount -t overlay overlay -o lowerdir=/,upperdir={base}/upper,workdir={base}/work {root}",
        ]
        lines += [f"mount --rbind /{name} {root}/{name}" for name in ("proc", "dev", "sys")]
        # Where Python itself lies below a home folder, the user must be able to get there.
        lines += [
            f"chmod a+rx {root}{parent}" for parent in PurePosixPath(sys.base_prefix).parents if str(parent) != "/"
        ]
        for mount in self.mounts:
            # Resolved first: a link such as /var/run would lead out of the sandbox.
            target = shlex.quote(root + os.path.realpath(mount.target))
            if mount.source is None:
                lines += [f"mkdir -p {target}", f"mount -t tmpfs -o mode=1777 tmpfs {target}"]
                continue
            if mount.source.is_dir():
                lines.append(f"mkdir -p {target}")
            else:
                lines += [f'mkdir -p "$(dirname {target})"', f": >> {target}"]
            lines.append(f"mount --bind {shlex.quote(str(mount.source))} {target}")
            if not mount.writable:
                lines.append(f"mount -o remount,bind,ro {target}")
        if self.read_only:
            lines.append(f"mount -o remount,ro {root}")
        drop: list[str] = []
        if self.user is not None:
            ids = ["--reuid", str(self.user), "--regid", str(self.user), "--clear-groups"]
            drop = ["setpriv", *ids, "--inh-caps=-all", "--bounding-set=-all", "--no-new-privs"]
        variables = [f"{name}={value}" for name, value in env.items()]
        lines.append("exec " + shlex.join(["chroot", root, *drop, "env", "-i", *variables, *command]))
        enter = ["nsenter", f"--net=/proc/{self.network.pid}/ns/net"] if self.network else []
        return [*enter, "unshare", "--mount", "sh", "-ec", "\n".join(lines)]

    def run(
        self, command: Sequence[str], env: Mapping[str, str], timeout: float = 180
    ) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        return subprocess.run(self.argv(command, env), capture_output=True, text=True, timeout=timeout, check=False)

    @contextmanager
    def started(self, command: Sequence[str], env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
        """A command that runs for as long as the block lasts, its output in `log`."""
        with log.open("wb") as output:
            process = subprocess.Popen(self.argv(command, env), stdout=output, stderr=subprocess.STDOUT)
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.kill()
                process.wait()


STOPS_WITHIN = 5.0
"""Seconds that the exporter promises between SIGTERM and its end."""


def assert_stops(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM ends it with 0 in the promised time. Time in which it waits for a free processor does not count."""
    begun, waited = time.monotonic(), _waited_for_processor(process.pid)
    process.send_signal(signal.SIGTERM)
    # WNOWAIT keeps what the kernel counted of the process until it is read.
    while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        assert time.monotonic() - begun < 120, "it goes on"
        time.sleep(0.01)
    taken = time.monotonic() - begun - (_waited_for_processor(process.pid) - waited)
    assert process.wait() == 0
    assert taken < STOPS_WITHIN, f"it took {taken:.1f} s"


def _waited_for_processor(pid: int) -> float:
    """Seconds for which the main thread could run and another one did."""
    return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9


def wait_for(
    what: str,
    done: Callable[[], bool],
    within: float = 180,
    process: subprocess.Popen[bytes] | None = None,
    logs: Sequence[Path] = (),
) -> None:
    """Ask until it is true, a `ConnectionError` counting as not yet; no longer than `process` lives."""
    end = time.monotonic() + within
    while True:
        try:
            if done():
                return
            last = ""
        except ConnectionError as error:
            last = str(error)
        gone = process is not None and process.poll() is not None
        if gone or time.monotonic() > end:
            tails = "\n".join(f"{log.name}:\n{log.read_text(errors='replace')[-2000:]}" for log in logs)
            why = "its process ended" if gone else f"not within {within:.0f} s"
            pytest.fail(f"{what}: {why} {last}\n{tails}")
        time.sleep(0.1)


LOOKALIKE = """
import asyncio, sys, time
from exporter.demo.api import DemoApi
from exporter.demo.fleet import demo_fleet

async def serve() -> None:
    api = DemoApi(demo_fleet(time.time()), now=time.time, token=sys.argv[1])
    await api.start(8080)
    print("serving", flush=True)
    await asyncio.Event().wait()

asyncio.run(serve())
"""


@contextmanager
def lookalike(network: Network, token: str) -> Iterator[str]:
    """The demo's API in that network, which accepts this token only; yields its URL."""
    argv = ["nsenter", f"--net=/proc/{network.pid}/ns/net", sys.executable, "-c", LOOKALIKE, token]
    root = Path(__file__).resolve().parent.parent.parent
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=root)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        yield "http://127.0.0.1:8080"
    finally:
        process.kill()
        process.communicate()
