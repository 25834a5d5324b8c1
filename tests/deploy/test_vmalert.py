"""The shipped rules under vmalert, which many run in place of Prometheus's own rule engine."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from tests.support.generations import Generation
from tests.support.processes import exporter, until
from tests.support.prometheus_server import free_port
from tests.support.prometheus_server import running as prometheus
from tests.support.rule_files import RULES


@pytest.mark.timeout(600)
def test_vmalert_evaluates_the_rules(tmp_path: Path, newest: Generation) -> None:
    """vmalert takes every rule, evaluates it without an error, and the demo's missing droplet fires with its name."""
    with (
        exporter("--demo") as demo,
        prometheus(
            newest.prometheus,
            tmp_path,
            targets={"digitalocean-backups": [demo.url.removeprefix("http://")]},
            options=("--web.enable-remote-write-receiver",),
        ) as server,
    ):
        port = free_port()
        log = tmp_path / "vmalert.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [
                    newest.program("vmalert"),
                    f"-rule={RULES}/*.yml",
                    f"-datasource.url={server.url}",
                    f"-remoteWrite.url={server.url}",
                    f"-httpListenAddr=127.0.0.1:{port}",
                    "-notifier.blackhole",
                    "-evaluationInterval=2s",
                    "-rule.evalDelay=0s",
                    "-group.maxStartDelay=2s",
                    "-remoteWrite.flushInterval=500ms",
                ],
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:

            def evaluated() -> list[dict[str, Any]]:
                """All rules but those of slow groups, once each was evaluated."""
                assert process.poll() is None, log.read_text()
                try:
                    with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/rules", timeout=10) as answer:
                        groups = json.load(answer)["data"]["groups"]
                except OSError:
                    return []
                rules = [rule for group in groups if group["interval"] < 60 for rule in group["rules"]]
                done = all(not rule["lastEvaluation"].startswith("0001") for rule in rules)
                return rules if rules and done else []

            rules = until(evaluated, "every rule is evaluated", 180)
            assert {rule["name"]: rule["lastError"] for rule in rules if rule.get("lastError")} == {}

            def summaries() -> list[str]:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/v1/alerts", timeout=60) as answer:
                    alerts = json.load(answer)["data"]["alerts"]
                return [one["annotations"]["summary"] for one in alerts if one["name"] == "DropletBackupMissing"]

            def fires() -> bool:
                return any(text.startswith("Droplet db-analytics in account demo missed ") for text in summaries())

            until(fires, "the alert fires", 180)
            written = 'ALERTS{alertname="DropletBackupMissing", alertstate="firing"}'
            until(lambda: server.instant(written, time.time()), "the alert is written", 180)
        finally:
            process.terminate()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
