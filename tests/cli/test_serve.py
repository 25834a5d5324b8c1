"""The exporter started as a user starts it: the demo, real Prometheus, stopping, what goes wrong at the start."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from exporter.demo.fleet import demo_fleet
from exporter.metrics.families import FAMILIES
from tests.support.certificates import Authority
from tests.support.lookalike import Api, Fault, Fixture, served
from tests.support.processes import COMMAND, Exporter, exporter, run, until
from tests.support.prometheus_server import running
from tests.support.world import DAY


@pytest.fixture(scope="module")
def demo() -> Iterator[Exporter]:
    with exporter("--demo") as started:
        started.line('event="poll finished"')
        yield started


class TestDemo:
    def test_every_family(self, demo: Exporter) -> None:
        """The demo shows every family of the contract but those that only a fault gives a series."""
        names = {family.name for family in parse_text(demo.get("/metrics"))}
        missing = {family.name.removesuffix("_total") for family in FAMILIES} - names
        assert not missing

    def test_openmetrics(self, demo: Exporter) -> None:
        """OpenMetrics is served where it is asked for, and holds the same samples of the fleet."""
        text = demo.get("/metrics", Accept="application/openmetrics-text;version=1.0.0")
        assert text.endswith("# EOF\n")
        assert "_created{" not in text
        families = parse_openmetrics(text)  # type: ignore[no-untyped-call]  # the library's
        assert any(family.name == "digitalocean_backup_overdue" for family in families)

    def test_promtool(self, demo: Exporter, tool: Callable[[str], str]) -> None:
        """`promtool check metrics` objects to the two names that keep a human unit, and to nothing else."""
        command = [tool("promtool"), "check", "metrics"]
        done = subprocess.run(command, input=demo.get("/metrics"), capture_output=True, text=True, check=False)
        complaints = [line for line in (done.stdout + done.stderr).splitlines() if line]
        allowed = ("digitalocean_backup_hours_until_next_window", "digitalocean_backup_retention_days")
        assert [line for line in complaints if not line.startswith(allowed)] == []

    def test_ready_and_healthy(self, demo: Exporter) -> None:
        """Both probes answer 200 once the account was listed."""
        assert demo.status("/-/ready")[0] == 200
        assert demo.status("/-/healthy")[0] == 200

    def test_page(self, demo: Exporter) -> None:
        """The page names the exporter and links to the rest."""
        status, text = demo.status("/")
        assert status == 200
        assert 'href="./metrics"' in text

    def test_lifecycle_is_off(self, demo: Exporter) -> None:
        """Reloading over HTTP is refused unless enabled, and never by GET."""
        assert demo.status("/-/reload", "POST")[0] == 403
        assert demo.status("/-/reload")[0] == 405

    def test_names_reach_prometheus(self, demo: Exporter, tool: Callable[[str], str], tmp_path: Path) -> None:
        """Real Prometheus scrapes the fleet, odd names and all, and answers queries of it."""
        target = demo.url.removeprefix("http://")
        with running(tool("prometheus"), tmp_path, targets={"digitalocean-backups": [target]}) as prometheus:

            def names() -> set[str]:
                found = prometheus.instant("digitalocean_backup_droplet_info", time.time())
                return {series["metric"].get("droplet_name", "") for series in found}

            shown = until(names, "a scrape")
        served = {record["name"] for record in demo_fleet(time.time()).droplets(time.time())}
        assert served <= shown
        assert any('"' in name and "\\" in name and "\n" in name for name in shown)


@pytest.mark.slow
def test_demo_at_speed() -> None:
    """At speed a Droplet of the demo goes overdue and recovers while one watches."""
    with exporter("--demo", "--demo.speed=20000") as started:

        def overdue() -> set[str]:
            return {
                sample.labels["droplet_name"]
                for family in parse_text(started.get("/metrics"))
                for sample in family.samples
                if sample.name == "digitalocean_backup_overdue" and sample.value == 1
            }

        until(lambda: "shop-checkout" in overdue(), "shop-checkout is overdue")
        until(lambda: "shop-checkout" not in overdue(), "shop-checkout is well again")


class TestStopping:
    def test_while_the_api_hangs(self) -> None:
        """SIGTERM ends it in time with exit code 0 while the API hangs."""
        with hanging_api() as url, exporter(DIGITALOCEAN_TOKEN="t", DIGITALOCEAN_API_URL=url) as started:
            assert started.status("/-/ready") == (503, "Waiting for the first complete listing of: default.\n")
            assert "digitalocean_backup_exporter_up{" not in started.get("/metrics")
            began = time.monotonic()
            assert started.stop() == 0
            assert time.monotonic() - began < 5

    def test_interrupt(self) -> None:
        """SIGINT does the same."""
        with exporter("--demo") as started:
            started.line("listening")
            started.process.send_signal(signal.SIGINT)
            assert started.process.wait(10) == 0


def test_signals_of_log_rotation() -> None:
    """SIGUSR1 and SIGUSR2 do not end it."""
    with exporter("--demo") as started:
        started.line("listening")
        for number in (signal.SIGUSR1, signal.SIGUSR2):
            started.process.send_signal(number)
        assert started.status("/-/healthy")[0] == 200
        assert started.stop() == 0


def test_started_without_descriptors(free_port: int) -> None:
    """If stdin, stdout and stderr are closed, no file or socket takes their numbers."""
    url = f"http://127.0.0.1:{free_port}/-/healthy"
    command = [*COMMAND, "serve", "--demo", f"--web.listen-address=127.0.0.1:{free_port}"]

    def is_healthy() -> bool:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=60) as answer:
            return int(answer.status) == 200
        return False

    started = subprocess.Popen(["sh", "-c", 'exec "$@" <&- >&- 2>&-', "sh", *command])
    try:
        until(is_healthy, "it is healthy")
        ends = Path(f"/proc/{started.pid}/fd")
        assert {str((ends / str(number)).readlink()) for number in range(3)} == {"/dev/null"}
        started.terminate()
        assert started.wait(60) == 0
    finally:
        started.kill()
        started.wait()


def test_the_first_scrape_after_a_restart(tmp_path: Path) -> None:
    """Restarted during an outage, it serves everything that it knew from the first scrape on."""
    config = tmp_path / "config.yaml"

    def polled(url: str) -> str:
        accounts = [f"{{name: account-{number}, token_env: TOKEN_A, api_url: {url}}}" for number in range(8)]
        config.write_text(f"accounts: [{', '.join(accounts)}]\nstate_file: {tmp_path / 'state.json'}\n")
        return f"--config.file={config}"

    def known(text: str) -> set[tuple[str, str]]:
        found = re.findall(r'digitalocean_backup_kept{account="([^"]*)",droplet_id="(\d+)"', text)
        assert found
        return set(found)

    with look_alike() as url, exporter(polled(url), TOKEN_A="t") as started:
        for number in range(8):
            started.line(f'event="poll finished" account=account-{number} ')
        before = known(started.get("/metrics"))
        port = url.rpartition(":")[2]
        assert started.stop() == 0
    with exporter(polled(f"http://127.0.0.1:{port}"), TOKEN_A="t") as started:
        assert known(started.get("/metrics")) == before
        assert 'exporter_up{account="account-0"} 1' not in started.get("/metrics")


class TestSystemdSocket:
    def test_handed_over(self, tool: Callable[[str], str]) -> None:
        """With `--web.systemd-socket` it serves on the socket that systemd opened."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        activate = [tool("systemd-socket-activate"), f"--listen=127.0.0.1:{port}", "--setenv=PYTHONPATH"]
        command = [*activate, *COMMAND, "serve", "--demo", "--web.systemd-socket"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        running = Exporter(process)
        try:

            def answers() -> bool:
                with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=10) as client:
                    client.sendall(b"GET /-/healthy HTTP/1.0\r\n\r\n")
                    return client.recv(100).split()[1:2] == [b"200"]
                return False

            until(answers, "an answer on systemd's socket")
            assert running.url == f"http://127.0.0.1:{port}"
            assert running.stop() == 0
        finally:
            process.kill()
            process.wait()
            running._reader.join()
            assert process.stderr is not None
            process.stderr.close()

    def test_none_handed_over(self) -> None:
        """Without a socket from systemd it says so in one line and exits."""
        done = run("serve", "--demo", "--web.systemd-socket")
        assert done.returncode == 2
        assert "systemd passed no socket" in done.stderr
        assert "Traceback" not in done.stderr

    def test_beside_an_address(self) -> None:
        """A listen address together with it is an error, because it would be ignored."""
        done = run("serve", "--demo", "--web.systemd-socket", "--web.listen-address=127.0.0.1:0")
        assert done.returncode == 2
        assert "not allowed with argument" in done.stderr


