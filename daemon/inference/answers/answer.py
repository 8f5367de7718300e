"""One answer in the making: which token comes next, what text is out, and when it ends.

An engine asks it nothing but the next token for the logits of a step. All of it is a function of
the request and the tokens so far: an answer that is replayed elsewhere from its tokens goes on
where it was, to the character. Everything here blocks; it lives in a worker process.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.answers.detokenizer import Detokenizer
from dreamer.daemon.inference.answers.logprobs import token_logprob
from dreamer.daemon.inference.answers.sampling import Sampler
from dreamer.daemon.inference.answers.stops import Stops
from dreamer.daemon.inference.answers.tool_use import shown_tokens
from dreamer.daemon.inference.requests import FinishReason, GenerateRequest, Text, TokenLogprob
from dreamer.daemon.inference.thought_reading import BEGIN as THOUGHTS_BEGIN
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import GENERATE_OPEN_ENDED_TOKENS

if TYPE_CHECKING:
    from dreamer.daemon.inference.answers.grammar import Constraint


@dataclass(frozen=True)
class Finished:
    """The answer is over; ``completion_tokens`` are all of it, without the end token."""

    finish_reason: FinishReason
    completion_tokens: int


_Taken = tuple[int, TokenLogprob | None]


@dataclass(frozen=True)
class Unsaid:
    """What ``Answer.say`` makes text of: pieces that are text already, then tokens."""

    pieces: list[Text]
    tokens: list[_Taken]
    finished: Finished | None


class Answer:
    """``prompt_ids`` are to be read first, ``last`` is the longest that the sequence becomes.

    ``finish_reason`` is None while it goes on. A replay may be over before its first step, when
    the tokens so far are the whole answer: look at ``finish_reason`` before reading the prompt.
    """

    def __init__(
        self,
        request: GenerateRequest,
        prompt_ids: Sequence[int],
        description: Description,
        context: int,
        share: int = 0,
    ) -> None:
        """Begin, or go on after ``token_ids_so_far``.

        ``context`` is what the model holds, ``share`` how long all sequences may be at once: those
        of answers that are open-ended get no longer where others would wait for it.

        Raises:
            InputError: the prompt doesn't fit the model, or it can't do what is asked.
        """
        self.prompt_tokens = len(prompt_ids)
        self.prompt_ids = [*prompt_ids, *request.token_ids_so_far]
        _check_ids(request, self.prompt_ids, description)
        context = min(context, request.context or context)
        self.last = min(_longest(request, len(prompt_ids), share), context)
        if not self.prompt_ids or len(prompt_ids) >= context:
            raise _does_not_fit(len(prompt_ids), context)
        self.finish_reason: FinishReason | None = None
        self.completion_tokens = 0
        self._tokenizer, self._ends = description.tokenizer, description.ends
        self._logprobs = request.logprobs
        self._constraint = _constraint(request, description)
        self._sampler = Sampler(request.sampling)
        # What is kept to a grammar holds no thoughts: with the mark, all of it would be one.
        opened = "" if self._constraint else _opened(request, prompt_ids, description)
        self._text = _TextSoFar(request, description, opened)
        self._tokens: list[_Taken] = []
        self._finished: Finished | None = None
        for token in prompt_ids:
            self._sampler.see(token, answer=False)
        self._replay(request.token_ids_so_far)

    def take(self, logits: NDArray[np.float32]) -> int | None:
        """Choose the next token by ``logits`` (vocabulary,); None when the answer is over.

        Raises:
            LocalError: the model computes nonsense, or the grammar can't be followed further.
        """
        allowed = logits if self._constraint is None else self._constraint.allowed(logits)
        token = self._sampler.choose(allowed, self.completion_tokens)
        if token in self._ends:
            self._finish("stop")
            return None
        logprob = None
        if self._logprobs is not None:
            logprob = token_logprob(logits, token, self._logprobs, self._tokenizer)
        if reason := self._accept(token, logprob):
            self._finish(reason)
            return None
        return token

    def steps(self) -> list[Text | Finished]:
        """Return the text since the last call, and at last how it ended."""
        unsaid = self.unsaid()
        return [*self.say(unsaid), *([unsaid.finished] if unsaid.finished else [])]

    def unsaid(self) -> Unsaid:
        """Hand over what came since the last call, for ``say``."""
        tokens, self._tokens = self._tokens, []
        finished, self._finished = self._finished, None
        pieces = self._text.given_out() if self._text.can_stop else []
        return Unsaid(pieces, tokens, finished)

    def say(self, unsaid: Unsaid) -> list[Text]:
        """Return the text of what was handed over, in the order in which it was.

        Another thread may do that while this answer goes on: only text that may hold a stop
        string decides what comes next, and that is made as its tokens come.
        """
        if self._text.can_stop:
            return unsaid.pieces
        for taken in unsaid.tokens:
            self._text.push(*taken)
        if unsaid.finished:
            self._text.finish()
        return self._text.given_out()

    def _replay(self, ids: Sequence[int]) -> None:
        reason: FinishReason | None = None
        for token in ids:
            if reason is None:
                reason = self._accept(token, None)
        self.say(self.unsaid())
        # Whoever asks for a replay has been told these tokens and their text.
        self._text.told()
        if reason:
            self._finish(reason)

    def _accept(self, token: int, logprob: TokenLogprob | None) -> FinishReason | None:
        """Go on by a token; say whether, and why, the answer is over."""
        self.completion_tokens += 1
        self._sampler.see(token, answer=True)
        if self._text.can_stop:
            self._text.push(token, logprob)
        else:
            self._tokens.append((token, logprob))
        if self._constraint is not None:
            self._constraint.accept(token)
        if self._text.stopped or (self._constraint is not None and self._constraint.ended):
            return "stop"
        return "length" if self.prompt_tokens + self.completion_tokens >= self.last else None

    def _finish(self, reason: FinishReason) -> None:
        self.finish_reason = reason
        self._finished = Finished(reason, self.completion_tokens)
        if self._text.can_stop:
            self._text.finish()


class _TextSoFar:
    """Turns tokens into the pieces that are given out.

    What is out is a function of the tokens alone: a piece carries all tokens up to the one after
    which it could be given out. Only text that was held back to the very end comes without.
    ``begun`` goes before the first: what the prompt began for the answer.
    """

    def __init__(self, request: GenerateRequest, description: Description, begun: str) -> None:
        self._begun = begun
        self.can_stop = bool(request.stop)
        self._pieces: list[Text] = []
        shown = shown_tokens(request, description)
        self._detokenizer = Detokenizer(description.tokenizer, shown)
        self._stops = Stops(request.stop)
        self._ids: list[int] = []
        self._logprobs: list[TokenLogprob] = []

    @property
    def stopped(self) -> bool:
        """Whether a stop string came."""
        return self._stops.found

    def push(self, token: int, logprob: TokenLogprob | None) -> None:
        self._ids.append(token)
        if logprob is not None:
            self._logprobs.append(logprob)
        if text := self._stops.push(self._detokenizer.push(token)):
            text, self._begun = self._begun + text, ""
            self._give_out(text)

    def given_out(self) -> list[Text]:
        """Return the pieces since the last call."""
        pieces, self._pieces = self._pieces, []
        return pieces

    def told(self) -> None:
        """Take all up to here as given out."""
        self._pieces.clear()
        self._ids.clear()
        self._logprobs.clear()

    def finish(self) -> None:
        """Give out the rest; what has only begun to be a character is left out."""
        if self._ids:
            self._give_out("")
        if text := self._stops.flush():
            self._give_out(text)

    def _give_out(self, text: str) -> None:
        self._pieces.append(Text(text, tuple(self._ids), tuple(self._logprobs)))
        self._ids.clear()
        self._logprobs.clear()


def _opened(request: GenerateRequest, prompt_ids: Sequence[int], description: Description) -> str:
    """Return the mark of thoughts if the prompt ends with it, so that the answer tells of it."""
    if request.thinking is None:
        return ""
    end = description.tokenizer.decode(list(prompt_ids[-8:]), skip_special_tokens=False)
    return THOUGHTS_BEGIN if end.rstrip().endswith(THOUGHTS_BEGIN) else ""


def _longest(request: GenerateRequest, prompt_tokens: int, share: int) -> int:
    """Return how long the sequence may become by what was asked for."""
    longest = prompt_tokens + request.max_tokens
    if request.open_ended:
        longest = min(longest, max(prompt_tokens + GENERATE_OPEN_ENDED_TOKENS, share))
    return longest


def _constraint(request: GenerateRequest, description: Description) -> Constraint | None:
    tools, grammar = request.tools, request.grammar
    if grammar is None and (tools is None or tools.choice == "auto"):
        return None
    # Imported when one is asked for: the library takes a tenth of a second to load.
    from dreamer.daemon.inference.answers.grammar import Constraint, json_grammar
    from dreamer.daemon.inference.answers.tool_grammar import calls_grammar

    tokenizer, form = description.tokenizer, description.tool_form
    if tools is not None and form is not None:
        # What has to be JSON, and may be a call of a tool instead, is one or the other.
        answer = grammar if tools.choice == "auto" else None
        return Constraint(
            calls_grammar(tools, form, tokenizer, answer), tokenizer, description.ends
        )
    assert grammar is not None, "a prompt with tools was refused where the model knows none"
    return Constraint(json_grammar(grammar), tokenizer, description.ends)


def _check_ids(request: GenerateRequest, ids: list[int], description: Description) -> None:
    size = description.tokenizer.get_vocab_size()
    biased = [token for token, _ in request.sampling.logit_bias]
    if wrong := [one for one in (*ids, *biased) if not 0 <= one < size]:
        raise InputError(
            f"token {wrong[0]} is not in the vocabulary of {size} tokens; take ids of this model"
        )


def _does_not_fit(tokens: int, context: int) -> InputError:
    if not tokens:
        return InputError("the prompt is empty; say something")
    return InputError(
        f"the prompt is {tokens} tokens, and the context has room for {context}; shorten the prompt"
    )
