"""The web configuration file, with TLS, users and headers. Prometheus and its exporters use the same format.

The format is documented in Prometheus's exporter-toolkit, `docs/web-configuration.md`. Supported keys accept what the
toolkit accepts. Unsupported keys are refused: silently ignoring a security setting is worse than failing to start.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from exporter.config.yaml_document import Value, quoted, read_yaml

ClientAuth = Literal["NoClientCert", "VerifyClientCertIfGiven", "RequireAndVerifyClientCert"]

BCRYPT = re.compile(r"\$2[abxy]\$(0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}")


@dataclass(frozen=True, slots=True)
class Tls:
    """The files of the server's certificate, and which certificates clients must show."""

    cert_file: Path
    key_file: Path
    client_ca_file: Path | None = None
    client_auth: ClientAuth = "NoClientCert"
    min_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2
    max_version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3

    @property
    def files(self) -> tuple[Path, ...]:
        return (self.cert_file, self.key_file, *((self.client_ca_file,) if self.client_ca_file else ()))


@dataclass(frozen=True, slots=True)
class WebConfig:
    """The content of a web configuration file."""

    tls: Tls | None = None
    users: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Names with their bcrypt hashes. If there are none, everybody may read."""
    headers: Mapping[str, str] = field(default_factory=dict)
    """Headers that are added to every answer."""
    notes: tuple[str, ...] = ()
    """Warnings: what is allowed but perhaps not intended."""


def load_web_config(path: Path) -> WebConfig:
    """Reads a web configuration file. An empty file means: no TLS, no users, no headers.

    Raises `ConfigError` with all mistakes, in the order of the file. The certificates that it names are not read.
    """
    root = read_yaml(path, may_be_empty=True)
    try:
        given = root.decode_mapping(_TOP, _REFUSED)
    except ValueError as wrong:
        root.add_problem(str(wrong))
    root.document.check()
    tls, notes = given.get("tls_server_config", (None, ()))
    http = given.get("http_server_config", {})
    return WebConfig(tls, given.get("basic_auth_users", {}), http.get("headers", {}), notes)


def _scalar_text(value: Value) -> str:
    """The text of a scalar. Numbers and booleans are strings here, as they are for the toolkit's parser."""
    if value.node.id != "scalar":
        raise ValueError(f"{value.as_shown} is not a string; write one in quotes")
    text: str = "" if value.is_null else value.node.value
    odd = re.search(r"[\x00-\x1f\x7f\ud800-\udfff]", text)
    if odd:
        raise ValueError(f"the string holds the character U+{ord(odd[0]):04X}; take it out")
    return text


def _file(value: Value) -> Path | None:
    text = _scalar_text(value)
    return value.document.path.parent / text if text else None


_VERSIONS = {"TLS12": ssl.TLSVersion.TLSv1_2, "TLS13": ssl.TLSVersion.TLSv1_3}


def _version(value: Value) -> ssl.TLSVersion:
    name = _scalar_text(value)
    if name in ("TLS10", "TLS11"):
        raise ValueError(f"{name} is not secure and not supported here; write TLS12 or TLS13")
    if name not in _VERSIONS:
        raise ValueError(f"{quoted(name)} is not a version of TLS; write TLS12 or TLS13")
    return _VERSIONS[name]


def _client_auth(value: Value) -> ClientAuth | None:
    match _scalar_text(value):
        case "":
            return None
        case "NoClientCert":
            return "NoClientCert"
        case "VerifyClientCertIfGiven":
            return "VerifyClientCertIfGiven"
        case "RequireAndVerifyClientCert":
            return "RequireAndVerifyClientCert"
        case "RequestClientCert" | "RequireAnyClientCert" | "RequireClientCert" as name:
            # Python's ssl module cannot ask for a certificate without verifying it.
            raise ValueError(
                f"{name} lets clients in with certificates that nobody verifies, which is not supported here; "
                "write VerifyClientCertIfGiven or RequireAndVerifyClientCert"
            )
        case name:
            raise ValueError(
                f"{quoted(name)} is not a client_auth_type; write NoClientCert, VerifyClientCertIfGiven or "
                "RequireAndVerifyClientCert"
            )


