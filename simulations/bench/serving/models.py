"""The models that inference is measured with, and what onnxruntime-genai wants beside one."""

from __future__ import annotations

import json
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
TENSOR_TARGET_S = 0.005
_MOST_LAYERS = 4096


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


def tensor_directory(directory: Path, threads: int) -> tuple[Path, float]:
    """Write a graph ``x`` -> ``y`` that takes about ``TENSOR_TARGET_S``; return it and its time."""
    directory.mkdir()
    path = directory / "model.onnx"
    layers = 16
    while True:
        onnx.save(_multiplications(layers), path)
        took = _run_s(path, threads)
        if 0.8 < took / TENSOR_TARGET_S < 1.25 or layers >= _MOST_LAYERS:
            return directory, took
        layers = min(max(1, round(layers * TENSOR_TARGET_S / took)), _MOST_LAYERS)


def _multiplications(layers: int) -> onnx.ModelProto:
    """Return a chain of matrix products; the weights are one matrix, so it stays small."""
    weights = np.eye(TENSOR_SIDE, dtype=np.float32)[::-1].copy()
    names = ["x", *(f"h{layer}" for layer in range(1, layers)), "y"]
    nodes = [
        helper.make_node("MatMul", [source, "w"], [target]) for source, target in pairwise(names)
    ]
    shape = ["batch", TENSOR_SIDE, TENSOR_SIDE]
    graph = helper.make_graph(
        nodes,
        "products",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        [numpy_helper.from_array(weights, "w")],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _run_s(path: Path, threads: int) -> float:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    values = np.ones((1, TENSOR_SIDE, TENSOR_SIDE), np.float32)
    times = []
    for _ in range(30):
        begun = time.perf_counter()
        session.run(None, {"x": values})
        times.append(time.perf_counter() - begun)
    # The least: what else runs meanwhile must not make the graph smaller.
    return min(times)


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
