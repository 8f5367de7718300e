"""How the daemon and a process of its own speak: dataclasses over a stream socket.

Both ends are the same program, so these are plain msgpack arrays ``[name, field, …]`` with a
4-byte length before each. What can be said stands in the vocabulary of each kind of process.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import fields
from typing import TYPE_CHECKING, TypeVar

import msgpack

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

FRAME_LENGTH = struct.Struct(">I")

Message = TypeVar("Message")


def encode(message: DataclassInstance) -> bytes:
    """Return a message with its length before it."""
    values = [getattr(message, field.name) for field in fields(message)]
    data: bytes = msgpack.packb([type(message).__name__, *values])
    return FRAME_LENGTH.pack(len(data)) + data


async def read(reader: asyncio.StreamReader, kinds: dict[str, type[Message]]) -> Message | None:
    """Return the next message, one of ``kinds`` by name; None when the other end has gone."""
    try:
        (length,) = FRAME_LENGTH.unpack(await reader.readexactly(FRAME_LENGTH.size))
        name, *values = msgpack.unpackb(await reader.readexactly(length))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return kinds[name](*values)
