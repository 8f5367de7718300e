"""Dreamer itself: a daemon on every host, all in one room, and pulls that begin at once."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager

from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.netlab.pair import HostNode, Place
from dreamer.simulations.netlab.pull import Pull

ROOM = "fanout"


@contextmanager
def room(star: Star) -> Iterator[tuple[list[HostNode], str]]:
    """Run a daemon on every host of one room; yields the seed first, and the id of its model."""
    with ExitStack() as stack:
        places = [Place(host) for host in (star.seed, *star.nodes)]
        nodes = [HostNode(star.scratch / f"d{n}", place) for n, place in enumerate(places)]
        # Two at a time: each takes a core while it starts.
        with ThreadPoolExecutor(2) as pool:
            for node in pool.map(HostNode.start, nodes):
                stack.callback(node.process.kill)
        seed, *others = nodes
        seed.client.create_room(ROOM, [star.tracker.url])
        for node in others:
            node.client.join_room(seed.client.invite(ROOM))
        yield nodes, seed.client.push(star.source, ROOM).manifest_id


def pull_at_once(star: Star, others: list[HostNode], model: str) -> list[Pull]:
    """Have every node pull; return once all have the model.

    Raises:
        LoopbackError: a pull failed or got stuck.
    """
    pulls = [Pull(node.home, model, star.scratch / f"got-{node.home.name}") for node in others]
    for pull in pulls:
        pull.receipt(star.timeout_s)
    return pulls


def daemons(star: Star) -> list[float]:
    """Return each node's seconds from its command to its receipt.

    Raises:
        LoopbackError: a pull failed or got stuck.
    """
    with room(star) as ((_, *others), model):
        return [pull.seconds for pull in pull_at_once(star, others, model)]
