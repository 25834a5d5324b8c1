"""The JSON of check and show, and the schemas that are published of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from exporter.reports import documents


def unordered(schema: Any) -> Any:
    """The schema with its alternatives in one order: the versions of msgspec differ in it."""
    if isinstance(schema, list):
        return sorted(map(unordered, schema), key=json.dumps)
    return {key: unordered(value) for key, value in schema.items()} if isinstance(schema, dict) else schema


@pytest.mark.parametrize("name", ["check.schema.json", "show.schema.json"])
def test_published_schemas(name: str) -> None:
    """The published schemas are those of the structs; `make schemas` writes them."""
    published = Path(documents.__file__).with_name(name).read_text()
    assert unordered(json.loads(published)) == unordered(json.loads(documents.schemas()[name]))
