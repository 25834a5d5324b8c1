"""Logs: events with fields, to stderr, as logfmt or JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal

import structlog
from structlog.typing import Processor

from exporter.secrets import redact

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json"]

_LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warn": 30, "error": 40}


def configure(level: Level, style: Format) -> None:
    """Sets what is logged from here on; the libraries' own loggers are heard only where something is wrong."""
    render: Processor = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if style == "json"
        else structlog.processors.LogfmtRenderer(key_order=["ts", "level", "event", "account"], drop_missing=True)
    )
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _short_level,
            _printable,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, handlers=[_Forward()], force=True)


def _short_level(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event["level"] in ("warning", "exception"):
        event["level"] = "warn" if event["level"] == "warning" else "error"
    return event


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Names come from outside: a control character in one must not write a line of its own, nor drive a terminal.

    Nothing is ever logged that holds a token; should it happen all the same, the token is taken out here.
    """
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            text = redact(str(value))
            event[key] = "".join(
                char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
            )
    return event


class _Forward(logging.Handler):
    """What a library logs, as an event of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().error("library error", logger=record.name, message=record.getMessage())
