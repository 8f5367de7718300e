"""All trackers of one room at once: asked side by side, so that a slow one costs no time."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine, Sequence
from typing import TypeVar

from dreamer.daemon.ports import TrackerInfo
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.protocol.errors import DreamerError, ForbiddenError, RemoteError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.swarm.holders import Found, merged
from dreamer.protocol.tracker_limits import TRACKER_CONNECT_TIMEOUT_S, TRACKER_SEEK_OTHERS_S

log = logging.getLogger(__name__)

T = TypeVar("T")


class Trackers:
    """The sessions of one room; ``room`` is its name, for people."""

    def __init__(self, room: str, sessions: Sequence[TrackerSession]) -> None:
        self._room = room
        self._sessions = sessions

    @property
    def connected(self) -> list[TrackerSession]:
        """Those that this node is logged in at."""
        return [session for session in self._sessions if session.connected]

    @property
    def all_connected(self) -> bool:
        """Whether there are any, and none is missing."""
        return 0 < len(self.connected) == len(self._sessions)

    def infos(self) -> tuple[TrackerInfo, ...]:
        """Return how each of them stands, for people."""
        return tuple(
            TrackerInfo(one.url, one.connected, None if one.connected else one.last_error)
            for one in self._sessions
        )

    def woke(self) -> None:
        """Connect to all of them anew, for this machine has slept."""
        for session in self._sessions:
            session.woke()

    async def wait_connected(self) -> None:
        """Return once one of them has let this node in.

        Raises:
            ForbiddenError: none did, and one refuses this membership.
            RemoteError: none can be reached.
        """
        waits = [one.wait_connected(TRACKER_CONNECT_TIMEOUT_S) for one in self._sessions]
        done, failed = await _race(waits, 0.0)
        if not done:
            # Of several reasons the one that a person can do something about.
            failed.sort(key=lambda error: not isinstance(error, ForbiddenError))
            raise (*failed, RemoteError(f"room {self._room} has no tracker"))[0]

    async def seek(self, swarm: InfoHash) -> Found:
        """Return who has or fetches a model, by the word of every tracker.

        Once one has answered, the others have ``TRACKER_SEEK_OTHERS_S`` left to.
        """
        done, failed = await _race(
            [one.seek(swarm) for one in self.connected], TRACKER_SEEK_OTHERS_S
        )
        for error in failed:
            log.info("can't ask %s who holds a model: %s", self._room, error)
        return merged(swarm, done)

    async def revoke(self, revocation: Revocation) -> None:
        """Have every tracker that is there end a membership.

        Raises:
            RemoteError: none is there.
        """
        last = RemoteError(f"room {self._room} has no tracker")
        told = False
        for session in self._sessions:
            try:
                await session.revoke(revocation)
                told = True
            except RemoteError as error:
                last = error
        if not told:
            raise last


async def _race(
    calls: Sequence[Coroutine[None, None, T]], others_s: float
) -> tuple[list[T], list[DreamerError]]:
    """Run all at once; the first success leaves the others ``others_s``. Return what came of it."""
    waiting = {asyncio.ensure_future(call) for call in calls}
    done: list[T] = []
    failed: list[DreamerError] = []
    try:
        while waiting:
            ended, waiting = await asyncio.wait(
                waiting,
                timeout=others_s if done else None,
                return_when=asyncio.ALL_COMPLETED if done else asyncio.FIRST_COMPLETED,
            )
            late = bool(done)
            for task in ended:
                try:
                    done.append(task.result())
                except DreamerError as error:
                    failed.append(error)
            if late:
                break
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    return done, failed
