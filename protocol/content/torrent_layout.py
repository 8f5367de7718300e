"""Where a model's bytes lie in its torrent: hybrid (BEP 52), padded to pieces (BEP 47).

All of it follows from the manifest, so every machine that holds a model makes the same torrent of
it. A file begins a new piece as it begins a new block, so a piece is a run of blocks of one file.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import short
from dreamer.protocol.limits import BLOCK_BYTES, TORRENT_MAX_PIECES
from dreamer.protocol.swarm import bitfield

PAD_DIRECTORY = ".pad"


def piece_bytes(sizes: list[int]) -> int:
    """Return the piece size for files of ``sizes``: a block, doubled until pieces are few enough.

    Metadata grows with the pieces, and clients refuse what grows too large.
    """
    size = BLOCK_BYTES
    while sum(-(-each // size) for each in sizes) > TORRENT_MAX_PIECES and size < max(sizes):
        size *= 2
    return size


@dataclass(frozen=True)
class TorrentFile:
    """A file in the order of the torrent; ``index`` is its place in the manifest.

    ``pad_bytes`` of zeros follow it up to the end of its last piece.
    """

    index: int
    parts: tuple[bytes, ...]
    size_bytes: int
    first_piece: int
    piece_count: int
    pad_bytes: int


class TorrentLayout:
    """The torrent of one manifest: its name, files and pieces.

    Raises:
        InputError: the model has files where clients keep their padding, or no bytes at all.
    """

    def __init__(self, manifest: Manifest) -> None:
        if any(entry.path.split("/")[0] == PAD_DIRECTORY for entry in manifest.files):
            raise InputError(
                f"a model with files in {PAD_DIRECTORY}/ can't be a torrent: clients keep their "
                "padding there; move them and push again"
            )
        if not manifest.size_bytes:
            raise InputError(
                "a model whose files are all empty can't be a torrent, which has bytes: push it "
                "without --public"
            )
        self.manifest = manifest
        # Of the id alone: what a model is called differs between rooms and changes with time.
        self.name = f"dreamer-{short(manifest.id)}"
        self.piece_bytes = piece_bytes([entry.size_bytes for entry in manifest.files])
        self.files = self._order()
        self.piece_count = sum(file.piece_count for file in self.files)
        self.blocks_per_piece = self.piece_bytes // BLOCK_BYTES
        self._by_index = {file.index: file for file in self.files}
        self._of_piece = [file for file in self.files for _ in range(file.piece_count)]

    def _order(self) -> tuple[TorrentFile, ...]:
        entries = self.manifest.files
        # A dictionary of directories sorts "a-b" behind "a/b"; a list of paths before it.
        parts = [tuple(part.encode() for part in entry.path.split("/")) for entry in entries]
        order = sorted(range(len(entries)), key=lambda index: parts[index])
        counts = [-(-entries[index].size_bytes // self.piece_bytes) for index in order]
        firsts = [0, *accumulate(counts)]
        return tuple(
            TorrentFile(
                index,
                parts[index],
                entries[index].size_bytes,
                firsts[place],
                counts[place],
                -entries[index].size_bytes % self.piece_bytes,
            )
            for place, index in enumerate(order)
        )

    @property
    def client_files(self) -> tuple[int | None, ...]:
        """The files as clients number them: the place in the manifest, None for padding."""
        numbered: list[int | None] = []
        for file in self.files:
            numbered.append(file.index)
            if file.pad_bytes:
                numbered.append(None)
        return tuple(numbered)

    def blocks_of_piece(self, piece: int) -> range:
        """Return the blocks that a piece holds; raises IndexError if there is no such piece."""
        file = self._of_piece[piece]
        blocks = self.manifest.layout.blocks_of_file(file.index)
        first = blocks.start + (piece - file.first_piece) * self.blocks_per_piece
        return range(first, min(first + self.blocks_per_piece, blocks.stop))

    def piece_of(self, block: int) -> int:
        """Return the piece that holds a block; raises IndexError if there is no such block."""
        index = self.manifest.layout.file_of(block)
        number = block - self.manifest.layout.blocks_of_file(index).start
        return self._by_index[index].first_piece + number // self.blocks_per_piece

    # Sets of blocks and pieces are integers (``bitfield``). File by file, and by repeating and
    # leaving out digits: bit by bit, 65,536 pieces would take seconds.

    def blocks_of(self, pieces: int) -> int:
        """Return the set of the blocks that a set of pieces holds."""
        found = 0
        for file in self.files:
            inner = pieces >> file.first_piece & bitfield.full(file.piece_count)
            blocks = self.manifest.layout.blocks_of_file(file.index)
            wide = _repeated(inner, self.blocks_per_piece) & bitfield.full(len(blocks))
            found |= wide << blocks.start
        return found

    def whole_pieces(self, blocks: int) -> int:
        """Return the set of the pieces whose blocks are all in a set."""
        everything = bitfield.full(self.manifest.block_count)
        return bitfield.full(self.piece_count) & ~self.touched_pieces(everything & ~blocks)

    def touched_pieces(self, blocks: int) -> int:
        """Return the set of the pieces of which any block is in a set."""
        found = 0
        for file in self.files:
            span = self.manifest.layout.blocks_of_file(file.index)
            inner = blocks >> span.start & bitfield.full(len(span))
            found |= _thinned(inner, self.blocks_per_piece) << file.first_piece
        return found


def _repeated(bits: int, times: int) -> int:
    return bits if times == 1 else int("".join(bit * times for bit in f"{bits:b}"), 2)


def _thinned(bits: int, step: int) -> int:
    """Return a bit for every ``step`` bits: whether any of them is set."""
    if step == 1:
        return bits
    gathered = bits
    for shift in range(1, step):
        gathered |= bits >> shift
    return int(f"{gathered:b}"[::-1][::step][::-1] or "0", 2)
