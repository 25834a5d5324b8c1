"""A YAML file as values that know their key and line, so that all mistakes are reported together, each with its place.

No message contains the value of an unknown key, or anything that looks like a token.
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

_LARGEST_FILE = 2**20
"""Bytes. Tens of thousands of Droplet ids fit; a file that is larger is not a configuration."""

_MOST_VALUES = 100_000
"""Values. Nobody writes so many into such a file, but YAML aliases can multiply them."""


class ConfigError(Exception):
    """All mistakes of a configuration. One line for each: the key, what was found, what to do, the file and line."""

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
        """Raises `ConfigError` if there are mistakes, with all of them in the order of the file."""
        if self.problems:
            raise ConfigError(*(text for _, text in sorted(self.problems, key=lambda problem: problem[0])))


@dataclass(frozen=True, slots=True)
class Value:
    """One value of a document, with its line and its key, like `accounts[0].name`.

    The methods raise `ValueError` if the value itself is wrong. Mistakes in the values inside it are added to the
    document.
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
    def number_as_written(self) -> str | None:
        """The text of a number as it is in the file; `None` for other values."""
        return self.node.value if self.node.tag in _NUMBERS else None

    @property
    def as_shown(self) -> str:
        """The value as an error message shows it: a scalar as it is in the file; of a list or mapping only the kind."""
        if self.node.id != "scalar":
            kind = "a list" if self.node.id == "sequence" else "a mapping"
            return kind if self.node.tag in _COLLECTIONS else f"{kind} with a YAML tag"
        if self.is_null:
            return "nothing"
        text: str = self.node.value
        return text if not self.is_text and re.fullmatch(r"[\w.:+-]{1,40}", text) else quoted(text)

    def add_problem(self, problem: str, key: str = "") -> None:
        """Adds a mistake to the document: about this value, or about `key` inside it."""
        place = ".".join(filter(None, (self.key, key)))
        what = f"{place}: {problem}" if place else problem
        self.document.problems.append((self.line, f"{what} ({self.document.path}:{self.line})"))

    def text(self) -> str:
        """The string, if it can be used in a log, a label or a path."""
        if not self.is_text:
            remedy = "" if self.is_null or self.node.id != "scalar" else f": {quoted(self.node.value)}"
            raise ValueError(f"{self.as_shown} is not a string; write one in quotes{remedy}")
        return checked_text(self.node.value)

    def entries(self) -> dict[str, Value]:
        """The values of a mapping by their keys. If a key is written twice, the first value counts."""
        if self.node.id != "mapping" or self.node.tag != "tag:yaml.org,2002:map":
            raise ValueError(f"{self.as_shown} is not a mapping; write its keys below it, indented")
        found: dict[str, Value] = {}
        for name, child in self.node.value:
            line = name.start_mark.line + 1
            if name.id != "scalar":
                place = Value(self.document, name, self.key, line)
                place.add_problem(f"{place.as_shown} cannot be a key; write a word")
                continue
            step = name.value if re.fullmatch(r"[\w-]{1,60}", name.value) else quoted(name.value)
            value = self._child(child, f".{step}", line)
            if name.value in found:
                value.add_problem(f"written twice, first in line {found[name.value].line}; keep one")
            found.setdefault(name.value, value)
        return found

    def decode_mapping(
        self,
        schema: Mapping[str, Callable[[Value], Any]],
        refused: Mapping[str, str] | None = None,
        *,
        nulls: bool = False,
    ) -> dict[str, Any]:
        """The values of a mapping by their keys, each made by the function that the schema has for its key.

        Keys that are missing are left out; so are keys with `null`, unless `nulls` is set. `refused`: keys that other
        programs know and this one does not, with the error message for each.
        """
        found: dict[str, Any] = {}
        for key, value in self.entries().items():
            if refused and key in refused:
                value.add_problem(refused[key])
            elif key not in schema:
                value.add_problem(_unknown_key(key, schema))
            elif nulls or not value.is_null:
                found[key] = value.decoded_by(schema[key])
        return found

    def decode_each(self, decode: Callable[[Value], Any]) -> list[Any]:
        """The entries of a list, each made by the function."""
        if self.node.id != "sequence" or self.node.tag != "tag:yaml.org,2002:seq":
            raise ValueError(f"{self.as_shown} is not a list; write one with a dash before each entry")
        children = enumerate(self.node.value)
        return [self._child(child, f"[{i}]", child.start_mark.line + 1).decoded_by(decode) for i, child in children]

    def decoded_by(self, decode: Callable[[Value], Any]) -> Any:
        """The result of the function for this value. If it raises `ValueError`, that is added to the document.

        The result is `None` then. Nothing made from a document with mistakes is used, so the type can ignore this.
        """
        try:
            return decode(self)
        except ValueError as wrong:
            self.add_problem(str(wrong))
            return None

    def _child(self, node: Node, step: str, line: int) -> Value:
        self.document.values += 1
        if self.document.values > _MOST_VALUES:
            raise ConfigError(f"more than {_MOST_VALUES} values, aliases counted; write fewer ({self.document.path})")
        return Value(self.document, node, (self.key + step).removeprefix("."), line)


