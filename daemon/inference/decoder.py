"""Runs an ONNX decoder directory: greedy text from a prompt, token by token.

Takes the directories that ``gguf`` makes and those of Optimum's exporter: inputs and outputs are
bound by name, ``position_ids`` are given to graphs that ask for them, and sizes that a graph
leaves symbolic come from ``config.json``. Everything here blocks; it lives in a worker process.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dreamer.daemon.inference.cache import (
    LOGITS,
    PRESENT_PREFIX,
    Arrays,
    Cache,
    CacheShapes,
    GrowingCache,
    SharedCache,
)
from dreamer.daemon.inference.channel import Done
from dreamer.daemon.inference.chat import plain_prompt
from dreamer.daemon.inference.description import read_description
from dreamer.daemon.inference.detokenizer import Detokenizer
from dreamer.daemon.inference.formats import PAST_PREFIX, inspect_decoder
from dreamer.daemon.inference.requests import FinishReason, GenerateRequest, Message, Text
from dreamer.daemon.inference.session import RUNTIME_ERRORS, open_session
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.inference_limits import (
    INFERENCE_PREFILL_CHUNK_TOKENS,
)

_ELEMENTS: dict[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
}
_TOKEN_INPUTS = ("input_ids", "attention_mask", "position_ids")


@dataclass(frozen=True)
class Begun:
    """The prompt is known to fit."""

    prompt_tokens: int


@dataclass(frozen=True)
class Prefilled:
    """So many tokens of the prompt have been read: a sign of life."""

    tokens: int


Step = Begun | Prefilled | Text | Done


class Decoder:
    """A loaded model. One generation at a time; ``context`` is the most tokens it holds."""

    def __init__(self, directory: Path, threads: int) -> None:
        """Load a model.

        Raises:
            InputError: the directory is no decoder that can be run, or is damaged.
            ForbiddenError: the graph reaches outside its directory or wants foreign code.
        """
        graph = inspect_decoder(directory)
        self._description = read_description(directory)
        self._session = open_session(graph, threads)
        self._shares_cache = graph.shares_cache
        self._inputs = {one.name: one for one in self._session.get_inputs()}
        self._shapes = self._cache_shapes()
        self._check_names()

    @property
    def context(self) -> int:
        """The longest sequence, prompt and answer together."""
        return self._description.context

    def prompt_ids(self, messages: tuple[Message, ...]) -> list[int]:
        """Return the tokens of a conversation, up to where the answer begins.

        Raises:
            InputError: the model's chat template refuses it.
        """
        template, tokenizer = self._description.template, self._description.tokenizer
        if template is None:
            return list(tokenizer.encode(plain_prompt(messages)).ids)
        return list(tokenizer.encode(template.render(messages), add_special_tokens=False).ids)

    def generate(
        self, request: GenerateRequest, cancelled: Callable[[], bool] = lambda: False
    ) -> Iterator[Step]:
        """Yield the prompt's progress, pieces of text, and how it ended; nothing if cancelled.

        Raises:
            InputError: the prompt doesn't fit the model.
            LocalError: ONNX Runtime failed, out of memory for one.
        """
        prompt = self.prompt_ids(request.conversation())
        generation = _Generation(self, request, prompt)
        try:
            yield from generation.run(cancelled)
        except RUNTIME_ERRORS as error:
            raise LocalError(
                f"ONNX Runtime failed ({str(error).strip():.300}); "
                "try a shorter prompt or another model"
            ) from error

    def new_cache(self, capacity: int) -> Cache:
        """Return an empty cache for a sequence of up to ``capacity`` tokens."""
        if self._shares_cache:
            return SharedCache(self._session, self._shapes, capacity)
        return GrowingCache(self._session, self._shapes)

    def inputs(self, ids: list[int], past: int) -> Arrays:
        """Return the arrays of a step whose tokens follow ``past`` earlier ones."""
        total = past + len(ids)
        arrays = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[np.newaxis],
        }
        return {name: array for name, array in arrays.items() if name in self._inputs}

    def detokenizer(self, ids_so_far: tuple[int, ...]) -> Detokenizer:
        """Return a detokenizer that has already given out the text of these tokens."""
        detokenizer = Detokenizer(self._description.tokenizer)
        for token_id in ids_so_far:
            detokenizer.push(token_id)
        return detokenizer

    def ends(self, token_id: int) -> bool:
        """Say whether this token ends an answer."""
        return token_id in self._description.ends

    def _cache_shapes(self) -> CacheShapes:
        shapes = {}
        for name, one in self._inputs.items():
            if name.startswith(PAST_PREFIX):
                _, heads, _, size = one.shape
                shapes[name] = (
                    heads if isinstance(heads, int) else self._description.kv_heads,
                    size if isinstance(size, int) else self._description.head_size,
                    _element(one),
                )
        return shapes

    def _check_names(self) -> None:
        outputs = {one.name for one in self._session.get_outputs()}
        wanted = {LOGITS} | {
            PRESENT_PREFIX + name.removeprefix(PAST_PREFIX) for name in self._shapes
        }
        unknown = self._inputs.keys() - self._shapes.keys() - set(_TOKEN_INPUTS)
        if unknown or not self._shapes or not wanted <= outputs:
            raise InputError(
                "this ONNX graph is not a decoder with a key-value cache (Optimum's "
                "text-generation-with-past); export it as one"
            )


class _Generation:
    """One answer in the making."""

    def __init__(self, decoder: Decoder, request: GenerateRequest, prompt: list[int]) -> None:
        self._decoder = decoder
        self._prompt_tokens = len(prompt)
        self._ids = prompt + list(request.token_ids_so_far)
        if len(self._ids) >= decoder.context:
            raise InputError(
                f"the prompt is {len(self._ids)} tokens and the model holds {decoder.context}; "
                "shorten the prompt"
            )
        self._last = min(len(prompt) + request.max_tokens, decoder.context)
        self._detokenizer = decoder.detokenizer(request.token_ids_so_far)
        self._cache = decoder.new_cache(self._last)
        self._past = 0

    def run(self, cancelled: Callable[[], bool]) -> Iterator[Step]:
        yield Begun(self._prompt_tokens)
        started = time.monotonic()
        prefilled = len(self._ids)
        token = 0
        for start in range(0, prefilled, INFERENCE_PREFILL_CHUNK_TOKENS):
            if cancelled():
                return
            token = self._next(self._ids[start : start + INFERENCE_PREFILL_CHUNK_TOKENS])
            yield Prefilled(self._past)
        decoding = time.monotonic()
        reason: FinishReason = "stop"
        while not self._decoder.ends(token):
            yield from self._piece(token)
            if len(self._ids) == self._last:
                reason = "length"
                break
            if cancelled():
                return
            token = self._next([token])
        if held := self._detokenizer.held:
            yield Text("", held)
        yield Done(
            finish_reason=reason,
            prompt_tokens=self._prompt_tokens,
            completion_tokens=len(self._ids) - self._prompt_tokens,
            prefilled=prefilled,
            prefill_s=decoding - started,
            decoded=self._past - prefilled,
            decode_s=time.monotonic() - decoding,
        )

    def _next(self, ids: list[int]) -> int:
        """Run a step and return the likeliest next token."""
        logits = self._cache.run(self._decoder.inputs(ids, self._past))
        self._past += len(ids)
        return int(logits[0, -1].argmax())

    def _piece(self, token: int) -> Iterator[Text]:
        self._ids.append(token)
        ids = (*self._detokenizer.held, token)
        if piece := self._detokenizer.push(token):
            yield Text(piece, ids)


def _element(one: Any) -> type[np.generic]:
    try:
        return _ELEMENTS[one.type]
    except KeyError:
        raise InputError(
            f"the cache of this graph is of {one.type}; export the model as fp32 or fp16"
        ) from None
