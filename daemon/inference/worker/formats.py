"""Looks a model directory over before anything in it is loaded.

An ONNX graph may name files of its own for its weights, and operators from libraries; a graph
from a peer may name ``/etc/shadow``. So the graph is parsed first (protobuf only, no weights) and
every location must be a plain file inside the directory, reached through no symbolic link; only
operators that ONNX Runtime itself ships are let through. Pickle is never loaded.
"""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import onnx
from google.protobuf.message import DecodeError

from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.inference_limits import (
    ONNX_GRAPH_MAX_BYTES,
    ONNX_SPARSE_MAX_ELEMENTS,
)

GRAPH_PLACES = ("model.onnx", "onnx/model.onnx")
DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
# EPContext names a compiled binary that an accelerator would load and run.
FORBIDDEN_OPERATORS = ("EPContext",)
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
PAST_PREFIX = "past_key_values."


@dataclass(frozen=True)
class ModelGraph:
    """A graph that is safe to load; ``data_files`` are the locations of its weights.

    ``inputs`` are the names that a run gives values to. ``shares_cache`` says that past and
    present of a decoder's cache may be one buffer.
    """

    path: Path
    data_files: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    shares_cache: bool

    @property
    def is_decoder(self) -> bool:
        """Whether it is given the keys and values of the tokens before."""
        return any(name.startswith(PAST_PREFIX) for name in self.inputs)


def inspect_graph(directory: Path) -> ModelGraph:
    """Find the ONNX graph of a model directory and check what it refers to.

    Raises:
        InputError: no graph, or one that is damaged or refers to what is missing.
        ForbiddenError: it reaches outside the directory or wants code that isn't ours.
    """
    path = _find_graph(directory)
    model = _parse(directory, path)
    graphs = list(_graphs(model))
    _check_operators(model, graphs)
    locations: dict[str, None] = {}
    for graph in graphs:
        for tensor in _tensors(graph):
            location, size_bytes = _weights(tensor, path.parent)
            _check_declared(tensor.name, tensor.dims, 2 * size_bytes)
            if location:
                locations[location] = None
    initial = {tensor.name for tensor in model.graph.initializer}
    return ModelGraph(
        path,
        tuple(locations),
        tuple(one.name for one in model.graph.input if one.name not in initial),
        tuple(one.name for one in model.graph.output),
        _shares_cache(model.graph),
    )


def _find_graph(directory: Path) -> Path:
    for place in GRAPH_PLACES:
        if (directory / place).is_file():
            return directory / place
    graphs = sorted(directory.glob("*.onnx")) or sorted((directory / "onnx").glob("*.onnx"))
    if len(graphs) == 1:
        return graphs[0]
    if graphs:
        names = ", ".join(path.name for path in graphs[:4])
        raise InputError(
            f"{directory.name} has several graphs ({names}): push one of them, as {GRAPH_PLACES[0]}"
        )
    found = sorted(path.name for path in directory.glob("*") if path.suffix in PICKLE_SUFFIXES)
    if found:
        raise ForbiddenError(
            f"{found[0]} may run code when it is loaded, so it never is; "
            "export the model to ONNX and push that"
        )
    raise InputError(
        f"{directory.name} has no {GRAPH_PLACES[0]}: only ONNX graphs can be run "
        "(`dreamer import` makes one from a GGUF)"
    )


