"""Dreamer itself: a daemon on every host, all in one room, and pulls that begin at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from dreamer.simulations.bench.fanout_clients.star import Star
from dreamer.simulations.netlab.pair import HostNode, Place
from dreamer.simulations.netlab.pull import Pull

ROOM = "fanout"


def daemons(star: Star) -> list[float]:
    """Return each node's seconds from its command to its receipt.

    Raises:
        LoopbackError: a pull failed or got stuck.
    """
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
        model = seed.client.push(star.source, ROOM).manifest_id
        pulls = [Pull(node.home, model, star.scratch / f"got-{node.home.name}") for node in others]
        for pull in pulls:
            pull.receipt(star.timeout_s)
        return [pull.seconds for pull in pulls]
