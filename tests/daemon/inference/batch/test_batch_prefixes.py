"""What prompts have in common is kept once, within a bound, the least used going first."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.daemon.inference.batch.prefixes import Block, Prefixes
from dreamer.protocol.inference_limits import PREFIX_BLOCK_TOKENS

BLOCK_BYTES = PREFIX_BLOCK_TOKENS * 8


class Copies:
    """The cache of one sequence whose values are its own tokens."""

    def __init__(self, ids: list[int]) -> None:
        self.ids = ids
        self.copied: list[int] = []

    def __call__(self, start: int, end: int) -> Block:
        self.copied.append(start)
        return [np.array([self.ids[start:end]], np.int64)]


def tokens(*letters: str) -> list[int]:
    """A sequence of whole blocks, one for each letter."""
    return [ord(letter) for letter in letters for _ in range(PREFIX_BLOCK_TOKENS)]


def kept(prefixes: Prefixes, ids: list[int]) -> int:
    return len(prefixes.match(ids, len(ids)))


def keep(prefixes: Prefixes, ids: list[int]) -> list[int]:
    copies = Copies(ids)
    prefixes.keep(ids, len(ids), copies)
    return copies.copied


def test_beginning_in_common_is_found_and_not_kept_twice() -> None:
    prefixes = Prefixes(100 * BLOCK_BYTES)
    assert keep(prefixes, tokens("s", "a")) == [0, PREFIX_BLOCK_TOKENS]
    assert keep(prefixes, tokens("s", "b")) == [PREFIX_BLOCK_TOKENS]
    assert kept(prefixes, tokens("s", "b", "c")) == 2
    assert kept(prefixes, tokens("a")) == 0
    assert prefixes.size_bytes == 3 * BLOCK_BYTES


def test_same_block_after_another_beginning_is_another() -> None:
    prefixes = Prefixes(100 * BLOCK_BYTES)
    keep(prefixes, tokens("a", "x"))
    assert kept(prefixes, tokens("b", "x")) == 0
    assert kept(prefixes, tokens("x")) == 0


def test_only_whole_blocks_within_what_is_asked_are_found() -> None:
    prefixes = Prefixes(100 * BLOCK_BYTES)
    ids = tokens("a", "b")
    prefixes.keep(ids, len(ids) - 1, Copies(ids))
    assert kept(prefixes, ids) == 1
    assert prefixes.match(ids, PREFIX_BLOCK_TOKENS - 1) == []


def test_what_was_used_longest_ago_goes_first() -> None:
    prefixes = Prefixes(3 * BLOCK_BYTES)
    for letter in "abc":
        keep(prefixes, tokens(letter))
    assert kept(prefixes, tokens("a")) == 1
    keep(prefixes, tokens("d"))
    assert [kept(prefixes, tokens(letter)) for letter in "abcd"] == [1, 0, 1, 1]


def test_end_of_a_prompt_goes_before_its_beginning() -> None:
    prefixes = Prefixes(3 * BLOCK_BYTES)
    keep(prefixes, tokens("a", "b", "c"))
    keep(prefixes, tokens("d"))
    assert kept(prefixes, tokens("a", "b", "c")) == 2


def test_prompt_longer_than_the_bound_keeps_its_beginning() -> None:
    prefixes = Prefixes(2 * BLOCK_BYTES)
    assert keep(prefixes, tokens("a", "b", "c", "d"))[:2] == [0, PREFIX_BLOCK_TOKENS]
    assert kept(prefixes, tokens("a", "b", "c", "d")) == 2
    assert prefixes.size_bytes == 2 * BLOCK_BYTES


def test_no_room_keeps_nothing() -> None:
    prefixes = Prefixes(0)
    keep(prefixes, tokens("a"))
    assert (kept(prefixes, tokens("a")), prefixes.size_bytes) == (0, 0)


@given(st.lists(st.lists(st.sampled_from("abc"), min_size=1, max_size=6)), st.integers(0, 8))
@settings(deadline=None)
def test_what_is_found_is_what_was_kept_within_the_bound(
    sequences: list[list[str]], blocks: int
) -> None:
    prefixes = Prefixes(blocks * BLOCK_BYTES)
    for letters in sequences:
        ids = tokens(*letters)
        found = prefixes.match(ids, len(ids))
        values = [int(one) for block in found for one in block[0][0]]
        assert values == ids[: len(values)]
        keep(prefixes, ids)
        assert prefixes.size_bytes <= blocks * BLOCK_BYTES
        assert kept(prefixes, ids) == min(len(letters), blocks)
