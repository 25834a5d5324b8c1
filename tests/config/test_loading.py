from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from exporter.config.loading import load_environment, load_file
from exporter.config.model import Account, Config, MaxAge, Poll, RateLimit, TagLabel
from exporter.config.state_location import automatic_state_file
from exporter.config.tokens import TokenSource
from exporter.config.yaml_document import ConfigError
from exporter.fleet.model import Description
from exporter.fleet.selection import Criteria, Selection
from tests.support.configuration_keys import EXAMPLE, configuration_keys

ROOT = Path(__file__).resolve().parents[2]
BAD = ROOT / "tests" / "bad-configs"
TOKEN = "dop_v1_" + "0123456789abcdef" * 4
LEAST = "accounts: [{name: production, token_env: DIGITALOCEAN_ACCESS_TOKEN}]\n"
KEYS = (
    *("accounts", "name", "token_file", "token_env", "api_url"),
    *("select", "exclude", "droplet_ids", "tags", "names", "regions"),
    *("poll", "interval", "timeout", "concurrency", "verify_every"),
    *("rate_limit", "per_minute", "per_hour", "reserve"),
    *("expect_backups", "overdue", "grace", "labels", "max_age", "age", "state_file"),
)


@pytest.fixture(autouse=True)
def token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("DIGITALOCEAN_TOKEN", "DIGITALOCEAN_TOKEN_FILE", "DIGITALOCEAN_API_URL", "NO_SUCH_VARIABLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DIGITALOCEAN_ACCESS_TOKEN", TOKEN)
    monkeypatch.setenv("EMPTY_VARIABLE", "\n")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "config.yaml"


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ConfigError) as caught:
        load_file(path)
    assert str(caught.value).splitlines() == list(caught.value.problems)
    return caught.value.problems


def written(file: Path, text: str) -> Config:
    file.write_text(text)
    return load_file(file)


# Mistakes


