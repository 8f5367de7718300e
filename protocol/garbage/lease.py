"""The two small objects by which a push and a garbage collection at the origin know of each other.

A push leaves a *lease* that names all it relies on, before it looks what is there already, and
renews it. A collection leaves its *mark* before it looks at leases and the registry, and takes it
off when it has removed the last key. Since S3 shows every reader what was written last, at least
one of the two sees the other: a collection that does not see a lease began before it, and its mark
is found by the push, which in the end waits until it is over, and then checks whether all that it
relies on is there.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import DIGEST_BYTES, Digest, RoomId, from_hex
from dreamer.protocol.registry.reading import Reader

_PUSH_FORMAT = "dreamer-push/1"
_COLLECTION_FORMAT = "dreamer-collection/1"
MARK_ID_BYTES = 16
# All marks are of one size: who reads one by its size gets a whole one, also while it is replaced.
_MARK_BYTES = 512


@dataclass(frozen=True)
class Lease:
    """What a push relies on; ``serial`` is that of the registry after it published the model.

    It lasts for a while after the push, so that the registry's mirrors have time to hear of the
    model; and whoever goes by a registry older than ``serial`` finds out.
    """

    digests: tuple[Digest, ...]
    serial: int

    def encode(self) -> bytes:
        """Return its JSON form; the digests in one string, for there may be thousands."""
        named = b"".join(self.digests).hex()
        return canonical.dumps({"format": _PUSH_FORMAT, "digests": named, "serial": self.serial})


def parse_lease(data: bytes) -> Lease:
    """Return the lease that ``data`` holds.

    Raises:
        InputError: it is none.
    """
    fields = Reader(canonical.loads_lenient(data), "a push's lease")
    _expect(fields, _PUSH_FORMAT)
    text = fields.text("digests")
    try:
        named = bytes.fromhex(text)
    except ValueError as error:
        raise InputError("a push's lease names no digests") from error
    if len(named) % DIGEST_BYTES:
        raise InputError("a push's lease ends in the midst of a digest")
    starts = range(0, len(named), DIGEST_BYTES)
    digests = tuple(Digest(named[start : start + DIGEST_BYTES]) for start in starts)
    return Lease(digests, fields.integer("serial"))


@dataclass(frozen=True)
class Mark:
    """A collection of ``room``'s garbage: under way (``open``) since ``at`` (seconds), or over.

    ``serial`` is that of the newest registry it knew of: a later collection goes by no older one.
    """

    room: RoomId
    mark_id: bytes
    at: float
    serial: int
    open: bool

    def encode(self) -> bytes:
        """Return its JSON form."""
        form = canonical.dumps(
            {
                "format": _COLLECTION_FORMAT,
                "room": self.room.hex(),
                "id": self.mark_id.hex(),
                "at": float(self.at),
                "serial": self.serial,
                "open": self.open,
            }
        )
        return form.ljust(_MARK_BYTES)


def parse_mark(data: bytes) -> Mark:
    """Return the mark that ``data`` holds.

    Raises:
        InputError: it is none.
    """
    fields = Reader(canonical.loads_lenient(data), "the mark of a collection")
    _expect(fields, _COLLECTION_FORMAT)
    return Mark(
        RoomId(fields.hex_bytes("room")),
        from_hex(fields.text("id"), "a collection's id", MARK_ID_BYTES),
        fields.seconds("at"),
        fields.integer("serial"),
        fields.flag("open"),
    )


def _expect(fields: Reader, wanted: str) -> None:
    found = fields.text("format")
    if found != wanted:
        raise InputError(f"this has format {found!r:.40}, not {wanted}: update Dreamer to read it")
