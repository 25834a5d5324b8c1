"""The systemd unit: judged by systemd's own tools, and what it starts, started."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

import exporter
from tests.deploy.image import ROOT, SYSTEM_PATH, Image
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Mount, Network, Sandbox

FOLDER = ROOT / "deploy" / "systemd"
NAME = "digitalocean-backup-exporter"
UNIT = FOLDER / f"{NAME}.service"
SOCKET = FOLDER / f"{NAME}.socket"
DROP_INS = (FOLDER / "tls.conf", FOLDER / "socket.conf")
CREDENTIALS = f"/run/credentials/{NAME}.service"
STATE = f"/var/lib/{NAME}"
TOKEN = "dop_v1_made_up"
PIP = {name: value for name, value in os.environ.items() if name.startswith("PIP_") or name.endswith("_proxy")}
"""How this machine reaches its package index, if by variables."""


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


def verified(tool: Callable[[str], str], folder: Path, **changed: str) -> str:
    """What `systemd-analyze verify` finds in service, socket and drop-ins, with a program that is there.

    `changed` has the text of files other than the shipped, by name without its dot.
    """
    program = folder / "program"
    program.touch(mode=0o755)
    units = folder / "units"
    (units / f"{UNIT.name}.d").mkdir(parents=True)
    for file in (UNIT, SOCKET, *DROP_INS):
        text = changed.get(file.name.rpartition(".")[0] if file in DROP_INS else file.suffix[1:], file.read_text())
        text = re.sub(r"(?m)^ExecStart=\S+", f"ExecStart={program}", text)
        (units / (f"{UNIT.name}.d" if file in DROP_INS else "") / file.name).write_text(text)
    argv = [tool("systemd-analyze"), "verify", "--recursive-errors=yes", "--man=no"]
    argv += [str(units / file.name) for file in (UNIT, SOCKET)]
    # The colon at the end keeps the system's own units within reach.
    env = {"PATH": SYSTEM_PATH, "SYSTEMD_UNIT_PATH": f"{units}:"}
    result = subprocess.run(argv, env=env, capture_output=True, text=True, check=False)
    return result.stdout + result.stderr


def test_systemd_finds_nothing_wrong_with_the_units(tool: Callable[[str], str], tmp_path: Path) -> None:
    """`systemd-analyze verify`, errors in what they depend on included, with every drop-in in place."""
    assert verified(tool, tmp_path) == ""


@pytest.mark.parametrize(
    ("name", "setting"), [("service", "DynamicUser"), ("socket", "ListenStream"), ("tls", "LoadCredential")]
)
def test_systemd_would_see_a_mistake(tool: Callable[[str], str], tmp_path: Path, name: str, setting: str) -> None:
    """The check is able to fail: a setting that does not exist is reported, in a drop-in too."""
    file = {"service": UNIT, "socket": SOCKET, "tls": DROP_INS[0]}[name]
    text = re.sub(rf"(?m)^{setting}=", f"{setting}X=", file.read_text())
    assert f"{setting}X" in verified(tool, tmp_path, **{name: text})


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
        ("LimitCORE", "0"),
        ("Restart", "on-failure"),
        ("ExecReload", "/bin/kill -HUP $MAINPID"),
        ("EnvironmentFile", f"-/etc/default/{NAME}"),
    ],
)
def test_the_unit_has_what_was_promised(setting: str, value: str) -> None:
    """The unit has the promised settings that `systemd-analyze security` does not check."""
    assert UNIT_SETTINGS[setting] == [value]


def test_the_documentation_is_where_the_unit_says() -> None:
    """The steps put README and runbooks where `systemctl status` and `systemctl help` point to."""
    places = [value.removeprefix("file://") for value in UNIT_SETTINGS["Documentation"] if value.startswith("file://")]
    (step,) = (step for step in steps() if "/doc/" in step)
    words = step.split()
    (target,) = (word.partition("=")[2] for word in words if word.startswith("--target-directory="))
    assert [f"{target}/{Path(word).name}" for word in words if word.endswith(".md")] == places


def test_the_tls_key_comes_as_a_credential() -> None:
    """The drop-in's credential is the key that web.yaml names, and its flag names web.yaml."""
    drop_in = settings(DROP_INS[0].read_text())
    web = yaml.safe_load((FOLDER / "web.yaml").read_text())["tls_server_config"]
    assert drop_in["LoadCredential"] == [f"tls.key:/etc/{NAME}/tls.key"]
    assert web["key_file"] == f"{CREDENTIALS}/tls.key"
    (flag,) = drop_in["Environment"]
    assert command(environment(EXPORTER_TLS=flag.partition("=")[2]))[-1] == f"--web.config.file=/etc/{NAME}/web.yaml"


