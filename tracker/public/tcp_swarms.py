"""Who can be dialled over TCP in which public swarm. No sockets, clocks or hidden chance.

These swarms stand beside those of the websocket (``swarms``), and neither counts the other's
peers: a client is told how many there are of those that it can reach.

A peer is where it listens: the address that its announce came from, which can't be forged over
TCP, and the port that it names. So nobody at another address can speak for it. Times are seconds
of any steady clock.
"""

from __future__ import annotations

import ipaddress
from collections import Counter
from collections.abc import Iterable, Iterator
from random import Random
from typing import NewType

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_HTTP_MAX_PEERS,
    TRACKER_HTTP_PEER_AGE_S,
    TRACKER_HTTP_PEERS_PER_ADDRESS,
)
from dreamer.tracker.public.http_announce_query import Port, QueryError, TcpAnnounce
from dreamer.tracker.public.swarms import some_of
from dreamer.tracker.public.wire import Counts, Event

Endpoint = NewType("Endpoint", bytes)
"""An address and a port in network order, as compact lists have them: 6 bytes, 18 for IPv6."""

IPV4_ENDPOINT_BYTES = 6
_IPV4_BYTES = 4
_IPV6_SITE_BYTES = 8
_IPV6_LOOPBACK = ipaddress.IPv6Address("::1").packed


def endpoint(address: str, port: Port) -> Endpoint:
    """Return where a client listens that announced from this address."""
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        # A listener of both families sees IPv4 like this; nobody could dial it.
        parsed = parsed.ipv4_mapped
    return Endpoint(parsed.packed + port.to_bytes(2, "big"))


def site_of(where: bytes) -> bytes:
    """Return what stands for whoever holds an address: that of IPv4, and the /64 of IPv6."""
    return where[:_IPV4_BYTES] if len(where) == IPV4_ENDPOINT_BYTES else where[:_IPV6_SITE_BYTES]


class TcpPeer:
    """One client in one swarm. ``name`` is its peer id and key, ``slot`` its place in a pool."""

    __slots__ = ("name", "seeding", "seen", "slot", "swarm", "where")

    def __init__(self, swarm: TcpSwarm, where: Endpoint, name: bytes) -> None:
        self.swarm = swarm
        self.where = where
        self.name = name
        self.seeding = False
        self.seen = 0.0
        self.slot = 0


_Pool = list[TcpPeer]


class TcpSwarm:
    """The peers of one info hash, in pools by family and by whether they seed."""

    __slots__ = ("downloaded", "info_hash", "peers", "pools")

    def __init__(self, info_hash: InfoHash) -> None:
        self.info_hash = info_hash
        self.downloaded = 0
        self.peers: dict[Endpoint, TcpPeer] = {}
        # Leechers and seeders of IPv4, then those of IPv6.
        self.pools: tuple[_Pool, ...] = ([], [], [], [])

    def add(self, peer: TcpPeer) -> None:
        """Take in a peer."""
        self.peers[peer.where] = peer
        self._enlist(peer)

    def remove(self, peer: TcpPeer) -> None:
        """Let a peer go."""
        del self.peers[peer.where]
        self._delist(peer)

    def place(self, peer: TcpPeer, seeding: bool) -> None:
        """Count a peer among the seeders or the leechers."""
        if peer.seeding is not seeding:
            self._delist(peer)
            peer.seeding = seeding
            self._enlist(peer)

    def counts(self) -> Counts:
        """Return what a scrape says."""
        leechers4, seeds4, leechers6, seeds6 = self.pools
        return Counts(len(seeds4) + len(seeds6), len(leechers4) + len(leechers6), self.downloaded)

    def draw(self, asker: Endpoint, seeding: bool, most: int, rng: Random) -> list[Endpoint]:
        """Return up to ``most`` others by chance, those of the asker's own family first.

        A seeder is told leechers first, yet seeders too: aria2 says that nothing is left while it
        has a magnet link and doesn't know what there is. A peer on the tracker's own machine is
        told only there, for others would dial themselves.
        """
        drawn: list[Endpoint] = []
        for pools in self._in_turn(asker, seeding):
            drawn += self._chosen(pools, asker, most - len(drawn), rng)
        return drawn

    def _in_turn(self, asker: Endpoint, seeding: bool) -> list[tuple[_Pool, _Pool]]:
        own = _pool_of(asker, seeding=False)
        families = [(self.pools[each], self.pools[each + 1]) for each in (own, own ^ 2)]
        if not seeding:
            return families
        nobody: _Pool = []
        return [(each, nobody) for kind in zip(*families, strict=True) for each in kind]

    def _chosen(
        self, pools: tuple[_Pool, _Pool], asker: Endpoint, most: int, rng: Random
    ) -> list[Endpoint]:
        first, second = pools
        # One more than wanted, for the asker itself may be among them.
        places = some_of(len(first) + len(second), most + 1, rng)
        drawn = (first[at] if at < len(first) else second[at - len(first)] for at in places)
        at_home = _is_loopback(asker)
        found = (peer.where for peer in drawn if at_home or not _is_loopback(peer.where))
        return [where for where in found if where != asker][:most]

    def _enlist(self, peer: TcpPeer) -> None:
        pool = self.pools[_pool_of(peer.where, peer.seeding)]
        peer.slot = len(pool)
        pool.append(peer)

    def _delist(self, peer: TcpPeer) -> None:
        pool = self.pools[_pool_of(peer.where, peer.seeding)]
        # The last takes its place, so that nobody else moves.
        last = pool.pop()
        if last is not peer:
            pool[peer.slot] = last
            last.slot = peer.slot


