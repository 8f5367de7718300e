"""Models to test with, and an evaluation of a Llama GGUF that shares no code with the import."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from dreamer.daemon.inference.gguf import import_gguf
from dreamer.simulations.tiny_model import write_tiny_gguf

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
