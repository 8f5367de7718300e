"""What links have shown that they can carry."""

from __future__ import annotations

import pytest

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.link_rates import LinkRates
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import PEAK_RATE_SAMPLE_S, PEAK_RATE_WINDOW_S
from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.protocol.topology import Measured

MB = 1_000_000


class House:
    """Rates on a clock of the test's own."""

    def __init__(self) -> None:
        self.now = 0.0
        self.rates = LinkRates(clock=lambda: self.now)

    def link(self, number: int = 1, relayed: bool = False) -> Link:
        peer = NodeId(bytes([number]) * 32)
        link = Link(number, RoomId(b"r" * 32), peer, relayed, {}, lambda command: None, 0.0)
        self.rates.link_up(link)
        return link

    def move(self, seconds: float, *moving: tuple[Link, int, int]) -> None:
        """Let so many bytes a second come and go over links."""
        for _ in range(round(seconds / PEAK_RATE_SAMPLE_S)):
            self.rates.look()
            self.now += PEAK_RATE_SAMPLE_S
            for link, down, up in moving:
                link.bytes_down += round(down * PEAK_RATE_SAMPLE_S)
                link.bytes_up += round(up * PEAK_RATE_SAMPLE_S)
        self.rates.look()


@pytest.fixture
def house() -> House:
    return House()


def test_link_that_moved_nothing_has_no_rate(house) -> None:
    link = house.link()
    house.move(10.0, (link, 0, 0))
    assert house.rates.of_link(link) == (Measured(), None)


def test_peak_stays_when_the_stream_is_over(house) -> None:
    link = house.link()
    house.move(2 * PEAK_RATE_WINDOW_S, (link, 5 * MB, 2 * MB))
    house.move(30.0, (link, MB, 0))
    assert house.rates.of_link(link) == (Measured(5 * MB, 2 * MB), Lane.WEBRTC)


def test_lane_is_the_one_of_the_peak(house) -> None:
    link = house.link(relayed=True)
    house.move(2 * PEAK_RATE_WINDOW_S, (link, 5 * MB, 0))
    link.relayed = False
    house.move(2 * PEAK_RATE_WINDOW_S, (link, MB, 0))
    assert house.rates.of_link(link)[1] is Lane.RELAY


def test_what_came_before_the_first_look_counts(house) -> None:
    link = house.link()
    house.now += PEAK_RATE_SAMPLE_S / 2
    link.bytes_down = round(6 * MB * PEAK_RATE_WINDOW_S)
    house.move(2 * PEAK_RATE_WINDOW_S)
    assert house.rates.of_link(link)[0].down_bytes_s >= 5 * MB


def test_node_has_what_its_links_have_together_also_of_those_that_went(house) -> None:
    one, other = house.link(1), house.link(2)
    house.move(2 * PEAK_RATE_WINDOW_S, (one, 3 * MB, 0), (other, 4 * MB, MB))
    assert house.rates.of_node() == Measured(7 * MB, MB)
    house.rates.link_down(other, "it left")
    house.move(2 * PEAK_RATE_WINDOW_S, (one, 3 * MB, 0))
    # Had the bytes of the one that left been taken away, the next would look like a burst.
    house.rates.link_up(other)
    assert house.rates.of_node() == Measured(7 * MB, MB)
    assert house.rates.of_link(other) == (Measured(), None)
