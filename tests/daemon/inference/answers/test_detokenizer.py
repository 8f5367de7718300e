"""Text that streams out token by token is never cut inside a character."""

from __future__ import annotations

from pathlib import Path

import pytest
from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.detokenizer import Detokenizer


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


@pytest.mark.parametrize(
    "text", ["the world and the word", "naïve — 日本語 👩‍👩‍👧 ok", " \n\n x", ""]
)
def test_pieces_join_to_the_whole_text(tokenizer: Tokenizer, text: str) -> None:
    stream = Detokenizer(tokenizer)
    pieces = [stream.push(one) for one in tokenizer.encode(text).ids]
    assert "".join(pieces) == text
    assert not any("\N{REPLACEMENT CHARACTER}" in piece for piece in pieces)


def test_tokens_of_half_a_character_are_held(tokenizer: Tokenizer) -> None:
    stream, ids = Detokenizer(tokenizer), tokenizer.encode("€").ids
    assert [stream.push(one) for one in ids[:-1]] == ["", ""]
    assert stream.held == tuple(ids[:-1])
    assert stream.push(ids[-1]) == "€"
    assert stream.held == ()


def test_bytes_that_are_no_character_do_not_block_the_stream(tokenizer: Tokenizer) -> None:
    stream, start = Detokenizer(tokenizer), tokenizer.encode("€").ids[0]
    text = "".join(stream.push(start) for _ in range(8))
    assert text.count("\N{REPLACEMENT CHARACTER}") == 8
