"""What the batch keeps in memory: within its bounds, for prompts that begin alike, on a device."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.daemon.inference.batch import batch as batch_module
from dreamer.daemon.inference.batch import buffer, cache
from dreamer.daemon.inference.batch.batch import Batch
from dreamer.daemon.inference.batch.cache import SharedCache
from dreamer.daemon.inference.batch.engine import Engine
from dreamer.daemon.inference.batch.graph import DecoderGraph
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.protocol.inference_limits import PREFIX_BLOCK_TOKENS

SYSTEM = tuple(range(40, 40 + 2 * PREFIX_BLOCK_TOKENS + 6))


def ids(seed: int, count: int) -> tuple[int, ...]:
    return tuple(int(one) for one in np.random.default_rng(seed).integers(3, 256, count))


def ask(prompt: tuple[int, ...], max_tokens: int = 12) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, max_tokens=max_tokens, logprobs=0)


SHORT, LONG = SYSTEM + ids(50, 9), SYSTEM + ids(51, 70)


@pytest.fixture(scope="module", params=("tiny_model", "plain_model"))
def model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


def test_cache_on_a_device_is_bound_and_answers_the_same(
    model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The way of a GPU, as far as a CPU can go it: keys and values are ONNX Runtime's own."""
    for module in (buffer, cache):
        monkeypatch.setattr(module, "ort_device", lambda device: ("cpu", 0))
    monkeypatch.setattr(DecoderGraph, "cache_device", property(lambda graph: graph.device))
    batch = batching(model)
    prompts = [ids(seed, count) for seed, count in enumerate((5, 1, 2, 33, 64, 64))]
    expected = [batch.answer(ask(prompt, 20)) for prompt in prompts]
    graph = replace(batch.runner.graph, device="cuda:0")
    rows = Batch(graph, LoadOptions(slots=3, gpu_memory_bytes=2**24), 512)
    batch.engine = Engine(rows, batch.runner.description)
    numbers = [batch.ask(ask(prompt, 20)) for prompt in prompts]
    batch.finish()
    assert [batch.ids(number) for number in numbers] == expected
    # What ONNX Runtime writes in place on a device can't be copied out of it.
    assert (rows.prefix_bytes == 0) == graph.shares_cache


