"""Where to run a request, by what was measured: situations, and what is best in each."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import NoMatchError, RemoteError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload import Runner, Work, estimate, may_ask, plan
from dreamer.protocol.offload_limits import OFFLOAD_ASSUMED_RTT_S

US, NEAR, FAR, UNKNOWN = (NodeId(bytes([n]) * 32) for n in (9, 3, 2, 1))
LAPTOP = Runner(US, 0.0, loaded=True, prefill_tokens_s=100.0, decode_tokens_s=10.0)
GPU = Runner(
    NEAR, 0.02, gpu=True, loaded=True, slots=4, prefill_tokens_s=5000.0, decode_tokens_s=100.0
)
PEERS = [Runner(UNKNOWN, None), Runner(FAR, 0.2), Runner(NEAR, 0.01)]
CHAT = Work(prompt_tokens=50, answer_tokens=100, size_bytes=2 * 10**9)
WORD = Work(prompt_tokens=5, answer_tokens=1, size_bytes=2 * 10**9)
BOOK = Work(prompt_tokens=2000, answer_tokens=20, size_bytes=2 * 10**9)


def order(chosen) -> list[NodeId]:
    return [choice.node for choice in chosen.choices]


@pytest.mark.parametrize(
    ("here", "peer", "work", "first"),
    [
        # A GPU beside a laptop: worth it for a long answer or a long prompt, not for a word.
        (LAPTOP, GPU, CHAT, NEAR),
        (LAPTOP, GPU, BOOK, NEAR),
        (replace(LAPTOP, decode_tokens_s=1000.0, prefill_tokens_s=1e4), GPU, WORD, US),
        # As fast as here: what stays here nobody else sees.
        (LAPTOP, replace(GPU, prefill_tokens_s=100.0, decode_tokens_s=10.0), CHAT, US),
        (LAPTOP, replace(GPU, prefill_tokens_s=100.0, decode_tokens_s=12.0), CHAT, US),
        # A round trip that eats the gain.
        (replace(LAPTOP, decode_tokens_s=100.0), replace(GPU, rtt_s=5.0), CHAT, US),
        # Loaded there and not here, or the other way round.
        (replace(LAPTOP, loaded=False, load_s=30.0), replace(LAPTOP, node=NEAR), CHAT, NEAR),
        (LAPTOP, replace(GPU, loaded=False, load_s=30.0), CHAT, US),
        (LAPTOP, replace(GPU, loaded=False, load_s=1.0), CHAT, NEAR),
        # Queues: free slots take no time, a long line does.
        (LAPTOP, replace(GPU, running=3), CHAT, NEAR),
        (LAPTOP, replace(GPU, running=4, queued=60), CHAT, US),
        (replace(LAPTOP, running=1, queued=5), replace(LAPTOP, node=NEAR, rtt_s=0.1), CHAT, NEAR),
        # Never measured: by size and kind of device.
        (Runner(US, 0.0, loaded=True), Runner(NEAR, 0.01, gpu=True, loaded=True), CHAT, NEAR),
        (Runner(US, 0.0, loaded=True), Runner(NEAR, 0.01, loaded=True), CHAT, US),
        (Runner(US, 0.0, loaded=True), Runner(NEAR, None, gpu=True), WORD, US),
    ],
)
def test_a_request_runs_where_it_is_done_soonest(here, peer, work, first) -> None:
    chosen = plan("auto", here, [peer], "m", work)
    assert order(chosen)[0] == first
    assert sorted(order(chosen)) == sorted([US, NEAR])
    assert chosen.choices[0].local == (first == US)


def test_an_estimate_is_the_sum_of_what_has_to_happen() -> None:
    runner = Runner(NEAR, 0.5, False, False, 3.0, 2, 1, 2, 10.0, 5.0)
    found = estimate(runner, Work(20, 11, 0))
    one_s = 2.0 + 11 / 5
    assert found.load_s == 3.0
    assert found.prefill_s == 2.0
    # Two run in two slots and one waits: this is the second to wait.
    assert found.queue_s == pytest.approx(2 * one_s / 2)
    assert found.first_token_s == pytest.approx(0.5 + found.queue_s + 3.0 + 2.0 + 0.2)
    assert found.total_s == pytest.approx(found.first_token_s + 10 / 5)


def test_what_another_told_is_written_once_more_token_by_token() -> None:
    found = estimate(LAPTOP, Work(100, 11, 0, replayed_tokens=500))
    assert found.replay_s == 50.0
    assert found.first_token_s == pytest.approx(1.0 + 50.0 + 0.1)
    assert found.total_s == pytest.approx(found.first_token_s + 1.0)


def test_a_round_trip_that_was_never_measured_is_assumed() -> None:
    assert estimate(Runner(NEAR, None), CHAT).rtt_s == OFFLOAD_ASSUMED_RTT_S


def test_asked_for_a_peer_only_peers_will_do_the_nearest_first() -> None:
    assert order(plan("peer", LAPTOP, PEERS, "m")) == [NEAR, UNKNOWN, FAR]


def test_asked_to_run_here_nobody_is_asked() -> None:
    assert order(plan("local", LAPTOP, [GPU], "m", CHAT)) == [US]


def test_a_model_that_is_not_here_runs_on_a_peer() -> None:
    assert order(plan("auto", None, PEERS, "m"))[0] == NEAR


def test_equal_peers_are_tried_in_one_order() -> None:
    same = [Runner(NEAR, 0.1), Runner(FAR, 0.1)]
    assert plan("peer", None, same, "m") == plan("peer", None, same[::-1], "m")


def test_the_fastest_two_race_by_their_first_token() -> None:
    slow_start = replace(GPU, node=FAR, decode_tokens_s=1000.0, loaded=False, load_s=9.0)
    chosen = plan("fastest", LAPTOP, [slow_start, GPU], "m", CHAT)
    assert chosen.race
    assert order(chosen) == [NEAR, US, FAR]
    assert not plan("fastest", LAPTOP, [], "m", CHAT).race


@pytest.mark.parametrize(
    ("prefer", "asking", "may"),
    [
        ("auto", "auto", True),
        ("peer", "auto", True),
        ("local", "auto", False),
        ("auto", "on-request", False),
        ("peer", "on-request", True),
        ("fastest", "on-request", True),
        ("auto", "never", False),
        ("peer", "never", False),
        ("fastest", "never", False),
    ],
)
def test_a_prompt_leaves_a_node_only_where_its_owner_lets_it(prefer, asking, may) -> None:
    assert may_ask(prefer, asking) is may
    if prefer in ("auto", "fastest"):
        chosen = plan(prefer, LAPTOP, [GPU], "m", CHAT, asking)
        assert (NEAR in order(chosen)) is may


@pytest.mark.parametrize(
    ("prefer", "peers", "asking", "fault", "advice"),
    [
        ("local", PEERS, "auto", NoMatchError, "pull it first"),
        ("peer", [], "auto", RemoteError, "serve_peers = true"),
        ("auto", [], "auto", RemoteError, "pull it and run it here"),
        ("fastest", [], "auto", RemoteError, "serve_peers = true"),
        ("auto", PEERS, "on-request", NoMatchError, "--where peer"),
        ("auto", PEERS, "on-request", NoMatchError, "ask = auto"),
        ("peer", PEERS, "never", NoMatchError, "asks no peers"),
    ],
)
def test_when_nobody_can_the_error_says_what_helps(prefer, peers, asking, fault, advice) -> None:
    with pytest.raises(fault, match=advice):
        plan(prefer, None, peers, "m", CHAT, asking)
