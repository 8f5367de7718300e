"""Runs a directory of sentence embeddings: texts in, one vector each out.

Texts of like length are run together, padded to the longest among them, so that no batch is larger
than its token budget and little of it is padding. The graph's tensors can be asked for as well.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tokenizers import Encoding

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.graphs.arrays import tensor
from dreamer.daemon.inference.graphs.embedding_layout import (
    EmbeddingLayout,
    has_layout,
    read_layout,
)
from dreamer.daemon.inference.graphs.pooling import normalise, pool
from dreamer.daemon.inference.graphs.serving import Answer, serve_side_by_side
from dreamer.daemon.inference.graphs.tensor_runner import TensorRunner
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.tensors import Embedded, EmbedRequest, TensorSpec
from dreamer.daemon.inference.worker.formats import ModelGraph
from dreamer.daemon.inference.worker.model_files import read_json, read_tokenizer
from dreamer.daemon.inference.worker.runner import Frame, Inbox, Outbox
from dreamer.protocol.errors import InputError, StoppedError
from dreamer.protocol.inference_limits import EMBED_BATCH_TOKENS

SENTENCES = "sentence_embedding"
"""The output of a graph that pools itself, as Optimum's exporter calls it."""
TOKENS = ("last_hidden_state", "token_embeddings")
TOKENIZER = "tokenizer.json"
_INPUTS = ("input_ids", "attention_mask", "token_type_ids", "position_ids")

Cancelled = Callable[[], bool]


def is_embedding(directory: Path, graph: ModelGraph) -> bool:
    """Say whether a directory tells how texts become vectors, or its graph does it itself."""
    pools = SENTENCES in graph.outputs or has_layout(directory)
    return pools and "input_ids" in graph.inputs and (directory / TOKENIZER).is_file()


