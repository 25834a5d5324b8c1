"""What the user asked for: the flags of each command, parsed and checked, as frozen values."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from exporter.fleet.state import State

if TYPE_CHECKING:
    from exporter.log import Format, Level


@dataclass(frozen=True, slots=True)
class Logging:
    """What is logged to stderr, and how."""

    level: Level
    style: Format


@dataclass(frozen=True, slots=True)
class Source:
    """Where the configuration comes from: a file, the demo, or, with neither, the environment."""

    config_file: Path | None = None
    demo: bool = False
    demo_speed: float = 1.0
    """How many times faster than real time the demo's time passes."""

    def __str__(self) -> str:
        return "the demo" if self.demo else str(self.config_file or "environment")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    logging: Logging
    source: Source
    addresses: tuple[tuple[str, int], ...]
    """Hosts and ports to listen on; an empty host is every interface."""
    systemd_socket: bool
    """Whether to listen on the sockets that systemd hands over, instead of the addresses."""
    telemetry_path: str
    web_config: Path | None
    lifecycle: bool
    """Whether POST /-/reload is allowed."""


@dataclass(frozen=True, slots=True)
class OnceOptions:
    logging: Logging
    source: Source
    output: Path | None
    """`None`: stdout."""


@dataclass(frozen=True, slots=True)
class CheckOptions:
    logging: Logging
    source: Source
    accounts: tuple[str, ...]
    """Empty: all."""
    tags: tuple[str, ...]
    """Droplets with any of them; empty: all Droplets."""
    only: frozenset[State]
    """The states that are shown and decide the exit code."""
    as_json: bool


@dataclass(frozen=True, slots=True)
class ShowOptions:
    logging: Logging
    source: Source
    droplet: int | str
    """Its id, or its exact name."""
    accounts: tuple[str, ...]
    """Empty: all."""
    as_json: bool


@dataclass(frozen=True, slots=True)
class CheckConfigOptions:
    logging: Logging
    source: Source
    web_config: Path | None


Options = ServeOptions | OnceOptions | CheckOptions | ShowOptions | CheckConfigOptions
