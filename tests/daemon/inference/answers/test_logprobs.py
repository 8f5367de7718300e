"""Log-probabilities are those of the model itself."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tokenizers import Tokenizer

from dreamer.daemon.inference.answers.logprobs import token_logprob, token_text


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Tokenizer:
    return Tokenizer.from_file(str(tiny_model / "tokenizer.json"))


def test_they_are_logarithms_of_a_softmax(tokenizer: Tokenizer) -> None:
    logits = np.random.default_rng(1).normal(0, 3, 270).astype(np.float32)
    exact = logits.astype(np.float64)
    exact = exact - np.log(np.exp(exact).sum())
    told = token_logprob(logits, 77, 20, tokenizer)
    assert told.logprob == pytest.approx(exact[77], abs=1e-5)
    assert [one for one, _, _ in told.top] == np.argsort(-exact, kind="stable")[:20].tolist()
    assert [value for *_, value in told.top] == pytest.approx(np.sort(exact)[::-1][:20], abs=1e-5)


def test_chosen_token_is_told_alone_if_no_others_are_asked_for(tokenizer: Tokenizer) -> None:
    told = token_logprob(np.zeros(270, np.float32), 9, 0, tokenizer)
    assert told.top == ()
    assert told.logprob == pytest.approx(-np.log(270))


def test_large_logits_do_not_overflow(tokenizer: Tokenizer) -> None:
    logits = np.full(270, 3e4, np.float32)
    logits[5] = 3e4 + 10
    assert token_logprob(logits, 5, 1, tokenizer).logprob == pytest.approx(-0.0121, abs=1e-3)


def test_text_of_a_token_keeps_its_space_and_half_a_character_shows(tokenizer: Tokenizer) -> None:
    the = tokenizer.encode("and the").ids[-1]
    assert token_text(tokenizer, the) == " the"
    assert token_text(tokenizer, tokenizer.encode("€").ids[0]) == "\N{REPLACEMENT CHARACTER}"
    assert token_text(tokenizer, 2) == "<|im_end|>"
