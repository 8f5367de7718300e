"""Opens an ONNX Runtime session on a graph that ``formats`` has looked over."""

from __future__ import annotations

import mmap
from contextlib import ExitStack

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from dreamer.daemon.inference.formats import DecoderGraph
from dreamer.protocol.errors import InputError

PROVIDERS = ["CPUExecutionProvider"]

# The binding gives every status its own exception, with no base class but Exception.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    state.EPFail,
    state.EngineError,
    state.Fail,
    state.InvalidArgument,
    state.InvalidGraph,
    state.InvalidProtobuf,
    state.NoSuchFile,
    state.NotImplemented,
    state.RuntimeException,
    MemoryError,
)


def open_session(graph: DecoderGraph, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph and its weights; ``threads`` is for one operator's work.

    Model directories are hard links into the store. onnxruntime 1.31 maps such files; the onnx
    package refuses them (CVE-2026-34447), and a runtime that follows it gets the weights from
    memory instead, which costs a copy of them in RAM.

    Raises:
        InputError: ONNX Runtime can't load it.
    """
    try:
        try:
            return _load(graph, threads)
        except RUNTIME_ERRORS:
            if not _has_hard_links(graph):
                raise
            return load_from_memory(graph, threads)
    except RUNTIME_ERRORS as error:
        raise InputError(
            f"ONNX Runtime can't load {graph.path.name} ({str(error).strip():.300}); "
            "pull the model again or export it anew"
        ) from error


def load_from_memory(graph: DecoderGraph, threads: int) -> onnxruntime.InferenceSession:
    """Load a graph, handing the weights over as mapped bytes rather than as file names."""
    options = _options(threads)
    with ExitStack() as stack:
        mapped = []
        for name in graph.data_files:
            stream = stack.enter_context((graph.path.parent / name).open("rb"))
            mapped.append(
                stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            )
        sizes = [len(data) for data in mapped]
        options.add_external_initializers_from_files_in_memory(
            list(graph.data_files), mapped, sizes
        )
        return onnxruntime.InferenceSession(str(graph.path), options, providers=PROVIDERS)


def _load(graph: DecoderGraph, threads: int) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(str(graph.path), _options(threads), providers=PROVIDERS)


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return options


def _has_hard_links(graph: DecoderGraph) -> bool:
    files = [graph.path.parent / name for name in graph.data_files]
    return any(path.stat().st_nlink > 1 for path in files)
