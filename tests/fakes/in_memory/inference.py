"""Models kept in memory: one that says its piece, one that embeds, one that echoes tensors."""

from __future__ import annotations

import asyncio
import struct
import threading
import time
from contextlib import aclosing
from dataclasses import replace

from dreamer.daemon.inference.requests import TokenLogprob
from dreamer.daemon.inference.tensors import Embedded, Inferred, Tensor, TensorSpec
from dreamer.daemon.surfaces.inference import (
    ModelStatistics,
    PoolInfo,
    Ran,
    RunEnded,
    RunStarted,
    RunText,
    Servable,
    Signature,
    WorkerStatistics,
)
from dreamer.protocol.errors import (
    AmbiguousError,
    BusyError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
    RemoteError,
)

MODEL_ID, EMBEDDER_ID, ECHO_ID = "ab" * 32, "cd" * 32, "ec" * 32
CREATED_AT = 1.8e9
DIMENSIONS = 4
CONTEXT = 64

FAILURES = {
    "missing": NoMatchError("no model is called 'missing'; 'dreamer models' lists what there is"),
    "several": AmbiguousError("'several' names 2 models"),
    "refused": ForbiddenError("the manifest's signature is wrong"),
    "away": RemoteError("the tracker is away; try again"),
    "full": LocalError("the disk is full; free 3 GiB"),
    "busy": BusyError("200 requests wait already; ask again in a moment", 2.5),
}
"""What a REF of that name fails with, everywhere."""


def _servable(name: str, manifest_id: str, aliases: tuple[str, ...], type_: str) -> Servable:
    size = 3 * 2**20
    return Servable(name, "lab", manifest_id, aliases, (), type_, size, CREATED_AT, True)


_STARTED = RunStarted("peer", "ef" * 32, "other", MODEL_ID, 5)
_ENDED = RunEnded("stop", 5, 0, 0.1, 0.4, 0.01, 0.02, 0.03, 0.3, cached_tokens=2)


