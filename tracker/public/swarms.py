"""Who is in which public swarm, and to whom an offer goes. No sockets, clocks or hidden chance.

A peer belongs to the socket (``owner``, a number) that announced it: others learn its peer id
from offers, so nobody else may speak for it. Times are seconds of any steady clock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from random import Random

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_MAX_IDLE_SWARMS,
    TRACKER_MAX_SWARMS_PER_SOCKET,
    TRACKER_PEER_AGE_S,
)
from dreamer.tracker.public import pending
from dreamer.tracker.public.elsewhere import Bundle
from dreamer.tracker.public.wire import (
    Announce,
    AnnounceError,
    Answer,
    Counts,
    Event,
    Offer,
    PeerId,
    text_of,
)


class Peer:
    """One client in one swarm, as cheap as it can be: there may be a hundred thousand."""

    __slots__ = ("offered", "owner", "peer_id", "seeding", "seen", "slot", "swarm")

    def __init__(self, swarm: Swarm, peer_id: PeerId, owner: int) -> None:
        self.swarm = swarm
        self.peer_id = peer_id
        self.owner = owner
        self.seeding = False
        self.seen = 0.0
        self.slot = 0
        self.offered = b""

    def remember_offer(self, sender: PeerId, offer_id: str, now: float) -> None:
        """Note an offer handed to this peer, so that its answer will be passed on."""
        self.offered = pending.added(self.offered, sender, offer_id, now)

    def take_offer(self, sender: PeerId, offer_id: str, now: float) -> bool:
        """Return whether this peer may answer that offer; it may only once."""
        left = pending.taken(self.offered, sender, offer_id, now)
        if left is None:
            return False
        self.offered = left
        return True


class Swarm:
    """The peers of one info hash. Two lists with swap-removal make drawing a peer O(1)."""

    __slots__ = ("downloaded", "info_hash", "leechers", "peers", "seeds")

    def __init__(self, info_hash: InfoHash, downloaded: int) -> None:
        self.info_hash = info_hash
        self.downloaded = downloaded
        self.peers: dict[PeerId, Peer] = {}
        self.seeds: list[Peer] = []
        self.leechers: list[Peer] = []

    def add(self, peer: Peer) -> None:
        """Take in a peer."""
        self.peers[peer.peer_id] = peer
        self._enlist(peer)

    def remove(self, peer: Peer) -> None:
        """Let a peer go."""
        del self.peers[peer.peer_id]
        self._delist(peer)

    def place(self, peer: Peer, seeding: bool) -> None:
        """Count a peer among the seeders or the leechers, where it wasn't."""
        self._delist(peer)
        peer.seeding = seeding
        self._enlist(peer)

    def counts(self) -> Counts:
        """Return what a scrape says."""
        return Counts(len(self.seeds), len(self.leechers), self.downloaded)

    def draw(self, asker: PeerId, seeding: bool, most: int, rng: Random) -> list[Peer]:
        """Return up to ``most`` other peers by chance; a seeder has no use for seeders."""
        leechers, seeds = self.leechers, () if seeding else self.seeds
        # One more than wanted, for the asker itself may be among them.
        drawn = some_of(len(leechers) + len(seeds), most + 1, rng)
        peers = [leechers[i] if i < len(leechers) else seeds[i - len(leechers)] for i in drawn]
        return [peer for peer in peers if peer.peer_id != asker][:most]

    def _enlist(self, peer: Peer) -> None:
        pool = self.seeds if peer.seeding else self.leechers
        peer.slot = len(pool)
        pool.append(peer)

    def _delist(self, peer: Peer) -> None:
        pool = self.seeds if peer.seeding else self.leechers
        last = pool.pop()
        if last is not peer:
            pool[peer.slot] = last
            last.slot = peer.slot


