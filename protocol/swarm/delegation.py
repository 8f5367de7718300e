"""The committee of a large crowd, as one sees it that waits for what it brings.

Whoever is in it fetches its share; all others leave that to it, and get everything from peers. If
nothing new turns up anywhere for long, they give the committee up until something does, and divide
the blocks among those they know, as a small crowd does. Not all thousand at the same moment: each
has a patience of its own, and what the first of them fetch is what the others wait for.
"""

from __future__ import annotations

from collections.abc import Sequence

from dreamer.protocol.limits import CROWD_PATIENCE_MIN_S, CROWD_PATIENCE_S
from dreamer.protocol.swarm.rendezvous import seed_of
from dreamer.protocol.swarm.vocabulary import SourceId


class Delegation:
    """Who fetches for all, and whether they get on with it."""

    def __init__(self, own: SourceId) -> None:
        self._own = own
        self._members: dict[SourceId, None] | None = None
        self._named: Sequence[SourceId] | None = None
        self._patience_s = CROWD_PATIENCE_S * 2 * (1 + seed_of(own) / 2**64)
        self._news_at = float("-inf")
        self._failing = False

    @property
    def stands(self) -> bool:
        """Whether a committee is at work, be this node in it or not."""
        return self._members is not None and not self._failing

    @property
    def failing(self) -> bool:
        """Whether there is one that has brought nothing for too long."""
        return self._failing

    def divides(self, node: SourceId) -> bool:
        """Return whether a downloader has a share in what is to be fetched for all."""
        return self._members is None or self._failing or node in self._members

    def name(self, members: Sequence[SourceId] | None, now: float) -> bool:
        """Take the word of who it is; return whether that changes who divides."""
        if members is not None and members == self._named:
            return False
        self._named = members
        named = None if members is None else dict.fromkeys(members)
        if (named and named.keys()) == (self._members and self._members.keys()):
            return False
        if self._members is None or named is None:
            self._news_at, self._failing = now, False
        self._members = named
        return True

    def news(self, now: float) -> bool:
        """Note that a block has turned up that nobody had; return whether that changes things."""
        self._news_at = now
        was, self._failing = self._failing, False
        return was

    def tick(self, waits: bool, now: float) -> bool:
        """Lose patience if nothing came for long though this node ``waits`` for something.

        Returns whether that changes who divides. One that has failed once is trusted for a
        shorter time: it may be made of liars.
        """
        if self._members is None or self._failing or self._own in self._members:
            return False
        if not waits:
            self._news_at = now
        if now < self._news_at + self._patience_s:
            return False
        self._failing = True
        self._patience_s = max(self._patience_s / 2, CROWD_PATIENCE_MIN_S)
        return True
