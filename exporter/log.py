"""Logs: events with fields, written to stderr as logfmt or JSON, or as sentences for a person who runs a command."""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO, cast

import structlog
from structlog.typing import Processor

from exporter import NAME
from exporter.config.tokens import redact
from exporter.console import CurrentStderr, printable

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json", "sentences"]

_SENTENCE_FIELDS = ("problem", "reason", "effect", "remedy")
"""The fields of an event that are sentences, in the order in which they are written."""
_NOT_IN_BRACKETS = ("ts", "level", "account", "event", "exception", *_SENTENCE_FIELDS, "endpoint", "kept", "retry_in")
"""Fields that are not written in brackets after a sentence: they are in it already, or mean nothing for a command."""

_REQUEST = re.compile(r"GET \S+ ")

_LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warn": 30, "error": 40}


def configure(level: Level, style: Format) -> None:
    """Sets the lowest level that is logged, and the format. Of libraries, only errors are logged.

    Threads that end with an exception are logged too.
    """
    render: Processor = _Sentences()
    if style == "json":
        render = structlog.processors.JSONRenderer(ensure_ascii=False)
    elif style == "logfmt":
        render = structlog.processors.LogfmtRenderer(key_order=["ts", "level", "event", "account"], drop_missing=True)
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
            structlog.processors.format_exc_info,
            _shorten_level,
            _make_printable,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, CurrentStderr())),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, handlers=[_LibraryLogHandler()], force=True)
    threading.excepthook = _log_end_of_thread


def _shorten_level(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event["level"] in ("warning", "exception"):
        event["level"] = "warn" if event["level"] == "warning" else "error"
    return event


def _make_printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Makes every field one line without control characters and without tokens.

    No other code logs tokens. This is the second lock.
    """
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = printable(redact(str(value)))
    return event


class _Sentences:
    """Writes an event as a sentence: `digitalocean-backup-exporter: warning: production: poll incomplete: ...`.

    An error that several requests have in common, such as a refused token, is written once. How the poll ended is left
    out, because the command itself reports that.
    """

    def __init__(self) -> None:
        self._written: set[str] = set()

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        head = [str(event[field]) for field in ("account", "event") if event.get(field)]
        sentences = "; ".join(str(event[field]) for field in _SENTENCE_FIELDS if event.get(field))
        rest = ", ".join(f"{field}={value}" for field, value in event.items() if field not in _NOT_IN_BRACKETS)
        level = {"warn": "warning"}.get(event["level"], event["level"])
        line = ": ".join(filter(None, [NAME, level, *head, sentences])) + (f" ({rest})" if rest else "")
        key = without_request(line)
        if key in self._written or (event["event"] == "poll finished" and level == "warning"):
            raise structlog.DropEvent
        self._written.add(key)
        return "\n".join(filter(None, [line, event.get("exception")]))


def without_request(problem: str) -> str:
    """The text without the request that failed, so that the same error of two requests is the same text."""
    return _REQUEST.sub("", problem)


class _LibraryLogHandler(logging.Handler):
    """Logs what libraries log. asyncio logs this way that a task has ended with an exception that nobody awaited."""

    def emit(self, record: logging.LogRecord) -> None:
        structlog.get_logger().error(
            "library error", logger=record.name, message=record.getMessage(), exc_info=record.exc_info
        )


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    structlog.get_logger().error(
        "thread ended",
        thread=ended.thread.name if ended.thread is not None else None,
        exc_info=(ended.exc_type, ended.exc_value, ended.exc_traceback),
    )
