"""Who is present, by the word of several trackers."""

from __future__ import annotations

import pytest

from dreamer.daemon.room.presence import Presence
from dreamer.protocol.ids import NodeId

ONE, TWO = "http://one", "http://two"
ANN, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)


@pytest.fixture
def presence() -> Presence:
    made = Presence()
    made.arrived(ONE, ANN, {"name": "ann"})
    made.arrived(ONE, BOB, {"name": "bob"})
    made.arrived(TWO, ANN, {"name": "ann"})
    return made


def test_member_gone_from_one_tracker_is_still_present_at_another(presence) -> None:
    presence.left(ONE, ANN)
    assert presence.members[ANN] == {"name": "ann"}
    presence.left(TWO, ANN)
    assert list(presence.members) == [BOB]


def test_nobody_is_present_by_the_word_of_a_tracker_that_is_away(presence) -> None:
    presence.lost(ONE)
    assert list(presence.members) == [ANN]
    presence.lost(TWO)
    assert presence.members == {}


def test_only_a_trackers_word_that_a_member_left_says_that_it_vanished(presence) -> None:
    told: list[NodeId] = []
    presence.vanished = told.append
    presence.lost(ONE)
    presence.lost(TWO)
    assert told == []
    presence.arrived(ONE, ANN, {})
    presence.left(ONE, ANN)
    assert told == [ANN]


def test_the_latest_word_counts(presence) -> None:
    presence.arrived(ONE, ANN, {"serves": True})
    assert presence.members[ANN] == {"serves": True}
    presence.left(ONE, ANN)
    assert presence.members[ANN] == {"name": "ann"}


def test_whoever_was_never_here_may_leave(presence) -> None:
    presence.left(TWO, BOB)
    presence.left(ONE, NodeId(b"c" * 32))
    assert len(presence.members) == 2
