"""What a worker process holds: a loaded model of some kind that answers frames.

The kind is found by looking: a graph with a key-value cache is a decoder, a directory that says
how to pool is one of sentence embeddings, any other graph takes tensors and gives tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.protocol.errors import DreamerError


@dataclass(frozen=True)
class Frame:
    """One message from the pool: ``generate``, ``infer``, ``embed`` or ``cancel``."""

    kind: str
    number: int
    fields: dict[str, Any]


class Inbox(Protocol):
    """Frames from the pool, in order. A thread reads them, so none waits for a computation."""

    def wait(self) -> Frame:
        """Block for the next frame."""
        ...

    def poll(self) -> Frame | None:
        """Return the next frame if there is one already."""
        ...

    def cancelled(self, number: int) -> bool:
        """Say whether this request was cancelled; for runners that answer one after another."""
        ...

    def serve(self, answer: Callable[[Frame], None], threads: int) -> None:
        """Have every request answered on the thread that reads it, one of so many, for ever."""
        ...


class Outbox(Protocol):
    """Frames to the pool. Any thread may send."""

    def send(self, kind: str, number: int, fields: dict[str, Any]) -> None:
        """Write a frame.

        Raises:
            DreamerError: its tensors can't be handed over.
        """
        ...

    def send_all(self, frames: Iterable[tuple[str, int, dict[str, Any]]]) -> None:
        """Write frames in one go; raises as ``send``."""
        ...


class Runner(Protocol):
    """A loaded model."""

    def card(self) -> dict[str, Any]:
        """Return what ``ready`` tells: ``kind``, and the other fields of a ``Signature``."""
        ...

    def serve(self, inbox: Inbox, outbox: Outbox) -> None:
        """Answer frames for ever: the process ends when the pool closes the pipe."""
        ...


def open_runner(directory: Path, options: LoadOptions) -> Runner:
    """Load a model directory.

    Raises:
        InputError: it is no model that can be run, or is damaged.
        ForbiddenError: it reaches outside its directory or wants foreign code.
        LocalError: the device isn't there, or memory is short.
    """
    # Imported here: this module's values are used where there is no numpy.
    from dreamer.daemon.inference.worker.formats import inspect_graph

    graph = inspect_graph(directory)
    if graph.is_decoder:
        from dreamer.daemon.inference.batch.runner import DecoderRunner

        return DecoderRunner(directory, graph, options)
    from dreamer.daemon.inference.graphs.embedding_runner import EmbeddingRunner, is_embedding

    if is_embedding(directory, graph):
        return EmbeddingRunner(directory, graph, options)
    from dreamer.daemon.inference.graphs.tensor_runner import TensorRunner

    return TensorRunner(directory, graph, options)


def send_error(outbox: Outbox, number: int, error: DreamerError) -> None:
    """Tell the pool that a request (0: the loading itself) failed."""
    outbox.send("error", number, {"code": error.code, "message": str(error)})
