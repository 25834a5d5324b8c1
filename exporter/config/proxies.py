"""The proxy variables of the environment, understood as curl understands them (https://curl.se/docs/manpage.html).

Nothing here shows the value of a variable: it may hold the proxy's password.
"""

from __future__ import annotations

import importlib.util
import ipaddress
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from exporter.config.yaml_document import ConfigError, quoted

IpNetwork = ipaddress.IPv4Network | ipaddress.IPv6Network

_PORTS = {"http": 1080, "https": 443, "socks5": 1080, "socks5h": 1080}
"""The port of a proxy whose address has none. These are curl's defaults; browsers use others."""

_AUTHORITY = re.compile(
    r"(?:(?P<user>[^@/?#\s]*)@)?(?P<host>\[[0-9A-Fa-f:.]+\]|[\w.-]+)(?::(?P<port>[0-9]{1,5}))?/?", re.ASCII
)
_HOW_TO_WRITE = "write it like http://proxy.example.com:3128"


@dataclass(frozen=True, slots=True)
class ProxyException:
    """One entry of NO_PROXY: a network, or a host and its subdomains. With a port, only that port is meant."""

    host: str = ""
    network: IpNetwork | None = None
    port: int | None = None

    def covers(self, host: str, port: int) -> bool:
        """Whether requests to this host and port go without the proxy."""
        if self.port not in (None, port):
            return False
        if self.network is not None:
            try:
                return ipaddress.ip_address(host) in self.network
            except ValueError:
                return False
        return self.host == "*" or host == self.host or host.endswith(f".{self.host}")


@dataclass(frozen=True, slots=True)
class Proxies:
    """The proxy for https addresses, and the addresses that are reached without it."""

    url: str | None = None
    exceptions: tuple[ProxyException, ...] = ()

    def proxy_for(self, url: str) -> str | None:
        """The proxy for a request to this address; `None`: no proxy.

        Plain http is allowed only to loopback. No proxy can reach that, and no proxy should see an unencrypted token.
        """
        address = urlsplit(url)
        host = (address.hostname or "").rstrip(".")
        if self.url is None or address.scheme != "https":
            return None
        port = address.port or 443
        return None if any(entry.covers(host, port) for entry in self.exceptions) else self.url


def environment_proxies(environ: Mapping[str, str] = os.environ) -> Proxies:
    """The proxy of `https_proxy`, else of `all_proxy`, and the exceptions of `no_proxy`; also in capitals.

    The exceptions are read only if there is a proxy. Raises a `ConfigError` that names the variable.
    """
    variable = _first_set(environ, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    if variable is None:
        return Proxies()
    url = _proxy(variable, environ[variable].strip())
    without = _first_set(environ, "no_proxy", "NO_PROXY")
    entries = re.split(r"[\s,]+", environ[without]) if without else []
    return Proxies(url, tuple(_exception(str(without), entry) for entry in entries if entry))


def _first_set(environ: Mapping[str, str], *variables: str) -> str | None:
    return next((variable for variable in variables if environ.get(variable, "").strip()), None)


def _proxy(variable: str, text: str) -> str:
    scheme, separator, rest = text.partition("://")
    scheme, rest = (scheme.lower(), rest) if separator else ("http", text)
    if scheme not in _PORTS:
        known = ", ".join(_PORTS)
        raise ConfigError(f"{variable}: {quoted(scheme)} is not a supported kind of proxy; write one of {known}")
    match = _AUTHORITY.fullmatch(rest)
    if match is None and "@" in rest and re.search(r"[@/?#\s]", rest.rpartition("@")[0]):
        raise ConfigError(
            f"{variable}: the proxy's user or password holds one of @ / ? # or a space; write these as %40 %2F %3F "
            "%23 %20"
        )
    port = int(match["port"] or _PORTS[scheme]) if match else 0
    if match is None or not 0 < port < 2**16 or not _is_host(match["host"]):
        raise ConfigError(f"{variable}: this is not the address of a proxy; {_HOW_TO_WRITE}")
    if scheme.startswith("socks") and importlib.util.find_spec("socksio") is None:
        raise ConfigError(
            f"{variable}: a SOCKS proxy needs a package that is not installed; install the exporter with "
            "pip install '.[socks]', or name an http proxy"
        )
    user = f"{match['user']}@" if match["user"] is not None else ""
    return f"{scheme}://{user}{match['host']}:{port}"


def _is_host(host: str) -> bool:
    if not host.startswith("["):
        return True
    try:
        ipaddress.IPv6Address(host.strip("[]"))
    except ValueError:
        return False
    return True


def _exception(variable: str, entry: str) -> ProxyException:
    """Parses `example.com`, `.example.com`, `host:8080`, `10.0.0.0/8`, `::1`, `[::1]:443`, `fd00::/8` or `*`."""
    if entry == "*":
        return ProxyException("*")
    try:
        return ProxyException(network=ipaddress.ip_network(re.sub(r"^\[(.*)\](?=/|$)", r"\1", entry), strict=False))
    except ValueError:
        pass
    match = re.fullmatch(r"(\[[^]]+\]|[^:/]+)(?::([0-9]{1,5}))?", entry)
    host = (match[1] if match else "").lower()
    if match is None or not re.fullmatch(r"\[.*\]|(\*?\.)?\w[\w.-]*", host):
        raise ConfigError(
            f"{variable}: {quoted(entry)} is not a host, an address or a network; write it like example.com, "
            "10.0.0.0/8 or ::1"
        )
    port = int(match[2]) if match[2] else None
    try:
        return ProxyException(network=ipaddress.ip_network(host.strip("[]")), port=port)
    except ValueError:
        return ProxyException(host.removeprefix("*").strip("."), port=port)