@pytest.mark.parametrize("name", sorted(path.name for path in BAD.glob("*.yaml")))
def test_each_mistake_has_the_error_that_its_file_expects(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every bad file gives exactly the lines that its own first comments expect, and shows no secret."""
    monkeypatch.chdir(BAD)
    head = re.match("(?:# .*\n)*", Path(name).read_text())
    assert head is not None
    expected = [line.removeprefix("# expect: ") for line in head[0].splitlines()]
    assert expected
    assert list(problems(Path(name))) == expected
    assert not any("not-to-be-shown" in line or "dop_v1" in line for line in expected)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "the file is empty"),
        (b"# nothing\n---\n...\n", "the file holds no keys"),
        (LEAST.encode("utf-16"), "not UTF-8: line 1 has the byte 0xff"),
        (LEAST.encode() + b"poll: {}\n# caf\xe9\n", "not UTF-8: line 3 has the byte 0xe9"),
        (b"\x00" * 100, "not YAML at line 1, column 1: the character U+0000 cannot stand"),
        (b"#" * (2**20 + 1), "the file is larger than 1 MiB"),
        (b"%YAML 1." + b"9" * 5000 + b"\n--- a\n", "not YAML"),
        (b"[" * 2**19, "nested too deeply"),
    ],
)
def test_what_is_no_configuration_at_all(file: Path, content: bytes, said: str) -> None:
    """A file that cannot be a configuration is an error of one line that names the file."""
    file.write_bytes(content)
    (line,) = problems(file)
    assert line.startswith(said)
    assert f"({file}" in line


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """The error says whether the file is missing, is a folder, or cannot be opened."""
    assert problems(tmp_path / "none.yaml") == (f"the file does not exist; name one that does ({tmp_path}/none.yaml)",)
    assert problems(tmp_path) == (f"this is a directory; name a file ({tmp_path})",)
    (line,) = problems(tmp_path / ("x" * 300))
    assert line.startswith("the file cannot be read: File name too long; ")


@pytest.mark.timeout(10)
def test_a_pipe_without_a_writer(file: Path) -> None:
    """A named pipe without a writer is an error at once, for a reload that waited would never be answered."""
    os.mkfifo(file)
    assert problems(file)[0].startswith("the file is empty; write a configuration")


def test_a_pipe_can_hold_the_configuration() -> None:
    """What a shell's process substitution gives, a configuration decrypted on the fly, can be read."""
    script = (
        "from pathlib import Path; from exporter.config.loading import load_file; "
        "print(load_file(Path('/dev/stdin')).accounts[0].name)"
    )
    found = subprocess.run(
        [sys.executable, "-c", script], input=LEAST, capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert (found.stdout, found.stderr) == ("production\n", "")


def test_aliases_cannot_make_a_small_file_endless(file: Path) -> None:
    """A file whose aliases multiply is refused before they have cost much."""
    names = ", ".join(["x"] * 2000)
    accounts = "".join(f"  - {{name: a{i}, token_env: EMPTY_VARIABLE, select: *s}}\n" for i in range(100))
    file.write_text(f"expect_backups: {{select: &s {{names: [{names}]}}}}\naccounts:\n{accounts}")
    assert problems(file) == (f"more than 100000 values, aliases counted; write fewer ({file})",)


def test_every_place_that_a_token_is_put_in_by_mistake(file: Path, tmp_path: Path) -> None:
    """A token in any key or value of the file, known or not, is in no message, representation or cause."""
    full = EXAMPLE.read_text().replace("/run/secrets/digitalocean", f"{tmp_path}/token")
    (tmp_path / "token").write_text(TOKEN)
    tree = yaml.safe_load(full)
    told = 0
    for spoilt in _spoilt(tree, TOKEN):
        file.write_text(yaml.safe_dump(spoilt, width=10000))
        told += _is_silent(file)
    for text in (
        TOKEN,
        f"*{TOKEN}",
        f"!{TOKEN}!x 1",
        f"a: '{TOKEN}",
        f"a: [{TOKEN}",
        f"&{TOKEN} a\n&{TOKEN} b",
        f"{TOKEN}: {TOKEN}: x",
        f"%TAG {TOKEN} y\n",
        f"{LEAST}poll: {{interval: {'x' * 55}{TOKEN}}}\n",
        f"{LEAST}poll: {{interval: {'0123456789abcdef' * 4}}}\n",
        f"{LEAST}poll: {{concurrency: {'0123456789abcdef' * 4} is cut short}}\n",
        f"{LEAST}{TOKEN[:40]}: a key that is short enough to be shown\n",
        f"{LEAST}expect_backups: {{select: {{names: ['(?P<{TOKEN}']}}}}\n",
    ):
        file.write_text(text)
        told += _is_silent(file)
    assert told > 100


def _spoilt(tree: Any, token: str) -> Iterator[Any]:
    """The tree with the token in one place after the other: as a value, within one, as a key, under a new key."""
    yield token
    yield [token]
    if isinstance(tree, dict):
        yield {**tree, token: "x"}
        yield {**tree, "password": token}
        yield {**tree, "an unknown key": {"list": [token]}}
        for key, value in tree.items():
            for spoilt in _spoilt(value, token):
                yield {**tree, key: spoilt}
    elif isinstance(tree, list):
        for spoilt in _spoilt(tree[0] if tree else "", token):
            yield [spoilt, *tree[1:]]
    elif isinstance(tree, str):
        yield f"{tree}@{token}"
        yield f"{tree}/{token}?x={token}"


def _is_silent(file: Path) -> bool:
    with pytest.raises(ConfigError) as caught:
        load_file(file)
    error: BaseException | None = caught.value
    while error is not None:
        # The parser's own error keeps the text that it parsed; what a log or a terminal shows of it must not.
        shown = f"{error.args if isinstance(error, ConfigError) else ''}{error if error is caught.value else ''}"
        assert "0123456789abcdef0123" not in shown
        error = error.__cause__
    return True


_WORDS = st.sampled_from([*KEYS, "production", "DIGITALOCEAN_ACCESS_TOKEN", "5m", "web-.*", "https://127.0.0.1", "<<"])
_LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8), _WORDS, st.dates(), st.binary(max_size=4)
)
_TREES: st.SearchStrategy[Any] = st.recursive(
    _LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.one_of(_WORDS, _LEAVES), inner, max_size=5)
    ),
    max_leaves=30,
)