class TcpSwarms:
    """Every public swarm of peers that can be dialled. One that is empty is forgotten."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._swarms: dict[InfoHash, TcpSwarm] = {}
        self._at_site: Counter[bytes] = Counter()
        self._by_age: dict[TcpPeer, None] = {}

    def announce(self, where: Endpoint, said: TcpAnnounce, now: float) -> list[Endpoint]:
        """Take note of an announce; return the peers that it asks for.

        Raises:
            QueryError: there are too many peers already, of this address or in all.
        """
        peer = self._find(said.info_hash, where)
        name = said.peer_id + said.key
        if peer is not None and peer.name != name:
            # Two behind one address, or one that started anew: what another says of its end counts
            # for nothing, and who is there now takes the place.
            if said.event is Event.STOPPED:
                return []
            self._remove(peer)
            peer = None
        if said.event is Event.STOPPED:
            if peer is not None:
                self._remove(peer)
            return []
        if peer is None:
            peer = self._join(where, name, said.info_hash)
        self._update(peer, said, now)
        return peer.swarm.draw(where, peer.seeding, said.numwant, self._rng)

    def prune(self, now: float) -> None:
        """Remove peers that have not announced for ``TRACKER_HTTP_PEER_AGE_S``."""
        for peer in list(self._too_old(now)):
            self._remove(peer)

    def counts(self, info_hash: InfoHash) -> Counts:
        """Return a swarm's counts; zeros for a swarm that nobody is in."""
        swarm = self._swarms.get(info_hash)
        return Counts(0, 0, 0) if swarm is None else swarm.counts()

    def totals(self) -> dict[str, int]:
        """Return how many swarms, seeders and leechers there are, by their names in ``/stats``."""
        every = [swarm.counts() for swarm in self._swarms.values()]
        return {
            "tcp_swarms": len(every),
            "tcp_seeders": sum(each.complete for each in every),
            "tcp_leechers": sum(each.incomplete for each in every),
        }

    def __len__(self) -> int:
        """Return how many peers there are, over all swarms."""
        return len(self._by_age)

    def _find(self, info_hash: InfoHash, where: Endpoint) -> TcpPeer | None:
        swarm = self._swarms.get(info_hash)
        return None if swarm is None else swarm.peers.get(where)

    def _too_old(self, now: float) -> Iterator[TcpPeer]:
        for peer in self._by_age:
            if now - peer.seen <= TRACKER_HTTP_PEER_AGE_S:
                return
            yield peer

    def _join(self, where: Endpoint, name: bytes, info_hash: InfoHash) -> TcpPeer:
        site = site_of(where)
        if self._at_site[site] >= TRACKER_HTTP_PEERS_PER_ADDRESS:
            raise QueryError("too many peers announce from your address: stop some torrents")
        if len(self._by_age) >= TRACKER_HTTP_MAX_PEERS:
            raise QueryError("this tracker is full: try again later")
        swarm = self._swarms.get(info_hash)
        if swarm is None:
            swarm = self._swarms[info_hash] = TcpSwarm(info_hash)
        peer = TcpPeer(swarm, where, name)
        swarm.add(peer)
        self._at_site[site] += 1
        return peer

    def _update(self, peer: TcpPeer, said: TcpAnnounce, now: float) -> None:
        if said.event is Event.COMPLETED:
            # Clients repeat "completed" after a lost reply; a seeder completes nothing more.
            peer.swarm.downloaded += not peer.seeding
            peer.swarm.place(peer, seeding=True)
        elif said.left is not None:
            peer.swarm.place(peer, seeding=said.left == 0)
        peer.seen = now
        # Taken out and put back at the end, the dict stays in order of age.
        self._by_age.pop(peer, None)
        self._by_age[peer] = None

    def _remove(self, peer: TcpPeer) -> None:
        peer.swarm.remove(peer)
        del self._by_age[peer]
        site = site_of(peer.where)
        self._at_site[site] -= 1
        if not self._at_site[site]:
            del self._at_site[site]
        if not peer.swarm.peers:
            del self._swarms[peer.swarm.info_hash]


def split(endpoints: Iterable[Endpoint]) -> tuple[bytes, bytes]:
    """Return the compact lists of IPv4 (BEP 23) and of IPv6 (BEP 7)."""
    of4: list[Endpoint] = []
    of6: list[Endpoint] = []
    for each in endpoints:
        (of4 if len(each) == IPV4_ENDPOINT_BYTES else of6).append(each)
    return b"".join(of4), b"".join(of6)


def _pool_of(where: Endpoint, seeding: bool) -> int:
    return (0 if len(where) == IPV4_ENDPOINT_BYTES else 2) + seeding


def _is_loopback(where: Endpoint) -> bool:
    if len(where) == IPV4_ENDPOINT_BYTES:
        return where[0] == 127
    return where.startswith(_IPV6_LOOPBACK)
