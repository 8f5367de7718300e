"""Who may be asked again for one answer: a member whose link was lost and came back; how often."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.offload.tried import Tried
from dreamer.protocol.offload_limits import OFFLOAD_RETURNS_MAX


class Links:
    """Which link stands to a member now, by its number."""

    def __init__(self, offloading: Any) -> None:
        self.numbers: dict[Any, int] = {offloading.NEAR: 1, offloading.FAR: 2}

    def __call__(self, node: Any) -> Any:
        number = self.numbers.get(node)
        return None if number is None else SimpleNamespace(number=number)


@pytest.fixture
def links(offloading: Any) -> Links:
    return Links(offloading)


def test_who_failed_over_a_link_that_stands_is_not_asked_again(
    links: Links, offloading: Any
) -> None:
    tried = Tried(links)
    tried.add([offloading.NEAR, offloading.FAR])
    assert tried.excluded == {offloading.NEAR, offloading.FAR}
    assert tried.asked == 2


def test_this_node_is_never_asked_again(links: Links, offloading: Any) -> None:
    tried = Tried(links)
    tried.add([offloading.US])
    assert tried.excluded == {offloading.US}


def test_member_whose_link_is_lost_may_be_met_anew_but_not_for_ever(
    links: Links, offloading: Any
) -> None:
    tried = Tried(links)
    for again in range(OFFLOAD_RETURNS_MAX + 1):
        assert tried.excluded == frozenset()
        links.numbers[offloading.NEAR] = 10 + again
        tried.add([offloading.NEAR])
        assert tried.excluded == {offloading.NEAR}
        del links.numbers[offloading.NEAR]
    links.numbers[offloading.NEAR] = 99
    assert tried.excluded == {offloading.NEAR}


def test_all_may_be_asked_once_they_are_forgotten(links: Links, offloading: Any) -> None:
    tried = Tried(links)
    tried.add([offloading.US, offloading.NEAR])
    tried.forget()
    assert tried.excluded == frozenset()
    assert tried.asked == 0


def test_member_is_noted_by_the_link_over_which_it_was_asked(links: Links, offloading: Any) -> None:
    tried, over = Tried(links), {offloading.NEAR: links(offloading.NEAR)}
    # It was lost, and another stands, before the failure shows.
    links.numbers[offloading.NEAR] = 10
    tried.add([offloading.NEAR, offloading.US], over)
    assert tried.excluded == {offloading.US}
    tried.add([offloading.NEAR], {offloading.NEAR: links(offloading.NEAR)})
    assert tried.excluded == {offloading.US, offloading.NEAR}
