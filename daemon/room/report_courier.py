"""Reports of a node whose role does not let it write its room's registry: a tracker enters them."""

from __future__ import annotations

from collections.abc import Sequence

from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.document import Chain
from dreamer.protocol.registry.handed_in import HandedIn
from dreamer.protocol.registry.records import Record
from dreamer.protocol.rooms.card import RegistryPlace, RoomCard


class ReportCourier:
    """One room's; ``sessions`` are those with its trackers, the first one first."""

    def __init__(self, card: RoomCard, sessions: Sequence[TrackerSession]) -> None:
        self._card = card
        self._sessions = sessions

    async def deliver(self, report: Record[NodeReport], chain: Chain) -> bool:
        """Return whether a tracker entered the report; if not, this node might do it by itself.

        Raises:
            ForbiddenError: it does not let this node report.
            RemoteError: none does it now.
        """
        handed = HandedIn(report, chain, self._card.registry)
        if self._card.registry is RegistryPlace.ORIGIN:
            # Any of them may have access to the bucket, and this node itself, too.
            return await self._any(handed)
        # The first alone: what is written at another is a mirror, and gets lost.
        if not await self._sessions[0].report(handed):
            raise RemoteError(
                f"tracker {self._sessions[0].url} enters no reports of members that may not write "
                "the registry: if it is of an older version, update it"
            )
        return True

    async def _any(self, handed: HandedIn) -> bool:
        for session in self._sessions:
            if session.connected and await session.report(handed):
                return True
        return False
