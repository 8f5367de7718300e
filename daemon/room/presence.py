"""Which members of a room its trackers report, and what each says that it can do."""

from __future__ import annotations

from collections.abc import Callable, Collection

from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import NodeId
from dreamer.protocol.link.offload_messages import OFFLOAD, OFFLOAD_LEAST_VERSION


class Presence:
    """The members at any of a room's trackers; a tracker is named by its URL.

    ``members`` maps each to the capabilities it told last: not checked, anyone's word.
    """

    def __init__(self) -> None:
        self.members: dict[NodeId, Json] = {}
        self._at: dict[NodeId, dict[str, Json]] = {}
        self.vanished: Callable[[NodeId], None] = lambda node: None
        """Called when a tracker says that a member left it, and it is at no other."""

    def trackers_of(self, node: NodeId) -> Collection[str]:
        """Return the trackers at which a member is."""
        return self._at.get(node, {}).keys()

    def arrived(self, tracker: str, node: NodeId, capabilities: Json) -> None:
        """Note that a member is at a tracker, or told it something new."""
        self._at.setdefault(node, {})[tracker] = capabilities
        self.members[node] = capabilities

    def left(self, tracker: str, node: NodeId) -> None:
        """Note that a member left a tracker; it may still be at another."""
        was_present = node in self.members
        self._forget(tracker, node)
        if was_present and node not in self.members:
            self.vanished(node)

    def lost(self, tracker: str) -> None:
        """Forget whom a tracker saw: it can't be asked any more."""
        # That nobody tells of them is not the word that they left: ``vanished`` hears nothing, or
        # a tracker that restarts would have every good link doubted at once.
        for node in list(self._at):
            self._forget(tracker, node)

    def _forget(self, tracker: str, node: NodeId) -> None:
        places = self._at.get(node, {})
        places.pop(tracker, None)
        if places:
            self.members[node] = next(iter(places.values()))
        else:
            self._at.pop(node, None)
            self.members.pop(node, None)


SERVES = "serves_peers"
"""The capability of a node that runs models for others; what and how fast it tells in adverts."""


def serves(capabilities: Json) -> bool:
    """Return whether capabilities say that a node runs models for others, as this one asks."""
    return capabilities.get(SERVES) is True and understands_offload(capabilities)


def understands_offload(capabilities: Json) -> bool:
    """Return whether a node knows the messages of ``link.offload_messages``."""
    return offload_version(capabilities) >= OFFLOAD_LEAST_VERSION


def offload_version(capabilities: Json) -> int:
    """Return which version of these messages a node speaks, 0 for none."""
    version = capabilities.get(OFFLOAD)
    return version if type(version) is int else 0