def _only(only: str, why: str) -> Any:
    """A decoder for a key of which only one value is accepted, because the exporter always does that."""

    def decode(value: Value) -> None:
        if _scalar_text(value) != only:
            raise ValueError(f"{quoted(_scalar_text(value))} is not supported here; {why}. Write {only} or take it out")

    return decode


_TLS = {
    "cert_file": _file,
    "key_file": _file,
    "client_ca_file": _file,
    "client_auth_type": _client_auth,
    "min_version": _version,
    "max_version": _version,
    "prefer_server_cipher_suites": _only("true", "the order of ciphers is always the server's"),
}
_INLINE = "not supported here; put it into a file and name the file in"
_TLS_REFUSED = {
    "cert": f"{_INLINE} cert_file",
    "key": f"{_INLINE} key_file",
    "client_ca": f"{_INLINE} client_ca_file",
    "client_allowed_sans": "not supported here; let a CA that is only for these clients make their certificates, "
    "and name that CA in client_ca_file",
    "cipher_suites": "not supported here; the ciphers are those of OpenSSL's configuration. Take it out",
    "curve_preferences": "not supported here; the curves are those of OpenSSL's configuration. Take it out",
}


def _tls(value: Value) -> tuple[Tls | None, tuple[str, ...]]:
    given: dict[str, Any] = value.decode_mapping(_TLS, _TLS_REFUSED)
    cert, key, ca = (given.get(name) for name in ("cert_file", "key_file", "client_ca_file"))
    asked: ClientAuth | None = given.get("client_auth_type")
    client_auth = asked or "NoClientCert"
    oldest = given.get("min_version") or ssl.TLSVersion.TLSv1_2
    newest = given.get("max_version") or ssl.TLSVersion.TLSv1_3
    if oldest > newest:
        value.add_problem("above max_version, so that no client could connect; write a lower version", "min_version")
    if ca and client_auth == "NoClientCert":
        value.add_problem(
            "client_ca_file is given, but clients are not asked for certificates; write RequireAndVerifyClientCert",
            "client_auth_type",
        )
    if not (cert or key or ca or asked):
        note = "tls_server_config names no cert_file and no key_file: TLS is off"
        return None, (note,) if given else ()
    for name, file in (("cert_file", cert), ("key_file", key)):
        if file is None:
            value.add_problem("missing; TLS needs a certificate and its key, each a file in PEM format", name)
    if cert is None or key is None:
        return None, ()
    notes: tuple[str, ...] = ()
    if client_auth != "NoClientCert" and not ca:
        notes = ("tls_server_config names no client_ca_file: a certificate of any public CA lets a client in",)
    return Tls(cert, key, ca, client_auth, oldest, newest), notes


def _users(value: Value) -> Mapping[str, str]:
    found = {}
    for name, entry in value.entries().items():
        stored = entry.node.value if entry.node.id == "scalar" else ""
        if BCRYPT.fullmatch(stored):
            found[name] = stored
        else:  # the value is not shown, because it may be the password itself
            entry.add_problem("not a bcrypt hash; make one with: htpasswd -nBC 10 NAME")
    return found


def _header(*allowed: str) -> Any:
    def decode(value: Value) -> str:
        text = _scalar_text(value)
        if allowed and text not in allowed:
            raise ValueError(f"{quoted(text)} is not allowed here; write {' or '.join(allowed)}")
        return text

    return decode


_HEADERS = {
    "Content-Security-Policy": _header(),
    "X-Frame-Options": _header("deny", "sameorigin"),
    "X-Content-Type-Options": _header("nosniff"),
    "X-XSS-Protection": _header(),
    "Strict-Transport-Security": _header(),
}


def _headers(value: Value) -> Mapping[str, str]:
    # A header without a value is not sent.
    return {name: text for name, text in value.decode_mapping(_HEADERS, nulls=True).items() if text}


_TOP = {
    "tls_server_config": _tls,
    "http_server_config": lambda value: value.decode_mapping(
        {"headers": _headers, "http2": _only("false", "the exporter speaks HTTP/1.1")}
    ),
    "basic_auth_users": _users,
}
_REFUSED = {
    "rate_limit": "not supported here; a scrape costs little, and passwords are checked one at a time. Take it out"
}
