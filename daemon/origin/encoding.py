"""Files as zstd's seekable format (``protocol.content.seek_table``): when, how, and back again.

The same file gives the same bytes every time, so that an upload which was cut off goes on.
"""

from __future__ import annotations

import threading
from pathlib import Path

import zstandard

from dreamer.daemon.store import stopping
from dreamer.protocol.content.seek_table import encode_table
from dreamer.protocol.errors import LocalError, RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.origin_limits import (
    ORIGIN_ENCODE_LEVEL,
    ORIGIN_ENCODE_MAX_RATIO,
    ORIGIN_ENCODE_MIN_BYTES,
    ORIGIN_ENCODE_SAMPLE_BYTES,
    ORIGIN_FRAME_MAX_BYTES,
)

_TEXT_SUFFIXES = (".csv", ".json", ".jsonl", ".md", ".tsv", ".txt", ".vocab", ".xml", ".yaml")


def worth_encoding(path: Path, size_bytes: int) -> bool:
    """Say whether a file is text that zstd makes smaller by a tenth; reads its first MiB.

    Weights are left as they are, though some would shrink: who reads their origin by other means
    finds the file itself, and no pull spends time on them.
    """
    if size_bytes < ORIGIN_ENCODE_MIN_BYTES:
        return False
    with path.open("rb") as file:
        sample = file.read(ORIGIN_ENCODE_SAMPLE_BYTES)
    # No text has one, and no tensor of any length has none (as git tells the two apart).
    if b"\0" in sample:
        return False
    return len(_compressor().compress(sample)) <= ORIGIN_ENCODE_MAX_RATIO * len(sample)


def probably_encoded(path: str, size_bytes: int) -> bool:
    """Say in which of its two forms a file of this name is rather to be expected."""
    return size_bytes >= ORIGIN_ENCODE_MIN_BYTES and path.lower().endswith(_TEXT_SUFFIXES)


def encode(source: Path, size_bytes: int, target: Path, stop: threading.Event) -> int:
    """Write a file's encoded form to ``target``; return its size in bytes.

    Raises:
        LocalError: the source was cut short meanwhile, or the disk failed (as OSError).
        StoppedError: ``stop`` was set.
    """
    compressor = _compressor()
    frames: list[int] = []
    left = size_bytes
    with source.open("rb") as plain, target.open("wb") as encoded:
        while left:
            stopping.check(stop)
            block = plain.read(min(BLOCK_BYTES, left))
            if not block:
                raise LocalError(f"{source} was cut short while it was uploaded: pull it again")
            left -= len(block)
            frame = compressor.compress(block)
            encoded.write(frame)
            frames.append(len(frame))
        table = encode_table(frames, size_bytes)
        encoded.write(table)
    return sum(frames) + len(table)


def decode_block(frame: bytes, size_bytes: int) -> bytes:
    """Return the block of ``size_bytes`` that a frame holds.

    Raises:
        RemoteProtocolError: it holds none of this size. No more memory than that is ever taken:
            a frame says how much it holds, and is not believed if it is anything else.
    """
    try:
        # A frame that does not say its size has -1 here; the library would trust one that lies.
        if len(frame) > ORIGIN_FRAME_MAX_BYTES or zstandard.frame_content_size(frame) != size_bytes:
            raise RemoteProtocolError("a frame is not of the block's size")
        return zstandard.ZstdDecompressor().decompress(
            frame, max_output_size=size_bytes, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise RemoteProtocolError(f"a frame can't be decompressed: {error}") from error


def _compressor() -> zstandard.ZstdCompressor:
    # One for each use: they may not be shared by threads.
    return zstandard.ZstdCompressor(
        level=ORIGIN_ENCODE_LEVEL, write_checksum=False, write_content_size=True
    )
