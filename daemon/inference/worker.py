"""The process that holds one model: ``python -m dreamer.daemon.inference.worker --model-dir DIR``.

Requests come in on stdin, answers go out on what was stdout (``channel``); the pool starts it.
Whatever a library prints goes to stderr, so it can't corrupt the channel. When stdin ends, the
daemon is gone and so is the worker.
"""

from __future__ import annotations

import argparse
import os
import queue
import signal
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.confinement import confine
from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.protocol.errors import DreamerError

if TYPE_CHECKING:
    from dreamer.daemon.inference.decoder import Decoder


def main(arguments: list[str]) -> int:
    """Serve one model until stdin ends."""
    parser = argparse.ArgumentParser(prog="dreamer.daemon.inference.worker")
    parser.add_argument("--model-dir", type=Path, required=True)
    parser.add_argument("--threads", type=int, required=True)
    parser.add_argument("--memory-bytes", type=int, default=0)
    options = parser.parse_args(arguments)
    # Ctrl-C reaches the whole process group; only the daemon decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _take_pipes()
    confine(options.memory_bytes)
    try:
        decoder = _load(options.model_dir, options.threads)
    except DreamerError as error:
        _send(answers, "error", id=0, code=error.code, message=str(error))
        return 1
    inbox = Inbox(requests)
    _send(answers, "ready", id=0, context=decoder.context)
    while True:
        number, request = inbox.next()
        _answer(decoder, inbox, answers, number, request)


class Inbox:
    """Reads frames on a thread of its own, so that a cancellation is seen in mid-generation."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._requests: queue.SimpleQueue[tuple[int, GenerateRequest]] = queue.SimpleQueue()
        self._cancelled = 0
        threading.Thread(target=self._read, name="inbox", daemon=True).start()

    def next(self) -> tuple[int, GenerateRequest]:
        """Block for the next request and its number; numbers only rise."""
        return self._requests.get()

    def cancelled(self, number: int) -> bool:
        """Say whether nobody waits for this request any more."""
        return number <= self._cancelled

    def _read(self) -> None:
        while frame := channel.read(self._stream):
            kind, fields = frame
            if kind == "cancel":
                self._cancelled = fields["id"]
            else:
                self._requests.put((fields["id"], channel.request_from(fields)))
        # The main thread may be deep inside ONNX Runtime: don't wait for it.
        os._exit(0)


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the channel's two pipes private; leave stdin empty and stdout going to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _load(directory: Path, threads: int) -> Decoder:
    # Imported here: the network is given up before the first thread of a library starts.
    from dreamer.daemon.inference.decoder import Decoder

    return Decoder(directory, threads)


def _answer(
    decoder: Decoder, inbox: Inbox, answers: BinaryIO, number: int, request: GenerateRequest
) -> None:
    try:
        for step in decoder.generate(request, lambda: inbox.cancelled(number)):
            kind = "text" if isinstance(step, Text) else type(step).__name__.lower()
            _send(answers, kind, id=number, **asdict(step))
    except DreamerError as error:
        _send(answers, "error", id=number, code=error.code, message=str(error))


def _send(answers: BinaryIO, kind: str, **fields: Any) -> None:
    answers.write(channel.encode(kind, fields))
    answers.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
