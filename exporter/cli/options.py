"""The flags of each command, parsed and checked, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.fleet.state import State

if TYPE_CHECKING:
    from exporter.log import Format, Level


@dataclass(frozen=True, slots=True)
class LogOptions:
    """The lowest level that is logged to stderr, and the format."""

    level: Level
    style: Format


@dataclass(frozen=True, slots=True)
class ConfigurationSource:
    """Where the configuration comes from: a file, the demo, or, with neither, the environment."""

    config_file: Path | None = None
    demo: bool = False
    demo_speed: float = 1.0
    """How many times faster than real time the demo's time passes."""

    def __str__(self) -> str:
        return "the demo" if self.demo else str(self.config_file or "environment")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The flags of `serve`."""

    logging: LogOptions
    source: ConfigurationSource
    addresses: tuple[tuple[str, int], ...]
    """Hosts and ports to listen on. An empty host means every interface."""
    systemd_socket: bool
    """Whether to listen on the sockets that systemd hands over, instead of the addresses."""
    telemetry_path: str
    web_config: Path | None
    lifecycle: bool
    """Whether POST /-/reload is allowed."""


@dataclass(frozen=True, slots=True)
class OnceOptions:
    """The flags of `once`."""

    logging: LogOptions
    source: ConfigurationSource
    output: Path | None
    """The file for the metrics; `None`: stdout."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    """The flags of `check`."""

    logging: LogOptions
    source: ConfigurationSource
    accounts: tuple[str, ...]
    """Names of the accounts to ask; empty: all."""
    tags: tuple[str, ...]
    """Only Droplets with any of these tags; empty: all Droplets."""
    only: frozenset[State]
    """Only Droplets in these states are shown and decide the exit code."""
    as_json: bool


@dataclass(frozen=True, slots=True)
class ShowOptions:
    """The flags of `show`."""

    logging: LogOptions
    source: ConfigurationSource
    droplet: int | str
    """Its id, or its exact name."""
    accounts: tuple[str, ...]
    """Names of the accounts to ask; empty: all."""
    as_json: bool


@dataclass(frozen=True, slots=True)
class CheckConfigOptions:
    """The flags of `check-config`."""

    logging: LogOptions
    source: ConfigurationSource
    web_config: Path | None


Options = ServeOptions | OnceOptions | CheckOptions | ShowOptions | CheckConfigOptions
