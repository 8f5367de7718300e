"""A village of nodes that gossip: what goes over a link arrives in order, or not at all."""

from __future__ import annotations

from collections import deque
from itertools import pairwise

import pytest

from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.link import messages
from dreamer.protocol.link.gossip import Deliver, Found, Gossip, GossipCommand, Tell
from dreamer.protocol.link.messages import Message

CAPABLE = {"gossip": 1}


class Villager:
    """A node: its gossip, what it holds, and what came for it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = NodeId(name.encode().ljust(32, b"."))
        self.held: list[ManifestId] = []
        self.gossip = Gossip(self.id, lambda manifest_id: manifest_id in self.held)
        self.delivered: list[tuple[NodeId, Json]] = []
        self.found: list[NodeId] = []


class Village:
    """Nodes by name, the links between them, and every message that went over one."""

    def __init__(self) -> None:
        self.now = 0.0
        self.people: dict[str, Villager] = {}
        self.transcript: list[tuple[str, str, Message]] = []
        self._links: dict[tuple[NodeId, NodeId], None] = {}
        self._by_id: dict[NodeId, Villager] = {}
        self._mail: deque[tuple[Villager, Villager, bytes]] = deque()

    def __getitem__(self, name: str) -> Villager:
        if name not in self.people:
            made = self.people[name] = Villager(name)
            self._by_id[made.id] = made
        return self.people[name]

    def link(self, *names: str, capabilities: Json | None = None) -> None:
        """Link each with the next, ``a`` with ``b``, ``b`` with ``c``."""
        said = CAPABLE if capabilities is None else capabilities
        for one, other in pairwise(names):
            for near, far in ((self[one], self[other]), (self[other], self[one])):
                self._links[near.id, far.id] = None
                near.gossip.linked(far.id, {**said, "name": far.name})

    def part(self, one: str, other: str) -> None:
        for near, far in ((self[one], self[other]), (self[other], self[one])):
            self._links.pop((near.id, far.id), None)
            near.gossip.unlinked(far.id)

    def leave(self, name: str) -> None:
        for near, far in list(self._links):
            if near == self[name].id:
                self.part(name, self._by_id[far].name)

    def do(self, name: str, commands: list[GossipCommand]) -> None:
        """Carry out what a node's gossip says, and all that follows from it."""
        self._carry_out(self[name], commands)
        while self._mail:
            sender, receiver, data = self._mail.popleft()
            if (sender.id, receiver.id) in self._links:
                message = messages.decode(data)
                self.transcript.append((sender.name, receiver.name, message))
                heard = receiver.gossip.hear(sender.id, message, self.now)
                self._carry_out(receiver, heard)

    def tick(self, times: int = 1) -> None:
        """Let seconds pass, at whose end everybody tells what is new."""
        for _ in range(times):
            self.now += 1.0
            for name, person in list(self.people.items()):
                self.do(name, person.gossip.tick())

    def knows(self, name: str) -> list[str]:
        """Whom a node knows, by name."""
        return sorted(self._by_id[node].name for node in self[name].gossip.routes.known())

    def _carry_out(self, person: Villager, commands: list[GossipCommand]) -> None:
        for command in commands:
            match command:
                case Tell(peer, message):
                    self._mail.append((person, self._by_id[peer], messages.encode(message)))
                case Deliver(origin, body):
                    person.delivered.append((origin, body))
                case Found(_, node):
                    person.found.append(node)


@pytest.fixture
def village() -> Village:
    return Village()
