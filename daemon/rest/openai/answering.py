"""Answers chat and completions: whole, or piece by piece as Server-Sent Events."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from dreamer.daemon.rest.dialects import error_body
from dreamer.daemon.rest.guard import JSON_TYPE
from dreamer.daemon.rest.inference_headers import (
    generated_headers,
    timing_headers,
    who_headers,
)
from dreamer.daemon.rest.openai.choices import Choices, Work, choosing
from dreamer.daemon.rest.openai.forms import Choice, Envelope, Form, sse
from dreamer.daemon.rest.openai.usage import Usage
from dreamer.daemon.rest.outgoing import Outgoing, outgoing
from dreamer.daemon.surfaces.inference import RunEnded, RunText
from dreamer.protocol.errors import DreamerError

STREAM_TYPE = "text/event-stream"
REQUEST_ID_HEADER = "x-request-id"


@dataclass(frozen=True)
class Wanted:
    """An answer as it was asked for; ``choices_each`` is how many a prompt gets."""

    form: Form
    model: str
    works: Sequence[Work]
    choices_each: int
    stream: bool
    include_usage: bool


async def answer(request: web.Request, wanted: Wanted) -> web.StreamResponse:
    """Run what is wanted and answer with it; a client that goes away ends the work.

    Raises:
        DreamerError: it failed before anything was sent.
    """
    async with choosing(wanted.works) as choices:
        manifest_id = choices.started.manifest_id
        envelope = Envelope(wanted.form, wanted.model, manifest_id, wanted.include_usage)
        usage = Usage(wanted.choices_each)
        if wanted.stream:
            return await _Stream(request, wanted, envelope, usage).send(choices)
        return await _whole(wanted, choices, envelope, usage)


async def _whole(
    wanted: Wanted, choices: Choices, envelope: Envelope, usage: Usage
) -> web.Response:
    told = [Choice() for _ in wanted.works]
    pieces: list[list[str]] = [[] for _ in wanted.works]
    async for index, said in choices.events:
        if isinstance(said, RunText):
            pieces[index].append(said.text)
            told[index].logprobs.extend(said.logprobs)
        else:
            told[index].finish_reason = said.finish_reason
            usage.add(index, said)
            ended = said
    for choice, texts in zip(told, pieces, strict=True):
        choice.text = "".join(texts)
    return web.Response(
        body=envelope.whole(told, usage),
        content_type=JSON_TYPE,
        headers={
            **generated_headers(choices.started, ended),
            REQUEST_ID_HEADER: envelope.id,
        },
    )


class _Stream:
    """One answer on its way."""

    def __init__(
        self, request: web.Request, wanted: Wanted, envelope: Envelope, usage: Usage
    ) -> None:
        self._request = request
        self._form = wanted.form
        self._number = len(wanted.works)
        self._envelope = envelope
        self._usage = usage

    async def send(self, choices: Choices) -> web.StreamResponse:
        async with outgoing(self._request, self._headers(choices)) as stream:
            try:
                await self._send_events(stream, choices)
            except DreamerError as error:
                # The status line is long gone: the error travels as an event, the last one.
                await stream.write(sse(error_body(error, self._request.path)))
        return stream.response

    def _headers(self, choices: Choices) -> dict[str, str]:
        return {
            "Content-Type": STREAM_TYPE,
            "Cache-Control": "no-store",
            REQUEST_ID_HEADER: self._envelope.id,
            **who_headers(choices.started),
            **timing_headers(first_token=choices.run.first_s),
        }

    async def _send_events(self, stream: Outgoing, choices: Choices) -> None:
        form, chunk = self._form, self._envelope.chunk
        openings = [form.opening(index) for index in range(self._number)]
        # They leave with the first piece: one write, and one read for the client.
        held = b"".join(chunk(one) for one in openings if one is not None)
        async for index, said in choices.events:
            if isinstance(said, RunEnded):
                self._usage.add(index, said)
                held += b"".join(map(chunk, form.endings(index, said.finish_reason)))
            elif (said.text or said.logprobs) and (pieces := form.pieces(index, said)):
                await stream.write(held + b"".join(map(chunk, pieces)))
                held = b""
        await stream.write(held + self._envelope.end(self._usage))
