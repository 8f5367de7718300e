"""Tensors and embeddings through the pool: real workers, graphs of a few nodes."""

from __future__ import annotations

import asyncio
import os
import signal
from array import array
from collections.abc import Callable
from pathlib import Path

import onnx
import pytest
from onnx import TensorProto, helper
from pool_calls import DEADLINE_S, MakePool, gone, names, reached, stopped

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.tensors import EmbedRequest, Inferred, InferRequest, Tensor
from dreamer.protocol.errors import DreamerError, InputError, LocalError
from dreamer.protocol.limits import MIB

GraphDir = Callable[..., Path]


@pytest.fixture
def doubler(graph_dir: GraphDir) -> Path:
    """A graph that adds a vector to itself."""
    return graph_dir(
        [helper.make_node("Add", ["x", "x"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n"])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n"])],
    )


@pytest.fixture
def glutton(graph_dir: GraphDir) -> Path:
    """A graph that makes a tensor of as many elements as its input says."""
    value = helper.make_tensor("value", TensorProto.FLOAT, [1], [1.0])
    nodes: list[onnx.NodeProto] = [
        helper.make_node("ConstantOfShape", ["x"], ["filled"], value=value),
        helper.make_node("ReduceSum", ["filled"], ["y"], keepdims=0),
    ]
    return graph_dir(
        nodes,
        [helper.make_tensor_value_info("x", TensorProto.INT64, [1])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [])],
        name="glutton",
    )


def floats(*values: float) -> InferRequest:
    data = array("f", values).tobytes()
    return InferRequest((Tensor("x", "FP32", (len(values),), data),))


async def infer(pool: Pool, model: Path, request: InferRequest) -> Inferred:
    async with asyncio.timeout(DEADLINE_S):
        return await pool.infer(model, "aa", request)


def values_of(answer: Inferred) -> list[float]:
    (y,) = answer.outputs
    return array("f", bytes(y.data)).tolist()


async def test_tensors_go_in_and_come_out(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    answer = await infer(pool, doubler, floats(1, 2, 3.5))
    assert values_of(answer) == [2, 4, 7]
    assert answer.load_s > 0
    assert answer.compute_s > 0
    signature = await pool.signature(doubler, "aa")
    assert signature.kind == "tensor"
    assert [one.name for one in signature.outputs] == ["y"]
    (model,) = pool.statistics()
    assert (model.kind, model.requests, model.failures, model.loads) == ("tensor", 1, 0, 1)
    assert pool.estimate("aa").requests_s


async def test_large_tensors_come_back_whole(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    wanted = [float(number % 1000) for number in range(MIB)]
    several = await asyncio.gather(*(infer(pool, doubler, floats(*wanted)) for _ in range(3)))
    assert all(values_of(one) == [2 * value for value in wanted] for one in several)


async def test_request_for_a_killed_worker_is_asked_once_more(
    make_pool: MakePool, doubler: Path
) -> None:
    pool = make_pool()
    await infer(pool, doubler, floats(1))
    (model,) = pool.loaded()
    await stopped(model.pid)
    asked = [asyncio.create_task(infer(pool, doubler, floats(number))) for number in (5, 6, 7)]
    await reached(lambda: pool.pending == 3)
    os.kill(model.pid, signal.SIGKILL)
    assert [values_of(one) for one in await asyncio.gather(*asked)] == [[10], [12], [14]]
    (told,) = pool.statistics()
    assert told.failures == 0


async def test_asker_that_leaves_keeps_the_slot_only_until_the_answer(
    make_pool: MakePool, doubler: Path
) -> None:
    pool = make_pool()
    await infer(pool, doubler, floats(1))
    (model,) = pool.loaded()
    await stopped(model.pid)
    leaving = asyncio.create_task(infer(pool, doubler, floats(2)))
    await reached(lambda: pool.loaded()[0].running == 1)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert pool.loaded()[0].running == 1
    os.kill(model.pid, signal.SIGCONT)
    await reached(lambda: pool.loaded()[0].running == 0)
    assert values_of(await infer(pool, doubler, floats(3))) == [6]


async def test_worker_that_ran_out_of_memory_is_replaced(
    make_pool: MakePool, glutton: Path
) -> None:
    pool = make_pool(memory_bytes=512 * MIB)

    def of_size(elements: int) -> InferRequest:
        data = array("q", [elements]).tobytes()
        return InferRequest((Tensor("x", "INT64", (1,), data),))

    await infer(pool, glutton, of_size(5))
    (before,) = pool.loaded()
    with pytest.raises(LocalError, match=r"memory|alloc"):
        await infer(pool, glutton, of_size(2**30))
    await gone(before.pid)
    assert values_of(await infer(pool, glutton, of_size(7))) == [7]
    (after,) = pool.loaded()
    assert after.pid != before.pid


async def test_what_a_graph_can_not_take_is_the_askers_error_and_costs_no_worker(
    make_pool: MakePool, doubler: Path
) -> None:
    pool = make_pool()
    await infer(pool, doubler, floats(1))
    (before,) = pool.loaded()
    wrong = InferRequest((Tensor("nobody", "FP32", (1,), bytes(4)),))
    with pytest.raises(InputError):
        await infer(pool, doubler, wrong)
    with pytest.raises(InputError, match="takes tensors"):
        async with asyncio.timeout(DEADLINE_S):
            await pool.embed(doubler, "aa", EmbedRequest(("hello",)))
    (after,) = pool.loaded()
    assert after.pid == before.pid


async def test_close_fails_tensors_under_way(make_pool: MakePool, doubler: Path) -> None:
    pool = make_pool()
    await infer(pool, doubler, floats(1))
    (model,) = pool.loaded()
    await stopped(model.pid)
    cut = asyncio.create_task(infer(pool, doubler, floats(2)))
    await reached(lambda: pool.loaded()[0].running == 1)
    async with asyncio.timeout(3):
        await pool.close()
    with pytest.raises(DreamerError, match="shutting down"):
        await cut
    assert names(pool) == []
