"""Presigned URLs for this node's threads, from whichever tracker of a room signs."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Callable, Sequence
from typing import Protocol

from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginRefusedError,
    OriginUnsignedError,
)
from dreamer.daemon.rendezvous.services import TrackerBusyError
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteError
from dreamer.protocol.presign import SignedUrls, UrlRequest
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.tracker_limits import PRESIGN_BUSY_PAUSE_S, PRESIGN_TIMEOUT_S

_OWN_CREDENTIALS = (
    "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in dreamerd's environment"
)


class SigningTracker(Protocol):
    """The part of a ``TrackerSession`` that signs."""

    @property
    def connected(self) -> bool:
        """Whether this node is logged in now."""
        ...

    async def presign(self, requests: Sequence[UrlRequest]) -> SignedUrls | None:
        """Return presigned URLs; None when this tracker signs none for the room."""
        ...


class TrackerSigning:
    """Signs for one room; ``sign`` blocks and is for threads other than the loop's."""

    def __init__(
        self,
        card: RoomCard,
        trackers: Callable[[], Sequence[SigningTracker]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._card = card
        self._trackers = trackers
        self._loop = loop

    def sign(self, requests: Sequence[UrlRequest]) -> SignedUrls:
        """Return a URL for each request.

        Raises:
            OriginUnsignedError: no tracker signs for this room.
            OriginRefusedError: this node may not write.
            OriginError: a tracker signs for another place.
            OriginBusyError: no tracker answers now.
        """
        asking = self._ask(requests)
        try:
            asked = asyncio.run_coroutine_threadsafe(asking, self._loop)
        except RuntimeError:
            asking.close()
            raise OriginBusyError("this node is stopping") from None
        try:
            # The loop ends it before that, unless the loop itself has ended.
            return asked.result(2 * PRESIGN_TIMEOUT_S)
        except concurrent.futures.CancelledError:
            raise OriginBusyError("this node is stopping") from None
        except TimeoutError:
            asked.cancel()
            raise self._away("no answer in time") from None

    async def _ask(self, requests: Sequence[UrlRequest]) -> SignedUrls:
        async with asyncio.timeout(PRESIGN_TIMEOUT_S):
            while True:
                try:
                    return await self._of_any(requests)
                except TrackerBusyError:
                    # A model of many small files asks faster than one member may: no failure.
                    await asyncio.sleep(PRESIGN_BUSY_PAUSE_S)

    async def _of_any(self, requests: Sequence[UrlRequest]) -> SignedUrls:
        away: OriginError | None = None
        trackers = self._trackers()
        if not trackers:
            raise OriginRefusedError(
                f"this node has no S3 credentials, and room {self._card.name} has no tracker that "
                f"could sign URLs for it: {_OWN_CREDENTIALS}"
            )
        for tracker in trackers:
            if not tracker.connected:
                away = self._away("not connected")
                continue
            try:
                signed = await tracker.presign(requests)
            except TrackerBusyError:
                raise
            except ForbiddenError as error:
                raise OriginRefusedError(str(error)) from error
            except InputError as error:
                raise OriginError(f"{error}; the room's origin is {self._card.origin}") from error
            except RemoteError as error:
                away = self._away(str(error))
                continue
            if signed is not None:
                return signed
        # One that is away may sign when it is back: only when all said no, it is no.
        raise away or self._unsigned()

    def _away(self, why: str) -> OriginBusyError:
        return OriginBusyError(
            f"no tracker of room {self._card.name} can sign URLs for its origin now ({why}), and "
            "this node has no S3 credentials: try again later"
        )

    def _unsigned(self) -> OriginUnsignedError:
        return OriginUnsignedError(
            f"this node has no S3 credentials, and no tracker of room {self._card.name} signs URLs "
            f"for it: {_OWN_CREDENTIALS}, or have the tracker's owner add "
            f"[tracker.origins.{self._card.room_id.hex()}] to its settings"
        )