@given(tree=_TREES, root=st.sampled_from([None, *KEYS]))
def test_any_tree_loads_or_is_refused(tree: Any, root: str | None, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Any YAML is a configuration or a `ConfigError` with one line for each problem."""
    text = yaml.dump(tree if root is None else {"accounts": [{"name": "a", "token_env": "EMPTY_VARIABLE"}], root: tree})
    _loads_or_is_refused(tmp_path_factory.getbasetemp() / "tree.yaml", text.encode("utf-8", "surrogatepass"))


@given(
    st.one_of(
        st.binary(),
        st.text().map(lambda text: text.encode("utf-8", "surrogatepass")),
        st.lists(st.sampled_from([*KEYS, *":-[]{}&*!|>'\"%@?#,.~\n\t \\", "\n  ", ": ", "a", "1", "<<", "---\n"])).map(
            lambda parts: "".join(parts).encode()
        ),
    )
)
def test_any_bytes_load_or_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    """Any file is a configuration or a `ConfigError` with one line for each problem."""
    _loads_or_is_refused(tmp_path_factory.getbasetemp() / "bytes.yaml", content)


def _loads_or_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    try:
        load_file(file)
    except ConfigError as error:
        caught = error
    else:
        return
    assert caught.problems
    assert str(caught).splitlines() == list(caught.problems)
    assert all(f"({file}" in line and line.encode() for line in caught.problems)


# What a good file means


def test_the_example_is_the_defaults(file: Path, tmp_path: Path) -> None:
    """The example shows each key with the value that it has where it is left out."""
    (tmp_path / "token").write_text(TOKEN)
    source = TokenSource(file=tmp_path / "token")
    found = written(file, EXAMPLE.read_text().replace("/run/secrets/digitalocean", str(source.file)))
    assert found == Config(accounts=(Account("production", source),), state_file=automatic_state_file())
    assert found.state_file is not None
    assert found == written(file, f"accounts: [{{name: production, token_file: {source.file}}}]")


def test_the_defaults_are_those_of_the_contract() -> None:
    """What is left out has the documented value."""
    source = TokenSource(env="X")
    assert Config(accounts=(Account("a", source),)) == Config(
        accounts=(Account("a", source, "https://api.digitalocean.com", Selection()),),
        poll=Poll(interval=300, timeout=10, concurrency=8, verify_every=86400),
        rate_limit=RateLimit(per_minute=250, per_hour=5000, reserve=0.2),
        expect_backups=Selection(exclude=Criteria(tags=frozenset({"k8s"}))),
        grace=14400,
        tag_labels=(),
        max_age=(),
        state_file=None,
    )


def test_the_example_shows_every_key(tmp_path: Path) -> None:
    """No key that the loader knows is missing in the example, and none is there that it does not know."""
    shown = set(re.findall(r"^[# -]*([a-z_]+):(?: |$)", EXAMPLE.read_text(), re.MULTILINE))
    assert shown == set(KEYS) == set().union(*configuration_keys(tmp_path).values())
    for path in BAD.glob("key-*.yaml"):  # where the loader itself lists the keys it knows
        for listed in re.findall("the keys here are (.*) \\(", path.read_text()):
            assert set(listed.split(", ")) <= shown


FULL = r"""
accounts:
  - name: production
    token_file: {token}
    api_url: HTTPS://API.example.com:8443/do//
    select: {{droplet_ids: [1, 2_000, 1], tags: [prod, "5"], names: ['web-\d+'], regions: [nyc3, ams3]}}
    exclude: {{names: ["[a[]", .*-tmp]}}
  - name: "süd 2"
    token_env: DIGITALOCEAN_ACCESS_TOKEN
    api_url: http://[::1]:8080/
poll: {{interval: 90s, timeout: 1m30s, concurrency: 3, verify_every: 1.5h}}
rate_limit: {{per_minute: 1_000, per_hour: 100000, reserve: 0}}
expect_backups: {{select: {{tags: [prod]}}}}
overdue: {{grace: 250ms}}
labels: {{tags: {{team: "team:", exported_job: job-, no: "no:"}}}}
max_age: [{{select: {{tags: ["env:prod"]}}, age: 26h}}, {{select: {{}}, age: 10m}}]
state_file: /var/lib/state.json
"""


def test_every_key_is_taken(file: Path, tmp_path: Path) -> None:
    """What is written is what the configuration holds, every key of it."""
    (tmp_path / "token").write_text(TOKEN)
    assert written(file, FULL.format(token=tmp_path / "token")) == Config(
        accounts=(
            Account(
                "production",
                TokenSource(file=tmp_path / "token"),
                "https://api.example.com:8443/do",
                Selection(
                    Criteria(
                        droplet_ids=frozenset({1, 2000}),
                        tags=frozenset({"prod", "5"}),
                        names=(re.compile(r"web-\d+"),),
                        regions=frozenset({"nyc3", "ams3"}),
                    ),
                    Criteria(names=(re.compile("[a[]"), re.compile(".*-tmp"))),
                ),
            ),
            Account("süd 2", TokenSource(env="DIGITALOCEAN_ACCESS_TOKEN"), "http://[::1]:8080"),
        ),
        poll=Poll(interval=90, timeout=90, concurrency=3, verify_every=5400),
        rate_limit=RateLimit(per_minute=1000, per_hour=100000, reserve=0),
        expect_backups=Selection(Criteria(tags=frozenset({"prod"}))),
        grace=0.25,
        tag_labels=(TagLabel("team", "team:"), TagLabel("exported_job", "job-"), TagLabel("no", "no:")),
        max_age=(MaxAge(Selection(Criteria(tags=frozenset({"env:prod"}))), 93600), MaxAge(Selection(), 600)),
        state_file=Path("/var/lib/state.json"),
    )


def test_a_section_that_is_null_has_its_defaults(file: Path) -> None:
    """A key without a value is as if it were not there."""
    empty = LEAST + "poll:\nrate_limit:\nexpect_backups:\noverdue:\nlabels:\nmax_age:\n"
    nested = LEAST + "poll: {interval: ~}\noverdue: {grace: null}\nlabels: {tags: }\nrate_limit: {reserve: }\n"
    account = (
        "accounts: [{name: production, token_env: DIGITALOCEAN_ACCESS_TOKEN, token_file: , select: , api_url: ~}]\n"
    )
    expected = written(file, LEAST)
    assert [written(file, text) for text in (empty, nested, account)] == [expected] * 3


def test_null_keeps_the_state_nowhere(file: Path) -> None:
    """`state_file: null` switches the state off; without the key the state is kept."""
    assert written(file, LEAST + "state_file: null\n").state_file is None
    assert (
        written(file, LEAST).state_file
        == written(file, LEAST + "state_file: auto\n").state_file
        == automatic_state_file()
    )


def test_expectations_given_replace_the_default_wholly(file: Path) -> None:
    """Any `expect_backups` drops the default's exclusion of Kubernetes nodes; an empty one expects them everywhere."""
    node = Description(name="pool-1", tags=("k8s",))
    assert written(file, LEAST).expect_backups.means(1, node) is False
    assert written(file, LEAST + "expect_backups: {}").expect_backups.means(1, node) is True
    assert written(file, LEAST + "expect_backups: {exclude: {tags: [dev]}}").expect_backups.means(1, node) is True


def test_anchors_and_aliases_work(file: Path) -> None:
    """A selection can be written once and used again."""
    found = written(file, LEAST + "expect_backups: {select: &prod {tags: [prod]}, exclude: *prod}").expect_backups
    assert found.select == found.exclude == Criteria(tags=frozenset({"prod"}))


def test_an_odd_expression_is_taken_as_it_is(file: Path) -> None:
    """A regular expression that Python would only warn of is used, without a warning."""
    (name,) = written(file, LEAST + "expect_backups: {select: {names: ['[[a]-1']}}").expect_backups.select.names
    assert name.fullmatch("[-1")


def test_problems_come_in_the_order_of_the_file(file: Path) -> None:
    """Problems are listed from the top of the file to its end."""
    file.write_text(
        "state_file: 5\npoll: {interval: x}\noverdue: 1\naccounts: [{name: a, token_env: NO_SUCH_VARIABLE}]\n"
    )
    assert [line.rsplit(":", 1)[1] for line in problems(file)] == ["1)", "2)", "3)", "4)"]


@pytest.mark.parametrize(
    ("url", "becomes"),
    [
        ("https://api.digitalocean.com/", "https://api.digitalocean.com"),
        ("https://proxy.example.com/do/", "https://proxy.example.com/do"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://127.1.2.3", "http://127.1.2.3"),
        ("http://localhost:1/x", "http://localhost:1/x"),
        ("http://LocalHost", "http://localhost"),
        ("http://[::1]:9", "http://[::1]:9"),
        ("https://10.0.0.1", "https://10.0.0.1"),
        ("https://do_api", "https://do_api"),
    ],
)
def test_an_address_that_the_token_may_be_sent_to(url: str, becomes: str) -> None:
    """https to anywhere and http to this machine are taken, without a slash at the end."""
    found = load_environment({"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": url})
    assert found.accounts[0].api_url == becomes


@pytest.mark.parametrize(
    "url",
    [
        *("http://api.digitalocean.com", "http://10.0.0.1", "http://[::2]", "http://localhost.example.com"),
        *("http://127.0.0.1.example.com", "http://127.0.0.1@example.com", "http://127.0.0.1\\@example.com"),
        *("https://a:b@example.com", "https://@example.com", "https://example.com/?", "https://example.com/#x"),
        *("https://", "https:example.com", "https:///x", "https://:8080", "//example.com", "file:///etc/passwd"),
        *("https://[::::]", "https://[::1", "https://[localhost]", "https://a..b", "https://-a", "https://" + "a" * 64),
        *("https://example.com:0", "https://example.com:65536", "https://example.com:x", "https://example.com/v2"),
        *("https://exa mple.com", "https://example.com/a\tb", "https://ex\N{SNOWMAN}mple.com"),
        "https://" + "a." * 5000 + "!",
    ],
)
def test_an_address_that_the_token_may_not_be_sent_to(url: str) -> None:
    """Anything that is not plainly https or loopback is refused."""
    with pytest.raises(ConfigError, match=r"\ADIGITALOCEAN_API_URL: .*; .*\Z"):
        load_environment({"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": url})


# The environment


def test_the_environment_makes_one_account(tmp_path: Path) -> None:
    """The variables of DigitalOcean's own tools make an account named default, the first that is set deciding."""
    (tmp_path / "token").write_text("t\n")
    environ = {
        "DIGITALOCEAN_ACCESS_TOKEN": "a",
        "DIGITALOCEAN_TOKEN": "b",
        "DIGITALOCEAN_TOKEN_FILE": str(tmp_path / "token"),
    }
    sources = []
    for name in [*environ]:
        sources.append(load_environment(environ))
        environ[name] = ""
    assert [found.accounts for found in sources] == [
        (Account("default", TokenSource(env="DIGITALOCEAN_ACCESS_TOKEN")),),
        (Account("default", TokenSource(env="DIGITALOCEAN_TOKEN")),),
        (Account("default", TokenSource(file=tmp_path / "token")),),
    ]
    assert sources[0] == Config(accounts=sources[0].accounts)


def test_an_empty_address_is_the_default() -> None:
    """An empty variable counts as unset."""
    found = load_environment({"DIGITALOCEAN_TOKEN": "t", "DIGITALOCEAN_API_URL": ""})
    assert found.accounts[0].api_url == "https://api.digitalocean.com"


def test_no_token_at_all_names_the_remedies() -> None:
    """Without a token the error says every way to give one, and how to look around without."""
    with pytest.raises(ConfigError) as caught:
        load_environment({"DIGITALOCEAN_ACCESS_TOKEN": " ", "PATH": "/bin"})
    (line,) = caught.value.problems
    assert line == (
        "no token: set DIGITALOCEAN_ACCESS_TOKEN to it, or DIGITALOCEAN_TOKEN_FILE to the path of a file "
        "that holds it, or write a configuration and name it by --config.file; "
        "to look around without a token: serve --demo"
    )


def test_all_mistakes_of_the_environment_are_reported(tmp_path: Path) -> None:
    """A missing token file and a bad address are one line each, with the variable's name."""
    source = TokenSource(file=tmp_path / "none")
    with pytest.raises(ConfigError) as caught:
        load_environment({"DIGITALOCEAN_TOKEN_FILE": str(source.file), "DIGITALOCEAN_API_URL": "ftp://x"})
    assert caught.value.problems == (
        'DIGITALOCEAN_API_URL: "ftp://x" is not the address of an API; write it like https://api.digitalocean.com',
        f'DIGITALOCEAN_TOKEN_FILE: account "default" has no token: {source} does not exist; put the token there',
    )


def test_a_token_in_place_of_its_file_names_the_right_variable() -> None:
    """If DIGITALOCEAN_TOKEN_FILE holds a token, the error names the variable that takes it."""
    with pytest.raises(ConfigError, match="looks like the token itself; set DIGITALOCEAN_ACCESS_TOKEN to it instead"):
        load_environment({"DIGITALOCEAN_TOKEN_FILE": TOKEN})


@pytest.mark.parametrize("name", ["DIGITALOCEAN_ACCESS_TOKEN", "DIGITALOCEAN_TOKEN_FILE", "DIGITALOCEAN_API_URL"])
@pytest.mark.parametrize(
    "value", [f"{TOKEN} {TOKEN}", f"https://{TOKEN}@x\ty", f"/{TOKEN}/\x00", f"é{TOKEN}\n\n\udce9"]
)
def test_a_token_in_the_wrong_variable_is_not_shown(name: str, value: str) -> None:
    """A token in the wrong variable is shown in no message."""
    with pytest.raises(ConfigError) as caught:
        load_environment(
            {name: value} if name != "DIGITALOCEAN_API_URL" else {"DIGITALOCEAN_TOKEN": "not shown", name: value}
        )
    assert "0123456789" not in repr(caught.value)
    assert "shown" not in repr(caught.value)
    assert all(problem.isprintable() for problem in caught.value.problems)


def test_importing_the_configuration_costs_little() -> None:
    """`--help` imports this module: what only reading a file needs is not imported with it."""
    script = "import sys, exporter.config; print(*sys.modules.keys() & {'yaml', 'httpx', 'aiohttp', 'difflib'})"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=ROOT, check=True)
    assert found.stdout == "\n"
