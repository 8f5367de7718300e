"""Telling pickles by their bytes: they run code when loaded, so they don't travel by default.

Nothing is ever unpickled here; ``pickletools`` only names the opcodes.
"""

from __future__ import annotations

import pickletools
import zipfile
from itertools import islice
from typing import BinaryIO

from dreamer.protocol.limits import KIB

_SUFFIXES = (".pkl", ".pickle", ".pt", ".pth", ".bin", ".ckpt", ".joblib")
_HEAD_BYTES = 64 * KIB
_ZIP_MAGIC = b"PK\x03\x04"
# The opcode PROTO begins every pickle of protocol 2 or later; older ones have no magic.
_PROTO = b"\x80"
_ENOUGH_OPCODES = 3


def may_be_pickle(path: str) -> bool:
    """Say whether files of this name are often pickles, so that their bytes need a look."""
    return path.lower().endswith(_SUFFIXES)


def is_pickle(path: str, file: BinaryIO) -> bool:
    """Say whether an open file is a pickle, or a zip that holds one (PyTorch's format)."""
    # Enough for the first opcodes; a whole checkpoint would be gigabytes.
    head = file.read(_HEAD_BYTES)
    # PyTorch has written zips since 1.6; the pickle is a member.
    if head.startswith(_ZIP_MAGIC):
        return _zip_holds_pickle(file)
    # Any bytes may be in a .bin; without the magic, too much else looks like protocol 0.
    if not head.startswith(_PROTO) and path.lower().endswith(".bin"):
        return False
    return _begins_as_pickle(head)


def _begins_as_pickle(head: bytes) -> bool:
    try:
        names = [opcode.name for opcode, _, _ in islice(pickletools.genops(head), _ENOUGH_OPCODES)]
    # An opcode that does not exist, or one cut short: some other format.
    except ValueError:
        return False
    return len(names) == _ENOUGH_OPCODES


def _zip_holds_pickle(file: BinaryIO) -> bool:
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.endswith(".pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False
