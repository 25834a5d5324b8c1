"""The stack of compose.yaml: checked against Compose's schema, and run as it says, with the real programs."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache, partial
from pathlib import Path
from typing import Any

import podman_compose  # type: ignore[import-untyped]
import pytest
import yaml

import exporter
from tests.deploy.image import ROOT, SYSTEM_PATH, Image
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Mount, Network, Sandbox

COMPOSE = ROOT / "deploy" / "compose.yaml"
SHIPPED = ROOT / "deploy" / "prometheus" / "prometheus.yml"
TOKEN = "dop_v1_made_up"

Service = dict[str, Any]


def resolved(**environment: str) -> dict[str, Any]:
    """compose.yaml as Compose understands it with these variables in the environment."""
    read: dict[str, Any] = json.loads(_resolved(json.dumps(environment)))
    return read


@cache
def _resolved(environment: str) -> str:
    return json.dumps(podman_compose.rec_subs(yaml.safe_load(COMPOSE.read_text()), json.loads(environment)))


def services(**environment: str) -> dict[str, Service]:
    found: dict[str, Service] = resolved(**environment)["services"]
    return found


SERVICES = ("exporter", "prometheus", "alertmanager", "notifications", "grafana")


def test_the_stack_is_the_exporter_and_what_shows_its_metrics_and_alerts() -> None:
    """The stack has exactly the exporter, Prometheus, Alertmanager, Grafana and the page of notifications."""
    assert set(services()) == set(SERVICES)


@pytest.mark.parametrize("environment", [{}, {"DIGITALOCEAN_ACCESS_TOKEN": TOKEN}], ids=["as written", "with a token"])
def test_the_file_is_valid_compose(environment: dict[str, str], tmp_path: Path) -> None:
    """It meets the schema of the Compose Specification, before and after the variables are put in."""
    file = tmp_path / "compose.yaml"
    file.write_text(yaml.safe_dump(resolved(**environment)) if environment else COMPOSE.read_text())
    tool = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert tool is not None, "check-jsonschema is not installed: make .venv/test"
    argv = [tool, "--builtin-schema", "vendor.compose-spec", str(file)]
    result = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_a_misspelt_key_would_not_be_valid(tmp_path: Path) -> None:
    """The schema check is able to fail: an unknown key of a service is refused."""
    text = COMPOSE.read_text().replace("read_only:", "readonly:")
    (tmp_path / "compose.yaml").write_text(text)
    tool = shutil.which("check-jsonschema", path=str(Path(sys.executable).parent))
    assert tool is not None
    argv = [tool, "--builtin-schema", "vendor.compose-spec", str(tmp_path / "compose.yaml")]
    assert subprocess.run(argv, capture_output=True, check=False).returncode == 1


@pytest.mark.parametrize("name", SERVICES)
def test_every_container_is_confined(name: str) -> None:
    """Each container has a read-only root, no capabilities, a pinned image, and ports on loopback only."""
    service = services()[name]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
    assert service["ports"]
    assert all(port.startswith("127.0.0.1:") for port in service["ports"])
    assert "user" not in service or not service["user"].startswith(("0", "root"))
    assert not service.keys() & {"privileged", "cap_add", "network_mode", "pid"}


def test_the_exporters_image_is_built_from_this_repository() -> None:
    """The build finds the Dockerfile, and the tag is the package's version."""
    service = services()["exporter"]
    context = (COMPOSE.parent / service["build"]["context"]).resolve()
    assert context == ROOT
    assert (context / service["build"]["dockerfile"]).is_file()
    assert service["image"].endswith(f":{exporter.__version__}")


def test_the_exporter_runs_the_images_own_command(image: Image) -> None:
    """The shell that looks for a token starts what the image would, with `--demo` or without."""
    (script,) = services()["exporter"]["command"]
    started = re.findall(r"exec (.*)", script)
    own = " ".join([*image.entrypoint, *image.command])
    assert started == [own, own, f"{own} --demo"]


