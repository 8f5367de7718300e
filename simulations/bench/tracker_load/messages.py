"""What clients say, as JSON.stringify writes it, in masked pieces that only need to be joined.

Names are 20 characters, one code point per byte, drawn from all 256 like those of real clients
(quotes and backslashes excepted, so that a name's end is found without parsing). The last
``SERIAL_CHARS`` of an offer id are digits, different for every offer: by them an offer is known
again when it arrives, whatever way of escaping the tracker prefers.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random

from dreamer.simulations.bench.tracker_load.frames import masked, text_header
from dreamer.simulations.bench.tracker_load.sdp import description

NAME_CHARS = 20
SERIAL_CHARS = 10
OFFERS_PER_ANNOUNCE = 5
_POOL = 256
_NAME_ALPHABET = "".join(chr(code) for code in range(256) if chr(code) not in '"\\')
_NO_OFFERS = masked(b'"offers":[],"numwant":0}')


def written(value: object) -> str:
    """Return JSON as a browser writes it: no blanks, nothing escaped that needn't be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def name(rng: Random, chars: int = NAME_CHARS) -> str:
    """Return a random name of a peer or a swarm, or the beginning of one."""
    return "".join(rng.choices(_NAME_ALPHABET, k=chars))


@dataclass(frozen=True)
class Names:
    """A client's names: as they are, and as they stand masked between the quotes of a message."""

    info_hash: str
    peer_id: str
    masked_peer_id: bytes
    announce_head: bytes
    started_head: bytes
    answer_head: bytes


def names(info_hash: str, peer_id: str) -> Names:
    """Prepare what never changes in the messages of one client."""
    who = f'"info_hash":{written(info_hash)},"peer_id":{written(peer_id)}'
    sizes = '"uploaded":0,"downloaded":0,"left":734003200'
    return Names(
        info_hash,
        peer_id,
        masked(written(peer_id)[1:-1].encode()),
        masked(f'{{{sizes},"action":"announce",{who},'.encode()),
        masked(f'{{{sizes},"event":"started","action":"announce",{who},'.encode()),
        masked(f'{{"action":"announce",{who},"to_peer_id":"'.encode()),
    )


class Phrases:
    """The pieces that all clients share: pools of offers, answers, beginnings of offer ids."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self.offers = [{"type": "offer", "sdp": description(rng, "actpass")} for _ in range(_POOL)]
        self.answers = [{"type": "answer", "sdp": description(rng, "active")} for _ in range(_POOL)]
        prefixes = [name(rng, NAME_CHARS - SERIAL_CHARS) for _ in range(_POOL)]
        self._ids = [masked(written(each)[1:-1].encode()) for each in prefixes]
        self._offered = [
            masked(f'{{"offer":{written(o)},"offer_id":"'.encode()) for o in self.offers
        ]
        self._answered = [masked(f'","answer":{written(a)}}}'.encode()) for a in self.answers]
        self._serial = rng.randrange(10**9)
        self._first = masked(b'"offers":[')
        self._next = masked(b'"},')
        self._last = masked(b'"}],"numwant":%d}' % OFFERS_PER_ANNOUNCE)
        self._offer_id = masked(b'","offer_id":"')

    def started(self, who: Names) -> bytes:
        """Return a client's first announce, without offers."""
        size = len(who.started_head) + len(_NO_OFFERS)
        return text_header(size) + who.started_head + _NO_OFFERS

    def announce(self, who: Names) -> tuple[bytes, int, list[tuple[bytes, bytes]]]:
        """Return an announce with offers: the frame, the first offer's place in the pool, and
        (serial, masked id) of each offer."""
        first = self._rng.randrange(_POOL)
        pieces = [b"", who.announce_head, self._first]
        ids = []
        for each in range(first, first + OFFERS_PER_ANNOUNCE):
            self._serial += 1
            serial = b"%0*d" % (SERIAL_CHARS, self._serial)
            offer_id = self._ids[each % _POOL] + masked(serial)
            ids.append((serial, offer_id))
            pieces += (self._offered[each % _POOL], offer_id, self._next)
        pieces[-1] = self._last
        pieces[0] = text_header(sum(map(len, pieces)))
        return b"".join(pieces), first, ids

    def answer(self, who: Names, to: Names, offer_id: bytes) -> bytes:
        """Return an answer to an offer whose masked id this is."""
        body = self._answered[self._serial % _POOL]
        size = len(who.answer_head) + len(to.masked_peer_id) + len(self._offer_id)
        size += len(offer_id) + len(body)
        return b"".join(
            (
                text_header(size),
                who.answer_head,
                to.masked_peer_id,
                self._offer_id,
                offer_id,
                body,
            )
        )

    def offer_at(self, place: int) -> dict[str, str]:
        """Return the offer at a place of the pool, counted beyond its end from the beginning."""
        return self.offers[place % _POOL]
