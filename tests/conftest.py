"""What the tests share: the real tools they speak to, the official API document, and a free port."""

from __future__ import annotations

import itertools
import os
import shutil
import socket
from collections.abc import Callable
from pathlib import Path

import hypothesis
import pytest
import structlog

from tests.support.generations import GENERATIONS, Generation

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT.parent / "shared" / "reference" / "digitalocean-droplet-backups.openapi.yaml"
TOOLS = "apt-get install prometheus prometheus-alertmanager prometheus-node-exporter chromium systemd strace iproute2"
_RUNS = itertools.count()
IN_CI = os.environ.get("CI") == "true"

# The same examples in every run, so that only a change of the code makes a run fail. `thorough` tries others each time,
# also where CI is set, for which hypothesis has another default.
hypothesis.settings.register_profile("quick", deadline=None, max_examples=100, derandomize=True)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=3000, derandomize=False)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "quick"))


def _missing(what: str) -> None:
    """Skip where a developer lacks something; fail in CI, where nothing may be skipped."""
    if IN_CI:
        pytest.fail(what)
    pytest.skip(what)


@pytest.fixture(scope="session")
def tool() -> Callable[[str], str]:
    """The path of a program that is really started: promtool, prometheus, amtool, chromium."""

    def find(name: str) -> str:
        path = shutil.which(name)
        if path is None:
            _missing(f"{name} is not installed; {TOOLS}")
        assert path is not None
        return path

    return find


@pytest.fixture(scope="session", params=GENERATIONS, ids=lambda generation: generation.name)
def generation(request: pytest.FixtureRequest) -> Generation:
    """Prometheus and Alertmanager, of each generation that the deployed files must work with."""
    chosen: Generation = request.param
    if chosen.missing:
        _missing(chosen.missing)
    return chosen


@pytest.fixture(scope="session")
def newest() -> Generation:
    """The newer generation, for what needs to be tried only once."""
    chosen = GENERATIONS[-1]
    if chosen.missing:
        _missing(chosen.missing)
    return chosen


@pytest.fixture(scope="session")
def reference() -> Path:
    """DigitalOcean's own OpenAPI document, which is not part of the project."""
    if not REFERENCE.exists():
        _missing(f"{REFERENCE} is missing: put DigitalOcean's OpenAPI document there")
    return REFERENCE


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark tests by their folder and by whether they start programs from outside."""
    for item in items:
        folder = item.path.relative_to(ROOT / "tests").parts[0]
        if folder == "deploy":
            item.add_marker(pytest.mark.deploy)
        if folder in ("benchmarks", "reliability"):
            item.add_marker(pytest.mark.slow)
        if "tool" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.tools)


@pytest.fixture(autouse=True)
def unconfigured_log() -> None:
    """A command run in this process sets what is logged from then on; no test inherits that."""
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def own_state(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Commands keep their state by default; no test finds what another kept."""
    monkeypatch.delenv("STATE_DIRECTORY", raising=False)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / f"state-{next(_RUNS)}"))


@pytest.fixture
def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """In CI a skipped test is a failure, whoever skipped it."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if IN_CI and reporter is not None and reporter.stats.get("skipped") and exitstatus == 0:
        reporter.write_line("skipped tests are failures with CI=true", red=True)
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
