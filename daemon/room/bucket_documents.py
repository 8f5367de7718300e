"""A room's registry as an object in its bucket: one place for all members, no tracker needed.

Nobody is told by the bucket when it changes. Members that link tell one another
(``registry_exchange``), and every node looks now and then, which costs a request without a body.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

from dreamer.daemon.origin.document import OriginUnconditionalError, Stored
from dreamer.daemon.origin.faults import (
    OriginConflictError,
    OriginError,
    OriginRefusedError,
    OriginUnsignedError,
)
from dreamer.protocol.errors import (
    ConflictError,
    ForbiddenError,
    InputError,
    RemoteError,
    StoppedError,
)
from dreamer.protocol.registry_limits import (
    REGISTRY_BUCKET_FIRST_WAIT_S,
    REGISTRY_BUCKET_LOOK_S,
    REGISTRY_FIRST_WAIT_S,
)

T = TypeVar("T")


class BlockingDocument(Protocol):
    """The document at the origin (``origin.document.OriginDocument``)."""

    def read(self, stop: threading.Event, /) -> Stored | None:
        """Return the document and its ETag; None when there is none yet."""
        ...

    def write(self, data: bytes, etag: str | None, stop: threading.Event, /) -> str:
        """Write it if it still has ``etag``; return its new ETag."""
        ...

    def prove(self, stop: threading.Event, /) -> None:
        """Make sure that writes on a condition are refused when it isn't met."""
        ...


class BucketDocuments:
    """The document store (``registry_client.DocumentStore``) of a room that keeps it in its bucket.

    ``room`` is its name, for people.
    """

    def __init__(self, room: str, document: BlockingDocument) -> None:
        self._room = room
        self._document = document
        self._answered = False
        self.away = False
        """Whether the bucket could not be reached when it was last asked."""

    async def read(self) -> Stored | None:
        """Return the document and its ETag; None when there is none yet.

        Raises:
            RemoteError: the bucket can't be reached, or does not let this node read.
        """
        try:
            # Who has a copy need not wait for as long as a silent network may take. The first time,
            # boto3 has to be loaded and to find credentials, which may take seconds by itself.
            wait_s = REGISTRY_FIRST_WAIT_S if self._answered else REGISTRY_BUCKET_FIRST_WAIT_S
            async with asyncio.timeout(wait_s):
                return await self._asked(self._document.read)
        except TimeoutError as error:
            self.away = True
            raise self._failed("no answer in time") from error
        except OriginError as error:
            raise self._failed(error) from error

    async def write(self, data: bytes, etag: str | None) -> str:
        """Write if the stored version is still ``etag``; return the new ETag.

        Raises:
            ConflictError: somebody else wrote first.
            ForbiddenError: this node may not write to the bucket, by itself or by signed URLs.
            RemoteError: the bucket can't be reached.
        """
        try:
            return await self._asked(lambda stop: self._document.write(data, etag, stop))
        except OriginConflictError as error:
            raise ConflictError(f"the registry of room {self._room} was changed: {error}") from (
                error
            )
        except OriginRefusedError as error:
            # That nobody signs for it can change any time; it is no verdict on this node.
            if isinstance(error, OriginUnsignedError):
                raise self._failed(error) from error
            raise ForbiddenError(f"can't change the registry of room {self._room}: {error}") from (
                error
            )
        except OriginError as error:
            raise self._failed(error) from error

    async def prove(self) -> None:
        """Make sure that no member's change can erase another's there.

        Raises:
            InputError: the store ignores the conditions of writes, or this node has no credentials
                to find that out; the message says the way out.
            RemoteError: the bucket can't be reached, or does not let this node write.
        """
        try:
            await self._asked(self._document.prove)
        except OriginUnsignedError as error:
            # URLs are signed for the registry alone, and not before the tracker knows the room.
            raise InputError(
                "only a node with S3 credentials can make a room that keeps its registry in its "
                "bucket, for it has to try what that store does: set AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY (or AWS_PROFILE) in dreamerd's environment, or leave the "
                "registry at the tracker (--registry tracker)"
            ) from error
        except OriginUnconditionalError as error:
            raise InputError(
                f"this store can't keep a registry: {error}, so two members who publish at once "
                "would erase each other's work. Leave the registry at the tracker (--registry "
                "tracker), or use a store that honours If-Match and If-None-Match when writing, "
                "as AWS S3 and MinIO do"
            ) from error

    async def look(
        self,
        moved: Callable[[], None],
        rng: Random,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """Have the registry read now and then, for ever; cancel it to end."""
        while True:
            # Nodes that started together should not ask together for all time.
            await sleep(REGISTRY_BUCKET_LOOK_S * rng.uniform(0.5, 1.5))
            moved()

    def _failed(self, why: object) -> RemoteError:
        return RemoteError(
            f"can't reach the registry of room {self._room}, which is kept in its bucket: {why}. "
            "Until it is back, the room is as it was last seen, and nothing in it can be changed"
        )

    async def _asked(self, ask: Callable[[threading.Event], T]) -> T:
        stop = threading.Event()
        try:
            answer = await asyncio.to_thread(ask, stop)
        except OriginConflictError:
            raise
        except OriginError:
            self.away = True
            raise
        except StoppedError as error:
            raise RemoteError("this node is stopping") from error
        finally:
            # Who asked may be cancelled, and the thread would go on trying.
            stop.set()
        self.away = False
        self._answered = True
        return answer
