"""The sending half of a link's SCTP association: from messages to datagrams, as the window allows.

What differs from aiortc, and nothing else:

- **Order.** Messages of ordered channels (``control``) go before those of unordered ones
  (``bulk``): one can't be overtaken once it is cut into fragments, but it can before.
- **Window.** Where the path is short, what is in flight shrinks as long as it takes
  ``QUEUE_DELAY_MAX_S`` longer than the path itself: aiortc's own limit of a megabyte would stand
  before every control message. On long paths nothing changes.
- **Cost.** What aiortc looks through or sets anew for every packet (all that is in flight, the
  retransmission timer, forward TSNs) is left alone while nothing is lost.

What to do about losses is aiortc's.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Coroutine
from typing import Any, cast

from aiortc.rtcdatachannel import RTCDataChannel
from aiortc.rtcdtlstransport import State as DtlsState
from aiortc.rtcsctptransport import (
    SCTP_DATA_FIRST_FRAG,
    SCTP_DATA_LAST_FRAG,
    SCTP_DATA_UNORDERED,
    USERDATA_MAX_LENGTH,
    WEBRTC_DCEP,
    Chunk,
    DataChunk,
    RTCSctpTransport,
    SackChunk,
    serialize_packet,
)

BURST_PACKETS = 4
"""How many packets an acknowledgement may let go beyond what it acknowledged (aiortc's own)."""

SHORT_PATH_S = 0.010
QUEUE_DELAY_MAX_S = 0.005
WINDOW_ENOUGH_BYTES = 128 * 1024
"""A window that fills a gigabit over a millisecond; below it delay alone is no reason to stop."""

RTO_MAX_S = 3.0
"""After silence (a laptop that slept, Wi-Fi away) what was lost is sent again within this. RFC 9260
allows a minute, and one late acknowledgement would bring it near that. Whether the link is given
up is for the daemon to say (``LINK_SILENCE_TIMEOUT_S``)."""

DATAGRAM_MAX_BYTES = 1500
TSN_MASK = 0xFFFFFFFF
_TSN_HALF = 0x80000000


def after(a: int, b: int) -> bool:
    """Return whether a TSN comes after another (RFC 1982 arithmetic)."""
    return a != b and (a - b) & TSN_MASK < _TSN_HALF


def at_once(work: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine of aiortc's that only awaits others like it, within this callback.

    Raises:
        RuntimeError: it waits for something.
    """
    try:
        waiting = work.send(None)
    except StopIteration:
        return
    raise RuntimeError(f"aiortc waits for {waiting!r} where it used not to")


class Fragment(DataChunk):
    """An outgoing fragment; aiortc adds these attributes to each, most of which never change."""

    _abandoned = False
    _acked = False
    _expiry = None
    _in_flight = False
    _max_retransmits = None
    _misses = 0
    _retransmit = False
    _sent_count = 0
    _sent_time = None


class Sending(RTCSctpTransport):
    """An association that sends as above."""

    _ssthresh: int
    """Set by aiortc once the peer has said what it takes."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._turns = asyncio.get_running_loop()
        self._resending = False
        self._shortest_s = math.inf
        self._t3_due = 0.0

    # From the message to the datagram

    async def _send_chunk(self, chunk: Chunk) -> None:
        self._put(chunk)

    def _put(self, chunk: Chunk) -> None:
        """Encrypt and send a packet with one chunk.

        Raises:
            ConnectionError: DTLS or ICE no longer stands.
        """
        dtls = self.transport
        pair = dtls.transport._connection._nominated.get(1)
        if dtls._state != DtlsState.CONNECTED or pair is None:
            raise ConnectionError("the connection is closed")
        ssl = dtls._ssl
        assert ssl is not None, "DTLS stands"
        assert self._remote_port is not None, "the association has begun"
        ssl.send(
            serialize_packet(
                self._local_port, self._remote_port, self._remote_verification_tag, chunk
            )
        )
        record = ssl.bio_read(DATAGRAM_MAX_BYTES)
        pair.protocol.transport.sendto(record, pair.remote_addr)

    async def _data_channel_flush(self) -> None:
        if self._association_state != self.State.ESTABLISHED:
            return
        while self._data_channel_queue and not self._outbound_queue:
            self._send_message(*self._next_message())
        await self._transmit_reconfig()

    def _next_message(self) -> tuple[RTCDataChannel, int, bytes]:
        """Take the first message of an ordered channel, else the first there is."""
        queue = self._data_channel_queue
        for place, (channel, protocol, _) in enumerate(queue):
            if channel.ordered or protocol == WEBRTC_DCEP:
                found = queue[place]
                del queue[place]
                return found
        return queue.popleft()

    def _send_message(self, channel: RTCDataChannel, protocol: int, data: bytes) -> None:
        if channel.id is None:
            number = self._data_channel_id
            assert number is not None, "channels have numbers once the association stands"
            while number in self._data_channels:
                number += 2
            self._data_channels[number] = channel
            channel._setId(number)
        stream_id = channel.id
        assert stream_id is not None
        if protocol == WEBRTC_DCEP:
            self._queue_fragments(stream_id, protocol, data, ordered=True)
        else:
            self._queue_fragments(stream_id, protocol, data, ordered=channel.ordered)
            channel._addBufferedAmount(-len(data))
        self._transmit_now()

    def _queue_fragments(self, stream_id: int, protocol: int, data: bytes, ordered: bool) -> None:
        sequence = self._outbound_stream_seq.get(stream_id, 0) if ordered else 0
        flags = SCTP_DATA_FIRST_FRAG | (0 if ordered else SCTP_DATA_UNORDERED)
        for begin in range(0, len(data), USERDATA_MAX_LENGTH):
            chunk = Fragment()
            chunk.user_data = data[begin : begin + USERDATA_MAX_LENGTH]
            last = begin + USERDATA_MAX_LENGTH >= len(data)
            chunk.flags = flags | SCTP_DATA_LAST_FRAG if last else flags
            flags &= ~SCTP_DATA_FIRST_FRAG
            chunk.tsn = self._local_tsn
            chunk.stream_id = stream_id
            chunk.stream_seq = sequence
            chunk.protocol = protocol
            chunk._book_size = len(chunk.user_data)
            self._local_tsn = (self._local_tsn + 1) & TSN_MASK
            self._outbound_queue.append(chunk)
        if ordered:
            self._outbound_stream_seq[stream_id] = (sequence + 1) & 0xFFFF

    async def _transmit(self) -> None:
        self._transmit_now()

    def _transmit_now(self, acknowledged_bytes: int = 0) -> None:
        """Send what the window allows, and first what has to be sent again."""
        if self._forward_tsn_chunk is not None or self._resending:
            at_once(super()._transmit())
            self._resending = any(chunk._retransmit for chunk in self._sent_queue)
            return
        burst = BURST_PACKETS if self._fast_recovery_exit is None else BURST_PACKETS // 2
        # The burst comes on top of what has just gone out of flight: where one acknowledgement is
        # for as many packets as a burst has, the window would else never fill, let alone grow.
        flight_before = self._flight_size + acknowledged_bytes
        window = min(flight_before + burst * USERDATA_MAX_LENGTH, self._cwnd)
        while self._outbound_queue and self._flight_size < window:
            chunk = self._outbound_queue.popleft()
            self._sent_queue.append(chunk)
            self._flight_size_increase(chunk)
            chunk._sent_count += 1
            chunk._sent_time = time.time()
            self._put(chunk)
            if self._t3_handle is None:
                self._t3_start()

    # Acknowledgements

    async def _receive_sack_chunk(self, chunk: SackChunk) -> None:
        self._acknowledged(chunk)

    def _acknowledged(self, sack: SackChunk) -> None:
        if sack.gaps or self._forward_tsn_streams:
            # Losses are rare, and what to do about them is aiortc's.
            self._resending = True
            at_once(super()._receive_sack_chunk(sack))
            return
        if after(self._last_sacked_tsn, sack.cumulative_tsn):
            return
        full = self._flight_size >= self._cwnd
        done_bytes = self._drop_acknowledged(sack.cumulative_tsn)
        self._open_window(sack.cumulative_tsn, done_bytes, full)
        if not self._sent_queue:
            self._t3_cancel()
        elif done_bytes:
            self._t3_restart()
        if self._outbound_queue or self._resending or not self._data_channel_queue:
            self._transmit_now(done_bytes)
        else:
            at_once(self._data_channel_flush())

    def _drop_acknowledged(self, tsn: int) -> int:
        """Let go of all up to a TSN; return the bytes that this acknowledges for the first time."""
        self._last_sacked_tsn = tsn
        if after(tsn, self._advanced_peer_ack_tsn):
            self._advanced_peer_ack_tsn = tsn
        queue, done_bytes, first = self._sent_queue, 0, True
        while queue and not after(queue[0].tsn, tsn):
            chunk = queue.popleft()
            if not chunk._acked:
                done_bytes += chunk._book_size
            self._flight_size_decrease(chunk)
            if first and chunk._sent_count == 1 and chunk._sent_time is not None:
                self._measure(time.time() - chunk._sent_time)
            first = False
        return done_bytes

    def _update_rto(self, R: float) -> None:  # noqa: N803 - aiortc's name for a round trip
        """Take a round trip into account; one that a halt of the peer made long soon passes."""
        super()._update_rto(R)
        self._rto = min(self._rto, RTO_MAX_S)

    def _measure(self, round_trip_s: float) -> None:
        self._update_rto(round_trip_s)
        if round_trip_s > 0:
            # By a clock that people may set.
            self._shortest_s = min(self._shortest_s, round_trip_s)

    def _open_window(self, tsn: int, done_bytes: int, full: bool) -> None:
        """Grow the congestion window (RFC 9260, 7.2), unless a queue already stands."""
        recovered = cast("int | None", self._fast_recovery_exit)
        if recovered is not None:
            if not after(recovered, tsn):
                self._fast_recovery_exit = None
        elif self._queue_stands():
            self._close_window(done_bytes)
        elif not done_bytes or not full:
            return
        elif self._cwnd <= self._ssthresh:
            # Twice a packet for an acknowledgement of several (RFC 3465, 2.3).
            self._cwnd += min(done_bytes, 2 * USERDATA_MAX_LENGTH)
        else:
            self._partial_bytes_acked += done_bytes
            if self._partial_bytes_acked >= self._cwnd:
                self._partial_bytes_acked -= self._cwnd
                self._cwnd += USERDATA_MAX_LENGTH

    def _close_window(self, done_bytes: int) -> None:
        """Take an eighth off for each window's worth acknowledged while a queue stands."""
        self._partial_bytes_acked += done_bytes
        if self._partial_bytes_acked >= self._cwnd:
            self._partial_bytes_acked = 0
            self._cwnd = max(WINDOW_ENOUGH_BYTES, self._cwnd * 7 // 8)
            self._ssthresh = self._cwnd

    def _queue_stands(self) -> bool:
        return (
            self._cwnd > WINDOW_ENOUGH_BYTES
            and self._shortest_s < SHORT_PATH_S
            and self._srtt is not None
            and self._srtt > self._shortest_s + QUEUE_DELAY_MAX_S
        )

    # The timer for retransmission is restarted for every acknowledgement: it is let run instead,
    # and looks at its end whether it is time.

    def _t3_start(self) -> None:
        self._t3_due = self._turns.time() + self._rto
        self._t3_handle = self._turns.call_later(self._rto, self._t3_expired)

    def _t3_restart(self) -> None:
        if self._t3_handle is None:
            self._t3_start()
        else:
            self._t3_due = self._turns.time() + self._rto

    def _t3_expired(self) -> None:
        left = self._t3_due - self._turns.time()
        if left > 0:
            self._t3_handle = self._turns.call_later(left, self._t3_expired)
            return
        self._resending = True
        super()._t3_expired()
