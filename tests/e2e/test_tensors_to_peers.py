"""Tensors and embeddings on peers: small ones, large ones over the lanes, batches shared out."""

from __future__ import annotations

import asyncio
import io
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from dreamer.simulations.loopback import Node, until
from dreamer.simulations.tiny_embedder import write_tiny_embedder

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

ASK = {"DREAMER_OFFLOAD_ASK": "auto"}
SERVE = {"DREAMER_INFERENCE_SERVE_PEERS": "true"}
TEXTS = [" ".join(["red", "green", "cat", "dog"][place % 4 :]) for place in range(40)]
LARGE = 16 * 2**20


class Asked:
    """An answer to an HTTP request on a node's socket."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status, self.headers, self.body = status, headers, body

    @property
    def where(self) -> str:
        return str(self.headers["X-Dreamer-Where"])

    @property
    def node(self) -> str:
        return str(self.headers["X-Dreamer-Node"])


def post(node: Node, path: str, body: bytes, **headers: str) -> Asked:
    """Post to a node's Unix socket."""

    async def ask() -> Asked:
        connector = aiohttp.UnixConnector(str(node.home / "run" / "dreamerd.sock"))
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.post(
                f"http://localhost{path}", data=io.BytesIO(body), headers=headers
            ) as answer,
        ):
            return Asked(answer.status, answer.headers, await answer.read())

    return asyncio.run(ask())


def infer(
    node: Node, array: np.ndarray[Any, Any], prefer: str, *, apart: bool = False
) -> tuple[Asked, Any]:
    """Have ``doubler`` double an array, in the binary form of the Open Inference Protocol."""
    data = array.tobytes()
    about = {
        "inputs": [
            {
                "name": "x",
                "datatype": "FP32",
                "shape": list(array.shape),
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "parameters": {"binary_data_output": True, "rows_apart": apart},
    }
    head = json.dumps(about).encode()
    answer = post(
        node,
        "/v2/models/doubler/infer",
        head + data,
        **{
            "Inference-Header-Content-Length": str(len(head)),
            "Content-Type": "application/octet-stream",
            "X-Dreamer-Prefer": prefer,
        },
    )
    if answer.status != 200:
        return answer, json.loads(answer.body)
    values = answer.body[int(answer.headers["Inference-Header-Content-Length"]) :]
    return answer, np.frombuffer(values, np.float32).reshape(array.shape)


def embed(node: Node, texts: list[str], prefer: str) -> tuple[Asked, Any]:
    """Embed texts by OpenAI's API."""
    body = json.dumps({"model": "embedder", "input": texts}).encode()
    headers = {"Content-Type": "application/json", "X-Dreamer-Prefer": prefer}
    answer = post(node, "/v1/embeddings", body, **headers)
    told = json.loads(answer.body)
    return answer, [one["embedding"] for one in told["data"]] if answer.status == 200 else told


def metric(node: Node, name: str, **labels: str) -> float:
    """Return a counter of a node's."""
    connector_path = str(node.home / "run" / "dreamerd.sock")

    async def read() -> str:
        connector = aiohttp.UnixConnector(connector_path)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            session.get("http://localhost/metrics") as answer,
        ):
            return await answer.text()

    for line in asyncio.run(read()).splitlines():
        told, _, value = line.rpartition(" ")
        wanted = all(f'{key}="{label}"' in told for key, label in labels.items())
        if told.partition("{")[0] == name and wanted:
            return float(value)
    return 0.0


def lane_bytes(node: Node, direction: str) -> float:
    """Return what a node has moved over the lanes between members."""
    lanes = ("direct", "webrtc")
    return sum(
        metric(node, "dreamer_link_payload_bytes_total", lane=lane, direction=direction)
        for lane in lanes
    )


def write_doubler(directory: Path) -> None:
    """A graph that doubles rows of any length."""
    x, y = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", "columns"])
        for name in ("x", "y")
    )
    graph = helper.make_graph([helper.make_node("Add", ["x", "x"], ["y"])], "doubler", [x], [y])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    directory.mkdir(parents=True)
    onnx.save(model, directory / "model.onnx")


def slow_down(directory: Path) -> None:
    """Have the embedder multiply large matrices, or sharing out would never be worth the way."""
    model = onnx.load(directory / "model.onnx")
    random, width = np.random.default_rng(3), 1024
    matrices = {
        "into": random.normal(size=(8, width)) / 8,
        "around": random.normal(size=(width, width)) / width**0.5,
        "out": random.normal(size=(width, 8)) / width,
    }
    names = ["hidden", *(f"h{step}" for step in range(10)), "last_hidden_state"]
    (gather,) = model.graph.node
    gather.output[0] = names[0]
    for step, (given, gives) in enumerate(pairwise(names)):
        matrix = {0: "into", len(names) - 2: "out"}.get(step, "around")
        model.graph.node.append(helper.make_node("MatMul", [given, matrix], [gives]))
    for name, values in matrices.items():
        model.graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), name))
    onnx.save(model, directory / "model.onnx")


