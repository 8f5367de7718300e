"""The offers that a peer was handed and may still answer: a few bytes for each.

Kept as one ``bytes`` value, oldest first: twelve bytes an offer, where a dict of names and times
would take two hundred. An offer is known by a 64-bit hash, which Python keys anew in each process:
nobody can aim at another's, and whoever hit one by chance could answer an offer that was made to
it a moment ago by somebody else. Times are seconds of any steady clock.
"""

from __future__ import annotations

from struct import Struct

from dreamer.protocol.tracker_limits import TRACKER_OFFER_AGE_S, TRACKER_PENDING_OFFERS_PER_PEER

_RECORD = Struct("<qI")
_KEY_BYTES = 8
_FULL_BYTES = TRACKER_PENDING_OFFERS_PER_PEER * _RECORD.size


def added(pending: bytes, sender: bytes, offer_id: str, now: float) -> bytes:
    """Return what is pending with one more; the oldest make room when there are too many."""
    pending = pruned(pending, now) + _RECORD.pack(hash((sender, offer_id)), int(now))
    return pending if len(pending) <= _FULL_BYTES else pending[_RECORD.size :]


def taken(pending: bytes, sender: bytes, offer_id: str, now: float) -> bytes | None:
    """Return what is left when this offer is answered; None: it isn't pending any more."""
    pending = pruned(pending, now)
    key = _RECORD.pack(hash((sender, offer_id)), 0)[:_KEY_BYTES]
    at = pending.find(key)
    # The same bytes may stand across two records.
    while at % _RECORD.size and at >= 0:
        at = pending.find(key, at + 1)
    return None if at < 0 else pending[:at] + pending[at + _RECORD.size :]


def pruned(pending: bytes, now: float) -> bytes:
    """Return what is pending without what is older than ``TRACKER_OFFER_AGE_S``."""
    while pending and _RECORD.unpack_from(pending)[1] < int(now) - TRACKER_OFFER_AGE_S:
        pending = pending[_RECORD.size :]
    return pending
