"""What a node does with models: run them here or on a peer, hold them loaded, tell of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from dreamer.daemon.inference.requests import Ended, GenerateRequest, TokenLogprob
from dreamer.daemon.inference.tensors import (
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    TensorSpec,
)

Prefer = Literal["auto", "local", "peer", "fastest"]
"""Where to run: wherever it is best, here only, on a peer only, or on two, the first to answer."""

Kind = Literal["decoder", "embedding", "tensor"]


@dataclass(frozen=True)
class RunOptions:
    """How to run a request. ``keep_alive_s`` is how long the model stays loaded after it.

    None leaves that to the settings, 0 unloads it at once, a negative number pins it.
    """

    prefer: Prefer = "auto"
    keep_alive_s: float | None = None


@dataclass(frozen=True)
class RunStarted:
    """Who runs the request: ``node`` is the runner's id in hex. Told again when another goes on."""

    where: Literal["local", "peer"]
    node: str
    node_name: str
    manifest_id: str
    prompt_tokens: int = 0


@dataclass(frozen=True)
class RunText:
    """A piece of the answer: whole Unicode characters, one or more tokens."""

    text: str
    tokens: int
    logprobs: tuple[TokenLogprob, ...] = ()


RunEnded = Ended
"""How a generation ended, here or on a peer."""

RunEvent = RunStarted | RunText | RunEnded


@dataclass(frozen=True)
class Ran:
    """Who ran a request that has one answer, and the answer."""

    started: RunStarted
    answer: Inferred | Embedded


@dataclass(frozen=True)
class Servable:
    """A model that requests may name: ``model`` is its name, its aliases mean it as well.

    ``here`` says whether all of it is on this node. ``created_at`` is in seconds since the epoch.
    """

    name: str
    room: str
    manifest_id: str
    aliases: tuple[str, ...]
    tags: tuple[str, ...]
    type: str
    size_bytes: int
    created_at: float
    here: bool


@dataclass(frozen=True)
class Signature:
    """What a model takes and gives. ``context`` is in tokens, 0 where it has none.

    ``template`` is the chat template of a decoder; ``config`` the model's own ``config.json``.
    ``dimensions`` is the length of an embedding.
    """

    kind: Kind
    inputs: tuple[TensorSpec, ...] = ()
    outputs: tuple[TensorSpec, ...] = ()
    context: int = 0
    dimensions: int = 0
    template: str = ""
    config: dict[str, Any] | None = None


@dataclass(frozen=True)
class WorkerStatistics:
    """One worker process. ``device`` is ``cpu`` or ``cuda:N``; rates are tokens a second."""

    pid: int
    device: str
    memory_bytes: int
    gpu_memory_bytes: int
    requests: int
    running: int
    prefill_tokens_s: float
    decode_tokens_s: float


@dataclass(frozen=True)
class ModelStatistics:
    """A model that is loaded, or was. Seconds are sums over its requests, or its loads.

    ``expires_at`` (seconds since the epoch) is when it is unloaded if nobody asks for it, None
    when it stays (``pinned``) or is not loaded.
    """

    manifest_id: str
    name: str
    kind: Kind
    workers: tuple[WorkerStatistics, ...]
    memory_bytes: int
    pinned: bool
    expires_at: float | None
    queued: int
    running: int
    requests: int
    failures: int
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    prefill_s: float
    decode_s: float
    loads: int
    load_s: float
    evictions: int
    context: int = 0


@dataclass(frozen=True)
class GpuInfo:
    """A GPU that models may run on. ``busy`` is the share of the last moment it computed in."""

    device: str
    name: str
    memory_bytes: int
    free_bytes: int
    busy: float
    workers: int


@dataclass(frozen=True)
class PoolInfo:
    """All models together: requests that wait, of ``queue_max``; workers started ahead; GPUs."""

    queued: int
    queue_max: int
    spare_workers: int
    spare_memory_bytes: int
    gpus: tuple[GpuInfo, ...] = ()


@dataclass(frozen=True)
class InferenceReport:
    """What this node's pool holds and has done."""

    pool: PoolInfo
    models: tuple[ModelStatistics, ...]


class Inference(Protocol):
    """The facet of a node that runs models.

    A ``model`` is an alias, an id or the start of one, or a name, each with ``@room`` where several
    rooms have it.
    """

    async def servables(self) -> list[Servable]:
        """Return the models that requests may name, newest first."""
        ...

    async def find(self, model: str) -> Servable:
        """Return what ``model`` means.

        Raises:
            NoMatchError: nothing.
            AmbiguousError: something else in each of several rooms.
        """
        ...

    async def signature(self, model: str) -> Signature:
        """Return what a model that is on this node takes and gives, loading it if need be.

        Raises:
            NoMatchError: it is not on this node.
        """
        ...

    def generate(
        self, model: str, request: GenerateRequest, options: RunOptions
    ) -> AsyncIterator[RunEvent]:
        """Generate text here or on a peer; ends with RunEnded. Closing it ends the work.

        Raises:
            InputError: no runner could answer this.
            BusyError: as many wait as may; ask again after ``retry_after_s``.
            RemoteError: nobody can run it as asked.
        """
        ...

    async def infer(self, model: str, request: InferRequest, options: RunOptions) -> Ran:
        """Run a graph on tensors; raises as ``generate``."""
        ...

    async def embed(self, model: str, request: EmbedRequest, options: RunOptions) -> Ran:
        """Turn texts into vectors; raises as ``generate``."""
        ...

    async def load(self, model: str, keep_alive_s: float | None = None) -> None:
        """Have a model of this node loaded; ``keep_alive_s`` as in ``RunOptions``."""
        ...

    async def unload(self, model: str) -> None:
        """Unload a model once the requests before this are done; it may be loaded again."""
        ...

    def statistics(self) -> list[ModelStatistics]:
        """Return the models that are or were loaded since this node started, by name."""
        ...

    def pool(self) -> PoolInfo:
        """Return what is waiting and what is there to run on."""
        ...
