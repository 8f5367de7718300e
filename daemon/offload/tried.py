"""Who was asked for one answer already, and need not be asked again.

A member whose link was lost may be asked once more when it is linked anew: the line broke, not the
runner. That is bounded, as a line may break again and again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping

from dreamer.daemon.links.link import Link
from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload_limits import OFFLOAD_RETURNS_MAX


class Tried:
    """The runners of one answer so far; ``link_to`` returns the link to a member, None for none."""

    def __init__(self, link_to: Callable[[NodeId], Link | None]) -> None:
        self._link_to = link_to
        self._over: dict[NodeId, int | None] = {}
        self._times: Counter[NodeId] = Counter()

    def add(self, nodes: Iterable[NodeId], over: Mapping[NodeId, Link] | None = None) -> None:
        """Note who is asked: over these links, or over those that stand now."""
        for node in nodes:
            link = self._link_to(node) if over is None else over.get(node)
            self._over[node] = None if link is None else link.number
            self._times[node] += 1

    def forget(self) -> None:
        """Let all of them be asked again."""
        self._over.clear()
        self._times.clear()

    @property
    def asked(self) -> int:
        """How often somebody was asked."""
        return self._times.total()

    @property
    def excluded(self) -> frozenset[NodeId]:
        """Those that are not to be asked again."""
        return frozenset(node for node in self._over if not self._may_return(node))

    def _may_return(self, node: NodeId) -> bool:
        # This node has no link, so none that was lost. Who is not linked now may be met anew.
        link, over = self._link_to(node), self._over[node]
        lost = over is not None and (link is None or link.number != over)
        return lost and self._times[node] <= OFFLOAD_RETURNS_MAX
