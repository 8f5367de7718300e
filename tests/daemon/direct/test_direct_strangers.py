"""Who comes to the port without being asked, and peers that break the rules."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl

import pytest

from dreamer.daemon.direct import channel, endpoint
from dreamer.daemon.direct.addresses import ip_of, may_dial
from dreamer.daemon.direct.certificate import make_certificate
from dreamer.daemon.direct.strangers import Strangers
from dreamer.daemon.direct.tokens import Tokens
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    DIRECT_HANDSHAKES_MAX,
    DIRECT_HANDSHAKES_PER_ADDRESS,
    DIRECT_TOKEN_TTL_S,
    MIB,
)
from dreamer.protocol.link.direct import ACCEPTED, DirectAnswer, DirectOpen, split_addresses


async def test_token_is_good_once(pair, hand, kit) -> None:
    asked = await kit.opening(pair.taker)
    assert await asyncio.to_thread(hand.say, b"x" * 32) == b""
    assert await asyncio.to_thread(hand.say, asked.token) == ACCEPTED
    await kit.until(lambda: pair.taker.link.direct is not None)
    # The port has nobody left to wait for, and hangs up before a word of TLS.
    assert await asyncio.to_thread(hand.say, asked.token) == b""


def test_token_expires() -> None:
    now = [0.0]
    tokens = Tokens(lambda: now[0])
    tokens.add(b"a" * 32, lambda sock, deadline: None)
    now[0] = DIRECT_TOKEN_TTL_S - 0.1
    assert tokens.any()
    now[0] = DIRECT_TOKEN_TTL_S
    assert tokens.redeem(b"a" * 32) is None
    assert not tokens.any()


def test_token_is_good_for_its_own_link_only() -> None:
    tokens = Tokens(lambda: 0.0)

    def one(sock: ssl.SSLSocket, deadline: float) -> None: ...
    def other(sock: ssl.SSLSocket, deadline: float) -> None: ...

    tokens.add(b"a" * 32, one)
    tokens.add(b"b" * 32, other)
    assert tokens.redeem(b"b" * 32) is other
    assert tokens.redeem(b"b" * 32) is None
    assert tokens.redeem(b"a" * 32) is one


async def test_stranger_meets_silence_while_nobody_is_awaited(pair, hand) -> None:
    assert await asyncio.to_thread(hand.say, b"x" * 32) == b""
    assert not hand.socks


async def test_slow_stranger_is_cut_off(pair, hand, kit, monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "DIRECT_HANDSHAKE_TIMEOUT_S", 0.2)
    await kit.opening(pair.taker)

    def dawdle() -> bytes:
        sock = hand.dial()
        sock.sendall(b"x")
        return sock.recv(1)

    # It is told nothing, whatever it said so far.
    assert await asyncio.to_thread(dawdle) == b""


async def test_stranger_that_says_nothing_at_all_is_cut_off(pair, kit, monkeypatch) -> None:
    monkeypatch.setattr(endpoint, "DIRECT_HANDSHAKE_TIMEOUT_S", 0.2)
    pair.giver.deaf = True
    await kit.opening(pair.taker)
    with socket.create_connection(("127.0.0.1", pair.taker.endpoint.port), 10) as plain:
        assert await asyncio.to_thread(plain.recv, 1) == b""


async def test_stranger_without_tls_1_3_is_refused(pair, hand, kit) -> None:
    asked = await kit.opening(pair.taker)
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    old.check_hostname = False
    old.verify_mode = ssl.CERT_NONE
    old.maximum_version = ssl.TLSVersion.TLSv1_2

    def dial() -> None:
        with socket.create_connection(("127.0.0.1", pair.taker.endpoint.port), 10) as plain:
            old.wrap_socket(plain).close()

    with pytest.raises(OSError):
        await asyncio.to_thread(dial)
    assert await asyncio.to_thread(hand.say, asked.token) == ACCEPTED


def test_strangers_are_bounded_for_each_address_and_in_all() -> None:
    strangers = Strangers()
    for _ in range(DIRECT_HANDSHAKES_PER_ADDRESS):
        assert strangers.enter("192.0.2.1")
    assert strangers.enter("192.0.2.1") is None
    assert strangers.enter("::ffff:192.0.2.1") is None
    for number in range(DIRECT_HANDSHAKES_MAX - DIRECT_HANDSHAKES_PER_ADDRESS):
        assert strangers.enter(f"198.51.100.{number}")
    assert strangers.enter("203.0.113.1") is None
    strangers.leave("192.0.2.1")
    assert strangers.enter("203.0.113.1")


def test_ipv6_strangers_are_counted_by_their_network() -> None:
    strangers = Strangers()
    for number in range(DIRECT_HANDSHAKES_PER_ADDRESS):
        assert strangers.enter(f"2001:db8::{number + 1:x}")
    assert strangers.enter("2001:db8::ffff:1") is None
    assert strangers.enter("2001:db8:0:1::1")


async def test_too_many_strangers_do_not_keep_the_peer_out_for_long(pair, hand, kit) -> None:
    asked = await kit.opening(pair.taker)
    with contextlib.ExitStack() as stack:
        for _ in range(2 * DIRECT_HANDSHAKES_PER_ADDRESS):
            address = ("127.0.0.1", pair.taker.endpoint.port)
            stack.enter_context(socket.create_connection(address, 10))
        waiting = pair.taker.endpoint._strangers._waiting
        await kit.until(lambda: waiting.total() == DIRECT_HANDSHAKES_PER_ADDRESS)
        # Its turn comes when they have gone.
    await kit.until(lambda: not waiting)
    assert await asyncio.to_thread(hand.say, asked.token) == ACCEPTED


async def test_dialler_says_no_token_to_another_certificate(pair, kit) -> None:
    wrong = make_certificate().fingerprint

    def swap(message):
        return (
            DirectAnswer(*(message.attempt, message.addresses, wrong, message.token, message.host))
            if isinstance(message, DirectAnswer)
            else message
        )

    pair.giver.tamper = swap
    # Only the taker can dial.
    pair.taker.endpoint.addresses = lambda: ""
    pair.taker.link.want_direct()
    await kit.until(lambda: pair.taker.heard.lanes == ["webrtc"])
    assert pair.taker.link.direct is None
    # What was not said is still good.
    assert pair.giver.endpoint.tokens.any()


async def test_bad_block_gets_its_verdict_and_is_not_written(pair, hand, kit) -> None:
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    await asyncio.to_thread(hand.send_block, 1, 0, bytes(MIB))
    await pair.moved(1, 1)
    assert pair.taker.heard.verdicts == {(1, 0): "rejected"}
    assert pair.target.read_bytes() == bytes(MIB)
    assert pair.content != bytes(MIB)


@pytest.mark.parametrize(
    ("request_", "block", "length"),
    [
        pytest.param(1, 1, MIB, id="a block that was not asked for"),
        pytest.param(2, 0, MIB, id="a request that was not made"),
        pytest.param(1, 0, MIB + 1, id="a block that is too long"),
        pytest.param(1, 0, 77, id="a block that is too short"),
        pytest.param(1, 0, 2**32 - 1, id="a block that never ends"),
    ],
)
async def test_peer_that_sends_what_was_not_asked_is_dropped(
    pair, hand, kit, request_, block, length
) -> None:
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    await asyncio.to_thread(hand.send_block, request_, block, b"", length)
    await kit.until(lambda: bool(pair.taker.dropped))
    assert "direct connection" in pair.taker.dropped[0]
    assert not pair.taker.heard.verdicts
    assert pair.target.read_bytes() == bytes(MIB)


async def test_same_block_twice_is_a_fault(pair, hand, kit) -> None:
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    with contextlib.suppress(OSError):
        for _ in range(2):
            await asyncio.to_thread(hand.send_block, 1, 0, pair.content)
    await kit.until(lambda: bool(pair.taker.dropped))
    assert pair.taker.heard.verdicts == {(1, 0): "verified"}


async def test_peer_that_stops_in_the_middle_of_a_block_loses_the_lane(
    pair, hand, kit, monkeypatch
) -> None:
    monkeypatch.setattr(channel, "DIRECT_STALL_TIMEOUT_S", 0.2)
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    await asyncio.to_thread(hand.send_block, 1, 0, pair.content[:1000], MIB)
    await kit.until(lambda: pair.taker.link.direct is None)
    # Slow is no crime: the link stays, and blocks come over its own channel.
    assert not pair.taker.dropped
    assert pair.taker.heard.lanes == ["direct", "webrtc"]


async def test_peer_that_sends_nothing_of_what_is_due_loses_the_lane(
    pair, hand, kit, monkeypatch
) -> None:
    monkeypatch.setattr(channel, "DIRECT_STALL_TIMEOUT_S", 0.1)
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    await kit.until(lambda: pair.taker.link.direct is None)
    assert not pair.taker.dropped


async def test_peer_that_trickles_is_dropped(pair, hand, kit, monkeypatch) -> None:
    monkeypatch.setattr(channel, "DIRECT_BLOCK_TIMEOUT_S", 0.1)
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    pair.taker.link.direct.expect(1, taken)
    await asyncio.to_thread(hand.send_block, 1, 0, pair.content[:1000], MIB)

    async def trickle() -> None:
        for byte in pair.content[1000:]:
            await asyncio.to_thread(hand.socks[-1].sendall, bytes([byte]))
            await asyncio.sleep(0.01)

    trickling = asyncio.create_task(trickle())
    await kit.until(lambda: bool(pair.taker.dropped))
    assert "took longer" in pair.taker.dropped[0]
    trickling.cancel()
    await asyncio.gather(trickling, return_exceptions=True)


async def test_idle_connection_is_not_a_stalled_one(pair, hand, kit, monkeypatch) -> None:
    monkeypatch.setattr(channel, "DIRECT_STALL_TIMEOUT_S", 0.02)
    _, taken = pair.blocks([MIB])
    asked = await kit.opening(pair.taker)
    await asyncio.to_thread(hand.say, asked.token)
    await kit.until(lambda: pair.taker.link.direct is not None)
    silences: list[bool] = []
    asked_of = pair.taker.lane._taking[1]._taking._asked
    monkeypatch.setattr(type(asked_of), "busy", property(lambda _: silences.append(True)))
    await kit.until(lambda: len(silences) > 3)
    monkeypatch.undo()
    # The thread is to look once more, with the real timeout, before a slow machine sends.
    rearmed = asyncio.Event()
    asyncio.get_running_loop().call_later(0.3, rearmed.set)
    await rearmed.wait()
    pair.taker.link.direct.expect(1, taken)
    await asyncio.to_thread(hand.send_block, 1, 0, pair.content)
    await pair.moved(1, 1)


async def test_member_that_asks_again_and_again_is_dropped(pair, kit) -> None:
    pair.taker.deaf = True
    asked = await kit.opening(pair.taker)
    for number in range(100, 120):
        message = DirectOpen(number, "", asked.fingerprint, asked.token, asked.host)
        pair.taker.link.send(message)
    await kit.until(lambda: bool(pair.giver.dropped))
    assert len(kit.answers(pair.giver)) <= 4


@pytest.mark.parametrize(
    "addresses",
    [
        "127.0.0.1",
        "127.0.0.1:0",
        "127.0.0.1:65536",
        "127.0.0.1:٣",
        "127.0.0.1:000443777",
        ":80",
        "127.0.0.1:80  127.0.0.1:81",
        "a\0b:80",
        " ".join(["192.0.2.1:80"] * 17),
        "x" * 1100 + ":80",
        "127.0.0.1:" + "9" * 400,
    ],
)
def test_malformed_addresses_are_the_peers_fault(addresses) -> None:
    with pytest.raises(RemoteProtocolError):
        split_addresses(addresses)


def test_loopback_is_dialled_for_who_runs_on_this_machine_only() -> None:
    for host in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
        assert may_dial(ip_of(host), same_host=True)
        assert not may_dial(ip_of(host), same_host=False)
    # Link-local too: at 169.254.169.254 clouds hand out the keys of a machine.
    for host in ("0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "169.254.169.254"):
        assert not may_dial(ip_of(host), same_host=True)
    assert may_dial(ip_of("192.0.2.7"), same_host=False)


async def test_mark_of_this_machine_can_not_be_echoed(pair) -> None:
    ours = pair.taker.endpoint.host_mark(pair.taker.id)
    assert pair.giver.endpoint.host_mark(pair.taker.id) == ours
    # A peer elsewhere that says our own mark back is not believed.
    assert pair.taker.endpoint.host_mark(pair.giver.id) != ours


def test_a_block_fits_the_buffer_of_a_thread() -> None:
    assert BLOCK_BYTES == MIB
