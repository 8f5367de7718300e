"""The least that running a graph can be: ``session.run`` in a loop.

Usage: python -m dreamer.simulations.bench.contenders.bare_graph GRAPH.onnx THREADS

Each line of JSON on stdin, ``{"shape", "runs"}``, is answered by a line with the seconds of each
run on an input ``x`` of ones; with ``"callers"`` as well, that many threads run it so often each,
and the answer has the seconds until all were done. The first line that it says is
``{"session_s"}``.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor

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
        print(json.dumps(_answer(session, **json.loads(line))), flush=True)


def _answer(
    session: onnxruntime.InferenceSession, shape: list[int], runs: int, callers: int = 0
) -> dict[str, object]:
    if not callers:
        return {"times": _times(session, shape, runs)}
    with ThreadPoolExecutor(callers) as pool:
        # The threads are there before the clock runs.
        list(pool.map(lambda _: _times(session, shape, 1), range(callers)))
        begun = time.perf_counter()
        list(pool.map(lambda _: _times(session, shape, runs), range(callers)))
        return {"seconds": time.perf_counter() - begun}


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
