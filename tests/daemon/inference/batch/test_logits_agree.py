"""The imported graph computes what the GGUF's weights say: against plain numpy, by KL divergence.

Level 0 (fp32 activations) must agree to rounding; level 4 (int8, what is shipped) to 0.01.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from gguf import GGMLQuantizationType as Kind
from tokenizers import Tokenizer

from dreamer.daemon.inference.batch.cache import open_cache
from dreamer.daemon.inference.batch.graph import DecoderGraph
from dreamer.daemon.inference.batch.runner import DecoderRunner
from dreamer.daemon.inference.gguf import import_gguf
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.worker.formats import inspect_graph
from dreamer.simulations.tiny_model import write_tiny_gguf

KL_MAX = 0.01
KL_OF_ROUNDING = 1e-6

Array = np.ndarray[Any, np.dtype[Any]]

TEXTS = (
    "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face"
    "<|im_end|>\n<|im_start|>user\nWhat is the capital of Japan?<|im_end|>\n"
    "<|im_start|>assistant\nThe capital of Japan is Tokyo.",
    "The history of the railway begins in the sixteenth century, when wooden tracks were laid in "
    "German mines so that carts could be pushed more easily. By the early nineteenth century, "
    "steam engines had become light enough to move themselves, and the first public lines were "
    "opened in England. Within fifty years the network reached every large town.",
    'def fibonacci(n: int) -> int:\n    """Return the n-th Fibonacci number."""\n    a, b = 0, 1\n'
    "    for _ in range(n):\n        a, b = b, a + b\n    return a\n",
)


def kl_divergence(reference: Array, measured: Array) -> float:
    """Return the mean over positions of KL(reference ‖ measured), in nats."""
    expected, found = _log_softmax(reference), _log_softmax(measured)
    return float((np.exp(expected) * (expected - found)).sum(-1).mean())


def _log_softmax(logits: Array) -> Array:
    shifted = logits.astype(np.float64) - logits.max(-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))


def prefill_logits(model: Path, ids: list[int]) -> Array:
    """All at once, without a cache before it."""
    graph = loaded(model)
    feeds: dict[str, Array] = {
        "input_ids": np.array([ids], np.int64),
        "attention_mask": np.ones((1, len(ids)), np.int64),
    }
    for past in graph.pasts:
        feeds[past.name] = np.zeros((1, past.heads, 0, past.size), past.element)
    return np.asarray(graph.session.run(["logits"], feeds)[0])[0]


def decode_logits(model: Path, ids: list[int]) -> Array:
    """One token at a time, through the cache."""
    cache = open_cache(loaded(model), 1, len(ids))
    return np.stack([cache.decode([one], [past])[0].copy() for past, one in enumerate(ids)])


def loaded(model: Path) -> DecoderGraph:
    return DecoderRunner(model, inspect_graph(model), LoadOptions(threads=2)).graph


def at_level_0(model: Path, copy: Path) -> Path:
    """Return a copy of a model whose products keep fp32 activations."""
    shutil.copytree(model, copy)
    graph = onnx.load_model(copy / "model.onnx", load_external_data=False)
    for node in graph.graph.node:
        for attribute in node.attribute:
            if attribute.name == "accuracy_level":
                attribute.i = 0
    (copy / "model.onnx").write_bytes(graph.SerializeToString())
    return copy


def tiny_ids() -> list[int]:
    return [int(one) for one in np.random.default_rng(1).integers(3, 256, 40)]


@pytest.mark.parametrize("kind", ["F32", "F16", "BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"])
def test_every_type_agrees_with_the_reference(
    kind: str, tmp_path: Path, llama_reference: Any
) -> None:
    source, model = tmp_path / "model.gguf", tmp_path / "model"
    write_tiny_gguf(source, matrices=Kind[kind], embedding=Kind[kind], tied=kind != "Q4_0")
    import_gguf(source, model, lambda phase, done, total: None)
    expected = llama_reference(source).logits(tiny_ids())
    exact = at_level_0(model, tmp_path / "exact")
    assert kl_divergence(expected, prefill_logits(exact, tiny_ids())) < KL_OF_ROUNDING
    assert kl_divergence(expected, decode_logits(model, tiny_ids())) < KL_MAX


def test_seeds_make_different_models(tmp_path: Path, tiny_gguf: Path) -> None:
    write_tiny_gguf(tmp_path / "same.gguf")
    write_tiny_gguf(tmp_path / "other.gguf", seed=1)
    assert (tmp_path / "same.gguf").read_bytes() == tiny_gguf.read_bytes()
    assert (tmp_path / "other.gguf").read_bytes() != tiny_gguf.read_bytes()


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
def test_prefill_in_chunks_is_the_same_to_the_bit(kind: str, tmp_path: Path) -> None:
    write_tiny_gguf(tmp_path / "model.gguf", matrices=Kind[kind])
    import_gguf(tmp_path / "model.gguf", tmp_path / "model", lambda phase, done, total: None)
    graph, ids = loaded(tmp_path / "model"), random_ids(300)
    whole = open_cache(graph, 1, 320).read(0, ids, 0)
    for size in (2, 3, 4, 8, 13, 16, 64, 149, 256, 298):
        cache, past = open_cache(graph, 2, 512), 0
        while past < len(ids):
            # A single token is read in another way: none is left over.
            end = len(ids) if len(ids) - past - size == 1 else past + size
            logits = cache.read(1, ids[past:end], past)
            past += len(ids[past:end])
        assert np.array_equal(logits, whole), size


@pytest.mark.parametrize("kind", ["Q4_1", "Q8_0", "F32"])
def test_rows_of_a_batched_step_are_those_of_single_steps_to_the_bit(
    kind: str, tmp_path: Path
) -> None:
    write_tiny_gguf(tmp_path / "model.gguf", matrices=Kind[kind])
    import_gguf(tmp_path / "model.gguf", tmp_path / "model", lambda phase, done, total: None)
    graph = loaded(tmp_path / "model")
    lengths = [3, 290, 17, 64, 5, 130, 2, 41]
    cache = open_cache(graph, 8, 320)
    for place, length in enumerate(lengths):
        cache.read(place, random_ids(length), 0)
    for rows in (8, 5, 3, 2):
        tokens = random_ids(rows)
        batched = cache.decode(tokens, lengths[:rows]).copy()
        for place in range(rows):
            single = open_cache(graph, 1, 320)
            single.copy_in(0, [cache.copy_out(place, 0, lengths[place])])
            assert np.array_equal(
                batched[place], single.decode([tokens[place]], [lengths[place]])[0]
            )


def random_ids(count: int) -> list[int]:
    return [int(one) for one in np.random.default_rng(count).integers(3, 256, count)]


def test_bare_onnxruntime_runs_the_graph_with_a_growing_cache(tiny_model: Path) -> None:
    """What Optimum does: every past empty, the mask as long as the tokens."""
    ids = tiny_ids()
    session = onnxruntime.InferenceSession(
        str(tiny_model / "model.onnx"), providers=["CPUExecutionProvider"]
    )
    past = {
        one.name: np.zeros((1, one.shape[1], 0, one.shape[3]), np.float32)
        for one in session.get_inputs()
        if one.name.startswith("past_key_values.")
    }
    feeds = {"input_ids": np.array([ids]), "attention_mask": np.ones((1, 40), np.int64)}
    logits, *present = session.run(None, feeds | past)
    shared = open_cache(loaded(tiny_model), 1, 64).read(0, ids, 0)
    assert np.array_equal(logits[0][-1], shared)
    assert {one.shape for one in present} == {(1, 2, 40, 64)}


@pytest.mark.model
@pytest.mark.timeout(300)
def test_smollm_agrees_with_its_dequantised_weights(
    smollm_gguf: Path, smollm: Path, tmp_path: Path, llama_reference: Any
) -> None:
    tokenizer = Tokenizer.from_file(str(smollm / "tokenizer.json"))
    texts = [tokenizer.encode(text, add_special_tokens=False).ids for text in TEXTS]
    reference = llama_reference(smollm_gguf)
    expected = np.concatenate([reference.logits(ids) for ids in texts])
    exact = at_level_0(smollm, tmp_path / "exact")
    kl = {
        "level 0, prefill": _kl(expected, [prefill_logits(exact, ids) for ids in texts]),
        "level 4, prefill": _kl(expected, [prefill_logits(smollm, ids) for ids in texts]),
        "level 4, decode": _kl(expected, [decode_logits(smollm, ids) for ids in texts]),
    }
    print(f"\nKL over {len(expected)} positions: {kl}")
    assert kl["level 0, prefill"] < KL_OF_ROUNDING
    assert max(kl.values()) <= KL_MAX


def _kl(expected: Array, measured: list[Array]) -> float:
    return kl_divergence(expected, np.concatenate(measured))
