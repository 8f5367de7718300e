"""The loop of a decoder's worker: frames in, one step of the batch at a time, frames out.

Between two steps requests join, are cancelled and leave. What goes wrong with one request is told
to that one; when a batched step fails, to all that took part. Text is made of a step's tokens, and
sent, while the next step computes (``telling``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.answers.answer import Answer
from dreamer.daemon.inference.answers.description import Description
from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.batch.batch import Batch
from dreamer.daemon.inference.batch.row import Row
from dreamer.daemon.inference.batch.schedule import Reading, Schedule
from dreamer.daemon.inference.batch.telling import Piece, Said, Teller, Told, settled
from dreamer.daemon.inference.channel import request_from
from dreamer.daemon.inference.worker.runner import Frame, Inbox, Outbox
from dreamer.daemon.inference.worker.session import RUNTIME_ERRORS, runtime_failure
from dreamer.protocol.errors import DreamerError


class Engine:
    """Answers ``generate`` frames out of one batch; ``serve`` never ends."""

    def __init__(
        self,
        batch: Batch,
        description: Description,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._batch = batch
        self._description = description
        self._clock = clock
        self._schedule = Schedule(batch.fixed_chunk)
        self._waiting: deque[Row] = deque()
        self._said: list[Said] = []
        self._decode_next = False

    @property
    def idle(self) -> bool:
        """Whether there is nothing to do until the next frame."""
        return not self._batch.rows and not self._waiting

    def serve(self, inbox: Inbox, outbox: Outbox) -> None:
        """Answer frames for ever."""
        teller = Teller(outbox)
        while True:
            frame = inbox.wait() if self.idle else inbox.poll()
            if frame is not None:
                # Templates are rendered where no other thread allocates or uses the tokenizer.
                teller.wait()
            while frame is not None:
                self.take(frame)
                frame = inbox.poll()
            teller.tell(self.advance())

    def take(self, frame: Frame) -> None:
        """Take a frame in: a request joins when there is room, a cancelled one leaves now."""
        if frame.kind == "cancel":
            self._cancel(frame.number)
            return
        try:
            request = request_from(frame.fields)
            context = min(self._description.context, self._batch.capacity)
            prompt = encode_prompt(request, self._description, context)
            answer = Answer(request, prompt, self._description, context, self._batch.share)
        except DreamerError as error:
            self._tell_error(frame.number, error)
            return
        self._waiting.append(Row.of(frame.number, answer, self._clock()))

    def step(self) -> list[Told]:
        """Read a chunk or take a batched step, and return the frames it comes to."""
        return settled(self.advance())

    def advance(self) -> list[Said]:
        """Do so, and leave the text of it to be made."""
        self._let_in()
        rows = self._batch.rows.values()
        reading = [Reading(row.number, row.unread) for row in rows if row.unread]
        if reading and not self._decode_next:
            plan = self._schedule.plan(reading, sum(row.decoding for row in rows))
            self._decode_next = plan.decode
            self._read(self._batch.rows[plan.row], plan.tokens)
        else:
            self._decode_next = False
            self._decode()
        said, self._said = self._said, []
        return said

    def _let_in(self) -> None:
        while self._waiting and self._batch.fits(self._waiting[0]):
            row = self._waiting.popleft()
            row.joined_s = self._clock()
            if row.answer.finish_reason:
                self._begun(row)
                self._give_out(row)
                continue
            try:
                self._batch.join(row)
            except RUNTIME_ERRORS as error:
                self._fail(row, runtime_failure(error))
                continue
            self._begun(row)

    def _cancel(self, number: int) -> None:
        if row := self._batch.rows.get(number):
            self._batch.leave(row)
        self._waiting = deque(row for row in self._waiting if row.number != number)

    def _read(self, row: Row, tokens: int) -> None:
        started_s = self._clock()
        try:
            logits = self._batch.read(row, tokens)
        except RUNTIME_ERRORS as error:
            self._fail(row, runtime_failure(error))
            return
        now_s = self._clock()
        self._schedule.read(tokens, now_s - started_s)
        self._tell("prefilled", row, tokens=row.past)
        if not row.unread:
            # Memory that runs out here would leave rows half copied: that ends the process.
            self._batch.begin_decoding(row)
            row.read_s = now_s
            self._next(row, logits)

    def _decode(self) -> None:
        started_s = self._clock()
        try:
            stepped = list(self._batch.decode())
        except RUNTIME_ERRORS as error:
            for row in [one for one in self._batch.rows.values() if one.decoding]:
                self._fail(row, runtime_failure(error))
            return
        for row, logits in stepped:
            self._next(row, logits)
        if stepped:
            self._schedule.decoded(len(stepped), self._clock() - started_s)

    def _next(self, row: Row, logits: NDArray[np.float32]) -> None:
        """Choose a row's next token, and tell what text came of it."""
        if row.replayed:
            row.token = row.replayed.popleft()
            self._tell("prefilled", row, tokens=row.past)
            return
        try:
            token = row.answer.take(logits)
        except DreamerError as error:
            self._fail(row, error)
            return
        self._give_out(row)
        if token is None:
            self._batch.leave(row)
        else:
            row.token = token

    def _begun(self, row: Row) -> None:
        self._tell("begun", row, prompt_tokens=len(row.prompt), cached_tokens=row.cached)

    def _give_out(self, row: Row) -> None:
        unsaid = row.answer.unsaid()
        self._said.append(Piece(row.number, row.answer, unsaid))
        if unsaid.finished:
            self._tell("done", row, **asdict(row.done(unsaid.finished, self._clock())))

    def _fail(self, row: Row, error: DreamerError) -> None:
        self._batch.leave(row)
        self._tell_error(row.number, error)

    def _tell(self, kind: str, row: Row, **fields: Any) -> None:
        self._said.append((kind, row.number, fields))

    def _tell_error(self, number: int, error: DreamerError) -> None:
        self._said.append(("error", number, {"code": error.code, "message": str(error)}))
