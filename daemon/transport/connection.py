"""One WebRTC peer connection with its two channels, ``control`` and ``bulk``."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor

from aioice import Connection as IceConnection
from aiortc import (
    RTCConfiguration,
    RTCDataChannel,
    RTCIceServer,
    RTCPeerConnection,
    RTCSctpTransport,
    RTCSessionDescription,
)
from aiortc.rtcconfiguration import RTCIceTransportPolicy
from aiortc.rtcsctptransport import LOCAL_MAX_MESSAGE_SIZE
from cryptography.hazmat.primitives.hashes import SHA256

from dreamer.daemon.transport.inbox import Inbox
from dreamer.daemon.transport.outbox import Outbox
from dreamer.daemon.transport.patience import keep_checking, keep_mappings, open_ended
from dreamer.daemon.transport.relay_meter import RelayMeter, without_relays
from dreamer.daemon.transport.relay_patience import prefer_straight_ways
from dreamer.daemon.transport.turn_renewal import renew
from dreamer.daemon.transport.turn_servers import TurnServer, use_first_that_answers
from dreamer.daemon.transport.vocabulary import (
    BulkHeld,
    ControlReceived,
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
    PathChanged,
    Relayed,
    Traffic,
)
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import (
    CONTROL_BUFFER_MAX_BYTES,
    LINK_MESSAGE_MIN_BYTES,
    RELAY_LATE_MAX_BYTES,
)

Emit = Callable[[FromTransport], None]

EARLY_MESSAGES_MAX = 8


def configuration(ice_servers: list[dict[str, str]], relay_only: bool) -> RTCConfiguration:
    """Return the ICE configuration; with no server given none is used (aiortc would ask Google)."""
    return RTCConfiguration(
        iceServers=[RTCIceServer(**server) for server in ice_servers],
        iceTransportPolicy=(
            RTCIceTransportPolicy.RELAY if relay_only else RTCIceTransportPolicy.ALL
        ),
    )


class Connection:
    """A peer connection and its queues; reports everything through ``emit``."""

    def __init__(
        self,
        link: int,
        config: RTCConfiguration,
        writers: ThreadPoolExecutor,
        emit: Emit,
        turn: Sequence[TurnServer] = (),
        relays: bool = True,
    ) -> None:
        self.link = link
        self._emit = emit
        self._config = config
        self._turn = turn
        self._relays = relays
        self._meter: RelayMeter | None = None
        self._relayed = False
        self._relay_reported = (0, 0)
        self._held = False
        self._late_bytes = 0
        self._pc = RTCPeerConnection(config)
        self._pc.on("datachannel", self._take_channel)
        self._pc.on("connectionstatechange", self._state_changed)
        self._control: RTCDataChannel | None = None
        self._bulk: RTCDataChannel | None = None
        self.inbox = Inbox(link, writers, emit)
        self.outbox: Outbox | None = None
        self._pump: asyncio.Task[None] | None = None
        self._waiting: asyncio.Task[None] | None = None
        self._reported = (0, 0)
        self._early: list[bytes] = []
        self._closed = False

    def _sctp(self) -> RTCSctpTransport:
        assert self._pc.sctp is not None, "the channels were not negotiated"
        return self._pc.sctp

    async def offer(self, patient: bool = False) -> None:
        """Make the channels and report our offer."""
        self._take_channel(self._pc.createDataChannel("control"))
        self._take_channel(self._pc.createDataChannel("bulk", ordered=False))
        await self._describe(await self._pc.createOffer())
        self._meter_of_ice().watch()
        if patient:
            self._wait(keep_mappings(self._ice()))
        self._emit(LocalDescription(self.link, self._described()))

    async def answer(self, sdp: str, patient: bool = False) -> None:
        """Take a remote offer and report our answer."""
        described = self._reachable(open_ended(sdp) if patient else sdp)
        await self._pc.setRemoteDescription(RTCSessionDescription(described, "offer"))
        if self._pc.sctp is None:
            raise ValueError("the offer has no data channels")
        await self._describe(await self._pc.createAnswer())
        self._meter_of_ice().learn(sdp)
        if patient:
            self._wait(keep_checking(self._ice()))
        self._emit(LocalDescription(self.link, self._described()))

    async def take_answer(self, sdp: str) -> None:
        """Take the remote answer to our offer."""
        self._wait_no_more()
        described = self._reachable(sdp)
        self._meter_of_ice().learn(sdp)
        await self._pc.setRemoteDescription(RTCSessionDescription(described, "answer"))

    async def _describe(self, description: RTCSessionDescription) -> None:
        """Gather addresses for an offer or an answer of ours."""
        prefer_straight_ways(self._ice())
        if len(self._turn) > 1:
            use_first_that_answers(self._ice(), self._turn)
        try:
            await self._pc.setLocalDescription(description)
        finally:
            if self._closed:
                # aioice goes on gathering when it is closed: what a relay has given since, and
                # would be refreshed for ever, belongs to nobody.
                await self._ice().close()

    def _reachable(self, sdp: str) -> str:
        """Return the peer's description with no way in it that may not be taken."""
        return sdp if self._relays else without_relays(sdp)

    def _described(self) -> str:
        sdp: str = self._pc.localDescription.sdp
        only_relays = self._config.iceTransportPolicy is RTCIceTransportPolicy.RELAY
        if only_relays and "a=candidate:" not in sdp:
            raise ValueError(
                'no TURN server gave this node an address, and [network] relay = "only"'
            )
        return sdp

    def send_control(self, data: bytes) -> None:
        """Send a control message; a peer that lets them pile up is dropped."""
        if self._control is None or self._control.readyState != "open":
            return
        if self._control.bufferedAmount > CONTROL_BUFFER_MAX_BYTES:
            self._fail("it does not read its control messages", fault=True)
        elif len(data) > self._message_max():
            self._fail("it takes no messages as large as ours")
        else:
            self._control.send(data)

    def report_traffic(self) -> None:
        """Emit how many payload bytes have passed since the last report."""
        up = self.outbox.sent_bytes if self.outbox else 0
        down = self.inbox.received_bytes
        if (down, up) != self._reported:
            self._emit(Traffic(self.link, down - self._reported[0], up - self._reported[1]))
            self._reported = (down, up)
        if (meter := self._meter) is not None:
            self._report_relay(meter)

    def _report_relay(self, meter: RelayMeter) -> None:
        passed = (meter.received_bytes, meter.sent_bytes)
        if passed != self._relay_reported:
            self._relay_reported = passed
            self._emit(Relayed(self.link, *passed, meter.own_bytes))
        if self.outbox is not None and not self._closed and meter.relayed != self._relayed:
            self._relayed = meter.relayed
            self._emit(PathChanged(self.link, self._relayed))

    def allow_bulk(self, relayed_bytes: int) -> None:
        """Let blocks pass over a relay until so many bytes have."""
        meter = self._meter_of_ice()
        meter.allowed_bytes = relayed_bytes
        if self._held and not meter.spent:
            self._held, self._late_bytes = False, 0

    def renew_turn(self, ice_servers: list[dict[str, str]]) -> None:
        """Take new credentials for the TURN server in use."""
        renew(self._ice(), ice_servers)

    def _may_move_blocks(self) -> bool:
        """Return whether a chunk may pass; report once when none may any more."""
        if not self._meter_of_ice().spent:
            return True
        if not self._held:
            self._held = True
            self.report_traffic()
            self._emit(BulkHeld(self.link))
            self.inbox.give_up()
            if self.outbox is not None:
                self.outbox.give_up()
        return False

    async def close(self) -> None:
        """Close the connection without a report."""
        self._closed = True
        if self._pump is not None:
            self._pump.cancel()
        self._wait_no_more()
        await self._pc.close()

    def _wait(self, work: Coroutine[object, object, None]) -> None:
        if self._closed:
            # It was closed while the description was made.
            work.close()
        else:
            self._waiting = asyncio.ensure_future(work)

    def _wait_no_more(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()

    def _ice(self) -> IceConnection:
        return self._sctp().transport.transport._connection

    def _meter_of_ice(self) -> RelayMeter:
        if self._meter is None:
            self._meter = RelayMeter(self._ice(), refuses=not self._relays)
        return self._meter

    def _take_channel(self, channel: RTCDataChannel) -> None:
        if channel.label == "control" and self._control is None:
            self._control = channel
            channel.on("message", self._control_message)
        elif channel.label == "bulk" and self._bulk is None:
            self._bulk = channel
            channel.on("message", self._bulk_message)
        else:
            self._fail(f"a data channel we don't know: {channel.label!r:.40}", fault=True)
            return
        channel.on("close", lambda: self._fail("the peer closed the link"))
        channel.on("open", self._channel_opened)
        self._channel_opened()

    def _channel_opened(self) -> None:
        channels = (self._control, self._bulk)
        if self.outbox is None and all(c and c.readyState == "open" for c in channels):
            assert self._bulk is not None
            if self._message_max() < LINK_MESSAGE_MIN_BYTES:
                self._fail("it takes only tiny messages", fault=True)
                return
            self.outbox = Outbox(
                *(self.link, self._bulk, self._message_max(), self._emit), self._may_move_blocks
            )
            self._pump = asyncio.ensure_future(self._run_outbox(self.outbox))
            self._relayed = self._meter_of_ice().relayed
            self._emit(LinkOpened(self.link, *self._fingerprints(), self._relayed))
            for data in self._early:
                self._emit(ControlReceived(self.link, data))
            self._early.clear()

    def _message_max(self) -> int:
        """Return the largest message both ends take; 0 in a description means: no limit."""
        theirs = self._sctp()._remote_max_message_size
        return min(theirs, LOCAL_MAX_MESSAGE_SIZE) if theirs else LOCAL_MAX_MESSAGE_SIZE

    async def _run_outbox(self, outbox: Outbox) -> None:
        try:
            await outbox.run()
        except (ConnectionError, ValueError) as error:
            self._fail(f"the bulk channel failed: {error}")

    def _fingerprints(self) -> tuple[bytes, bytes]:
        dtls = self._sctp().transport
        ours = next(
            bytes.fromhex(f.value.replace(":", ""))
            for f in dtls.getLocalParameters().fingerprints
            if f.algorithm == "sha-256"
        )
        # The certificate really shown in the handshake, not what the description claimed.
        shown = dtls._ssl.get_peer_certificate(as_cryptography=True) if dtls._ssl else None
        assert shown is not None, "DTLS opened without a certificate"
        return ours, shown.fingerprint(SHA256())

    def _control_message(self, data: object) -> None:
        if not isinstance(data, bytes):
            self._fail("a text message on the control channel", fault=True)
        elif self.outbox is not None:
            self._emit(ControlReceived(self.link, data))
        elif len(self._early) < EARLY_MESSAGES_MAX:
            # The peer's channels may both be open a moment before ours are.
            self._early.append(data)
        else:
            self._fail("it talks before the link is open", fault=True)

    def _bulk_message(self, data: object) -> None:
        try:
            if not isinstance(data, bytes):
                raise RemoteProtocolError("a text message on the bulk channel")
            if self._may_move_blocks():
                self.inbox.receive(data)
            else:
                self._take_late(len(data))
        except RemoteProtocolError as error:
            self._fail(str(error), fault=True)

    def _take_late(self, size_bytes: int) -> None:
        # What was on its way when bulk stopped is no fault of the peer's.
        self._late_bytes += size_bytes
        if self._late_bytes > RELAY_LATE_MAX_BYTES:
            raise RemoteProtocolError("it goes on sending blocks over a relay that is used up")

    def _state_changed(self) -> None:
        if self._pc.connectionState in ("failed", "closed"):
            self._fail(f"the connection is {self._pc.connectionState}")

    def _fail(self, reason: str, fault: bool = False) -> None:
        if not self._closed:
            self._closed = True
            self._emit(LinkClosed(self.link, reason, fault))
