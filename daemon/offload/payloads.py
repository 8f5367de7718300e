"""Large tensors between members, over the lanes: bytes never pass the daemon's loop.

Whoever has a payload writes it into a file of its own and tells the other side its size and the
BLAKE3 of each 1 MiB block, inside a request or an answer. The other side asks for the blocks
(``WantPayload``) over the best lane the link has, as it would for a model's, and the lane verifies
them one by one. A payload is offered over one link and to nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from dreamer.daemon.inference.tensors import Data
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.offload.payload_fetch import Fetch
from dreamer.daemon.offload.payload_files import (
    PayloadFolder,
    allocate,
    disk_error,
    mapped,
    write,
)
from dreamer.daemon.offload.payload_giving import PayloadGiving
from dreamer.daemon.sharing.pace import Pace
from dreamer.daemon.transport.vocabulary import REJECTED, VERIFIED, ServeFailed
from dreamer.protocol.errors import DiskError, RemoteError
from dreamer.protocol.ids import short
from dreamer.protocol.link.messages import CancelWant, Message
from dreamer.protocol.link.offload_messages import Failed, WantPayload
from dreamer.protocol.offload_limits import (
    OFFLOAD_PAYLOAD_LATE_S,
    OFFLOAD_PAYLOAD_SETTLE_S,
    OFFLOAD_PAYLOAD_STALL_TIMEOUT_S,
)


class Payloads(LinkListener):
    """One room's payloads, both ways; a listener of its links."""

    def __init__(
        self,
        folder: PayloadFolder,
        numbers: Iterator[int],
        stall_timeout_s: float = OFFLOAD_PAYLOAD_STALL_TIMEOUT_S,
        pace: Pace | None = None,
    ) -> None:
        """``pace`` is the node's one queue of uploads, for all its rooms."""
        self._folder = folder
        self._numbers = numbers
        self._stall_timeout_s = stall_timeout_s
        self._giving = PayloadGiving(pace or Pace())
        self._fetches: list[Fetch] = []

    # Giving

    async def offer(self, link: Link, parts: Sequence[Data]) -> Payload:
        """Have the peer fetch these bytes, one after another, until ``withdraw``.

        Raises:
            BusyError: too much is on its way already.
            DiskError: they can't be written down.
        """
        size_bytes = sum(memoryview(part).nbytes for part in parts)
        path = self._folder.create(size_bytes)
        try:
            digests = await asyncio.to_thread(write, path, parts)
        except BaseException as error:
            self._folder.remove(path)
            if isinstance(error, OSError):
                raise disk_error(error) from error
            raise
        payload = Payload(next(self._numbers), size_bytes, digests)
        self._giving.offer(link, payload, path)
        return payload

    def withdraw(self, link: Link, payload: Payload) -> None:
        """Offer a payload no longer."""
        self._withdraw(link, payload.number)

    def _withdraw(self, link: Link, number: int) -> None:
        path = self._giving.withdraw(link, number)
        if path is not None:
            self._folder.remove(path)

    # Taking

    async def fetch(self, link: Link, payload: Payload) -> memoryview:
        """Return the bytes of a payload that the peer offers.

        Raises:
            RemoteProtocolError: what it said of it can't be.
            RemoteError: the peer is gone, or nothing comes any more.
            BusyError, DiskError: there is no room for it here.
        """
        payload.check()
        path = self._folder.create(payload.size_bytes)
        try:
            await asyncio.to_thread(allocate, path, payload.size_bytes)
            spans = [(*span, payload.digest(span[0])) for span in payload.spans(path)]
            await self._fetch(Fetch(link, payload, spans))
            return await asyncio.to_thread(mapped, path)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            self._folder.remove(path)

    async def _fetch(self, fetch: Fetch) -> None:
        self._fetches.append(fetch)
        self._ask(fetch)
        try:
            while fetch.left and fetch.failed is None:
                fetch.moved.clear()
                async with asyncio.timeout(self._stall_timeout_s):
                    await fetch.moved.wait()
        except TimeoutError:
            raise RemoteError(
                f"nothing of the tensors came from {short(fetch.link.peer)} for "
                f"{self._stall_timeout_s:.0f} s: try another node"
            ) from None
        finally:
            self._fetches.remove(fetch)
            fetch.stop()
        if fetch.failed is not None:
            raise fetch.failed

    def _ask(self, fetch: Fetch) -> None:
        """Ask over the lane that the link has now; later if it has none yet."""
        link = fetch.link
        if fetch not in self._fetches:
            return
        if link.bulk_spent and link.direct is None:
            fetch.fail(RemoteError("the relay between may carry no more: try another node"))
            return
        link.want_direct()
        fetch.ask(next(self._numbers))
        self._look_if_late(fetch)

    def _look_if_late(self, fetch: Fetch) -> None:
        if fetch.late:
            loop = asyncio.get_running_loop()
            loop.call_later(OFFLOAD_PAYLOAD_LATE_S, self._ask_again, fetch)

    def _ask_again(self, fetch: Fetch) -> None:
        """Ask over the new lane for what the one before was too slow to end."""
        if fetch in self._fetches and fetch.late:
            fetch.ask_again(next(self._numbers))

    # What happens on the links

    def waits_on(self, link: Link) -> bool:
        """Return whether a payload is coming from the member."""
        return any(fetch.link.number == link.number for fetch in self._fetches)

    def uses(self, link: Link) -> bool:
        """Return whether a payload is on its way, or offered."""
        return self.waits_on(link) or bool(self._giving.offered(link))

    def progress(self, link: Link) -> int | None:
        """Return what grows while payloads move over a link; None: none is under way."""
        moves = self.waits_on(link) or self._giving.sends(link)
        return link.bytes_up + link.bytes_down if moves else None

    def lane_changed(self, link: Link) -> None:
        """Ask over the new lane for what is neither here nor on its way."""
        for fetch in [one for one in self._fetches if one.link.number == link.number]:
            if fetch.carried_on:
                # Meanwhile verdicts come in that wait behind this, and the old lane goes on.
                loop = asyncio.get_running_loop()
                loop.call_later(OFFLOAD_PAYLOAD_SETTLE_S, self._ask, fetch)
            else:
                self._ask(fetch)

    def link_down(self, link: Link, reason: str) -> None:
        """Fail what was coming, and offer nothing more."""
        for fetch in [one for one in self._fetches if one.link.number == link.number]:
            fetch.abandon()
            fetch.fail(RemoteError(f"lost the link to {short(link.peer)}: {reason}"))
        for number in self._giving.offered(link):
            self._withdraw(link, number)

    def message(self, link: Link, message: Message) -> None:
        """Give what is wanted; hear that something can't be had."""
        match message:
            case WantPayload(request):
                if not self._giving.serve(link, message):
                    gone = "what you want to fetch is not offered (any more)"
                    link.send(Failed(request, RemoteError.code, gone, 0))
            case CancelWant(request, block):
                self._giving.cancel(link, request, block)
            case Failed(request, _, said) if fetch := self._asked(link, request):
                fetch.fail(RemoteError(f"{short(link.peer)}: {said[:200]}"))

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """Take a block's verdict."""
        fetch = self._asked(link, request)
        if fetch is None or block not in fetch.left:
            return
        if verdict == VERIFIED:
            fetch.left.remove(block)
            fetch.moved.set()
            self._look_if_late(fetch)
        elif verdict == REJECTED:
            fetch.fail(RemoteError(f"{short(link.peer)} sent tensors that are not what it said"))
        else:
            fetch.fail(DiskError(verdict, "make room, then run it again"))

    def _asked(self, link: Link, request: int) -> Fetch | None:
        of_link = (one for one in self._fetches if one.link.number == link.number)
        return next((one for one in of_link if request in one.requests), None)

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Note that something comes."""
        for fetch in self._fetches:
            if fetch.link.number == link.number:
                fetch.moved.set()

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Go on with it; tell the peer of a payload that can't be read."""
        if self._giving.ended(link, request, failed):
            link.send(Failed(request, RemoteError.code, "its tensors can't be read there", 0))
