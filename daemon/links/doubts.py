"""Links that stand although a signal says that the peer links anew.

The peer may have restarted; or a tracker may only say so, to part the two. So the peer is asked
over the link itself, and the signal counts only if it does not answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from dreamer.daemon.links.link import Link
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINK_DOUBT_S
from dreamer.protocol.link.messages import Ping


class Doubts:
    """The signals that wait for what becomes of a link; the latest of each peer."""

    def __init__(self, link_to: Callable[[NodeId], Link | None]) -> None:
        self._link_to = link_to
        self._open: dict[NodeId, tuple[float, Json]] = {}

    def add(self, link: Link, body: Json, now: float) -> None:
        """Ask a peer whether it is there, and keep the signal until it is settled."""
        if link.peer not in self._open:
            link.send(Ping(int(now * 1e6)))
        asked_at, _ = self._open.get(link.peer, (now, body))
        self._open[link.peer] = (asked_at, body)

    def settle(self, now: float) -> Iterator[tuple[NodeId, Json]]:
        """Yield the signals that count after all: no link any more, or one that stays silent."""
        for peer, (asked_at, body) in list(self._open.items()):
            link = self._link_to(peer)
            if link is not None and link.heard_at <= asked_at and now < asked_at + LINK_DOUBT_S:
                continue
            del self._open[peer]
            if link is None or link.heard_at <= asked_at:
                yield peer, body
