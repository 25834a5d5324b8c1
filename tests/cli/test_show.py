"""`show`: one Droplet in full, by its own endpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

from exporter.fleet.model import Window
from exporter.reports import check_report
from exporter.reports.droplet_report import window_words
from tests.support.commands import Done, command, served
from tests.support.lookalike import Fault, Fixture, backup, disabled, policy
from tests.support.world import DAY, HOUR, MONDAY, add, healthy

AT = MONDAY + 9 * HOUR
"""A Monday, 09:00 UTC."""
SCHEMA = json.loads((Path(check_report.__file__).parent / "show.schema.json").read_text())
BERLIN = "CET-1CEST,M3.5.0,M10.5.0/3"


def show(
    account: Fixture, droplet_id: int, *arguments: str, faults: tuple[Fault, ...] = (), **environment: str
) -> Done:
    with served(account, *faults, at=AT) as running:
        return command("show", str(droplet_id), *arguments, at=AT, **{**running.environment, **environment})


def weekly() -> Fixture:
    """A Droplet of a weekly plan, Sundays 20:00, that missed its window of 13 September."""
    account = healthy(2, now=AT)
    sunday = MONDAY - DAY + 20 * HOUR
    made = [backup(700 + week, sunday - week * 7 * DAY + HOUR, size=4.2 + week) for week in (0, 1, 3)]
    record = policy(7, plan="weekly", weekday="SUN", hour=20, next_window=sunday + 7 * DAY, retention_days=28)
    add(account, 7, made, record, name="db", tags=["team:data"])
    return account


class TestTheCard:
    def test_in_words(self) -> None:
        """Policy, next window, backups and verdict are shown in words."""
        done = show(weekly(), 7)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("db (7)\n")
        assert "policy       weekly, Sundays 20:00-24:00 UTC, kept 28 days\n" in done.out
        assert "next window  Sun 4 Oct 20:00-00:00 UTC, in 6 d 11 h\n" in done.out
        assert "backups      3 kept, 16.6 GiB together\n" in done.out
        assert "verdict      protected: backed up on time\n" in done.out

    def test_local_time(self) -> None:
        """The next window is said in local time too, with the day that it is there; not where local time is UTC."""
        done = show(weekly(), 7, TZ=BERLIN)
        assert "Sun 4 Oct 20:00-00:00 UTC, in 6 d 11 h (Sun 4 Oct 22:00-02:00 CEST here)" in done.out
        done = show(weekly(), 7, TZ="AEST-10")
        assert "(Mon 5 Oct 06:00-10:00 AEST here)" in done.out
        assert "here" not in show(weekly(), 7, TZ="GMT0").out

    def test_an_open_window(self) -> None:
        """A window that is open is said to be."""
        done = show(healthy(1, now=AT, hour=8), 1)
        assert "next window  Mon 28 Sep 08:00-12:00 UTC, open for another 3 h" in done.out

    def test_the_line(self) -> None:
        """Backups lie on a line through the retention period by their age."""
        (line,) = [line for line in show(weekly(), 7).out.splitlines() if line.startswith("  |")]
        marks = {place / 59 * 28: mark for place, mark in enumerate(line.strip(" |")) if mark != "-"}
        ages = [28 - age for age in sorted(marks)]
        assert "".join(marks[age] for age in sorted(marks)) == "ooo"
        for found, days in zip(ages, (21.5, 7.5, 0.5), strict=True):
            assert found == pytest.approx(days, abs=28 / 59)

    def test_every_backup(self) -> None:
        """Every backup is listed, the newest first, with its age and size."""
        rows = show(weekly(), 7).out.split("CREATED (UTC)")[1].splitlines()[1:]
        assert [row.split() for row in rows if row] == [
            ["2026-09-27", "21:00:00", "12", "h", "4.2", "GiB", "700"],
            ["2026-09-20", "21:00:00", "7", "d", "12", "h", "5.2", "GiB", "701"],
            ["2026-09-06", "21:00:00", "21", "d", "7.2", "GiB", "703"],
        ]

    def test_off(self) -> None:
        """A Droplet without backups is shown as what it is."""
        account = Fixture()
        add(account, 1, [], disabled(1))
        done = show(account, 1)
        assert done.code == 0
        assert "policy   off\n" in done.out
        assert "backups  none\n" in done.out
        assert "unprotected: backups are off, though expected" in done.out

    def test_age_limit_and_volumes(self, tmp_path: Path) -> None:
        """The configuration's limit of the age is shown, and how many volumes the backups do not hold."""
        account = Fixture()
        made = [backup(1, MONDAY - 2 * DAY + HOUR), backup(2, MONDAY - DAY + HOUR)]
        add(account, 1, made, policy(1, hour=0, next_window=MONDAY + DAY), tags=["env:prod"], volume_ids=["a", "b"])
        file, at = tmp_path / "config.yaml", MONDAY + 5 * HOUR
        with served(account, at=at) as running:
            file.write_text(
                f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\n"
                'max_age: [{select: {tags: ["env:prod"]}, age: 26h}]\n'
            )
            card = command("show", "1", f"--config.file={file}", at=at, TOKEN="t").out
            document = command("show", "1", f"--config.file={file}", "--format=json", at=at, TOKEN="t").json
        assert "age limit    26 hours for the newest backup\n" in card
        assert "volumes      2 attached volumes, which are not in the backups\n" in card
        assert "verdict      stale: the newest backup is 1 d 4 h old, over its limit of 1 d 2 h\n" in card
        (droplet,) = document["droplets"]
        assert droplet["max_age_seconds"] == 26 * HOUR
        assert droplet["stale"] is True
        assert droplet["attached_volumes"] == 2

    def test_an_odd_policy(self) -> None:
        """An unknown plan and a window in the far future are shown."""
        account = healthy(1, now=AT)
        account.policy_map["1"] = {
            "droplet_id": 1,
            "backup_enabled": True,
            "backup_policy": {"plan": "when\nit rains", "retention_period_days": 7},
            "next_backup_window": {"start": "9999-12-31T23:00:00Z", "end": "9999-12-31T23:59:59Z"},
        }
        done = show(account, 1, TZ=BERLIN)
        assert done.code == 0
        assert re.search(r"policy +when\\nit rains, ", done.out)
        assert "unjudged" in done.out

    def test_beyond_the_calendar(self) -> None:
        """A window in years that no calendar has is at an unknown time."""
        assert window_words(Window(1e15, 1e15 + HOUR), AT) == "at an unknown time"


