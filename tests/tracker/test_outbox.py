from __future__ import annotations

import pytest

from dreamer.protocol.tracker_limits import TRACKER_FORWARDED_MAX_BYTES
from dreamer.tracker.outbox import Outbox

SHARE = TRACKER_FORWARDED_MAX_BYTES


def sent(outbox: Outbox) -> list[str]:
    said = []
    while outbox:
        said.append(outbox.first())
        outbox.sent()
    return said


def test_everything_goes_out_in_the_order_it_came():
    outbox = Outbox(10 * SHARE)
    outbox.put("one")
    assert outbox.forward("a", "two")
    outbox.put("three")
    assert sent(outbox) == ["one", "two", "three"]


def test_sender_with_much_waiting_loses_its_own_messages_alone():
    outbox = Outbox(10 * SHARE)
    assert outbox.forward("burst", "x" * SHARE)
    assert not outbox.forward("burst", "y")
    assert outbox.forward("other", "y" * SHARE)
    outbox.sent()
    assert outbox.forward("burst", "y")


def test_many_senders_together_fill_half_and_never_too_much():
    outbox = Outbox(4 * SHARE)
    taken = [outbox.forward(number, "x" * SHARE) for number in range(20)]
    assert taken == [True] * 2 + [False] * 18
    outbox.put("news")
    assert not outbox.overfull


@pytest.mark.parametrize(("size", "overfull"), [(100, False), (101, True)])
def test_news_of_the_trackers_own_beyond_the_bound_is_too_much(size, overfull):
    outbox = Outbox(100)
    outbox.put("x" * size)
    assert outbox.overfull is overfull


def test_cleared_outbox_has_room_again():
    outbox = Outbox(4 * SHARE)
    outbox.forward("a", "x" * SHARE)
    outbox.clear()
    assert len(outbox) == 0
    assert outbox.forward("a", "x" * SHARE)
