"""The demo, Prometheus and Alertmanager with what is shipped for them, and a receiver of the notices: all running."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.deploy.quickened import quickened, seconds
from tests.support.generations import Generation
from tests.support.processes import Exporter, exporter, until
from tests.support.prometheus_server import Prometheus
from tests.support.rule_files import DEPLOY, RULE_FILES

PATIENCE = 240.0
"""Seconds within which anything expected must have happened, on a machine however busy."""
RESENT_EVERY = 5.0
"""Seconds between two sendings of an alert that fires on; Alertmanager takes it for resolved after four times as many.
Sixty times faster than a minute would be one: a Prometheus held up for four seconds would then resolve all alerts."""


@dataclass(frozen=True, slots=True)
class Notice:
    """One alert of a notice, as a webhook got it."""

    at: float
    """When it came, in Unix seconds."""
    path: str
    receiver: str
    status: str
    """`firing` or `resolved`."""
    labels: Mapping[str, str]
    annotations: Mapping[str, str]

    @property
    def alert(self) -> str:
        return self.labels["alertname"]

    @property
    def droplet(self) -> str:
        """The droplet's name in the summary."""
        found = re.fullmatch(r"Droplet (.+) in account .*", self.annotations["summary"])
        assert found is not None, self.annotations["summary"]
        return found[1]


class Webhook:
    """Listens on loopback and keeps what comes, in order."""

    def __init__(self) -> None:
        self.notices: list[Notice] = []
        notices = self.notices

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                at = time.time()
                notices.extend(
                    Notice(at, self.path, body["receiver"], alert["status"], alert["labels"], alert["annotations"])
                    for alert in body["alerts"]
                )
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                """Says nothing: what came is in `notices`."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()
        self.address = f"127.0.0.1:{self._server.server_port}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def having(self, alert: str, status: str, **labels: str) -> list[Notice]:
        """What came so far of this alert with these labels, in order."""
        return [
            notice
            for notice in list(self.notices)
            if (notice.alert, notice.status) == (alert, status) and labels.items() <= notice.labels.items()
        ]

    def first(self, alert: str, status: str, timeout: float = PATIENCE, **labels: str) -> Notice:
        """The first of them, waited for."""
        try:
            return until(lambda: self.having(alert, status, **labels), f"{alert} {status} {labels}", timeout)[0]
        except AssertionError as error:
            seen = "\n".join(f"{n.at:.1f} {n.path} {n.status} {n.labels}" for n in self.notices)
            raise AssertionError(f"{error}; what came:\n{seen}") from None


@dataclass(frozen=True, slots=True)
class Stack:
    """Everything, running."""

    exporter: Exporter
    prometheus: Prometheus
    webhook: Webhook

    @property
    def target(self) -> str:
        """The exporter's address, as Prometheus scrapes it."""
        return self.exporter.url.removeprefix("http://")

    def value(self, expr: str) -> float | None:
        """The one value of an expression now, if it has any."""
        found = self.prometheus.instant(expr, time.time())
        assert len(found) < 2, found
        return float(found[0]["value"][1]) if found else None


@contextmanager
def running(generation: Generation, directory: Path, *arguments: str) -> Iterator[Stack]:
    """The demo (with these arguments), Prometheus and Alertmanager with the shipped files, sixty times as fast."""
    directory.mkdir()
    with ExitStack() as stack:
        webhook = stack.enter_context(contextlib.closing(Webhook()))
        config = directory / "alertmanager.yml"
        _write(config, DEPLOY / "alertmanager" / "alertmanager.yml", {"127.0.0.1:9095": webhook.address})
        shutil.copy(DEPLOY / "alertmanager" / "digitalocean-backup.tmpl", directory)
        notifier = stack.enter_context(
            _server(
                directory / "alertmanager.log",
                generation.alertmanager,
                f"--config.file={config}",
                f"--storage.path={directory / 'alertmanager'}",
                "--web.listen-address=127.0.0.1:0",
                "--cluster.listen-address=",
            )
        )
        demo = stack.enter_context(exporter("--demo", *arguments))
        addresses = {"localhost:9093": notifier, "localhost:9819": demo.url.removeprefix("http://")}
        (directory / "rules").mkdir()
        for rules in RULE_FILES:
            _write(directory / "rules" / rules.name, rules, {})
        config = directory / "prometheus.yml"
        _write(config, DEPLOY / "prometheus" / "prometheus.yml", addresses)
        address = stack.enter_context(
            _server(
                directory / "prometheus.log",
                generation.prometheus,
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'prometheus'}",
                "--web.listen-address=127.0.0.1:0",
                # The only interval of an expression that no file holds: how long a sample stands, by default.
                f"--query.lookback-delta={seconds('5m'):g}s",
                f"--rules.alert.resend-delay={RESENT_EVERY:g}s",
            )
        )
        yield Stack(demo, Prometheus(f"http://{address}"), webhook)


def _write(path: Path, shipped: Path, addresses: Mapping[str, str]) -> None:
    path.write_text(quickened(shipped.read_text(encoding="utf-8"), addresses), encoding="utf-8")


@contextmanager
def _server(log: Path, *command: str) -> Iterator[str]:
    """One of Prometheus's family, started; gives the address that it chose once it listens there."""
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT)
    try:

        def listening() -> str:
            text = log.read_text(encoding="utf-8")
            assert process.poll() is None, text
            found = re.search(r'msg="Listening on" (?:component=web )?address=(127\.0\.0\.1:\d+)', text)
            return found[1] if found else ""

        yield until(listening, f"{command[0]} listens")
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
