"""The text format and the compression that a scraper asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics.exposition import CONTENT_TYPE_LATEST as CONTENT_TYPE_OPENMETRICS
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.registry import Collector


@dataclass(frozen=True, slots=True)
class TextFormat:
    """A text format: its `Content-Type`, and the client library's encoder for it."""

    content_type: str
    encode: Callable[[Collector], bytes]


TEXT = TextFormat(CONTENT_TYPE_PLAIN_0_0_4, generate_latest)
OPENMETRICS = TextFormat(CONTENT_TYPE_OPENMETRICS, generate_openmetrics)


def negotiate(accept: str | None) -> TextFormat:
    """The format for an `Accept` header, by its weights; text 0.0.4 if it asks for nothing that is served.

    The client library's own function ignores weights, and fails on versions that are not numbers.
    """
    for choice, parameters in _sort_by_weight(accept or "", wildcard="*/*"):
        version = parameters.get("version", "")
        if choice == "application/openmetrics-text" and version in ("", "1.0.0"):
            return OPENMETRICS
        if choice in ("text/plain", "text/*", "*/*"):
            return TEXT
    return TEXT


def accepts_gzip(accept_encoding: str | None) -> bool:
    """Whether an `Accept-Encoding` header allows gzip and does not prefer an uncompressed answer."""
    for choice, _ in _sort_by_weight(accept_encoding or "", wildcard="*"):
        if choice in ("gzip", "x-gzip", "*"):
            return True
        if choice == "identity":
            return False
    return False


def _sort_by_weight(header: str, wildcard: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The choices in a header with their parameters, the highest weight first. Choices of weight 0 are left out.

    Of choices with the same weight, the wildcard comes last.
    """
    choices = []
    for position, item in enumerate(header.split(",")):
        choice, *rest = (part.strip().lower() for part in item.split(";"))
        parameters = {name.strip(): value.strip(' "') for name, _, value in (part.partition("=") for part in rest)}
        try:
            weight = float(parameters.get("q", "1"))
        except ValueError:
            weight = 1.0
        if choice and weight > 0:
            choices.append((-weight, choice == wildcard, position, choice, parameters))
    for *_, choice, parameters in sorted(choices, key=lambda found: found[:3]):
        yield choice, parameters
