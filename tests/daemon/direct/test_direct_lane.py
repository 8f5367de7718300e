"""Blocks over a direct connection between two members."""

from __future__ import annotations

import asyncio
import threading
from types import SimpleNamespace

import pytest

from dreamer.daemon.direct import taking_side
from dreamer.daemon.direct.giving import Giving
from dreamer.daemon.direct.reports import Served
from dreamer.protocol.limits import DIRECT_RETRY_MAX_S, DIRECT_WANTED_S, MIB
from dreamer.protocol.link.direct import DirectOpen, DirectRetire
from dreamer.protocol.swarm.vocabulary import Lane

SIZES = [MIB, MIB, 77, MIB // 2]


async def test_blocks_arrive_verified_in_their_places(pair, kit) -> None:
    given, taken = pair.blocks(SIZES)
    await pair.up()
    pair.ask(5, given, taken)
    await pair.moved(5, len(SIZES))
    assert set(pair.taker.heard.verdicts.values()) == {"verified"}
    assert pair.target.read_bytes() == pair.content
    await kit.until(lambda: pair.giver.heard.ended == [(5, None)])


async def test_links_count_what_was_moved_and_say_direct(pair, kit) -> None:
    given, taken = pair.blocks(SIZES)
    await pair.up()
    assert pair.taker.link.lane is pair.giver.link.lane is Lane.DIRECT
    # The giver has asked for no connection of its own.
    assert pair.giver.link.asked_over is Lane.WEBRTC
    assert pair.taker.link.lan
    assert pair.giver.link.lan
    pair.taker.now += 5
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))
    await kit.until(lambda: pair.taker.link.bytes_down == sum(SIZES))
    await kit.until(lambda: pair.giver.link.bytes_up >= sum(SIZES))
    assert pair.taker.heard.arrived_bytes == sum(SIZES)
    assert pair.taker.link.heard_at == pair.taker.now


async def test_either_side_may_ask_at_the_same_time(pair) -> None:
    given, taken = pair.blocks(SIZES)
    await pair.up()
    pair.giver.link.want_direct()
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))
    assert pair.giver.link.lane is Lane.DIRECT


@pytest.mark.parametrize("deaf", ["taker dials", "giver dials"])
async def test_one_direction_of_dialling_is_enough(pair, deaf) -> None:
    # One of the two can't be reached: it names no address that works.
    hidden = pair.taker if deaf == "taker dials" else pair.giver
    hidden.endpoint.addresses = lambda: "127.0.0.1:1"
    given, taken = pair.blocks(SIZES)
    await pair.up()
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))


async def test_ipv6(make_pair) -> None:
    pair = await make_pair("::1")
    assert pair.taker.endpoint.addresses() == f"[::1]:{pair.taker.endpoint.port}"
    given, taken = pair.blocks(SIZES)
    await pair.up()
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))


async def test_dual_stack_listener_names_loopback_of_both_versions(make_pair) -> None:
    pair = await make_pair("::")
    names = pair.taker.endpoint.addresses().split()
    assert f"127.0.0.1:{pair.taker.endpoint.port}" in names
    given, taken = pair.blocks(SIZES)
    await pair.up()
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))


async def test_peer_without_the_capability_is_not_asked(make_pair) -> None:
    pair = await make_pair(capable=False)
    pair.taker.link.want_direct()
    assert not pair.taker.said
    assert pair.taker.link.carrier is pair.taker.link.bulk


async def test_bulk_is_not_used_in_the_moment_in_which_it_is_decided(pair, kit) -> None:
    pair.giver.deaf = True
    pair.taker.link.want_direct()
    assert pair.taker.link.carrier is None
    # Nobody answers: after a moment, much less than it takes to give up, the bulk channel is used.
    await kit.until(lambda: pair.taker.heard.lanes == ["webrtc"])
    assert pair.taker.link.carrier is pair.taker.link.bulk


