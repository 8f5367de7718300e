"""Revocations brought to a tracker that lacks them: each once, slowly, and not those it has."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from dreamer.daemon.rendezvous.revocation_couriers import RevocationCourier
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import REVOCATION_OFFERS_MAX, REVOCATIONS_PASSED_ON_MAX
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.revocations import Revocation

KEY = SigningKey(b"\1" * 32)


def revocation(number: int) -> Revocation:
    node = NodeId(number.to_bytes(32, "big"))
    return Revocation(RoomId(KEY.public), 1, node, number, ()).signed_by(KEY)


class Tracker:
    """Takes what it is brought, but for what it ``refuses``; tells the courier of the rest."""

    url = "http://one"

    def __init__(self) -> None:
        self.connected = True
        self.brought: list[Revocation] = []
        self.refuses: list[Revocation] = []
        self.courier: RevocationCourier | None = None

    async def revoke(self, revocation: Revocation) -> None:
        if not self.connected:
            raise RemoteError("it is away")
        self.brought.append(revocation)
        if revocation not in self.refuses:
            self.courier.heard(revocation)


class Delivery:
    """A courier, what it knows, and how long it has paused."""

    def __init__(self) -> None:
        self.tracker = Tracker()
        self.known: list[Revocation] = []
        self.tasks = TaskSet()
        self.pauses: list[float] = []
        self.before_bringing = lambda: None
        self.courier = self.tracker.courier = RevocationCourier(
            self.tracker, lambda: self.known, Random(1), self.tasks, self.pause
        )

    async def pause(self, seconds: float) -> None:
        if not self.pauses:
            self.before_bringing()
        self.pauses.append(seconds)
        await asyncio.sleep(0)

    async def login(self) -> list[Revocation]:
        """Log in; return what was brought then."""
        before = len(self.tracker.brought)
        self.courier.arrived()
        await self.settle()
        return self.tracker.brought[before:]

    async def settle(self) -> None:
        while self.tasks._tasks:
            await asyncio.gather(*self.tasks._tasks, return_exceptions=True)


@pytest.fixture
def delivery():
    return Delivery()


async def test_tracker_is_brought_what_it_lacks_in_the_order_it_became_known(delivery):
    delivery.known = [revocation(number) for number in range(1, 6)]
    delivery.before_bringing = lambda: delivery.courier.heard(delivery.known[2])
    expected = [one for one in delivery.known if one is not delivery.known[2]]
    assert await delivery.login() == expected
    assert await delivery.login() != []


async def test_nothing_is_brought_to_a_tracker_that_has_it_all(delivery):
    delivery.known = [revocation(1)]
    delivery.before_bringing = lambda: delivery.courier.heard(delivery.known[0])
    assert await delivery.login() == []


async def test_what_becomes_known_later_is_brought_too(delivery):
    await delivery.login()
    delivery.known = [revocation(1)]
    delivery.courier.compare()
    delivery.courier.compare()
    await delivery.settle()
    assert delivery.tracker.brought == delivery.known
    delivery.courier.compare()
    await delivery.settle()
    assert len(delivery.tracker.brought) == 1


async def test_few_are_brought_at_one_login_and_the_rest_at_the_next(delivery):
    count = 2 * REVOCATIONS_PASSED_ON_MAX - 5
    delivery.known = [revocation(number) for number in range(1, count + 1)]
    first = await delivery.login()
    assert first == delivery.known[:REVOCATIONS_PASSED_ON_MAX]
    delivery.pauses.clear()
    delivery.before_bringing = lambda: [delivery.courier.heard(one) for one in first]
    assert await delivery.login() == delivery.known[REVOCATIONS_PASSED_ON_MAX:]
    assert len(delivery.pauses) == len(delivery.known) - REVOCATIONS_PASSED_ON_MAX + 1


async def test_what_is_refused_keeps_nothing_else_back_and_is_not_tried_for_ever(delivery):
    delivery.known = [revocation(number) for number in range(1, 4)]
    delivery.tracker.refuses = delivery.known[:1]
    assert await delivery.login() == delivery.known
    for _ in range(10):
        delivery.pauses.clear()
        delivery.before_bringing = lambda: [
            delivery.courier.heard(one) for one in delivery.known[1:]
        ]
        await delivery.login()
    assert delivery.tracker.brought.count(delivery.known[0]) == REVOCATION_OFFERS_MAX


async def test_courier_stops_when_the_tracker_goes(delivery):
    delivery.known = [revocation(number) for number in range(1, 4)]
    delivery.courier.arrived()
    delivery.courier.left()
    await delivery.settle()
    assert delivery.tracker.brought == []
    delivery.tracker.connected = False
    assert await delivery.login() == []
