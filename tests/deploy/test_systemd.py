"""The systemd unit: judged by systemd's own tools, and what it starts, started."""

from __future__ import annotations

import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from tests.deploy.image import ROOT, SYSTEM_PATH, Image
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Mount, Network, Sandbox

FOLDER = ROOT / "deploy" / "systemd"
NAME = "digitalocean-backup-exporter"
UNIT = FOLDER / f"{NAME}.service"
CREDENTIALS = f"/run/credentials/{NAME}.service"
STATE = f"/var/lib/{NAME}"
TOKEN = "dop_v1_made_up"


def settings(text: str) -> dict[str, list[str]]:
    """A unit's settings, each with its values in order."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if "=" in line and not line.startswith("#"):
            name, value = line.split("=", 1)
            found.setdefault(name, []).append(value)
    return found


UNIT_SETTINGS = settings(UNIT.read_text())


def assignments(text: str) -> dict[str, str]:
    """The variables of an environment file."""
    return dict(re.findall(r"(?m)^([A-Z_]+)=(.*)$", text))


def commented(text: str) -> dict[str, str]:
    """The variables that an environment file offers, commented out."""
    return dict(re.findall(r"(?m)^#([A-Z_]+)=(.*)$", text))


def environment(**given: str) -> dict[str, str]:
    """What the exporter finds in its environment: the unit's, then the file's."""
    found: dict[str, str] = {}
    for value in UNIT_SETTINGS["Environment"]:
        for word in shlex.split(value):
            name, _, text = word.partition("=")
            found[name] = text
    found |= assignments((FOLDER / f"{NAME}.env").read_text()) | given
    return {name: value.replace("%d", CREDENTIALS) for name, value in found.items()}


def command(env: dict[str, str]) -> list[str]:
    """ExecStart, with unbraced variables split into words as systemd does, none for an empty one."""
    (line,) = UNIT_SETTINGS["ExecStart"]
    words: list[str] = []
    for word in line.split():
        words += env.get(word[1:], "").split() if word.startswith("$") else [word]
    return words


def test_systemd_finds_nothing_wrong_with_the_unit(tool: Callable[[str], str], tmp_path: Path) -> None:
    """`systemd-analyze verify`, errors in what it depends on included, but with a program that is there."""
    program = UNIT_SETTINGS["ExecStart"][0].split()[0]
    installed = tmp_path / "program"
    installed.touch(mode=0o755)
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace(program, str(installed)))
    argv = [tool("systemd-analyze"), "verify", "--recursive-errors=yes", "--man=no", str(copy)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert (result.stdout, result.stderr, result.returncode) == ("", "", 0)


def test_systemd_would_see_a_mistake(tool: Callable[[str], str], tmp_path: Path) -> None:
    """The check is able to fail: a setting that does not exist is told."""
    copy = tmp_path / UNIT.name
    copy.write_text(UNIT.read_text().replace("DynamicUser=", "DynamicUsr="))
    argv = [tool("systemd-analyze"), "verify", "--recursive-errors=yes", "--man=no", str(copy)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert "DynamicUsr" in result.stderr


def test_the_units_exposure_is_under_2(tool: Callable[[str], str]) -> None:
    """`systemd-analyze security --offline=true` measures it."""
    argv = [tool("systemd-analyze"), "security", "--offline=true", "--no-pager", "--threshold=20", str(UNIT)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout
    level = re.search(r"Overall exposure level for \S+: ([\d.]+)", result.stdout)
    assert level is not None
    assert float(level[1]) < 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("DynamicUser", "yes"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", ""),
        ("ProtectSystem", "strict"),
        ("StateDirectory", NAME),
        ("LoadCredential", f"token:/etc/{NAME}/token"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("EnvironmentFile", f"-/etc/default/{NAME}"),
    ],
)
def test_the_unit_has_what_was_promised(setting: str, value: str) -> None:
    """What no measure of exposure holds to its word."""
    assert UNIT_SETTINGS[setting] == [value]


def test_system_calls_are_restricted_to_a_services() -> None:
    """Only those of a system service, and of these none that needs privilege."""
    assert UNIT_SETTINGS["SystemCallFilter"] == ["@system-service", "~@privileged @resources"]
    assert UNIT_SETTINGS["SystemCallArchitectures"] == ["native"]


def test_the_configuration_names_credential_and_state_where_systemd_puts_them() -> None:
    """The token's file is the credential's copy, the state file lies in the state directory."""
    config = yaml.safe_load((FOLDER / "config.yaml").read_text())
    (credential,) = UNIT_SETTINGS["LoadCredential"]
    assert config["accounts"][0]["token_file"] == f"{CREDENTIALS}/{credential.split(':')[0]}"
    assert config["state_file"].startswith(f"{STATE}/")
    assert environment()["DIGITALOCEAN_TOKEN_FILE"] == config["accounts"][0]["token_file"]


def test_every_variable_of_the_environment_file_has_an_effect() -> None:
    """Those that the file offers are the unit's, or ones that the exporter's libraries honour."""
    offered = commented((FOLDER / f"{NAME}.env").read_text())
    (line,) = UNIT_SETTINGS["ExecStart"]
    assert offered.keys() == {"EXPORTER_ARGS", "EXPORTER_CONFIG", "HTTPS_PROXY", "SSL_CERT_FILE"}
    assert "$EXPORTER_ARGS" in line
    assert "$EXPORTER_CONFIG" in line
    assert command(environment(**offered))[-2:] == offered["EXPORTER_ARGS"].split()
    assert "--config.file" not in " ".join(command(environment(**offered)))


def test_the_command_names_no_variable_that_is_unset() -> None:
    """The unit sets each of them, if only to nothing: systemd warns at every start of one that is not."""
    (line,) = UNIT_SETTINGS["ExecStart"]
    assert set(re.findall(r"\$(\w+)", line)) <= environment().keys()


# What the unit starts, started


def service(image: Image, network: Network, folder: Path, config: str) -> Sandbox:
    """The file tree as the unit shapes it: the virtual environment, the configuration, the credential, the state."""
    (folder / "config.yaml").write_text(config)
    (folder / "token").write_text(f"{TOKEN}\n")
    state = folder / "state"
    state.mkdir()
    shutil.chown(state, image.user, image.user)
    mounts = (
        # An environment tells by its folder's name where it is: the program's first line names /opt/venv.
        Mount("/opt/venv", image.root / "opt/venv"),
        Mount(f"/opt/{NAME}", image.root / "opt/venv"),
        Mount(f"/etc/{NAME}/config.yaml", folder / "config.yaml"),
        Mount(f"{CREDENTIALS}/token", folder / "token"),
        Mount(STATE, state, writable=True),
    )
    return Sandbox(mounts, user=image.user, network=network)


def test_the_service_polls_by_its_credential_reloads_and_stops(image: Image, network: Network, tmp_path: Path) -> None:
    """The unit's command and environment serve the account of config.yaml, keep its state, take SIGHUP and SIGTERM."""
    log = tmp_path / "log"
    with sandboxes.lookalike(network, TOKEN) as url:
        config = yaml.safe_load((FOLDER / "config.yaml").read_text())
        config["accounts"][0]["api_url"] = url
        box = service(image, network, tmp_path, yaml.safe_dump(config))
        env = {"PATH": SYSTEM_PATH, **environment()}
        with box.started(command(env), env, log) as process:
            sandboxes.wait_for(
                "readiness", lambda: network.answers("http://127.0.0.1:9819/-/ready"), process=process, logs=[log]
            )
            before = reloaded(network)
            process.send_signal(signal.SIGHUP)
            sandboxes.wait_for("the reload", lambda: reloaded(network) > before, process=process, logs=[log])
            assert 'digitalocean_backup_enabled{account="default"' in network.get("http://127.0.0.1:9819/metrics")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=10) == 0
    assert (tmp_path / "state" / "state.json").exists()
    assert TOKEN not in log.read_text()