def test_the_heads_override_serves_a_configuration_file() -> None:
    """It replaces the shell by the image's own command with the file, and keeps the token and the state.

    Compose reads an override only where no file is named, so the head says to name none.
    """
    head = COMPOSE.read_text().split("\nname:")[0]
    example = re.findall(r"(?m)^#   (services:\n(?:#     .*\n)+)", head)[0]
    override = yaml.safe_load(re.sub(r"(?m)^#   ", "", example))
    merged = podman_compose.rec_merge({}, resolved(), override)["services"]["exporter"]
    assert [*merged["entrypoint"], *merged["command"]][:2] == ["digitalocean-backup-exporter", "serve"]
    (target,) = [volume.split(":")[1] for volume in merged["volumes"] if volume.startswith("./config.yaml:")]
    assert merged["command"][-1] == f"--config.file={target}"
    assert "exporter:/var/lib/digitalocean-backup-exporter" in merged["volumes"]
    assert merged["secrets"] == ["digitalocean_token"]
    assert "only if no file is named: type `docker compose up --build` in deploy/" in head


def test_ports_address_and_password_can_be_chosen() -> None:
    """Each has its variable, and only these and the exporter's own are read from the environment."""
    chosen = services(
        BIND_ADDRESS="0.0.0.0", EXPORTER_PORT="1", PROMETHEUS_PORT="2", ALERTMANAGER_PORT="3", GRAFANA_PORT="4",
        NOTIFICATIONS_PORT="5", GRAFANA_ADMIN_PASSWORD="secret",
    )  # fmt: skip
    ports = [chosen[name]["ports"] for name in SERVICES]
    assert ports == [
        ["0.0.0.0:1:9819"], ["0.0.0.0:2:9090"], ["0.0.0.0:3:9093"], ["0.0.0.0:5:9095"], ["0.0.0.0:4:3000"],
    ]  # fmt: skip
    assert "--web.external-url=http://localhost:2/" in chosen["prometheus"]["command"]
    assert chosen["grafana"]["environment"]["GF_SECURITY_ADMIN_PASSWORD"] == "secret"
    named = set(re.findall(r"(?<!\$)\$\{(\w+)", COMPOSE.read_text()))
    assert named == {
        "BIND_ADDRESS", "EXPORTER_PORT", "PROMETHEUS_PORT", "ALERTMANAGER_PORT", "GRAFANA_PORT",
        "NOTIFICATIONS_PORT", "GRAFANA_ADMIN_PASSWORD", "DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN",
        "DIGITALOCEAN_TOKEN_FILE", "DIGITALOCEAN_API_URL",
    }  # fmt: skip


def test_a_token_by_either_name_ends_the_demo() -> None:
    """Both variables of DigitalOcean's tools are taken, in the order in which the exporter takes them."""

    def token(**environment: str) -> object:
        return services(**environment)["exporter"]["environment"]["DIGITALOCEAN_ACCESS_TOKEN"]

    assert token() == ""
    assert token(DIGITALOCEAN_TOKEN="b") == "b"
    assert token(DIGITALOCEAN_TOKEN="b", DIGITALOCEAN_ACCESS_TOKEN="a") == "a"


def test_a_token_in_a_file_is_a_secret_and_stands_in_no_variable() -> None:
    """The file goes to /run/secrets; what `docker inspect` shows holds no token and no path of one."""
    stack = resolved(DIGITALOCEAN_TOKEN_FILE="./token")
    assert stack["secrets"] == {"digitalocean_token": {"file": "./token"}}
    assert stack["services"]["exporter"]["secrets"] == ["digitalocean_token"]
    assert stack["services"]["exporter"]["environment"]["DIGITALOCEAN_ACCESS_TOKEN"] == ""
    assert all("secrets" not in service for name, service in stack["services"].items() if name != "exporter")
    default = COMPOSE.parent / resolved()["secrets"]["digitalocean_token"]["file"]
    assert default.read_bytes() == b""


def test_the_exporters_state_is_kept_in_a_volume(image: Image) -> None:
    """The volume lies where the image keeps its state by default, so it survives a new container."""
    (volume,) = services()["exporter"]["volumes"]
    name, target = volume.split(":")
    assert name in resolved()["volumes"]
    assert target == f"{image.env['XDG_STATE_HOME']}/digitalocean-backup-exporter"