def test_the_socket_is_handed_to_the_service_that_listens_on_it() -> None:
    """The socket has the exporter's port, and the drop-in gives the flag and waits for the socket."""
    socket, drop_in = settings(SOCKET.read_text()), settings(DROP_INS[1].read_text())
    assert socket["ListenStream"] == ["9819"]
    assert drop_in["Requires"] == drop_in["After"] == [SOCKET.name]
    (flag,) = drop_in["Environment"]
    assert command(environment(EXPORTER_SOCKET=flag.partition("=")[2]))[-1] == "--web.systemd-socket"


# Its installation, as the unit's header has it


def steps() -> list[str]:
    """The commands of the header."""
    header = UNIT.read_text().split("[Unit]")[0].split("To upgrade")[0]
    return [re.sub(r"  +#.*", "", step) for step in re.findall(r"(?m)^#   (.*)$", header)]


def test_the_steps_of_the_header_install_what_is_locked_and_a_command_in_the_path(tmp_path: Path) -> None:
    """Followed to the letter, but for systemctl, the command is found, runs and accepts the configuration."""
    sandboxes.require()
    followed = [step for step in steps() if not step.startswith("systemctl")]
    assert len(steps()) - len(followed) == 2
    (tmp_path / "repository").mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "exporter", "deploy"):
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, tmp_path / "repository" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, tmp_path / "repository")
    credential = tmp_path / "credential"
    credential.write_text(TOKEN)
    mounts = (
        Mount("/repository", tmp_path / "repository", writable=True),
        Mount(f"{CREDENTIALS}/token", credential),
        Mount(f"/opt/{NAME}"),
        Mount(STATE),
    )
    script = "\n".join([
        "set -e",
        "cd /repository",
        # This machine's system Python may lack venv's package; the steps name it.
        *(f"echo {TOKEN} | {step}" if "/dev/stdin" in step else step for step in followed),
        "cd /",
        f"{NAME} --version",
        f"{NAME} check-config --config.file=/etc/{NAME}/config.yaml",
        f"stat -c '%a %n' /etc/{NAME}/token /etc/{NAME}/config.yaml",
    ])  # fmt: skip
    result = Sandbox(mounts, read_only=False).run(["sh", "-c", script], {"PATH": SYSTEM_PATH, **PIP}, timeout=240)
    assert result.returncode == 0, result.stdout[-2000:] + result.stderr[-2000:]
    assert exporter.__version__ in result.stdout
    assert f"600 /etc/{NAME}/token" in result.stdout
    assert f"644 /etc/{NAME}/config.yaml" in result.stdout


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
            sandboxes.assert_stops(process)
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


def test_on_the_sockets_port_the_service_is_handed_it(
    image: Image, network: Network, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """With socket.conf's flag, the unit's command serves on the .socket unit's port, which systemd's tool opens."""
    (port,) = settings(SOCKET.read_text())["ListenStream"]
    (flag,) = settings(DROP_INS[1].read_text())["Environment"]
    box, log = service(image, network, tmp_path, ""), tmp_path / "log"
    with sandboxes.lookalike(network, TOKEN) as url:
        own = environment(EXPORTER_CONFIG="", EXPORTER_SOCKET=flag.partition("=")[2], DIGITALOCEAN_API_URL=url)
        opened = [tool("systemd-socket-activate"), f"--listen={port}", *(f"--setenv={name}" for name in own)]
        with box.started([*opened, *command(own)], {"PATH": SYSTEM_PATH, **own}, log) as process:
            # The first request starts the service, as a socket unit does where the service does not run.
            sandboxes.wait_for(
                "readiness", lambda: network.answers(f"http://127.0.0.1:{port}/-/ready"), process=process, logs=[log]
            )
            sandboxes.assert_stops(process)
    assert "listening" in log.read_text()


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
            process.wait(timeout=60)
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