class TestTheStart:
    @pytest.mark.parametrize("flag", ["--config.file", "--web.config.file"])
    def test_stopped_while_a_file_hangs(self, flag: str, tmp_path: Path) -> None:
        """While it still waits for a file to be read, SIGHUP does nothing and SIGTERM ends it with 0."""
        file = tmp_path / "pipe"
        os.mkfifo(file)
        # Its other end is open, and nothing comes.
        with file.open("r+b", buffering=0):
            started = subprocess.Popen([*COMMAND, "serve", f"{flag}={file}"], stderr=subprocess.DEVNULL)
            try:
                reads = Path(f"/proc/{started.pid}/fd")
                until(lambda: any(os.path.realpath(end) == str(file) for end in reads.iterdir()), "it reads the file")
                began = time.monotonic()
                started.send_signal(signal.SIGHUP)
                started.terminate()
                assert started.wait(10) == 0
                assert time.monotonic() - began < 5
            finally:
                started.kill()
                started.wait()

    def test_taken_port(self, demo: Exporter) -> None:
        """A second start on a taken port says so in one line and exits."""
        address = demo.url.removeprefix("http://")
        done = run("serve", "--demo", f"--web.listen-address={address}")
        assert done.returncode == 2
        assert [line for line in done.stderr.splitlines() if "cannot listen" in line and address in line]
        assert "Traceback" not in done.stderr

    def test_no_token(self) -> None:
        """Without a token and a configuration, one line says what to do."""
        done = run()
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "DIGITALOCEAN_ACCESS_TOKEN" in done.stderr
        assert "--demo" in done.stderr

    def test_bad_configuration(self, tmp_path: Path) -> None:
        """Each mistake in a configuration is reported, and nothing is served."""
        file = tmp_path / "config.yaml"
        file.write_text("accounts: [{name: a, token_env: TOKEN_A}]\npoll: {interval: soon}\n")
        done = run("serve", f"--config.file={file}", TOKEN_A="t")
        assert done.returncode == 2
        assert 'poll.interval: "soon" is not a duration; write it like 90s, 5m or 1h30m' in done.stderr

    def test_check_config(self, tmp_path: Path) -> None:
        """`check-config` says good, or what is wrong, by its exit code too."""
        file = tmp_path / "config.yaml"
        file.write_text("accounts: [{name: a, token_env: TOKEN_A}]\n")
        assert run("check-config", f"--config.file={file}", TOKEN_A="t").returncode == 0
        assert run("check-config", f"--config.file={file}").returncode == 2
        file.write_text(f"accounts: [{{name: a, token_env: TOKEN_A}}]\nstate_file: {tmp_path / 'none' / 'state'}\n")
        done = run("check-config", f"--config.file={file}", TOKEN_A="t")
        assert done.returncode == 2
        assert f"state_file: no file can be written in the directory {tmp_path / 'none'}: it does not" in done.stderr
        assert done.stderr.endswith(f"({file})\n")

    def test_files_open_to_everybody(self, tmp_path: Path) -> None:
        """`check-config` and `serve` warn of each file that every user of the host may write or replace, and go on."""
        Authority().issue().write(tmp_path, "server")
        token, config, web, key = (tmp_path / name for name in ("token", "config.yaml", "web.yml", "server.key"))
        token.write_text("a-token-of-the-tests")
        config.write_text(f"accounts: [{{name: a, token_file: {token}, api_url: 'http://127.0.0.1:1'}}]\n")
        web.write_text("tls_server_config: {cert_file: server.crt, key_file: server.key}\n")
        flags = (f"--config.file={config}", f"--web.config.file={web}")
        assert run("check-config", *flags).stderr == ""
        for file in (token, config, web, key):
            file.chmod(0o666)
        expected = [f"may write the file {file}; forbid it: chmod o-w {file}" for file in (config, token, web, key)]
        checked = run("check-config", *flags)
        assert checked.returncode == 0
        assert [line.partition("host ")[2] for line in checked.stderr.splitlines()] == expected
        for file in (token, config, web, key):
            file.chmod(0o660)
        tmp_path.chmod(0o777)
        told = run("check-config", *flags).stderr
        assert told.count(f"forbid it: chmod o-w {tmp_path}\n") == 5
        tmp_path.chmod(0o1777)
        assert run("check-config", *flags).stderr == ""
        token.chmod(0o666)
        with exporter(*flags) as running:
            running.line(f'level=warn event="file open to everybody".*may write the file {token}')

    def test_flags_before_the_command(self) -> None:
        """Flags may come before the command, and without one it serves."""
        assert run("--log.level", "error", "once", "--demo").returncode == 0


