"""Session descriptions survive being cut down and built up; what was made up is refused."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.limits import CONNECT_MAX_CANDIDATES
from dreamer.protocol.link.description import (
    Candidate,
    CandidateKind,
    Description,
    Setup,
    decode,
    reduce,
)

ICE_CHARS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+/"

candidates = st.builds(
    Candidate,
    st.sampled_from(CandidateKind),
    st.ip_addresses(),
    st.integers(min_value=1, max_value=65535),
)
descriptions = st.builds(
    Description,
    ufrag=st.text(ICE_CHARS, min_size=4, max_size=32),
    password=st.text(ICE_CHARS, min_size=22, max_size=64),
    fingerprint=st.binary(min_size=32, max_size=32),
    candidates=st.lists(candidates, max_size=CONNECT_MAX_CANDIDATES, unique=True).map(tuple),
)

OURS = """v=0\r
o=- 4004258259 4004258259 IN IP4 0.0.0.0\r
s=-\r
t=0 0\r
a=group:BUNDLE 0\r
a=msid-semantic:WMS *\r
m=application 38100 UDP/DTLS/SCTP webrtc-datachannel\r
c=IN IP4 192.0.2.2\r
a=mid:0\r
a=sctp-port:5000\r
a=max-message-size:262144\r
a=candidate:f957a2 1 udp 2130706431 192.0.2.2 38100 typ host\r
a=candidate:d0bcf3 1 udp 2130706431 fd00::2 58295 typ host\r
a=candidate:0bcf31 1 udp 1694498815 198.51.100.7 38100 typ srflx raddr 192.0.2.2 rport 38100\r
a=candidate:bcf310 1 udp 16777215 203.0.113.9 49152 typ relay raddr 192.0.2.2 rport 38100\r
a=end-of-candidates\r
a=ice-ufrag:hmJd\r
a=ice-pwd:RJ0PTe6IM5uMfcCBz2CxPu\r
a=fingerprint:sha-256 {sha256}\r
a=fingerprint:sha-384 {sha384}\r
a=setup:actpass\r
""".format(sha256=":".join(["4A"] * 32), sha384=":".join(["C5"] * 48))


@given(descriptions)
def test_description_survives_its_bytes(description):
    assert decode(description.encode()) == description


@given(descriptions)
def test_description_survives_its_sdp_with_every_address_that_leads_to_it(description):
    found = reduce(description.sdp(Setup.OFFER))
    assert found.candidates == tuple(sorted(description.candidates, key=_preference))
    assert (found.ufrag, found.password, found.fingerprint) == (
        description.ufrag,
        description.password,
        description.fingerprint,
    )


def _preference(candidate):
    return list(CandidateKind).index(candidate.kind)


def test_what_our_transport_writes_is_understood():
    found = reduce(OURS)
    assert (found.ufrag, found.password) == ("hmJd", "RJ0PTe6IM5uMfcCBz2CxPu")
    assert found.fingerprint == b"\x4a" * 32
    assert found.candidates == (
        Candidate(CandidateKind.HOST, IPv4Address("192.0.2.2"), 38100),
        Candidate(CandidateKind.HOST, IPv6Address("fd00::2"), 58295),
        Candidate(CandidateKind.REFLEXIVE, IPv4Address("198.51.100.7"), 38100),
        Candidate(CandidateKind.RELAYED, IPv4Address("203.0.113.9"), 49152),
    )


def test_a_machine_with_many_addresses_keeps_the_ones_that_servers_saw():
    own = "".join(
        f"a=candidate:{i} 1 udp 2130706431 10.0.0.{i} 1000 typ host\r\n" for i in range(1, 20)
    )
    found = reduce(OURS.replace("a=end-of-candidates\r\n", own)).candidates
    assert len(found) == CONNECT_MAX_CANDIDATES
    addresses = {str(candidate.address) for candidate in found}
    assert {"198.51.100.7", "203.0.113.9", "fd00::2", "192.0.2.2"} < addresses


def test_names_and_tcp_addresses_are_left_out():
    more = (
        "a=candidate:9 1 udp 1 1f4712db-ea17-4bcf-a596-105139dfd8bf.local 5 typ host\r\n"
        "a=candidate:8 1 tcp 1 10.0.0.9 9 typ host tcptype active\r\n"
    )
    assert reduce(OURS.replace("a=end-of-candidates\r\n", more)) == reduce(OURS)


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("a=mid:0", "a=mid:data"),
        ("a=sctp-port:5000", "a=sctp-port:5001"),
        ("a=max-message-size:262144", "a=max-message-size:1"),
        ("a=ice-ufrag:hmJd", ""),
        ("a=ice-pwd:RJ0PTe6IM5uMfcCBz2CxPu", "a=ice-pwd:short"),
    ],
)
def test_description_of_another_kind_is_our_own_mistake(line, instead):
    with pytest.raises(LocalProtocolError):
        reduce(OURS.replace(f"{line}\r\n", f"{instead}\r\n"))


@given(st.binary(max_size=300))
def test_any_bytes_are_a_description_or_refused(data):
    try:
        found = decode(data)
    except InputError:
        return
    assert len(found.candidates) <= CONNECT_MAX_CANDIDATES
    assert reduce(found.sdp(Setup.ANSWER)).ufrag == found.ufrag


def test_bytes_out_of_bounds_are_refused():
    address = ip_address("192.0.2.1")
    too_many = tuple(
        Candidate(CandidateKind.HOST, address, port) for port in range(CONNECT_MAX_CANDIDATES + 1)
    )
    good = Description("abcd", "x" * 22, bytes(32), too_many[:1])
    kind_at = len(good.encode()) - 7
    unknown_kind = good.encode()[:kind_at] + b"\x05" + good.encode()[kind_at + 1 :]
    for bad in (
        Description("abcd", "x" * 22, bytes(32), too_many).encode(),
        Description("abc", "x" * 22, bytes(32), ()).encode(),
        Description("abcd", "x" * 21, bytes(32), ()).encode(),
        good.encode()[:-1],
        good.encode() + b"\0",
        unknown_kind,
        b"",
    ):
        with pytest.raises(InputError):
            decode(bad)
