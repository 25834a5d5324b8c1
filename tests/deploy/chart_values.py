"""values.yaml and the table of the chart's README, made from values.schema.json; `make readme` writes them.

The schema holds every value's default and meaning, so both are written once.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).resolve().parents[2] / "deploy" / "helm" / "digitalocean-backup-exporter"
SCHEMA: dict[str, Any] = json.loads((CHART / "values.schema.json").read_text())
VALUES = CHART / "values.yaml"
README = CHART / "README.md"
TABLE = re.compile(r"(?s)(<!-- made: values -->\n).*(<!-- end: values -->)")
WIDTH = 120
HEAD = """\
# Every value with its default and meaning. Made from values.schema.json, which refuses unknown keys and wrong types;
# change them there, and run `make readme`.
"""

Schema = Mapping[str, Any]


def is_group(schema: Schema) -> bool:
    """Whether a schema has values below it and is not a value itself."""
    return "properties" in schema and "default" not in schema


def described(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The keys below a group that values.yaml shows: `enabled`, for one, only a parent chart sets."""
    for key, value in schema["properties"].items():
        if "default" in value or is_group(value):
            yield key, value


def values_file() -> str:
    """The text of values.yaml."""
    parts = ["".join(f"{line}\n" for line in _entry(key, schema)) for key, schema in described(SCHEMA)]
    return "\n".join([HEAD, *parts])


def _entry(key: str, schema: Schema) -> list[str]:
    """A key with its comment, and below it what belongs to it; not indented."""
    lines = [f"# {line}".rstrip() for line in _comment(schema)]
    if is_group(schema):
        below = [line for name, inner in described(schema) for line in _entry(name, inner)]
        return [*lines, f"{key}:", *(f"  {line}" for line in below)]
    written: str = yaml.safe_dump({key: schema["default"]}, sort_keys=False, width=WIDTH)
    return [*lines, *written.replace(f"{key}: null", f"{key}:").splitlines()]


def _comment(schema: Schema) -> Iterator[str]:
    text, *example = schema["description"].split("\n")
    yield from textwrap.wrap(text, WIDTH - 12)
    yield from example
    for name, item in _items(schema):
        yield from textwrap.wrap(
            f"{name}: {item['description']}", WIDTH - 12, initial_indent="  ", subsequent_indent="    "
        )


def _items(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The keys of each entry of a list, where the schema explains them."""
    for name, item in schema.get("items", {}).get("properties", {}).items():
        if "description" in item:
            yield name, item


def table() -> str:
    """The rows of the README: each value, its default, its meaning."""
    return "\n".join(["| value | default | meaning |", "|---|---|---|", *_rows("", SCHEMA)])


def _rows(path: str, schema: Schema) -> Iterator[str]:
    for key, value in described(schema):
        name = f"{path}{key}"
        meaning = _cell(value["description"])
        if is_group(value):
            yield f"| **`{name}`** | | {meaning} |"
            yield from _rows(f"{name}.", value)
            continue
        yield f"| `{name}` | {_default(value)} | {meaning} |"
        for inner, item in _items(value):
            yield f"| `{name}[].{inner}` | {_default(item)} | {_cell(item['description'])} |"


def _default(schema: Schema) -> str:
    default = schema.get("default")
    return "" if default in (None, "") else f"`{json.dumps(default, ensure_ascii=False)}`"


def _cell(description: str) -> str:
    """A description on one line: an example of several lines is left to values.yaml."""
    text, *example = description.split("\n")
    return text.removesuffix(" For example:") if example else text.replace("|", "\\|")


def readme() -> str:
    """The text of the README with the table of now."""
    return TABLE.sub(lambda found: f"{found[1]}{table()}\n{found[2]}", README.read_text())


if __name__ == "__main__":
    VALUES.write_text(values_file())
    README.write_text(readme())