class TestAsking:
    def test_four_requests(self) -> None:
        """It sends four requests, whatever the size of the fleet."""
        with served(healthy(500, now=AT), at=AT) as running:
            assert command("show", "77", at=AT, **running.environment).code == 0
            assert running.api.count() == {"droplet": 1, "policy": 1, "backups": 1, "supported_policies": 1}

    def test_unknown(self) -> None:
        """An id that the account does not have is said to be, in one line, and is exit code 2."""
        with served(healthy(2, now=AT), at=AT) as running:
            done = command("show", "99", at=AT, **running.environment)
            assert running.api.count() == {"droplet": 1, "policy": 1}
        assert (done.code, done.out) == (2, "")
        assert done.err == (
            "digitalocean-backup-exporter: the account default has no droplet 99; "
            "check lists the droplets there are, with their ids\n"
        )

    def test_no_id(self) -> None:
        """What is no number is a name."""
        done = command("show", "web-1", "--demo", at=AT)
        assert done.code == 2
        assert 'no droplet has the name "web-1"; did you mean "web-syd-01"?' in done.err

    def test_only_its_policy_is_there(self) -> None:
        """A Droplet that only a policy names is shown by it."""
        account = Fixture(policies={"5": policy(5, hour=0, next_window=MONDAY + DAY)}, backups={5: None})
        done = show(account, 5)
        assert done.code == 0
        assert "only a policy names it" in done.out
        assert "verdict      gone" in done.out

    def test_part_of_it(self) -> None:
        """What could be read is shown, what could not is said on stderr, and the exit code is 1."""
        done = show(weekly(), 7, faults=(Fault("backups", status=500),))
        assert done.code == 1
        assert "backups      not known\n" in done.out
        assert "unjudged: its backups could not be read" in done.out
        assert "answered 500" in done.err

    def test_nothing(self) -> None:
        """A token that is refused is exit code 2 with the reason, said once, not an unknown Droplet."""
        done = show(weekly(), 7, DIGITALOCEAN_TOKEN="another")
        assert (done.code, done.out) == (2, "")
        assert "no droplet" not in done.err
        assert len(done.err.splitlines()) == 1
        assert "401" in done.err
        assert done.err.endswith("; the token is from the environment variable DIGITALOCEAN_TOKEN\n")

    def test_overdue_by_evidence(self, tmp_path: Path) -> None:
        """What a state file keeps of the Droplet counts, and the file is not touched."""
        account = healthy(1, now=AT)
        add(account, 5, [backup(1, MONDAY - 5 * DAY + HOUR)], policy(5, hour=0, next_window=MONDAY + DAY))
        state, file = tmp_path / "state", tmp_path / "config.yaml"
        with served(account, at=AT - 5 * DAY) as running:
            file.write_text(
                f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\nstate_file: {state}\n"
            )
            command("check", f"--config.file={file}", at=AT - 5 * DAY, TOKEN="t")
            kept = state.read_bytes()
            account.backup_lists[5] = []
            running.api.now = lambda: AT
            done = command("show", "5", f"--config.file={file}", at=AT, TOKEN="t")
        assert "5 missed" in done.out
        assert done.code == 0
        assert state.read_bytes() == kept


