"""Builds the image of deploy/Dockerfile by its own instructions, without a container engine.

The base image is not to be had without one, so this machine's Python stands in for it. All else is the Dockerfile's:
the build context after .dockerignore, each COPY, each RUN with its locked downloads, the user, the environment, the
commands.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from tests.support.sandbox import Mount, Network, Sandbox

ROOT = Path(__file__).resolve().parent.parent.parent
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(slots=True)
class Stage:
    """One stage of the Dockerfile: its base, its name, and its instructions in order."""

    base: str
    name: str
    instructions: list[tuple[str, str]] = field(default_factory=list)

    def last(self, instruction: str) -> str:
        """The arguments of the one that counts, the last."""
        return [value for name, value in self.instructions if name == instruction][-1]

    def exec_form(self, instruction: str) -> list[str]:
        command: list[str] = json.loads(self.last(instruction))
        return command

    def pairs(self, instruction: str) -> dict[str, str]:
        """Those of the form NAME=VALUE, as ENV, ARG and LABEL have them."""
        values = [value for name, value in self.instructions if name == instruction]
        return dict(word.split("=", 1) for value in values for word in shlex.split(value))


def stages() -> list[Stage]:
    """The Dockerfile, read."""
    text = re.sub(r"(?m)^\s*#.*\n", "", DOCKERFILE.read_text())
    found: list[Stage] = []
    for line in re.sub(r"\\\n\s*", "", text).splitlines():
        if not line.strip():
            continue
        name, value = line.split(maxsplit=1)
        if name == "FROM":
            base, *alias = value.split()
            found.append(Stage(base, alias[1] if alias else ""))
        else:
            found[-1].instructions.append((name, value))
    return found


def in_context(path: str) -> bool:
    """Whether .dockerignore lets a path into the build: the last pattern that matches it or a folder of it decides."""
    kept = True
    parts = path.split("/")
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        pattern = line.strip()
        if not pattern or pattern.startswith("#"):
            continue
        bare = pattern.removeprefix("!").removeprefix("**/")
        anywhere = pattern.startswith("**/")
        starts = range(len(parts)) if anywhere else range(1)
        candidates = ["/".join(parts[start:end]) for start in starts for end in range(start + 1, len(parts) + 1)]
        if any(fnmatch(candidate, bare) and candidate.count("/") == bare.count("/") for candidate in candidates):
            kept = pattern.startswith("!")
    return kept


def copy_context(target: Path) -> None:
    """What `docker build` would send of the project."""
    for name in ("pyproject.toml", "README.md", "LICENSE", "exporter", "deploy", "tests"):
        source = ROOT / name
        for path in [source, *source.rglob("*")] if source.is_dir() else [source]:
            relative = path.relative_to(ROOT)
            if path.is_file() and in_context(relative.as_posix()):
                (target / relative).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target / relative)


def _copy(value: str, workdir: str) -> str:
    """A COPY from the context as a line of shell."""
    *sources, target = value.split()
    target = f"{workdir}/{target.removeprefix('./')}"
    lines = [f"mkdir -p {shlex.quote(target)}"]
    for source in sources:
        path = f"/context/{source}"
        lines.append(f"if [ -d {path} ]; then cp -R {path}/. {target}; else cp {path} {target}; fi")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Image:
    """What the Dockerfile makes. `root` holds the folders that the last stage copies from the first."""

    root: Path
    entrypoint: list[str]
    command: list[str]
    env: Mapping[str, str]
    user: int
    healthcheck: list[str]

    def sandbox(self, network: Network, *volumes: Mount, read_only: bool = True) -> Sandbox:
        """A container of the image."""
        mounts = []
        for name, value in stages()[-1].instructions:
            if name == "COPY":
                source, target = [word for word in value.split() if not word.startswith("--")]
                mounts.append(Mount(target, self.root / source.lstrip("/")))
        return Sandbox((*mounts, *volumes), read_only=read_only, user=self.user, network=network)


def build(target: Path) -> Image:
    """Follow the Dockerfile; the result lies below `target`."""
    first, last = stages()
    context = target / "context"
    copy_context(context)
    made = ("/opt/venv", "/wheels", "/state")
    for folder in made:
        (target / folder.lstrip("/")).mkdir(parents=True)
    script = ["set -e"]
    workdir = "/"
    env = {**os.environ, "PATH": f"{sys.base_prefix}/bin:{SYSTEM_PATH}", **first.pairs("ENV")}
    for name, value in first.instructions:
        if name == "WORKDIR":
            workdir = value
            script.append(f"mkdir -p {workdir} && cd {workdir}")
        elif name == "COPY":
            script.append(_copy(value, workdir))
        elif name == "RUN":
            script.append(value)
    mounts = (
        Mount("/context", context),
        *(Mount(folder, target / folder.lstrip("/"), writable=True) for folder in made),
    )
    result = Sandbox(mounts, read_only=False).run(["sh", "-c", "\n".join(script)], env, timeout=240)
    assert result.returncode == 0, f"the image does not build:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    own = {name: value.replace("$PATH", SYSTEM_PATH) for name, value in last.pairs("ENV").items()}
    healthcheck = re.sub(r"^(--\S+ +)*CMD +", "", last.last("HEALTHCHECK"))
    return Image(
        target,
        last.exec_form("ENTRYPOINT"),
        last.exec_form("CMD"),
        own,
        int(last.last("USER").split(":")[0]),
        json.loads(healthcheck),
    )


def shared(folder: Path) -> Image:
    """The image built once for all of pytest's workers, in a folder that they share."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = folder / "built.json"
        if not done.exists():
            shutil.rmtree(folder / "image", ignore_errors=True)
            image = build(folder / "image")
            parts = [image.entrypoint, image.command, dict(image.env), image.user, image.healthcheck]
            done.write_text(json.dumps(parts))
    return Image(folder / "image", *json.loads(done.read_text()))
