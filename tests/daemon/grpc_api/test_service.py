"""The methods of the service, over a node in memory."""

import struct

import pytest

from dreamer.daemon.grpc_api.messages import message


def tensor(datatype, shape, name="x", **contents):
    value = {"name": name, "datatype": datatype, "shape": shape}
    return value | ({"contents": contents} if contents else {})


def texts(*given):
    return tensor("BYTES", [len(given)], "text_input", bytes_contents=list(given))


async def test_server_lives_is_ready_and_tells_what_it_is(grpc_node):
    assert (await grpc_node.call("ServerLive")).live
    assert (await grpc_node.call("ServerReady")).ready
    told = await grpc_node.call("ServerMetadata")
    assert (told.name, "binary_tensor_data" in told.extensions) == ("dreamerd", True)


async def test_model_tells_its_tensors_and_configuration(grpc_node):
    told = await grpc_node.call("ModelMetadata", name="echo@lab")
    assert [(one.name, one.datatype, list(one.shape)) for one in told.inputs] == [
        ("x", "FP32", [-1, 4]),
        ("words", "BYTES", [-1]),
    ]
    assert list(told.versions) == ["ecececec"]
    config = (await grpc_node.call("ModelConfig", name="echo")).config
    assert [one.data_type for one in config.input] == [11, 13]
    assert (await grpc_node.call("ModelConfig", name="tiny")).config.model_transaction_policy


async def test_model_is_unloaded_loaded_listed_and_counted(grpc_node):
    await grpc_node.call("RepositoryModelUnload", model_name="echo")
    assert not (await grpc_node.call("ModelReady", name="echo")).ready
    rows = {one.name: one for one in (await grpc_node.call("RepositoryIndex")).models}
    assert (rows["echo"].state, rows["echo"].reason) == ("UNAVAILABLE", "unloaded")
    ready = {one.name for one in (await grpc_node.call("RepositoryIndex", ready=True)).models}
    assert "echo" not in ready
    await grpc_node.call("RepositoryModelLoad", model_name="echo")
    assert (await grpc_node.call("ModelReady", name="echo", version="ecececec")).ready
    (told,) = (await grpc_node.call("ModelStatistics", name="echo")).model_stats
    assert (told.inference_count, told.inference_stats.queue.ns) == (2, 30_000_000)
    assert (told.memory_usage[0].type, told.memory_usage[0].byte_size) == ("CPU", 2**27)


TYPED = [
    ("BOOL", {"bool_contents": [True, False]}, b"\x01\x00"),
    ("UINT8", {"uint_contents": [0, 255]}, b"\x00\xff"),
    ("UINT16", {"uint_contents": [1, 65535]}, b"\x01\x00\xff\xff"),
    ("UINT32", {"uint_contents": [1, 2**32 - 1]}, struct.pack("<2I", 1, 2**32 - 1)),
    ("UINT64", {"uint64_contents": [1, 2**64 - 1]}, struct.pack("<2Q", 1, 2**64 - 1)),
    ("INT8", {"int_contents": [-128, 127]}, b"\x80\x7f"),
    ("INT16", {"int_contents": [-1, 2]}, struct.pack("<2h", -1, 2)),
    ("INT32", {"int_contents": [-1, 2]}, struct.pack("<2i", -1, 2)),
    ("INT64", {"int64_contents": [-1, 2]}, struct.pack("<2q", -1, 2)),
    ("FP32", {"fp32_contents": [0.5, -2]}, struct.pack("<2f", 0.5, -2)),
    ("FP64", {"fp64_contents": [0.1, -2]}, struct.pack("<2d", 0.1, -2)),
    ("BYTES", {"bytes_contents": [b"", b"\xff"]}, b"\x00\x00\x00\x00\x01\x00\x00\x00\xff"),
]


@pytest.mark.parametrize(("datatype", "contents", "data"), TYPED)
async def test_contents_of_every_type_come_back_as_bytes(grpc_node, datatype, contents, data):
    for sent in (
        {"inputs": [tensor(datatype, [2], **contents)]},
        {"inputs": [tensor(datatype, [2])], "raw_input_contents": [data]},
    ):
        answer = await grpc_node.call("ModelInfer", model_name="echo", id="7", **sent)
        assert (answer.model_version, answer.id) == ("ecececec", "7")
        assert list(answer.raw_output_contents) == [data]
        assert (answer.outputs[0].name, list(answer.outputs[0].shape)) == ("x_again", [2])


@pytest.mark.parametrize("datatype", ["FP16", "BF16"])
async def test_halves_come_as_bytes_alone(grpc_node, datatype):
    sent = {"inputs": [tensor(datatype, [1])], "raw_input_contents": [b"\x00\x3c"]}
    answer = await grpc_node.call("ModelInfer", model_name="echo", **sent)
    assert list(answer.raw_output_contents) == [b"\x00\x3c"]
    sent = {"inputs": [tensor(datatype, [1], fp32_contents=[1])]}
    code, said, _ = await grpc_node.failure("ModelInfer", model_name="echo", **sent)
    assert (code, "raw_input_contents" in said) == ("INVALID_ARGUMENT", True)


