"""Certificates made for a test: an authority, and what it signs for servers and clients."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import trustme
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, in PEM."""

    cert: bytes
    key: bytes

    @property
    def serial_number(self) -> int:
        return x509.load_pem_x509_certificate(self.cert).serial_number

    def encrypted_key(self, passphrase: bytes) -> bytes:
        key = load_pem_private_key(self.key, None)
        return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase))

    def write(self, folder: Path, name: str) -> tuple[Path, Path]:
        """Write NAME.crt and NAME.key to the folder; return their paths."""
        cert, key = folder / f"{name}.crt", folder / f"{name}.key"
        cert.write_bytes(self.cert)
        key.write_bytes(self.key)
        return cert, key


class Authority:
    """A private certificate authority, below another one if `above` is given."""

    def __init__(self, above: Authority | None = None) -> None:
        self._ca: trustme.CA = above._ca.create_child_ca() if above else trustme.CA()

    @property
    def cert(self) -> bytes:
        return self._ca.cert_pem.bytes()

    def issue(self) -> Pair:
        """A certificate for localhost and 127.0.0.1, for a server or a client, without the authorities above it."""
        made = self._ca.issue_cert("localhost", "127.0.0.1")
        return Pair(made.cert_chain_pems[0].bytes(), made.private_key_pem.bytes())

    def write(self, folder: Path, name: str) -> Path:
        """Write the authority's certificate to NAME.crt in the folder; return its path."""
        path = folder / f"{name}.crt"
        path.write_bytes(self.cert)
        return path