async def test_a_vain_attempt_is_repeated_later_and_later(pair, kit, monkeypatch) -> None:
    monkeypatch.setattr(taking_side, "DIRECT_DECIDE_S", 0.01)
    pair.giver.deaf = True
    for attempts in range(1, 5):
        pair.taker.link.want_direct()
        await kit.until(lambda: not pair.taker.lane._taking[1]._attempts)
        pair.taker.link.want_direct()
        opened = [said for said in pair.taker.said if isinstance(said, DirectOpen)]
        assert len(opened) == attempts
        pair.taker.now += DIRECT_RETRY_MAX_S * 2


async def test_nobody_is_called_while_nothing_is_wanted(pair, kit, monkeypatch) -> None:
    monkeypatch.setattr(taking_side, "DIRECT_DECIDE_S", 0.01)
    pair.giver.deaf = True
    pair.taker.link.want_direct()
    await kit.until(lambda: not pair.taker.lane._taking[1]._attempts)
    pair.taker.now += DIRECT_RETRY_MAX_S + DIRECT_WANTED_S
    pair.taker.lane.tick()
    assert len(pair.taker.said) == 1


async def test_cancelled_blocks_are_left_out_or_thrown_away(pair, kit) -> None:
    given, taken = pair.blocks([MIB] * 8)
    await pair.up()
    direct, up = pair.taker.link.direct, pair.giver.link.direct_up
    direct.expect(1, taken)
    # Taken back by the taker, but the giver has not heard of it yet.
    direct.stop_expecting(1, 3)
    up.serve(1, given)
    await pair.moved(1, 7)
    assert (1, 3) not in pair.taker.heard.verdicts
    await kit.until(lambda: pair.giver.heard.ended == [(1, None)])
    # The connection is as good as before.
    pair.ask(2, given[:2], taken[:2])
    await pair.moved(2, 2)
    assert not pair.taker.dropped


async def test_request_stopped_as_a_whole_ends_once(pair, kit) -> None:
    given, taken = pair.blocks([MIB] * 8)
    await pair.up()
    pair.ask(1, given, taken)
    pair.taker.link.direct.stop_expecting(1, -1)
    pair.giver.link.direct_up.stop_serving(1, -1)
    await kit.until(lambda: len(pair.giver.heard.ended) == 1)
    pair.ask(2, given, taken)
    await pair.moved(2, 8)
    await kit.until(lambda: [request for request, _ in pair.giver.heard.ended] == [1, 2])


async def test_request_number_may_be_served_in_slices(pair, kit) -> None:
    given, taken = pair.blocks([MIB] * 4)
    await pair.up()
    pair.taker.link.direct.expect(1, taken)
    pair.giver.link.direct_up.serve(1, given[:2])
    await kit.until(lambda: len(pair.giver.heard.ended) == 1)
    pair.giver.link.direct_up.serve(1, given[2:])
    await kit.until(lambda: len(pair.giver.heard.ended) == 2)
    await pair.moved(1, 4)


async def test_file_that_shrank_fails_the_request_and_keeps_the_connection(pair, kit) -> None:
    given, taken = pair.blocks([MIB] * 3)
    await pair.up()
    pair.source.write_bytes(b"short")
    pair.ask(1, given, taken)
    await kit.until(lambda: bool(pair.giver.heard.ended))
    ((request, failed),) = pair.giver.heard.ended
    assert request == 1
    assert failed is not None
    assert "shorter" in failed.reason
    pair.source.write_bytes(pair.content)
    pair.ask(2, given, taken)
    await pair.moved(2, 3)


async def test_request_whose_connection_breaks_ends_though_another_stands(tmp_path) -> None:
    class Broken:
        def send(self, data) -> None:
            raise ConnectionError("reset")

    (tmp_path / "source").write_bytes(b"block")
    posted = []
    giving = Giving(1, SimpleNamespace(post=posted.append))
    giving.serve(7, [(0, str(tmp_path / "source"), 0, 5)])
    with pytest.raises(ConnectionError):
        giving._send_blocks(Broken(), threading.Event())
    assert posted == [Served(7, None)]


