"""Which configuration a command uses: that of a file, that of the environment, or the demo's."""

from __future__ import annotations

import contextlib
import stat
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import structlog

from exporter.cli.options import ConfigurationSource
from exporter.clock import Clock
from exporter.config import loading
from exporter.config.model import Config
from exporter.config.yaml_document import ConfigError
from exporter.web.settings import WebSettings

DEMO_NOTE = "a made-up account: nothing here is real"


@dataclass(frozen=True, slots=True)
class LoadedConfiguration:
    """A configuration, how to read it again, and the clock that goes with it."""

    config: Config
    reread: Callable[[], Config]
    clock: Clock


@contextlib.asynccontextmanager
async def loaded_configuration(
    source: ConfigurationSource, config: Config | None = None
) -> AsyncIterator[LoadedConfiguration]:
    """A context that yields the configuration. For the demo, it serves the demo's API while the context lasts.

    `config` is the configuration if it was read already. Raises `ConfigError`.
    """
    if not source.demo:
        yield LoadedConfiguration(config or load_config(source), lambda: load_config(source), Clock())
        return
    from exporter.demo.account import demo_account

    clock = Clock(speed=source.demo_speed)
    async with demo_account(clock) as demo:
        structlog.get_logger().info("demo", note=DEMO_NOTE, speed=clock.speed)
        yield LoadedConfiguration(demo, lambda: demo, clock)


def load_config(source: ConfigurationSource) -> Config:
    """The configuration of a file or of the environment. Raises `ConfigError`."""
    return loading.load_file(source.config_file) if source.config_file else loading.load_environment()


def load_configurations(source: ConfigurationSource, web_config: Path | None) -> tuple[Config | None, WebSettings]:
    """The configuration, `None` for the demo, and the web configuration.

    Raises one `ConfigError` with the mistakes of both.
    """
    problems: list[str] = []
    config = settings = None
    try:
        config = None if source.demo else load_config(source)
    except ConfigError as error:
        problems += error.problems
    try:
        settings = WebSettings(web_config)
    except ConfigError as error:
        problems += error.problems
    if problems or settings is None:
        raise ConfigError(*problems)
    return config, settings


def restricted(config: Config, names: Iterable[str]) -> Config:
    """The configuration with only the named accounts, or with all if no name is given.

    Raises `ConfigError` if there is no account of a name.
    """
    chosen = frozenset(names)
    known = [account.name for account in config.accounts]
    for name in sorted(chosen.difference(known)):
        raise ConfigError(f'--account: there is no account "{name}"; the accounts are {", ".join(known)}')
    if not chosen:
        return config
    return replace(config, accounts=tuple(account for account in config.accounts if account.name in chosen))


def open_to_everybody(source: ConfigurationSource, config: Config | None, settings: WebSettings) -> Iterator[str]:
    """A sentence for each file with secrets or settings that every user of this host may write or replace.

    A group that may write was probably somebody's choice. That everybody may write is certainly a mistake.
    """
    tokens = [account.token.file for account in config.accounts] if config else []
    for file in dict.fromkeys(filter(None, (source.config_file, *tokens, *settings.files))):
        for path, sticky in ((file, 0), (file.parent, stat.S_ISVTX)):
            with contextlib.suppress(OSError):
                mode = path.stat().st_mode
                if mode & stat.S_IWOTH and not mode & sticky:
                    what = "write" if path is file else "replace"
                    yield f"every user of this host may {what} the file {file}; forbid it: chmod o-w {path}"
