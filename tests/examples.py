"""The commands in the README's ```console blocks, run against the demo.

`python -m tests.examples` writes what they print into the README.

A block is commands after `$ `, each with what it prints, stdout before stderr. `$ echo $?` is the exit code of the one
before. A line `...` stands for any number of lines, and a block with one is not rewritten.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from exporter import NAME
from tests.support.commands import command

README = Path(__file__).resolve().parent.parent / "README.md"
AT = 1_795_512_600.0
"""2026-11-24 09:30 UTC, a Tuesday."""
HERE = "CET-1CEST,M3.5.0,M10.5.0/3"
"""The reader's time zone, spelt out: not every machine knows zones by name."""
ELISION = "..."

_BLOCK = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Example:
    """One command of a block, and what the README says that it prints."""

    line: str
    expected: str

    @property
    def matches(self) -> re.Pattern[str]:
        parts = re.split(rf"^{re.escape(ELISION)}\n", self.expected, flags=re.MULTILINE)
        return re.compile("(?:.*\n)*".join(map(re.escape, parts)))


def blocks(text: str) -> list[str]:
    """The blocks whose commands are all run against the demo, or ask for an exit code."""
    return [block for block in _BLOCK.findall(text) if all(map(_is_ours, examples(block)))]


def examples(block: str) -> list[Example]:
    parts = re.split(r"^\$ (.*)\n", block, flags=re.MULTILINE)[1:]
    return [Example(line, expected) for line, expected in zip(parts[::2], parts[1::2], strict=True)]


def outputs(block: str) -> Iterator[tuple[Example, str]]:
    """Each command of a block with what it really prints."""
    code = 0
    for example in examples(block):
        if example.line == "echo $?":
            yield example, f"{code}\n"
            continue
        done = command(*shlex.split(example.line)[1:], at=AT, TZ=HERE)
        code = done.code
        yield example, done.out + done.err


def rewritten(text: str) -> str:
    """The text with every block as the commands print it."""
    for block in blocks(text):
        if ELISION not in block.splitlines():
            text = text.replace(block, "".join(f"$ {example.line}\n{output}" for example, output in outputs(block)))
    return text


def _is_ours(example: Example) -> bool:
    words = shlex.split(example.line)
    return example.line == "echo $?" or (words[0] == NAME and "--demo" in words)


if __name__ == "__main__":
    README.write_text(rewritten(README.read_text()))
