"""The pod that the chart makes: how it is confined, probed and supplied; and what it would run, run."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy.helm_chart import (
    CASES,
    EVERYTHING,
    VALUES,
    Manifest,
    configuration,
    container,
    of_kind,
    only,
    pod,
    render,
    volume,
)
from tests.deploy.image import Image
from tests.support import certificates
from tests.support import sandbox as sandboxes
from tests.support.sandbox import Mount, Network


@pytest.mark.parametrize("values", [CASES["defaults"], CASES["demo"]], ids=["defaults", "demo"])
def test_the_pod_meets_the_restricted_pod_security_standard(values: dict[str, Any]) -> None:
    """No root, no capability, no way to gain one, a read-only root, the default seccomp profile, no cluster token."""
    spec, main = pod(render(values)), container(render(values))
    assert spec["automountServiceAccountToken"] is False
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["runAsUser"] > 0
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert main["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert not {"hostNetwork", "hostPID", "hostIPC"} & spec.keys()
    allowed = {"configMap", "emptyDir", "projected", "secret", "persistentVolumeClaim"}
    assert all((volume.keys() - {"name"}) <= allowed for volume in spec.get("volumes", []))
    assert main["resources"]["limits"]["memory"]
    assert main["resources"]["requests"]["cpu"]
    for account in of_kind(render(values), "ServiceAccount"):
        assert account["automountServiceAccountToken"] is False


def test_the_pod_runs_as_the_user_of_the_image(image: Image) -> None:
    """The numbers in the values are those the image prepares its folders for."""
    assert pod(render())["securityContext"]["runAsUser"] == image.user


def test_the_pod_takes_what_other_charts_of_exporters_take() -> None:
    """Environment, extra and init containers, DNS, hosts, history and annotations are passed on unchanged."""
    manifests = render(EVERYTHING)
    deployment, spec, main = only(manifests, "Deployment"), pod(manifests), container(manifests)
    assert deployment["metadata"]["annotations"] == EVERYTHING["deploymentAnnotations"]
    assert deployment["spec"]["revisionHistoryLimit"] == 3
    assert main["envFrom"] == EVERYTHING["extraEnvFrom"]
    assert main["startupProbe"]["failureThreshold"] == 30
    for key in ("initContainers", "dnsPolicy", "dnsConfig", "hostAliases", "tolerations", "nodeSelector"):
        assert spec[key] == EVERYTHING[key]
    assert [one["name"] for one in spec["containers"]] == ["exporter", "proxy"]
    assert spec["automountServiceAccountToken"] is True
    assert only(manifests, "ServiceAccount")["imagePullSecrets"] == [{"name": "regcred"}]
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}
    assert only(render({"strategy": rolling}), "Deployment")["spec"]["strategy"] == rolling


# Probes


def test_the_probes_ask_the_two_paths_of_the_contract() -> None:
    """Liveness asks /-/healthy and readiness /-/ready; with users, both ask /-/healthy, which needs no password."""
    main = container(render())
    assert main["livenessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics", "scheme": "HTTP"}
    assert main["readinessProbe"]["httpGet"] == {"path": "/-/ready", "port": "metrics", "scheme": "HTTP"}
    assert main["ports"] == [{"name": "metrics", "containerPort": 9819, "protocol": "TCP"}]
    main = container(render(EVERYTHING))
    assert main["readinessProbe"]["httpGet"] == {"path": "/-/healthy", "port": "metrics", "scheme": "HTTPS"}
    assert main["livenessProbe"]["httpGet"]["scheme"] == "HTTPS"


def test_a_probe_with_a_handler_of_its_own_is_left_alone() -> None:
    """Whoever gives `exec`, `httpGet` or `tcpSocket` gets no second handler, which Kubernetes would refuse."""
    own = {"tcpSocket": {"port": "metrics"}}
    main = container(render({"livenessProbe": own}))
    assert main["livenessProbe"].items() >= own.items()
    assert "httpGet" not in main["livenessProbe"]


# Tokens and state


def test_tokens_come_from_existing_secrets_as_files() -> None:
    """The chart makes no Secret and sets no token in the environment: it mounts each account's key as a file."""
    manifests = render(EVERYTHING)
    assert of_kind(manifests, "Secret") == []
    assert {variable["name"] for variable in container(manifests)["env"]} == {"HTTPS_PROXY"}
    tokens = volume(manifests, "tokens")
    assert [source["secret"] for source in tokens["projected"]["sources"]] == [
        {"name": "do-shop", "items": [{"key": "api-token", "path": "0/token"}]},
        {"name": "do-lab", "items": [{"key": "token", "path": "1/token"}]},
    ]
    assert tokens["projected"]["defaultMode"] == 0o440
    (mount,) = [mount for mount in container(manifests)["volumeMounts"] if mount["name"] == "tokens"]
    assert mount["readOnly"] is True
    files = [account["token_file"] for account in configuration(manifests)["accounts"]]
    assert files == [f"{mount['mountPath']}/0/token", f"{mount['mountPath']}/1/token"]


