"""The web configuration while the exporter runs: changes of its file and of its certificates take effect."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.config.yaml_document import ConfigError
from exporter.web import tls
from exporter.web.config import Tls, WebConfig, load_web_config
from exporter.web.watched_file import WatchedFile


class Settings:
    """How the exporter is served, by the files as they are now. Without a file: plain HTTP for everybody.

    Changes of users, headers, certificates and of what is asked of clients take effect at once. Turning TLS on or off
    needs a restart: the scrapers would have to change at the same moment. So does removing the last user: a file that a
    full disk or a failed template left empty must not let everybody in.
    """

    def __init__(self, path: Path | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Raises `ConfigError`."""
        self.notes: tuple[str, ...] = ()
        """Warnings to be logged at the start."""
        self.context: ssl.SSLContext | None = None
        """For the listening sockets; `None` without TLS."""
        self._config: WatchedFile[WebConfig] | None = None
        self._certificate: WatchedFile[ssl.SSLContext] | None = None
        self._tls: Tls | None = None
        if path is None:
            return
        config = self._config = WatchedFile(
            "web configuration",
            lambda: load_web_config(path),
            lambda _: (path,),
            refuse=_opens_the_door,
            monotonic=monotonic,
        )
        self.notes = config.current().notes
        self._tls = config.current().tls
        if self._tls is not None:
            try:
                self._certificate = WatchedFile(
                    "certificate", self._made, lambda _: self._files(path), monotonic=monotonic
                )
            except ConfigError as error:
                raise ConfigError(*(f"{problem}, named in {path}" for problem in error.problems)) from None
            self.context = tls.following(self._certificate.current)

    @property
    def followed(self) -> bool:
        """Whether the files as they are now are in force."""
        return not any(watched.problems for watched in (self._config, self._certificate) if watched is not None)

    @property
    def users(self) -> Mapping[str, str]:
        """Names with their bcrypt hashes."""
        return self._now().users

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that are added to every answer."""
        return self._now().headers

    def _now(self) -> WebConfig:
        return WebConfig() if self._config is None else self._config.current()

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


def _opens_the_door(old: WebConfig, new: WebConfig) -> str | None:
    if (old.tls is None) != (new.tls is None):
        return "tls_server_config: TLS cannot be turned on or off while the exporter runs; restart it"
    if old.users and not new.users:
        return "basic_auth_users: the last user was removed, which would let everybody in; restart the exporter"
    return None