def test_what_is_mounted_exists_and_is_read_only() -> None:
    """Each path of the repository is there and cannot be written; each named volume is declared."""
    declared = set(resolved()["volumes"])
    for service in services().values():
        for volume in service.get("volumes", []):
            source, _, *options = volume.split(":")
            if source.startswith("."):
                assert (COMPOSE.parent / source).exists(), volume
                assert options == ["ro"], volume
            else:
                assert source in declared


def test_prometheus_has_the_shipped_configuration_with_the_networks_names() -> None:
    """It differs from deploy/prometheus/prometheus.yml in the addresses of the exporter and the Alertmanager alone."""
    mounted = yaml.safe_load(source_of("prometheus", "/etc/prometheus/prometheus.yml").read_text())
    text = SHIPPED.read_text().replace("localhost:9819", "exporter:9819").replace("localhost:9093", "alertmanager:9093")
    assert mounted == yaml.safe_load(text)
    assert source_of("prometheus", "/etc/prometheus/rules") == SHIPPED.parent / "rules"


def test_grafana_starts_with_data_sources_and_dashboards() -> None:
    """Provisioning is mounted where Grafana looks, its dashboards where it says, and its data sources name services."""
    provisioning = source_of("grafana", "/etc/grafana/provisioning")
    providers = [yaml.safe_load(path.read_text()) for path in (provisioning / "dashboards").glob("*.y*ml")]
    (provider,) = [one for file in providers for one in file["providers"]]
    dashboards = source_of("grafana", provider["options"]["path"])
    assert list(dashboards.glob("*.json"))
    sources = [yaml.safe_load(path.read_text()) for path in (provisioning / "datasources").glob("*.y*ml")]
    ports = {"prometheus": "9090", "alertmanager": "9093"}
    for source in [one for file in sources for one in file["datasources"]]:
        name, port = source["url"].removeprefix("http://").split(":")
        assert services()[name]["ports"][0].endswith(f":{port}")
        assert ports[name] == port


def source_of(service: str, target: str) -> Path:
    """What is mounted there."""
    for volume in services()[service]["volumes"]:
        source, mounted, *_ = volume.split(":")
        if mounted == target:
            return (COMPOSE.parent / str(source)).resolve()
    raise AssertionError(f"nothing is mounted at {target} of {service}")


# What the file runs, run


@pytest.fixture
def hosts(tmp_path: Path) -> Mount:
    """The network's name service: each service's name, on loopback."""
    (tmp_path / "hosts").write_text(f"127.0.0.1 localhost {' '.join(SERVICES)}\n")
    return Mount("/etc/hosts", tmp_path / "hosts")


def environment_of(service: Service) -> dict[str, str]:
    return {name: str(value) for name, value in service.get("environment", {}).items()}


def folders(service: Service) -> list[Mount]:
    """What the service may write to: its tmpfs and its named volumes, new."""
    volumes = [volume.split(":")[1] for volume in service.get("volumes", []) if not volume.startswith(".")]
    return [Mount(target) for target in [*(path.split(":")[0] for path in service.get("tmpfs", [])), *volumes]]


@contextmanager
def exporter_up(
    image: Image, network: Network, log: Path, hosts: Mount, *, token: Path | None = None, **environment: str
) -> Iterator[None]:
    """The service `exporter`, with these variables in Compose's environment, until the block ends."""
    service = services(**environment)["exporter"]
    secret = token or COMPOSE.parent / resolved()["secrets"]["digitalocean_token"]["file"]
    box = image.sandbox(network, hosts, Mount("/run/secrets/digitalocean_token", secret), *folders(service))
    env = {**image.env, **environment_of(service)}
    with box.started([*service["entrypoint"], *service["command"]], env, log) as process:
        sandboxes.wait_for(
            "the exporter", lambda: network.answers("http://127.0.0.1:9819/-/ready"), process=process, logs=[log]
        )
        assert box.run(image.healthcheck, env).returncode == 0
        yield


def test_without_a_token_the_exporter_serves_the_demo(
    image: Image, network: Network, hosts: Mount, tmp_path: Path
) -> None:
    """No variable set: a made-up fleet, with no network but its own."""
    with exporter_up(image, network, tmp_path / "log", hosts):
        metrics = network.get("http://127.0.0.1:9819/metrics")
    assert 'digitalocean_backup_overdue{account="demo"' in metrics


