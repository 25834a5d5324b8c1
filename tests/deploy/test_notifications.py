"""What mail, Slack, PagerDuty and webhook get from the real Alertmanager, with one alert, eleven, and a mass outage."""

from __future__ import annotations

import email
import json
from email import policy
from pathlib import Path

import pytest

from tests.support.alertmanager import LIMITS, notified
from tests.support.generations import Generation


def titles(messages: dict[str, bytes]) -> dict[str, str]:
    """The line that people see first, of those that have one."""
    slack = json.loads(messages["slack"])["attachments"][0]
    mail = email.message_from_bytes(messages["mail"], policy=policy.default)
    return {
        "slack": slack["title"],
        "pagerduty": json.loads(messages["pagerduty"]).get("payload", {}).get("summary", ""),
        "mail": str(mail["Subject"]),
    }


def everything(messages: dict[str, bytes]) -> dict[str, str]:
    """All that each of the receivers gets, decoded."""
    mail = email.message_from_bytes(messages["mail"], policy=policy.default)
    parts = [part.get_content() for part in mail.walk() if not part.is_multipart()]
    return {name: message.decode() for name, message in messages.items()} | {"mail": "\n".join(parts)}


@pytest.mark.parametrize(
    ("count", "number", "more"),
    [(1, "", ""), (11, "11 droplets", " and 1 more"), (1100, "1,100 droplets", " and 1,090 more")],
)
def test_a_notification_says_how_many_and_names_ten(
    count: int, number: str, more: str, generation: Generation, tmp_path: Path
) -> None:
    """The title counts all, names ten and fits every receiver; a recovery is announced as a recovery."""
    firing, resolved = notified(generation, count, tmp_path)
    for messages in (firing, resolved):
        assert {name: len(body) for name, body in messages.items() if len(body) > LIMITS[name]} == {}
    for name, title in titles(firing).items():
        if count == 1:
            assert title.startswith("Droplet db-0001.example.com in account "), name
        else:
            verb = "missed their backups" if name == "pagerduty" else "missed a backup window"
            assert title.startswith(f"{number} {verb}: db-0001.example.com, db-0002.example.com, "), name
            assert f"db-0010.example.com{more} (account " in title, name
    for name, text in everything(firing).items():
        assert "--snapshot-name" in text, name
        assert "runbooks.md#dropletbackup" in text, name
        assert "db-0011.example.com" not in text, name
    webhook = json.loads(firing["webhook"])
    assert len(webhook["alerts"]) + webhook.get("truncatedAlerts", 0) == count
    assert json.loads(resolved["webhook"])["status"] == "resolved"
    assert json.loads(resolved["pagerduty"])["event_action"] == "resolve"
    for name in ("slack", "mail"):
        assert titles(resolved)[name].startswith("Resolved: DropletBackupOverdue, no longer true of "), name
        assert "missed" not in everything(resolved)[name], name
        assert "--snapshot-name" not in everything(resolved)[name], name
