"""Opens an ONNX Runtime session on a graph that ``formats`` has looked over."""

from __future__ import annotations

import mmap
from contextlib import ExitStack
from typing import Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as state

from dreamer.daemon.inference.load_options import CPU, LoadOptions
from dreamer.daemon.inference.worker.formats import ModelGraph
from dreamer.protocol.errors import DreamerError, InputError, LocalError

CPU_PROVIDER = "CPUExecutionProvider"
CUDA_PROVIDER = "CUDAExecutionProvider"

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

# One status may mean either: only the text tells.
_NO_ROOM_SIGNS = (
    *("bad_alloc", "allocate", "out of memory"),
    # cuBLAS, cuDNN, and the arena of ONNX Runtime at its limit.
    *("alloc_failed", "not enough memory", "smaller than requested bytes"),
)


def open_session(graph: ModelGraph, options: LoadOptions) -> onnxruntime.InferenceSession:
    """Load a graph and its weights on the device of ``options``.

    Model directories are hard links into the store. onnxruntime 1.31 maps such files; the onnx
    package refuses them (CVE-2026-34447), and a runtime that follows it gets the weights from
    memory instead, which costs a copy of them in RAM.

    Raises:
        InputError: ONNX Runtime can't load it.
        LocalError: the device isn't there, or has too little memory left.
    """
    try:
        try:
            session = _load(graph, options)
        except RUNTIME_ERRORS:
            if not _has_hard_links(graph):
                raise
            session = load_from_memory(graph, options)
    except RUNTIME_ERRORS as error:
        raise load_failure(graph.path.name, error, options.device) from error
    _require_device(session, options.device)
    return session


def load_failure(name: str, error: Exception, device: str) -> DreamerError:
    """Say whose fault it was that ``name`` wasn't loaded: the machine's, or the model's.

    A model that had no room here may run elsewhere. A full GPU isn't told as the machine's fault:
    the pool takes that for a GPU that can't be used at all.
    """
    reason = str(error).strip() or "out of memory"
    signs = any(sign in reason.lower() for sign in _NO_ROOM_SIGNS)
    no_room = isinstance(error, MemoryError) or signs
    if no_room and device == CPU:
        return LocalError(
            f"there is too little memory to load {name} ({reason:.300}); end what else takes "
            "memory, raise [inference] max_worker_memory_mib or max_memory_gb, or run a smaller "
            "model"
        )
    if no_room:
        return InputError(
            f"{device} has too little memory left to load {name} ({reason:.300}); end what else "
            "runs there, raise [inference] max_worker_gpu_memory_mib if it is set, set gpu = "
            "false to use the CPU, or run a smaller model"
        )
    return InputError(
        f"ONNX Runtime can't load {name} ({reason:.300}); pull the model again or export it anew"
    )


def load_from_memory(graph: ModelGraph, options: LoadOptions) -> onnxruntime.InferenceSession:
    """Load a graph, handing the weights over as mapped bytes rather than as file names."""
    chosen = _session_options(options)
    with ExitStack() as stack:
        mapped = []
        for name in graph.data_files:
            stream = stack.enter_context((graph.path.parent / name).open("rb"))
            mapped.append(
                stack.enter_context(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
            )
        sizes = [len(data) for data in mapped]
        chosen.add_external_initializers_from_files_in_memory(list(graph.data_files), mapped, sizes)
        return onnxruntime.InferenceSession(str(graph.path), chosen, providers=providers(options))


def runtime_failure(error: Exception) -> DreamerError:
    """Return the error to tell of when a run of the graph failed."""
    told = str(error).strip() or "out of memory"
    return LocalError(f"ONNX Runtime failed ({told:.300}); try a shorter prompt or another model")


def device_index(device: str) -> int:
    """Return which GPU ``cuda:N`` is.

    Raises:
        LocalError: no such kind of device is known.
    """
    kind, _, index = device.partition(":")
    if kind != "cuda" or not index.isdecimal():
        raise LocalError(f"there is no device {device!r:.40}; use cpu or cuda:0, cuda:1 …")
    return int(index)


def providers(options: LoadOptions) -> list[str | tuple[str, dict[str, Any]]]:
    """Return what runs the graph, best first: a GPU's work falls back to the CPU by operator."""
    if options.device == CPU:
        return [CPU_PROVIDER]
    cuda: dict[str, Any] = {
        "device_id": device_index(options.device),
        # By powers of two, the default, the arena would take up to twice what is needed.
        "arena_extend_strategy": "kSameAsRequested",
    }
    if options.gpu_memory_bytes:
        cuda["gpu_mem_limit"] = options.gpu_memory_bytes
    return [(CUDA_PROVIDER, cuda), CPU_PROVIDER]


def _load(graph: ModelGraph, options: LoadOptions) -> onnxruntime.InferenceSession:
    return onnxruntime.InferenceSession(
        str(graph.path), _session_options(options), providers=providers(options)
    )


def _session_options(options: LoadOptions) -> onnxruntime.SessionOptions:
    chosen = onnxruntime.SessionOptions()
    chosen.intra_op_num_threads = options.threads
    chosen.log_severity_level = 3
    # Threads that spin for long take the cores from dreamerd and from each other; those that never
    # do come late to each of the hundreds of operators of a step. So: briefly, and only in a run.
    chosen.add_session_config_entry("session.intra_op.spin_duration_us", "100")
    chosen.add_session_config_entry("session.force_spinning_stop", "1")
    return chosen


def _require_device(session: onnxruntime.InferenceSession, device: str) -> None:
    # The list of available providers names CUDA even where there is no GPU.
    if device != CPU and session.get_providers()[0] != CUDA_PROVIDER:
        raise LocalError(
            f"ONNX Runtime can't use {device}: is the driver installed, with CUDA and cuDNN of "
            "the versions that onnxruntime-gpu wants? Use device cpu otherwise"
        )


def _has_hard_links(graph: ModelGraph) -> bool:
    files = [graph.path.parent / name for name in graph.data_files]
    return any(path.stat().st_nlink > 1 for path in files)
