from __future__ import annotations

import json

import pytest

from dreamer.daemon.rendezvous import standing
from dreamer.daemon.rendezvous.standing import Standing
from dreamer.protocol.ids import InfoHash


def swarm(number: int) -> InfoHash:
    return InfoHash(number.to_bytes(20, "big"))


def told(standing: Standing) -> list[dict]:
    return [json.loads(message) for message in standing.news()]


def test_only_differences_are_told():
    mine = Standing()
    assert told(mine) == []
    mine.present({"name": "a"})
    mine.announce(have=[swarm(1)], want=[swarm(2)])
    assert told(mine) == [
        {"type": "presence", "capabilities": {"name": "a"}},
        {"type": "announce", "have": [swarm(1).hex()]},
        {"type": "announce", "want": [swarm(2).hex()]},
    ]
    assert told(mine) == []
    mine.announce(have=[swarm(2)], want=[])
    assert told(mine) == [
        {"type": "announce", "gone": [swarm(1).hex()]},
        {"type": "announce", "have": [swarm(2).hex()]},
    ]


def test_everything_is_told_to_a_tracker_that_knows_nothing():
    mine = Standing()
    mine.present({"name": "a"})
    mine.announce(have=[swarm(1)], want=[])
    first = told(mine)
    mine.forget_told()
    assert told(mine) == first


def test_complete_model_is_no_longer_wanted():
    mine = Standing()
    mine.announce(have=[swarm(1)], want=[swarm(1)])
    assert told(mine) == [{"type": "announce", "have": [swarm(1).hex()]}]


def test_many_swarms_go_in_several_messages_each_small_enough():
    mine = Standing()
    mine.announce(have=map(swarm, range(1234)), want=[])
    messages = list(mine.news())
    assert [len(json.loads(message)["have"]) for message in messages] == [500, 500, 234]
    assert max(map(len, messages)) < 64 * 1024


@pytest.mark.parametrize("wanted", [0, 3])
def test_swarms_beyond_the_limit_fall_away_wanted_ones_last(monkeypatch, wanted):
    monkeypatch.setattr(standing, "TRACKER_MAX_SWARMS_PER_MEMBER", 5)
    mine = Standing()
    mine.announce(have=map(swarm, range(100, 110)), want=map(swarm, range(wanted)))
    counts = {
        key: len(value) for said in told(mine) for key, value in said.items() if key != "type"
    }
    assert counts.get("want", 0) == wanted
    assert counts["have"] == 5 - wanted
