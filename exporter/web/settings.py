"""The web configuration while the exporter runs: followed as its file and its certificates change."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import structlog

from exporter.config.yaml_document import ConfigError
from exporter.web import tls
from exporter.web.config import Tls, WebConfig, load
from exporter.web.watched_file import Watched


class Settings:
    """How the exporter is served, as the files say now; without a file: plain HTTP for everybody.

    Users, headers, certificates and what is asked of clients follow their files. Whether there is TLS at all is
    settled when the exporter starts: its scrapers would have to be told at the same moment.
    """

    def __init__(self, path: Path | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises `ConfigError`."""
        self.notes: tuple[str, ...] = ()
        """What is allowed and perhaps not meant; to be logged at the start."""
        self.context: ssl.SSLContext | None = None
        """For the listening sockets; `None` means no TLS."""
        self._config: Watched[WebConfig] | None = None
        self._tls: Tls | None = None
        self._told = False
        if path is None:
            return
        config = self._config = Watched(
            "web configuration",
            lambda: load(path),
            lambda _: (path,),
            # A file that is being written is empty for a moment, and must not open the door.
            wait=lambda old, new: bool(old.users) and not new.users,
            monotonic=monotonic,
        )
        self.notes = config.current().notes
        self._tls = config.current().tls
        if self._tls is not None:
            try:
                context = Watched("certificate", self._made, lambda _: self._files(path), monotonic=monotonic)
            except ConfigError as error:
                raise ConfigError(*(f"{problem}, named in {path}" for problem in error.problems)) from None
            self.context = tls.following(context.current)

    @property
    def users(self) -> Mapping[str, str]:
        """Name to bcrypt hash."""
        return self._now().users

    @property
    def headers(self) -> Mapping[str, str]:
        """What every answer carries on top."""
        return self._now().headers

    def _now(self) -> WebConfig:
        if self._config is None:
            return WebConfig()
        config = self._config.current()
        changed = (config.tls is None) != (self._tls is None)
        if changed and not self._told:
            structlog.get_logger().warning(
                "web configuration not wholly followed",
                problem="TLS cannot be turned on or off while the exporter runs",
                remedy="restart it",
            )
        self._told = changed
        return config

    def _made(self) -> ssl.SSLContext:
        wanted = self._now().tls or self._tls
        assert wanted is not None
        made = tls.context(wanted)
        self._tls = wanted
        return made

    def _files(self, path: Path) -> tuple[Path, ...]:
        wanted = self._now().tls or self._tls
        assert wanted is not None
        return (path, *wanted.files)
