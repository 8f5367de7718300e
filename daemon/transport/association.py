"""The SCTP association of a link: aiortc's, with the ways that every packet takes made short.

aiortc is whole and correct, but spends most of a bulk transfer on what need not be done for each
packet. How sending differs stands in ``sctp_sending``; receiving differs in two things:

- A datagram is decrypted and its DATA or SACK chunk handled in the callback that brought it,
  instead of by way of a queue and nine coroutines. A packet with anything else in it goes aiortc's
  own way, in order.
- One SACK answers the packets that were read in one go, ``SACK_EVERY_PACKETS`` at most (RFC 9260,
  6.2); aiortc sends one for each packet. With four to a SACK the window of a stock aiortc, which
  sends up to four packets for each, would never grow. A gap is told at once.

All of it is plain SCTP on the wire: the peer may be aiortc as it comes, or a browser.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections.abc import Callable
from struct import unpack_from
from typing import Any

import aiortc
from aiortc import rtcpeerconnection
from aiortc.rtcdtlstransport import State as DtlsState
from aiortc.rtcsctptransport import WEBRTC_BINARY, DataChunk, SackChunk
from google_crc32c import value as crc32c
from OpenSSL import SSL

from dreamer.daemon.transport.reassembly import RunningStream
from dreamer.daemon.transport.sctp_sending import (
    DATAGRAM_MAX_BYTES,
    TSN_MASK,
    Sending,
    after,
    at_once,
)

log = logging.getLogger(__name__)

AIORTC_KNOWN = ("1.16.",)

SACK_EVERY_PACKETS = 2

RECEIVE_BUFFER_BYTES = 1024 * 1024
"""Most systems grant some 200 KiB, of which half goes to packets' own overhead."""

_HEADER_BYTES = 12
_DATA_HEADER_BYTES = 16


def _widen(end: socket.socket | None) -> None:
    """Let packets wait in the kernel while this process is not running, as far as it allows."""
    if end is not None:
        with contextlib.suppress(OSError):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)


