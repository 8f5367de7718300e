"""Sentence embeddings that fit in a few kilobytes: each word is its own vector, pooled by the mean.

In the layout of Sentence Transformers. The same words give the same vector, in whatever order.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper, save
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace

WORDS = ("[PAD]", "[UNK]", "red", "green", "blue", "black", "cat", "dog", "and", "the")
WIDTH = 8
CONTEXT = 32


def write_tiny_embedder(directory: Path) -> None:
    """Write the model's directory; always the same bytes."""
    directory.mkdir(parents=True)
    _write_graph(directory / "model.onnx")
    ids = {word: token_id for token_id, word in enumerate(WORDS)}
    tokenizer = Tokenizer(WordLevel(ids, unk_token=WORDS[1]))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.save(str(directory / "tokenizer.json"))
    modules = [("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize")]
    files = {
        "modules.json": [
            {"path": path, "type": f"sentence_transformers.models.{name}"} for name, path in modules
        ],
        "1_Pooling/config.json": {"pooling_mode_mean_tokens": True},
        "sentence_bert_config.json": {"max_seq_length": CONTEXT},
    }
    (directory / "1_Pooling").mkdir()
    for name, content in files.items():
        (directory / name).write_text(json.dumps(content), encoding="utf-8")


def _write_graph(path: Path) -> None:
    table = np.random.default_rng(7).normal(size=(len(WORDS), WIDTH)).astype(np.float32)
    # A runner that pools its padding is found out by it: it is far from everything else.
    table[0] = 1000.0
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    hidden = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", WIDTH]
    )
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    weights = [numpy_helper.from_array(table, "table")]
    graph = helper.make_graph(nodes, "tiny_embedder", inputs, [hidden], weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    save(model, path)
