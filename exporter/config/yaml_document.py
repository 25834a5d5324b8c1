"""A YAML file as values that know their key and line, so that every mistake in it is told at once, with its place.

Nothing here echoes the value of a key that the file should not have, or anything that looks like a token.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.config.tokens import looks_like_token, redact

if TYPE_CHECKING:
    from yaml import MarkedYAMLError
    from yaml.nodes import MappingNode, ScalarNode, SequenceNode

    Node = ScalarNode | SequenceNode | MappingNode

_LARGEST = 2**20
"""Bytes. Room for tens of thousands of Droplet ids, and an end to reading what is no configuration at all."""

_MOST = 100_000
"""Values. More than are ever written into such a file; aliases can multiply them."""


class ConfigError(Exception):
    """All that is wrong with a configuration, one line each: the key, what was found, the remedy, the file and line."""

    def __init__(self, *problems: str) -> None:
        self.problems = tuple(redact(problem) for problem in problems)
        super().__init__("\n".join(self.problems))


@dataclass(slots=True)
class Document:
    """A file that is being read, and the mistakes found in it so far."""

    path: Path
    problems: list[tuple[int, str]] = field(default_factory=list)
    values: int = 0

    def check(self) -> None:
        """Raises `ConfigError` with every mistake noted, in the order of the file."""
        if self.problems:
            raise ConfigError(*(text for _, text in sorted(self.problems, key=lambda problem: problem[0])))


@dataclass(frozen=True, slots=True)
class Value:
    """One value, the line and the path of keys that lead to it, and the document it stands in.

    Its methods raise `ValueError` where the value itself is wrong; mistakes further down are noted in the document.
    """

    document: Document
    node: Node
    key: str = ""
    line: int = 1

    @property
    def is_null(self) -> bool:
        return self.node.tag == "tag:yaml.org,2002:null"

    @property
    def is_text(self) -> bool:
        return self.node.id == "scalar" and self.node.tag == _TEXT

    @property
    def written(self) -> str | None:
        """A number as it stands in the file; `None` of anything else."""
        return self.node.value if self.node.tag in _NUMBERS else None

    @property
    def found(self) -> str:
        """The value as an error shows it: scalars as they are written, of anything else the kind."""
        if self.node.id != "scalar":
            kind = "a list" if self.node.id == "sequence" else "a mapping"
            return kind if self.node.tag in _COLLECTIONS else f"{kind} with a tag"
        if self.is_null:
            return "nothing"
        text: str = self.node.value
        return text if not self.is_text and re.fullmatch(r"[\w.:+-]{1,40}", text) else quoted(text)

    def note(self, problem: str, key: str = "") -> None:
        """Adds a mistake to the document's: of this value, or of a key that it should have."""
        place = ".".join(filter(None, (self.key, key)))
        what = f"{place}: {problem}" if place else problem
        self.document.problems.append((self.line, f"{what} ({self.document.path}:{self.line})"))

    def text(self) -> str:
        """A string that can stand in a log, a label or a path."""
        if not self.is_text:
            remedy = "" if self.is_null or self.node.id != "scalar" else f": {quoted(self.node.value)}"
            raise ValueError(f"{self.found} is not a string; write one in quotes{remedy}")
        return plain(self.node.value)

    def entries(self) -> dict[str, Value]:
        """The values of a mapping. Of a key written twice the first counts."""
        if self.node.id != "mapping" or self.node.tag != "tag:yaml.org,2002:map":
            raise ValueError(f"{self.found} is not a mapping; write its keys below it, indented")
        found: dict[str, Value] = {}
        for name, child in self.node.value:
            line = name.start_mark.line + 1
            if name.id != "scalar":
                place = Value(self.document, name, self.key, line)
                place.note(f"{place.found} cannot be a key; write a word")
                continue
            step = name.value if re.fullmatch(r"[\w-]{1,60}", name.value) else quoted(name.value)
            value = self._child(child, f".{step}", line)
            if name.value in found:
                value.note(f"written twice, first in line {found[name.value].line}; keep one")
            found.setdefault(name.value, value)
        return found

    def mapping(
        self,
        schema: Mapping[str, Callable[[Value], Any]],
        refused: Mapping[str, str] | None = None,
        *,
        nulls: bool = False,
    ) -> dict[str, Any]:
        """What the schema's functions make of the values. Keys that are missing are left out, and `null` unless asked.

        `refused` are keys that others know and we do not, with what to say of each.
        """
        found: dict[str, Any] = {}
        for key, value in self.entries().items():
            if refused and key in refused:
                value.note(refused[key])
            elif key not in schema:
                value.note(_unknown(key, schema))
            elif nulls or not value.is_null:
                found[key] = value.attempt(schema[key])
        return found

    def each(self, decode: Callable[[Value], Any]) -> list[Any]:
        """What the function makes of each entry of a list."""
        if self.node.id != "sequence" or self.node.tag != "tag:yaml.org,2002:seq":
            raise ValueError(f"{self.found} is not a list; write one with a dash before each entry")
        children = enumerate(self.node.value)
        return [self._child(child, f"[{i}]", child.start_mark.line + 1).attempt(decode) for i, child in children]

    def attempt(self, decode: Callable[[Value], Any]) -> Any:
        """What the function makes of this value; where it raises `ValueError`, that is noted.

        It is `None` then: the document has a mistake, so nothing that is made of it will be used.
        """
        try:
            return decode(self)
        except ValueError as wrong:
            self.note(str(wrong))
            return None

    def _child(self, node: Node, step: str, line: int) -> Value:
        self.document.values += 1
        if self.document.values > _MOST:
            raise ConfigError(f"more than {_MOST} values, aliases counted; write fewer ({self.document.path})")
        return Value(self.document, node, (self.key + step).removeprefix("."), line)


