"""The end of an ephemeral worker: what it has to upload goes first, as long as the pod may last."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from dreamer.protocol.cache_limits import (
    WORKER_LEFT_LOOK_S,
    WORKER_PUSH_LOOK_S,
    WORKER_STOP_MARGIN_S,
)

log = logging.getLogger(__name__)

EXIT_LEFT = 75
"""Exit status when something is left to upload: EX_TEMPFAIL of sysexits(3), try again."""


class Left(Protocol):
    """An upload that isn't done."""

    @property
    def name(self) -> str:
        """The model's name."""
        ...

    @property
    def room(self) -> str:
        """The room whose origin it goes to."""
        ...

    @property
    def left_bytes(self) -> int:
        """What has yet to be sent."""
        ...


class Uploads(Protocol):
    """The uploads of a node."""

    def pending(self) -> Sequence[Left]:
        """Return those that wait or run."""
        ...

    async def drain(self, deadline: float) -> Sequence[Left]:
        """Send all until ``deadline`` (steady seconds); return what is left."""
        ...


async def send_off(
    uploads: Uploads,
    pushing: Callable[[], bool],
    grace_s: float,
    enough: asyncio.Event,
    tell: Callable[[str], None],
) -> Sequence[Left]:
    """Upload what is pending within the grace period; return what is left.

    ``pushing`` says whether a push is under way, which has yet to become an upload. ``enough``
    ends it at once. ``tell`` is told in one line what goes on, now and then.
    """
    deadline = time.monotonic() + max(0.0, grace_s - WORKER_STOP_MARGIN_S)
    if not pushing() and not uploads.pending():
        return ()
    draining = asyncio.ensure_future(_drain(uploads, pushing, deadline))
    stopped = asyncio.ensure_future(enough.wait())
    try:
        while not draining.done() and not stopped.done():
            tell(_under_way(uploads.pending(), deadline - time.monotonic()))
            await asyncio.wait(
                {draining, stopped},
                timeout=WORKER_LEFT_LOOK_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        left = draining.result() if draining.done() else uploads.pending()
    finally:
        for task in (draining, stopped):
            task.cancel()
        await asyncio.wait({draining, stopped})
    return left


async def _drain(uploads: Uploads, pushing: Callable[[], bool], deadline: float) -> Sequence[Left]:
    while True:
        left = await uploads.drain(deadline)
        # A push that is being hashed has no upload yet, and nobody tells when it has.
        if left or not pushing() or time.monotonic() >= deadline:
            return left
        await asyncio.sleep(WORKER_PUSH_LOOK_S)


def _under_way(pending: Sequence[Left], left_s: float) -> str:
    size = sum(one.left_bytes for one in pending)
    return (
        f"before it ends this node uploads {len(pending)} models, {size} bytes are left; "
        f"{max(0.0, left_s):.0f} s are left for it"
    )


def said_of(left: Sequence[Left], home: str) -> str:
    """Return what was not uploaded, and what to do about it; nothing is left of a cut-off push."""
    if not left:
        return (
            "a push was under way and is not published: push again. To give it more time raise "
            "terminationGracePeriodSeconds and [worker] grace_s"
        )
    names = ", ".join(f"{one.name} to room {one.room}" for one in left)
    return (
        f"not uploaded: {names}. It is kept in {home}: start dreamerd again there and it goes on; "
        "if that place goes with the pod, push again from where the files are. To give it more "
        "time raise terminationGracePeriodSeconds and [worker] grace_s"
    )