def test_keys_and_values_are_on_the_gpu_only_in_half_precision(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    graph = replace(batching(tiny_model).runner.graph, device="cuda:1")
    assert graph.cache_device == "cpu"
    halves = tuple(replace(one, element=np.float16) for one in graph.pasts)
    assert replace(graph, pasts=halves).cache_device == "cuda:1"


def test_no_memory_for_what_is_kept_fails_nothing(
    tiny_model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = batching(tiny_model).answer(ask(ids(6, 150)))
    monkeypatch.setattr(SharedCache, "copy_out", exhausted)
    batch = batching(tiny_model)
    assert batch.answer(ask(ids(6, 150))) == expected
    assert batch.runner.batch.prefix_bytes == 0


def test_no_memory_to_begin_with_is_told_to_that_request(
    tiny_model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batching(tiny_model)
    with monkeypatch.context() as broken:
        broken.setattr(SharedCache, "copy_in", exhausted)
        number = batch.ask(ask(ids(0, 5)))
        batch.finish()
    assert batch.fields(number, "error")["code"] == "local"
    assert len(batch.answer(ask(ids(0, 5)))) == 12


def test_shared_beginning_is_read_once_and_changes_nothing(
    model: Path, batching: Callable[..., Any]
) -> None:
    batch, fresh = batching(model), batching(model, prefix_cache_bytes=0)
    cached = []
    for prompt in (SYSTEM, SHORT, LONG, LONG):
        number = batch.ask(ask(prompt, 40))
        batch.finish()
        alone = fresh.ask(ask(prompt, 40))
        fresh.finish()
        assert batch.chosen(number) == fresh.chosen(alone)
        done = batch.fields(number, "done")
        assert done["prefilled"] + done["cached_tokens"] == len(prompt)
        cached.append(done["cached_tokens"])
    assert cached[0] == 0
    assert cached[1] == cached[2] == 2 * PREFIX_BLOCK_TOKENS
    assert cached[3] == (len(LONG) - 2) // PREFIX_BLOCK_TOKENS * PREFIX_BLOCK_TOKENS


def test_conversation_so_far_is_not_read_again(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    batch, fresh = batching(tiny_model), batching(tiny_model, prefix_cache_bytes=0)
    conversation = ids(3, 100)
    for turn in range(3):
        number = batch.ask(ask(conversation, 20))
        batch.finish()
        again = fresh.ask(ask(conversation, 20))
        fresh.finish()
        assert batch.chosen(number) == fresh.chosen(again)
        before = batch.fields(number, "done")["cached_tokens"]
        assert (before > 0) == (turn > 0)
        conversation = conversation + tuple(batch.ids(number)) + ids(60 + turn, 15)


def test_shared_beginning_is_there_while_its_first_reader_still_runs(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    batch = batching(tiny_model)
    first = batch.ask(ask(SHORT, 100))
    while not batch.ids(first):
        batch.step()
    second = batch.ask(ask(LONG, 5))
    batch.step()
    assert batch.fields(second, "begun")["cached_tokens"] == 2 * PREFIX_BLOCK_TOKENS
    assert "done" not in batch.kinds(first)


def test_prefix_bound_is_kept(tiny_model: Path, batching: Callable[..., Any]) -> None:
    batch = batching(tiny_model, prefix_cache_bytes=200_000)
    for seed in range(6):
        batch.answer(ask(ids(seed, 120), 2))
        assert 0 < batch.runner.batch.prefix_bytes <= 200_000


def test_request_waits_until_there_is_memory_for_its_longest_answer(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    per_token = batching(tiny_model).runner.graph.bytes_per_token
    batch = batching(tiny_model, memory_bytes=2 * 100 * per_token)
    small = [batch.ask(ask(ids(seed, 20), 20)) for seed in range(2)]
    large = batch.ask(ask(ids(2, 20), 50))
    batch.step()
    assert [batch.kinds(one)[:1] for one in (*small, large)] == [["begun"], ["begun"], []]
    batch.finish()
    assert len(batch.ids(large)) == 50
    refused = batch.ask(ask(ids(2, 101)))
    batch.finish()
    assert "room for 100" in batch.fields(refused, "error")["message"]


def test_reserved_memory_is_not_committed(
    tiny_model: Path, batching: Callable[..., Any], tmp_path: Path
) -> None:
    """A context of a million tokens in eight slots would be 16 GiB; it costs what is used."""
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["max_position_embeddings"] = 1_000_000
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    before = resident_bytes()
    batch = batching(tmp_path / "model", memory_bytes=2 * 2048 * 1_000_000)
    assert batch.runner.batch.capacity == 1_000_000
    batch.answer(ask(ids(7, 300), 10))
    assert resident_bytes() - before < 200 * 2**20


def test_system_that_reserves_only_what_it_has_gets_a_shorter_cache(
    tiny_model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shutil.copytree(tiny_model, tmp_path / "model")
    config = json.loads((tmp_path / "model" / "config.json").read_text())
    config["max_position_embeddings"] = 16_384
    (tmp_path / "model" / "config.json").write_text(json.dumps(config))
    reserve = buffer._reserve

    def strict(size_bytes: int) -> Any:
        if size_bytes > 40 * 2**20:
            raise OSError(12, "Cannot allocate memory")
        return reserve(size_bytes)

    monkeypatch.setattr(buffer, "_reserve", strict)
    batch = batching(tmp_path / "model")
    assert batch.runner.card()["context"] == 2048
    assert len(batch.answer(ask(ids(0, 5)))) == 12


def test_used_memory_is_given_back_when_nobody_asks(
    tiny_model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "BATCH_CACHE_KEPT_BYTES", 0)
    batch = batching(tiny_model)
    number = batch.ask(ask(ids(0, 5)))
    arrays = batch.runner.batch._cache._buffer.arrays
    batch.step()
    assert all(array.any() for array in arrays)
    batch.finish()
    # Pages that were given back read as zeros.
    assert not any(array.any() for array in arrays)
    again = batch.ask(ask(ids(0, 5)))
    batch.finish()
    assert batch.chosen(again) == batch.chosen(number)


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def exhausted(*_: object) -> None:
    raise MemoryError
