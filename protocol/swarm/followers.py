"""What a node offers in a room, and who is told of it: the followers of each model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice

from dreamer.protocol.errors import LocalProtocolError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import FOLLOWS_MAX_PER_LINK, GAINED_RUNS_MAX
from dreamer.protocol.link.messages import Gained, Have, Message
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.giving_vocabulary import Say, Tell
from dreamer.protocol.swarm.tidings import flush_delay_s

NEVER = float("inf")


@dataclass(slots=True)
class Offer:
    """A model as this node holds it: ``blocks`` is the set of verified blocks."""

    blocks: int
    block_count: int


@dataclass(slots=True)
class Follower:
    """A member that is told of one model. ``known``: what it has itself, as it says.

    ``withheld``: it was not told of some blocks, which it has itself.
    """

    known: int = 0
    withheld: bool = False


class Followers:
    """The offers of one room and who follows them. Times are steady seconds."""

    def __init__(self) -> None:
        self.offers: dict[ManifestId, Offer] = {}
        self.flush_at = NEVER
        """When the followers are to hear what was gained; infinity: there is nothing to say."""
        self._of_model: dict[ManifestId, dict[int, Follower]] = {}
        self._of_link: dict[int, dict[ManifestId, Follower]] = {}
        self._unsaid: dict[ManifestId, int] = {}
        self._said_blocks = 0

    # Who follows what

    def follow(self, link: int, model: ManifestId) -> list[Say]:
        """Tell a member of a model from now on, beginning with what is held.

        Raises:
            RemoteProtocolError: it follows more models than there can be.
        """
        followed = self._of_link.setdefault(link, {})
        # Whoever asks anew may have lost what it had.
        follower = followed[model] = Follower()
        if len(followed) > FOLLOWS_MAX_PER_LINK:
            raise RemoteProtocolError(f"it follows more than {FOLLOWS_MAX_PER_LINK} models")
        self._of_model.setdefault(model, {})[link] = follower
        return [Say(link, self._have(model))]

    def unfollow(self, link: int, model: ManifestId) -> None:
        """Tell a member no more of a model."""
        self._of_link.get(link, {}).pop(model, None)
        followers = self._of_model.get(model, {})
        followers.pop(link, None)
        if not followers:
            # Nobody waits for what was not said yet; who follows next hears all.
            self._of_model.pop(model, None)

    def link_down(self, link: int) -> None:
        """Forget all that a member followed."""
        for model in list(self._of_link.get(link, {})):
            self.unfollow(link, model)
        self._of_link.pop(link, None)

    def says_held(self, link: int, model: ManifestId, blocks: int) -> list[Say]:
        """Take a follower's word on all that it has itself: of that it need not be told."""
        follower = self._of_model.get(model, {}).get(link)
        if follower is None:
            return []
        lost, follower.known = follower.known & ~blocks, blocks
        if not (lost and follower.withheld):
            return []
        # What it lost may be what it was not told of.
        return [self._all(link, model, follower)]

    def says_gained(self, link: int, model: ManifestId, blocks: int) -> None:
        """Take a follower's word on what it has now and had not before."""
        if model in (models := self._of_model) and link in (followers := models[model]):
            followers[link].known |= blocks

    def models(self) -> list[ManifestId]:
        """Return the models that somebody follows."""
        return list(self._of_model)

    # What is held

    def offer(self, model: ManifestId, blocks: int, block_count: int, now: float) -> list[Say]:
        """Take what is held of a model now, be it more or less than before."""
        before = self.offers.get(model)
        self.offers[model] = Offer(blocks, block_count)
        if before is None and blocks:
            return self._gains(model, blocks, now)
        if before is None or before.blocks & ~blocks:
            return self._take_back(model)
        if gained := blocks & ~before.blocks:
            return self._gains(model, gained, now)
        return []

    def gained(self, model: ManifestId, blocks: int, now: float) -> list[Say]:
        """Add blocks to what is held of a model that is offered.

        Raises:
            LocalProtocolError: it is not.
        """
        offer = self.offers.get(model)
        if offer is None:
            raise LocalProtocolError("blocks were gained of a model that is not offered")
        offer.blocks |= blocks
        return self._gains(model, blocks, now)

    def withdraw(self, model: ManifestId) -> list[Say]:
        """Offer a model no more."""
        if self.offers.pop(model, None) is None:
            return []
        return self._take_back(model)

    def _take_back(self, model: ManifestId) -> list[Say]:
        # At once: whoever asks for what is not there any more asks in vain.
        self._unsaid.pop(model, None)
        if not self._unsaid:
            self.flush_at = NEVER
        followers = self._of_model.get(model, {})
        return [self._all(link, model, follower) for link, follower in followers.items()]

    def _gains(self, model: ManifestId, blocks: int, now: float) -> list[Say]:
        if model not in self._of_model:
            return []
        if self.flush_at == NEVER:
            self.flush_at = now + flush_delay_s(self._said_blocks)
        self._unsaid[model] = self._unsaid.get(model, 0) | blocks
        return []

    # Telling it

    def flush(self, now: float) -> list[Say | Tell]:
        """Tell the followers what was gained, if it is time."""
        if now < self.flush_at:
            return []
        unsaid, self._unsaid, self.flush_at = self._unsaid, {}, NEVER
        self._said_blocks = sum(blocks.bit_count() for blocks in unsaid.values())
        said: list[Say | Tell] = []
        for model, blocks in unsaid.items():
            if model in self._of_model:
                said += self._tell(model, blocks)
        return said

    def _news(self, model: ManifestId, blocks: int) -> list[Message]:
        runs = list(islice(bitfield.runs(blocks, blocks.bit_length()), GAINED_RUNS_MAX + 1))
        if len(runs) > GAINED_RUNS_MAX:
            return [self._have(model)]
        return [Gained(model, first, count) for first, count in runs]

    def _tell(self, model: ManifestId, blocks: int) -> Iterator[Say | Tell]:
        offer, told = self.offers[model], []
        whole = offer.blocks.bit_count() == offer.block_count
        for link, follower in self._of_model[model].items():
            if whole and follower.withheld:
                # Whoever is whole fetches nothing any more, and everybody should know.
                yield self._all(link, model, follower)
            elif blocks & ~follower.known:
                told.append(link)
            else:
                follower.withheld = True
        if told:
            links = tuple(told)
            for message in self._news(model, blocks):
                yield Tell(links, message)

    def _all(self, link: int, model: ManifestId, follower: Follower) -> Say:
        follower.withheld = False
        return Say(link, self._have(model))

    def _have(self, model: ManifestId) -> Have:
        offer = self.offers.get(model)
        return Have(model, bitfield.encode(offer.blocks, offer.block_count) if offer else b"")
