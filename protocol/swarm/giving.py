"""The serving side of a node in one room: what it says that it holds, and who is given what.

Feed it what members say and what becomes of the slices; carry out the commands it returns; call
``tick`` at ``next_wake``. The queue of uploads (``shaping/uploads.py``) may be shared by the rooms
of a node: a driver then gives each room a part of it, says whose turn it is (``give``) by itself,
and that part's ``next`` has nothing to hand out.
"""

from __future__ import annotations

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import (
    REQUEST_MAX_BLOCKS,
    REQUESTS_QUEUED_PER_PEER,
    UPLOAD_CALLED_S,
    UPLOAD_CALLED_SLACK_S,
)
from dreamer.protocol.link.messages import (
    CancelWant,
    Follow,
    Gained,
    Have,
    Message,
    Refuse,
    Unfollow,
    Want,
)
from dreamer.protocol.shaping.uploads import Slice
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.followers import Followers
from dreamer.protocol.swarm.giving_vocabulary import (
    Asked,
    Command,
    Failure,
    LinkView,
    Say,
    SendBlocks,
    StopSending,
    UploadQueue,
)

NO_MODEL = "this node does not have the model"
NOT_HELD = Failure.LOST.value
RELAY_SPENT = "the relay between us has used up its budget"
NO_DIRECT = "there is no direct connection any more"
SLOTS_TAKEN = "all upload slots are taken"
TOO_MANY = "too many requests are open"
SLOT_FREE = "not busy any more: ask again"

REQUEST_NUMBERS = range(1 << 32)
"""Request numbers fit the header of a bulk frame."""


