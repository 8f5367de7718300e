"""Sentence embeddings of a graph small enough to work out by hand: each token is its own vector."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from tokenizers.processors import TemplateProcessing

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.graphs.embedding_runner import EmbeddingRunner
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest, Tensor
from dreamer.daemon.inference.worker.runner import Frame, open_runner
from dreamer.protocol.errors import ForbiddenError, InputError, StoppedError

GraphDir = Callable[..., Path]

WORDS = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "red", "green", "blue", "black"]
WIDTH = 4
TABLE = np.random.default_rng(7).normal(size=(len(WORDS), WIDTH)).astype(np.float32)
# A model that forgets the mask is found out by it: padding is far from everything else.
TABLE[0] = 1000.0
CONTEXT = 6

TEXTS = ("red", "green blue black red green blue black", "", "blue [UNK]")


def write_json(path: Path, content: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(content))


def module(name: str, path: str) -> dict[str, str]:
    return {"path": path, "type": f"sentence_transformers.models.{name}"}


@pytest.fixture
def directory(graph_dir: GraphDir) -> Path:
    """A model that looks each token up in a table and pools by the mean."""
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "sequence"])
        for name in ("input_ids", "attention_mask")
    ]
    hidden = helper.make_tensor_value_info(
        "last_hidden_state", TensorProto.FLOAT, ["batch", "sequence", WIDTH]
    )
    nodes = [helper.make_node("Gather", ["table", "input_ids"], ["last_hidden_state"])]
    weights = [numpy_helper.from_array(TABLE, "table")]
    made = graph_dir(nodes, inputs, [hidden], weights)
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    # What a file says of padding and cutting must not get in the way.
    tokenizer.enable_padding(length=99, pad_id=3)
    tokenizer.save(str(made / "tokenizer.json"))
    write_json(made / "modules.json", [module("Transformer", ""), module("Pooling", "1_Pooling")])
    write_json(made / "1_Pooling" / "config.json", {"pooling_mode_mean_tokens": True})
    write_json(made / "sentence_bert_config.json", {"max_seq_length": CONTEXT})
    return made


def opened(directory: Path) -> EmbeddingRunner:
    runner = open_runner(directory, LoadOptions(threads=1))
    assert isinstance(runner, EmbeddingRunner)
    return runner


def vectors(runner: EmbeddingRunner, *texts: str, **options: Any) -> np.ndarray[Any, Any]:
    embedded = runner.embed(EmbedRequest(texts, **options))
    return np.frombuffer(embedded.vectors.data, np.float32).reshape(embedded.vectors.shape)


def tokens(text: str) -> np.ndarray[Any, Any]:
    """Return the vectors of a text's tokens, cut as the model cuts them."""
    words = text.split()[: CONTEXT - 2]
    ids = [1, *(WORDS.index(word) if word in WORDS else 3 for word in words), 2]
    return TABLE[ids]


POOLED: dict[str, Callable[[np.ndarray[Any, Any]], Any]] = {
    "cls_token": lambda rows: rows[0],
    "lasttoken": lambda rows: rows[-1],
    "max_tokens": lambda rows: [max(column) for column in rows.T],
    "mean_tokens": lambda rows: [sum(column) / len(rows) for column in rows.T],
    "mean_sqrt_len_tokens": lambda rows: [sum(column) / len(rows) ** 0.5 for column in rows.T],
    "weightedmean_tokens": lambda rows: [
        sum(value * (place + 1) for place, value in enumerate(column))
        / sum(range(1, len(rows) + 1))
        for column in rows.T
    ],
}


@pytest.mark.parametrize("mode", POOLED)
def test_each_way_to_pool_is_right_whatever_it_is_batched_with(directory: Path, mode: str) -> None:
    write_json(directory / "1_Pooling" / "config.json", {f"pooling_mode_{mode}": True})
    found = vectors(opened(directory), *TEXTS)
    for text, vector in zip(TEXTS, found, strict=True):
        words = tokens(text.replace("[UNK]", "? UNK ?"))
        np.testing.assert_allclose(vector, POOLED[mode](words), rtol=1e-5, atol=1e-6)


