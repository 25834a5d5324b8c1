"""Logs: events with fields, to stderr, as logfmt or JSON; as sentences for who runs a command by hand."""

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
from exporter.console import Stderr, printable

Level = Literal["debug", "info", "warn", "error"]
Format = Literal["logfmt", "json", "sentences"]

_TOLD = ("problem", "reason", "effect", "remedy")
"""The fields of an event that are sentences, in the order in which they are read."""
_NOT_BESIDE = ("ts", "level", "account", "event", "exception", *_TOLD, "endpoint", "kept", "retry_in")
"""Those that the sentence holds already, and those that a command which ends has no use for."""

_REQUEST = re.compile(r"GET \S+ ")

_LEVELS: dict[str, int] = {"debug": 10, "info": 20, "warn": 30, "error": 40}


def configure(level: Level, style: Format) -> None:
    """Sets what is logged from here on; the libraries' own loggers are heard only where something is wrong."""
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
            _short_level,
            _printable,
            render,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        logger_factory=structlog.PrintLoggerFactory(cast(TextIO, Stderr())),
        cache_logger_on_first_use=False,
    )
    logging.basicConfig(level=logging.ERROR, handlers=[_Forward()], force=True)
    threading.excepthook = _log_end_of_thread


def _short_level(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if event["level"] in ("warning", "exception"):
        event["level"] = "warn" if event["level"] == "warning" else "error"
    return event


def _printable(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """One line, without control characters.

    Nothing is ever logged that holds a token; should it happen all the same, the token is taken out here.
    """
    for key, value in event.items():
        if not isinstance(value, bool | int | float | None):
            event[key] = printable(redact(str(value)))
    return event


class _Sentences:
    """`digitalocean-backup-exporter: warning: production: poll incomplete: ...`.

    What several requests meet alike, such as a token that is refused, is said once; how a poll ended, the command says.
    """

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, _logger: object, _method: str, event: MutableMapping[str, Any]) -> str:
        head = [str(event[field]) for field in ("account", "event") if event.get(field)]
        told = "; ".join(str(event[field]) for field in _TOLD if event.get(field))
        rest = ", ".join(f"{field}={value}" for field, value in event.items() if field not in _NOT_BESIDE)
        level = {"warn": "warning"}.get(event["level"], event["level"])
        line = ": ".join(filter(None, [NAME, level, *head, told])) + (f" ({rest})" if rest else "")
        same = without_request(line)
        if same in self._said or (event["event"] == "poll finished" and level == "warning"):
            raise structlog.DropEvent
        self._said.add(same)
        return "\n".join(filter(None, [line, event.get("exception")]))


def without_request(problem: str) -> str:
    """What several requests meet alike is the same without them."""
    return _REQUEST.sub("", problem)


class _Forward(logging.Handler):
    """What a library logs, as an event of ours. asyncio logs so that a task ended by an exception nobody asked for."""

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
