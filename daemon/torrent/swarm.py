"""One torrent in the torrent process: what is wanted of it, and when nothing writes its files.

libtorrent writes 16 KiB as they come, long before it knows whether they are right. So a piece that
it may write is *open*, and only stopping all of the torrent's transfers and writes closes one that
it has not finished: a pause, which takes a millisecond and after which peers are dialled again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import libtorrent as lt

from dreamer.daemon.torrent.blocks import await_on_disk, right_on_disk
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    FromTorrent,
    PiecesReleased,
    PieceTaken,
    SwarmSeen,
    TorrentEvent,
    WantedPiece,
)
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.swarm import bitfield

log = logging.getLogger(__name__)

_NOT_WANTED, _WANTED = 0, 4
_MEND = "say dreamer rm and pull it again, or have it pushed again with --public"
# Seed mode alone ends at the first piece whose hash is wrong, and libtorrent would then fetch that
# piece, and write it, from whoever offers it. A metadata's hashes are its publisher's word alone.
_READ_ONLY = (
    lt.torrent_flags.seed_mode | lt.torrent_flags.no_verify_files | lt.torrent_flags.upload_mode
)


class Swarm:
    """Carries out commands for one torrent; what comes of them goes to ``emit``, on any thread."""

    def __init__(
        self,
        session: Any,
        command: AddTorrent,
        threads: ThreadPoolExecutor,
        emit: Callable[[FromTorrent], None],
    ) -> None:
        self.number = command.torrent
        self._session = session
        self._threads = threads
        self._emit = emit
        self._seeding = not command.have
        self._open: dict[int, list[VerifiedSpan]] = {}
        self._releasing: dict[int, None] = {}
        self._paused = False
        self._last_word: TorrentEvent | None = None
        self._counted = (0, 0)
        self._piece_count = command.piece_count
        self.handle: Any = session.add_torrent(_parameters(command))

    def want(self, pieces: list[WantedPiece]) -> None:
        """Fetch pieces."""
        for piece, spans in pieces:
            self._open[piece] = spans
            self._releasing.pop(piece, None)
            self.handle.piece_priority(piece, _WANTED)
        # libtorrent forgets nothing that it has: such a piece won't be announced as finished.
        for piece, spans in pieces:
            if self.handle.have_piece(piece):
                self._threads.submit(self._take, piece, spans)

    def release(self, pieces: list[int]) -> None:
        """Stop writing pieces."""
        for piece in pieces:
            self._releasing[piece] = None
            self.handle.piece_priority(piece, _NOT_WANTED)
        # Asked after the priorities were set: what is not begun by now never will be.
        begun = {queued["piece_index"] for queued in self.handle.get_download_queue()}
        if begun & self._releasing.keys():
            self._pause()
        else:
            self._threads.submit(self._tell_released, *self._released())

    def leave(self, last_word: TorrentEvent) -> None:
        """End it; ``last_word`` is said once nothing touches its files any more."""
        self._last_word = self._last_word or last_word
        self._pause()

    def finished(self, piece: int) -> None:
        """Take note that libtorrent found a piece to be whole."""
        if piece in self._open:
            self._threads.submit(self._take, piece, self._open[piece])

    def checked(self) -> None:
        """Say so if stored files aren't the torrent's, as was found when a piece was asked for.

        What is right of them is still given.
        """
        if self._seeding and not self.handle.status().is_seeding:
            name = self.handle.status().name
            log.error("%s: stored files have not the hashes of this torrent; %s", name, _MEND)

    def stopped(self) -> bool:
        """Go on after a pause, with all transfers ended and all writes done.

        Return whether this was the end of it.
        """
        self._paused = True
        if self._last_word is not None:
            self._session.remove_torrent(self.handle)
            self._emit(self._last_word)
            return True
        self._threads.submit(self._tell_released, *self._released())
        self._paused = False
        self.handle.resume()
        return False

    def report(self) -> None:
        """Tell who is there and what has moved since the last report."""
        status = self.handle.status()
        down, up = status.total_payload_download, status.total_payload_upload
        available = b""
        if not self._seeding:
            pieces = self.handle.piece_availability()
            # Built from text: shifting a large integer for each of 65,536 pieces takes seconds.
            bits = "".join("1" if count else "0" for count in reversed(pieces))
            available = bitfield.encode(int(bits or "0", 2), self._piece_count)
        moved = (down - self._counted[0], up - self._counted[1])
        self._counted = (down, up)
        if not self._seeding or any(moved):
            self._emit(SwarmSeen(self.number, status.num_peers, available, *moved))

    def _pause(self) -> None:
        if not self._paused:
            self._paused = True
            self.handle.pause()

    def _released(self) -> tuple[list[int], list[VerifiedSpan]]:
        pieces = list(self._releasing)
        self._releasing.clear()
        return pieces, [span for piece in pieces for span in self._open.pop(piece, [])]

    def _tell_released(self, pieces: list[int], spans: list[VerifiedSpan]) -> None:
        if pieces:
            self._emit(PiecesReleased(self.number, pieces, right_on_disk(spans)))

    def _take(self, piece: int, spans: list[VerifiedSpan]) -> None:
        good, bad = await_on_disk(spans)
        self._emit(PieceTaken(self.number, piece, good, bad))


def _parameters(command: AddTorrent) -> Any:
    wanted = lt.load_torrent_buffer(command.metadata)
    wanted.trackers = command.trackers
    wanted.tracker_tiers = list(range(len(command.trackers)))
    wanted.save_path = command.folder
    wanted.renamed_files = {n: path for n, path in enumerate(command.paths) if path}
    if not command.have:
        # Its pieces are hashed as they are first asked for: a changed file is not given away.
        wanted.flags = _READ_ONLY
        wanted.verified_pieces = _of_twins(wanted.ti, command.paths)
        return wanted
    count = command.piece_count
    have = bitfield.decode(command.have, count)
    wanted.flags = lt.torrent_flags.no_verify_files
    wanted.have_pieces = [bool(have >> piece & 1) for piece in range(count)]
    wanted.piece_priorities = [_NOT_WANTED] * count
    return wanted


def _of_twins(info: Any, paths: list[str]) -> list[bool]:
    """Return for each piece whether it lies where another file's does that has the same bytes.

    In seed mode libtorrent 2.1 takes such a piece for damaged: it would drop its peers and read
    the whole model before it sees that it erred.
    """
    first: dict[str, int] = {}
    for index, path in enumerate(paths):
        first.setdefault(path, index)
    layout = info.layout()
    files = (layout.file_index_at_piece(piece) for piece in range(info.num_pieces()))
    return [first[paths[file]] != file for file in files]
