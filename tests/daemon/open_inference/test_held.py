"""What requests hold in memory, all together."""

import pytest

from dreamer.daemon.open_inference.held import HeldBodies
from dreamer.protocol.errors import BusyError


def test_bodies_are_held_up_to_the_bound_and_let_go():
    bodies = HeldBodies(most_bytes=100)
    with bodies.body() as first, bodies.body() as second:
        first.grow(60)
        first.grow(50)
        second.grow(40)
        assert bodies.held_bytes == 100
        with pytest.raises(BusyError, match="100 bytes already"):
            second.grow(41)
        assert bodies.held_bytes == 100
    assert bodies.held_bytes == 0


def test_one_alone_may_be_larger_than_all_together():
    bodies = HeldBodies(most_bytes=100)
    with bodies.body() as only:
        only.grow(1000)
        assert bodies.held_bytes == 1000
    assert bodies.held_bytes == 0
