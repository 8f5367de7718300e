"""Tells systemd how the daemon stands: the protocol of sd_notify(3), a datagram each time.

Nothing is said where nobody listens, and a service manager that has gone is no error of ours.
"""

from __future__ import annotations

import logging
import socket
from collections.abc import MutableMapping

log = logging.getLogger(__name__)

VARIABLE = "NOTIFY_SOCKET"


class ServiceManager:
    """Whoever started this daemon and listens at NOTIFY_SOCKET; perhaps nobody."""

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        # Out of the environment: what this daemon starts is not to speak for it.
        self._address = environ.pop(VARIABLE, "")

    def ready(self) -> None:
        """The daemon is ready."""
        self._send("READY=1\nSTATUS=ready")

    def status(self, text: str) -> None:
        """Say in one line what it is doing."""
        # A line is a field: names of models come from others.
        self._send(f"STATUS={' '.join(text.split())}")

    def stopping(self, text: str) -> None:
        """The daemon is about to end."""
        self._send(f"STOPPING=1\nSTATUS={' '.join(text.split())}")

    def _send(self, text: str) -> None:
        if not self._address:
            return
        # An address that begins with @ is in Linux' abstract namespace.
        address = self._address.replace("@", "\0", 1) if self._address[0] == "@" else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as end:
                end.sendto(text.encode(errors="replace"), address)
        except OSError as error:
            log.warning("can't tell the service manager %r: %s", text.partition("\n")[0], error)
