"""What a tracker session tells its owner."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.revocations import Revocation


@dataclass(frozen=True)
class TrackerUp:
    """Logged in. What happened meanwhile was missed: read the registry again."""


@dataclass(frozen=True)
class TrackerDown:
    """The tracker can't be used for now; links that exist stay up."""

    reason: str


@dataclass(frozen=True)
class MemberPresent:
    """A member is at the tracker, or changed its capabilities: not checked, anyone's word."""

    node: NodeId
    capabilities: Json


@dataclass(frozen=True)
class MemberGone:
    """A member has left the tracker; a link to it may still live."""

    node: NodeId


@dataclass(frozen=True)
class SignalReceived:
    """A member, so the tracker says, sent this to us alone."""

    node: NodeId
    body: Json


@dataclass(frozen=True)
class Unreachable:
    """A signal found its target absent."""

    node: NodeId


@dataclass(frozen=True)
class RegistryChanged:
    """Somebody, perhaps we ourselves, wrote the registry."""

    etag: str


@dataclass(frozen=True)
class RevocationReceived:
    """A membership was ended; verify it with a ``RevocationSet`` before links are dropped."""

    revocation: Revocation


@dataclass(frozen=True)
class TurnRenewed:
    """The tracker lends other TURN credentials than before."""


RendezvousEvent = (
    TrackerUp
    | TrackerDown
    | MemberPresent
    | MemberGone
    | SignalReceived
    | Unreachable
    | RegistryChanged
    | RevocationReceived
    | TurnRenewed
)