def _parse(directory: Path, path: Path) -> onnx.ModelProto:
    require_inside(directory, path.relative_to(directory).as_posix())
    if path.stat().st_size > ONNX_GRAPH_MAX_BYTES:
        raise InputError(f"{path.name} is larger than an ONNX graph can be; export it again")
    try:
        model = onnx.load_model(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(
            f"{path.name} is not an ONNX graph or is damaged; pull it again"
        ) from error
    if not model.graph.node:
        raise InputError(f"{path.name} is not an ONNX graph or is damaged; pull it again")
    return model


def _graphs(model: onnx.ModelProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield the graph, the functions, and every graph nested in a node's attribute."""
    waiting: list[onnx.GraphProto | onnx.FunctionProto] = [model.graph, *model.functions]
    while waiting:
        graph = waiting.pop()
        yield graph
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    waiting.append(attribute.g)
                waiting.extend(attribute.graphs)


def _tensors(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    if isinstance(graph, onnx.GraphProto):
        yield from graph.initializer
        for sparse in graph.sparse_initializer:
            yield from _parts(sparse)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("sparse_tensor"):
                yield from _parts(attribute.sparse_tensor)
            for sparse in attribute.sparse_tensors:
                yield from _parts(sparse)


def _parts(sparse: onnx.SparseTensorProto) -> Iterator[onnx.TensorProto]:
    # ONNX Runtime writes it out in full: a few bytes could ask for terabytes.
    _check_declared(sparse.values.name, sparse.dims, ONNX_SPARSE_MAX_ELEMENTS)
    yield from (sparse.values, sparse.indices)


def _check_operators(
    model: onnx.ModelProto, graphs: list[onnx.GraphProto | onnx.FunctionProto]
) -> None:
    own = {(function.domain, function.name) for function in model.functions}
    for graph in graphs:
        for node in graph.node:
            known = node.domain in DOMAINS or (node.domain, node.op_type) in own
            if not known or node.op_type in FORBIDDEN_OPERATORS:
                raise ForbiddenError(
                    f"the graph uses the operator {node.domain!r:.60} {node.op_type!r:.60}, "
                    "which ONNX Runtime doesn't ship; export the model without custom operators"
                )


def _weights(tensor: onnx.TensorProto, base: Path) -> tuple[str, int]:
    """Return where a tensor's values are, "" for the graph itself, and how many bytes they are."""
    if tensor.data_location != onnx.TensorProto.EXTERNAL:
        return "", tensor.ByteSize()
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = str(entries.get("location", ""))
    size_bytes = require_inside(base, location)
    try:
        offset, length = int(entries.get("offset", "0")), int(entries.get("length", "0"))
    except ValueError:
        offset = length = -1
    if offset < 0 or length < 0 or offset + length > size_bytes:
        raise InputError(
            f"weights of {tensor.name!r:.80} lie outside {location}; the model is damaged, "
            "pull or export it again"
        )
    return location, length or size_bytes - offset


def _check_declared(name: str, dims: Sequence[int], max_elements: int) -> None:
    """Refuse a shape that would take memory which the values behind it don't account for.

    A byte holds two 4-bit values at most, so twice the bytes is the most there can be.
    """
    if min(dims, default=0) < 0 or math.prod(dims) > max_elements:
        raise InputError(
            f"{name!r:.80} says it has the shape {list(dims)!s:.80}, which its values don't fill; "
            "the model is damaged, pull or export it again"
        )


def location_parts(location: str) -> tuple[str, ...]:
    """Return the parts of a path that a model names, which must lead into its own directory.

    Raises:
        ForbiddenError: it leads elsewhere.
    """
    parts = PurePosixPath(location).parts
    plain = parts and not any(
        one in ("..", "/", "//") or "\\" in one or ":" in one for one in parts
    )
    if not plain or "\0" in location:
        raise ForbiddenError(
            f"the model wants to read {location!r:.120}, outside its directory; "
            "don't trust this model"
        )
    return parts


def require_inside(base: Path, location: str) -> int:
    """Return the size of a plain file below ``base``.

    Raises:
        ForbiddenError: the location leaves the directory, or a symbolic link is on its way.
        InputError: there is no such file.
    """
    parts = location_parts(location)
    path = base
    try:
        for part in parts:
            path = path / part
            status = os.lstat(path)
            if stat.S_ISLNK(status.st_mode):
                raise ForbiddenError(f"{path.name} is a symbolic link; models hold plain files")
    except OSError as error:
        raise InputError(f"the model lacks its file {location!r:.120}; pull it again") from error
    if not stat.S_ISREG(status.st_mode):
        raise InputError(f"{location!r:.120} is not a plain file; pull the model again")
    return status.st_size


def _shares_cache(graph: onnx.GraphProto) -> bool:
    """Say whether GroupQueryAttention alone reads the cache: it can write it in place."""
    readers = [
        node.op_type
        for node in graph.node
        if any(name.startswith(PAST_PREFIX) for name in node.input)
    ]
    return bool(readers) and set(readers) == {"GroupQueryAttention"}
