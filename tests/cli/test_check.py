"""`check`: every Droplet with its verdict, for people, pipes and scripts."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from exporter.fleet.state import State
from exporter.polling.state_file import AccountState, StateFile
from exporter.reports import check_report
from tests.support.commands import Done, command, served
from tests.support.lookalike import Fault, Fixture, backup, disabled, policy
from tests.support.world import DAY, HOUR, MONDAY, add, healthy

AT = MONDAY + 9 * HOUR
"""A Monday, 09:00 UTC."""
SCHEMA = json.loads((Path(check_report.__file__).parent / "check.schema.json").read_text())


def check(
    account: Fixture, *arguments: str, faults: tuple[Fault, ...] = (), at: float = AT, **environment: str
) -> Done:
    with served(account, *faults, at=at) as running:
        return command("check", *arguments, at=at, **{**running.environment, **environment})


def check_again(account: Fixture, *arguments: str, at: float, since: float = MONDAY - 3 * DAY + 4 * HOUR) -> Done:
    """A check at `at` that remembers one at `since`: only windows since a Droplet was first seen can be missed."""
    with served(account, at=since) as running:
        command("check", at=since, **running.environment)
        running.api.now = lambda: at
        return command("check", *arguments, at=at, **running.environment)


def daily(account: Fixture, droplet_id: int, *ages: int, made: Mapping[str, Any] | None = None, **over: Any) -> None:
    """A Droplet whose windows open at midnight, with backups of so many days ago."""
    backups = [backup(droplet_id * 1000 + age, MONDAY - age * DAY + HOUR) for age in ages]
    given = {"next_window": MONDAY + DAY, "retention_days": 7, **(made or {})}
    add(account, droplet_id, backups, policy(droplet_id, hour=0, **given), **over)


class TestExitCode:
    def test_all_protected(self) -> None:
        """A healthy fleet: a table of it, one sentence, and 0."""
        done = check(healthy(3, now=AT))
        assert done.code == 0
        assert done.err == ""
        assert set(done.states().values()) == {"protected"}
        assert done.out.endswith("\nAll 3 droplets are protected.\n")

    def test_overdue(self) -> None:
        """One missed window is reported in words, with exit code 1."""
        account = healthy(2, now=AT)
        daily(account, 7, 1, 2, 3)
        done = check_again(account, at=MONDAY + 20 * HOUR)
        assert done.code == 1
        assert done.rows[0][:2] == ["overdue", "7"]
        assert "no backup since yesterday's window, 1 missed" in done.out
        assert "1 of 3 droplets needs attention: 1 overdue." in done.out

    def test_worst_first(self) -> None:
        """Missed windows come before one, then what cannot be judged, then unprotected."""
        account = Fixture()
        daily(account, 1, 0, 1, 2)
        add(account, 2, [], disabled(2))
        add(account, 3, [], {"droplet_id": 3})
        daily(account, 5, 1, 2, 3)
        daily(account, 6, 3, 4, 5)
        done = check_again(account, at=MONDAY + 20 * HOUR)
        assert [row[0] for row in done.rows] == [
            "missing",
            "overdue",
            "unjudged",
            "unprotected",
            "protected",
        ]
        assert done.code == 1

    def test_never_taken_is_not_at_once(self) -> None:
        """A new Droplet waits for its first window; two intervals later, and some hours, none was ever taken."""
        account = Fixture()
        daily(account, 1, created_at=AT - 8 * HOUR)
        daily(account, 2, created_at=AT - 3 * DAY)
        weekly = policy(3, plan="weekly", weekday="MON", hour=0, next_window=MONDAY + 7 * DAY)
        add(account, 3, [], weekly, created_at=AT - 8 * HOUR)
        add(account, 4, [], {**weekly, "droplet_id": 4}, created_at=AT - 16 * DAY)
        done = check(account)
        assert done.states() == {"1": "waiting", "2": "never-taken", "3": "waiting", "4": "never-taken"}

    def test_unjudged(self) -> None:
        """A list that had to be read and could not be is exit code 2, and says why on stderr."""
        account = healthy(2, now=AT)
        done = check(account, faults=(Fault("backups", droplet_id=2, status=500), Fault("images", status=403)))
        assert done.code == 2
        assert done.states()["2"] == "unjudged"
        assert "answered 500" in done.err

    def test_what_is_overdue_outweighs_what_is_not_known(self) -> None:
        """An overdue Droplet makes exit code 1, also if others could not be judged."""
        account = Fixture()
        daily(account, 1, 3, 4, 5)
        add(account, 2, [], {"droplet_id": 2})
        assert check(account).code == 1

    def test_an_incomplete_listing(self) -> None:
        """Droplets may be missing from an incomplete listing: what was learned is shown, and the exit code is 2."""
        account = healthy(2, now=AT)
        done = check(account, faults=(Fault("droplets", status=500),), at=AT)
        assert done.code == 2
        assert "the listings are incomplete" in done.out
        assert done.out.endswith("\nAll 2 droplets are protected, as far as the droplets could be listed.\n")

    @pytest.mark.parametrize("odd", [{"name": 7}, None], ids=["its id is known", "without an id"])
    def test_a_droplet_that_is_not_understood(self, odd: dict[str, Any] | None) -> None:
        """A record that cannot be understood may hide a Droplet that is not protected: all is well is not said."""
        account = healthy(3, now=AT)
        account.droplet_list[1] = None if odd is None else {"id": 2, **odd}
        del account.policy_map["2"]
        done = check(account, at=AT)
        assert done.code == 2
        assert done.states().keys() == {"1", "3"}
        assert (
            "Note: default: the records of 1 droplet could not be understood, so these are missing here.\n" in done.out
        )
        assert done.out.endswith("\nAll 2 droplets are protected, as far as the droplets could be listed.\n")
        assert done.err.count("records left out") == 1

    def test_a_record_that_is_not_understood_of_a_droplet_that_is_known(self) -> None:
        """If the state file knows the Droplet, nothing is missing."""
        account = healthy(3, now=AT)
        with served(account, at=AT) as running:
            assert command("check", at=AT, **running.environment).code == 0
            account.droplet_list[1], account.policy_map["2"] = None, None
            done = command("check", at=AT, **running.environment)
        assert done.code == 0
        assert set(done.states()) == {"1", "2", "3"}

    def test_unknown_tags(self) -> None:
        """If the API shows no tags, a note says what that means and what to do; no Droplet is called unprotected."""
        account = healthy(1, now=AT)
        add(account, 2, [], disabled(2))
        for record in account.droplet_list:
            del record["tags"]
        done = check(account)
        assert done.code == 2
        assert done.states() == {"1": "protected", "2": "unjudged"}
        note = "the API does not send tags, so what depends on them is not known; give the token the scope tag:read"
        assert f"Note: default: {note}.\n" in done.out
        assert done.err.count("tag:read") == 1

    def test_clocks_that_differ(self) -> None:
        """Where the clocks differ nothing is judged, and the verdict says by how much and what to do."""
        with served(healthy(1, now=AT), at=AT + 2 * DAY) as running:
            done = command("check", at=AT, **running.environment)
        assert done.code == 2
        assert "the API's clock is 2 days ahead of this host's: set the clock\n" in done.out
        note = "the API's clock is 2 days ahead of this host's, so nothing is judged until they agree; set the clock"
        assert f"Note: default: {note}.\n" in done.out

    def test_no_droplets(self) -> None:
        """A fleet without Droplets is not reported as good: often the token belongs to another team."""
        done = check(Fixture())
        assert done.code == 2
        assert done.out == (
            "Note: default: no droplets; if there should be some, the token may be another team's, "
            "or select leave them out.\nThere is no droplet to look at.\n"
        )

    def test_nothing_learned(self) -> None:
        """Nothing is printed but why: one line that names the remedy."""
        done = check(healthy(1), DIGITALOCEAN_TOKEN="another")
        assert (done.code, done.out) == (2, "")
        assert "401" in done.err
        assert "the environment variable DIGITALOCEAN_TOKEN" in done.err
        assert "another" not in done.err
        assert len(done.err.splitlines()) == 1

    def test_kubernetes_nodes(self) -> None:
        """Droplets that need no backups do not spoil the verdict."""
        account = healthy(1, now=AT)
        add(account, 9, [], disabled(9), tags=["k8s"])
        done = check(account)
        assert done.code == 0
        assert done.states()["9"] == "not-expected"


class TestChoosing:
    @pytest.fixture
    def account(self) -> Fixture:
        account = Fixture()
        daily(account, 1, 0, 1, 2, tags=["env:prod"])
        daily(account, 2, 3, 4, 5, tags=["env:stage"])
        daily(account, 3, 1, 2, 3, tags=["env:prod"])
        add(account, 4, [], disabled(4), tags=["env:dev"])
        return account

    def test_only(self, account: Fixture) -> None:
        """`--only` shows and judges only those states; overdue selects missing, too."""
        done = check_again(account, "--only", "overdue,unprotected", at=MONDAY + 20 * HOUR)
        assert done.states() == {"2": "missing", "3": "overdue", "4": "unprotected"}
        assert "3 of 4 droplets need attention: 1 missing, 1 overdue, 1 unprotected (3 shown).\n" in done.out
        assert check_again(account, "--only=protected", at=MONDAY + 20 * HOUR).code == 0
        assert check_again(account, "--only=missing", at=MONDAY + 20 * HOUR).states() == {"2": "missing"}

    def test_only_stale(self, account: Fixture) -> None:
        """A newest backup that is too old is a state of its own."""
        done = check(account, "--only=stale")
        assert done.states() == {"2": "stale"}
        assert done.code == 1

    def test_only_what_there_is(self, account: Fixture) -> None:
        """A word that is not a state is an error that lists the states."""
        done = check(account, "--only", "overdue,late")
        assert done.code == 2
        assert '"late" is not a state; write one of missing, overdue' in done.err

    def test_tag(self, account: Fixture) -> None:
        """`--tag` looks at Droplets with that tag, several times for any of several."""
        done = check_again(account, "--tag", "env:prod", at=MONDAY + 20 * HOUR)
        assert done.states() == {"1": "protected", "3": "overdue"}
        assert set(check(account, "--tag=env:prod", "--tag=env:dev").states()) == {"1", "3", "4"}

    def test_a_tag_that_nothing_has(self, account: Fixture) -> None:
        """A misspelt tag must not look like a healthy fleet."""
        done = check(account, "--tag", "env:prd")
        assert (done.code, done.out) == (2, "")
        assert "no droplet has the tag env:prd" in done.err
        done = check(account, "--tag", "env:prd", "--format=json")
        assert done.code == done.json["exit_code"] == 2
        assert done.json["droplets"] == []


class TestAccounts:
    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        return tmp_path / "config.yaml"

    def test_several(self, file: Path) -> None:
        """Several accounts make one table with a column for the account; `--account` asks only one."""
        with served(healthy(1, now=AT), at=AT) as first, served(healthy(1, now=AT, first_id=2), at=AT) as second:
            file.write_text(
                json.dumps(
                    {
                        "accounts": [
                            {"name": name, "token_env": "TOKEN", "api_url": running.api.url}
                            for name, running in (("one", first), ("two", second))
                        ]
                    }
                )
            )
            done = command("check", f"--config.file={file}", at=AT, TOKEN="t")
            assert sorted(row[1:3] for row in done.rows) == [["1", "one"], ["2", "two"]]
            first.api.forget()
            done = command("check", f"--config.file={file}", "--account", "two", at=AT, TOKEN="t")
            assert done.states() == {"2": "protected"}
            assert not first.api.requests
            done = command("check", f"--config.file={file}", "--account", "three", at=AT, TOKEN="t")
            assert (done.code, done.out) == (2, "")
            assert 'there is no account "three"; the accounts are one, two' in done.err


class TestMemory:
    """What a state file makes of a command that asks once."""

    @pytest.fixture
    def stale(self) -> Fixture:
        """A Droplet with a gap, whose backups then stopped."""
        account = healthy(1, now=AT)
        daily(account, 5, 4, 6)
        return account

    def test_without_one(self, stale: Fixture) -> None:
        """Without a state file no missed window is found, but the report says that the newest backup is too old."""
        done = check(stale)
        assert done.code == 1
        assert done.states()["5"] == "stale"
        assert "nothing is remembered from before" in done.out

    def test_demo(self) -> None:
        """The demo counts as watched before, so its report does not say that it is a first look."""
        done = command("check", "--demo", at=AT)
        assert " missed\n" in done.out
        assert "nothing is remembered" not in done.out

    def test_with_one(self, stale: Fixture, tmp_path: Path) -> None:
        """A check remembers what the last one saw: a window later it knows that one was missed."""
        with served(stale, at=AT) as running:
            file = tmp_path / "config.yaml"
            file.write_text(
                f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\n"
                f"state_file: {tmp_path / 'state'}\n"
            )
            first = command("check", f"--config.file={file}", at=AT, TOKEN="t")
            assert first.states()["5"] == "stale"
            running.api.now = lambda: AT + DAY
            second = command("check", f"--config.file={file}", at=AT + DAY, TOKEN="t", NO_COLOR="1")
        assert second.states()["5"] == "overdue"
        assert second.code == 1
        assert "single look" not in second.out
        assert "remembered" not in second.out
        assert second.err == ""

    def test_a_change_that_was_seen(self, tmp_path: Path) -> None:
        """Whoever remembers the policy knows that it was changed, and takes the windows before that for none."""
        account = Fixture()
        made = [backup(1 + week, MONDAY - (3 + 7 * week) * DAY + HOUR) for week in (0, 1, 2)]
        add(account, 1, made, policy(1, plan="weekly", weekday="FRI", hour=0, next_window=MONDAY + 4 * DAY))
        with served(account, at=AT - DAY) as running:
            file = tmp_path / "config.yaml"
            file.write_text(
                f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\n"
                f"state_file: {tmp_path / 'state'}\n"
            )
            assert command("check", f"--config.file={file}", at=AT - DAY, TOKEN="t").code == 0
            account.policy_map["1"] = policy(1, hour=0, next_window=MONDAY + DAY)
            running.api.now = lambda: AT
            assert command("check", f"--config.file={file}", at=AT, TOKEN="t").code == 0
            (tmp_path / "state").unlink()
            assert command("check", f"--config.file={file}", at=AT, TOKEN="t").states()["1"] == "stale"

    def test_a_running_exporter_holds_it(self, stale: Fixture, tmp_path: Path) -> None:
        """The state file of a running exporter is read and not written, and no warning is logged."""
        state = tmp_path / "state"
        with served(stale, at=AT) as running:
            file = tmp_path / "config.yaml"
            file.write_text(
                f"accounts: [{{name: a, token_env: TOKEN, api_url: '{running.api.url}'}}]\nstate_file: {state}\n"
            )
            command("check", f"--config.file={file}", at=AT, TOKEN="t")
            kept = state.read_bytes()
            holder = StateFile(state)
            try:
                running.api.now = lambda: AT + DAY
                done = command("check", f"--config.file={file}", at=AT + DAY, TOKEN="t")
            finally:
                holder.close()
        assert done.states()["5"] == "overdue"
        assert done.err == ""
        assert state.read_bytes() == kept

    async def test_an_exporter_started_meanwhile(self, tmp_path: Path) -> None:
        """An exporter that starts during the poll of a command gets the state file."""
        polling_once = StateFile(tmp_path / "state", short_lived=True)
        exporter = StateFile(tmp_path / "state")
        await exporter.save("a", AccountState("https://api.example", []))
        kept = (tmp_path / "state").read_bytes()
        await polling_once.save("b", AccountState("https://api.example", []))
        assert (tmp_path / "state").read_bytes() == kept
        exporter.close()
        await polling_once.save("b", AccountState("https://api.example", []))
        assert b'"b"' in (tmp_path / "state").read_bytes()
        StateFile(tmp_path / "state").close()


class TestJson:
    def test_schema(self) -> None:
        """The report on the demo's fleet is valid by the schema, which describes every key."""
        done = command("check", "--demo", "--format=json", at=AT)
        document = done.json
        jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER).validate(
            document
        )
        assert done.code == document["exit_code"] == 1
        assert set(SCHEMA["$defs"]["DropletDocument"]["properties"]) == set(document["droplets"][0])
        assert set(SCHEMA["properties"]) == set(document)
        assert set(document["counts"]) == {state.value for state in State}
        assert sum(document["counts"].values()) == len(document["droplets"]) == 39
        assert 'кафе "résumé" C:\\tmp\n東京 🦀 {a="b"}' in {droplet["name"] for droplet in document["droplets"]}

    def test_figures(self) -> None:
        """Instants, ages and sizes are those of the API."""
        account = Fixture()
        daily(account, 1, 0, 1, tags=["web"])
        (droplet,) = check(account, "--format=json").json["droplets"]
        assert droplet["newest_backup"] == {
            "id": 1000,
            "created_at": "2026-09-28T01:00:00Z",
            "age_seconds": 8 * HOUR,
            "size_bytes": round(2.34 * 1024**3),
        }
        assert droplet["next_window"] == {"start": "2026-09-29T00:00:00Z", "end": "2026-09-29T04:00:00Z"}
        assert droplet["policy"]["retention_days"] == 7
        assert droplet["missed_windows"] == 0
        assert droplet["backups_kept"] == 2
        assert droplet["tags"] == ["web"]

    def test_verdict(self) -> None:
        """Misses, the windows they are, the limit of the age, lost backups and volumes are in a droplet's object."""
        account = Fixture()
        daily(account, 1, 3, 4, 5, volume_ids=["a", "b"])
        with served(account, at=AT - 3 * DAY) as running:
            command("check", at=AT - 3 * DAY, **running.environment)
            del (account.backup_lists[1] or [])[0]
            account.droplet_list[0]["backup_ids"].pop(0)
            running.api.now = lambda: AT
            (droplet,) = command("check", "--format=json", at=AT, **running.environment).json["droplets"]
        assert droplet["state"] == "missing"
        assert droplet["reason"] is None
        assert droplet["missed_windows"] == 3
        assert droplet["missed_window_starts"] == [f"2026-09-{day}T00:00:00Z" for day in (26, 27, 28)]
        assert droplet["max_age_seconds"] == round(56 * HOUR + 2.34 * 180)
        assert droplet["stale"] is True
        assert droplet["lost_backups"] == 1
        assert droplet["attached_volumes"] == 2

    def test_reason(self) -> None:
        """A Droplet that cannot be judged has a reason, and neither missed windows nor a verdict on its age."""
        account = Fixture()
        add(account, 1, [backup(1, MONDAY)], policy(1, plan="usage_based_daily"))
        (droplet,) = check(account, "--format=json").json["droplets"]
        assert droplet["state"] == "unjudged"
        assert droplet["reason"] == "no-schedule"
        assert droplet["missed_windows"] is droplet["missed_window_starts"] is droplet["max_age_seconds"] is None
        assert droplet["stale"] is None

    def test_what_is_not_known_is_null(self) -> None:
        """A record that says next to nothing makes a droplet of nulls, and of no zeros."""
        account = Fixture()
        add(account, 1, [backup(1, MONDAY, size=None)], {"droplet_id": 1, "backup_enabled": True})
        (droplet,) = check(account, "--format=json").json["droplets"]
        assert droplet["backups_size_bytes"] is None
        assert droplet["newest_backup"]["size_bytes"] is None
        assert droplet["missed_windows"] is None
        assert droplet["next_window"] is None
        assert droplet["policy"]["plan"] is None

    def test_nothing_learned(self) -> None:
        """A script gets its document even then, and it says that it is not complete."""
        done = check(healthy(1), "--format=json", DIGITALOCEAN_TOKEN="another")
        jsonschema.validate(done.json, SCHEMA)
        assert done.code == done.json["exit_code"] == 2
        assert done.json["complete"] is False
        assert "401" in done.json["accounts"][0]["problems"][0]


def test_odd_names_stay_in_their_line() -> None:
    """A name cannot break its line, drive a terminal, or be taken for markup."""
    account = Fixture()
    daily(account, 1, 0, 1, name="a\nb\x1b[31m [red]c[/red] \u202e")
    done = check(account)
    assert "a\\nb\\x1b[31m [red]c[/red] \\u202e" in done.out
    assert len(done.rows) == 1


def test_json_drives_no_terminal() -> None:
    """DEL, C1 controls and characters that turn text round are escaped in JSON; the name stays the same."""
    account, name = Fixture(), "a\x7fb\x9b31mc\u202ed\u2066e"
    daily(account, 1, 0, 1, name=name)
    done = check(account, "--format=json")
    assert done.json["droplets"][0]["name"] == name
    assert r"a\u007fb\u009b31mc\u202ed\u2066e" in done.out


def test_secrets_are_not_shown() -> None:
    """A token that the API refuses is in no output at any log level."""
    done = check(healthy(1), "--log.level=debug", DIGITALOCEAN_TOKEN="dop_v1_0123456789abcdef")
    assert "0123456789abcdef" not in done.out + done.err
