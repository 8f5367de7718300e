"""Large tensors between members, over the lanes: bytes never pass the daemon's loop.

Whoever has a payload writes it into a file of its own and tells the other side its size and the
BLAKE3 of each 1 MiB block, inside a request or an answer. The other side asks for the blocks
(``WantPayload``) over the best lane the link has, as it would for a model's, and the lane verifies
them one by one. A payload is offered over one link and to nobody else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.daemon.inference.tensors import Data
from dreamer.daemon.links.link import Link, LinkListener, Taker
from dreamer.daemon.offload.payload_files import (
    PayloadFolder,
    allocate,
    disk_error,
    mapped,
    write,
)
from dreamer.daemon.transport.vocabulary import REJECTED, VERIFIED, ServeFailed, Span, VerifiedSpan
from dreamer.protocol.errors import DiskError, RemoteError, RemoteProtocolError
from dreamer.protocol.ids import DIGEST_BYTES, short
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.messages import Message
from dreamer.protocol.link.offload_messages import Failed, WantPayload
from dreamer.protocol.offload_limits import (
    OFFLOAD_PAYLOAD_MAX_BYTES,
    OFFLOAD_PAYLOAD_STALL_TIMEOUT_S,
)


@dataclass(frozen=True)
class Payload:
    """What the other side must know of a payload. ``digests`` are those of its blocks, in order."""

    number: int
    size_bytes: int
    digests: bytes

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            RemoteProtocolError: the sizes don't fit together, or are too large.
        """
        blocks = -(-self.size_bytes // BLOCK_BYTES)
        fits = len(self.digests) == blocks * DIGEST_BYTES
        if not fits or not 0 < self.size_bytes <= OFFLOAD_PAYLOAD_MAX_BYTES:
            raise RemoteProtocolError(f"a payload of {self.size_bytes} bytes that can't be")

    def spans(self, path: Path) -> list[Span]:
        """Return each block's place in a file."""
        return [
            (place // BLOCK_BYTES, str(path), place, min(BLOCK_BYTES, self.size_bytes - place))
            for place in range(0, self.size_bytes, BLOCK_BYTES)
        ]


@dataclass
class _Fetch:
    """A payload that is coming in. ``request`` is what it is asked for under at the moment."""

    link: Link
    payload: Payload
    spans: list[VerifiedSpan]
    left: set[int]
    request: int = -1
    carrier: Taker | None = None
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    failed: Exception | None = None

    def fail(self, error: Exception) -> None:
        self.failed = self.failed or error
        self.moved.set()


@dataclass
class _Offer:
    """A payload that may be fetched; ``serving`` is the request under which it is."""

    payload: Payload
    path: Path
    serving: int = -1


class Payloads(LinkListener):
    """One room's payloads, both ways; a listener of its links."""

    def __init__(
        self,
        folder: PayloadFolder,
        numbers: Iterator[int],
        stall_timeout_s: float = OFFLOAD_PAYLOAD_STALL_TIMEOUT_S,
    ) -> None:
        self._folder = folder
        self._numbers = numbers
        self._stall_timeout_s = stall_timeout_s
        self._offers: dict[tuple[int, int], _Offer] = {}
        self._fetches: dict[tuple[int, int], _Fetch] = {}

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
        self._offers[link.number, payload.number] = _Offer(payload, path)
        return payload

    def withdraw(self, link: Link, payload: Payload) -> None:
        """Offer a payload no longer."""
        offer = self._offers.pop((link.number, payload.number), None)
        if offer is not None:
            self._stop_serving(link, offer)
            self._folder.remove(offer.path)

    def _serve(self, link: Link, asked: WantPayload) -> None:
        offer = self._offers.get((link.number, asked.payload))
        carrier = link.direct_up if asked.direct else link.bulk
        if offer is None or carrier is None:
            gone = "what you want to fetch is not offered (any more)"
            link.send(Failed(asked.request, RemoteError.code, gone, 0))
            return
        # Asked for once more: what was asked over another lane is void.
        self._stop_serving(link, offer)
        offer.serving = asked.request
        spans = offer.payload.spans(offer.path)
        carrier.serve(asked.request, spans[max(0, asked.first) :])

    def _stop_serving(self, link: Link, offer: _Offer) -> None:
        if offer.serving >= 0:
            link.bulk.stop_serving(offer.serving, -1)
            if link.direct_up is not None:
                link.direct_up.stop_serving(offer.serving, -1)

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
            spans = [(*span, _digest(payload, span[0])) for span in payload.spans(path)]
            await self._fetch(_Fetch(link, payload, spans, set(range(len(spans)))))
            return await asyncio.to_thread(mapped, path)
        except OSError as error:
            raise disk_error(error) from error
        finally:
            self._folder.remove(path)

    async def _fetch(self, fetch: _Fetch) -> None:
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
            self._stop(fetch)
        if fetch.failed is not None:
            raise fetch.failed

    def _ask(self, fetch: _Fetch) -> None:
        """Ask for what is left, over the lane that the link has now; later if it has none yet."""
        self._stop(fetch)
        link = fetch.link
        fetch.request = next(self._numbers)
        self._fetches[link.number, fetch.request] = fetch
        if link.bulk_spent and link.direct is None:
            fetch.fail(RemoteError("the relay between may carry no more: try another node"))
            return
        link.want_direct()
        fetch.carrier = link.carrier
        if fetch.carrier is None:
            return
        # Whole from there on: a block that comes twice is written twice, and is the same.
        first = min(fetch.left)
        fetch.carrier.expect(fetch.request, fetch.spans[first:])
        direct = fetch.carrier is link.direct
        link.send(WantPayload(fetch.request, fetch.payload.number, first, direct))

    def _stop(self, fetch: _Fetch) -> None:
        self._fetches.pop((fetch.link.number, fetch.request), None)
        if fetch.carrier is not None:
            fetch.carrier.stop_expecting(fetch.request, -1)
            fetch.carrier = None

    # What happens on the links

    def waits_on(self, link: Link) -> bool:
        """Return whether a payload is coming from the member."""
        return any(number == link.number for number, _ in self._fetches)

    def uses(self, link: Link) -> bool:
        """Return whether a payload is on its way, or offered."""
        return self.waits_on(link) or any(number == link.number for number, _ in self._offers)

    def lane_changed(self, link: Link) -> None:
        """Ask over the new lane for what is not here yet."""
        for (number, _), fetch in list(self._fetches.items()):
            if number == link.number:
                self._ask(fetch)

    def link_down(self, link: Link, reason: str) -> None:
        """Fail what was coming, and offer nothing more."""
        for (number, _), fetch in list(self._fetches.items()):
            if number == link.number:
                # The link's channels are gone, and what they expected with them.
                fetch.carrier = None
                fetch.fail(RemoteError(f"lost the link to {short(link.peer)}: {reason}"))
        for number, payload in list(self._offers):
            if number == link.number:
                self._folder.remove(self._offers.pop((number, payload)).path)

    def message(self, link: Link, message: Message) -> None:
        """Give what is wanted; hear that something can't be had."""
        if isinstance(message, WantPayload):
            self._serve(link, message)
            return
        request = message.request if isinstance(message, Failed) else -1
        if isinstance(message, Failed) and (fetch := self._fetches.get((link.number, request))):
            fetch.fail(RemoteError(f"{short(link.peer)}: {message.message[:200]}"))

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """Take a block's verdict."""
        fetch = self._fetches.get((link.number, request))
        if fetch is None or block not in fetch.left:
            return
        if verdict == VERIFIED:
            fetch.left.remove(block)
            fetch.moved.set()
        elif verdict == REJECTED:
            fetch.fail(RemoteError(f"{short(link.peer)} sent tensors that are not what it said"))
        else:
            fetch.fail(DiskError(verdict, "make room, then run it again"))

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Note that something comes."""
        for (number, _), fetch in self._fetches.items():
            if number == link.number:
                fetch.moved.set()

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Tell the peer of a payload that can't be read."""
        offers = (offer for (number, _), offer in self._offers.items() if number == link.number)
        offer = next((one for one in offers if one.serving == request), None)
        if offer is None:
            return
        offer.serving = -1
        if failed is not None:
            link.send(Failed(request, RemoteError.code, "its tensors can't be read there", 0))


def _digest(payload: Payload, block: int) -> bytes:
    return payload.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
