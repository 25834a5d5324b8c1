"""System calls of a process that hang or fail, by strace: the process meets them as if the kernel had answered so."""

from __future__ import annotations

from pathlib import Path

from tests.support.processes import Exporter


def injected(calls: str, what: str, path: Path | None = None) -> tuple[str, ...]:
    """What starts a command whose system calls take longer or fail; with `path`, only calls on that file.

    `what` as strace(1) has it: `delay_enter=30s`, `error=EAGAIN`. All other calls are as quick as ever. The process
    that is started becomes the command.
    """
    beside = ("--daemonize", "--seccomp-bpf", "--follow-forks", "--quiet=all", "--output=/dev/null")
    of_file = () if path is None else (f"--trace-path={path}",)
    return ("strace", *beside, f"--trace={calls}", f"--inject={calls}:{what}", *of_file)


def held(running: Exporter) -> bool:
    """Whether a thread of the exporter is in a system call that hangs."""
    threads = Path(f"/proc/{running.process.pid}/task")
    return any("State:\tt" in (thread / "status").read_text() for thread in threads.iterdir())


def tracer_of(running: Exporter) -> int:
    """The process that delays the exporter's system calls; 0 if there is none."""
    status = Path(f"/proc/{running.process.pid}/status").read_text()
    return int(status.partition("TracerPid:")[2].split()[0])
