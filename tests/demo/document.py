"""DigitalOcean's OpenAPI document as a judge of answers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import yaml
from openapi_core import OpenAPI
from openapi_core.exceptions import OpenAPIError
from openapi_core.testing import MockRequest, MockResponse

JSON = "application/json"


class Document:
    """The document, amended in the one place where the API is known to differ from it."""

    def __init__(self, path: Path) -> None:
        loader = getattr(
            yaml, "CSafeLoader", yaml.SafeLoader
        )  # ten times as fast, where libyaml was there to build with
        document: dict[str, Any] = yaml.load(path.read_text(), loader)
        amend_plan(document)
        self._paths = document["paths"]
        self._judge = OpenAPI.from_dict(document)

    @property
    def paths(self) -> set[str]:
        return set(self._paths)

    def check(self, answer: httpx.Response) -> None:
        """Asserts that the request and its answer, of any status, are as the document says."""
        url = answer.request.url
        request = MockRequest(
            "https://api.digitalocean.com",
            answer.request.method.lower(),
            url.path,
            args=dict(url.params),
            headers=dict(answer.request.headers),
        )
        response = MockResponse(answer.content, answer.status_code, dict(answer.headers), JSON)
        try:
            self._judge.validate_response(request, response)
        except OpenAPIError as error:
            raise AssertionError(f"{url.path}?{url.query.decode()}: " + "; ".join(_reasons(error))) from error


def amend_plan(document: dict[str, Any]) -> None:
    """`plan` is an open string: the document lists `daily` and `weekly`, the field has usage-based plans, too."""
    del document["components"]["schemas"]["droplet_backup_policy"]["properties"]["plan"]["enum"]


def _reasons(error: BaseException | None) -> Iterator[str]:
    while error is not None:
        yield repr(error)
        for detail in getattr(error, "schema_errors", ()):
            yield f"{'/'.join(map(str, detail.absolute_path))}: {detail.message}"
        error = error.__cause__
