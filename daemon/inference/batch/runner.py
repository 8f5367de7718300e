"""A decoder directory, loaded: what a worker holds to write text.

Takes the directories that ``gguf`` makes and those of Optimum's exporter: inputs and outputs are
bound by name, ``position_ids`` are given to graphs that ask for them, and sizes that a graph
leaves symbolic come from ``config.json``. Everything here blocks; it lives in a worker process.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

from dreamer.daemon.inference.answers.description import read_description
from dreamer.daemon.inference.batch.batch import Batch
from dreamer.daemon.inference.batch.engine import Engine
from dreamer.daemon.inference.batch.graph import decoder_graph
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.worker.formats import ModelGraph
from dreamer.daemon.inference.worker.model_files import read_tokenizer
from dreamer.daemon.inference.worker.runner import Inbox, Outbox
from dreamer.daemon.inference.worker.session import RUNTIME_ERRORS, open_session
from dreamer.protocol.errors import LocalError
from dreamer.protocol.inference_limits import SESSION_HEAD_START_S

_MEMORY_ERRORS: tuple[type[Exception], ...] = (*RUNTIME_ERRORS, OSError, OverflowError)


class DecoderRunner:
    """A loaded decoder; its answers are made in one batch (``batch``)."""

    def __init__(self, directory: Path, model: ModelGraph, options: LoadOptions) -> None:
        """Load a model.

        Raises:
            InputError: the directory is no decoder that can be run, or is damaged.
            LocalError: the device isn't there, or hasn't the memory.
        """
        with ThreadPoolExecutor(1, "session") as pool:
            opening = pool.submit(open_session, model, options)
            # Reading a tokenizer holds Python's lock all the while; a head start has the session
            # past the point where it needs it, and then both are prepared at once.
            wait([opening], SESSION_HEAD_START_S)
            tokenizer = read_tokenizer(directory / "tokenizer.json")
            session = opening.result()
        # Not before: its template is compiled under a bound on memory that holds for all threads.
        self.description = read_description(directory, tokenizer)
        self.graph = decoder_graph(session, model, self.description, options.device)
        self.batch = self._new_batch(options)

    def card(self) -> dict[str, Any]:
        """Return what ``ready`` tells of the model."""
        return {
            "kind": "decoder",
            "slots": self.batch.slots,
            "context": min(self.description.context, self.batch.capacity),
            "template": self.description.template_source,
            "config": self.description.config,
            "device": self.graph.device,
        }

    def _new_batch(self, options: LoadOptions) -> Batch:
        try:
            return Batch(self.graph, options, self.description.context)
        except _MEMORY_ERRORS as error:
            raise LocalError(
                f"there is no memory for the keys and values of {options.slots} answers "
                f"({error!s:.200}); lower [inference] slots, or free memory on {options.device}"
            ) from error

    def engine(self) -> Engine:
        """Return the loop that answers requests; one at a time."""
        return Engine(self.batch, self.description)

    def serve(self, inbox: Inbox, outbox: Outbox) -> None:
        """Answer requests for ever."""
        self.engine().serve(inbox, outbox)
