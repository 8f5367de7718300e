"""The process that holds one model: ``python -m dreamer.daemon.inference.worker``.

The pool starts it without a model: it gives up what it doesn't need, imports what takes time, says
``waiting``, and loads a model when it is told which (``open``). Requests come in on stdin, answers
go out on what was stdout (``channel``). Whatever a library prints goes to stderr, so it can't
corrupt the channel. When stdin ends, the daemon is gone and so is the worker.
"""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from pathlib import Path
from typing import BinaryIO

from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.worker.confinement import bound_memory, confine
from dreamer.daemon.inference.worker.pipes import PipeInbox, PipeOutbox
from dreamer.daemon.inference.worker.runner import Frame, Inbox, Runner, open_runner, send_error
from dreamer.daemon.inference.worker.shared_tensors import WorkerTensors
from dreamer.protocol.errors import DreamerError


def main(arguments: list[str]) -> int:
    """Serve one model until stdin ends."""
    parser = argparse.ArgumentParser(prog="dreamer.daemon.inference.worker")
    parser.add_argument("--tensor-fds", default="", help="two inherited files: in, out")
    options = parser.parse_args(arguments)
    # Ctrl-C reaches the whole process group; only the daemon decides when a worker ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    requests, answers = _take_pipes()
    # Before any thread starts: a process with threads can't leave its network.
    confine()
    tensors = WorkerTensors(options.tensor_fds)
    inbox, outbox = PipeInbox(requests, tensors), PipeOutbox(answers, tensors)
    _import_libraries()
    outbox.send("waiting", 0, {})
    try:
        runner = _open(_wait_for_model(inbox))
    except DreamerError as error:
        send_error(outbox, 0, error)
        return 1
    # The libraries stay: a full collection that walks them comes between two tokens.
    gc.freeze()
    outbox.send("ready", 0, runner.card())
    runner.serve(inbox, outbox)
    return 0


def _take_pipes() -> tuple[BinaryIO, BinaryIO]:
    """Keep the channel's two pipes private; leave stdin empty and stdout going to stderr."""
    requests, answers = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _import_libraries() -> None:
    """Import ahead what any model needs: it takes longer than loading a small model."""
    import dreamer.daemon.inference.batch.runner
    import dreamer.daemon.inference.graphs.embedding_runner
    import dreamer.daemon.inference.graphs.tensor_runner  # noqa: F401


def _wait_for_model(inbox: Inbox) -> Frame:
    while (frame := inbox.wait()).kind != "open":
        pass
    return frame


def _open(frame: Frame) -> Runner:
    options = LoadOptions.from_fields(frame.fields)
    bound_memory(options.memory_bytes)
    return open_runner(Path(frame.fields["model_dir"]), options)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
