"""What is between machines: delays and losses by region, what the lines carry, relays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.flows import Flows
from dreamer.simulations.scenario.model import Line, Scenario

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node

_BYTES_PER_MBIT = 125_000.0
HANDSHAKE_ROUND_TRIPS = 6
"""Signals by way of the tracker, checks of the path, DTLS or TLS, the proof of who each is."""


class Lines:
    """The network of a scenario. Latencies are one way, in seconds."""

    def __init__(self, scenario: Scenario, flows: Flows) -> None:
        network = scenario.network
        self._default = Line("", "", network.latency_ms, 0.0, network.loss)
        self._setup_s = network.link_setup_s
        self._lines: dict[tuple[str, str], Line] = {}
        self._pipes: dict[tuple[str, str], int] = {}
        for line in network.lines:
            for pair in ((line.one, line.other), (line.other, line.one)):
                self._lines[pair] = line
                # One way and the other are carried apart, as on a full-duplex line.
                if line.mbit and pair not in self._pipes:
                    self._pipes[pair] = flows.pipe(line.mbit * _BYTES_PER_MBIT)
        self.relays = [flows.pipe(relay.up_mbit * _BYTES_PER_MBIT) for relay in scenario.relays]
        self._origin = scenario.origin

    def _line(self, one: str, other: str) -> Line:
        return self._lines.get((one, other), self._default)

    def latency_s(self, one: Node, other: Node) -> float:
        """Return how long a message takes."""
        return self._line(one.group.region, other.group.region).latency_ms / 1e3

    def tracker_latency_s(self, node: Node) -> float:
        """Return how long a message to or from the tracker takes."""
        return self._default.latency_ms / 1e3

    def setup_s(self, one: Node, other: Node) -> float:
        """Return how long it takes until a link stands."""
        return self._setup_s + HANDSHAKE_ROUND_TRIPS * self.latency_s(one, other)

    def loss(self, one: Node, other: Node) -> float:
        """Return the share of packets lost."""
        return self._line(one.group.region, other.group.region).loss

    def pipes(self, one: Node, other: Node, lane: Lane, number: int) -> tuple[int, ...]:
        """Return what blocks of a link pass between the two machines' own lines."""
        found = []
        pair = (one.group.region, other.group.region)
        if pair in self._pipes:
            found.append(self._pipes[pair])
        if lane is Lane.RELAY:
            found.append(self.relays[number % len(self.relays)])
        return tuple(found)

    def origin_latency_s(self, node: Node) -> float:
        """Return how long a request of a machine takes to the origin."""
        assert self._origin is not None, "there is no origin to be far from"
        own = self._origin.latency_ms / 1e3
        if node.group.region == self._origin.region:
            return own
        return own + self._line(node.group.region, self._origin.region).latency_ms / 1e3

    def origin_pipes(self, node: Node) -> tuple[int, ...]:
        """Return what bytes from the origin pass before they reach a machine's own line."""
        assert self._origin is not None, "there is no origin to be far from"
        pair = (self._origin.region, node.group.region)
        return (self._pipes[pair],) if pair in self._pipes else ()
