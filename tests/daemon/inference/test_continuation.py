"""An answer over several runners, cut anywhere, is the answer of one."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamer.daemon.inference.continuation import Continuation
from dreamer.daemon.inference.requests import GenerateRequest, Text, TokenLogprob

WORDS = ["a", "", "ö", " stop", "ing", "", "\N{GRINNING FACE}", "!", "z"]
"""The text that each token brings; one without any is held back until the next."""


def runner(request: GenerateRequest, sizes: list[int]) -> list[Text]:
    """Return the pieces of a runner that goes on after the tokens so far, ``sizes`` at a time."""
    left = list(range(len(request.token_ids_so_far), len(WORDS)))
    pieces = []
    while left:
        count = max(1, sizes.pop(0)) if sizes else 1
        taken, left = left[:count], left[count:]
        logprobs = tuple(TokenLogprob(one, WORDS[one], -1.0) for one in taken)
        pieces.append(Text("".join(WORDS[one] for one in taken), tuple(taken), logprobs))
    return [*pieces, Text("tail", ())]


@given(
    st.lists(st.integers(0, len(WORDS) + 1), max_size=5),
    st.lists(st.integers(1, 4), max_size=30),
)
def test_an_answer_cut_anywhere_is_told_whole_and_once(cuts, sizes) -> None:
    asked = GenerateRequest(prompt="hi", max_tokens=len(WORDS))
    answer = Continuation(asked)
    told: list[Text] = []
    for cut in [*cuts, None]:
        request = answer.request()
        request.check()
        said = map(answer.take, runner(request, sizes)[:cut])
        told.extend(piece for piece in said if piece is not None)
    if (rest := answer.flush()) is not None:
        told.append(rest)
    assert "".join(one.text for one in told) == "".join(WORDS) + "tail"
    assert [token for one in told for token in one.token_ids] == list(range(len(WORDS)))
    assert [said.token_id for one in told for said in one.logprobs] == list(range(len(WORDS)))


def test_nothing_told_is_asked_for_as_it_was() -> None:
    asked = GenerateRequest(prompt="hi", max_tokens=4, token_ids_so_far=(7,))
    answer = Continuation(asked)
    assert answer.request() == asked
    assert not answer.begun
    answer.take(Text("x", (8,)))
    assert answer.begun
    assert answer.request().token_ids_so_far == (7, 8)
    assert answer.tokens == 2
