"""The end of a membership: asked for here, or heard of from trackers and members."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterable

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.rendezvous.trackers import Trackers
from dreamer.daemon.room.book import Membership
from dreamer.daemon.room.members import Members, find_member
from dreamer.daemon.room.revocations import sign_revocation
from dreamer.protocol.errors import ForbiddenError, InputError, LocalError, RemoteError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import REMOVAL_TIMEOUT_S
from dreamer.protocol.rooms.revocations import Revocation

log = logging.getLogger(__name__)


class Removals:
    """Ends memberships in one room, and acts on their ends. ``spread`` is told of each new one."""

    def __init__(
        self,
        membership: Membership,
        identity: NodeIdentity,
        members: Members,
        trackers: Trackers,
        spread: Callable[[Revocation], None],
    ) -> None:
        self._membership = membership
        self._identity = identity
        self._members = members
        self._trackers = trackers
        self._spread = spread
        self._awaited: dict[bytes, asyncio.Future[None]] = {}

    async def remove(self, ref: str, known: Iterable[NodeId]) -> NodeId:
        """End the membership of the node that ``ref`` names, once a tracker in reach took note.

        Else it counts at once here and for linked members, who pass it on, and later to trackers.

        Raises:
            ForbiddenError: this node may not.
            InputError: it names no node, none that is ``known``, or several; or this one.
            RemoteError: no tracker took note of it in time.
        """
        identity, ended = self._identity, self._members.revocations.ended
        node = find_member(ref, known)
        if node == identity.node_id:
            raise InputError("that is this node itself: use 'dreamer room leave'")
        made = sign_revocation(self._membership, identity, node, ended.next_number, time.time())
        self._members.check_ends(made)
        if self._trackers.connected:
            await self._have_noted(made)
        elif not self.heard(made):
            raise ForbiddenError("this node may remove nobody: it was removed itself")
        return node

    async def _have_noted(self, made: Revocation) -> None:
        noted = self._awaited[made.signature] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(REMOVAL_TIMEOUT_S):
                await self._trackers.revoke(made)
                await noted
        except TimeoutError:
            raise RemoteError(
                f"no tracker of room {self._membership.card.name} has confirmed it in "
                f"{REMOVAL_TIMEOUT_S:.0f} s: see dreamerd's log, and remove the node again"
            ) from None
        finally:
            del self._awaited[made.signature]

    def heard(self, revocation: Revocation) -> bool:
        """Act on a revocation; return False if it proves nothing."""
        try:
            is_new = self._members.take(revocation)
        except ForbiddenError as error:
            log.warning("ignored a revocation: %s", error)
            return False
        except LocalError as error:
            log.error("a revocation counts only until this node restarts: %s", error)
            is_new = True
        noted = self._awaited.get(revocation.signature)
        if noted is not None and not noted.done():
            noted.set_result(None)
        if is_new:
            self._spread(revocation)
        return True
