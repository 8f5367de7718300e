"""One worker process as the pool sees it: start, open a model, exchange frames, kill.

Several requests are under way in a worker at once; each frame is handed to the exchange that its id
names. A worker that dies, or hangs, is lost to all of them at once.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.channel import Fields
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.pool.memory import cpu_seconds, rss_bytes
from dreamer.daemon.inference.pool.pipes import WorkerPipes
from dreamer.daemon.inference.pool.tensor_transport import PoolTensors, is_shared
from dreamer.protocol.errors import DreamerError, LocalError, LocalProtocolError, error_from_code
from dreamer.protocol.inference_limits import INFERENCE_COMPUTE_MAX_S

_LAST_OF_TENSORS = ("inferred", "embedded", "error")


class WorkerLostError(LocalError):
    """The worker died, hung or was ended. What it was asked can be asked of another."""


class Exchange:
    """One request in a worker: its frames, in order.

    They have no bound of their own: a generation is bounded by its ``max_tokens``, and the others
    are answered by one frame.
    """

    def __init__(self, worker: WorkerProcess, number: int) -> None:
        self.number = number
        self._worker = worker
        self._frames: deque[tuple[str, Fields] | DreamerError] = deque()
        self._waiting: asyncio.Future[None] | None = None

    async def next(self) -> tuple[str, Fields]:
        """Wait for the next frame.

        Raises:
            WorkerLostError: the worker died or hung.
            DreamerError: the worker's own ``error`` frame, whatever its kind.
        """
        while not self._frames:
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        frame = self._frames.popleft()
        if isinstance(frame, DreamerError):
            raise frame
        kind, fields = frame
        if kind == "error":
            raise error_from_code(fields["code"], fields["message"])
        return kind, fields

    def put(self, frame: tuple[str, Fields] | DreamerError) -> None:
        """Take a frame, or what befell the worker."""
        self._frames.append(frame)
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def close(self, finished: bool) -> None:
        """End the exchange; one that is not finished is cancelled in the worker."""
        self._worker.forget(self.number, cancel=not finished)


class WorkerProcess:
    """A running worker. It is stateless between requests, so it is ended by killing it."""

    def __init__(self, tensors: PoolTensors, silence_timeout_s: float) -> None:
        """Take what is said of the process by ``spawn``."""
        self._pipes = WorkerPipes(self._take, self._not_understood, self._died)
        self._tensors = tensors
        self._silence_timeout_s = silence_timeout_s
        self._exchanges: dict[int, Exchange | OneAnswer] = {}
        self._last_number = 0
        self._heard = 0
        self._lost = ""
        self._ending: asyncio.Task[None] | None = None
        self._watching: asyncio.Task[None] | None = None
        self.gone = False
        """Nothing of it is left: it was ended and waited for."""
        self.waiting = asyncio.Event()
        """Set when its libraries are imported, or it is gone."""
        self.when_lost: Callable[[], None] | None = None
        """Called once if it dies or hangs, and not when it is ended on purpose."""

    @classmethod
    async def spawn(cls, silence_timeout_s: float) -> WorkerProcess:
        """Start a worker without a model."""
        tensors = PoolTensors()
        worker = cls(tensors, silence_timeout_s)
        try:
            await worker._pipes.start(("--tensor-fds", tensors.argument), tensors.fds)
        except OSError as error:
            tensors.close()
            raise LocalError(
                f"a worker process can't be started ({error}): this machine is short of memory, "
                "processes or open files; try again later"
            ) from error
        worker._watching = asyncio.create_task(worker._watch())
        return worker

    async def open(self, model_dir: Path, options: LoadOptions, timeout_s: float) -> Fields:
        """Load a model and return what it tells of itself, its card.

        Raises:
            InputError, ForbiddenError: the model can't be run.
            LocalError: it took too long, or the process died.
        """
        self._require_alive()
        exchange = self._exchanges[0] = Exchange(self, 0)
        self._send("open", {"id": 0, "model_dir": str(model_dir), **asdict(options)})
        try:
            async with asyncio.timeout(timeout_s):
                _, card = await exchange.next()
        except TimeoutError:
            raise LocalError(
                f"the model was not loaded within {timeout_s:.0f} s; try again when the machine is "
                "less busy, raise [inference] load_timeout_s, or run a smaller model"
            ) from None
        finally:
            self.forget(0, cancel=False)
        return card

    def ask(self, kind: str, fields: Fields) -> Exchange:
        """Send a request and return the exchange in which it is answered.

        Raises:
            WorkerLostError: the worker is gone already.
            InputError: more than a worker takes at once.
        """
        exchange = Exchange(self, self._sent(kind, fields))
        self._exchanges[exchange.number] = exchange
        return exchange

    async def ask_once(self, kind: str, fields: Fields) -> OneAnswer:
        """Ask what has one answer, whose tensors may be large.

        Raises:
            WorkerLostError: the worker is gone already.
            InputError: more than a worker takes at once.
        """
        shared = await self._tensors.share(fields)
        try:
            number = self._sent(kind, shared)
        except DreamerError:
            self._tensors.unlent(shared)
            raise
        self._tensors.lent(number, shared)
        answer = self._exchanges[number] = OneAnswer(self, number)
        return answer

    async def fetch(self, number: int, answer: Fields) -> Fields:
        """Return an answer with its tensors, and give their memory back."""
        if not is_shared(answer):
            return answer
        try:
            return await self._tensors.fetch(answer)
        finally:
            # In the loop's next turn: the answer is on its way sooner than the worker is woken.
            asyncio.get_running_loop().call_soon(self.let_go, number, answer)

    def forget(self, number: int, cancel: bool) -> None:
        """Drop what still comes for a request."""
        if self._exchanges.pop(number, None) is not None and cancel:
            self.cancel(number)

    def cancel(self, number: int) -> None:
        """Tell the worker that nobody waits for a request any more."""
        self._send("cancel", {"id": number})

    @property
    def pid(self) -> int:
        """The process id."""
        return self._pipes.pid

    @property
    def rss_bytes(self) -> int:
        """Resident memory, or 0 where the system has no /proc to tell."""
        return rss_bytes(self.pid)

    @property
    def alive(self) -> bool:
        """Whether the process runs and can be asked."""
        return not self._lost and self._pipes.exit_status is None

    async def kill(self, reason: str = "was ended") -> None:
        """End the process and wait until it is gone; requests under way are lost."""
        self.when_lost = None
        self._lose(reason)
        if self._ending is None:
            self._ending = asyncio.create_task(self._end())
        # Whoever stops waiting doesn't stop the ending.
        await asyncio.shield(self._ending)

    async def _end(self) -> None:
        await self._pipes.end()
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        self._tensors.close()
        self.gone = True

    def _require_alive(self) -> None:
        if self._lost:
            raise WorkerLostError(self._lost)

    def _sent(self, kind: str, fields: Fields) -> int:
        """Send a request and return its number; raises as ``ask``."""
        self._require_alive()
        number = self._last_number = self._last_number + 1
        self._send(kind, {"id": number, **fields})
        return number

    def _send(self, kind: str, fields: Fields) -> None:
        self._pipes.send(channel.encode(kind, fields))

    def _not_understood(self, error: LocalProtocolError) -> None:
        self._lose(f"was not understood ({error})")
        self._pipes.kill()

    def _died(self) -> None:
        reason = self._pipes.last_words or f"exit status {self._pipes.exit_status}"
        self._lose(f"died ({reason:.200})")
        self.waiting.set()

    def _take(self, kind: str, fields: Fields) -> None:
        if not isinstance(number := fields.get("id"), int):
            raise LocalProtocolError("an inference worker named no request")
        self._heard += 1
        if kind == "waiting":
            self.waiting.set()
            return
        if kind in _LAST_OF_TENSORS:
            self._tensors.answered(number)
        if exchange := self._exchanges.get(number):
            exchange.put((kind, fields))
        else:
            self.let_go(number, fields)

    def let_go(self, number: int, answer: Fields) -> None:
        """Tell the worker that the memory in which an answer lay may be used again."""
        if is_shared(answer):
            self._send("taken", {"id": number})

    async def _watch(self) -> None:
        """End a worker that owes answers and shows no sign of life for too long.

        A long computation says nothing either, but it takes processor time.
        """
        timeout_s, heard, used_s = self._silence_timeout_s, -1, 0.0
        silent_since = idle_since = time.monotonic()
        while not self._lost:
            now = time.monotonic()
            if heard != self._heard or not self._exchanges:
                heard, silent_since, idle_since = self._heard, now, now
            if (used_now_s := cpu_seconds(self.pid)) != used_s:
                used_s, idle_since = used_now_s, now
            too_long_s = max(timeout_s, INFERENCE_COMPUTE_MAX_S)
            if now - idle_since >= timeout_s or now - silent_since >= too_long_s:
                self._lose(f"was silent for {now - silent_since:.0f} s and was ended")
                self._pipes.kill()
            await asyncio.sleep(timeout_s / 4)

    def _lose(self, reason: str) -> None:
        if self._lost:
            return
        self._lost = (
            f"the model's worker {reason}; try again, and if it was out of memory a smaller model"
        )
        for exchange in list(self._exchanges.values()):
            exchange.put(WorkerLostError(self._lost))
        if self.when_lost is not None:
            self.when_lost()


class OneAnswer:
    """What a worker was asked that has one answer. Get it, or give it up."""

    def __init__(self, worker: WorkerProcess, number: int) -> None:
        self._worker = worker
        self._number = number
        self._frame: tuple[str, Fields] | DreamerError | None = None
        self._came = asyncio.get_running_loop().create_future()
        self._fetched = False

    def put(self, frame: tuple[str, Fields] | DreamerError) -> None:
        """Take the answer, or what befell the worker."""
        self._frame = frame
        self._worker.forget(self._number, cancel=False)
        if not self._came.done():
            self._came.set_result(None)

    async def get(self) -> Fields:
        """Return the answer; whoever is cancelled over this calls ``given_up``.

        Raises:
            WorkerLostError: the worker died or hung.
            DreamerError: the worker's own error.
        """
        if self._frame is None:
            await self._came
        answer = self._answer()
        self._fetched = True
        return await self._worker.fetch(self._number, answer)

    async def given_up(self) -> None:
        """Tell the worker that nobody wants the answer, and wait until its tensors are free.

        It has answered then: a graph that runs can't be stopped.
        """
        if self._frame is None:
            self._worker.cancel(self._number)
            # The one before was cancelled with whoever waited for it.
            self._came = asyncio.get_running_loop().create_future()
            await self._came
        with suppress(DreamerError):
            if not self._fetched:
                self._worker.let_go(self._number, self._answer())

    def _answer(self) -> Fields:
        assert self._frame is not None, "it was waited for"
        if isinstance(self._frame, DreamerError):
            raise self._frame
        kind, fields = self._frame
        if kind == "error":
            raise error_from_code(fields["code"], fields["message"])
        return fields
