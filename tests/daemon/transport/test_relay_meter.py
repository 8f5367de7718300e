"""What counts as relayed, datagram by datagram, and what of a peer's description is a relay."""

from __future__ import annotations

import pytest
from aioice import Candidate, Connection
from aioice.ice import CandidatePair
from aiortc.sdp import candidate_from_sdp

from dreamer.daemon.transport.relay_meter import RelayMeter, relay_addresses, without_relays
from dreamer.protocol.limits import RELAY_RESERVE_BYTES

HOST = "a=candidate:1 1 udp 2130706431 192.0.2.1 5000 typ host\r\n"
RELAY = "a=candidate:2 1 udp 16777215 198.51.100.9 49200 typ relay raddr 192.0.2.1 rport 5000\r\n"
RELAY_V6 = "a=candidate:3 1 udp 16777215 2001:DB8:0::9 49201 typ relay\r\n"
THEIRS = ("198.51.100.9", 49200)
PEER = ("192.0.2.1", 5000)


class Wire:
    """A socket's transport, and the protocol on it."""

    def __init__(self, kind: str) -> None:
        self.local_candidate = Candidate("f", 1, "udp", 1, "192.0.2.7", 1, kind)
        self.transport = self
        self.sent: list[bytes] = []
        self.received: list[bytes] = []

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        self.sent.append(data)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.received.append(data)

    def get_extra_info(self, name: str) -> str:
        return name


def metered(wire: Wire, sdp: str = "", refuses: bool = False, nominated: str = "host"):
    ice = Connection(ice_controlling=True)
    ice._protocols.append(wire)
    meter = RelayMeter(ice, refuses)
    meter.learn(sdp)
    if nominated:
        remote = Candidate("f", 1, "udp", 1, *PEER, nominated)
        ice._nominated[1] = CandidatePair(wire, remote)
    return meter


def exchange(wire: Wire, addr: tuple[str, int]) -> None:
    wire.transport.sendto(b"x" * 100, addr)
    wire.datagram_received(b"y" * 1000, addr)


def test_all_that_passes_our_own_relay_counts_with_its_framing():
    wire = Wire("relay")
    meter = metered(wire)
    exchange(wire, PEER)
    assert (meter.received_bytes, meter.sent_bytes) == (1004, 104)
    assert meter.own_bytes == 1108
    assert (wire.sent, wire.received) == ([b"x" * 100], [b"y" * 1000])


def test_what_goes_to_and_comes_from_a_relay_of_the_peer_counts():
    wire = Wire("host")
    meter = metered(wire, HOST + RELAY)
    exchange(wire, PEER)
    assert (meter.received_bytes, meter.sent_bytes) == (0, 0)
    exchange(wire, THEIRS)
    assert (meter.received_bytes, meter.sent_bytes) == (1000, 100)
    assert meter.own_bytes == 0, "the peer's allocation is the peer's to pay for"


def test_path_counts_whatever_pair_is_nominated_here():
    wire = Wire("host")
    meter = metered(wire, HOST + RELAY, nominated="host")
    wire.datagram_received(b"y" * 10, THEIRS)
    assert not meter.relayed
    assert meter.received_bytes == 10


def test_checks_before_anything_is_nominated_do_not_count():
    wire = Wire("relay")
    meter = metered(wire, nominated="")
    exchange(wire, PEER)
    assert (meter.received_bytes, meter.sent_bytes) == (0, 0)
    assert wire.received


def test_socket_is_wrapped_once_and_else_is_what_it_was():
    wire = Wire("relay")
    meter = metered(wire)
    meter.watch()
    exchange(wire, PEER)
    assert meter.sent_bytes == 104
    assert wire.transport.get_extra_info("sockname") == "sockname"


def test_links_that_meet_no_relay_are_left_alone():
    wire = Wire("host")
    metered(wire, HOST)
    assert wire.transport is wire


def test_node_that_uses_no_relays_hears_nothing_through_one():
    wire = Wire("host")
    meter = metered(wire, HOST + RELAY, refuses=True)
    exchange(wire, THEIRS)
    assert wire.received == []
    assert meter.received_bytes == 0
    wire.datagram_received(b"z", PEER)
    assert wire.received == [b"z"]


def test_node_that_uses_no_relays_answers_nobody_before_it_knows_the_peers_relays():
    wire = Wire("host")
    ice = Connection(ice_controlling=True)
    ice._protocols.append(wire)
    meter = RelayMeter(ice, refuses=True)
    meter.watch()
    wire.datagram_received(b"a check that overtook the answer", THEIRS)
    assert wire.received == []
    meter.learn(HOST + RELAY)
    wire.datagram_received(b"y", THEIRS)
    wire.datagram_received(b"z", PEER)
    assert wire.received == [b"z"]


@pytest.mark.parametrize(("kind", "spent"), [("relay", True), ("host", False)])
def test_only_a_relayed_pair_can_be_spent(kind, spent):
    assert metered(Wire(kind)).spent is spent


def test_relay_is_spent_before_what_is_under_way_no_longer_fits():
    wire = Wire("relay")
    meter = metered(wire)
    meter.allowed_bytes = 104 + RELAY_RESERVE_BYTES
    wire.transport.sendto(b"x" * 100, PEER)
    assert not meter.spent
    wire.transport.sendto(b"", PEER)
    assert meter.spent


def test_relays_of_a_description_are_found_in_any_spelling():
    assert relay_addresses(HOST + RELAY + RELAY_V6) == {THEIRS, ("2001:db8::9", 49201)}
    assert relay_addresses("a=candidate:1 1 udp 1 host.local 5 typ relay\r\n") == frozenset()


@pytest.mark.parametrize(
    "spelling",
    [
        "a=candidate:1 1 udp 1 192.0.2.7\t 5000  typ  relay raddr 0.0.0.0 rport 9\r\n",
        "a=candidate:1 1 udp 1 192.0.2.7 5000 kind relay\n",
        "a=candidate:1 1 udp 1 192.0.2.7 5000 typ relay\x0b",
    ],
)
def test_what_aiortc_would_take_for_a_relay_is_one(spelling):
    (line,) = spelling.splitlines()
    assert candidate_from_sdp(line.removeprefix("a=candidate:")).type == "relay"
    assert relay_addresses("v=0\r\n" + spelling + HOST) == {("192.0.2.7", 5000)}
    assert without_relays(HOST + spelling) == HOST


def test_description_without_its_relays_keeps_the_rest():
    assert without_relays(HOST + RELAY + "a=end\r\n") == HOST + "a=end\r\n"
    assert without_relays("v=0\r\n") == "v=0\r\n"
    with pytest.raises(ValueError, match="never"):
        without_relays("v=0\r\n" + RELAY + RELAY_V6)
