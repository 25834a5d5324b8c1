"""TLS contexts, made from the files of a certificate and its key."""

from __future__ import annotations

import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

from exporter.config.yaml_document import ConfigError
from exporter.web.config import Tls


def make_context(tls: Tls) -> ssl.SSLContext:
    """The TLS context for these files. Raises `ConfigError` if a file is missing or has the wrong content."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.minimum_version = tls.min_version
    made.maximum_version = tls.max_version
    # Each renegotiation is expensive for the server and cheap for the client.
    made.options |= ssl.OP_NO_RENEGOTIATION
    made.set_alpn_protocols(["http/1.1"])
    _require_content("cert_file", tls.cert_file, b"CERTIFICATE-----", "a certificate")
    _require_content("key_file", tls.key_file, b"PRIVATE KEY-----", "a private key")
    try:
        made.load_cert_chain(tls.cert_file, tls.key_file, password=_no_password)
    except _EncryptedKeyError:
        raise _file_error("key_file", tls.key_file, "the key is encrypted; write it without a passphrase") from None
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise _file_error(
                "key_file", tls.key_file, f"the key is not that of {tls.cert_file}; name the pair"
            ) from None
        problem = f"certificate or key cannot be used ({error.reason or error}); renew the pair with {tls.key_file}"
        raise _file_error("cert_file", tls.cert_file, problem) from None
    except (OSError, ValueError) as error:
        raise _file_error("cert_file", tls.cert_file, f"certificate or key cannot be used: {error}") from None
    if tls.client_auth != "NoClientCert":
        required = tls.client_auth == "RequireAndVerifyClientCert"
        made.verify_mode = ssl.CERT_REQUIRED if required else ssl.CERT_OPTIONAL
        # Every certificate in the file is trusted, also an intermediate one without its root, as in Go.
        made.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
        if tls.client_ca_file is None:
            made.load_default_certs(ssl.Purpose.CLIENT_AUTH)
        else:
            _require_content("client_ca_file", tls.client_ca_file, b"CERTIFICATE-----", "a certificate")
            try:
                made.load_verify_locations(tls.client_ca_file)
            except (OSError, ValueError) as error:
                problem = f"no certificates can be read: {getattr(error, 'reason', None) or error}; write them in PEM"
                raise _file_error("client_ca_file", tls.client_ca_file, problem) from None
    return made


def following_context(current: Callable[[], ssl.SSLContext]) -> ssl.SSLContext:
    """A context that lets the context that is current at that moment handle each new connection."""
    made = _FollowingContext(ssl.PROTOCOL_TLS_SERVER)
    made.current = current
    return made


class _FollowingContext(ssl.SSLContext):
    # asyncio calls this method for each connection; it has no other place for a new certificate. Loading a new pair
    # into the context in use could leave it with half a pair, and would not change what clients must show.
    current: Callable[[], ssl.SSLContext]

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        return self.current().wrap_bio(*args, **kwargs)


class _EncryptedKeyError(Exception):
    pass


def _no_password() -> str:
    # Without this, OpenSSL would ask for the password on the terminal and wait.
    raise _EncryptedKeyError


def _require_content(key: str, file: Path, mark: bytes, what: str) -> None:
    """Raises `ConfigError` if the file cannot be read or does not contain the mark of `what`."""
    try:
        # A pipe would block this reading and every later one.
        if not stat.S_ISREG(file.stat().st_mode):
            raise _file_error(key, file, f"this is not a regular file; name one that holds {what}")
        content = file.read_bytes()
    except FileNotFoundError:
        raise _file_error(key, file, "the file does not exist; put it there or name another") from None
    except OSError as error:
        raise _file_error(
            key, file, f"the file cannot be read: {error.strerror}; let the exporter's user read it"
        ) from None
    if mark not in content:
        raise _file_error(key, file, f"the file holds no {what.removeprefix('a ')} in PEM format; name one that does")


def _file_error(key: str, file: Path, problem: str) -> ConfigError:
    return ConfigError(f"tls_server_config.{key}: {problem} ({file})")
