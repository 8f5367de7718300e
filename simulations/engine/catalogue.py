"""The models of a run: names, ids, and where their blocks begin and end. No bytes anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import MIB
from dreamer.protocol.swarm import bitfield
from dreamer.simulations.scenario.model import ModelSpec, Scenario

GB = 10**9


class KnownLayout(Layout):
    """A layout whose answers are worked out before: a run asks for them some times a block."""

    def __init__(self, sizes: Sequence[int], block_bytes: int) -> None:
        super().__init__(sizes, block_bytes)
        blocks = range(self.block_count)
        self._lengths = [super(KnownLayout, self).block_size(block) for block in blocks]

    def block_size(self, block: int) -> int:
        """Return the bytes of ``block``, from 0 on; raises IndexError if there is none so high."""
        return self._lengths[block]


@dataclass(frozen=True)
class Model:
    """A model as the planner sees it."""

    name: str
    layout: Layout

    @cached_property
    def id(self) -> ManifestId:
        """What names it on the wire."""
        return ManifestId(blake2b(self.name.encode(), digest_size=32).digest())

    @cached_property
    def size_bytes(self) -> int:
        """All of it."""
        return sum(self.layout.block_size(block) for block in range(self.layout.block_count))

    @cached_property
    def everything(self) -> int:
        """The set of all its blocks."""
        return bitfield.full(self.layout.block_count)


def models_of(scenario: Scenario) -> dict[str, Model]:
    """Return the models of a scenario by name."""
    return {spec.name: _model(spec, scenario.block_mib) for spec in scenario.models}


def _model(spec: ModelSpec, block_mib: int) -> Model:
    total = int(spec.size_gb * GB)
    each, rest = divmod(total, spec.files)
    sizes = [each + (index < rest) for index in range(spec.files)]
    return Model(spec.name, KnownLayout(sizes, (spec.block_mib or block_mib) * MIB))