@pytest.fixture(scope="module")
def models(team: Any, lab: Any) -> None:
    """Both models, pushed by A, which runs nothing for others."""
    write_doubler(team.root / "doubler")
    write_tiny_embedder(team.root / "embedder")
    slow_down(team.root / "embedder")
    for name in ("doubler", "embedder"):
        lab[0].dreamer("push", str(team.root / name), "--room", "lab", "--alias", name)


@pytest.fixture(scope="module")
def servers(team: Any, lab: Any, models: None) -> list[Node]:
    """Two nodes that run both models for others."""
    made = [team.member(f"server-{number}", lab[0], env=SERVE) for number in (1, 2)]
    for node in made:
        for name in ("doubler", "embedder"):
            node.dreamer("pull", name, "--room", "lab")
        # Loaded and measured, as a node is that serves for a while.
        assert embed(node, TEXTS, "local")[0].where == "local"
        assert infer(node, np.zeros((1, 3), np.float32), "local")[0].where == "local"
    return made


@pytest.fixture(scope="module")
def asker(team: Any, lab: Any, servers: list[Node]) -> Node:
    """A node that holds neither model."""
    return team.member("asker", lab[0], env=ASK)


def ids(nodes: list[Node]) -> list[str]:
    return [node.dreamer("status")["node_id"] for node in nodes]


def test_small_tensors_are_computed_on_a_peer(asker: Node, servers: list[Node]) -> None:
    array = np.arange(12, dtype=np.float32).reshape(3, 4)
    answer, doubled = infer(asker, array, "peer")
    assert answer.status == 200, doubled
    assert answer.where == "peer"
    assert answer.node in ids(servers)
    np.testing.assert_array_equal(doubled, 2 * array)


def test_large_tensors_go_over_a_lane_both_ways_and_nothing_is_left(
    asker: Node, servers: list[Node]
) -> None:
    before = sum(lane_bytes(node, "up") for node in (asker, *servers))
    array = np.random.default_rng(5).normal(size=(4, LARGE // 16 + 3)).astype(np.float32)
    answer, doubled = infer(asker, array, "peer")
    assert answer.status == 200, doubled
    assert answer.where == "peer"
    np.testing.assert_array_equal(doubled, 2 * array)
    # Over the lanes once there and once back; control carries none of it. Of 17 blocks each way a
    # few may come twice, if the link's lane changes while they are on their way.
    moved = sum(lane_bytes(node, "up") for node in (asker, *servers)) - before
    assert 2 * array.nbytes <= moved < 2.5 * array.nbytes
    for node in (asker, *servers):
        folder = node.home / "tensors"
        until(lambda folder=folder: not list(folder.glob("*")), "payloads are gone")


def test_embeddings_of_a_batch_are_shared_out_and_in_order(
    asker: Node, servers: list[Node]
) -> None:
    one_by_one = [embed(asker, [text], "peer")[1][0] for text in TEXTS[:4]]
    until(lambda: shared_out(asker), "a batch was shared out")
    served = [metric(node, "dreamer_offload_served_total") for node in servers]
    answer, vectors = embed(asker, TEXTS, "auto")
    assert answer.where == "peer"
    assert answer.node in ids(servers)
    for node, before in zip(servers, served, strict=True):
        assert metric(node, "dreamer_offload_served_total") == before + 1
    for place, vector in enumerate(vectors):
        np.testing.assert_allclose(vector, one_by_one[place % 4], atol=1e-5)


def shared_out(asker: Node) -> bool:
    """Whether a batch is shared out, once both servers are linked and have told their rates."""
    before = metric(asker, "dreamer_offload_spreads_total")
    answer, told = embed(asker, TEXTS, "peer")
    assert answer.status == 200, told
    return metric(asker, "dreamer_offload_spreads_total") > before


def test_rows_that_are_apart_come_back_in_order(asker: Node, servers: list[Node]) -> None:
    array = np.random.default_rng(8).normal(size=(64, 20_000)).astype(np.float32)
    answer, doubled = infer(asker, array, "peer", apart=True)
    assert answer.status == 200, doubled
    np.testing.assert_array_equal(doubled, 2 * array)


def test_wrong_input_is_told_as_at_home(asker: Node, servers: list[Node]) -> None:
    answer, told = infer(asker, np.zeros(3, np.float32), "peer")
    assert answer.status == 400
    assert "input 'x' is FP32 of the shape [3]" in json.dumps(told)


def test_nobody_runs_it_where_nobody_may_be_asked(lab: Any, models: None) -> None:
    answer, told = infer(lab[1], np.zeros((1, 3), np.float32), "local")
    assert answer.status >= 400
    assert "pull it" in json.dumps(told)


def test_batch_goes_on_elsewhere_when_a_peer_is_killed(asker: Node, servers: list[Node]) -> None:
    servers[0].process.kill()
    answer, vectors = embed(asker, TEXTS, "peer")
    assert answer.status == 200, vectors
    assert len(vectors) == len(TEXTS)
    assert answer.node == ids(servers[1:])[0]
    array = np.random.default_rng(6).normal(size=(4, LARGE // 16)).astype(np.float32)
    answer, doubled = infer(asker, array, "peer")
    assert answer.status == 200, doubled
    np.testing.assert_array_equal(doubled, 2 * array)