def test_with_a_token_the_exporter_serves_its_account(
    image: Image, network: Network, hosts: Mount, tmp_path: Path
) -> None:
    """DIGITALOCEAN_ACCESS_TOKEN set: that account, by that token."""
    with (
        sandboxes.lookalike(network, TOKEN) as url,
        exporter_up(
            image,
            network,
            tmp_path / "log",
            hosts,
            DIGITALOCEAN_ACCESS_TOKEN=TOKEN,
            DIGITALOCEAN_API_URL=url,
        ),
    ):
        metrics = network.get("http://127.0.0.1:9819/metrics")
    assert 'digitalocean_backup_overdue{account="default"' in metrics
    assert 'account="demo"' not in metrics


def test_with_a_token_in_a_file_the_exporter_serves_its_account(
    image: Image, network: Network, hosts: Mount, tmp_path: Path
) -> None:
    """With a token in a file the exporter polls its account, and the token is in no log."""
    token = tmp_path / "token"
    token.write_text(f"{TOKEN}\n")
    shutil.chown(token, image.user)
    token.chmod(0o400)
    log = tmp_path / "log"
    with (
        sandboxes.lookalike(network, TOKEN) as url,
        exporter_up(image, network, log, hosts, token=token, DIGITALOCEAN_API_URL=url),
    ):
        metrics = network.get("http://127.0.0.1:9819/metrics")
    assert 'digitalocean_backup_overdue{account="default"' in metrics
    assert TOKEN not in log.read_text()


def container(name: str, network: Network, hosts: Mount, changed: Mapping[str, Path]) -> Sandbox:
    """A service of another image: its volumes at their places, the image's user, and a read-only root."""
    mounts = [hosts, *folders(services()[name])]
    for volume in services()[name]["volumes"]:
        source, target, *_ = volume.split(":")
        if source.startswith("."):
            mounts.append(Mount(target, changed.get(target, (COMPOSE.parent / source).resolve())))
    return Sandbox(tuple(mounts), user=65534, network=network)