BAD = [
    ({}, "needs its inputs"),
    ({"inputs": [tensor("FP32", [1], "")]}, "no name"),
    ({"inputs": [tensor("FP33", [1])]}, "datatype must be one of"),
    ({"inputs": [tensor("FP32", [-1])]}, "shape must be"),
    ({"inputs": [tensor("FP32", [2], fp32_contents=[1])]}, "is 4 bytes; FP32"),
    ({"inputs": [tensor("FP32", [1], int_contents=[1])]}, "is 0 bytes; FP32"),
    ({"inputs": [tensor("INT8", [1], int_contents=[128])]}, "INT8"),
    ({"inputs": [tensor("BYTES", [2], bytes_contents=[b"a"])]}, "has 1 elements"),
    ({"inputs": [tensor("INT8", [1])] * 2, "raw_input_contents": [b"1"]}, "2 inputs have 1"),
    (
        {"inputs": [tensor("INT8", [1], int_contents=[1])], "raw_input_contents": [b"1"]},
        "both contents and raw",
    ),
    ({"inputs": [tensor("INT8", [1], int_contents=[1])], "outputs": [{"name": "y"}]}, "'y'"),
    (
        {"inputs": [tensor("INT8", [1], int_contents=[1])],
         "parameters": {"sequence_id": {"int64_param": 3}}},
        "sequences are not kept",
    ),
    (
        {"inputs": [tensor("INT8", [1], int_contents=[1]) | {
            "parameters": {"shared_memory_region": {"string_param": "r"}}}]},
        "shared memory is not offered",
    ),
    (
        {"inputs": [tensor("INT8", [1], int_contents=[1])],
         "outputs": [{"name": "x_again", "parameters": {"classification": {"int64_param": 3}}}]},
        "classification",
    ),
    ({"inputs": [tensor("INT8", [1], int_contents=[1])], "parameters": {"p": {}}}, "no value"),
]  # fmt: skip


@pytest.mark.parametrize(("sent", "said"), BAD)
async def test_request_that_no_model_can_answer_is_refused(grpc_node, sent, said):
    code, told, _ = await grpc_node.failure("ModelInfer", model_name="echo", **sent)
    assert (code, said in told) == ("INVALID_ARGUMENT", True), told


async def test_failures_have_their_codes_and_say_when_to_ask_again(grpc_node):
    sent = {"inputs": [tensor("INT8", [1], int_contents=[1])]}
    assert (await grpc_node.failure("ModelInfer", model_name="missing", **sent))[0] == "NOT_FOUND"
    assert (await grpc_node.failure("ModelMetadata", name="missing"))[0] == "NOT_FOUND"
    assert (await grpc_node.failure("ModelReady", name="missing"))[0] == "NOT_FOUND"
    refused = await grpc_node.failure("ModelInfer", model_name="refused", **sent)
    assert refused[0] == "PERMISSION_DENIED"
    code, said, trailers = await grpc_node.failure("ModelInfer", model_name="busy", **sent)
    assert (code, trailers["grpc-retry-pushback-ms"]) == ("UNAVAILABLE", "2500")
    status = message("Status").FromString(trailers["grpc-status-details-bin"])
    assert (status.code, status.message) == (14, said)
    assert status.details[0].type_url.endswith("google.rpc.RetryInfo")
    delay = message("RetryInfo").FromString(status.details[0].value).retry_delay
    assert (delay.seconds, delay.nanos) == (2, 500_000_000)


async def test_metadata_says_who_ran_it_and_asks_where(grpc_node):
    async with grpc_node.channel() as channel:
        call = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
        request = message("ModelInferRequest")(
            model_name="echo", inputs=[tensor("INT8", [1], int_contents=[1])]
        )
        running = call(request.SerializeToString(), metadata=(("x-dreamer-prefer", "peer"),))
        await running
        told = dict(await running.trailing_metadata())
    assert (told["x-dreamer-where"], told["x-dreamer-node"]) == ("peer", "ef" * 32)
    assert grpc_node.inference.asked[-1][3].prefer == "peer"
    code, _, _ = await grpc_node.failure(
        "ModelInfer", (("x-dreamer-prefer", "moon"),), model_name="echo"
    )
    assert code == "INVALID_ARGUMENT"


async def test_texts_go_on_and_have_vectors(grpc_node):
    answer = await grpc_node.call("ModelInfer", model_name="tiny", inputs=[texts(b"a", b"b")])
    assert answer.raw_output_contents[0].count("wörld".encode()) == 2
    assert answer.parameters["finish_reason"].string_param == "stop"
    answer = await grpc_node.call("ModelInfer", model_name="embedder", inputs=[texts(b"abc")])
    assert struct.unpack("<4f", answer.raw_output_contents[0]) == (3.0, 1.0, 1.0, 1.0)
    code, _, _ = await grpc_node.failure("ModelInfer", model_name="tiny", inputs=[texts(b"\xff")])
    assert code == "INVALID_ARGUMENT"


async def test_model_is_not_loaded_with_a_configuration(grpc_node):
    code, said, _ = await grpc_node.failure(
        "RepositoryModelLoad", model_name="echo", parameters={"config": {"string_param": "{}"}}
    )
    assert (code, "as it was published" in said) == ("INVALID_ARGUMENT", True)


@pytest.mark.parametrize(
    "method",
    ["SystemSharedMemoryRegister", "CudaSharedMemoryStatus", "TraceSetting", "LogSettings"],
)
async def test_methods_that_are_left_out_say_so(grpc_node, method):
    async with grpc_node.channel() as channel:
        call = channel.unary_unary(f"/inference.GRPCInferenceService/{method}")
        running = call(b"")
        assert (await running.code()).name == "UNIMPLEMENTED"
        assert len(await running.details()) > 30


async def test_message_that_is_none_is_refused(grpc_node):
    async with grpc_node.channel() as channel:
        running = channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")(b"\xff\xff")
        assert (await running.code()).name == "INVALID_ARGUMENT"
    assert (await grpc_node.call("ServerLive")).live
