"""The tracker's bench, tiny: its accounts balance, and what it reports is what happened."""

from __future__ import annotations

import dataclasses
import json

import pytest
import uvloop

from dreamer.simulations.bench import tracker as bench
from dreamer.simulations.bench.tracker_load import frames, report, rounds, servers
from dreamer.simulations.bench.tracker_load.books import Books, Latency

SOCKETS, PER_SWARM = 20, 10
TINY = rounds.Shape(SOCKETS, PER_SWARM, seconds=0.3, warm_up_s=0.1, window=8)


@pytest.fixture(scope="module")
def server():
    with servers.ours() as running:
        yield running


def test_every_offer_and_answer_of_a_round_is_accounted_for(server) -> None:
    measured = uvloop.run(rounds.measure(server, TINY))
    books = measured.books
    announced = books.announces - SOCKETS
    assert measured.balanced, books
    assert announced > 0
    assert books.offers == books.answers == 5 * announced
    assert measured.latency.count > 0
    assert 0 < measured.latency.p50_ms <= measured.latency.p99_ms <= measured.latency.max_ms
    assert measured.server_memory.rss_mib > 0
    assert any(
        "every offer and answer arrived once" in line for line in report.throughput([measured])
    )


def test_an_open_loop_announces_at_its_own_rate_not_the_trackers(server) -> None:
    measured = uvloop.run(rounds.measure(server, dataclasses.replace(TINY, rate=100.0)))
    assert measured.balanced, measured.books
    # Never ahead of its schedule, however slow the machine is.
    assert 0 < measured.books.announces - SOCKETS <= 100


def test_memory_is_told_for_each_stage(server) -> None:
    measured = uvloop.run(rounds.footprint(server, dataclasses.replace(TINY, sockets=12)))
    assert measured.balanced
    assert measured.sockets == 12
    assert measured.alone.rss_mib <= measured.rested.rss_mib + 1
    assert measured.announced.uss_mib > 0


def test_the_command_prints_json_for_programs(server, monkeypatch, capsys) -> None:
    options = ["--sockets", "6", "--seconds", "0.1", "--warm-up", "0", "--rounds", "1", "--json"]
    monkeypatch.setattr(
        "sys.argv", ["tracker", "throughput", "--against", server.address.url, *options]
    )
    bench.main()
    told = json.loads(capsys.readouterr().out)
    assert [each["balanced"] for each in told["throughput"]] == [True]
    assert told["throughput"][0]["server_cpu"]["user_s"] >= 0


def test_a_tracker_that_is_there_already_is_found_by_its_port(server) -> None:
    with servers.against(server.address.url, None)() as found:
        assert found.pid == server.pid


def test_an_offer_that_never_arrives_shows_in_the_books() -> None:
    lost = Books(announces=1, replies=1, offers_due=5, offers=4, answers_sent=4, answers=4)
    assert not lost.balanced
    twice = Books(announces=1, replies=1, strange=1)
    assert not twice.balanced


def test_percentiles_are_those_of_the_nearest_rank() -> None:
    assert Latency.of([each / 1000 for each in range(101)]) == Latency(101, 50.0, 99.0, 100.0)
    assert Latency.of([]).count == 0


@pytest.mark.parametrize("size", [0, 125, 126, 0xFFFF, 0x10000])
def test_a_frame_says_its_own_length(size: int) -> None:
    written = frames.frame(frames.TEXT, bytes(size))
    # A server's frame differs in the mask alone: take it out to read it back.
    head = len(written) - size
    unmasked = bytes([written[0], written[1] & 0x7F]) + written[2 : head - 4] + bytes(size)
    start, stop = frames.span(unmasked, 0)
    assert (stop - start, stop) == (size, len(unmasked))
