"""How two nodes of a room agree to link: who offers, and what to do with each signal.

Only the node with the smaller id ever makes an offer, so two that want each other at once never
cross; the other one knocks. An attempt has a number chosen by the offerer, and what belongs to
an older attempt is ignored.

========  =====================  =========================================  ========
state     event                  command                                    next
========  =====================  =========================================  ========
IDLE      want, we are smaller   MakeOffer                                  OFFERED
IDLE      want, we are larger    SendSignal(knock)                          KNOCKED
any       knock, we are smaller  CloseOld if one stands, MakeOffer          OFFERED
any       offer, we are larger   CloseOld if one stands, MakeAnswer         ANSWERED
OFFERED   answer (same attempt)  TakeAnswer                                 ANSWERED
ANSWERED  authenticated          -                                          OPEN
any       met (by ``meeting``)   CloseOld if one stands                     OPEN
any       failed, timeout        CloseOld                                   IDLE
========  =====================  =========================================  ========
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINK_OPEN_TIMEOUT_S, LINK_RETRY_MIN_S
from dreamer.protocol.tracker_limits import TRACKER_MESSAGE_MAX_BYTES


class LinkState(Enum):
    """Where a link stands."""

    IDLE = "idle"
    KNOCKED = "knocked"
    OFFERED = "offered"
    ANSWERED = "answered"
    OPEN = "open"


@dataclass(frozen=True)
class MakeOffer:
    """Open a peer connection and send its offer as ``signal("offer", attempt, sdp)``."""

    attempt: int


@dataclass(frozen=True)
class MakeAnswer:
    """Open a peer connection for this offer and send the answer."""

    attempt: int
    sdp: str


@dataclass(frozen=True)
class TakeAnswer:
    """Give the answer to the peer connection that made the offer."""

    attempt: int
    sdp: str


@dataclass(frozen=True)
class CloseOld:
    """Close the peer connection of this attempt."""

    attempt: int


@dataclass(frozen=True)
class SendSignal:
    """Pass a body to the peer through a tracker."""

    body: Json


NegotiationCommand = MakeOffer | MakeAnswer | TakeAnswer | CloseOld | SendSignal


def signal(kind: str, attempt: int, sdp: str = "") -> Json:
    """Return the body of a signal: ``knock``, ``offer`` or ``answer``."""
    return {"kind": kind, "attempt": attempt, "sdp": sdp}


class Negotiation:
    """One pair of nodes in one room; attempts count up from a number the driver draws."""

    def __init__(self, ours: NodeId, peer: NodeId, first_attempt: int) -> None:
        self._offers = ours < peer
        self.state = LinkState.IDLE
        self.attempt = first_attempt
        self._deadline = float("inf")
        self._began = float("-inf")

    @property
    def deadline(self) -> float:
        """When an attempt that has not opened has failed; infinity when nothing is under way."""
        return self._deadline

    def want(self, now: float) -> list[NegotiationCommand]:
        """Start unless a link stands or is coming up."""
        if self.state is not LinkState.IDLE:
            return []
        return self._offer(now) if self._offers else self._knock(now)

    def receive(self, body: Json, now: float) -> list[NegotiationCommand]:
        """Take a signal from the peer.

        Raises:
            RemoteProtocolError: the signal has no form we know.
        """
        kind, attempt, sdp = _parse(body)
        if kind != "answer" and now < self._began + LINK_RETRY_MIN_S:
            # An attempt costs keys and sockets: signals alone may not make many.
            return []
        if kind == "knock" and self._offers:
            return [*self._close_old(), *self._offer(now)]
        if kind == "offer" and not self._offers:
            commands = self._close_old()
            self.attempt = attempt
            self._began = now
            self._enter(LinkState.ANSWERED, now)
            return [*commands, MakeAnswer(attempt, sdp)]
        if kind == "answer" and self.state is LinkState.OFFERED and attempt == self.attempt:
            self._enter(LinkState.ANSWERED, now)
            return [TakeAnswer(attempt, sdp)]
        return []

    def opened(self, attempt: int) -> bool:
        """Note that the peer proved itself; False when the attempt is not the current one."""
        if attempt != self.attempt or self.state is LinkState.IDLE:
            return False
        self.state, self._deadline = LinkState.OPEN, float("inf")
        return True

    def met(self) -> list[NegotiationCommand]:
        """Note that the peer proved itself on a connection that was not arranged by signals."""
        commands = self._close_old()
        # What is still on its way about the attempt before must not count for this link.
        self.attempt += 1
        self.state = LinkState.OPEN
        return commands

    def failed(self, attempt: int) -> list[NegotiationCommand]:
        """Note that an attempt came to nothing or its link was lost."""
        if attempt != self.attempt or self.state is LinkState.IDLE:
            return []
        return self._close_old()

    def tick(self, now: float) -> list[NegotiationCommand]:
        """Let an attempt that takes too long fail."""
        return self._close_old() if now >= self._deadline else []

    def _close_old(self) -> list[NegotiationCommand]:
        stood = self.state not in (LinkState.IDLE, LinkState.KNOCKED)
        self.state, self._deadline = LinkState.IDLE, float("inf")
        return [CloseOld(self.attempt)] if stood else []

    def _offer(self, now: float) -> list[NegotiationCommand]:
        self.attempt += 1
        self._began = now
        self._enter(LinkState.OFFERED, now)
        return [MakeOffer(self.attempt)]

    def _knock(self, now: float) -> list[NegotiationCommand]:
        self._enter(LinkState.KNOCKED, now)
        return [SendSignal(signal("knock", 0))]

    def _enter(self, state: LinkState, now: float) -> None:
        self.state, self._deadline = state, now + LINK_OPEN_TIMEOUT_S


def _parse(body: Json) -> tuple[str, int, str]:
    kind, attempt, sdp = body.get("kind"), body.get("attempt"), body.get("sdp")
    if (
        kind not in ("knock", "offer", "answer")
        or type(attempt) is not int
        or not isinstance(sdp, str)
        or not sdp.isascii()
        or len(sdp) > TRACKER_MESSAGE_MAX_BYTES
    ):
        raise RemoteProtocolError("a signal that is not a knock, an offer or an answer")
    return str(kind), attempt, sdp
