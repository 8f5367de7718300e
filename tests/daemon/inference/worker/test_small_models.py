"""Real models from packages (``make models``), beside what ONNX Runtime alone makes of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from tokenizers import Tokenizer

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest, Tensor

pytestmark = pytest.mark.model

MakePool = Callable[..., Pool]

TEXTS = (
    "A man is eating food.",
    "A man is eating a piece of bread.",
    "The girl is carrying a baby.",
    "Ein Mann isst etwas, 日本語も.",
    "",
    "word " * 1000,
)


def reference(directory: Path, text: str) -> np.ndarray[Any, Any]:
    """Embed one text alone: unpadded, the mean of its tokens, of length 1."""
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(256)
    ids = np.array([tokenizer.encode(text).ids], np.int64)
    session = onnxruntime.InferenceSession(
        directory / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (hidden,) = session.run(
        None,
        {
            "input_ids": ids,
            "attention_mask": np.ones_like(ids),
            "token_type_ids": np.zeros_like(ids),
        },
    )
    mean = hidden[0].mean(axis=0)
    return np.asarray(mean / np.linalg.norm(mean))


async def test_minilm_embeds_as_the_reference_does(make_pool: MakePool, minilm: Path) -> None:
    pool = make_pool()
    embedded = await pool.embed(minilm, "minilm", EmbedRequest(TEXTS))
    vectors = np.frombuffer(embedded.vectors.data, np.float32).reshape(embedded.vectors.shape)
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(vector, reference(minilm, text), atol=2e-6)
    likeness = vectors @ vectors.T
    assert likeness[0, 1] > 0.7 > 0.2 > likeness[0, 2]
    signature = await pool.signature(minilm, "minilm")
    assert (signature.kind, signature.dimensions, signature.context) == ("embedding", 384, 256)


async def test_magika_scores_as_the_reference_does(make_pool: MakePool, magika: Path) -> None:
    pool = make_pool()
    signature = await pool.signature(magika, "magika")
    (given,) = signature.inputs
    assert (signature.kind, given.datatype, given.shape) == ("tensor", "INT32", (-1, 2048))
    files = np.random.default_rng(2).integers(0, 257, (5, 2048), np.int32)
    tensor = Tensor(given.name, "INT32", files.shape, files.tobytes())
    answer = await pool.infer(magika, "magika", InferRequest((tensor,)))
    session = onnxruntime.InferenceSession(
        magika / "model.onnx", providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {given.name: files})
    (output,) = answer.outputs
    found = np.frombuffer(output.data, np.float32).reshape(output.shape)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
