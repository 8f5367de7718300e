"""One upload from its beginning to its end, and what it needs of its room."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from dreamer.daemon.origin.tally import UploadProgress, UploadReport
from dreamer.daemon.ports import Progress
from dreamer.daemon.sharing.upload_queue import QueuedUpload
from dreamer.protocol.ids import RoomId
from dreamer.protocol.registry.changes import Change
from dreamer.protocol.registry.view import Verified
from dreamer.protocol.rooms.card import RoomCard


class RoomRegistry(Protocol):
    """The part of a room's registry that is told what is stored."""

    async def change(self, *changes: Change) -> Any:
        """Change it; raises DreamerError."""
        ...

    async def recall(self) -> Verified | None:
        """Return what is known of it without asking anybody."""
        ...


class UploadRoom(Protocol):
    """The part of a ``RoomSession`` that uploads need."""

    at_close: list[Callable[[], object]]

    @property
    def room_id(self) -> RoomId:
        """Its id."""
        ...

    @property
    def card(self) -> RoomCard:
        """Where its origin is."""
        ...

    @property
    def registry(self) -> RoomRegistry:
        """Where it is said what is stored."""
        ...


@dataclass(frozen=True)
class PendingUpload:
    """An upload that is not done: running, or waiting for its next attempt in ``retry_s``.

    Sizes in bytes; those of one that has not begun count the model as it is here.
    """

    name: str
    room: str
    manifest_id: str
    left_bytes: int
    total_bytes: int
    parts_done: int
    parts_total: int
    running: bool
    attempts: int
    error: str
    retry_s: float
    queued_at: float


class Job:
    """One upload from its beginning to its end; ``changed`` is set when an attempt has ended."""

    def __init__(self, item: QueuedUpload, session: UploadRoom, *, by_name: bool) -> None:
        self.item = item
        self.session = session
        self.by_name = by_name
        self.stop = threading.Event()
        self.progress: UploadProgress | None = None
        self.report: UploadReport | None = None
        self.running = False
        self.ended = False
        self.attempts = 0
        self.next_at = 0.0
        self.woken = asyncio.Event()
        self.changed = asyncio.Event()

    def note(self, progress: UploadProgress) -> None:
        """Take note of how far it is, in the thread that knows."""
        self.progress = progress

    def pending(self, now: float) -> PendingUpload:
        """Return how it stands."""
        item = self.item
        so_far = self.progress or UploadProgress(0, item.size_bytes, 0, 0)
        return PendingUpload(
            name=item.name,
            room=self.session.card.name,
            manifest_id=item.manifest_id.hex(),
            left_bytes=so_far.total - so_far.done,
            total_bytes=so_far.total,
            parts_done=so_far.parts_done,
            parts_total=so_far.parts_total,
            running=self.running,
            attempts=item.attempts,
            error=item.error,
            retry_s=0.0 if self.running else max(0.0, self.next_at - now),
            queued_at=item.queued_at,
        )

    def shown(self) -> Progress:
        """Return how far it is, for whoever watches a push."""
        so_far = self.progress or UploadProgress(0, self.item.size_bytes, 0, 0)
        return Progress(
            "upload",
            *(so_far.done, so_far.total),
            note=self.item.error,
            parts_done=so_far.parts_done,
            parts_total=so_far.parts_total,
        )