def test_several_ways_to_pool_are_put_one_after_the_other(directory: Path) -> None:
    config = {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True}
    write_json(directory / "1_Pooling" / "config.json", config)
    runner = opened(directory)
    assert runner.card()["dimensions"] == 2 * WIDTH
    (found,) = vectors(runner, "red")
    expected = [*tokens("red")[0], *tokens("red").mean(axis=0)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_way_to_pool_may_be_named(directory: Path) -> None:
    write_json(directory / "1_Pooling" / "config.json", {"pooling_mode": "cls"})
    (found,) = vectors(opened(directory), "red")
    np.testing.assert_array_equal(found, TABLE[1])


def test_vectors_are_normalised_if_a_module_says_so(directory: Path) -> None:
    modules = [module(n, p) for n, p in (("Transformer", ""), ("Pooling", "1_Pooling"))]
    write_json(directory / "modules.json", [*modules, module("Normalize", "2_Normalize")])
    found = vectors(opened(directory), *TEXTS)
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1.0, rtol=1e-6)


def test_without_a_list_of_modules_the_folders_tell(directory: Path) -> None:
    (directory / "modules.json").unlink()
    (directory / "2_Normalize").mkdir()
    (found,) = vectors(opened(directory), "red")
    mean = tokens("red").mean(axis=0)
    np.testing.assert_allclose(found, mean / np.linalg.norm(mean), rtol=1e-6)


def test_card_tells_dimensions_and_context(directory: Path) -> None:
    card = opened(directory).card()
    assert (card["kind"], card["dimensions"], card["context"]) == ("embedding", WIDTH, CONTEXT)


def test_tokens_are_counted_without_padding(directory: Path) -> None:
    assert opened(directory).embed(EmbedRequest(("red", "red blue"))).prompt_tokens == 3 + 4


def test_too_long_a_text_is_refused_where_it_may_not_be_cut(directory: Path) -> None:
    runner = opened(directory)
    with pytest.raises(InputError, match=r"text 2 has about \d+ tokens, more than the 6"):
        runner.embed(EmbedRequest(("red", "red " * 20), truncate=False))
    assert len(vectors(runner, "red", "red " * 20)) == 2


def test_fewer_dimensions_are_normalised_anew(directory: Path) -> None:
    runner = opened(directory)
    (found,) = vectors(runner, "red", dimensions=2)
    first = tokens("red").mean(axis=0)[:2]
    np.testing.assert_allclose(found, first / np.linalg.norm(first), rtol=1e-6)
    with pytest.raises(InputError, match="has 4 dimensions, not 5"):
        runner.embed(EmbedRequest(("red",), dimensions=5))


def test_default_prompt_goes_before_each_text(directory: Path) -> None:
    prompts = {"prompts": {"query": "green "}, "default_prompt_name": "query"}
    write_json(directory / "config_sentence_transformers.json", prompts)
    np.testing.assert_array_equal(
        vectors(opened(directory), "red")[0], tokens("green red").mean(axis=0)
    )


def test_many_texts_come_back_in_their_order(directory: Path) -> None:
    texts = [" ".join(["red", "green", "blue"][: 1 + i % 3]) for i in range(5000)]
    runner = opened(directory)
    found = vectors(runner, *texts)
    for kind in range(3):
        alone = vectors(runner, texts[kind])[0]
        np.testing.assert_allclose(found[kind::3], np.tile(alone, (len(found[kind::3]), 1)))


def test_its_tensors_can_be_asked_for(directory: Path) -> None:
    runner = opened(directory)
    ids = np.array([[4, 5]], np.int64)
    inputs = tuple(
        Tensor(name, "INT64", (1, 2), ids.tobytes()) for name in ("input_ids", "attention_mask")
    )
    frame = Frame("infer", 1, channel.infer_fields(InferRequest(inputs)))
    kind, fields = runner.answer(frame)
    assert kind == "inferred"
    assert fields["outputs"] == [["last_hidden_state", "FP32", [1, 2, WIDTH]]]


def test_writing_text_is_refused(directory: Path) -> None:
    with pytest.raises(InputError, match="writes no text"):
        opened(directory).answer(Frame("generate", 1, {}))