class TestOnce:
    def test_to_stdout(self) -> None:
        """`once` writes the metrics to stdout and nothing else there."""
        done = run("once", "--demo")
        assert done.returncode == 0
        names = {family.name for family in parse_text(done.stdout)}
        assert "digitalocean_backup_overdue" in names
        assert not [name for name in names if name.startswith(("process_", "python_"))]

    def test_to_a_file(self, tmp_path: Path) -> None:
        """`once --output` writes the file whole, readable by node_exporter, and keeps its mode later."""
        file = tmp_path / "backups.prom"
        assert run("once", "--demo", f"--output={file}").returncode == 0
        assert file.stat().st_mode & 0o777 == 0o644
        file.chmod(0o600)
        assert run("once", "--demo", f"--output={file}").returncode == 0
        assert file.stat().st_mode & 0o777 == 0o600
        assert [entry.name for entry in tmp_path.iterdir()] == ["backups.prom"]

    def test_nothing_learned(self, tmp_path: Path) -> None:
        """If nothing was learned the file stays as it was and the exit code is 2."""
        file = tmp_path / "backups.prom"
        file.write_text("as it was")
        with refusing_port() as url:
            done = run("once", f"--output={file}", DIGITALOCEAN_TOKEN="t", DIGITALOCEAN_API_URL=url)
        assert done.returncode == 2
        assert file.read_text() == "as it was"

    def test_partly_learned(self) -> None:
        """If one listing failed what was learned is written and the exit code is 1."""
        with look_alike(Fault("droplets", status=500)) as url:
            done = run("once", DIGITALOCEAN_TOKEN="t", DIGITALOCEAN_API_URL=url)
        assert done.returncode == 1
        assert "digitalocean_backup_exporter_up" in done.stdout

    def test_behind_a_proxy(self) -> None:
        """The environment's proxy is not asked for what is on loopback."""
        assert run("once", "--demo", HTTP_PROXY="http://127.0.0.1:1", http_proxy="http://127.0.0.1:1").returncode == 0

    def test_unwritable(self, tmp_path: Path) -> None:
        """A file that cannot be written is an error of one line, exit code 2."""
        done = run("once", "--demo", f"--output={tmp_path / 'missing' / 'file.prom'}")
        assert done.returncode == 2
        assert "Traceback" not in done.stderr


class hanging_api:  # used as a function
    """Takes connections and never answers."""

    def __enter__(self) -> str:
        self.server = socket.create_server(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self.server.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.server.close()


class refusing_port:
    """A port on which nothing listens."""

    def __enter__(self) -> str:
        self.socket = socket.socket()
        self.socket.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def __exit__(self, *_: object) -> None:
        self.socket.close()


@contextlib.contextmanager
def look_alike(*faults: Fault, account: Fixture | None = None) -> Iterator[str]:
    """The address of the demo's account behind the look-alike, with faults."""
    api = Api(account or demo_fleet(time.time() - DAY), now=time.time, token="t")
    api.faults.extend(faults)
    with served(api):
        yield api.url


def test_json_log() -> None:
    """`--log.format=json` logs one object a line; a command that polls once is asked to log what went well."""
    done = run("once", "--demo", "--log.format=json", "--log.level=info")
    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(event["event"] == "poll finished" and event["level"] == "info" for event in events)