async def test_link_that_goes_takes_its_connections_along(pair, kit) -> None:
    await pair.up()
    channel = pair.giver.lane._giving[1]._giving.channels[0]
    pair.taker.fanout.link_down(pair.taker.link, "its membership was ended")
    assert pair.taker.link.direct is None
    # The other end notices by itself.
    await kit.until(lambda: pair.giver.link.direct_up is None)
    assert channel.fileno() == -1


async def test_connection_that_breaks_is_made_anew_later(pair, kit) -> None:
    given, taken = pair.blocks(SIZES)
    await pair.up()
    first = pair.taker.link.direct
    pair.giver.lane._giving[1]._giving.channels[0].hang_up()
    await kit.until(lambda: pair.taker.link.direct is None)
    assert pair.taker.heard.lanes == ["direct", "webrtc"]
    assert pair.taker.link.carrier is pair.taker.link.bulk
    pair.taker.link.want_direct()
    assert pair.taker.link.direct is None
    pair.taker.now += DIRECT_RETRY_MAX_S
    await pair.up()
    assert pair.taker.link.direct is not first
    pair.ask(1, given, taken)
    await pair.moved(1, len(SIZES))


async def test_requests_of_a_giver_that_lost_its_connection_are_over(pair, kit) -> None:
    given, _ = pair.blocks(SIZES)
    await pair.up()
    # Not expected by the taker: it takes the connection down.
    pair.giver.link.direct_up.serve(9, given)
    await kit.until(lambda: pair.giver.link.direct_up is None)
    await kit.until(lambda: [request for request, _ in pair.giver.heard.ended] == [9])


async def test_unused_connection_is_closed(pair, kit, monkeypatch) -> None:
    await pair.up()
    monkeypatch.setattr(taking_side, "DIRECT_IDLE_S", 10.0)
    pair.taker.now += 9
    pair.taker.lane.tick()
    assert pair.taker.link.direct is not None
    pair.taker.now += 2
    pair.taker.lane.tick()
    assert pair.taker.link.direct is None
    await kit.until(lambda: pair.giver.link.direct_up is None)


async def test_several_connections_share_the_work_and_can_be_retired(pair, kit) -> None:
    given, taken = pair.blocks([MIB] * 32)
    await pair.up()
    side = pair.taker.lane._taking[1]
    side._parallel.wanted = 3
    for connections in (2, 3):
        side.tick()
        await kit.until(lambda n=connections: len(side._taking.channels) == n)
    await kit.until(lambda: len(pair.giver.lane._giving[1]._giving.channels) == 3)
    pair.ask(1, given, taken)
    await pair.moved(1, 32)
    assert pair.target.read_bytes() == pair.content
    side._parallel.wanted = 1
    side.tick()
    await kit.until(lambda: len(side._taking.channels) == 2)
    side.tick()
    await kit.until(lambda: len(side._taking.channels) == 1)
    assert sum(isinstance(said, DirectRetire) for said in pair.taker.said) == 2
    # That was no loss: the lane has been direct all the time.
    assert pair.taker.heard.lanes == ["direct"]
    pair.ask(2, given, taken)
    await pair.moved(2, 32)


async def test_threads_report_in_batches(pair, kit) -> None:
    given, taken = pair.blocks([1024] * 200)
    await pair.up()
    batches: list[int] = []
    reports = pair.taker.lane._taking[1]._reports
    deliver = reports._deliver
    reports._deliver = lambda batch: (batches.append(len(batch)), deliver(batch))
    pair.ask(1, given, taken)
    await pair.moved(1, 200)
    assert sum(batches) == 200
    assert len(batches) < 100


async def test_room_that_is_left_while_connecting_keeps_nothing(pair, kit) -> None:
    pair.taker.link.want_direct()
    await asyncio.sleep(0)
    for member in (pair.taker, pair.giver):
        member.fanout.link_down(member.link, "the room is left")
    assert not pair.taker.endpoint.tokens.any()
    assert not pair.giver.endpoint.tokens.any()
