"""NVIDIA's clients of the Open Inference Protocol (PyPI ``tritonclient``) against a real node.

Each of the four, HTTP and gRPC, blocking and asyncio, makes every call; what only one of them has
is tested below them.
"""

from __future__ import annotations

import asyncio
import queue
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from onnx import helper
from tritonclient.utils import InferenceServerException

pytestmark = [
    pytest.mark.interop,
    pytest.mark.timeout(300),
    # Of the client with asyncio, about itself.
    pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning"),
]

WAIT_S = 60.0

VALUES = {
    "BOOL": np.array([True, False]),
    "UINT8": np.array([0, 255], np.uint8),
    "UINT16": np.array([0, 2**16 - 1], np.uint16),
    "UINT32": np.array([0, 2**32 - 1], np.uint32),
    "UINT64": np.array([0, 2**64 - 1], np.uint64),
    "INT8": np.array([-128, 127], np.int8),
    "INT16": np.array([-(2**15), 2**15 - 1], np.int16),
    "INT32": np.array([-(2**31), 2**31 - 1], np.int32),
    "INT64": np.array([-(2**63), 2**63 - 1], np.int64),
    "FP16": np.array([0.5, -3], np.float16),
    "FP32": np.array([0.1, -3e30], np.float32),
    "FP64": np.array([0.1, -3e300], np.float64),
    "BYTES": np.array(["wörld".encode(), b""], np.object_),
}
NO_JSON = ("FP16",)


class Flavour:
    """One of the four clients; ``call`` makes a client, one call of its, and closes it."""

    def __init__(self, name: str, node) -> None:
        self.name = name
        self.is_http = name.startswith("http")
        self.module = tritonclient.http if self.is_http else tritonclient.grpc
        self._aio = name.endswith("aio")
        self.url = node.url.removeprefix("http://") if self.is_http else node.grpc
        self.headers = {"authorization": f"Bearer {node.token}"}

    def call(self, method, *args, **options):
        options.setdefault("headers", dict(self.headers))
        if self._aio:
            return asyncio.run(self._awaited(method, args, options))
        with self.module.InferenceServerClient(self.url) as client:
            return getattr(client, method)(*args, **options)

    def told(self, method, *args, **options):
        """Return an answer that is no inference, as JSON has it."""
        if not self.is_http:
            options["as_json"] = True
        return self.call(method, *args, **options)

    async def _awaited(self, method, args, options):
        async with self.module.aio.InferenceServerClient(self.url) as client:
            return await getattr(client, method)(*args, **options)

    def input(self, name, datatype, value, **options):
        made = self.module.InferInput(name, list(value.shape), datatype)
        made.set_data_from_numpy(value, **options)
        return made

    def infer(self, model, *inputs, **options):
        return self.call("infer", model, list(inputs), **options)

    def texts(self, *given):
        return self.input("text_input", "BYTES", np.array(given, np.object_))


@pytest.fixture(params=["http", "http.aio", "grpc", "grpc.aio"])
def client(request, models_node):
    return Flavour(request.param, models_node)


@pytest.fixture(scope="session")
def echo(models_node, tmp_path_factory):
    """The aliases of graphs that give back what they get: one number, and one of each type."""
    kinds = {name: getattr(onnx.TensorProto, _onnx_name(name)) for name in VALUES}
    for alias, types in (("echo", {"x": onnx.TensorProto.FLOAT}), ("types", kinds)):
        directory = tmp_path_factory.mktemp(alias)
        onnx.save(_identities(types), directory / "model.onnx")
        models_node.publish(directory, alias)
    return SimpleNamespace(one="echo", types="types")


def _onnx_name(datatype):
    halves = {"FP16": "FLOAT16", "FP32": "FLOAT", "FP64": "DOUBLE", "BYTES": "STRING"}
    return halves.get(datatype, datatype)


