"""Signatures of records that were found good before: checking them anew costs most of reading.

A registry of hundreds of models changes by one record at a time, and every node reads it whole.
What is remembered is a fact about bytes, which no time or revocation changes: that this key signed
this message. Whether the author was a member then, and may say it, is judged each time.
"""

from __future__ import annotations

from blake3 import blake3

from dreamer.protocol.ids import NodeId
from dreamer.protocol.registry_limits import REGISTRY_CHECKED_MAX_RECORDS
from dreamer.protocol.rooms.keys import Purpose, verify


class _Checked:
    """The signatures that were good. Safe to use from threads: each step on the dict is atomic."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._good: dict[bytes, None] = {}

    def check(self, author: NodeId, message: bytes, signature: bytes) -> None:
        # A digest, for what nodes report of themselves has kilobytes; with the lengths, so that no
        # other three can be the same bytes one after another.
        lengths = b"%d %d " % (len(author), len(signature))
        digest = blake3(lengths + author + signature + message).digest()
        if digest in self._good:
            return
        # What is bad raises here, and is not remembered: who can make any number of bad ones can't
        # push the good ones out.
        verify(author, Purpose.ENTRY, message, signature)
        if len(self._good) >= self._most:
            self._good.clear()
        self._good[digest] = None


_checked = _Checked(REGISTRY_CHECKED_MAX_RECORDS)


def check_signed(author: NodeId, message: bytes, signature: bytes) -> None:
    """Check that ``author`` signed ``message``, the canonical bytes of a record.

    Raises:
        ForbiddenError: somebody else signed it, or it was changed since.
    """
    _checked.check(author, message, signature)
