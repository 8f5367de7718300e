"""What the sources of a download hold, as they say: for what is asked of them, and for the crowd.

In a crowd nearly every event is that a source has gained a block, and most of these are of no use
at that moment: they are kept, and read before anything else happens.
"""

from __future__ import annotations

from dreamer.protocol.limits import BUSY_RETRY_S
from dreamer.protocol.swarm.asking import Asking
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.vocabulary import Lane, SourceId


class Holdings:
    """The word of each source. ``fetching`` says which of them are after the rest."""

    def __init__(self, asking: Asking, crowd: Crowd, everything: int) -> None:
        self.fetching: dict[SourceId, bool] = {}
        self._asking = asking
        self._sources = asking.sources
        self._crowd = crowd
        self._everything = everything
        self._unread: dict[SourceId, int] = {}

    def set(self, source: Source, blocks: int, now: float) -> None:
        """Take note of all that a source holds, be it more or less than before."""
        self._asking.hold(source, blocks)
        if source.lane is not Lane.ORIGIN:
            fetching = self.fetching.get(source.id, False) and blocks != self._everything
            self._crowd.holds(source.id, source.counted, fetching, now)

    def gain(self, name: SourceId, blocks: int, now: float) -> None:
        """Take note of blocks that a source has got."""
        source = self._sources.get(name)
        if source is None or not (fresh := blocks & ~source.blocks):
            return
        if source.counted != source.blocks or not self.fetching.get(name):
            self.set(source, source.blocks | fresh, now)
            return
        self._asking.gain(source, fresh)
        if source.blocks == self._everything:
            self._crowd.holds(name, source.counted, False, now)
        else:
            self._crowd.gains(name, fresh, now)

    def put_off(self, name: SourceId, blocks: int) -> None:
        """Keep for later what a source has got: nobody may be asked for anything now."""
        unread = self._unread
        unread[name] = unread[name] | blocks if name in unread else blocks

    def read(self, now: float) -> None:
        """Take note of all that was put off."""
        if not self._unread:
            return
        unread, self._unread = self._unread, {}
        for name, blocks in unread.items():
            self.gain(name, blocks, now)

    # Who has it

    def any_of(self, missing: int) -> bool:
        """Return whether a source that can be used holds some of what is missing."""
        return any(one.usable and one.blocks & missing for one in self._sources.values())

    def others_have(self, source: Source, missing: int) -> bool:
        """Return whether others may bring all that is missing of what a source holds.

        The origin counts only where it gives at once: what a member that is whole has it leaves
        to that one for longer than a source rests.
        """
        wanted, whole = source.blocks & missing, source.blocks == self._everything
        for other in self._sources.values():
            waits = whole and other.lane is Lane.ORIGIN
            if other is not source and other.usable and not other.hung and not waits:
                wanted &= ~other.blocks
        return not wanted

    def rest_less(self, missing: int, now: float) -> None:
        """Have those that hung asked again soon, if nobody is left who has what they have."""
        for source in self._sources.values():
            rests = source.hung and now + BUSY_RETRY_S < source.resting_until
            if rests and source.lane is not Lane.ORIGIN and not self.others_have(source, missing):
                source.resting_until = now + BUSY_RETRY_S
