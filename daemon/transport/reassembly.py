"""Fragments of one SCTP stream become messages, without a look at all of them for each.

aiortc scans what it holds of a stream at every fragment; a message of 128 KiB has 113, so that
costs half the receiver's time. Here fragments that come in order are counted up as one run; any
other goes aiortc's own way until its list is empty again.
"""

from __future__ import annotations

from collections.abc import Iterator

from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    DataChunk,
    InboundStream,
)

_TSN_MASK = 0xFFFFFFFF


class RunningStream(InboundStream):
    """An inbound stream whose fragments mostly come in order.

    Either ``_run`` holds the consecutive fragments of one message, or ``reassembly`` whatever
    there is; never both.
    """

    def __init__(self) -> None:
        super().__init__()
        self._run: list[DataChunk] = []

    def take(self, chunk: DataChunk) -> list[bytes] | None:
        """Return the message this fragment ends, as its parts; None when it ends none in order.

        None also when the fragment was out of order: then ``pop_messages`` may have some.
        """
        if self.reassembly or not self._continues(chunk):
            self.add_chunk(chunk)
            return None
        self._run.append(chunk)
        if not chunk.flags & SCTP_DATA_LAST_FRAG:
            return None
        parts = [each.user_data for each in self._run]
        self._run.clear()
        if not chunk.flags & SCTP_DATA_UNORDERED:
            self.sequence_number = (self.sequence_number + 1) & 0xFFFF
        return parts

    @property
    def scattered(self) -> bool:
        """Whether fragments wait that did not come in order."""
        return bool(self.reassembly)

    def _continues(self, chunk: DataChunk) -> bool:
        first = bool(chunk.flags & SCTP_DATA_FIRST_FRAG)
        if self._run:
            return not first and chunk.tsn == (self._run[-1].tsn + 1) & _TSN_MASK
        in_turn = chunk.flags & SCTP_DATA_UNORDERED or chunk.stream_seq == self.sequence_number
        return first and bool(in_turn)

    # What aiortc does with the list of fragments, it does with all of them.

    def add_chunk(self, chunk: DataChunk) -> None:
        """Add a fragment out of order."""
        self._scatter()
        super().add_chunk(chunk)

    def pop_messages(self) -> Iterator[tuple[int, int, bytes]]:
        """Yield (stream, protocol, message) of what is whole."""
        self._scatter()
        return super().pop_messages()

    def prune_chunks(self, tsn: int) -> int:
        """Drop fragments up to a TSN that the peer gave up; return their bytes."""
        self._scatter()
        return super().prune_chunks(tsn)

    def _scatter(self) -> None:
        if self._run:
            self.reassembly, self._run = self._run + self.reassembly, []