def _identities(types):
    nodes = [helper.make_node("Identity", [name], [f"{name}_again"]) for name in types]
    ends = [
        [helper.make_tensor_value_info(f"{name}{end}", kind, ["n"]) for name, kind in types.items()]
        for end in ("", "_again")
    ]
    graph = helper.make_graph(nodes, "identities", *ends)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


FLOATS = np.array([1.5, -2.0], np.float32)


def test_server_tells_of_itself(client):
    assert client.call("is_server_live") is True
    assert client.call("is_server_ready") is True
    told = client.told("get_server_metadata")
    assert (told["name"], "binary_tensor_data" in told["extensions"]) == ("dreamerd", True)


def test_model_tells_of_itself(client, echo):
    told = client.told("get_model_metadata", echo.types)
    assert {one["name"]: one["datatype"] for one in told["inputs"]} == {
        name: name for name in VALUES
    }
    assert [int(size) for size in told["outputs"][0]["shape"]] == [-1]
    config = client.told("get_model_config", echo.types)
    config = config if client.is_http else config["config"]
    assert {one["name"]: one["data_type"] for one in config["input"]}["BYTES"] == "TYPE_STRING"


def test_every_type_comes_back(client, echo):
    given = [client.input(name, name, value) for name, value in VALUES.items()]
    result = client.infer(echo.types, *given, request_id="77")
    for name, value in VALUES.items():
        again = result.as_numpy(f"{name}_again")
        assert (again.dtype, again.tolist()) == (value.dtype, value.tolist())
    response = result.get_response()
    assert (response["id"] if client.is_http else response.id) == "77"


def test_outputs_that_are_asked_for_come_alone_and_in_their_order(client, echo):
    given = [client.input(name, name, value) for name, value in VALUES.items()]
    wanted = [client.module.InferRequestedOutput(name) for name in ("INT8_again", "BOOL_again")]
    result = client.infer(echo.types, *given, outputs=wanted)
    response = result.get_response()
    outputs = response["outputs"] if client.is_http else response.outputs
    names = [one["name"] if client.is_http else one.name for one in outputs]
    assert names == ["INT8_again", "BOOL_again"]
    assert result.as_numpy("INT8_again").tolist() == [-128, 127]


def test_model_is_named_by_alias_name_id_and_room(client, echo):
    x = client.input("x", "FP32", FLOATS)
    index = client.told("get_model_repository_index")
    rows = index if client.is_http else index["models"]
    version = next(row["version"] for row in rows if row["name"] == "echo")
    for name in ("echo", version, "echo@lab"):
        assert client.infer(name, x).as_numpy("x_again").tolist() == FLOATS.tolist()
    assert client.infer("echo", x, model_version=version).as_numpy("x_again") is not None
    with pytest.raises(InferenceServerException, match="version"):
        client.infer("echo", x, model_version="99")


def test_model_is_unloaded_loaded_and_counted(client, echo):
    x = client.input("x", "FP32", FLOATS)
    client.infer(echo.one, x)
    before = _count(client, echo.one)
    client.infer(echo.one, x)
    assert _count(client, echo.one) == before + 1
    client.call("unload_model", echo.one)
    assert client.call("is_model_ready", echo.one) is False
    client.call("load_model", echo.one)
    assert client.call("is_model_ready", echo.one) is True
    client.call("unload_model", echo.one)
    # A request brings it back by itself.
    assert client.infer(echo.one, x).as_numpy("x_again").tolist() == FLOATS.tolist()
    assert client.call("is_model_ready", echo.one) is True


def _count(client, model):
    (told,) = client.told("get_inference_statistics", model)["model_stats"]
    assert int(told["inference_stats"]["compute_infer"]["ns"]) > 0
    return int(told["inference_count"])