class EmbeddingRunner:
    """A loaded model of sentence embeddings. Any number of threads may ask it at once."""

    def __init__(self, directory: Path, graph: ModelGraph, options: LoadOptions) -> None:
        """Load a model.

        Raises:
            InputError: a file is missing or damaged, or asks for what isn't supported.
            ForbiddenError: something lies outside the directory.
        """
        self._layout = read_layout(directory, SENTENCES in graph.outputs)
        self._tokenizer = read_tokenizer(directory / TOKENIZER)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(self._layout.context)
        self._padding_id = _padding_id(directory, self._tokenizer.token_to_id)
        self._tensors = TensorRunner(directory, graph, options)
        self._output = _output(self._tensors.outputs, self._layout)
        self._inputs = {one.name: one for one in self._tensors.inputs}
        if unknown := [name for name in self._inputs if name not in _INPUTS]:
            raise InputError(
                f"the graph wants the input {unknown[0]!r:.80}, which no text gives; "
                "export the model for feature extraction"
            )
        self._dimensions = self._measure()

    def card(self) -> dict[str, Any]:
        """Return what ``ready`` tells."""
        return {
            **self._tensors.card(),
            "kind": "embedding",
            "context": self._layout.context,
            "dimensions": self._dimensions,
        }

    def serve(self, inbox: Inbox, outbox: Outbox) -> None:
        """Answer frames for ever."""
        serve_side_by_side(
            inbox,
            outbox,
            lambda frame: self.answer(frame, lambda: inbox.cancelled(frame.number)),
        )

    def answer(self, frame: Frame, cancelled: Cancelled = lambda: False) -> Answer:
        """Return the answer to an ``embed`` or ``infer`` frame; raises as ``embed``."""
        if frame.kind == "infer":
            return self._tensors.answer(frame)
        if frame.kind != "embed":
            raise InputError("this model makes embeddings and writes no text")
        embedded = self.embed(channel.embed_from(frame.fields), cancelled)
        return "embedded", channel.embedded_fields(embedded)

    def embed(self, request: EmbedRequest, cancelled: Cancelled = lambda: False) -> Embedded:
        """Return a vector for each text, in order.

        Raises:
            InputError: a text is too long and may not be cut, or has too many dimensions asked.
            LocalError: ONNX Runtime failed, or nobody waits any more.
        """
        begun = time.perf_counter()
        wanted = request.dimensions or self._dimensions
        if wanted > self._dimensions:
            raise InputError(f"the model has {self._dimensions} dimensions, not {wanted}")
        read = self._read(request)
        vectors = np.empty((len(read), self._dimensions), np.float32)
        for places in _batches([len(one) for one in read]):
            if cancelled():
                raise StoppedError("nobody waits for this request any more")
            vectors[places] = self._vectors([read[place] for place in places])
        if wanted < self._dimensions:
            vectors = normalise(vectors[:, :wanted])
        tokens = sum(len(one) for one in read)
        seconds = time.perf_counter() - begun
        return Embedded(tensor("embedding", vectors), tokens, compute_s=seconds)

    def _read(self, request: EmbedRequest) -> list[Encoding]:
        layout = self._layout
        texts = [layout.prompt + text for text in request.texts]
        if layout.lower_case:
            texts = [text.lower() for text in texts]
        read: list[Encoding] = self._tokenizer.encode_batch(texts)
        for place, encoding in enumerate(read):
            if not request.truncate and encoding.overflowing:
                length = len(encoding) + sum(len(one) for one in encoding.overflowing)
                raise InputError(
                    f"text {place + 1} has about {length} tokens, more than the {layout.context} "
                    "that the model reads; shorten it, or let it be cut (truncate)"
                )
        return read

    def _vectors(self, read: list[Encoding]) -> NDArray[np.float32]:
        arrays = self._arrays(read)
        mask = arrays["attention_mask"]
        inputs = {name: _cast(arrays[name], spec) for name, spec in self._inputs.items()}
        (found,) = self._tensors.run([self._output.name], inputs)
        given = np.asarray(found, np.float32)
        vectors = given if given.ndim == 2 else pool(given, mask, self._layout.modes)
        return normalise(vectors) if self._layout.normalised else vectors

    def _arrays(self, read: list[Encoding]) -> dict[str, NDArray[np.int64]]:
        # A text without any token is given one of padding: a graph can't run on none.
        length = max(1, *(len(one) for one in read))
        shape = len(read), length
        ids = np.full(shape, self._padding_id, np.int64)
        mask, types = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
        for row, one in enumerate(read):
            ids[row, : len(one)] = one.ids
            mask[row, : len(one)] = one.attention_mask
            types[row, : len(one)] = one.type_ids
        positions = np.broadcast_to(np.arange(length, dtype=np.int64), shape)
        return dict(zip(_INPUTS, (ids, mask, types, positions), strict=True))

    def _measure(self) -> int:
        """Return the length of a vector: what a graph declares may be open, or untrue."""
        vectors = self._vectors([self._tokenizer.encode("a")])
        if vectors.ndim != 2:
            raise InputError("the graph gives no vector per text; export it for embeddings")
        return int(vectors.shape[1])


def _output(outputs: tuple[TensorSpec, ...], layout: EmbeddingLayout) -> TensorSpec:
    """Return the output to take: sentences that the graph pooled, else tokens to pool here."""
    named = {one.name: one for one in outputs}
    for name in (SENTENCES, *TOKENS):
        if name in named and (name == SENTENCES or layout.modes):
            return named[name]
    floats = [one for one in outputs if one.datatype in ("FP32", "FP16")]
    if len(floats) == 1 and (layout.modes or len(floats[0].shape) == 2):
        return floats[0]
    raise InputError(
        f"the graph has neither {SENTENCES} nor {TOKENS[0]} among its outputs "
        f"({', '.join(named):.200}); export the model for feature extraction"
    )


def _padding_id(directory: Path, token_to_id: Callable[[str], int | None]) -> int:
    token = read_json(directory / "tokenizer_config.json", missing={}).get("pad_token")
    # transformers writes a token plain or as an object.
    text = token.get("content") if isinstance(token, dict) else token
    found = token_to_id(text) if isinstance(text, str) else None
    return 0 if found is None else found


def _batches(lengths: list[int]) -> Iterator[list[int]]:
    """Yield the places of texts to run together, longest first."""
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda one: -lengths[one]):
        # The first of a batch is its longest: the others are padded to it, at most to twice.
        longest = lengths[batch[0]] if batch else 0
        if (len(batch) + 1) * longest > EMBED_BATCH_TOKENS or 2 * lengths[place] < longest:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def _cast(array: NDArray[np.int64], spec: TensorSpec) -> NDArray[Any]:
    return array.astype(np.int32) if spec.datatype == "INT32" else array