def reloaded(network: Network) -> float:
    text = network.get("http://127.0.0.1:9819/metrics")
    name = "digitalocean_backup_exporter_config_last_reload_success_timestamp_seconds"
    found = re.search(rf"(?m)^{name} (\S+)$", text)
    assert found is not None
    return float(found[1])


def test_without_a_configuration_file_the_credential_is_enough(image: Image, network: Network, tmp_path: Path) -> None:
    """With EXPORTER_CONFIG empty the token comes from the credential by the unit's own variable."""
    box = service(image, network, tmp_path, "")
    with sandboxes.lookalike(network, TOKEN) as url:
        env = {"PATH": SYSTEM_PATH, **environment(EXPORTER_CONFIG="", DIGITALOCEAN_API_URL=url)}
        argv = command(env)
        assert argv[1:] == ["serve"]
        log = tmp_path / "log"
        with box.started(argv, env, log) as process:
            sandboxes.wait_for(
                "readiness", lambda: network.answers("http://127.0.0.1:9819/-/ready"), process=process, logs=[log]
            )


def test_every_system_call_it_makes_is_one_the_unit_allows(
    image: Image, network: Network, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """From start to stop, polling, serving and writing state, strace sees none that the filter would refuse."""
    analyze, trace = tool("systemd-analyze"), tmp_path / "trace"
    allowed = calls(analyze, "@system-service") - calls(analyze, "@privileged") - calls(analyze, "@resources")
    trace.mkdir()
    shutil.chown(trace, image.user, image.user)
    config = yaml.safe_load((FOLDER / "config.yaml").read_text())
    with sandboxes.lookalike(network, TOKEN) as url:
        config["accounts"][0]["api_url"] = url
        box = service(image, network, tmp_path, yaml.safe_dump(config))
        box = Sandbox((*box.mounts, Mount("/trace", trace, writable=True)), user=box.user, network=network)
        env = {"PATH": SYSTEM_PATH, **environment()}
        log = tmp_path / "log"
        strace = [tool("strace"), "--follow-forks", "--summary-only", "--output=/trace/calls", "--interruptible=never"]
        with box.started([*strace, *command(env)], env, log) as process:
            sandboxes.wait_for(
                "readiness", lambda: network.answers("http://127.0.0.1:9819/-/ready"), process=process, logs=[log]
            )
            network.get("http://127.0.0.1:9819/metrics")
            network.get("http://127.0.0.1:9819/")
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            for child in children:
                subprocess.run(["kill", "-TERM", child], check=True)
            process.wait(timeout=15)
    # execve is how systemd itself starts the program, and the filter lets that one pass.
    used = set(re.findall(r"(?m)^\s*[\d.]+\s.*\s(\w+)$", (trace / "calls").read_text())) - {"total"}
    assert {"openat", "sendto", "epoll_wait"} <= used
    assert used <= allowed | {"execve"}


def calls(analyze: str, group: str) -> set[str]:
    """The system calls of a group, the groups within it included."""
    result = subprocess.run([analyze, "syscall-filter", group], capture_output=True, text=True, check=True)
    names = re.findall(r"(?m)^\s+([@\w-]+)$", result.stdout)
    found = {name for name in names if not name.startswith("@")}
    for name in names:
        if name.startswith("@"):
            found |= calls(analyze, name)
    return found
