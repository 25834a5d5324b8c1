"""The keys of the configuration file, as the loader itself asks for them."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any
from unittest import mock

from exporter.config.loading import load_file
from exporter.config.yaml_document import ConfigError, Value

EXAMPLE = Path(__file__).resolve().parents[2] / "config.example.yaml"


def configuration_keys(tmp_path: Path) -> dict[str, set[str]]:
    """The keys of each mapping that the example holds, by the key of that mapping: `accounts[0]`, `poll`, ""."""
    known: dict[str, set[str]] = {}
    decode = Value.decode_mapping

    def noting(value: Value, schema: Mapping[str, Any], *more: Any, **flags: Any) -> dict[str, Any]:
        known[value.key] = set(schema)
        return decode(value, schema, *more, **flags)

    file = tmp_path / "keys.yaml"
    # max_age is empty in the example, because that is its default: its entries are in a comment below it.
    file.write_text(EXAMPLE.read_text().replace("max_age: []\n#  - select:\n", "max_age:\n  - select: {}\n"))
    # The token's file is not there, which is an error at the end.
    with mock.patch.object(Value, "decode_mapping", noting), suppress(ConfigError):
        load_file(file)
    return known