_TEXT = "tag:yaml.org,2002:str"
_COLLECTIONS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def quoted(text: str) -> str:
    """The text as an error shows it: in quotes, on one line, not too long, no token in it."""
    text = redact(text)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return json.dumps(text, ensure_ascii=not text.isprintable())


def plain(text: str) -> str:
    """The text, if it can stand in a log, a label or a path and is no token; raises `ValueError` if not."""
    if not text.strip():
        raise ValueError("the string is empty; write one")
    if looks_like_token(text):
        raise ValueError("this looks like a token, which never stands here; see token_file and token_env")
    odd = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)
    if odd:
        character = f"U+{ord(odd[0]):04X}"
        raise ValueError(
            f"{quoted(text)} holds the character {character}; take it out (in double quotes \\ starts an escape)"
        )
    return text


def absolute_enough(text: str) -> Path:
    """A path; raises `ValueError` for one that only a shell would understand."""
    if text.startswith("~"):
        raise ValueError(f"{quoted(text)} begins with ~, which is not expanded here; write the whole path")
    return Path(text)


def _unknown(key: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, 1, cutoff=0.8)
    secret = re.search("token|secret|passw|credential|api_?key", key, re.IGNORECASE)
    if secret and not near:
        return (
            "unknown key; a token never stands in this file: name what holds it by an account's token_file or token_env"
        )
    if key == "<<":
        return "merging is not supported; write the keys out"
    near = near or difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; those here are {', '.join(known)}"


def read(path: Path, *, may_be_empty: bool = False) -> Value:
    """The file's outermost value. Raises `ConfigError` if the file cannot be read or is no YAML.

    A file without a value is an error, or an empty mapping if it may be empty.
    """
    import yaml  # not above: `--help` does without it

    text = _content(path)
    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"line {line}, column {column}: the character U+{ord(text[error.position]):04X} cannot stand in a file"
        raise ConfigError(f"not YAML at {what}; take it out ({path}:{line})") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax(error, path)) from None
    except RecursionError:
        raise ConfigError(f"nested too deeply; a configuration has four levels ({path})") from None
    except (ValueError, OverflowError):  # those of chr() and int(), which PyYAML lets through
        raise ConfigError(f"not YAML: an escape or a directive has an impossible number; correct it ({path})") from None
    if may_be_empty and (root is None or root.tag == "tag:yaml.org,2002:null"):
        return Value(Document(path), yaml.MappingNode("tag:yaml.org,2002:map", []))
    if root is None:
        raise ConfigError(f"the file is empty; write a configuration like that of config.example.yaml ({path})")
    return Value(Document(path), root, line=root.start_mark.line + 1)


def _content(path: Path) -> str:
    try:
        with open(path, "rb", opener=_without_waiting) as stream:
            os.set_blocking(stream.fileno(), True)
            content = stream.read(_LARGEST + 1)
    except FileNotFoundError:
        raise ConfigError(f"the file does not exist; name one that does ({path})") from None
    except IsADirectoryError:
        raise ConfigError(f"this is a directory; name a file ({path})") from None
    except OSError as error:
        raise ConfigError(
            f"the file cannot be read: {error.strerror}; let the exporter's user read it ({path})"
        ) from None
    if len(content) > _LARGEST:
        raise ConfigError(f"the file is larger than 1 MiB; name a configuration ({path})")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = f"0x{content[error.start]:02x}"
        raise ConfigError(
            f"not UTF-8: line {line} has the byte {byte}; save the file as UTF-8 ({path}:{line})"
        ) from None


def _without_waiting(path: str, flags: int) -> int:
    # A named pipe into which nobody writes would hold up a reload, and then the exporter's end, for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _syntax(error: MarkedYAMLError, path: Path) -> str:
    """What the parser says, without the names that it quotes from the file."""
    context, problem = (re.sub(r" '[^'<]{3,}'", "", text or "") for text in (error.context, error.problem))
    if context and error.context_mark:
        context += f" in line {error.context_mark.line + 1}"
    what = ": ".join(filter(None, (context, problem)))
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"not YAML: {what}; correct it ({path})"
    return f"not YAML at line {mark.line + 1}, column {mark.column + 1}: {what}; correct it ({path}:{mark.line + 1})"
