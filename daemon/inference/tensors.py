"""Tensors and texts to embed, as they cross processes: bytes with a name, a type and a shape.

dreamerd itself never computes with them and stays free of numpy. Data types have the names of the
Open Inference Protocol; data is little-endian and row-major, BYTES elements each with a u32 length
before them, as its binary extension has it.
"""

from __future__ import annotations

from dataclasses import dataclass

Data = bytes | bytearray | memoryview

ELEMENT_BYTES = {
    "BOOL": 1,
    "UINT8": 1,
    "UINT16": 2,
    "UINT32": 4,
    "UINT64": 8,
    "INT8": 1,
    "INT16": 2,
    "INT32": 4,
    "INT64": 8,
    "FP16": 2,
    "FP32": 4,
    "FP64": 8,
    "BF16": 2,
}
"""Data type: the size of an element. BYTES has no fixed one."""


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a graph; -1 stands for a size that varies."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Tensor:
    """One tensor and its values."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: Data


@dataclass(frozen=True)
class InferRequest:
    """One run of a graph; ``outputs`` names what is wanted, nothing means all.

    ``rows_apart`` says that the first size of every input and output counts rows that don't depend
    on each other: then they may be shared out over several runs, here and on peers.
    """

    inputs: tuple[Tensor, ...]
    outputs: tuple[str, ...] = ()
    rows_apart: bool = False

    @property
    def rows(self) -> int:
        """The first size that all inputs share, 1 where they share none."""
        counts = {one.shape[0] if one.shape else 1 for one in self.inputs}
        return counts.pop() if len(counts) == 1 else 1


@dataclass(frozen=True)
class Inferred:
    """What a graph gave. Times in seconds."""

    outputs: tuple[Tensor, ...]
    queue_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0


@dataclass(frozen=True)
class EmbedRequest:
    """Texts to embed. Longer ones than the model reads are cut if ``truncate``, else refused.

    ``dimensions`` keeps the first so many and normalises anew (Matryoshka models); None all.
    """

    texts: tuple[str, ...]
    truncate: bool = True
    dimensions: int | None = None


@dataclass(frozen=True)
class Embedded:
    """One vector a text: ``vectors`` is FP32 of shape (texts, dimensions). Times in seconds."""

    vectors: Tensor
    prompt_tokens: int
    queue_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0