_TEXT = "tag:yaml.org,2002:str"
_COLLECTIONS = ("tag:yaml.org,2002:seq", "tag:yaml.org,2002:map")
_NUMBERS = ("tag:yaml.org,2002:int", "tag:yaml.org,2002:float")


def quoted(text: str) -> str:
    """The text as an error message shows it: in quotes, on one line, cut if it is long, without tokens."""
    text = redact(text)
    text = text if len(text) <= 60 else f"{text[:57]}..."
    return json.dumps(text, ensure_ascii=not text.isprintable())


def checked_text(text: str) -> str:
    """The text itself. Raises `ValueError` if it is empty, looks like a token, or contains control characters."""
    if not text.strip():
        raise ValueError("the string is empty; write one")
    if looks_like_token(text):
        raise ValueError("this looks like a token; do not write tokens in this file, see token_file and token_env")
    odd = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)
    if odd:
        character = f"U+{ord(odd[0]):04X}"
        raise ValueError(
            f"{quoted(text)} holds the character {character}; take it out (in double quotes \\ starts an escape)"
        )
    return text


def checked_path(text: str) -> Path:
    """The text as a path. Raises `ValueError` if it begins with `~`, which only a shell understands."""
    if text.startswith("~"):
        raise ValueError(f"{quoted(text)} begins with ~, which is not expanded here; write the whole path")
    return Path(text)


def _unknown_key(key: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(key, known, 1, cutoff=0.8)
    secret = re.search("token|secret|passw|credential|api_?key", key, re.IGNORECASE)
    if secret and not near:
        return (
            "unknown key; do not write tokens in this file: name the file or the variable that holds the token, with "
            "token_file or token_env"
        )
    if key == "<<":
        return "YAML's merge key is not supported; write the keys themselves"
    near = near or difflib.get_close_matches(key, known, 1)
    return f"unknown key; did you mean {near[0]}?" if near else f"unknown key; the keys here are {', '.join(known)}"


def read_yaml(path: Path, *, may_be_empty: bool = False) -> Value:
    """The outermost value of a YAML file. Raises `ConfigError` if the file cannot be read or is not YAML.

    An empty file is an error too, or an empty mapping if `may_be_empty` is set.
    """
    import yaml  # imported here because `--help` does not need it

    text = _content(path)
    try:
        root: Any = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        what = f"line {line}, column {column}: the character U+{ord(text[error.position]):04X} cannot stand in a file"
        raise ConfigError(f"not YAML at {what}; take it out ({path}:{line})") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(_syntax_problem(error, path)) from None
    except RecursionError:
        raise ConfigError(f"nested too deeply; a configuration has four levels ({path})") from None
    except (ValueError, OverflowError):  # from chr() and int() inside PyYAML, which does not catch them
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
            content = stream.read(_LARGEST_FILE + 1)
    except FileNotFoundError:
        raise ConfigError(f"the file does not exist; name one that does ({path})") from None
    except IsADirectoryError:
        raise ConfigError(f"this is a directory; name a file ({path})") from None
    except OSError as error:
        raise ConfigError(
            f"the file cannot be read: {error.strerror}; let the exporter's user read it ({path})"
        ) from None
    if len(content) > _LARGEST_FILE:
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
    # Opening a named pipe that nobody writes to would block a reload, and then the end of the exporter, for ever.
    return os.open(path, flags | os.O_NONBLOCK)


def _syntax_problem(error: MarkedYAMLError, path: Path) -> str:
    """The parser's message, without the text that it quotes from the file."""
    context, problem = (re.sub(r" '[^'<]{3,}'", "", text or "") for text in (error.context, error.problem))
    if context and error.context_mark:
        context += f" in line {error.context_mark.line + 1}"
    text = ": ".join(filter(None, (context, problem)))
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return f"not YAML: {text}; correct it ({path})"
    return f"not YAML at line {mark.line + 1}, column {mark.column + 1}: {text}; correct it ({path}:{mark.line + 1})"