def test_state_is_kept_on_an_empty_dir_by_default() -> None:
    """Without a choice the state file lies on an emptyDir, and no claim is made."""
    manifests = render()
    state = volume(manifests, "state")
    assert "emptyDir" in state
    assert of_kind(manifests, "PersistentVolumeClaim") == []
    (mount,) = [mount for mount in container(manifests)["volumeMounts"] if mount["name"] == "state"]
    assert configuration(manifests)["state_file"].startswith(mount["mountPath"] + "/")
    assert "strategy" not in only(manifests, "Deployment")["spec"]


def test_state_is_kept_on_a_claim_by_choice() -> None:
    """A claim is made and mounted, and the old pod ends before the new one wants it."""
    manifests = render(EVERYTHING)
    claim = only(manifests, "PersistentVolumeClaim")
    state = volume(manifests, "state")
    assert state["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
    assert claim["spec"]["storageClassName"] == "do-block-storage"
    assert claim["spec"]["resources"]["requests"]["storage"] == "1Gi"
    assert only(manifests, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}


def test_state_is_kept_on_a_claim_that_exists_by_choice() -> None:
    """An existing claim is mounted and none is made."""
    manifests = render({"state": {"persistence": {"enabled": True, "existingClaim": "backups"}}})
    state = volume(manifests, "state")
    assert state["persistentVolumeClaim"]["claimName"] == "backups"
    assert of_kind(manifests, "PersistentVolumeClaim") == []


@pytest.mark.parametrize(("given", "made"), [("", None), ("-", ""), ("fast", "fast")])
def test_the_storage_class_can_be_the_default_none_or_named(given: str, made: str | None) -> None:
    """Empty leaves the class to the cluster, "-" asks for none."""
    manifests = render({"state": {"persistence": {"enabled": True, "storageClass": given}}})
    assert only(manifests, "PersistentVolumeClaim")["spec"].get("storageClassName") == made


def test_two_replicas_have_a_state_each() -> None:
    """Several replicas are allowed with an emptyDir, which each pod has for itself."""
    manifests = render({"replicas": 2})
    assert only(manifests, "Deployment")["spec"]["replicas"] == 2


def test_a_changed_configuration_starts_new_pods() -> None:
    """The pod template carries the configuration's checksum."""

    def checksum(values: dict[str, Any]) -> str:
        template = only(render(values), "Deployment")["spec"]["template"]
        return str(template["metadata"]["annotations"]["checksum/config"])

    assert checksum({}) != checksum({"config": {"poll": {"interval": "10m"}}})
    assert checksum({}) == checksum({"podLabels": {"a": "b"}})


# What would run


def run_pod(
    manifests: list[Manifest],
    image: Image,
    network: Network,
    folder: Path,
    check: Callable[[], None],
    secrets: Mapping[str, Mapping[str, str]] | None = None,
) -> None:
    """Run the pod's container: its arguments, its volumes with the content of ConfigMaps and Secrets, its probes."""
    main, spec = container(manifests), pod(manifests)
    configs = {config["metadata"]["name"]: config["data"] for config in of_kind(manifests, "ConfigMap")}
    mounts = []
    volumes = {volume["name"]: volume for volume in spec.get("volumes", [])}
    for mount in main.get("volumeMounts", []):
        volume = volumes[mount["name"]]
        source = folder / mount["name"]
        source.mkdir()
        if "configMap" in volume:
            for name, text in configs[volume["configMap"]["name"]].items():
                (source / name).write_text(text)
        elif "projected" in volume:
            for secret in volume["projected"]["sources"]:
                for item in secret["secret"]["items"]:
                    (source / item["path"]).parent.mkdir(exist_ok=True)
                    (source / item["path"]).write_text("dop_v1_made_up\n")
        elif "secret" in volume:
            for name, text in (secrets or {})[volume["secret"]["secretName"]].items():
                (source / name).write_text(text)
        if "emptyDir" in volume:
            mounts.append(Mount(mount["mountPath"]))
        else:
            mounts.append(Mount(mount["mountPath"], source, writable=not mount.get("readOnly", False)))
    box = image.sandbox(network, *mounts)
    log = folder / "log"
    with box.started([*image.entrypoint, *main["args"]], image.env, log) as process:
        port = main["ports"][0]["containerPort"]
        for name in ("livenessProbe", "readinessProbe"):
            probe = main[name]
            if "exec" in probe:
                passes = partial(_succeeds, box, probe["exec"]["command"], image.env)
            else:
                passes = partial(network.answers, f"http://127.0.0.1:{port}{probe['httpGet']['path']}")
            sandboxes.wait_for(name, passes, process=process, logs=[log])
        check()
        sandboxes.assert_stops(process)
    assert "dop_v1_made_up" not in log.read_text()


def _succeeds(box: sandboxes.Sandbox, command: list[str], env: Mapping[str, str]) -> bool:
    return box.run(command, env).returncode == 0


def test_the_pod_of_the_defaults_serves_the_tokens_account(image: Image, network: Network, tmp_path: Path) -> None:
    """With the Secret's token, the chart's arguments and mounts poll the API and turn both probes good."""
    with sandboxes.lookalike(network, "dop_v1_made_up") as url:
        account = copy.deepcopy(VALUES["accounts"][0])
        manifests = render({"accounts": [{**account, "api_url": url}]})

        def check() -> None:
            metrics = network.get("http://127.0.0.1:9819/metrics")
            assert 'digitalocean_backup_enabled{account="default"' in metrics

        run_pod(manifests, image, network, tmp_path, check)


def test_the_pod_of_the_demo_serves_the_made_up_fleet(image: Image, network: Network, tmp_path: Path) -> None:
    """`demo: true` needs no Secret and turns both probes good."""

    def check() -> None:
        assert "digitalocean_backup_overdue{" in network.get("http://127.0.0.1:9819/metrics")

    run_pod(render({"demo": True}), image, network, tmp_path, check)


def test_port_and_path_are_moved_by_their_values(image: Image, network: Network, tmp_path: Path) -> None:
    """With `containerPort` and `telemetryPath` the exporter serves there, and probes and ServiceMonitor ask there."""
    values = {"demo": True, "containerPort": 9100, "telemetryPath": "/backups", "serviceMonitor": {"enabled": True}}
    manifests = render(values)
    (endpoint,) = only(manifests, "ServiceMonitor")["spec"]["endpoints"]

    def check() -> None:
        assert "digitalocean_backup_" in network.get(f"http://127.0.0.1:9100{endpoint['path']}")

    run_pod(manifests, image, network, tmp_path, check)


def test_the_pod_with_users_keeps_its_probes_and_guards_its_metrics(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """The web configuration of the named Secret is in force, and both probes still pass without a password."""
    values = {"demo": True, "webConfig": {"existingSecret": "web", "basicAuth": True}}
    hashed = "$2y$04$EG8SgQN0VoXZ4FA4iPt/dOA8qvbDeBgJ0J6lsOk9xJqP2Vn0ZQ9xO"
    secrets = {"web": {VALUES["webConfig"]["key"]: json.dumps({"basic_auth_users": {"prometheus": hashed}})}}

    def check() -> None:
        with pytest.raises(ConnectionError, match="401"):
            network.get("http://127.0.0.1:9819/metrics")

    run_pod(render(values), image, network, tmp_path, check, secrets)


def test_the_probes_pass_where_every_client_needs_a_certificate(image: Image, network: Network, tmp_path: Path) -> None:
    """The probes use the certificate of the Secret; a client without a certificate gets no answer."""
    authority = certificates.Authority()
    server, client = authority.issue(), authority.issue()
    web = {
        "tls_server_config": {
            "cert_file": "tls.crt",
            "key_file": "tls.key",
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": "ca.crt",
        }
    }
    secret = {
        VALUES["webConfig"]["key"]: json.dumps(web),
        "tls.crt": server.cert.decode(),
        "tls.key": server.key.decode(),
        "ca.crt": authority.cert.decode(),
        "client.crt": client.cert.decode(),
        "client.key": client.key.decode(),
    }
    values = {
        "demo": True,
        "webConfig": {"existingSecret": "web", "tls": True, "clientCertificate": {"required": True}},
    }
    manifests = render(values)
    assert container(manifests)["readinessProbe"]["exec"]["command"][-3] == "/-/ready"

    def check() -> None:
        with pytest.raises(ConnectionError):
            network.get("http://127.0.0.1:9819/-/healthy")

    run_pod(manifests, image, network, tmp_path, check, {"web": secret})


def test_the_exporter_accepts_the_configuration_with_everything_on(
    image: Image, network: Network, tmp_path: Path
) -> None:
    """What the chart writes with everything on is good by the exporter's own `check-config`."""
    manifests = render(EVERYTHING)
    made = configuration(manifests)
    mounts = []
    for account in made["accounts"]:
        token = tmp_path / account["name"]
        token.write_text("dop_v1_made_up")
        mounts.append(Mount(account["token_file"], token))
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(made))
    mounts.append(Mount("/etc/digitalocean-backup-exporter/config.yaml", tmp_path / "config.yaml"))
    mounts.append(Mount(str(Path(made["state_file"]).parent)))
    box = image.sandbox(network, *mounts)
    flag = "--config.file=/etc/digitalocean-backup-exporter/config.yaml"
    result = box.run([*image.entrypoint, "check-config", flag], image.env)
    assert result.stderr == ""
    assert result.returncode == 0
    assert "shop" in result.stdout
    assert "lab" in result.stdout