def test_the_stack_scrapes_judges_and_notifies(
    image: Image, network: Network, hosts: Mount, tmp_path: Path, tool: Callable[[str], str]
) -> None:
    """Prometheus finds exporter, rules and Alertmanager by the network's names, and a newcomer sees a notification."""
    target = "/etc/prometheus/prometheus.yml"
    config = yaml.safe_load(source_of("prometheus", target).read_text())
    config["global"].update(scrape_interval="1s", scrape_timeout="1s", evaluation_interval="1s")
    for job in config["scrape_configs"]:
        job.pop("scrape_interval", None)
        job.pop("scrape_timeout", None)
    quick = tmp_path / "prometheus.yml"
    quick.write_text(yaml.safe_dump(config))
    env = {"PATH": SYSTEM_PATH}
    logs = {name: tmp_path / f"{name}.log" for name in ("exporter", "prometheus", "alertmanager", "notifications")}
    # The images have their programs by these names.
    programs = [
        Mount("/bin/prometheus", Path(tool("prometheus"))),
        Mount("/bin/alertmanager", Path(tool("prometheus-alertmanager"))),
    ]
    # An alert waits half a minute for others.
    shutil.copytree(COMPOSE.parent / "alertmanager", tmp_path / "alertmanager")
    routes = tmp_path / "alertmanager" / "alertmanager.yml"
    routes.write_text(re.sub(r"group_wait: \w+", "group_wait: 1s", routes.read_text()))
    changed = {target: quick, "/etc/alertmanager": tmp_path / "alertmanager"}
    boxes = {}
    for name in ("prometheus", "alertmanager"):
        box = container(name, network, hosts, changed)
        boxes[name] = Sandbox((*programs, *box.mounts), user=box.user, network=network)
    service = services()["notifications"]
    (script,) = (volume.split(":") for volume in service["volumes"])
    boxes["notifications"] = image.sandbox(network, hosts, Mount(script[1], (COMPOSE.parent / script[0]).resolve()))
    tool("promtool")
    tool("amtool")

    def started(name: str) -> Any:
        service = services()[name]
        command = [*service.get("entrypoint", [name]), *service["command"]]
        return boxes[name].started(command, {**image.env, **env} if name != "notifications" else image.env, logs[name])

    def healthy(name: str) -> bool:
        check, *command = services()[name]["healthcheck"]["test"]
        assert check == "CMD"
        return boxes[name].run(command, image.env if name == "notifications" else env).returncode == 0

    def api(path: str) -> Any:
        return json.loads(network.get(f"http://prometheus:9090/api/v1/{path}".replace("prometheus:", "127.0.0.1:")))[
            "data"
        ]

    assert not any(map(healthy, boxes))
    with (
        exporter_up(image, network, logs["exporter"], hosts),
        started("notifications") as receiver,
        started("alertmanager"),
        started("prometheus"),
    ):
        for name in boxes:
            sandboxes.wait_for(f"{name} healthy", partial(healthy, name), logs=[logs[name]])

        def scraped() -> bool:
            found = {one["scrapeUrl"]: one["health"] for one in api("targets")["activeTargets"]}
            return found.get("http://exporter:9819/metrics") == "up" and set(found.values()) == {"up"}

        sandboxes.wait_for("all targets up", scraped, logs=list(logs.values()))
        managers = [one["url"] for one in api("alertmanagers")["activeAlertmanagers"]]
        assert managers == ["http://alertmanager:9093/api/v2/alerts"]
        files = sorted({Path(group["file"]).name for group in api("rules")["groups"]})
        assert files == sorted(path.name for path in (SHIPPED.parent / "rules").glob("*.yml"))
        sandboxes.wait_for(
            "an alert of the demo at the Alertmanager",
            lambda: "DropletBackup" in network.get("http://127.0.0.1:9093/api/v2/alerts"),
            logs=list(logs.values()),
        )

        def seen() -> bool:
            return 'class="firing"' in network.get("http://127.0.0.1:9095/")

        sandboxes.wait_for("a notification on the page", seen, logs=list(logs.values()))
        receiver.terminate()
        assert receiver.wait(timeout=60) == 0
    assert "firing: " in logs["notifications"].read_text()


def test_the_page_of_notifications_escapes_text_and_refuses_other_bodies(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """Of a thousand alerts ten are named; markup stays text; what is resolved is told as such; all else is a 400."""
    script = "/usr/local/lib/notifications.py"
    box = image.sandbox(network, Mount(script, COMPOSE.parent / "compose" / "notifications.py"))
    alert = {"status": "firing", "labels": {"alertname": "<b>A</b>"}, "annotations": {}}
    body = {"receiver": "on-call", "status": "firing", "alerts": [alert] * 1000, "truncatedAlerts": 5}
    send = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "try: print(r.urlopen(r.Request('http://127.0.0.1:9095/x', sys.stdin.buffer.read())).status)\n"
        "except e.HTTPError as error: print(error.code)\n"
    )

    def answer(text: str) -> str:
        argv = box.argv(["python", "-c", send], image.env)
        return subprocess.run(argv, input=text, capture_output=True, text=True, check=False, timeout=120).stdout.strip()

    with box.started(["python", script], image.env, tmp_path / "log") as process:
        url = "http://127.0.0.1:9095/"
        sandboxes.wait_for("the page", lambda: network.answers(url), process=process, logs=[tmp_path / "log"])
        assert [answer(text) for text in ("", "{}", "[]", '{"receiver": 1, "status": 2, "alerts": 3}')] == ["400"] * 4
        assert answer(json.dumps(body)) == "200"
        over = {
            "status": "resolved",
            "labels": {"alertname": "DropletBackupOverdue", "account": "shop"},
            "annotations": {"summary": "Droplet web-1 in account shop missed its backup window"},
        }
        assert answer(json.dumps({"receiver": "office-hours", "status": "resolved", "alerts": [over]})) == "200"
        page = network.get(url)
    assert page.count("&lt;b&gt;A&lt;/b&gt;") == 10
    assert "and 995 more" in page
    assert "<b>" not in page
    assert "DropletBackupOverdue is no longer true of web-1, account shop" in page
    assert "missed" not in page
