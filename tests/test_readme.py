"""What the documents show is what the commands print, what the code holds and what was measured."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from exporter.cli import arguments
from exporter.cli.options import CheckOptions, OnceOptions
from exporter.config.loading import load_file
from exporter.fleet.state import Reason, State
from tests.examples import AT, README, Example, blocks, examples, outputs, rewritten
from tests.readme import PARTS, ROOT, made, measured
from tests.support.commands import command
from tests.support.rule_files import SEVERITIES

TEXT = README.read_text()
BLOCKS = blocks(TEXT)
DOCUMENTS = sorted(
    document
    for folder, pattern in ((ROOT, "*.md"), (ROOT / ".github", "*.md"), (ROOT / "exporter", "**/*.md"))
    for document in folder.glob(pattern)
) + sorted((ROOT / "deploy").rglob("*.md"))
COMMANDS = arguments._parsers()[1].keys()
CONFIG = "/etc/digitalocean-backup-exporter/config.yaml"


def section(heading: str) -> str:
    """The text under a heading of the README, up to the next heading."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found is not None, heading
    return found[1]


def rows(heading: str) -> list[list[str]]:
    """The rows of the table under a heading, as cells, without its head."""
    lines = [line for line in section(heading).splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: examples(block)[0].line)
def test_example(block: str) -> None:
    """Every command of the README prints, against the demo at a fixed time, what the README shows."""
    for example, output in outputs(block):
        assert example.matches.fullmatch(output), f"$ {example.line}\n{output}"


@pytest.mark.parametrize("document", PARTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_made_parts(document: Path) -> None:
    """Metrics are described as they are served, and figures given as they were measured last: `make readme`."""
    assert made(document) == document.read_text()


def test_a_figure_that_was_not_measured_is_found(tmp_path: Path) -> None:
    """A row that the results no longer have is an error that names it, not an empty figure."""
    results = ROOT / "tests" / "benchmarks" / "RESULTS.md"
    assert measured(results, "scrape").endswith(" ms")
    with pytest.raises(LookupError, match=r'RESULTS\.md has no row "tea"'):
        measured(results, "tea")


def test_it_is_short() -> None:
    """The README is read at 2 a.m.: 250 lines at most, and its picture is small."""
    assert len(TEXT.splitlines()) <= 250
    (picture,) = re.findall(r"!\[.*\]\((.*)\)", TEXT)
    assert (README.parent / picture).stat().st_size < 100_000


def test_each_command_is_shown() -> None:
    """The README shows the two questions people ask, answered, and names every command."""
    shown = {example.line.split()[1] for block in BLOCKS for example in examples(block) if "--demo" in example.line}
    assert shown >= {"check", "show"}
    for name in COMMANDS:
        assert re.search(rf"`{name}`|digitalocean-backup-exporter {name}\b", TEXT), name


def test_an_example_that_lies_is_found() -> None:
    """An elision stands for whole lines, and everything else must be there to the letter."""
    assert Example("x", "a\n...\nc\n").matches.fullmatch("a\nb\nb\nc\n")
    assert not Example("x", "a\n...\nc\n").matches.fullmatch("a\nb\nb\nd\n")
    assert not Example("x", "a.c\n").matches.fullmatch("abc\n")
    text = "```console\n$ digitalocean-backup-exporter check-config --demo\nbad\n$ echo $?\n7\n```\n"
    assert rewritten(text) == text.replace("bad", "the demo: good; accounts: demo").replace("7", "0")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: str(document.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    """Every link within the repository leads to a file that is there, and its anchor to a heading of that file."""
    for path, anchor in re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", document.read_text()):
        target = document.parent / path if path else document
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", one).lower().replace(" ", "-") for one in headings}, anchor


def test_the_configuration_shown_is_good(tmp_path: Path) -> None:
    """Whoever copies the README's configuration gets what it says, and check-config prints what it shows."""
    (block,) = re.findall(r"^```yaml\n(accounts:.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    token, file = tmp_path / "token", tmp_path / "config.yaml"
    token.write_text("t")
    file.write_text(block.replace("/etc/digitalocean-backup-exporter/token", str(token)))
    config = load_file(file)
    assert [account.name for account in config.accounts] == ["production"]
    assert config.max_age[0].age == 26 * 3600
    (example,) = [one for text in console_blocks() for one in examples(text) if "check-config" in one.line]
    assert example.line == f"sudo digitalocean-backup-exporter check-config --config.file {CONFIG}"
    done = command("check-config", "--config.file", str(file), at=AT, HOME=str(tmp_path))
    assert done.out.replace(str(file), CONFIG) == example.expected


def console_blocks() -> list[str]:
    return re.findall(r"(?<=^```console\n).*?(?=^```$)", TEXT, re.MULTILINE | re.DOTALL)


def test_the_lines_for_cron_depend_on_nothing_that_cron_lacks() -> None:
    """Their commands have full paths, name the configuration, and are what the parser takes."""
    (block,) = re.findall(r"^```crontab\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    called = re.findall(r"([\w/-]*digitalocean-backup-exporter) ((?:once|check) [^)\n]*)", block)
    once, check = [arguments.parse(shlex.split(words)) for _, words in called]
    assert {program for program, _ in called} == {"/usr/local/bin/digitalocean-backup-exporter"}
    assert isinstance(once, OnceOptions)
    assert isinstance(check, CheckOptions)
    assert once.source.config_file == check.source.config_file == Path(CONFIG)
    assert once.output is not None
    assert f"--collector.textfile.directory={once.output.parent}" in TEXT
    assert "ln -sf /opt/digitalocean-backup-exporter/bin/digitalocean-backup-exporter /usr/local/bin/" in TEXT


def test_the_alerts_are_those_of_the_rules() -> None:
    """The table has every alert that ships, with its severity, in one order with the runbooks."""
    assert [(name.strip("`"), severity) for name, severity, _ in rows("Alerts")] == list(SEVERITIES.items())


def test_the_states_are_those_of_the_code() -> None:
    """The table has every state, the worst first, and every reason for not judging."""
    table = dict(rows("How overdue is judged"))
    assert [word.strip("`") for word in table] == list(State)
    assert re.findall(r"\(`([\w-]+)`\)", table["`unjudged`"]) == list(Reason)


def test_the_exit_codes_are_those_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """The table has a row for each command, and gives a meaning to just the codes that its help names."""
    table = {name.strip("`"): cells for name, *cells in rows("Exit codes")}
    assert table.keys() == COMMANDS
    for name, cells in table.items():
        with pytest.raises(SystemExit):
            arguments.parse([name, "--help"])
        _, _, codes = capsys.readouterr().out.partition("exit codes: ")
        named = re.findall(r"(?:^|;\s+(?:else )?)(\d) ", codes.partition("\n\n")[0])
        assert named == [str(code) for code, meaning in enumerate(cells) if meaning], name
    bad = {state.value for state in State if state.is_bad}
    assert set(re.findall(r"`([\w-]+)`", table["check"][1])) == bad
