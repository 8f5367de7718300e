"""Payload that members were given over links, by model and lane.

Links count what they send without a model. What a link has sent since it was looked at last is put
down to the models that its member asked for meanwhile, in proportion to how much of each was asked
for: exact where one model is moved at a time, which is nearly always, and always exact in sum.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol.costs import Entry, What
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.link.messages import Message, Want
from dreamer.protocol.swarm.vocabulary import Lane


@dataclass
class _Seen:
    """A link as it was looked at last, and the blocks asked for since, by model.

    ``bulk`` is the lane of its own channel; ``up`` was sent by then, ``direct`` of it directly.
    """

    link: Link
    bulk: Lane
    up: int
    direct: int
    asked: dict[ManifestId, int] = field(default_factory=dict)


class Served(LinkListener):
    """All links of a node; one of it listens in every room.

    ``offers`` says whether a room is offered a model here: nothing is put down to one that a
    member made up.
    """

    def __init__(self, ledger: Ledger, offers: Callable[[RoomId, bytes], bool]) -> None:
        self._ledger = ledger
        self._offers = offers
        self._links: dict[int, _Seen] = {}

    def look(self) -> None:
        """Put down what was sent up to now."""
        for seen in self._links.values():
            self._look(seen)

    def link_up(self, link: Link) -> None:
        """Take note of a link."""
        self._links[link.number] = _Seen(
            link, link.lane_of(direct=False), link.bytes_up, link.bytes_up_direct
        )

    def link_down(self, link: Link, reason: str) -> None:
        """Keep what a link has carried."""
        if (seen := self._links.pop(link.number, None)) is not None:
            self._look(seen)

    def lane_changed(self, link: Link) -> None:
        """Put down what came before to the lane before."""
        if (seen := self._links.get(link.number)) is not None:
            self._look(seen)
            seen.bulk = link.lane_of(direct=False)

    def message(self, link: Link, message: Message) -> None:
        """Note what a member asks for."""
        seen = self._links.get(link.number)
        if not isinstance(message, Want) or seen is None:
            return
        if message.count > 0 and self._offers(link.room, message.manifest):
            model = ManifestId(message.manifest)
            # The last one asked for stands last: what is under way longest is of that one.
            seen.asked[model] = seen.asked.pop(model, 0) + message.count

    def _look(self, seen: _Seen) -> None:
        link = seen.link
        direct, sent = link.bytes_up_direct - seen.direct, link.bytes_up - seen.up
        seen.direct, seen.up = link.bytes_up_direct, link.bytes_up
        self._put_down(seen, Lane.DIRECT, direct)
        self._put_down(seen, seen.bulk, sent - direct)

    def _put_down(self, seen: _Seen, lane: Lane, sent: int) -> None:
        if sent <= 0:
            return
        entry = Entry(lane.value, What.UP)
        shares = list(seen.asked.items())
        total, left = sum(count for _, count in shares), sent
        for model, count in shares[:-1]:
            part = sent * count // total
            self._ledger.add(seen.link.room, model, entry, part)
            left -= part
        last = shares[-1][0] if shares else None
        self._ledger.add(seen.link.room, last, entry, left)
        if last is not None:
            # It may go on for long after it was asked for.
            seen.asked = {last: 1}
