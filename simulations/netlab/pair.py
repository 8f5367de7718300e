"""Two nodes somewhere in the network, one of which pulls from the other: what every scenario is."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from blake3 import blake3

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, until
from dreamer.simulations.netlab.lab import Host
from dreamer.simulations.netlab.pull import Pull
from dreamer.simulations.netlab.services import BUCKET, Origin, Tracker

MIB = 2**20
ROOM = "lab"
LINK_TIMEOUT_S = 60.0
PULL_TIMEOUT_S = 240.0


@dataclass(frozen=True)
class Outcome:
    """What a scenario came to: MiB by lane, seconds of the pull, and whether the file is right.

    ``pause_s`` is the longest time in which nothing came, once something had.
    """

    lanes: Mapping[str, float]
    seconds: float
    right: bool
    pause_s: float = 0.0
    note: str = ""

    @property
    def lane(self) -> str:
        """The lane that carried most; empty when none carried anything."""
        return max(self.lanes, key=lambda lane: self.lanes[lane], default="")

    @property
    def mib_s(self) -> float:
        """The rate of the whole pull, from the command to the receipt."""
        return sum(self.lanes.values()) / self.seconds


@dataclass(frozen=True)
class Place:
    """Where a node runs, and its settings by the names of its environment."""

    host: Host
    env: Mapping[str, str] = field(default_factory=dict)


class HostNode(Node):
    """A ``dreamerd`` on a host of the network; its commands work from outside, by its socket."""

    def __init__(self, home: Path, place: Place) -> None:
        super().__init__(home, env=place.env)
        self.host = place.host
        self.process.argv[:0] = place.host.within
        self.client = Dreamer(home)


@dataclass(frozen=True)
class Pair:
    """``giver`` has a model, by its id ``model``, that ``taker`` is to pull."""

    giver: HostNode
    taker: HostNode
    model: str
    source: Path

    def linked(self, timeout_s: float = LINK_TIMEOUT_S) -> None:
        """Wait until the taker is linked to the giver."""
        until(lambda: self.lane() is not None, "the link", timeout_s)

    def lane(self) -> str | None:
        """Return the lane of the link that stands, if one does."""
        return next((peer.lane for peer in self.taker.client.peers() if peer.linked), None)

    def begin(self) -> Pull:
        """Begin the pull."""
        return Pull(self.taker.home, self.model, self._output)

    def end(self, pull: Pull, note: str = "", timeout_s: float = PULL_TIMEOUT_S) -> Outcome:
        """Wait for the end of the pull; return what it came to.

        Raises:
            LoopbackError: it failed, or took longer than ``timeout_s``.
        """
        receipt = pull.receipt(timeout_s)
        lanes: dict[str, float] = {lane: size / MIB for lane, size in receipt.bytes.items() if size}
        right = _digest(self._output) == _digest(self.source)
        return Outcome(lanes, pull.seconds, right, pull.longest_pause_s, note)

    def pull(self, note: str = "") -> Outcome:
        """Pull to the end."""
        return self.end(self.begin(), note)

    def meet(self) -> Outcome:
        """Wait for the link, then pull; the note says how long the link took to come up."""
        began = time.monotonic()
        self.linked()
        return self.pull(f"linked after {time.monotonic() - began:.1f} s")

    @property
    def _output(self) -> Path:
        return self.source.parent / "got"


@contextmanager
def pair(
    scratch: Path,
    giver: Place,
    taker: Place,
    tracker: Tracker,
    mib: int,
    origin: Origin | None = None,
) -> Iterator[Pair]:
    """Start both nodes in a room of their own, and publish a model of ``mib`` MiB at ``giver``."""
    with ExitStack() as stack:
        nodes = [HostNode(scratch / name, at) for name, at in (("G", giver), ("T", taker))]
        scratch.mkdir(parents=True)
        with ThreadPoolExecutor(len(nodes)) as pool:
            for node in pool.map(HostNode.start, nodes):
                stack.callback(node.process.kill)
        one, other = nodes
        place = None if origin is None else f"s3://{BUCKET}/{scratch.name}"
        endpoint = None if origin is None else origin.url
        one.client.create_room(ROOM, [tracker.url], place, endpoint)
        other.client.join_room(one.client.invite(ROOM))
        source = scratch / "model"
        source.mkdir()
        (source / "weights.bin").write_bytes(os.urandom(mib * MIB))
        yield Pair(one, other, _push(one.client, source), source)


def _push(client: Dreamer, source: Path) -> str:
    return client.push(source, ROOM).manifest_id


def _digest(folder: Path) -> bytes:
    return blake3((folder / "weights.bin").read_bytes()).digest()
