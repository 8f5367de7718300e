"""Lifecycle rules by which a store itself removes temporary uploads, where it has such rules."""

from __future__ import annotations

import logging
import threading

from dreamer.daemon.origin.faults import OriginBusyError, OriginError
from dreamer.daemon.origin.listing import ExpiryRule
from dreamer.daemon.origin.origin import Origin
from dreamer.protocol.garbage.keys import Folder, folder_prefix
from dreamer.protocol.ids import RoomId, short
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import LIFETIMES_DAYS

log = logging.getLogger(__name__)


class Lifetimes:
    """Makes the rules of each room once; thread-safe. Blocks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._made: dict[RoomId, bool] = {}

    def ensure(self, room: RoomId, origin: Origin) -> bool:
        """Return whether the store of a room has the rules, which are made if need be.

        False where it has none, or where this node may not make them: then somebody sweeps.

        Raises:
            OriginBusyError: the origin can't be asked now.
        """
        with self._lock:
            if room not in self._made:
                self._made[room] = _ensure(room, origin)
            return self._made[room]


def rules_for(room: RoomId, address: OriginAddress) -> tuple[ExpiryRule, ...]:
    """Return the rules that a room needs; by its id, as rooms may share a bucket."""
    prefix = folder_prefix(address, Folder.TEMPORARY)
    return tuple(
        ExpiryRule(f"temporary-{short(room)}-{days}", f"{prefix}{days}/", days)
        for days in LIFETIMES_DAYS
    )


def _ensure(room: RoomId, origin: Origin) -> bool:
    bucket = origin.bucket
    try:
        known = bucket.expiry_rules()
        for rule in rules_for(room, origin.address):
            if rule not in known:
                bucket.put_expiry_rule(rule)
        # The bucket's rules are one document: what somebody else wrote meanwhile may have won.
        known = bucket.expiry_rules()
        return all(rule in known for rule in rules_for(room, origin.address))
    except OriginBusyError:
        raise
    except OriginError as error:
        log.info("temporary uploads at %s have to be swept: %s", origin.address, error)
        return False
