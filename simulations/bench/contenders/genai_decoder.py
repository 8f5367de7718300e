"""The same as ``bare_decoder``, by onnxruntime-genai: Microsoft's own loop over such files.

Usage: PYTHON genai_decoder.py MODEL_DIR TOKENS_MAX

PYTHON is that of a virtual environment of its own, since the package brings an onnxruntime that
would overwrite ours: nothing of Dreamer is imported here. MODEL_DIR has a ``genai_config.json``,
whose session options set the threads.
"""

from __future__ import annotations

import importlib
import json
import sys
import time
from typing import Any


class GenaiDecoder:
    """A loaded model."""

    def __init__(self, path: str, most: int) -> None:
        """Load the model in the directory ``path``; sequences are of ``most`` tokens at most."""
        self._genai: Any = importlib.import_module("onnxruntime_genai")
        begun = time.perf_counter()
        self._model = self._genai.Model(path)
        self.session_s = time.perf_counter() - begun
        self._most = most

    def answer(self, ids: list[int], tokens: int) -> dict[str, Any]:
        """Return the next tokens and the seconds at which each was known."""
        options = self._genai.GeneratorParams(self._model)
        options.set_search_options(max_length=self._most, do_sample=False)
        generator = self._genai.Generator(self._model, options)
        begun = time.perf_counter()
        times: list[float] = []
        generator.append_tokens(ids)
        while len(times) < tokens and not generator.is_done():
            generator.generate_next_token()
            times.append(time.perf_counter() - begun)
        told = [int(one) for one in generator.get_sequence(0)[len(ids) :]]
        return {"ids": told, "times": times}


def main() -> None:
    """Answer lines until stdin ends."""
    decoder = GenaiDecoder(sys.argv[1], int(sys.argv[2]))
    print(json.dumps({"session_s": decoder.session_s}), flush=True)
    for line in sys.stdin:
        print(json.dumps(decoder.answer(**json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
