"""A list of ONNX nodes being written down, and the initialisers they use."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from dreamer.daemon.inference.gguf.weights import Span, WeightFile, initializer

MICROSOFT = "com.microsoft"


class Nodes:
    """Collects nodes in order; each call returns the name of the value it made."""

    def __init__(self, weights: WeightFile) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.initializers: list[onnx.TensorProto] = []
        self._weights = weights

    def add(self, operator: str, inputs: list[str], name: str, **attributes: Any) -> str:
        """Append a standard operator with one output, called ``name``."""
        return self._append(operator, inputs, [name], "", attributes)

    def split(self, value: str, names: list[str]) -> list[str]:
        """Cut ``value`` into equal parts along its last axis."""
        self._append("Split", [value], names, "", {"axis": -1, "num_outputs": len(names)})
        return names

    def add_microsoft(
        self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any
    ) -> str:
        """Append an ONNX Runtime operator; an empty name leaves an optional value out."""
        return self._append(operator, inputs, outputs, MICROSOFT, attributes)

    def _append(
        self,
        operator: str,
        inputs: list[str],
        outputs: list[str],
        domain: str,
        attributes: dict[str, Any],
    ) -> str:
        node = onnx.helper.make_node(
            operator, inputs, outputs, outputs[0], domain=domain, **attributes
        )
        self.nodes.append(node)
        return outputs[0]

    def weight(self, name: str, array: NDArray[Any]) -> str:
        """Store an array in the data file and return the name of its initialiser."""
        return self.place(name, array.shape, self._weights.write(array))

    def place(self, name: str, shape: tuple[int, ...], span: Span) -> str:
        """Name what is already in the data file, under this shape."""
        self.initializers.append(initializer(name, shape, span))
        return name

    def span(self, array: NDArray[Any], element: int | None = None) -> Span:
        """Store an array without naming it yet."""
        return self._weights.write(array, element)

    def constant(self, name: str, value: int | list[int]) -> str:
        """Return the name of a small inline int64, which shape inference can read."""
        self.initializers.append(onnx.numpy_helper.from_array(np.asarray(value, np.int64), name))
        return name
