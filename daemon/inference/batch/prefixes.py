"""Keys and values of prompts that were read, kept for prompts that begin in the same way.

They are kept in blocks of ``PREFIX_BLOCK_TOKENS`` tokens; a block is found by its own tokens and
the block before it, so prompts share what they have in common and nothing is held twice. The
blocks used longest ago go when the bound is reached. Only whole blocks of what was read as a
prompt are kept: what was decoded has other bits (``batch``).
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from dreamer.protocol.inference_limits import PREFIX_BLOCK_TOKENS

Block = list[NDArray[Any]]
"""For each tensor of the cache: (heads, tokens, head size) of these tokens."""

_Key = tuple[int, tuple[int, ...]]
_ROOT = 0


@dataclass(frozen=True)
class _Kept:
    number: int
    block: Block
    size_bytes: int


class Prefixes:
    """Blocks of at most ``max_bytes`` in all."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._blocks: OrderedDict[_Key, _Kept] = OrderedDict()
        self._bytes = 0
        self._block_bytes = 0
        self._numbers = _ROOT

    @property
    def size_bytes(self) -> int:
        """What the blocks take."""
        return self._bytes

    def match(self, ids: Sequence[int], at_most: int) -> list[Block]:
        """Return the blocks that hold the beginning of ``ids``, up to ``at_most`` tokens of it."""
        found: list[tuple[_Key, _Kept]] = []
        number = _ROOT
        for key in _keys(ids, at_most):
            kept = self._blocks.get((number, key))
            if kept is None:
                break
            found.append(((number, key), kept))
            number = kept.number
        self._touch([key for key, _ in found])
        return [kept.block for _, kept in found]

    def keep(self, ids: Sequence[int], read: int, copy: Callable[[int, int], Block]) -> None:
        """Keep the first ``read`` tokens; ``copy(start, end)`` fetches what isn't kept yet."""
        path: list[_Key] = []
        number = _ROOT
        for index, tokens in enumerate(_keys(ids, read)):
            key = (number, tokens)
            if key not in self._blocks:
                if (len(path) + 1) * max(1, self._block_bytes) > self._max_bytes:
                    break
                start = index * PREFIX_BLOCK_TOKENS
                # Its own beginning must not go to make room for it: it couldn't be found again.
                self._touch(path)
                self._add(key, copy(start, start + PREFIX_BLOCK_TOKENS))
                if key not in self._blocks:
                    break
            number = self._blocks[key].number
            path.append(key)
        self._touch(path)

    def _add(self, key: _Key, block: Block) -> None:
        """Keep a block in place of those used longest ago, unless it is too large by itself."""
        self._block_bytes = size_bytes = sum(one.nbytes for one in block)
        if size_bytes > self._max_bytes:
            return
        while self._bytes + size_bytes > self._max_bytes:
            _, gone = self._blocks.popitem(last=False)
            self._bytes -= gone.size_bytes
        self._numbers += 1
        self._blocks[key] = _Kept(self._numbers, block, size_bytes)
        self._bytes += size_bytes

    def _touch(self, path: Sequence[_Key]) -> None:
        # The end of a prompt is less likely to be shared than its beginning: it goes first.
        for key in reversed(path):
            self._blocks.move_to_end(key)


def _keys(ids: Sequence[int], at_most: int) -> list[tuple[int, ...]]:
    end = min(len(ids), at_most)
    starts = range(0, end - PREFIX_BLOCK_TOKENS + 1, PREFIX_BLOCK_TOKENS)
    return [tuple(ids[start : start + PREFIX_BLOCK_TOKENS]) for start in starts]
