"""Members that are linked tell one another who was removed from the room.

A revocation is signed, so that any member can pass it on and none can make or change one. Where a
tracker is in reach it tells everybody, and over links nothing is said.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.limits import REVOCATIONS_REFUSED_MAX
from dreamer.protocol.link.gossip import GOSSIP
from dreamer.protocol.link.messages import Message, Revoked
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation

log = logging.getLogger(__name__)


class RevocationExchange(LinkListener):
    """One room's exchange.

    ``known`` returns what this node has to tell, when ``wanted``; ``take`` verifies and keeps what
    it is told, and returns False for what proves nothing.
    """

    def __init__(
        self,
        known: Callable[[], list[Revocation]],
        take: Callable[[Revocation], bool],
        wanted: Callable[[], bool],
    ) -> None:
        self._known = known
        self._take = take
        self._wanted = wanted
        self._links: dict[int, Link] = {}
        # By member, for a link can be made anew. Only members that proved themselves get here.
        self._refused: dict[NodeId, int] = {}

    def tell(self, revocation: Revocation) -> None:
        """Tell all linked members of one that is new here, also whom it removes."""
        if self._wanted():
            for link in self._links.values():
                link.send(_message(revocation))

    def link_up(self, link: Link) -> None:
        """Tell the new neighbour all."""
        # A node of an older version takes an unknown message for a fault.
        if GOSSIP not in link.capabilities:
            return
        self._links[link.number] = link
        if self._wanted():
            for revocation in self._known():
                link.send(_message(revocation))

    def link_down(self, link: Link, reason: str) -> None:
        """Forget it."""
        self._links.pop(link.number, None)

    def message(self, link: Link, message: Message) -> None:
        """Take a revocation, from whomever it comes."""
        if not isinstance(message, Revoked):
            return
        refused = self._refused.get(link.peer, 0)
        # Each costs several signatures to check. Two honest members may disagree about a few.
        if refused >= REVOCATIONS_REFUSED_MAX:
            return
        try:
            revocation = parse_revocation(canonical.loads(message.statement))
        except InputError as error:
            raise RemoteProtocolError(f"a revocation that can't be read: {error}") from error
        if not self._take(revocation):
            self._refused[link.peer] = refused + 1
            if refused + 1 == REVOCATIONS_REFUSED_MAX:
                log.warning("no more revocations are taken from %s", short(link.peer))


def _message(revocation: Revocation) -> Revoked:
    return Revoked(canonical.dumps(revocation.to_json()))
