"""What this node wants a tracker to know of it, and what of that the tracker has been told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from enum import Enum
from itertools import islice

from dreamer.daemon.rendezvous import messages
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_CAPABILITIES_MAX_BYTES,
    TRACKER_HASHES_PER_MESSAGE,
    TRACKER_MAX_SWARMS_PER_MEMBER,
)


class Stake(Enum):
    """Our part in a swarm."""

    HAVE = "have"
    WANT = "want"


class Standing:
    """The desired state, whoever is connected; ``news`` yields the way there."""

    def __init__(self) -> None:
        self._capabilities: Json = {}
        self._told_capabilities: Json = {}
        self._stakes: dict[InfoHash, Stake] = {}
        self._told: dict[InfoHash, Stake] = {}

    def present(self, capabilities: Json) -> None:
        """Set what the others shall read of us.

        Raises:
            InputError: it isn't JSON, or larger than trackers take.
        """
        if len(canonical.dumps(capabilities)) > TRACKER_CAPABILITIES_MAX_BYTES:
            raise InputError(f"capabilities take {TRACKER_CAPABILITIES_MAX_BYTES} bytes at most")
        self._capabilities = dict(capabilities)

    def announce(self, have: Iterable[InfoHash], want: Iterable[InfoHash]) -> None:
        """Set the swarms that we are in; the last named fall away when they are too many.

        What is being fetched comes first: those swarms need this node to be found most.
        """
        # A model that is both wanted and had is had: the later entry decides, the place stays.
        stakes = dict.fromkeys(want, Stake.WANT)
        stakes.update(dict.fromkeys(have, Stake.HAVE))
        self._stakes = dict(islice(stakes.items(), TRACKER_MAX_SWARMS_PER_MEMBER))

    def forget_told(self) -> None:
        """Start afresh at a tracker that knows nothing of us."""
        self._told_capabilities = {}
        self._told = {}

    def news(self) -> Iterator[str]:
        """Yield the messages that bring the tracker up to date, and take them as told."""
        if self._capabilities != self._told_capabilities:
            self._told_capabilities = self._capabilities
            yield messages.presence(self._capabilities)
        old, new = self._told, self._stakes
        self._told = new
        yield from _claims("gone", (swarm for swarm in old if swarm not in new))
        for stake in Stake:
            changed = (s for s, now in new.items() if now is stake and old.get(s) is not stake)
            yield from _claims(stake.value, changed)


def _claims(field: str, swarms: Iterable[InfoHash]) -> Iterator[str]:
    remaining = iter(swarms)
    while batch := list(islice(remaining, TRACKER_HASHES_PER_MESSAGE)):
        yield messages.claim(field, batch)
