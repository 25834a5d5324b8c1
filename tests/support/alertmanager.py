"""The real Alertmanager, and local stand-ins for what it notifies: a webhook, Slack, PagerDuty and a mail server."""

from __future__ import annotations

import json
import re
import shutil
import socketserver
import subprocess
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.support.generations import Generation
from tests.support.prometheus_server import free_port
from tests.support.rule_files import DEPLOY, alerts


def with_examples(config: str) -> str:
    """The shipped configuration with the receivers that stand in its comments in force."""
    text, count = re.subn(r"(?m)^    # (pagerduty_configs|slack_configs|email_configs|  )", r"    \1", config)
    assert count > 15
    return text


PROBE = "probe"
"""The cluster of the alerts by which `Alertmanager.silenced` waits; no other alert has it."""


class Alertmanager:
    """The real one, with a configuration file, on a free port of loopback."""

    def __init__(self, program: str, config: Path, directory: Path) -> None:
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self._log = directory / "alertmanager.log"
        with self._log.open("wb") as output:
            self._process = subprocess.Popen(
                [
                    program,
                    f"--config.file={config}",
                    f"--storage.path={directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{port}",
                    "--cluster.listen-address=",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        self._wait(lambda: self._open("/-/ready") is not None)

    def close(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _wait(self, done: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 120
        while True:
            assert self._process.poll() is None, self._log.read_text()
            try:
                if done():
                    return
            except OSError:
                pass
            assert time.monotonic() < deadline, self._log.read_text()
            time.sleep(0.1)

    def _open(self, path: str, body: object = None) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=120) as answer:
            return bytes(answer.read())

    def post(self, alerts: Sequence[Mapping[str, object]]) -> None:
        """Sends alerts as Prometheus does: labels, annotations, and `endsAt` where one is over."""
        self._open("/api/v2/alerts", alerts)

    def silenced(self, *alerts: Mapping[str, str]) -> dict[tuple[str, str, str], set[str]]:
        """Fires alerts; gives the inhibited ones, as account, Droplet and alert, with the alerts that inhibit each.

        Alertmanager's inhibitor learns of alerts a moment after the API took them, in their order. So alerts of which
        one is known to silence the other are fired before and after these, and waited for.
        """
        self._wait_for_inhibitor("before")
        self.post([{"labels": dict(labels)} for labels in alerts])
        self._wait_for_inhibitor("after")
        found = [alert for alert in self._alerts() if alert["labels"].get("cluster") != PROBE]
        assert len(found) == len(alerts), found
        name = {alert["fingerprint"]: alert["labels"]["alertname"] for alert in found}
        return {
            (
                alert["labels"].get("account", ""),
                alert["labels"].get("droplet_id", ""),
                alert["labels"]["alertname"],
            ): {name[by] for by in alert["status"]["inhibitedBy"]}
            for alert in found
            if alert["status"]["inhibitedBy"]
        }

    def _alerts(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._open("/api/v2/alerts"))
        return found

    def _wait_for_inhibitor(self, account: str) -> None:
        """Waits until the inhibitor has seen all that was posted so far."""
        common = {"product": "digitalocean-backup", "cluster": PROBE, "account": account, "droplet_id": "1"}
        names = ("DropletBackupMissing", "DropletBackupOverdue")
        self.post([{"labels": {"alertname": name, **common}} for name in names])
        self._wait(
            lambda: any(
                alert["labels"].get("cluster") == PROBE
                and alert["labels"]["account"] == account
                and alert["status"]["inhibitedBy"]
                for alert in self._alerts()
            )
        )


@dataclass
class Receivers:
    """Stand-ins on loopback; what came is kept by the receiver's name, as it went over the wire."""

    http: str
    smtp: str
    came: dict[str, list[bytes]] = field(default_factory=dict)

    def wait(self, count: int, timeout: float = 300) -> dict[str, bytes]:
        """The message number `count` (from 1) of each of the four, once all have come."""
        end = time.monotonic() + timeout
        names = ("webhook", "slack", "pagerduty", "mail")
        while not all(len(self.came.get(name, ())) >= count for name in names):
            assert time.monotonic() < end, {name: len(found) for name, found in self.came.items()}
            time.sleep(0.05)
        return {name: self.came[name][count - 1] for name in names}


class _Mail(socketserver.StreamRequestHandler):
    """As much of SMTP as Alertmanager speaks."""

    def handle(self) -> None:
        came = self.server.came  # type: ignore[attr-defined]
        self.wfile.write(b"220 stub\r\n")
        while line := self.rfile.readline():
            word = line.split(None, 1)[0].upper() if line.split() else b""
            if word == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                lines = []
                while (line := self.rfile.readline()) not in (b".\r\n", b""):
                    lines.append(line)
                came.setdefault("mail", []).append(b"".join(lines))
            if word == b"QUIT":
                self.wfile.write(b"221 bye\r\n")
                return
            self.wfile.write(b"250 stub\r\n")


@contextmanager
def receivers() -> Iterator[Receivers]:
    """All four, ended with the block."""
    came: dict[str, list[bytes]] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            came.setdefault(self.path.split("/")[1], []).append(body)
            answer = b'{"ok": true, "status": "success"}'
            self.send_response(202 if self.path.startswith("/pagerduty") else 200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            """Logs nothing: what came is kept."""

    class Smtp(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True

    web = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web.daemon_threads = True
    mail = Smtp(("127.0.0.1", 0), _Mail)
    mail.came = came  # type: ignore[attr-defined]
    threads = [threading.Thread(target=server.serve_forever, daemon=True) for server in (web, mail)]
    for thread in threads:
        thread.start()
    try:
        yield Receivers(f"http://127.0.0.1:{web.server_port}", f"127.0.0.1:{mail.server_address[1]}", came)
    finally:
        for server in (web, mail):
            server.shutdown()
            server.server_close()
        for thread in threads:
            thread.join()


LIMITS = {"webhook": 64 * 1024, "slack": 40_000, "pagerduty": 512 * 1024, "mail": 64 * 1024}
"""Bytes that a receiver takes; what webhooks and mail servers take is up to their owner, so these two are modest."""


def notified(generation: Generation, count: int, directory: Path) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """What the four receivers get when so many Droplets are missing (staging: overdue), and when all have recovered.

    The configuration is the shipped one with its examples in force; addresses and waiting times are the test's. The
    critical alerts go to webhook and PagerDuty, the warnings to Slack and mail.
    """
    shipped = DEPLOY / "alertmanager" / "alertmanager.yml"
    shutil.copy(shipped.with_name("digitalocean-backup.tmpl"), directory)
    with receivers() as stubs:
        (directory / "slack.url").write_text(f"{stubs.http}/slack")
        (directory / "pagerduty.key").write_text("0123456789abcdef0123456789abcdef")
        text = with_examples(shipped.read_text(encoding="utf-8"))
        for before, after in (
            ("http://127.0.0.1:9095/critical", f"{stubs.http}/webhook"),
            ("http://127.0.0.1:9095/warning", f"{stubs.http}/other"),
            ("/etc/alertmanager/slack.url", str(directory / "slack.url")),
            ("/etc/alertmanager/pagerduty.key", f"{directory / 'pagerduty.key'}\n        url: {stubs.http}/pagerduty"),
            ("smtp.example.com:587", f"{stubs.smtp}\n        require_tls: false"),
            ("group_wait: 30s", "group_wait: 1s"),
            # Alertmanager gives up a notification after this time, and 0.25 compares every alert with every silencer.
            ("group_interval: 5m", f"group_interval: {max(1, round((count / 400) ** 2))}s"),
        ):
            assert before in text, before
            text = text.replace(before, after)
        config = directory / "alertmanager.yml"
        config.write_text(re.sub(r"(?m)^ +auth_(username|password_file): .*\n", "", text), encoding="utf-8")
        with closing(Alertmanager(generation.alertmanager, config, directory)) as running:
            sent = [
                alert
                for account, name in (("production", "DropletBackupMissing"), ("staging", "DropletBackupOverdue"))
                for alert in _alerts(name, account, count)
            ]
            running.post(sent)
            firing = stubs.wait(1)
            over = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            running.post([alert | {"endsAt": over} for alert in sent])
            return firing, stubs.wait(2)


def _alerts(name: str, account: str, count: int) -> list[dict[str, Any]]:
    """Alerts of so many droplets, with texts as long as the rules'."""
    (rule,) = [rule for rule in alerts() if rule.name == name]
    labels = {"alertname": name, "account": account, **rule.body["labels"]}
    without_cluster = re.sub(r"\{\{ with .*?\{\{ end \}\}", "", rule.body["annotations"]["description"])
    description = re.sub(r"\{\{[^}]*\}\}", "386734086", without_cluster.replace("{{ $labels.account }}", account))
    return [
        {
            "labels": labels | {"droplet_id": str(386734086 + i)},
            "annotations": {
                "summary": f"Droplet db-{i:04d}.example.com in account {account} missed 2 backup windows in a row",
                "description": description,
                "runbook_url": rule.body["annotations"]["runbook_url"],
            },
        }
        for i in range(1, count + 1)
    ]
