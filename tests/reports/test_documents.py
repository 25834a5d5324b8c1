"""The JSON of check and show, and the schemas that are published of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from exporter.reports import documents


@pytest.mark.parametrize("name", ["check.schema.json", "show.schema.json"])
def test_published_schemas(name: str) -> None:
    """The published schemas are those of the structs; `make schemas` writes them."""
    assert Path(documents.__file__).with_name(name).read_text() == documents.schemas()[name]
