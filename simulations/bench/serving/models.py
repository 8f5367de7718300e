"""The models that inference is measured with, and what onnxruntime-genai wants beside one."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.gguf import import_gguf
from dreamer.daemon.inference.requests import GenerateRequest

GENAI = "onnxruntime-genai==0.18.0"
GENAI_PYTHON = Path("bin") / "python"

TENSOR_SIDE = 256
VECTOR, HIDDEN = 512, 2048
TENSOR_TARGET_S = 0.005
_MOST_LAYERS = 4096
_TRIES = 8

SHAPES = {"vectors": [1, VECTOR], "products": [1, TENSOR_SIDE, TENSOR_SIDE]}
"""Graph: the shape of what it takes and gives. 2 KiB, as an embedding has; 256 KiB."""


def decoder_directory(gguf: Path, directory: Path) -> Path:
    """Make the decoder directory of a GGUF file."""
    import_gguf(gguf, directory, lambda _phase, _done, _total: None)
    return directory


def token_ids(directory: Path, prompt: str) -> list[int]:
    """Return what the model's own template and tokenizer make of one user turn."""
    return encode_prompt(GenerateRequest(prompt=prompt), _description(directory))


@lru_cache(maxsize=1)
def _description(directory: Path) -> Description:
    return read_description(directory)


def genai_directory(decoder: Path, directory: Path, threads: int) -> Path:
    """Lay the same files out as onnxruntime-genai expects them."""
    directory.mkdir()
    for file in decoder.iterdir():
        (directory / file.name).hardlink_to(file)
    config = json.loads((decoder / "config.json").read_text(encoding="utf-8"))
    text = json.dumps(_genai_config(config, threads))
    (directory / "genai_config.json").write_text(text, encoding="utf-8")
    return directory


def genai_python(place: Path) -> Path | None:
    """Return the Python of a virtual environment with onnxruntime-genai; None if pip can't."""
    python = place / GENAI_PYTHON
    if not (place / ".installed").exists():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(place)], check=True)
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        if subprocess.run([*pip, GENAI], check=False).returncode:
            return None
        (place / ".installed").write_text(GENAI, encoding="utf-8")
    return python


def tensor_directory(name: str, directory: Path, threads: int) -> Path:
    """Write a graph ``x`` -> ``y`` of ``SHAPES`` that takes about ``TENSOR_TARGET_S``."""
    directory.mkdir()
    path, made = directory / "model.onnx", _GRAPHS[name]
    layers = 16
    for _ in range(_TRIES):
        onnx.save(made(layers), path)
        took = _run_s(path, SHAPES[name], threads)
        if 0.9 < took / TENSOR_TARGET_S < 1.1:
            break
        layers = min(max(1, round(layers * TENSOR_TARGET_S / took)), _MOST_LAYERS)
    return directory


def _multiplications(layers: int) -> onnx.ModelProto:
    """Return a chain of matrix products; the weights are one matrix, so it stays small."""
    weights = np.eye(TENSOR_SIDE, dtype=np.float32)[::-1].copy()
    nodes = [
        helper.make_node("MatMul", [source, "w"], [target]) for source, target in _chain(layers)
    ]
    return _graph("products", nodes, [numpy_helper.from_array(weights, "w")])


def _perceptron(layers: int) -> onnx.ModelProto:
    """Return layers that widen a vector and narrow it again; they share their weights."""
    up = np.full((VECTOR, HIDDEN), 1 / VECTOR, np.float32)
    down = np.full((HIDDEN, VECTOR), 1 / HIDDEN, np.float32)
    nodes = [
        node
        for source, target in _chain(layers)
        for node in (
            helper.make_node("MatMul", [source, "up"], [f"{target}_wide"]),
            helper.make_node("Relu", [f"{target}_wide"], [f"{target}_cut"]),
            helper.make_node("MatMul", [f"{target}_cut", "down"], [target]),
        )
    ]
    weights = [numpy_helper.from_array(up, "up"), numpy_helper.from_array(down, "down")]
    return _graph("vectors", nodes, weights)


def _chain(layers: int) -> list[tuple[str, str]]:
    return list(pairwise(["x", *(f"h{layer}" for layer in range(1, layers)), "y"]))


def _graph(
    name: str, nodes: list[onnx.NodeProto], weights: list[onnx.TensorProto]
) -> onnx.ModelProto:
    shape = ["batch", *SHAPES[name][1:]]
    ends = [helper.make_tensor_value_info(end, TensorProto.FLOAT, shape) for end in ("x", "y")]
    graph = helper.make_graph(nodes, name, ends[:1], ends[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


_GRAPHS = {"vectors": _perceptron, "products": _multiplications}


def _run_s(path: Path, shape: list[int], threads: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    values = np.ones(shape, np.float32)
    times = []
    for _ in range(100):
        begun = time.perf_counter()
        session.run(None, {"x": values})
        times.append(time.perf_counter() - begun)
    # Not the median: what else runs meanwhile must not make the graph smaller.
    return statistics.quantiles(times, n=4)[0]


def _genai_config(config: dict[str, Any], threads: int) -> dict[str, Any]:
    names = ("key", "value")
    past = {f"past_{name}_names": f"past_key_values.%d.{name}" for name in names}
    present = {f"present_{name}_names": f"present.%d.{name}" for name in names}
    decoder = {
        "session_options": {"intra_op_num_threads": threads, "provider_options": []},
        "filename": "model.onnx",
        "head_size": config["head_dim"],
        "hidden_size": config["hidden_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "num_key_value_heads": config["num_key_value_heads"],
        "inputs": {"input_ids": "input_ids", "attention_mask": "attention_mask", **past},
        "outputs": {"logits": "logits", **present},
    }
    model = {
        "type": config["model_type"],
        "bos_token_id": config["bos_token_id"],
        "eos_token_id": config["eos_token_id"],
        "pad_token_id": 0,
        "context_length": config["max_position_embeddings"],
        "vocab_size": config["vocab_size"],
        "decoder": decoder,
    }
    return {"model": model, "search": {"do_sample": False, "past_present_share_buffer": True}}