class Swarms:
    """Every public swarm of a tracker."""

    def __init__(self, rng: Random, changed: Callable[[InfoHash], None] | None = None) -> None:
        """``changed`` is told of each swarm whose counts are other ones than before."""
        self._rng = rng
        self._changed = changed or _nobody_asks
        self._swarms: dict[InfoHash, Swarm] = {}
        self._downloaded_of_idle: dict[InfoHash, int] = {}
        # Lists, for nearly every socket has one peer: a dict apiece would cost four times that.
        self._owned: dict[int, list[Peer]] = {}
        self._by_age: dict[Peer, None] = {}

    def announce(self, owner: int, said: Announce, now: float) -> Peer | None:
        """Take note of an announce; return the peer, None if it has left.

        Raises:
            AnnounceError: another socket has that peer id, or this one is in too many swarms.
        """
        peer = self.find(said.info_hash, said.peer_id)
        if peer is not None and peer.owner != owner:
            raise AnnounceError("peer_id belongs to another connection", info_hash=_text(said))
        if said.event is Event.STOPPED:
            if peer is not None:
                self._remove(peer)
            return None
        if peer is None:
            peer = self._join(owner, said)
        self._update(peer, said)
        peer.seen = now
        peer.offered = pending.pruned(peer.offered, now)
        # Taken out and put back at the end, the dict stays in order of age.
        self._by_age.pop(peer, None)
        self._by_age[peer] = None
        return peer

    def route(self, peer: Peer, offers: tuple[Offer, ...], now: float) -> list[tuple[Peer, Offer]]:
        """Choose a different peer for each offer, as far as there are peers."""
        if not offers:
            return []
        chosen = peer.swarm.draw(peer.peer_id, peer.seeding, len(offers), self._rng)
        routed = list(zip(chosen, offers, strict=False))
        for target, offer in routed:
            target.remember_offer(peer.peer_id, offer.offer_id, now)
        return routed

    def route_from(self, origin: str, bundle: Bundle, now: float) -> list[tuple[Peer, Offer]]:
        """Choose a peer for each offer that came from the tracker process ``origin``."""
        swarm = self._swarms.get(bundle.info_hash)
        if swarm is None:
            return []
        most = len(bundle.offers)
        chosen = swarm.draw(bundle.sender, bundle.seeding, most, self._rng)
        routed = list(zip(chosen, bundle.offers, strict=False))
        for target, offer in routed:
            # Bound to where it came from: a peer here under the same id gets no answer to it.
            target.remember_offer(_from(origin, bundle.sender), offer.offer_id, now)
        return routed

    def may_answer(self, owner: int, answer: Answer, origin: str, now: float) -> bool:
        """Return whether an answer is to an offer that came from ``origin``; only once it may."""
        peer = self.find(answer.info_hash, answer.peer_id)
        return (
            peer is not None
            and peer.owner == owner
            and peer.take_offer(_from(origin, answer.to_peer_id), answer.offer_id, now)
        )

    def route_answer(self, owner: int, answer: Answer, now: float) -> Peer | None:
        """Return the peer that an answer is for; None if it has left in the meantime.

        Raises:
            AnnounceError: the answering peer isn't this socket's, or wasn't given that offer.
        """
        peer = self.find(answer.info_hash, answer.peer_id)
        if peer is None or peer.owner != owner:
            raise AnnounceError("announce before you answer", info_hash=_text(answer))
        if not peer.take_offer(answer.to_peer_id, answer.offer_id, now):
            raise AnnounceError("no such offer was passed on to you", info_hash=_text(answer))
        return self.find(answer.info_hash, answer.to_peer_id)

    def close(self, owner: int) -> None:
        """Remove every peer of a socket that has closed."""
        # From the end, where each is found at once.
        for peer in reversed(self._owned.get(owner, ())[:]):
            self._remove(peer)

    def prune(self, now: float) -> None:
        """Remove peers that have not announced for ``TRACKER_PEER_AGE_S``."""
        for peer in list(self._too_old(now)):
            self._remove(peer)

    def counts(self, info_hash: InfoHash) -> Counts:
        """Return a swarm's counts; zeros for a swarm that nobody is in."""
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            return Counts(0, 0, self._downloaded_of_idle.get(info_hash, 0))
        return swarm.counts()

    def __iter__(self) -> Iterator[Swarm]:
        return iter(self._swarms.values())

    def __len__(self) -> int:
        return len(self._swarms)

    def find(self, info_hash: InfoHash, peer_id: PeerId) -> Peer | None:
        """Return a peer, None if it isn't here."""
        swarm = self._swarms.get(info_hash)
        return None if swarm is None else swarm.peers.get(peer_id)

    def _too_old(self, now: float) -> Iterator[Peer]:
        for peer in self._by_age:
            if now - peer.seen <= TRACKER_PEER_AGE_S:
                return
            yield peer

    def _join(self, owner: int, said: Announce) -> Peer:
        owned = self._owned.get(owner)
        if owned is not None and len(owned) >= TRACKER_MAX_SWARMS_PER_SOCKET:
            raise AnnounceError("too many swarms on one connection", info_hash=_text(said))
        swarm = self._swarms.get(said.info_hash)
        if swarm is None:
            downloaded = self._downloaded_of_idle.pop(said.info_hash, 0)
            swarm = self._swarms[said.info_hash] = Swarm(said.info_hash, downloaded)
        peer = Peer(swarm, said.peer_id, owner)
        swarm.add(peer)
        self._changed(said.info_hash)
        if owned is None:
            self._owned[owner] = [peer]
        else:
            owned.append(peer)
        return peer

    def _update(self, peer: Peer, said: Announce) -> None:
        if said.event is Event.COMPLETED:
            # Clients repeat "completed" after a lost reply; a seeder completes nothing more.
            peer.swarm.downloaded += not peer.seeding
            self._place(peer, seeding=True)
        elif said.left is not None:
            self._place(peer, seeding=said.left == 0)

    def _place(self, peer: Peer, seeding: bool) -> None:
        if peer.seeding is not seeding:
            peer.swarm.place(peer, seeding)
            self._changed(peer.swarm.info_hash)

    def _remove(self, peer: Peer) -> None:
        swarm = peer.swarm
        swarm.remove(peer)
        self._changed(swarm.info_hash)
        del self._by_age[peer]
        owned = self._owned[peer.owner]
        owned.remove(peer)
        if not owned:
            del self._owned[peer.owner]
        if not swarm.peers:
            self._retire(swarm)

    def _retire(self, swarm: Swarm) -> None:
        del self._swarms[swarm.info_hash]
        if swarm.downloaded:
            self._downloaded_of_idle[swarm.info_hash] = swarm.downloaded
        # Anyone may make swarms; what is remembered of them must have an end.
        if len(self._downloaded_of_idle) > TRACKER_MAX_IDLE_SWARMS:
            del self._downloaded_of_idle[next(iter(self._downloaded_of_idle))]


def some_of(total: int, most: int, rng: Random) -> Iterable[int]:
    """Draw ``most`` different numbers below ``total``; all of them if there are no more."""
    if total <= most:
        return range(total)
    # random.sample does this for any numbers; for a few of many it takes five times as long.
    drawn: dict[int, None] = {}
    while len(drawn) < most:
        drawn[int(rng.random() * total)] = None
    return drawn


def _nobody_asks(_info_hash: InfoHash) -> None:
    pass


def _from(origin: str, sender: PeerId) -> PeerId:
    return PeerId(sender + origin.encode())


def _text(said: Announce | Answer) -> str:
    return text_of(said.info_hash)
