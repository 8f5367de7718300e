"""A statement with its author's signature over it, its room, its time and its serial.

The serial is the number of the change that made the record. Because it is signed, a store can
neither pass an old document off as a new one nor move a record from one room to another.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from dreamer.protocol.canonical import Json, dumps
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.registry.checked import check_signed
from dreamer.protocol.registry.reading import Reader
from dreamer.protocol.registry.statements import Statement
from dreamer.protocol.rooms.keys import SIGNATURE_BYTES, Purpose, SigningKey

S = TypeVar("S", bound=Statement)
S_co = TypeVar("S_co", bound=Statement, covariant=True)


@dataclass(frozen=True)
class Record(Generic[S_co]):
    """Who said what, when (``at``, seconds since the epoch), as which change (``serial``).

    ``extra`` holds fields that a later version of the format added: the signature covers them too.
    """

    said: S_co
    room: RoomId
    by: NodeId
    at: float
    serial: int
    signature: bytes = b""
    extra: Json = field(default_factory=dict)

    @property
    def order(self) -> tuple[int, float, bytes]:
        """Which of two records about the same thing counts: the greater.

        The signature decides only between changes that nobody can put in an order.
        """
        return self.serial, self.at, self.signature

    def signed_bytes(self) -> bytes:
        """Return the canonical bytes that the signature covers: all but the signature."""
        return dumps(self._fields())

    def check_signature(self) -> None:
        """Check that ``by`` signed exactly this record.

        Raises:
            ForbiddenError: somebody else signed it, or it was changed since.
        """
        check_signed(self.by, self.signed_bytes(), self.signature)

    def to_json(self) -> Json:
        """Return the record as it stands in the document."""
        return {**self._fields(), "sig": self.signature.hex()}

    def _fields(self) -> Json:
        stamp = {
            "room": self.room.hex(),
            "by": self.by.hex(),
            "at": self.at,
            "serial": self.serial,
        }
        # Extra first: it may add to the fields that were checked, never replace one.
        return {**self.extra, **self.said.fields(), **stamp}


AnyRecord = Record[Statement]


def sign(said: S, room: RoomId, key: SigningKey, at: float, serial: int) -> Record[S]:
    """Return the record of ``said``, signed."""
    bare = Record(said, room, NodeId(key.public), float(at), serial)
    signature = key.sign(Purpose.ENTRY, bare.signed_bytes())
    return Record(said, room, bare.by, bare.at, serial, signature)


def read_record(value: object, where: str, read_statement: Callable[[Reader], S]) -> Record[S]:
    """Return the record in a JSON value; its signature is not yet checked.

    Raises:
        InputError: a field is missing, of a wrong type, or breaks a rule of names.
    """
    fields = Reader(value, where)
    return Record(
        said=read_statement(fields),
        room=RoomId(fields.hex_bytes("room")),
        by=NodeId(fields.hex_bytes("by")),
        at=fields.seconds("at"),
        serial=fields.integer("serial"),
        signature=fields.hex_bytes("sig", SIGNATURE_BYTES),
        extra=fields.rest(),
    )
