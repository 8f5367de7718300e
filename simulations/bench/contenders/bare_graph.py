"""The least that running a graph can be: ``session.run`` in a loop.

Usage: python -m dreamer.simulations.bench.contenders.bare_graph GRAPH.onnx THREADS

Each line of JSON on stdin, ``{"shape", "runs"}``, is answered by a line with the seconds of each
run on an input ``x`` of ones. The first line that it says is ``{"session_s"}``.
"""

from __future__ import annotations

import json
import sys
import time

import numpy as np
import onnxruntime


def main() -> None:
    """Answer lines until stdin ends."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(sys.argv[2])
    begun = time.perf_counter()
    session = onnxruntime.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
    print(json.dumps({"session_s": time.perf_counter() - begun}), flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps({"times": _times(session, **asked)}), flush=True)


def _times(session: onnxruntime.InferenceSession, shape: list[int], runs: int) -> list[float]:
    values = np.ones(shape, np.float32)
    times = []
    for _ in range(runs):
        begun = time.perf_counter()
        session.run(None, {"x": values})
        times.append(time.perf_counter() - begun)
    return times


if __name__ == "__main__":
    main()
