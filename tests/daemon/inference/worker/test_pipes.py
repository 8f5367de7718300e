"""A worker's inbox: whoever reads a request answers it, and somebody always reads on."""

from __future__ import annotations

import os
import threading
from queue import SimpleQueue
from typing import BinaryIO

import pytest

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.worker.pipes import PipeInbox
from dreamer.daemon.inference.worker.runner import Frame
from dreamer.daemon.inference.worker.shared_tensors import WorkerTensors

DEADLINE_S = 10.0


class Served:
    """An inbox whose requests are answered by ``threads`` threads, each when it is let."""

    def __init__(self, threads: int) -> None:
        out, into = os.pipe()
        # Never closed: the end of the pipe ends the process that reads it.
        self._pool: BinaryIO = os.fdopen(into, "wb", closefd=False)
        self.inbox = PipeInbox(os.fdopen(out, "rb", closefd=False), WorkerTensors(""))
        self.begun: SimpleQueue[tuple[Frame, threading.Event, int]] = SimpleQueue()
        self._threads = threads

    def serve(self) -> None:
        threading.Thread(
            target=lambda: self.inbox.serve(self._answer, self._threads), daemon=True
        ).start()

    def say(self, kind: str, number: int) -> None:
        self._pool.writelines(channel.encode(kind, {"id": number}))
        self._pool.flush()

    def next(self) -> tuple[Frame, threading.Event, int]:
        return self.begun.get(timeout=DEADLINE_S)

    def _answer(self, frame: Frame) -> None:
        let = threading.Event()
        self.begun.put((frame, let, threading.get_ident()))
        let.wait(DEADLINE_S)


@pytest.fixture
def served() -> Served:
    return Served(3)


def test_requests_are_answered_side_by_side(served: Served) -> None:
    served.serve()
    for number in range(1, 5):
        served.say("infer", number)
    under_way = [served.next() for _ in range(3)]
    # In no order: each is read by a thread that goes on with it by itself.
    assert sorted(frame.number for frame, _, _ in under_way) == [1, 2, 3]
    assert len({thread for _, _, thread in under_way}) == 3
    under_way[1][1].set()
    assert served.next()[0].number == 4


def test_cancellation_is_read_while_others_compute(served: Served) -> None:
    served.serve()
    served.say("infer", 1)
    served.say("infer", 2)
    served.next()
    (_, second, _) = served.next()
    served.say("cancel", 7)
    served.say("infer", 7)
    frame, _, _ = served.next()
    assert (frame.number, served.inbox.cancelled(7), served.inbox.cancelled(7)) == (7, True, False)
    second.set()


def test_what_came_before_it_served_is_answered_too(served: Served) -> None:
    served.say("infer", 1)
    served.say("open", 2)
    first = served.inbox.wait()
    served.serve()
    assert (first.number, served.next()[0].number) == (1, 2)


def test_cancellation_that_came_before_it_served_is_no_request(served: Served) -> None:
    served.say("infer", 1)
    served.say("cancel", 1)
    served.say("infer", 2)
    served.say("cancel", 9)
    served.say("open", 3)
    # Until all of them lie there: frames are read in order.
    waiting = [served.inbox.wait() for _ in range(5)]
    for frame in waiting[:4]:
        served.inbox._frames.put(frame)
    served.serve()
    served.say("infer", 4)
    answered = []
    for _ in range(3):
        frame, let, _ = served.next()
        let.set()
        answered.append((frame.kind, frame.number))
    assert sorted(answered) == [("infer", 1), ("infer", 2), ("infer", 4)]


class SlowFrames:
    """Frames that are put only when they may be; ``asked`` is set when somebody looks for one."""

    def __init__(self) -> None:
        self.putting, self.may, self.asked = (threading.Event() for _ in range(3))
        self._frames: SimpleQueue[Frame] = SimpleQueue()

    def put(self, frame: Frame) -> None:
        self.putting.set()
        assert self.may.wait(DEADLINE_S)
        self._frames.put(frame)

    def get_nowait(self) -> Frame:
        self.asked.set()
        return self._frames.get_nowait()


def test_what_comes_while_it_begins_to_serve_is_answered(served: Served) -> None:
    frames = SlowFrames()
    served.inbox._frames = frames  # type: ignore[assignment]
    served.say("infer", 1)
    assert frames.putting.wait(DEADLINE_S)
    served.serve()
    # Whoever looks now finds nothing, and looks no more.
    frames.asked.wait(0.05)
    frames.may.set()
    assert served.next()[0].number == 1
