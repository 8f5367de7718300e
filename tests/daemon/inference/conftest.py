"""Models to test with, and an evaluation of a Llama GGUF that shares no code with the import."""

from __future__ import annotations

import asyncio
import math
import os
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import onnx
import pytest

from dreamer.daemon.inference.batch.runner import DecoderRunner
from dreamer.daemon.inference.channel import request_fields
from dreamer.daemon.inference.gguf import import_gguf
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.pool.pool import Pool, PoolSettings
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.worker.formats import inspect_graph
from dreamer.daemon.inference.worker.runner import Frame
from dreamer.simulations.tiny_model import write_tiny_gguf
from dreamer.simulations.tiny_plain_decoder import plain_decoder

GGUF_VARIABLE = "DREAMER_TEST_GGUF"

Array = np.ndarray[Any, np.dtype[Any]]
Logits = Callable[[Path, list[int]], Array]


class LlamaReference:
    """Llama in plain numpy, fp32, from the weights as the gguf package dequantises them."""

    def __init__(self, path: Path) -> None:
        reader = gguf.GGUFReader(path)
        self.weights = {
            tensor.name.removesuffix(".weight"): self._dequantised(tensor)
            for tensor in reader.tensors
        }
        architecture = reader.fields["general.architecture"].contents()

        def field(name: str) -> Any:
            return reader.fields[f"{architecture}.{name}"].contents()

        self.layers = field("block_count")
        self.heads = field("attention.head_count")
        self.kv_heads = field("attention.head_count_kv")
        self.head_size = field("embedding_length") // self.heads
        self.base = field("rope.freq_base")
        self.epsilon = field("attention.layer_norm_rms_epsilon")

    @staticmethod
    def _dequantised(tensor: Any) -> Array:
        values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
        return np.array(values, np.float32)

    def logits(self, ids: list[int]) -> Array:
        """Return the logits after each token, (tokens, vocabulary)."""
        hidden = self.weights["token_embd"][ids]
        for layer in range(self.layers):
            hidden = hidden + self._attention(layer, hidden)
            hidden = hidden + self._feed_forward(layer, hidden)
        output = self.weights.get("output", self.weights["token_embd"])
        return self._norm(hidden, "output_norm") @ output.T

    def _attention(self, layer: int, hidden: Array) -> Array:
        x = self._norm(hidden, f"blk.{layer}.attn_norm")
        query = self._rotated(self._heads(x, layer, "attn_q", self.heads))
        key = self._rotated(self._heads(x, layer, "attn_k", self.kv_heads))
        value = self._heads(x, layer, "attn_v", self.kv_heads)
        key, value = (np.repeat(one, self.heads // self.kv_heads, axis=1) for one in (key, value))
        scores = np.einsum("qhd,khd->hqk", query, key) / math.sqrt(self.head_size)
        scores = scores + np.triu(np.full(scores.shape[1:], -np.inf, np.float32), 1)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        mixed = np.einsum("hqk,khd->qhd", weights, value).reshape(len(hidden), -1)
        return mixed @ self.weights[f"blk.{layer}.attn_output"].T

    def _heads(self, x: Array, layer: int, name: str, heads: int) -> Array:
        product = x @ self.weights[f"blk.{layer}.{name}"].T
        return product.reshape(len(x), heads, self.head_size)

    def _rotated(self, x: Array) -> Array:
        """Rotate neighbouring pairs, as llama.cpp does with rows in the GGUF's order."""
        frequencies = self.base ** (-np.arange(0, self.head_size, 2) / self.head_size)
        angles = (np.arange(len(x))[:, None] * frequencies)[:, None].astype(np.float32)
        cos, sin, even, odd = np.cos(angles), np.sin(angles), x[..., 0::2], x[..., 1::2]
        turned = np.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
        return turned.reshape(x.shape)

    def _feed_forward(self, layer: int, hidden: Array) -> Array:
        x = self._norm(hidden, f"blk.{layer}.ffn_norm")
        gate, up, down = (
            self.weights[f"blk.{layer}.{name}"] for name in ("ffn_gate", "ffn_up", "ffn_down")
        )
        opened = x @ gate.T
        return (opened / (1 + np.exp(-opened)) * (x @ up.T)) @ down.T

    def _norm(self, x: Array, name: str) -> Array:
        scale = np.sqrt((x * x).mean(-1, keepdims=True) + self.epsilon)
        return x / scale * self.weights[name]


@pytest.fixture(scope="session")
def llama_reference() -> type[LlamaReference]:
    return LlamaReference


@pytest.fixture
async def make_pool() -> AsyncIterator[Callable[..., Pool]]:
    """Make pools that are closed at the end, within the time that a shutdown has."""
    pools: list[Pool] = []

    def make(**settings: Any) -> Pool:
        pools.append(Pool(PoolSettings(threads=1, **settings)))
        return pools[-1]

    yield make
    async with asyncio.timeout(3):
        await asyncio.gather(*(pool.close() for pool in pools))


@pytest.fixture(scope="session")
def tiny_gguf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "tiny.gguf"
    write_tiny_gguf(path)
    return path


@pytest.fixture(scope="session")
def tiny_model(tiny_gguf: Path) -> Path:
    """A decoder directory made from ``tiny_gguf``."""
    output = tiny_gguf.parent / "model"
    import_gguf(tiny_gguf, output, lambda phase, done, total: None)
    return output


@pytest.fixture(scope="session")
def smollm_gguf() -> Path:
    path = os.environ.get(GGUF_VARIABLE)
    if not path or not Path(path).is_file():
        pytest.skip(f"{GGUF_VARIABLE} names no GGUF file; `make models` fetches SmolLM2")
    return Path(path)


@pytest.fixture(scope="session")
def smollm(smollm_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The decoder directory of SmolLM2-135M-Instruct."""
    output = tmp_path_factory.mktemp("smollm") / "model"
    import_gguf(smollm_gguf, output, lambda phase, done, total: None)
    return output


MODELS_VARIABLE = "DREAMER_TEST_MODELS"

GraphDir = Callable[..., Path]


@pytest.fixture
def graph_dir(tmp_path: Path) -> GraphDir:
    """Write directories of one ONNX graph of the given nodes, inputs and outputs."""

    def write(
        nodes: list[onnx.NodeProto],
        inputs: list[onnx.ValueInfoProto],
        outputs: list[onnx.ValueInfoProto],
        weights: list[onnx.TensorProto] | None = None,
        name: str = "graph",
    ) -> Path:
        graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, weights or [])
        opsets = [onnx.helper.make_opsetid("", 21), onnx.helper.make_opsetid("ai.onnx.ml", 3)]
        model = onnx.helper.make_model(graph, opset_imports=opsets, ir_version=10)
        directory = tmp_path / name
        directory.mkdir(exist_ok=True)
        (directory / "model.onnx").write_bytes(model.SerializeToString())
        return directory

    return write


def _small_model(name: str) -> Path:
    root = os.environ.get(MODELS_VARIABLE)
    if not root or not (Path(root) / name / "model.onnx").is_file():
        pytest.skip(f"{MODELS_VARIABLE} names no folder with {name}; `make models` fetches it")
    return Path(root) / name


@pytest.fixture(scope="session")
def minilm() -> Path:
    """all-MiniLM-L6-v2, a directory of sentence embeddings."""
    return _small_model("minilm")


@pytest.fixture(scope="session")
def magika() -> Path:
    """Magika's classifier of files: bytes in, scores out."""
    return _small_model("magika")


class Batching:
    """A loaded decoder's engine, driven step by step without a worker process."""

    def __init__(self, directory: Path, **options: Any) -> None:
        self.runner = DecoderRunner(
            directory, inspect_graph(directory), LoadOptions(**{"threads": 1, **options})
        )
        self.engine = self.runner.engine()
        self.told: dict[int, list[tuple[str, dict[str, Any]]]] = {}
        self._numbers = 0

    def ask(self, request: GenerateRequest) -> int:
        """Hand a request in and return its number."""
        self._numbers += 1
        self.engine.take(Frame("generate", self._numbers, request_fields(request)))
        return self._numbers

    def cancel(self, number: int) -> None:
        self.engine.take(Frame("cancel", number, {}))

    def step(self) -> None:
        for kind, number, fields in self.engine.step():
            self.told.setdefault(number, []).append((kind, fields))

    def finish(self) -> None:
        """Run until nothing is left to do."""
        self.step()
        while not self.engine.idle:
            self.step()

    def answer(self, request: GenerateRequest) -> list[int]:
        """Return the tokens of one request, all by itself."""
        number = self.ask(request)
        self.finish()
        return self.ids(number)

    def kinds(self, number: int) -> list[str]:
        return [kind for kind, _ in self.told.get(number, [])]

    def ids(self, number: int) -> list[int]:
        """Return the tokens that came for a request so far."""
        texts = [fields for kind, fields in self.told.get(number, []) if kind == "text"]
        return [token for fields in texts for token in fields["token_ids"]]

    def chosen(self, number: int) -> list[tuple[int, float]]:
        """Return the tokens and how likely each was, which tells of any bit that differs."""
        texts = [fields for kind, fields in self.told.get(number, []) if kind == "text"]
        told = [one for fields in texts for one in fields["logprobs"]]
        return [(one["token_id"], one["logprob"]) for one in told]

    def text(self, number: int) -> str:
        return "".join(f["text"] for kind, f in self.told[number] if kind == "text")

    def fields(self, number: int, kind: str) -> dict[str, Any]:
        """Return the last frame of a kind that came for a request."""
        return [fields for one, fields in self.told[number] if one == kind][-1]


@pytest.fixture(scope="session")
def batching() -> type[Batching]:
    return Batching


@pytest.fixture(scope="session")
def plain_model(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A decoder directory in Optimum's form, with the tokenizer of ``tiny_model``."""
    model = tmp_path_factory.mktemp("plain") / "model"
    (model / "onnx").mkdir(parents=True)
    for path in tiny_model.glob("*.json"):
        shutil.copy(path, model)
    (model / "onnx" / "model.onnx").write_bytes(plain_decoder().SerializeToString())
    return model
