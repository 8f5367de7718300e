"""The certificate of this run of the node, known to peers only by its SHA-256.

Nobody vouches for it: its hash goes to a peer over the authenticated control channel, so that a
connection which shows it can only end at this process. It is made anew at each start.
"""

from __future__ import annotations

import datetime
import hashlib
import os
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

CERTIFICATE_LIFE = datetime.timedelta(days=3650)
"""Its dates are checked by nobody, but OpenSSL wants some; a daemon may run for years."""


class Connection(ssl.SSLSocket):
    """What the contexts below wrap: closed also if the other end is gone before TLS begins.

    ``wrap_socket`` takes the descriptor, then asks for the other end's address. On a reset it
    raises and leaves the socket to the garbage collector (``SSLSocket._create``, seen in 3.11);
    to look before does not help, for a reset comes when it likes.
    """

    _wrapped = False

    def getpeername(self) -> Any:
        """Return the other end's address.

        Raises:
            OSError: it is gone; while TLS is being put on, this is closed too.
        """
        try:
            return super().getpeername()
        except OSError:
            if not self._wrapped:
                self.close()
            raise

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands; from now on somebody holds this, and closes it."""
        self._wrapped = True
        super().do_handshake(block)


@dataclass(frozen=True)
class Certificate:
    """A key and its certificate as PEM, and the SHA-256 of the certificate's DER (32 bytes)."""

    pem: bytes
    fingerprint: bytes


def make_certificate() -> Certificate:
    """Return a fresh self-signed certificate with a P-256 key."""
    key = ec.generate_private_key(ec.SECP256R1())
    # The same name for everybody: a certificate that crosses the wire must not tell who shows it.
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "dreamer")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + CERTIFICATE_LIFE)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    pem = private + made.public_bytes(serialization.Encoding.PEM)
    return Certificate(pem, fingerprint(made.public_bytes(serialization.Encoding.DER)))


def fingerprint(der: bytes) -> bytes:
    """Return how peers know a certificate."""
    return hashlib.sha256(der).digest()


def serving_context(certificate: Certificate) -> ssl.SSLContext:
    """Return what accepted connections are wrapped with: TLS 1.3 only, no session tickets."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A ticket would be read by the peer's thread for nothing, and let a session be resumed
    # without the certificate being shown.
    context.num_tickets = 0
    context.sslsocket_class = Connection
    with _as_file(certificate.pem) as path:
        context.load_cert_chain(path)
    return context


def dialling_context() -> ssl.SSLContext:
    """Return what connections that this node opens are wrapped with.

    OpenSSL verifies nothing: the caller compares the fingerprint before it says a word.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.sslsocket_class = Connection
    return context


@contextmanager
def _as_file(data: bytes) -> Iterator[str]:
    """Lend bytes a path for as long as OpenSSL reads them: it takes keys from files only."""
    if hasattr(os, "memfd_create"):
        # In memory, so that the key never reaches a disk.
        fd = os.memfd_create("dreamer-direct", os.MFD_CLOEXEC)
        try:
            os.write(fd, data)
            yield f"/proc/self/fd/{fd}"
        finally:
            os.close(fd)
    else:
        with tempfile.NamedTemporaryFile() as file:
            file.write(data)
            file.flush()
            yield file.name