class MemoryInference:
    """``tiny`` (alias ``prod``) writes, ``embedder`` embeds, ``echo`` gives back its tensors.

    A model named in ``FAILURES`` fails so. ``slow`` says one piece and never ends by itself,
    ``silent`` says nothing and never ends, ``breaks`` fails after its first piece. ``pieces`` are
    what the models that write say; ``asked`` is what was asked of the facet, in its order.
    """

    def __init__(self) -> None:
        self.asked: list[tuple] = []
        self.pieces = [RunText("Hello ", 1), RunText("wörld\x1b[31m", 2)]
        self.begun = threading.Event()
        self.cancelled = threading.Event()
        self.closed = threading.Event()
        self.loaded: dict[str, float | None] = {}
        self.models = [
            _servable("tiny", MODEL_ID, ("prod",), "onnx-decoder"),
            _servable("embedder", EMBEDDER_ID, (), "embedding"),
            _servable("echo", ECHO_ID, (), "onnx"),
        ]

    async def servables(self):
        return list(self.models)

    async def find(self, model):
        if model in FAILURES:
            raise FAILURES[model]
        name = model.removesuffix("@lab")
        if name in ("slow", "silent", "breaks"):
            return replace(self.models[0], name=name, aliases=())
        for one in self.models:
            if name in (one.name, *one.aliases) or one.manifest_id.startswith(name.ljust(4, "-")):
                return one
        raise NoMatchError(f"no model is called {model!r}; 'dreamer models' lists what there is")

    async def signature(self, model):
        found = await self.find(model)
        if found.manifest_id == EMBEDDER_ID:
            return Signature("embedding", context=CONTEXT, dimensions=DIMENSIONS)
        if found.manifest_id == ECHO_ID:
            inputs = (TensorSpec("x", "FP32", (-1, 4)), TensorSpec("words", "BYTES", (-1,)))
            outputs = tuple(replace(one, name=f"{one.name}_again") for one in inputs)
            return Signature("tensor", inputs, outputs)
        return Signature(
            "decoder",
            context=CONTEXT,
            template="{{ messages[0].content }}",
            config={"model_type": "llama"},
        )

    async def generate(self, model, request, options):
        self.asked.append(("generate", model, request, options))
        try:
            async with aclosing(self._said(model, request, options)) as events:
                async for event in events:
                    yield event
        finally:
            self.closed.set()

    async def _said(self, model, request, options):
        request.check()
        found = await self.find(model)
        if found.manifest_id != MODEL_ID:
            raise InputError(f"{found.name} writes no text: name a model that does")
        if model == "silent":
            await self._forever()
        yield replace(_STARTED, where="local") if options.prefer == "local" else _STARTED
        count = 0
        for number, piece in enumerate(self.pieces):
            if count + piece.tokens > request.max_tokens:
                yield replace(_ENDED, finish_reason="length", completion_tokens=count)
                return
            count += piece.tokens
            yield _with_logprobs(piece, request.logprobs)
            if number == 0:
                await self._stumble(model)
        yield replace(_ENDED, completion_tokens=count)

    async def _stumble(self, model):
        if model == "slow":
            await self._forever()
        if model == "breaks":
            raise RemoteError("the peer went away; run it again")

    async def _forever(self):
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            self.cancelled.set()

    async def infer(self, model, request, options):
        self.asked.append(("infer", model, request, options))
        found = await self.find(model)
        if found.manifest_id != ECHO_ID:
            raise InputError(f"{found.name} takes no tensors: name a model that does")
        outputs = tuple(replace(one, name=f"{one.name}_again") for one in request.inputs)
        wanted = request.outputs or tuple(one.name for one in outputs)
        if unknown := set(wanted) - {one.name for one in outputs}:
            raise InputError(f"there is no output {min(unknown)!r}")
        chosen = tuple(one for name in wanted for one in outputs if one.name == name)
        return Ran(replace(_STARTED, manifest_id=ECHO_ID), Inferred(chosen, 0.01, 0.0, 0.005))

    async def embed(self, model, request, options):
        """A text's vector begins with its length in characters; the rest are ones."""
        self.asked.append(("embed", model, request, options))
        found = await self.find(model)
        if found.manifest_id != EMBEDDER_ID:
            raise InputError(f"{found.name} makes no embeddings: name a model that does")
        size = request.dimensions or DIMENSIONS
        rows = [[float(len(text)), *[1.0] * (size - 1)] for text in request.texts]
        data = b"".join(struct.pack(f"<{size}f", *row) for row in rows)
        vectors = Tensor("embeddings", "FP32", (len(rows), size), data)
        words = sum(len(text.split()) for text in request.texts)
        started = replace(_STARTED, manifest_id=EMBEDDER_ID, where="local")
        return Ran(started, Embedded(vectors, words, 0.01, 0.0, 0.005))

    async def load(self, model, keep_alive_s=None):
        self.asked.append(("load", model, keep_alive_s))
        self.loaded[(await self.find(model)).manifest_id] = keep_alive_s

    async def unload(self, model):
        self.asked.append(("unload", model))
        self.loaded.pop((await self.find(model)).manifest_id, None)

    def pool(self):
        return PoolInfo(0, 200, 1, 70_000_000)

    def statistics(self):
        return [self._statistics(one) for one in self.models if one.manifest_id in self.loaded]

    def _statistics(self, model):
        kept = self.loaded[model.manifest_id]
        pinned = kept is not None and kept < 0
        kind = {EMBEDDER_ID: "embedding", ECHO_ID: "tensor"}.get(model.manifest_id, "decoder")
        worker = WorkerStatistics(4711, "cpu", 2**27, 0, 3, 0, 620.0, 103.0)
        return ModelStatistics(
            model.manifest_id, model.name, kind, (worker,), 2**27, pinned,
            None if pinned else time.time() + (300.0 if kept is None else kept),
            queued=0, running=0, requests=3, failures=1, prompt_tokens=15, cached_tokens=6,
            completion_tokens=9, queue_s=0.03, prefill_s=0.09, decode_s=0.9, loads=1, load_s=0.5,
            evictions=0, context=CONTEXT,
        )  # fmt: skip


def _with_logprobs(piece: RunText, wanted: int | None) -> RunText:
    if wanted is None:
        return piece
    top = tuple((100 + place, f"t{place}", -0.5 - place) for place in range(wanted))
    texts = [piece.text, *[""] * (piece.tokens - 1)]
    return replace(piece, logprobs=tuple(TokenLogprob(7, text, -0.5, top) for text in texts))