class Association(Sending):
    """One association, as the transport process uses it."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._unacknowledged = 0
        self._sack_scheduled = False
        self._receive_queued: Callable[[bytes, int], None] | None = None

    # From the datagram to the message

    async def start(self, *args: Any) -> None:
        """Begin, and take datagrams as they come from now on."""
        ice = self.transport.transport._connection
        for protocol in ice._protocols:
            _widen(protocol.transport.get_extra_info("socket"))
        self._receive_queued = ice.data_received
        # aioice has no hook below its queue.
        vars(ice)["data_received"] = self._datagram
        await super().start(*args)

    async def stop(self) -> None:
        """End, and let aiortc have what still comes."""
        if self._receive_queued is not None:
            self._receive_queued = None
            vars(self.transport.transport._connection).pop("data_received", None)
        await super().stop()

    def _datagram(self, data: bytes, component: int) -> None:
        """Take a datagram that is not STUN, on the callback that read it."""
        queued = self._receive_queued
        if queued is None or not data:
            return
        ice = self.transport.transport._connection
        # 23 and 32 to 63: records of application data in DTLS 1.2 and 1.3 (RFC 9147, 4.1).
        ours = data[0] == 23 or 31 < data[0] < 64
        if not ours or not ice._queue.empty() or self.transport._state != DtlsState.CONNECTED:
            queued(data, component)
            return
        try:
            packet = self._decrypt(data)
            if packet:
                self._packet(packet)
        except ConnectionError:
            ice._queue.put_nowait(None)
        except Exception:
            # What a peer sends may cost its own link, as it does in aiortc's receiving task.
            log.exception("an SCTP packet could not be handled")
            ice._queue.put_nowait(None)

    def _decrypt(self, data: bytes) -> bytes:
        ssl = self.transport._ssl
        assert ssl is not None, "DTLS stands"
        ssl.bio_write(data)
        try:
            packet: bytes = ssl.recv(DATAGRAM_MAX_BYTES)
        except SSL.ZeroReturnError:
            raise ConnectionError("the peer ended DTLS") from None
        except SSL.Error:
            # Not application data after all: there may be an answer of DTLS's own to send.
            at_once(self.transport._write_ssl())
            return b""
        return packet

    def _packet(self, packet: bytes) -> None:
        """Handle a packet: one DATA or SACK chunk here, anything else as aiortc does."""
        if len(packet) >= _HEADER_BYTES + 4:
            kind, flags, length = unpack_from("!BBH", packet, _HEADER_BYTES)
            alone = 0 <= len(packet) - _HEADER_BYTES - length < 4
            if alone and kind in (DataChunk.type, SackChunk.type) and self._genuine(packet):
                body = packet[_HEADER_BYTES + 4 : _HEADER_BYTES + length]
                if kind == DataChunk.type and length > _DATA_HEADER_BYTES:
                    self._data(DataChunk(flags, body))
                    return
                if kind == SackChunk.type and length >= _DATA_HEADER_BYTES:
                    self._acknowledged(SackChunk(flags, body))
                    return
        at_once(self._handle_data(packet))

    def _genuine(self, packet: bytes) -> bool:
        tag, checksum = unpack_from("!L", packet, 4)[0], unpack_from("<L", packet, 8)[0]
        if tag != self._local_verification_tag:
            return False
        return bool(checksum == crc32c(packet[:8] + b"\0\0\0\0" + packet[_HEADER_BYTES:]))

    async def _receive_data_chunk(self, chunk: DataChunk) -> None:
        self._data(chunk)
        # The packet that holds it is acknowledged below; aiortc would do so for each.
        self._sack_needed = False

    def _data(self, chunk: DataChunk) -> None:
        if not self._mark_received(chunk.tsn):
            self._take_fragment(chunk)
        self._unacknowledged += 1
        if (
            self._sack_misordered
            or self._sack_duplicates
            or self._unacknowledged >= SACK_EVERY_PACKETS
        ):
            self._acknowledge()
        elif not self._sack_scheduled:
            self._sack_scheduled = True
            self._turns.call_soon(self._acknowledge_turn)

    def _take_fragment(self, chunk: DataChunk) -> None:
        stream = self._get_inbound_stream(chunk.stream_id)
        self._advertised_rwnd -= len(chunk.user_data)
        parts = stream.take(chunk)
        if parts is not None:
            self._deliver(chunk.stream_id, chunk.protocol, b"".join(parts))
        elif stream.scattered:
            for message in stream.pop_messages():
                self._deliver(*message)
        if self._reconfig_deferred is not None:
            at_once(self._reset_deferred_streams())

    def _deliver(self, stream_id: int, protocol: int, message: bytes) -> None:
        self._advertised_rwnd += len(message)
        channel = self._data_channels.get(stream_id)
        if protocol == WEBRTC_BINARY and channel is not None:
            channel.emit("message", message)
        else:
            at_once(self._receive(stream_id, protocol, message))

    def _get_inbound_stream(self, stream_id: int) -> RunningStream:
        found = self._inbound_streams.get(stream_id)
        if not isinstance(found, RunningStream):
            found = self._inbound_streams[stream_id] = RunningStream()
        return found

    def _mark_received(self, tsn: int) -> bool:
        """Note a TSN; return whether it was there before."""
        last = self._last_received_tsn
        assert last is not None, "DATA came before the association stood"
        if not after(tsn, last) or tsn in self._sack_misordered:
            self._sack_duplicates.append(tsn)
            return True
        if tsn != (last + 1) & TSN_MASK:
            self._sack_misordered.add(tsn)
            return False
        while (following := (tsn + 1) & TSN_MASK) in self._sack_misordered:
            self._sack_misordered.remove(following)
            tsn = following
        self._last_received_tsn = tsn
        return False

    def _acknowledge_turn(self) -> None:
        self._sack_scheduled = False
        if self._unacknowledged and self._association_state == self.State.ESTABLISHED:
            try:
                self._acknowledge()
            except ConnectionError:
                # The connection closed within this turn.
                self._unacknowledged = 0

    def _acknowledge(self) -> None:
        self._unacknowledged = 0
        at_once(self._send_sack())


def install() -> bool:
    """Have every peer connection of this process use it; return whether it was done.

    It leans on what is private to aiortc, so with a release it was not tested with, aiortc's own
    association stays: slower, and as correct.
    """
    known = aiortc.__version__.startswith(AIORTC_KNOWN)
    if known:
        vars(rtcpeerconnection)["RTCSctpTransport"] = Association
    else:
        log.warning("aiortc %s is not known here: links are slower", aiortc.__version__)
    return known