def test_batch_of_videos_is_served(client, echo):
    # 25 of 16 pictures of 224 by 224 pixels, as halves of their bytes: 61 MB.
    videos = np.arange(25 * 16 * 3 * 224 * 224 // 4, dtype=np.float32)
    assert videos.nbytes > 60_000_000
    again = client.infer(echo.one, client.input("x", "FP32", videos)).as_numpy("x_again")
    assert np.array_equal(again, videos)


@pytest.mark.parametrize(
    ("name", "datatype", "value", "said"),
    [
        ("x", "INT32", np.array([1], np.int32), "FP32"),
        ("x", "FP32", np.array([[1]], np.float32), "x"),
        ("y", "FP32", FLOATS, "y"),
    ],
)
def test_input_that_the_model_does_not_take_is_refused(client, echo, name, datatype, value, said):
    with pytest.raises(InferenceServerException, match=said) as refused:
        client.infer(echo.one, client.input(name, datatype, value))
    assert refused.value.status() in ("400", "StatusCode.INVALID_ARGUMENT")


def test_what_there_is_not_is_not_found(client, echo):
    x = client.input("x", "FP32", FLOATS)
    calls = [
        lambda: client.infer("nothing", x),
        lambda: client.call("get_model_metadata", "nothing"),
        lambda: client.call("load_model", "nothing"),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException, match="nothing") as refused:
            call()
        assert refused.value.status() in ("404", "StatusCode.NOT_FOUND")


def test_without_the_token_nothing_is_told(client):
    for headers in ({}, {"authorization": "Bearer wrong"}):
        with pytest.raises(InferenceServerException, match="api-token") as refused:
            client.call("get_server_metadata", headers=headers)
        assert refused.value.status() in ("401", "StatusCode.UNAUTHENTICATED")


def test_what_is_left_out_says_so(client, echo):
    x = client.input("x", "FP32", FLOATS)
    calls = [
        lambda: client.call("get_trace_settings"),
        lambda: client.call("get_log_settings"),
        lambda: client.call("get_system_shared_memory_status"),
        lambda: client.call("load_model", echo.one, config="{}"),
        lambda: client.infer(echo.one, x, sequence_id=5),
        lambda: client.infer(
            echo.one, x, outputs=[client.module.InferRequestedOutput("x_again", class_count=1)]
        ),
    ]
    for call in calls:
        with pytest.raises(InferenceServerException) as refused:
            call()
        assert len(refused.value.message()) > 20


def test_text_goes_on(client):
    result = client.infer("talker", client.texts(b"hello", b"you"), parameters={"max_tokens": 4})
    first, second = result.as_numpy("text_output")
    alone = client.infer("talker", client.texts(b"hello"), parameters={"max_tokens": 4})
    assert (first, bool(second)) == (alone.as_numpy("text_output")[0], True)
    with pytest.raises(InferenceServerException, match="temprature"):
        client.infer("talker", client.texts(b"hello"), parameters={"temprature": 1})


def test_texts_have_vectors(client, embedder):
    result = client.infer(embedder, client.texts(b"red cat", b"blue dog", b"red cat"))
    vectors = result.as_numpy("embedding")
    assert (vectors.dtype, vectors.shape) == (np.float32, (3, 8))
    assert np.array_equal(vectors[0], vectors[2])
    assert not np.allclose(vectors[0], vectors[1])


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_requests_and_answers(client, echo, coding):
    zeros = np.zeros(200_000, np.float32)
    options = {"compression_algorithm": coding}
    if client.is_http:
        options = {f"{end}_compression_algorithm": coding for end in ("request", "response")}
    result = client.infer(echo.one, client.input("x", "FP32", zeros), **options)
    assert np.array_equal(result.as_numpy("x_again"), zeros)


@pytest.fixture
def http(models_node):
    return Flavour("http", models_node)


@pytest.fixture
def grpc(models_node):
    return Flavour("grpc", models_node)


def test_every_type_that_json_has_comes_back_in_json(http, echo):
    given = [
        http.input(name, name, value, binary_data=name in NO_JSON) for name, value in VALUES.items()
    ]
    wanted = [
        http.module.InferRequestedOutput(f"{name}_again", binary_data=name in NO_JSON)
        for name in VALUES
    ]
    result = http.infer(echo.types, *given, outputs=wanted)
    for name, value in VALUES.items():
        again = result.as_numpy(f"{name}_again").tolist()
        texts = [one.decode() for one in value] if name == "BYTES" else value.tolist()
        assert again == texts
    wanted[-4] = http.module.InferRequestedOutput("FP16_again", binary_data=False)
    with pytest.raises(InferenceServerException, match="no form in JSON"):
        http.infer(echo.types, *given, outputs=wanted)


def test_many_blocking_requests_at_once(http, echo):
    with http.module.InferenceServerClient(http.url, concurrency=4) as client:
        pending = [
            client.async_infer(
                echo.one,
                [http.input("x", "FP32", np.full(3, number, np.float32))],
                headers=dict(http.headers),
            )
            for number in range(12)
        ]
        assert [one.get_result().as_numpy("x_again")[0] for one in pending] == list(range(12))


def test_many_calls_with_callbacks_at_once(grpc, echo):
    answered = queue.Queue()
    with grpc.module.InferenceServerClient(grpc.url) as client:
        for number in range(12):
            client.async_infer(
                echo.one,
                [grpc.input("x", "FP32", np.full(3, number, np.float32))],
                callback=lambda result, error: answered.put(error or result),
                headers=grpc.headers,
            )
        told = [answered.get(timeout=WAIT_S).as_numpy("x_again")[0] for _ in range(12)]
    assert sorted(told) == list(range(12))


def stream(grpc, model, *requests, **options):
    """Return what a stream of requests was answered with, in its order."""
    answered = queue.Queue()
    with grpc.module.InferenceServerClient(grpc.url) as client:
        client.start_stream(
            lambda result, error: answered.put(error or result), headers=grpc.headers
        )
        for number, inputs in enumerate(requests):
            client.async_stream_infer(model, inputs, request_id=str(number), **options)
        client.stop_stream()
    return [answered.get_nowait() for _ in range(answered.qsize())]


def test_stream_answers_in_order_and_goes_on_after_an_error(grpc, echo):
    requests = [[grpc.input("x", "FP32", np.full(3, number, np.float32))] for number in range(10)]
    requests[4] = [grpc.input("y", "FP32", FLOATS)]
    told = stream(grpc, echo.one, *requests)
    assert isinstance(told.pop(4), InferenceServerException)
    assert [one.get_response().id for one in told] == ["0", "1", "2", "3", "5", "6", "7", "8", "9"]


def test_text_comes_in_pieces_by_a_stream(grpc):
    whole = grpc.infer("talker", grpc.texts(b"hello"), parameters={"max_tokens": 5})
    told = stream(
        grpc, "talker", [grpc.texts(b"hello")], parameters={"max_tokens": 5, "stream": True}
    )
    pieces = [one.as_numpy("text_output")[0] for one in told]
    assert len([piece for piece in pieces if piece]) > 1
    assert b"".join(pieces) == whole.as_numpy("text_output")[0]
    final = [one.get_response().parameters["triton_final_response"].bool_param for one in told]
    assert final == [False] * (len(told) - 1) + [True]


async def test_many_streamed_over_asyncio(models_node, echo):
    grpc = Flavour("grpc.aio", models_node)

    async def requests():
        for number in range(5):
            value = np.full(3, number, np.float32)
            yield {"model_name": echo.one, "inputs": [grpc.input("x", "FP32", value)]}

    async with tritonclient.grpc.aio.InferenceServerClient(grpc.url) as client:
        answers = client.stream_infer(requests(), headers=grpc.headers)
        told = [result.as_numpy("x_again")[0] async for result, error in answers if error is None]
    assert told == [0, 1, 2, 3, 4]


def test_unix_socket_needs_no_token(models_node, echo):
    grpc = Flavour("grpc", models_node)
    grpc.url, grpc.headers = f"unix:{models_node.node.home}/run/grpc.sock", {}
    x = grpc.input("x", "FP32", FLOATS)
    assert grpc.infer(echo.one, x).as_numpy("x_again").tolist() == FLOATS.tolist()
