"""Runs any ONNX graph: tensors in, tensors out."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from onnxruntime import OrtValue

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.graphs.arrays import BF16, check_inputs, specs, tensor, value
from dreamer.daemon.inference.graphs.serving import Answer, serve_side_by_side
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.tensors import Inferred, InferRequest, Tensor, TensorSpec
from dreamer.daemon.inference.worker.formats import ModelGraph
from dreamer.daemon.inference.worker.model_files import read_json
from dreamer.daemon.inference.worker.runner import Frame, Inbox, Outbox
from dreamer.daemon.inference.worker.session import RUNTIME_ERRORS, open_session
from dreamer.protocol.errors import DreamerError, InputError, LocalError
from dreamer.protocol.inference_limits import TENSOR_REQUESTS_AT_ONCE

_MACHINE_SIGNS = ("allocate", "bad_alloc", "memory", "CUDA", "CUBLAS", "CUDNN", "cudaError")


class TensorRunner:
    """A loaded graph. Any number of threads may ask it at once."""

    def __init__(self, directory: Path, graph: ModelGraph, options: LoadOptions) -> None:
        """Load a graph.

        Raises:
            InputError: ONNX Runtime can't load it, or it takes what isn't tensors.
        """
        self._config = read_json(directory / "config.json", missing={})
        self._session = open_session(graph, options)
        declared = self._session.get_inputs()
        self.inputs = specs(declared)
        self.outputs = specs(self._session.get_outputs())
        if len(self.inputs) < len(declared):
            known = {one.name for one in self.inputs}
            other = next(one for one in declared if one.name not in known)
            raise InputError(
                f"input {other.name!r:.80} is {other.type}: only graphs that take tensors can be "
                "run; export the model with tensor inputs"
            )
        self._device = options.device
        # numpy has no bfloat16, so such values stay in ONNX Runtime's own.
        self._has_bf16 = any(one.datatype == BF16 for one in (*self.inputs, *self.outputs))

    def card(self) -> dict[str, Any]:
        """Return what ``ready`` tells."""
        return {
            "kind": "tensor",
            "inputs": [told(one) for one in self.inputs],
            "outputs": [told(one) for one in self.outputs],
            "config": self._config,
            "device": self._device,
            "slots": TENSOR_REQUESTS_AT_ONCE,
        }

    def serve(self, inbox: Inbox, outbox: Outbox) -> None:
        """Answer frames for ever."""
        serve_side_by_side(inbox, outbox, self.answer)

    def answer(self, frame: Frame) -> Answer:
        """Return the answer to an ``infer`` frame.

        Raises:
            InputError: the graph can't be run on these tensors.
            LocalError: ONNX Runtime failed.
        """
        if frame.kind != "infer":
            raise InputError(
                "this model takes tensors: it writes no text and makes no embeddings; "
                "use the Open Inference Protocol"
            )
        return "inferred", channel.inferred_fields(self.infer(channel.infer_from(frame.fields)))

    def infer(self, request: InferRequest) -> Inferred:
        """Run the graph; raises as ``answer``."""
        check_inputs(self.inputs, request.inputs)
        names = list(request.outputs) or [one.name for one in self.outputs]
        known = [one.name for one in self.outputs]
        if unknown := [name for name in names if name not in known]:
            raise InputError(
                f"the model has no output {unknown[0]!r:.80}; it gives {', '.join(known):.300}"
            )
        begun = time.perf_counter()
        outputs = self._run(names, request.inputs)
        return Inferred(outputs, compute_s=time.perf_counter() - begun)

    def run(self, names: list[str], inputs: dict[str, Any]) -> list[Any]:
        """Run the graph on arrays.

        Raises:
            InputError: it refuses them.
            LocalError: ONNX Runtime failed, out of memory for one.
        """
        try:
            if self._has_bf16:
                values = {name: _ort_value(one) for name, one in inputs.items()}
                return list(self._session.run_with_ort_values(names, values))
            return list(self._session.run(names, inputs))
        except RUNTIME_ERRORS as error:
            raise _failure(error) from error

    def _run(self, names: list[str], inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        given = self.run(names, {one.name: value(one) for one in inputs})
        return tuple(tensor(name, one) for name, one in zip(names, given, strict=True))


def _failure(error: Exception) -> DreamerError:
    """Say whose fault it was that a run failed: the machine's, or of the values given.

    ONNX Runtime has one status for shapes that don't go together inside the graph and for
    memory that there isn't; only the text tells which.
    """
    reason = str(error).strip()
    if isinstance(error, MemoryError) or any(sign in reason for sign in _MACHINE_SIGNS):
        return LocalError(
            f"ONNX Runtime failed ({reason:.300}); try a smaller batch or another model"
        )
    return InputError(f"the model can't be run on these values: {reason:.400}")


def told(spec: TensorSpec) -> list[Any]:
    """Return an input or output as ``ready`` tells of it."""
    return [spec.name, spec.datatype, list(spec.shape)]


def _ort_value(given: Any) -> OrtValue:
    return given if isinstance(given, OrtValue) else OrtValue.ortvalue_from_numpy(given)
