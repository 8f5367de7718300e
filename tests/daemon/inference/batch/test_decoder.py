"""A decoder directory answers: greedy, to the token, from files as the store lays them out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.worker.formats import inspect_graph
from dreamer.daemon.inference.worker.session import load_from_memory, open_session, providers
from dreamer.protocol.errors import InputError, LocalError

PROMPT = "the world and the word"
GOLDEN = {
    "What is 2+2?": "The answer to this classic math problem is 4.",
    "What is the capital of Japan?": "The capital of Japan is Tokyo.",
    "Write a haiku about rain.": "In the heart of the night, a gentle rain",
    "Give me one tip for learning a new language.": "One tip that can help you learn a new "
    "language is to immerse yourself in the language.",
}


Open = Callable[..., Any]


@pytest.fixture(scope="module")
def decoder(tiny_model: Path, batching: Open) -> Any:
    return batching(tiny_model, threads=2)


def ask(
    max_tokens: int = 12, so_far: tuple[int, ...] = (), prompt: str = PROMPT
) -> GenerateRequest:
    return GenerateRequest(prompt=prompt, max_tokens=max_tokens, token_ids_so_far=so_far)


def prompt_ids(decoder: Any) -> list[int]:
    return encode_prompt(ask(), decoder.runner.description)


def test_answer_is_what_the_reference_finds_likeliest(
    decoder: Any, tiny_gguf: Path, llama_reference: Any
) -> None:
    prompt, answer = prompt_ids(decoder), decoder.answer(ask(4))
    logits = llama_reference(tiny_gguf).logits([*prompt, *answer])
    for position, token in enumerate(answer, start=len(prompt) - 1):
        # Level 4 moves logits a little: the choice may be a close second.
        assert logits[position].max() - logits[position][token] < 0.2


def test_events_come_in_order_and_add_up(tiny_model: Path, batching: Open) -> None:
    decoder = batching(tiny_model)
    number = decoder.ask(ask(12))
    decoder.finish()
    tokens = len(prompt_ids(decoder))
    assert decoder.told[number][:2] == [
        ("begun", {"prompt_tokens": tokens, "cached_tokens": 0}),
        ("prefilled", {"tokens": tokens}),
    ]
    assert decoder.kinds(number)[2:] == ["text"] * 12 + ["done"]
    done = decoder.fields(number, "done")
    assert (done["finish_reason"], done["completion_tokens"]) == ("length", 12)
    assert (done["prefilled"], done["decoded"]) == (tokens, 11)


def test_same_request_gives_the_same_answer(decoder: Any) -> None:
    assert decoder.answer(ask()) == decoder.answer(ask())


def test_tokens_so_far_are_continued(decoder: Any) -> None:
    whole = decoder.ask(ask(12))
    decoder.finish()
    ids = decoder.ids(whole)
    rest = decoder.ask(ask(12, so_far=tuple(ids[:5])))
    decoder.finish()
    assert decoder.ids(rest) == ids[5:]
    assert decoder.text(whole).endswith(decoder.text(rest))
    assert decoder.fields(rest, "done")["completion_tokens"] == 12


def test_end_token_stops_the_answer(
    decoder: Any, tiny_model: Path, tmp_path: Path, batching: Open
) -> None:
    ids = decoder.answer(ask(12))
    end = next(one for at, one in enumerate(ids) if at >= 3 and one not in ids[:at])
    shutil.copytree(tiny_model, tmp_path / "model")
    change_config(tmp_path / "model", eos_token_id=end)
    other = batching(tmp_path / "model", threads=2)
    number = other.ask(ask(12))
    other.finish()
    assert other.ids(number) == ids[: ids.index(end)]
    assert other.fields(number, "done")["finish_reason"] == "stop"


def change_config(model: Path, **changes: object) -> None:
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, **changes}))


def test_answer_stops_where_the_context_ends(
    tiny_model: Path, tmp_path: Path, batching: Open
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    change_config(tmp_path / "model", max_position_embeddings=48)
    decoder = batching(tmp_path / "model")
    number = decoder.ask(ask(400))
    decoder.finish()
    done = decoder.fields(number, "done")
    assert done["prompt_tokens"] + done["completion_tokens"] == 48


def test_prompt_longer_than_the_context_is_refused(decoder: Any) -> None:
    number = decoder.ask(ask(prompt="1" * 600))
    decoder.finish()
    assert "shorten the prompt" in decoder.fields(number, "error")["message"]


def test_long_prompt_is_read_in_chunks(decoder: Any) -> None:
    number = decoder.ask(ask(2, prompt="1" * 300))
    decoder.finish()
    read = [fields["tokens"] for kind, fields in decoder.told[number] if kind == "prefilled"]
    assert read[0] == 256
    assert len(read) == 2


def test_card_says_what_the_model_is(decoder: Any) -> None:
    card = decoder.runner.card()
    assert (card["kind"], card["slots"], card["context"]) == ("decoder", 8, 512)
    assert card["device"] == "cpu"
    assert "add_generation_prompt" in card["template"]
    assert card["config"]["model_type"] == "llama"


def test_device_that_is_not_there_is_refused(tiny_model: Path, batching: Open) -> None:
    with pytest.raises(LocalError, match="device cpu"):
        batching(tiny_model, device="cuda:0")
    with pytest.raises(LocalError, match="no device 'tpu'"):
        batching(tiny_model, device="tpu")


def test_gpu_is_named_with_its_index_and_its_memory_bound() -> None:
    first, second = providers(LoadOptions(device="cuda:3", gpu_memory_bytes=5))
    assert first[0] == "CUDAExecutionProvider"
    assert isinstance(first, tuple)
    assert (first[1]["device_id"], first[1]["gpu_mem_limit"]) == (3, 5)
    assert second == "CPUExecutionProvider"


def test_hard_linked_read_only_files_are_run_in_place(
    decoder: Any, tiny_model: Path, tmp_path: Path, batching: Open
) -> None:
    """A model directory is hard links to stored files; nothing is copied or written."""
    link_like_a_store(tiny_model, tmp_path / "store", tmp_path / "model")
    linked = batching(tmp_path / "model", threads=2)
    assert linked.answer(ask()) == decoder.answer(ask())
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
    graph, options = inspect_graph(tmp_path / "model"), LoadOptions(threads=2)
    with pytest.raises(onnx.checker.ValidationError, match="hard link"):
        onnx.load_model(graph.path)
    sessions = [open_session(graph, options), load_from_memory(graph, options)]
    feeds = {"input_ids": np.array([[5, 6, 7]]), "attention_mask": np.ones((1, 3), np.int64)}
    for layer in range(2):
        for part in ("key", "value"):
            empty = np.zeros((1, 2, 0, 64), np.float32)
            feeds[f"past_key_values.{layer}.{part}"] = empty
    logits = [session.run(["logits"], feeds)[0] for session in sessions]
    assert np.array_equal(*logits)


def test_truncated_weights_are_refused(tiny_model: Path, tmp_path: Path, batching: Open) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    data = tmp_path / "model" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[:-1000])
    with pytest.raises(InputError, match="damaged"):
        batching(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_missing_file_is_named(tiny_model: Path, tmp_path: Path, name: str, batching: Open) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / name).unlink()
    with pytest.raises(InputError, match=name):
        batching(tmp_path / "model")


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json"])
def test_damaged_json_is_named(tiny_model: Path, tmp_path: Path, name: str, batching: Open) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    (tmp_path / "model" / name).write_text('{"model": [')
    with pytest.raises(InputError, match=name):
        batching(tmp_path / "model")


def test_graph_that_is_no_decoder_is_refused(
    tiny_model: Path, tmp_path: Path, batching: Open
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    other = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    (tmp_path / "model" / "model.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match="not a decoder"):
        batching(tmp_path / "model")


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


def test_optimum_style_graph_is_bound_by_name(
    tiny_model: Path, tmp_path: Path, batching: Open
) -> None:
    model = tmp_path / "model"
    (model / "onnx").mkdir(parents=True)
    for path in tiny_model.glob("*.json"):
        shutil.copy(path, model)
    change_config(model, num_attention_heads=2, num_key_value_heads=2, head_dim=4)
    (model / "onnx" / "model.onnx").write_bytes(counting_decoder(300).SerializeToString())
    decoder = batching(model)
    first = len(prompt_ids(decoder))
    assert decoder.answer(ask(5)) == list(range(first, first + 5))


@pytest.mark.model
@pytest.mark.parametrize(("prompt", "beginning"), GOLDEN.items())
def test_smollm_answers_golden_prompts_in_english(
    smollm: Path, prompt: str, beginning: str, batching: Open
) -> None:
    decoder = batching(smollm, threads=2)
    number = decoder.ask(ask(24, prompt=prompt))
    decoder.finish()
    assert decoder.text(number).startswith(beginning)


@pytest.mark.model
def test_smollm_answers_golden_prompts_together_as_alone(smollm: Path, batching: Open) -> None:
    alone = batching(smollm, threads=2, slots=1, prefix_cache_bytes=0)
    expected = [alone.answer(ask(40, prompt=prompt)) for prompt in GOLDEN]
    together = batching(smollm, threads=2)
    numbers = [together.ask(ask(40, prompt=prompt)) for prompt in (*GOLDEN, *GOLDEN)]
    together.finish()
    assert [together.ids(number) for number in numbers] == expected * 2
