"""Files that clients upload for ``/api/create``, each named by its SHA-256, kept for a while.

https://github.com/ollama/ollama/blob/main/docs/api.md#create-a-blob. Models are not kept here: what
is made of a blob is in the store, and the blob goes an hour after it was last used.
"""

from __future__ import annotations

import asyncio
import errno
import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from dreamer.protocol.errors import DiskError, InputError, NoMatchError
from dreamer.protocol.inference_limits import OLLAMA_BLOB_KEPT_S, OLLAMA_BLOB_MIN_FREE_BYTES
from dreamer.protocol.limits import MIB

_DIGEST = re.compile(r"sha256[:-]([0-9a-f]{64})", re.ASCII)
_NAMED = "sha256-"
_UNDER_WAY = "work-"


def hex_of(digest: str) -> str:
    """Return the 64 hex digits of ``sha256:…``.

    Raises:
        InputError: it is no such digest.
    """
    found = _DIGEST.fullmatch(digest)
    if found is None:
        raise InputError(f"digest {digest!r:.80} is not sha256: and 64 hex digits")
    return found[1]


class Blobs:
    """The uploads below ``root``, which is this daemon's alone."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._swept = False

    async def has(self, digest: str) -> bool:
        """Say whether a blob is here.

        Raises:
            InputError: ``digest`` is none.
        """
        return await asyncio.to_thread(self._place(digest).is_file)

    async def path(self, digest: str) -> Path:
        """Return where a blob lies, and keep it for another while.

        Raises:
            InputError: ``digest`` is none.
            NoMatchError: it was not uploaded, or is gone since.
        """
        place = self._place(digest)
        try:
            await asyncio.to_thread(os.utime, place)
        except OSError as error:
            raise NoMatchError(
                f"there is no blob {digest:.80} here: upload it by POST /api/blobs first"
            ) from error
        return place

    async def put(self, digest: str, body: AsyncIterator[bytes], size_bytes: int) -> None:
        """Keep what ``body`` brings, if it is what ``digest`` says.

        ``size_bytes`` is how much is to come, 0 if nobody knows.

        Raises:
            InputError: it is something else, or ``digest`` is none.
            DiskError: the disk has no room for it.
        """
        place = self._place(digest)
        async with self.workspace() as work:
            await asyncio.to_thread(self._require_room, size_bytes)
            partial = work / "upload"
            try:
                found = await _write(partial, body, self._require_room)
            except OSError as error:
                raise _disk_error(error, self._root) from error
            if found != hex_of(digest):
                raise InputError(f"digest mismatch: expected {digest}, got sha256:{found}")
            await asyncio.to_thread(partial.replace, place)

    @asynccontextmanager
    async def workspace(self) -> AsyncIterator[Path]:
        """Yield an empty directory beside the blobs, gone at the end with all that is in it.

        Raises:
            DiskError: it can't be made.
        """
        try:
            work = Path(await asyncio.to_thread(self._make))
        except OSError as error:
            raise _disk_error(error, self._root) from error
        try:
            yield work
        finally:
            # Also when the client has gone and this task is cancelled: a thread ends anyway.
            await asyncio.shield(asyncio.to_thread(shutil.rmtree, work, ignore_errors=True))

    def _place(self, digest: str) -> Path:
        return self._root / f"{_NAMED}{hex_of(digest)}"

    def _make(self) -> str:
        self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._sweep()
        return tempfile.mkdtemp(prefix=_UNDER_WAY, dir=self._root)

    def _sweep(self) -> None:
        """Remove blobs that nobody used for long, and at first what another run left behind."""
        oldest = time.time() - OLLAMA_BLOB_KEPT_S
        for path in self._root.iterdir():
            if path.name.startswith(_UNDER_WAY):
                if not self._swept:
                    shutil.rmtree(path, ignore_errors=True)
            elif path.lstat().st_mtime < oldest:
                path.unlink(missing_ok=True)
        self._swept = True

    def _require_room(self, size_bytes: int) -> None:
        free = shutil.disk_usage(self._root).free
        if size_bytes + OLLAMA_BLOB_MIN_FREE_BYTES > free:
            raise DiskError(
                f"{self._root} has no room for {size_bytes // MIB} MiB more",
                "free some space and send it again",
            )


async def _write(
    place: Path, body: AsyncIterator[bytes], require_room: Callable[[int], None]
) -> str:
    """Write a body to a new file; return its SHA-256 in hex. Raises OSError."""
    hashed = hashlib.sha256()
    pieces: list[bytes] = []
    size = 0
    with await asyncio.to_thread(place.open, "xb") as file:

        def keep(data: bytes) -> None:
            # Each time: a client need not say how much it sends.
            require_room(len(data))
            hashed.update(data)
            file.write(data)

        async for piece in body:
            pieces.append(piece)
            size += len(piece)
            # Neither hashing nor the disk may hold up the daemon's loop.
            if size >= MIB:
                await asyncio.to_thread(keep, b"".join(pieces))
                pieces, size = [], 0
        await asyncio.to_thread(keep, b"".join(pieces))
    return hashed.hexdigest()


def _disk_error(error: OSError, root: Path) -> DiskError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return DiskError(f"the disk of {root} is full", "free some space and send it again")
    return DiskError(f"can't write below {root}: {error.strerror}", "mend that and send it again")
