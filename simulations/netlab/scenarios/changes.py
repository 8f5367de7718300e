"""What changes under a pull that runs: addresses, mappings, whole parts of the network."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import psutil

from dreamer.simulations.netlab.nat import Nat
from dreamer.simulations.netlab.pair import MIB, Outcome, Pair, Place
from dreamer.simulations.netlab.services import Service
from dreamer.simulations.netlab.world import WEBRTC_ALONE, Scenario, World

# At this rate a pull takes long enough to be in the middle of it when something happens.
SLOW_MBIT = 24.0
MODEL_MIB = 24
BEFORE_BYTES = 4 * MIB
BEGIN_TIMEOUT_S = 60.0
SHORT_S = 10.0
"""Shorter than the silence after which a link is given up (LINK_SILENCE_TIMEOUT_S)."""
LONG_S = 40.0
"""Longer than that."""

Event = Callable[[Pair], None]


def during(world: World, giver: Place, taker: Place, event: Event) -> Outcome:
    """Begin a slow pull, let something happen in the middle of it, and see it to its end."""
    giver.host.plug.shape(SLOW_MBIT)
    with world.pair(giver, taker, mib=MODEL_MIB) as pair:
        pair.linked()
        pull = pair.begin()
        pull.reached(BEFORE_BYTES, BEGIN_TIMEOUT_S)
        event(pair)
        return pair.end(pull)


def _public(world: World, lane: str) -> tuple[Place, Place]:
    settings = WEBRTC_ALONE if lane == "webrtc" else {}
    giver, taker = (world.place(world.net.host(name), settings) for name in ("giver", "taker"))
    return giver, taker


def new_address(world: World, lane: str) -> Outcome:
    """The taker's machine gets another address, as when it changes networks."""
    giver, taker = _public(world, lane)
    return during(world, giver, taker, lambda pair: taker.host.move(world.net.address()))


def new_mapping(world: World) -> Outcome:
    """The taker's NAT forgets its mappings, and makes others for the same sockets."""
    home = world.net.home("taker-nat", Nat.SYMMETRIC)
    taker = world.place(world.net.lab.host("taker", home.inside, str(home.inside.network[2])))
    giver = world.place(world.net.behind("giver", Nat.FULL_CONE))
    return during(world, giver, taker, lambda pair: home.forget())


def partition(world: World, lane: str, seconds: float) -> Outcome:
    """Nothing passes between the taker and everybody else for a while."""
    giver, taker = _public(world, lane)

    def event(pair: Pair) -> None:
        taker.host.plug.silence()
        time.sleep(seconds)
        taker.host.plug.heal()

    return during(world, giver, taker, event)


def relay_restarted(world: World) -> Outcome:
    """The relay that carries the link is killed, and starts again without its allocations."""
    relay = world.net.relay()
    tracker = world.net.tracker(*relay.turns)
    giver, taker = (
        world.place(world.net.behind(name, Nat.SYMMETRIC)) for name in ("giver", "taker")
    )
    giver.host.plug.shape(SLOW_MBIT)
    with world.pair(giver, taker, mib=MODEL_MIB, tracker=tracker) as pair:
        return _through(pair, relay, SHORT_S)


def tracker_gone(world: World) -> Outcome:
    """The tracker is killed and does not come back while the pull runs."""
    tracker = world.net.tracker()
    giver, taker = _public(world, "webrtc")
    giver.host.plug.shape(SLOW_MBIT)
    with world.pair(giver, taker, mib=MODEL_MIB, tracker=tracker) as pair:
        return _through(pair, tracker, None)


def _through(pair: Pair, service: Service, back_after_s: float | None) -> Outcome:
    pair.linked()
    pull = pair.begin()
    pull.reached(BEFORE_BYTES, BEGIN_TIMEOUT_S)
    service.kill()
    if back_after_s is not None:
        time.sleep(back_after_s)
        service.start()
    return pair.end(pull)


def asleep(world: World, lane: str) -> Outcome:
    """Every process of the taker's stands still for a while, as on a laptop that is shut."""
    giver, taker = _public(world, lane)

    def event(pair: Pair) -> None:
        with _halted(pair.taker.process.pid):
            time.sleep(LONG_S)

    return during(world, giver, taker, event)


@contextmanager
def _halted(pid: int) -> Iterator[None]:
    parent = psutil.Process(pid)
    family = [parent, *parent.children(recursive=True)]
    for process in family:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in family:
            process.send_signal(signal.SIGCONT)


CHANGES = (
    *(
        Scenario(f"{name}, {lane}", lane, partial(play, lane=lane))
        for name, play in (
            ("new address", new_address),
            ("cut for 10 s", partial(partition, seconds=SHORT_S)),
            ("cut for 40 s", partial(partition, seconds=LONG_S)),
            ("asleep for 40 s", asleep),
        )
        for lane in ("direct", "webrtc")
    ),
    Scenario("NAT restarted", "webrtc", new_mapping),
    Scenario("relay restarted", "relay", relay_restarted),
    Scenario("tracker killed", "webrtc", tracker_gone),
)
