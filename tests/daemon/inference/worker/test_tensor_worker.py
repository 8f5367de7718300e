"""Tensors and embeddings through real worker processes: large, broken, hostile, abandoned."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.tensors import EmbedRequest, Inferred, InferRequest, Tensor
from dreamer.protocol.errors import DreamerError, InputError, LocalError
from dreamer.protocol.limits import GIB, MIB
from dreamer.simulations.tiny_embedder import write_tiny_embedder

GraphDir = Callable[..., Path]
MakePool = Callable[..., Pool]
Array = np.ndarray[Any, Any]

DEADLINE_S = 30.0


@pytest.fixture
def doubler(graph_dir: GraphDir) -> Path:
    """Doubles vectors of any length."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n"]) for name in ("x", "y"))
    return graph_dir([helper.make_node("Add", ["x", "x"], ["y"])], [x], [y], name="doubler")


@pytest.fixture
def filler(graph_dir: GraphDir) -> Path:
    """Makes zeros of the shape that it is given."""
    x = helper.make_tensor_value_info("x", TensorProto.INT64, ["n"])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    return graph_dir([helper.make_node("ConstantOfShape", ["x"], ["y"])], [x], [y], name="filler")


async def infer(pool: Pool, model: Path, array: Array, datatype: str = "FP32") -> Array:
    request = InferRequest((Tensor("x", datatype, array.shape, array.tobytes()),))
    async with asyncio.timeout(DEADLINE_S):
        answer = await pool.infer(model, model.name, request)
    (output,) = answer.outputs
    return np.frombuffer(output.data, np.float32).reshape(output.shape)


def areas() -> list[str]:
    """Return the shared memory that this process has open."""
    found = []
    for one in Path("/proc/self/fd").iterdir():
        try:
            found.append(str(one.readlink()))
        except OSError:
            continue
    return [one for one in found if "dreamer-tensors" in one]


async def test_tensors_of_all_sizes_go_through_side_by_side(
    make_pool: MakePool, doubler: Path
) -> None:
    pool = make_pool()
    random = np.random.default_rng(1)
    sizes = [0, 1, 100, 20_000, 70_000, 1_000_000, 3, 2_000_000, 400_000, 16_384, 16_385]
    arrays = [random.normal(size=size).astype(np.float32) for size in sizes * 2]
    answers = await asyncio.gather(*(infer(pool, doubler, array) for array in arrays))
    for array, answer in zip(arrays, answers, strict=True):
        np.testing.assert_array_equal(answer, 2 * array)


async def test_61_mb_of_video_go_through_and_the_memory_comes_back(
    make_pool: MakePool, doubler: Path
) -> None:
    array = np.arange(61 * MIB // 4, dtype=np.float32)
    pool = make_pool()
    for _ in range(3):
        np.testing.assert_array_equal(await infer(pool, doubler, array), 2 * array)
    assert len(areas()) == 2
    await pool.evict(doubler.name)
    async with asyncio.timeout(DEADLINE_S):
        while areas():
            await asyncio.sleep(0)


async def test_killed_worker_leaves_no_memory_behind(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    array = np.arange(MIB, dtype=np.float32)
    await infer(pool, doubler, array)
    (model,) = pool.loaded()
    asking = [asyncio.create_task(infer(pool, doubler, array)) for _ in range(4)]
    await asyncio.sleep(0)
    os.kill(model.pid, 9)
    for answer in await asyncio.gather(*asking, return_exceptions=True):
        if isinstance(answer, BaseException):
            assert isinstance(answer, LocalError)
        else:
            np.testing.assert_array_equal(answer, 2 * array)
    np.testing.assert_array_equal(await infer(pool, doubler, array), 2 * array)
    assert len(areas()) == 2
    await pool.close()
    async with asyncio.timeout(DEADLINE_S):
        while areas():
            await asyncio.sleep(0)


async def test_abandoned_requests_give_their_room_back(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    array = np.arange(4 * MIB, dtype=np.float32)
    await infer(pool, doubler, array)
    for _ in range(3):
        # More than there is room for, were any of it kept.
        asking = [asyncio.create_task(infer(pool, doubler, array)) for _ in range(30)]
        await asyncio.sleep(0.0)
        for one in asking:
            one.cancel()
        await asyncio.gather(*asking, return_exceptions=True)
    np.testing.assert_array_equal(await infer(pool, doubler, array), 2 * array)


async def test_wrong_input_leaves_the_worker_alone(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    await infer(pool, doubler, np.zeros(3, np.float32))
    (before,) = pool.loaded()
    with pytest.raises(InputError, match="input 'x' is INT64"):
        await infer(pool, doubler, np.zeros(3, np.int64), "INT64")
    bad = Tensor("x", "FP32", (4,), bytes(12))
    with pytest.raises(InputError, match="has 12 bytes of values"):
        await pool.infer(doubler, doubler.name, InferRequest((bad,)))
    await infer(pool, doubler, np.zeros(3, np.float32))
    (after,) = pool.loaded()
    assert before.pid == after.pid


async def test_answer_of_terabytes_is_an_error_and_no_more(
    make_pool: MakePool, filler: Path
) -> None:
    pool = make_pool(memory_bytes=1 * GIB)
    for shape in ([2**40], [2**20, 2**22]):
        with pytest.raises(DreamerError):
            await infer(pool, filler, np.array(shape), "INT64")
        assert (await infer(pool, filler, np.array([2, 3]), "INT64")).shape == (2, 3)


async def test_graph_that_unfolds_to_terabytes_can_not_be_loaded(
    make_pool: MakePool, graph_dir: GraphDir
) -> None:
    shape = numpy_helper.from_array(np.array([2**20, 2**20]), "shape")
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1])
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["zeros"]),
        helper.make_node("Add", ["zeros", "x"], ["y"]),
    ]
    model = graph_dir(nodes, [x], [y], [shape], name="bomb")
    pool = make_pool(memory_bytes=1 * GIB)
    with pytest.raises(DreamerError):
        await infer(pool, model, np.zeros(1, np.float32))


async def test_texts_become_vectors_and_tensors_as_well(
    make_pool: MakePool, tmp_path: Path
) -> None:
    model = tmp_path / "embedder"
    write_tiny_embedder(model)
    pool = make_pool()
    texts = tuple(" ".join(["red", "cat", "dog"][: 1 + place % 3]) for place in range(2000))
    embedded = await pool.embed(model, "aa", EmbedRequest(texts))
    assert embedded.vectors.shape == (2000, 8)
    vectors = np.frombuffer(embedded.vectors.data, np.float32).reshape(2000, 8)
    np.testing.assert_array_equal(vectors[0], vectors[3])
    assert embedded.prompt_tokens == sum(1 + place % 3 for place in range(2000))
    signature = await pool.signature(model, "aa")
    assert (signature.kind, signature.dimensions, signature.context) == ("embedding", 8, 32)
    ids = Tensor("input_ids", "INT64", (1, 1), np.array([2]).tobytes())
    mask = Tensor("attention_mask", "INT64", (1, 1), np.array([1]).tobytes())
    raw = await pool.infer(model, "aa", InferRequest((ids, mask)))
    assert isinstance(raw, Inferred)
    assert raw.outputs[0].shape == (1, 1, 8)
