"""A decoder directory answers: greedy, to the token, from files as the store lays them out."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dreamer.daemon.inference.channel import Done
from dreamer.daemon.inference.decoder import Begun, Decoder, Prefilled, Step
from dreamer.daemon.inference.formats import inspect_decoder
from dreamer.daemon.inference.requests import GenerateRequest, Message, Text
from dreamer.daemon.inference.session import load_from_memory, open_session
from dreamer.protocol.errors import InputError

PROMPT = "the world and the word"
GOLDEN = {
    "What is 2+2?": "The answer to this classic math problem is 4.",
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "Write a haiku about rain.": "In the heart of the night, a gentle rain",
    "Give me one tip for learning a new language.": "One tip that can help you learn a new "
    "language is to immerse yourself in the language.",
}


@pytest.fixture(scope="module")
def decoder(tiny_model: Path) -> Decoder:
    return Decoder(tiny_model, threads=2)


def ask(
    max_tokens: int = 12, so_far: tuple[int, ...] = (), prompt: str = PROMPT
) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, max_tokens=max_tokens, token_ids_so_far=so_far)


def ids_of(steps: list[Step]) -> tuple[int, ...]:
    return tuple(one for step in steps if isinstance(step, Text) for one in step.token_ids)


def text_of(steps: list[Step]) -> str:
    return "".join(step.text for step in steps if isinstance(step, Text))


def test_answer_is_what_the_reference_finds_likeliest(
    decoder: Decoder, tiny_gguf: Path, llama_reference: Any
) -> None:
    prompt = decoder.prompt_ids((Message("user", PROMPT),))
    answer = ids_of(list(decoder.generate(ask(4))))
    logits = llama_reference(tiny_gguf).logits([*prompt, *answer])
    for position, token in enumerate(answer, start=len(prompt) - 1):
        # Level 4 moves logits a little: the choice may be a close second.
        assert logits[position].max() - logits[position][token] < 0.2


def test_events_come_in_order_and_add_up(decoder: Decoder) -> None:
    steps = list(decoder.generate(ask(12)))
    prompt_tokens = len(decoder.prompt_ids((Message("user", PROMPT),)))
    assert steps[:2] == [Begun(prompt_tokens), Prefilled(prompt_tokens)]
    done = steps[-1]
    assert isinstance(done, Done)
    assert (done.finish_reason, done.completion_tokens) == ("length", 12)
    assert (done.prefilled, done.decoded) == (prompt_tokens, 11)
    assert len(ids_of(steps)) == 12


def test_same_request_gives_the_same_answer(decoder: Decoder) -> None:
    assert ids_of(list(decoder.generate(ask()))) == ids_of(list(decoder.generate(ask())))


def test_tokens_so_far_are_continued(decoder: Decoder) -> None:
    whole = list(decoder.generate(ask(12)))
    ids = ids_of(whole)
    rest = list(decoder.generate(ask(12, so_far=ids[:5])))
    assert ids_of(rest) == ids[5:]
    assert text_of(whole).endswith(text_of(rest))
    done = rest[-1]
    assert isinstance(done, Done)
    assert done.completion_tokens == 12


def test_end_token_stops_the_answer(decoder: Decoder, tiny_model: Path, tmp_path: Path) -> None:
    ids = ids_of(list(decoder.generate(ask(12))))
    end = next(one for at, one in enumerate(ids) if at >= 3 and one not in ids[:at])
    shutil.copytree(tiny_model, tmp_path / "model")
    change_config(tmp_path / "model", eos_token_id=end)
    steps = list(Decoder(tmp_path / "model", threads=2).generate(ask(12)))
    assert ids_of(steps) == ids[: ids.index(end)]
    assert isinstance(steps[-1], Done)
    assert steps[-1].finish_reason == "stop"


def change_config(model: Path, **changes: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))


def test_cancelled_generation_ends_without_an_end(decoder: Decoder) -> None:
    steps: list[Step] = []
    steps.extend(decoder.generate(ask(400), lambda: len(ids_of(steps)) >= 3))
    assert len(ids_of(steps)) == 3
    assert not isinstance(steps[-1], Done)


def test_answer_stops_where_the_context_ends(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    change_config(tmp_path / "model", max_position_embeddings=48)
    decoder = Decoder(tmp_path / "model", threads=2)
    done = list(decoder.generate(ask(400)))[-1]
    assert isinstance(done, Done)
    assert done.prompt_tokens + done.completion_tokens == 48


def test_prompt_longer_than_the_context_is_refused(decoder: Decoder) -> None:
    with pytest.raises(InputError, match="shorten the prompt"):
        list(decoder.generate(ask(prompt="1" * 600)))


def test_long_prompt_is_read_in_chunks(decoder: Decoder) -> None:
    steps = list(decoder.generate(ask(2, prompt="1" * 300)))
    read = [step.tokens for step in steps if isinstance(step, Prefilled)]
    assert read[0] == 256
    assert len(read) == 2


def test_hard_linked_read_only_files_are_run_in_place(
    decoder: Decoder, tiny_model: Path, tmp_path: Path
) -> None:
    """A model directory is hard links to stored files; nothing is copied or written."""
    link_like_a_store(tiny_model, tmp_path / "store", tmp_path / "model")
    linked = Decoder(tmp_path / "model", threads=2)
    assert ids_of(list(linked.generate(ask()))) == ids_of(list(decoder.generate(ask())))
    assert {path.name for path in (tmp_path / "model").iterdir()} == {
        path.name for path in tiny_model.iterdir()
    }


def link_like_a_store(model: Path, store: Path, directory: Path) -> None:
    shutil.copytree(model, store)
    directory.mkdir()
    for path in store.iterdir():
        path.chmod(0o444)
        os.link(path, directory / path.name)


def test_weights_from_memory_give_the_same_logits(tiny_model: Path, tmp_path: Path) -> None:
    """The way round a runtime that refuses hard links as the onnx package does."""
    link_like_a_store(tiny_model, tmp_path / "store", tmp_path / "model")
    graph = inspect_decoder(tmp_path / "model")
    with pytest.raises(onnx.checker.ValidationError, match="hard link"):
        onnx.load_model(graph.path)
    sessions = [open_session(graph, 2), load_from_memory(graph, 2)]
    feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), np.int64)}
    for layer in range(2):
        for part in ("key", "value"):
            empty = np.zeros((1, 2, 0, 64), np.float32)
            feeds[f"past_key_values.{layer}.{part}"] = empty
    logits = [session.run(["logits"], feeds)[0] for session in sessions]
    assert np.array_equal(*logits)


def test_truncated_weights_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    data = tmp_path / "model" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        Decoder(tmp_path / "model", threads=1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_file_is_named(tiny_model: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(InputError, match=name):
        Decoder(tmp_path / "model", threads=1)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json_is_named(tiny_model: Path, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / name).write_text('{"model": [')
    with pytest.raises(InputError, match=name):
        Decoder(tmp_path / "model", threads=1)


def test_graph_that_is_no_decoder_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    (tmp_path / "model" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a decoder"):
        Decoder(tmp_path / "model", threads=1)


def counting_decoder(vocabulary: int) -> onnx.ModelProto:
    """A decoder in Optimum's style: position_ids, a concatenated cache, a symbolic head size.

    Its likeliest token is the number of tokens in the cache, so the answer proves that cache,
    mask and positions grew as they should.
    """
    nodes = [
        helper.make_node("Unsqueeze", ["position_ids", "axes"], ["p3"]),
        helper.make_node("Cast", ["p3"], ["p"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["p", "axes4"], ["new"]),
        helper.make_node("Expand", ["new", "shape"], ["news"]),
        helper.make_node("Concat", ["past_key_values.0.key", "news"], ["present.0.key"], axis=2),
        helper.make_node(
            "Concat", ["past_key_values.0.value", "news"], ["present.0.value"], axis=2
        ),
        helper.make_node("Shape", ["present.0.key"], ["length"], start=2, end=3),
        helper.make_node("OneHot", ["length", "depth", "values"], ["row"]),
        helper.make_node("Unsqueeze", ["row", "axis0"], ["last"]),
        helper.make_node("ReduceSum", ["attention_mask"], ["seen"], keepdims=0),
        helper.make_node("Cast", ["seen"], ["seen.f"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["last", "seen.f"], ["logits"]),
    ]
    constants = {"axes": [2], "axes4": [1], "axis0": [0], "depth": vocabulary}
    initializers = [
        onnx.numpy_helper.from_array(np.array(value, np.int64), name)
        for name, value in {**constants, "shape": [1, 2, 1, 4]}.items()
    ]
    initializers.append(onnx.numpy_helper.from_array(np.array([0, 1], np.float32), "values"))
    integers = ("input_ids", "attention_mask", "position_ids")
    inputs = [
        helper.make_tensor_value_info(one, TensorProto.INT64, ["b", None]) for one in integers
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, None)]
    for part in ("key", "value"):
        shape = ["b", 2, None, "head_dim"]
        past = f"past_key_values.0.{part}"
        inputs.append(helper.make_tensor_value_info(past, TensorProto.FLOAT, shape))
        present = f"present.0.{part}"
        outputs.append(helper.make_tensor_value_info(present, TensorProto.FLOAT, shape))
    graph = helper.make_graph(nodes, "counting", inputs, outputs, initializers)
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def test_optimum_style_graph_is_bound_by_name(tiny_model: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    (model / "onnx").mkdir(parents=True)
    for path in tiny_model.glob("*.json"):
        shutil.copy(path, model)
    change_config(model, num_attention_heads=2, num_key_value_heads=2, head_dim=4)
    (model / "onnx" / "model.onnx").write_bytes(counting_decoder(300).SerializeToString())
    decoder = Decoder(model, threads=1)
    steps = list(decoder.generate(ask(5)))
    assert isinstance(steps[0], Begun)
    first = steps[0].prompt_tokens
    assert ids_of(steps) == tuple(range(first, first + 5))


@pytest.mark.model
@pytest.mark.parametrize(("prompt", "beginning"), GOLDEN.items())
def test_smollm_answers_golden_prompts_in_english(
    smollm: Path, prompt: str, beginning: str
) -> None:
    steps = list(Decoder(smollm, threads=2).generate(ask(24, prompt=prompt)))
    assert text_of(steps).startswith(beginning)