def test_cancelled_request_stops_between_batches(directory: Path) -> None:
    frame = Frame("embed", 1, channel.embed_fields(EmbedRequest(("red",))))
    with pytest.raises(StoppedError):
        opened(directory).answer(frame, cancelled=lambda: True)


def test_graph_that_pools_itself_is_believed(graph_dir: GraphDir, directory: Path) -> None:
    inputs = [helper.make_tensor_value_info("input_ids", TensorProto.INT32, ["batch", "sequence"])]
    names = ("token_embeddings", "sentence_embedding")
    shapes = (["batch", "sequence", WIDTH], ["batch", WIDTH])
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in zip(names, shapes, strict=True)
    ]
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["token_embeddings"]),
        helper.make_node("ReduceMax", ["token_embeddings", "axis"], [names[1]], keepdims=0),
    ]
    weights = [
        numpy_helper.from_array(TABLE, "table"),
        numpy_helper.from_array(np.array([1]), "axis"),
    ]
    own = graph_dir(nodes, inputs, outputs, weights, name="own")
    (directory / "tokenizer.json").rename(own / "tokenizer.json")
    # Whatever comes after the transformer is inside the graph then.
    for modules in (None, [module("Transformer", ""), module("Dense", "2_Dense")]):
        if modules:
            write_json(own / "modules.json", modules)
        (found,) = vectors(opened(own), "red")
        np.testing.assert_array_equal(found, tokens("red").max(axis=0))


@pytest.mark.parametrize("place", ["../1_Pooling", "/etc", "a/../../b", "..\\x", "c:x", "x\0y"])
def test_folder_outside_the_directory_is_refused(directory: Path, place: str) -> None:
    write_json(directory / "modules.json", [module("Transformer", ""), module("Pooling", place)])
    with pytest.raises(ForbiddenError, match="outside its directory"):
        opened(directory)


def test_pooling_that_is_a_symbolic_link_is_refused(directory: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "elsewhere.json", {"pooling_mode_cls_token": True})
    config = directory / "1_Pooling" / "config.json"
    config.unlink()
    config.symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ForbiddenError, match="symbolic link"):
        opened(directory)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("modules.json", "{}", "not a list of modules"),
        ("modules.json", "[" * 100_000, "not a list of modules"),
        ("modules.json", json.dumps([module("Transformer", "")] * 1000), "not a list of modules"),
        ("modules.json", "[1]", "without type and path"),
        ("modules.json", json.dumps([module("Dense", "2_Dense")]), "Dense', which isn't supported"),
        ("1_Pooling/config.json", "{}", "no way to pool that is known"),
        ("1_Pooling/config.json", '{"pooling_mode": "magic"}', "no way to pool that is known"),
        ("1_Pooling/config.json", '{"pooling_mode": [[]]}', "no way to pool that is known"),
        ("1_Pooling/config.json", "\xff", "not a JSON object"),
        ("tokenizer.json", "{}", r"tokenizer\.json can't be read"),
        ("tokenizer.json", '{"model": {"type": "WordLevel", "vocab": []}}', "can't be read"),
    ],
)
def test_damaged_file_is_named(directory: Path, name: str, content: str, told: str) -> None:
    (directory / name).write_text(content)
    with pytest.raises(InputError, match=told):
        opened(directory)


def test_directory_without_a_word_of_pooling_takes_tensors(directory: Path) -> None:
    (directory / "modules.json").unlink()
    (directory / "1_Pooling" / "config.json").unlink()
    assert open_runner(directory, LoadOptions(threads=1)).card()["kind"] == "tensor"


def test_graph_that_wants_what_no_text_gives_is_refused(
    graph_dir: GraphDir, directory: Path
) -> None:
    names = ("input_ids", "pixel_values")
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["b", "s"]) for name in names]
    outputs = [helper.make_tensor_value_info("last_hidden_state", TensorProto.INT64, ["b", "s"])]
    node = helper.make_node("Add", list(names), ["last_hidden_state"])
    graph_dir([node], inputs, outputs)
    with pytest.raises(InputError, match="input 'pixel_values', which no text gives"):
        opened(directory)
