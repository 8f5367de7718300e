"""A connection on its way to become a link, and the transport that makes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from dreamer.daemon.links.meeting import Awaited
from dreamer.daemon.transport.vocabulary import ToTransport
from dreamer.protocol.ids import NodeId
from dreamer.protocol.link.handshake import Fingerprints


class TransportPort(Protocol):
    """What links need of a transport (``transport.client.Transport``)."""

    def new_link(self) -> int:
        """Return a number no link has had."""
        ...

    def send(self, command: ToTransport, /) -> None:
        """Carry out a command."""
        ...


@dataclass
class Attempt:
    """A peer connection that has not become a link yet; ``awaited`` if people arranged it."""

    number: int
    peer: NodeId
    attempt: int
    kind: str
    relayed: bool = False
    seen: Fingerprints | None = None
    deadline: float = float("inf")
    awaited: Awaited | None = None
