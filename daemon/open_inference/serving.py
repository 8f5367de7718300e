"""Answers calls of the protocol with a node's models: tensors, texts to go on from, vectors."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Coroutine
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, replace
from typing import cast

from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.tensors import Embedded, EmbedRequest, InferRequest
from dreamer.daemon.open_inference.calls import Answer, Call, refuse_extensions
from dreamer.daemon.open_inference.held import HeldBodies
from dreamer.daemon.open_inference.models import ANY_VERSION, Models, version_of
from dreamer.daemon.open_inference.text import (
    EMBEDDING,
    TEXT_OUTPUT,
    TextCall,
    check_outputs,
    reads_texts,
    text_call,
    text_output,
)
from dreamer.daemon.surfaces.inference import (
    Inference,
    Kind,
    Ran,
    RunEnded,
    RunEvent,
    RunOptions,
    RunStarted,
    RunText,
)
from dreamer.protocol.errors import InputError, LocalProtocolError, NoMatchError


class OpenInference:
    """The protocol over a node: ``models`` tells of them, the rest runs them.

    ``bodies`` counts what requests hold, however they came.
    """

    def __init__(self, inference: Inference) -> None:
        self.models = Models(inference)
        self.bodies = HeldBodies()
        self._inference = inference

    async def infer(self, call: Call, options: RunOptions) -> Answer:
        """Return the one answer of a call.

        Raises:
            DreamerError: as ``Inference.infer``.
        """
        reference, kind = await self._prepared(call)
        if kind == "decoder":
            return await self._generate(reference, call, text_call(call), options)
        if kind == "embedding":
            return await self._embed(reference, call, options)
        # A parameter of our own: rows of the batch may be shared out over several nodes.
        apart = call.parameters.get("rows_apart") is True
        request = InferRequest(call.inputs, call.outputs, apart)
        ran = await self._inference.infer(reference, request, options)
        return _answer(call, ran)

    async def stream(self, call: Call, options: RunOptions) -> AsyncGenerator[Answer, None]:
        """Yield the answers of a call: a text in pieces if it asks for that, else the one.

        Raises:
            DreamerError: as ``Inference.generate``.
        """
        reference, kind = await self._prepared(call)
        if kind != "decoder" or not text_call(call).stream:
            yield await self.infer(call, options)
            return
        asked = text_call(call)
        check_outputs(call, TEXT_OUTPUT)
        if len(asked.texts) > 1:
            raise InputError("a stream answers one text: send each in a request of its own")
        async with _closing(self._inference, reference, asked.generations()[0], options) as run:
            async for answer in _pieces(call, asked, run):
                yield answer

    async def _prepared(self, call: Call) -> tuple[str, Kind]:
        call.check()
        refuse_extensions(call.parameters)
        reference = call.model
        if call.version not in ANY_VERSION:
            reference = await self.models.reference(call.model, call.version)
        return reference, await self._kind(reference, call) if reads_texts(call) else "tensor"

    async def _kind(self, reference: str, call: Call) -> Kind:
        try:
            return (await self._inference.signature(reference)).kind
        except NoMatchError:
            # Not here: what a peer has of that name is told by what is wanted of it.
            if (await self._inference.find(reference)).here:
                raise
            return "embedding" if EMBEDDING in call.outputs else "decoder"

    async def _embed(self, reference: str, call: Call, options: RunOptions) -> Answer:
        check_outputs(call, EMBEDDING)
        request = EmbedRequest(text_call(call).texts)
        ran = await self._inference.embed(reference, request, options)
        return _answer(call, ran)

    async def _generate(
        self, reference: str, call: Call, asked: TextCall, options: RunOptions
    ) -> Answer:
        check_outputs(call, TEXT_OUTPUT)
        work = (
            _whole(self._inference, reference, request, options) for request in asked.generations()
        )
        written = await _together([*work])
        told = _ended(call, written[0].started, written[0].ended)
        return replace(told, outputs=(text_output([one.text for one in written], asked.shape),))


@dataclass(frozen=True)
class _Written:
    started: RunStarted
    text: str
    ended: RunEnded


async def _whole(
    inference: Inference, reference: str, request: GenerateRequest, options: RunOptions
) -> _Written:
    started: RunStarted | None = None
    pieces: list[str] = []
    async with _closing(inference, reference, request, options) as run:
        async for event in run:
            if isinstance(event, RunText):
                pieces.append(event.text)
            elif isinstance(event, RunStarted):
                started = event
            elif started is not None:
                return _Written(started, "".join(pieces), event)
    raise LocalProtocolError("a run ended without saying how: see the daemon's log")


async def _together(work: list[Coroutine[None, None, _Written]]) -> list[_Written]:
    """Wait for all; one that fails ends the others."""
    try:
        async with asyncio.TaskGroup() as group:
            runs = [group.create_task(one) for one in work]
    except BaseExceptionGroup as failed:
        raise failed.exceptions[0] from failed
    return [run.result() for run in runs]


async def _pieces(
    call: Call, asked: TextCall, run: AsyncIterator[RunEvent]
) -> AsyncIterator[Answer]:
    started: RunStarted | None = None
    async for event in run:
        if isinstance(event, RunStarted):
            started = event
        elif started is None:
            break
        elif isinstance(event, RunText):
            piece = (text_output([event.text], asked.shape),)
            version = version_of(started.manifest_id)
            yield Answer(call.model, version, call.request_id, piece, started, final=False)
        else:
            told = _ended(call, started, event)
            yield replace(told, outputs=(text_output([""], asked.shape),))
            return
    raise LocalProtocolError("a run ended without saying how: see the daemon's log")


@asynccontextmanager
async def _closing(
    inference: Inference, reference: str, request: GenerateRequest, options: RunOptions
) -> AsyncIterator[AsyncIterator[RunEvent]]:
    """Run a generation; leaving the context ends it, and frees its place in the model."""
    run = inference.generate(reference, request, options)
    async with aclosing(cast("AsyncGenerator[RunEvent, None]", run)) as events:
        yield events


def _ended(call: Call, started: RunStarted, ended: RunEnded) -> Answer:
    return Answer(
        call.model,
        version_of(started.manifest_id),
        call.request_id,
        (),
        started,
        ended.queue_s,
        ended.load_s,
        ended.prefill_s + ended.decode_s,
        parameters={
            "finish_reason": ended.finish_reason,
            "prompt_tokens": ended.prompt_tokens,
            "completion_tokens": ended.completion_tokens,
        },
    )


def _answer(call: Call, ran: Ran) -> Answer:
    answer = ran.answer
    outputs = (
        (replace(answer.vectors, name=EMBEDDING),)
        if isinstance(answer, Embedded)
        else answer.outputs
    )
    return Answer(
        call.model,
        version_of(ran.started.manifest_id),
        call.request_id,
        outputs,
        ran.started,
        answer.queue_s,
        answer.load_s,
        answer.compute_s,
    )