class TestAccounts:
    @pytest.mark.parametrize("droplet_id", [1, 2])
    def test_each_is_asked(self, tmp_path: Path, droplet_id: int) -> None:
        """Of several accounts each is asked, and the one that has it shows it."""
        file = tmp_path / "config.yaml"
        with served(healthy(1, now=AT), at=AT) as first, served(healthy(1, now=AT, first_id=2), at=AT) as second:
            one, two = (
                {"name": name, "token_env": "TOKEN", "api_url": running.api.url}
                for name, running in (("one", first), ("two", second))
            )
            file.write_text(json.dumps({"accounts": [one, two]}))
            done = command("show", str(droplet_id), f"--config.file={file}", at=AT, TOKEN="t")
            assert done.code == 0
            assert f"account      {'one' if droplet_id == 1 else 'two'}\n" in done.out
            done = command("show", "3", f"--config.file={file}", at=AT, TOKEN="t")
            assert done.code == 2
            assert "none of the accounts one, two has a droplet 3" in done.err
            done = command("show", str(droplet_id), f"--config.file={file}", "--account=two", at=AT, TOKEN="t")
            assert done.code == (2 if droplet_id == 1 else 0)

    def test_one_of_them_fails(self, tmp_path: Path) -> None:
        """An account that cannot be asked is said; it spoils nothing if another shows the Droplet."""
        file = tmp_path / "config.yaml"
        with served(healthy(1, now=AT), at=AT) as running:
            accounts = [
                {"name": "good", "token_env": "TOKEN", "api_url": running.api.url},
                {"name": "bad", "token_env": "OTHER", "api_url": running.api.url},
            ]
            file.write_text(json.dumps({"accounts": accounts}))
            done = command("show", "1", f"--config.file={file}", at=AT, TOKEN="t", OTHER="x")
            assert done.code == 0
            assert "bad: " in done.err
            done = command("show", "2", f"--config.file={file}", at=AT, TOKEN="t", OTHER="x")
            assert done.code == 2
            assert "the account good has no droplet 2" in done.err

    def test_not_selected(self, tmp_path: Path) -> None:
        """A Droplet that the configuration leaves out is shown, with a note that it is left out."""
        file = tmp_path / "config.yaml"
        with served(healthy(1, now=AT), at=AT) as running:
            account = {"name": "a", "token_env": "TOKEN", "api_url": running.api.url, "select": {"tags": ["other"]}}
            file.write_text(json.dumps({"accounts": [account]}))
            done = command("show", "1", f"--config.file={file}", at=AT, TOKEN="t")
        assert done.code == 0
        assert "selected     no: the configuration leaves it out" in done.out


