"""The web configuration while the exporter runs. Changes of its file and of the certificates take effect at once."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from exporter.config.yaml_document import ConfigError
from exporter.web import tls
from exporter.web.config import Tls, WebConfig, load_web_config
from exporter.web.watched_file import WatchedFile


class WebSettings:
    """The web configuration as its files are now. Without a file: plain HTTP for everybody.

    Changes of users, headers, certificates and `client_auth_type` take effect at once. Turning TLS on or off needs a
    restart, because the scrapers must change at the same time. So does removing the last user: a file that is empty
    because of a full disk or a failed template must not let everybody in.
    """

    def __init__(self, path: Path | None = None, *, monotonic: Callable[[], float] = time.monotonic) -> None:
        """`path`: the web configuration file. Raises `ConfigError`."""
        self.notes: tuple[str, ...] = ()
        """Warnings that the caller logs at the start."""
        self._path = path
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
            refuse=_why_refused,
            monotonic=monotonic,
        )
        self.notes = config.current().notes
        self._tls = config.current().tls
        if self._tls is not None:
            try:
                self._certificate = WatchedFile(
                    "certificate", self._make_context, lambda _: self.files, monotonic=monotonic
                )
            except ConfigError as error:
                raise ConfigError(*(f"{problem}, named in {path}" for problem in error.problems)) from None
            self.context = tls.following_context(self._certificate.current)

    @property
    def files(self) -> tuple[Path, ...]:
        """The web configuration file and the files that it names; empty without one."""
        wanted = self._current().tls or self._tls
        return (*((self._path,) if self._path else ()), *(wanted.files if wanted else ()))

    @property
    def followed(self) -> bool:
        """Whether the files are in use as they are now."""
        return not any(watched.problems for watched in (self._config, self._certificate) if watched is not None)

    @property
    def users(self) -> Mapping[str, str]:
        """Names with their bcrypt hashes."""
        return self._current().users

    @property
    def headers(self) -> Mapping[str, str]:
        """Headers that are added to every answer."""
        return self._current().headers

    def _current(self) -> WebConfig:
        return WebConfig() if self._config is None else self._config.current()

    def _make_context(self) -> ssl.SSLContext:
        wanted = self._current().tls or self._tls
        assert wanted is not None
        made = tls.make_context(wanted)
        self._tls = wanted
        return made


def _why_refused(old: WebConfig, new: WebConfig) -> str | None:
    """Why a change needs a restart; `None` if it does not."""
    if (old.tls is None) != (new.tls is None):
        return "tls_server_config: TLS cannot be turned on or off while the exporter runs; restart it"
    if old.users and not new.users:
        return "basic_auth_users: the last user was removed, which would let everybody in; restart the exporter"
    return None
