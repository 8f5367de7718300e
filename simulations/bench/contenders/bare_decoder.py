"""The least that generating can be: ONNX Runtime, one sequence, the likeliest token each time.

Usage: python -m dreamer.simulations.bench.contenders.bare_decoder MODEL_DIR THREADS

Keys and values stay in buffers that the graph writes in place (GroupQueryAttention). No text, no
end token, no server. Each line of JSON on stdin, ``{"ids", "tokens"}``, is answered by a line with
the ids and when each came, in seconds from the start. The first line that it says is
``{"session_s"}``, what making the session took.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import numpy as np
import onnxruntime


class BareDecoder:
    """A session and its buffers."""

    def __init__(self, path: str, threads: int) -> None:
        """Load the model in the directory ``path``."""
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        begun = time.perf_counter()
        self._session = onnxruntime.InferenceSession(
            f"{path}/model.onnx", options, providers=["CPUExecutionProvider"]
        )
        self.session_s = time.perf_counter() - begun
        self._inputs = {one.name: one for one in self._session.get_inputs()}

    def answer(self, ids: list[int], tokens: int) -> dict[str, Any]:
        """Return the next tokens and the seconds at which each was known."""
        binding = self._bound(len(ids) + tokens)
        begun, past = time.perf_counter(), 0
        told: list[int] = []
        times: list[float] = []
        while len(told) < tokens:
            total = past + len(ids)
            binding.bind_cpu_input("input_ids", np.array([ids], np.int64))
            binding.bind_cpu_input("attention_mask", np.ones((1, total), np.int64))
            if "position_ids" in self._inputs:
                binding.bind_cpu_input("position_ids", np.arange(past, total)[None])
            binding.bind_output("logits", "cpu")
            self._session.run_with_iobinding(binding)
            logits = binding.get_outputs()[-1].numpy()
            past, ids = total, [int(logits[0, -1].argmax())]
            told.append(ids[0])
            times.append(time.perf_counter() - begun)
        return {"ids": told, "times": times}

    def _bound(self, capacity: int) -> Any:
        binding = self._session.io_binding()
        for name, one in self._inputs.items():
            if name.startswith("past_key_values."):
                shape = (1, one.shape[1], capacity, one.shape[3])
                buffer = onnxruntime.OrtValue.ortvalue_from_numpy(np.zeros(shape, np.float32))
                binding.bind_ortvalue_input(name, buffer)
                binding.bind_ortvalue_output(name.replace("past_key_values", "present"), buffer)
        return binding


def main() -> None:
    """Answer lines until stdin ends."""
    decoder = BareDecoder(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({"session_s": decoder.session_s}), flush=True)
    for line in sys.stdin:
        print(json.dumps(decoder.answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