class TestJson:
    @pytest.mark.parametrize("droplet_id", [441000000, 441000289, 441000476, 441000544, 441000561, 441000578])
    def test_schema(self, droplet_id: int) -> None:
        """Droplets of the demo, odd ones too, are documents of the schema, and every key is described there."""
        done = command("show", str(droplet_id), "--demo", "--format=json", at=AT)
        jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(
            done.json
        )
        (droplet,) = done.json["droplets"]
        assert droplet["id"] == droplet_id
        assert set(droplet) == set(SCHEMA["$defs"]["ShownDropletDocument"]["properties"])

    def test_backups(self) -> None:
        """Every backup is there, the newest first."""
        (droplet,) = show(weekly(), 7, "--format=json").json["droplets"]
        assert [one["id"] for one in droplet["backups"]] == [700, 701, 703]
        assert droplet["backups"][0]["age_seconds"] == 12 * HOUR
        assert droplet["state"] == "protected"

    def test_unknown(self) -> None:
        """An unknown id is a document too, with no droplet in it."""
        done = show(weekly(), 99, "--format=json")
        jsonschema.validate(done.json, SCHEMA)
        assert done.code == done.json["exit_code"] == 2
        assert done.json["droplets"] == []


class TestByName:
    """A Droplet by the name that alerts lead with."""

    def test_its_exact_name(self) -> None:
        """The Droplet of this name is shown as by its id."""
        with served(weekly(), at=AT) as running:
            done = command("show", "db", at=AT, **running.environment)
        assert (done.code, done.err) == (0, "")
        assert done.out.startswith("db (7)\n")

    def test_none(self) -> None:
        """A name that no Droplet has is an error with the nearest there is."""
        with served(weekly(), at=AT) as running:
            done = command("show", "dbb", at=AT, **running.environment)
        assert (done.code, done.out) == (2, "")
        assert 'no droplet has the name "dbb"; did you mean "db"?' in done.err

    @pytest.mark.parametrize("odd", ["an outage", "a record", "every record"])
    def test_not_all_are_listed(self, odd: str) -> None:
        """If some Droplets could not be listed, it does not say that none has the name; one cause is told once."""
        account = weekly()
        if odd == "every record":
            account.droplet_list.clear()
        if odd != "an outage":
            account.droplet_list.append({"id": 8, "name": ["dbb"]})
        faults = [Fault(status=503)] if odd == "an outage" else []
        with served(account, *faults, at=AT) as running:
            done = command("show", "dbb", at=AT, **running.environment)
        assert (done.code, done.out) == (2, "")
        *causes, last = done.err.splitlines()
        assert len(causes) == 1
        assert 'no droplet with the name "dbb" is known, but not all could be listed; ' in last

    def test_several(self) -> None:
        """If several have it, their ids are listed, and none is shown."""
        account = weekly()
        add(account, 8, [], disabled(8), name="db")
        with served(account, at=AT) as running:
            done = command("show", "db", at=AT, **running.environment)
        assert (done.code, done.out) == (2, "")
        assert '2 droplets have the name "db": 7 (account default), 8 (account default); show one by its id' in done.err


def test_an_outage() -> None:
    """While the API cannot be asked, what the state file knows is shown, and the exit code is 2."""
    with served(weekly(), at=AT) as running:
        assert command("check", at=AT, **running.environment).code == 0
        running.api.faults.append(Fault(status=503))
        done = command("show", "7", at=AT + 2 * HOUR, **running.environment)
    assert done.code == 2
    assert "the API could not be asked; this is what the state file knows" in done.err
    assert "3 kept, 16.6 GiB together\n" in done.out
