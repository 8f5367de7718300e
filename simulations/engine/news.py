"""What a machine says to all that follow a model: one event of the heap, however many they are.

By far the most messages of a swarm are of this kind: each block is told to every neighbour.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.link.messages import Gained, Message
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import SourceGained

if TYPE_CHECKING:
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull


def tell(teller: Node, ends: Iterable[End], message: Message) -> None:
    """Say the same over several links; it arrives after the delay of each."""
    if not isinstance(message, Gained):
        for end in ends:
            end.say(message)
        return
    by_delay: dict[float, list[End]] = {}
    for end in ends:
        if end.latency_s in by_delay:
            by_delay[end.latency_s].append(end)
        else:
            by_delay[end.latency_s] = [end]
    for delay_s, told in by_delay.items():
        teller.world.clock.after(delay_s, partial(_hear, teller, told, message))


def _hear(teller: Node, ends: Sequence[End], message: Gained) -> None:
    model = ManifestId(message.manifest)
    name = teller.world.models_by_id[model].name
    source = teller.world.source_of(teller.id)
    blocks = bitfield.span(message.first, message.count)
    event = SourceGained(source, blocks)
    for end in ends:
        far = end.far
        if far.up:
            node = far.node
            node.giving.peer_gained(far.number, model, blocks)
            if name in node.pulls:
                _told(node.pulls[name], event)


def _told(pull: Pull, event: SourceGained) -> None:
    """Give a planner the event that is by far the most frequent, as ``Pull.feed`` would."""
    core, world, node = pull.core, pull.world, pull.node
    if core is None:
        return
    if world.observers.watch_plans or not core.puts_off(event, world.clock.now + node.skew_s):
        pull.feed(event)
    else:
        world.note_heard(node.index, event)