class Giving:
    """One node's serving side for one room. Times are steady seconds."""

    def __init__(self, uploads: UploadQueue) -> None:
        self._uploads = uploads
        self._followers = Followers()
        self._requests: dict[int, dict[int, Asked]] = {}
        # Who found no slot, with its last request, in the order in which they came.
        self._turned_away: dict[int, tuple[LinkView, Want]] = {}
        self._stirred = False
        # Who was called and has not come yet, and until when its slot is kept. Nothing else may
        # happen then that would have the next one called.
        self._called: dict[int, float] = {}

    # What is held

    def offer(
        self, model: ManifestId, blocks: int | None, block_count: int, now: float
    ) -> list[Command]:
        """Take what is held of a model now; None: it is offered no more."""
        if blocks is None:
            return [*self._followers.withdraw(model)]
        return [*self._followers.offer(model, blocks, block_count, now)]

    def gained(self, model: ManifestId, blocks: int, now: float) -> list[Command]:
        """Add blocks to what is held of a model that is offered.

        Raises:
            LocalProtocolError: it is not.
        """
        return [*self._followers.gained(model, blocks, now)]

    def held(self, model: ManifestId) -> int:
        """Return the blocks of a model that are offered."""
        offer = self._followers.offers.get(model)
        return offer.blocks if offer is not None else 0

    def offers(self, model: ManifestId) -> bool:
        """Return whether anything is said to be held of a model, if only that it is to come."""
        return model in self._followers.offers

    def followed(self) -> list[ManifestId]:
        """Return the models that somebody follows."""
        return self._followers.models()

    # Links

    def link_down(self, link: int) -> None:
        """Forget what a member followed and asked for; others may be given something sooner."""
        self._turned_away.pop(link, None)
        self._called.pop(link, None)
        for request in self._requests.pop(link, {}):
            self._uploads.forget((link, request))
            self._stirred = True
        self._followers.link_down(link)

    def lane_changed(self, link: LinkView, now: float) -> list[Command]:
        """Refuse what was to go over a relay that may carry no more."""
        if not link.bulk_spent or link.direct_up:
            return []
        commands: list[Command] = []
        for request in self._requests.pop(link.number, {}):
            self._uploads.forget((link.number, request))
            commands.append(StopSending(link.number, request, None))
            commands.append(Say(link.number, Refuse(request, True, RELAY_SPENT)))
        return commands + self._turns(now)

    def message(self, link: LinkView, message: Message, now: float) -> list[Command]:
        """Take what a member says; what is not for this side is left alone.

        Raises:
            RemoteProtocolError: it asks for what can't exist.
        """
        match message:
            case Want():
                return self._want(link, message, now)
            case CancelWant(request, block):
                return self._cancel(link.number, request, None if block < 0 else block)
            case Follow(model):
                return [*self._followers.follow(link.number, ManifestId(model))]
            case Unfollow(model):
                self._followers.unfollow(link.number, ManifestId(model))
            case Have(model, blocks):
                held = int.from_bytes(blocks, "little")
                return [*self._followers.says_held(link.number, ManifestId(model), held)]
            case Gained(model, first, count):
                offer = self._followers.offers.get(ManifestId(model))
                # What can't be is for the pull to complain of, if there is one.
                if offer is not None and 0 <= first < first + count <= offer.block_count:
                    self.peer_gained(link.number, ManifestId(model), bitfield.span(first, count))
        return []

    def peer_gained(self, link: int, model: ManifestId, blocks: int) -> None:
        """Take note of what a member has itself now: it need not be told that we have it, too."""
        self._followers.says_gained(link, model, blocks)

    # Requests

    def asked(self, link: int, request: int) -> Asked | None:
        """Return a request that is open."""
        return self._requests.get(link, {}).get(request)

    def open_requests(self, link: int) -> int:
        """Return how many requests of a link are open."""
        return len(self._requests.get(link, ()))

    def _want(self, link: LinkView, want: Want, now: float) -> list[Command]:
        self._called.pop(link.number, None)
        if reason := self._refusal(link, want, now):
            busy, why = reason
            if why is SLOTS_TAKEN:
                self._turned_away[link.number] = (link, want)
            return [Say(link.number, Refuse(want.request, busy, why))]
        self._turned_away.pop(link.number, None)
        blocks = range(want.first, want.first + want.count)
        asked = Asked(link, ManifestId(want.manifest), blocks, want.direct)
        self._requests.setdefault(link.number, {})[want.request] = asked
        self._uploads.ask(
            (link.number, want.request),
            link.peer,
            link.lane_of(direct=want.direct),
            blocks,
            now,
            lan=link.lan and want.direct,
        )
        return self._turns(now)

    def _refusal(self, link: LinkView, want: Want, now: float) -> tuple[bool, str] | None:
        """Return why a request is refused, and whether it may be asked again; None: it is not."""
        offer = self._followers.offers.get(ManifestId(want.manifest))
        if offer is None:
            return False, NO_MODEL
        if not _well_formed(want, offer.block_count):
            raise RemoteProtocolError(f"a request for {want.count} blocks from {want.first}")
        open_requests = self._requests.get(link.number, {})
        if want.request in open_requests:
            raise RemoteProtocolError(f"a second request {want.request} beside the first")
        if len(open_requests) >= REQUESTS_QUEUED_PER_PEER:
            return True, TOO_MANY
        if not _all_held(offer.blocks, want.first, want.count):
            return False, NOT_HELD
        if why := self._busy(link, want.direct, now):
            return True, why
        return None

    def _busy(self, link: LinkView, direct: bool, now: float) -> str:
        """Return why a member can't be served at present; empty if it can."""
        if direct and not link.direct_up:
            return NO_DIRECT
        if link.bulk_spent and not direct:
            return RELAY_SPENT
        lane = link.lane_of(direct=direct)
        if not self._uploads.admits(link.peer, lane, link.lan and direct, now):
            return SLOTS_TAKEN
        return ""

    def _cancel(self, link: int, request: int, block: int | None) -> list[Command]:
        if self._uploads.stop((link, request), block):
            self._forget(link, request)
        # Part of it may be on its way: that is for its carrier to stop.
        return [StopSending(link, request, block)]

    # Slices

    def give(self, due: Slice) -> list[Command]:
        """Send a slice, now that it is its turn, if it can still be sent."""
        link, request = due.key
        asked = self._requests[link][request]
        if asked.direct and not asked.link.direct_up:
            return self._refuse(link, request, True, NO_DIRECT)
        # What was held when it was asked for may be withdrawn by now, for the disk lost it.
        first, last = due.blocks[0], due.blocks[-1]
        if not _all_held(self.held(asked.model), first, last + 1 - first):
            return self._refuse(link, request, False, NOT_HELD)
        return [SendBlocks(link, request, asked.model, due.blocks, asked.direct)]

    def sent(
        self, link: int, request: int, now: float, failed: Failure | None = None
    ) -> list[Command]:
        """Go on once a slice has gone, or could not be read: then the peer is told."""
        if failed is None:
            if self._uploads.sent((link, request)):
                self._forget(link, request)
            return self._turns(now)
        return self._failed(link, request, failed) + self._turns(now)

    def _failed(self, link: int, request: int, failed: Failure) -> list[Command]:
        asked = self.asked(link, request)
        if asked is None:
            self._uploads.forget((link, request))
            return []
        if not self.offers(asked.model):
            # Withdrawn meanwhile: whoever looks after that model knows why.
            failed = Failure.LOST
        refused = self._refuse(link, request, failed is Failure.MOVED, failed.value)
        if failed is Failure.MOVED:
            # It lies elsewhere by now, and need not be waited for.
            refused.append(Say(link, Refuse(request, False, SLOT_FREE)))
        return refused

    def _refuse(self, link: int, request: int, busy: bool, why: str) -> list[Command]:
        self._uploads.forget((link, request))
        self._forget(link, request)
        return [Say(link, Refuse(request, busy, why))]

    def _forget(self, link: int, request: int) -> None:
        if (open_requests := self._requests.get(link)) is not None:
            open_requests.pop(request, None)
            if not open_requests:
                del self._requests[link]

    def _turns(self, now: float) -> list[Command]:
        self._stirred = False
        while self._called and now >= next(iter(self._called.values())):
            del self._called[next(iter(self._called))]
        sent = [command for due in self._uploads.next(now) for command in self.give(due)]
        if self._turned_away and self._uploads.slot_free(now):
            sent += self._call(now)
        return sent

    def _call(self, now: float) -> list[Command]:
        """Tell those that were turned away that there are slots for them now."""
        called: list[Command] = []
        for number, (link, want) in list(self._turned_away.items()):
            lane = link.lane_of(direct=want.direct)
            if self._uploads.calls(link.peer, lane, link.lan and want.direct, now):
                del self._turned_away[number]
                called.append(Say(number, Refuse(want.request, False, SLOT_FREE)))
                self._called.pop(number, None)
                self._called[number] = now + UPLOAD_CALLED_S + UPLOAD_CALLED_SLACK_S
                if not self._uploads.slot_free(now):
                    break
        return called

    # Time

    def tick(self, now: float) -> list[Command]:
        """Say what is due to be said, and send what a limit lets go now."""
        return [*self._followers.flush(now), *self._turns(now)]

    def next_wake(self, now: float) -> float:
        """Return when ``tick`` is due next; infinity: not until something else happens."""
        if self._stirred:
            return now
        at = min(self._followers.flush_at, self._uploads.ready_at(now))
        if self._called and self._turned_away:
            return min(at, next(iter(self._called.values())))
        return at


def _well_formed(want: Want, block_count: int) -> bool:
    return (
        want.request in REQUEST_NUMBERS
        and 0 < want.count <= REQUEST_MAX_BLOCKS
        and 0 <= want.first <= block_count - want.count
    )


def _all_held(blocks: int, first: int, count: int) -> bool:
    whole = (1 << count) - 1
    return blocks >> first & whole == whole
