"""What the README shows is what the commands print, what the code holds and what was measured."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from exporter.config.loading import load
from tests.examples import README, Example, blocks, examples, outputs, rewritten
from tests.readme import PARTS, made

BLOCKS = blocks(README.read_text())


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: examples(block)[0].line)
def test_example(block: str) -> None:
    """Every command of the README prints, against the demo at a fixed time, what the README shows."""
    for example, output in outputs(block):
        assert example.matches.fullmatch(output), f"$ {example.line}\n{output}"


@pytest.mark.parametrize("document", PARTS, ids=lambda document: document.name)
def test_made_parts(document: Path) -> None:
    """Metrics are described as they are served, and figures given as they were measured last: `make readme`."""
    assert made(document) == document.read_text()


def test_each_command_is_shown() -> None:
    """The README shows every command that ends by itself at work."""
    shown = {example.line.split()[1] for block in BLOCKS for example in examples(block) if "--demo" in example.line}
    assert shown >= {"once", "check", "show", "check-config"}


def test_an_example_that_lies_is_found() -> None:
    """An elision stands for whole lines, and everything else must be there to the letter."""
    assert Example("x", "a\n...\nc\n").matches.fullmatch("a\nb\nb\nc\n")
    assert not Example("x", "a\n...\nc\n").matches.fullmatch("a\nb\nb\nd\n")
    assert not Example("x", "a.c\n").matches.fullmatch("abc\n")
    text = "```console\n$ digitalocean-backup-exporter check-config --demo\nbad\n$ echo $?\n7\n```\n"
    assert rewritten(text) == text.replace("bad", "the demo: good; accounts: demo").replace("7", "0")


def test_links_lead_somewhere() -> None:
    """Every link within the repository leads to a file that is there, or to a heading of the README."""
    text = README.read_text()
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}
    targets = re.findall(r"\]\((?!https?:)([^)#]*)#?([^)]*)\)", text)
    assert targets
    for path, anchor in targets:
        assert (README.parent / path).exists(), path
        assert path or anchor in anchors, anchor


def test_the_configuration_shown_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever copies the README's configuration gets what it says."""
    (block,) = re.findall(r"^```yaml\n(accounts:.*?)^```$", README.read_text(), re.MULTILINE | re.DOTALL)
    token, file = tmp_path / "token", tmp_path / "config.yaml"
    token.write_text("t")
    file.write_text(block.replace("/run/secrets/digitalocean", str(token)))
    monkeypatch.setenv("STAGING_TOKEN", "t")
    assert [account.name for account in load(file).accounts] == ["production", "staging"]
