"""Tensors over HTTP, in JSON and as bytes: what comes back, and what is refused."""

import json
import struct

import pytest
from in_memory.oip import HEADER_LENGTH, infer, one, tensor

VALUES = [
    ("BOOL", [True, False]),
    ("UINT8", [0, 255]),
    ("UINT16", [0, 65535]),
    ("UINT32", [0, 2**32 - 1]),
    ("UINT64", [0, 2**64 - 1]),
    ("INT8", [-128, 127]),
    ("INT16", [-(2**15), 2**15 - 1]),
    ("INT32", [-(2**31), 2**31 - 1]),
    ("INT64", [-(2**63), 2**63 - 1]),
    ("FP32", [0.5, -3.0]),
    ("FP64", [0.1, 1e300]),
    ("BYTES", ["", "wörld"]),
]


@pytest.mark.parametrize(("datatype", "values"), VALUES)
def test_values_of_every_type_that_json_has_come_back(served, datatype, values):
    status, _, value, rest = infer(served, {"id": "7"} | one(tensor(datatype, [2], values)))
    assert (status, value["id"], rest) == (200, "7", b"")
    assert value["outputs"] == [
        {"name": "x_again", "datatype": datatype, "shape": [2], "data": values}
    ]


BINARY = [
    ("FP16", b"\x00\x3c\x00\xc0"),
    ("BF16", b"\x80\x3f\x00\xc0"),
    ("FP32", struct.pack("<2f", 1.5, -2)),
    ("INT64", struct.pack("<2q", 1, -(2**63))),
    ("BOOL", b"\x01\x00"),
    ("BYTES", b"\x01\x00\x00\x00\xff\x00\x00\x00\x00"),
]


@pytest.mark.parametrize(("datatype", "data"), BINARY)
def test_bytes_of_every_type_come_back(served, datatype, data):
    asked = one(tensor(datatype, [2], binary_data_size=len(data)))
    asked["parameters"] = {"binary_data_output": True}
    status, told, value, rest = infer(served, asked, data)
    assert (status, rest, told["Content-Type"]) == (200, data, "application/octet-stream")
    assert value["outputs"][0]["parameters"] == {"binary_data_size": len(data)}
    assert "data" not in value["outputs"][0]


def test_bytes_and_json_mix_in_and_out(served):
    words = b"\x02\x00\x00\x00hi"
    asked = {
        "inputs": [
            tensor("INT8", [2], [1, 2]),
            tensor("BYTES", [1], name="words", binary_data_size=len(words)),
        ],
        "outputs": [
            {"name": "words_again"},
            {"name": "x_again", "parameters": {"binary_data": True}},
        ],
    }
    status, _, value, rest = infer(served, asked, words)
    assert (status, rest) == (200, b"\x01\x02")
    assert value["outputs"][0]["data"] == ["hi"]
    asked["parameters"] = {"binary_data_output": True}
    asked["outputs"][1]["parameters"]["binary_data"] = False
    _, _, value, rest = infer(served, asked, words)
    assert (value["outputs"][1]["data"], rest) == ([1, 2], words)


@pytest.mark.parametrize("data", [[[1, 2, 3], [4, 5, 6]], [1, 2, 3, 4, 5, 6]])
def test_json_may_be_nested_or_flat(served, data):
    value = infer(served, one(tensor("INT32", [2, 3], data)))[2]
    assert value["outputs"][0]["data"] == [1, 2, 3, 4, 5, 6]
    assert value["outputs"][0]["shape"] == [2, 3]


def test_no_number_and_infinity_are_numbers_in_json(served):
    values = "[NaN,-Infinity,0.5,Infinity]"
    asked = f'{{"inputs":[{{"name":"x","datatype":"FP32","shape":[4],"data":{values}}}]}}'
    status, _, body = served.request(
        "POST", "/v2/models/echo/infer", asked.encode(), {"Content-Type": "application/json"}
    )
    assert (status, values in body.decode()) == (200, True)


BAD = [
    ({}, "needs its inputs"),
    ({"inputs": []}, "needs its inputs"),
    ({"inputs": 3}, "list of objects"),
    ({"inputs": [3]}, "list of objects"),
    (one({"datatype": "FP32", "shape": [1], "data": [1]}), "no name"),
    (one(tensor("FP33", [1], [1])), "datatype must be one of"),
    (one(tensor("FP32", [-1], [1])), "shape must be"),
    (one(tensor("FP32", [1.5], [1])), "shape must be"),
    (one(tensor("FP32", [True], [1])), "shape must be"),
    (one(tensor("FP32", "1", [1])), "shape must be"),
    (one(tensor("FP32", [1] * 33, [1])), "shape must be"),
    (one(tensor("FP32", [2], [1])), "data has 1 values"),
    (one(tensor("FP32", [2, 2], [[1, 2], [3]])), "not of shape"),
    (one(tensor("FP32", [2, 2], [[1, 2], 3])), "not of shape"),
    (one(tensor("FP32", [2], [[1], [2]])), "not of type"),
    (one(tensor("FP32", [2, 1], [[1], [[2]]])), "not of type"),
    (one(tensor("FP32", [1], ["1"])), "not of type FP32"),
    (one(tensor("FP32", [1], [None])), "not of type FP32"),
    (one(tensor("FP32", [1], [1e39])), "too large"),
    (one(tensor("INT32", [1], [1.5])), "not of type INT32"),
    (one(tensor("INT32", [1], [True])), "not of type INT32"),
    (one(tensor("INT32", [1], [2**31])), "INT32"),
    (one(tensor("UINT8", [1], [-1])), "UINT8"),
    (one(tensor("BOOL", [1], [1])), "not of type BOOL"),
    (one(tensor("FP16", [1], [1])), "no form in JSON"),
    (one(tensor("BF16", [1], [1])), "no form in JSON"),
    (one(tensor("BYTES", [1], [1])), "BYTES are texts"),
    (one(tensor("BYTES", [1], ["\ud800"])), "UTF-8"),
    (one(tensor("FP32", [1])), "neither data nor binary_data_size"),
    (one(tensor("FP32", [1], "1")), "neither data nor binary_data_size"),
    (one(tensor("FP32", [1], binary_data_size=4)), "0 bytes follow"),
    (one(tensor("FP32", [1], shared_memory_region="r")), "shared memory is not offered"),
    ({"inputs": [tensor("INT8", [1], [1]), tensor("INT8", [1], [1])]}, "named twice"),
    (one(tensor("INT8", [1], [1])) | {"id": 7}, "id must be a text"),
    (one(tensor("INT8", [1], [1])) | {"id": "\ud800"}, "surrogate"),
    (one(tensor("INT8", [1], [1])) | {"parameters": [1]}, "parameters of the request"),
    (one(tensor("INT8", [1], [1])) | {"parameters": {"sequence_id": 3}}, "sequences are not kept"),
    (one(tensor("INT8", [1], [1])) | {"outputs": [{"name": "x_again"}] * 2}, "named twice"),
    (one(tensor("INT8", [1], [1])) | {"outputs": [{"name": "y"}]}, "no output 'y'"),
    (
        one(tensor("INT8", [1], [1]))
        | {"outputs": [{"name": "x_again", "parameters": {"classification": 3}}]},
        "classification extension is not offered",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "said"), BAD)
def test_request_that_no_model_can_answer_is_refused(served, asked, said):
    status, _, value, _ = infer(served, asked)
    assert (status, said in value["error"]) == (400, True), value


@pytest.mark.parametrize(
    ("size", "blob", "said"),
    [
        (4, b"12345", "follow the last input"),
        (5, b"12345", "is 5 bytes; FP32"),
        (5, b"1234", "binary_data_size is 5"),
        (-4, b"1234", "binary_data_size is -4"),
        ("4", b"1234", "binary_data_size is '4'"),
        (True, b"1234", "binary_data_size is True"),
    ],
)
def test_bytes_that_are_not_as_many_as_said_are_refused(served, size, blob, said):
    status, _, value, _ = infer(served, one(tensor("FP32", [1], binary_data_size=size)), blob)
    assert (status, said in value["error"]) == (400, True), value


@pytest.mark.parametrize(
    ("blob", "said"),
    [
        (b"\x05\x00\x00\x00hi", "cut short"),
        (b"\x01\x00", "end within a length"),
        (b"\x00\x00\x00\x00" * 2, "has 2 elements"),
        (b"\xff\xff\xff\xff", "cut short"),
    ],
)
def test_texts_whose_lengths_do_not_add_up_are_refused(served, blob, said):
    asked = one(tensor("BYTES", [1], binary_data_size=len(blob)))
    status, _, value, _ = infer(served, asked, blob)
    assert (status, said in value["error"]) == (400, True), value


@pytest.mark.parametrize("length", ["0", "-1", "9999999", "x", "1e1", "0x10"])
def test_header_length_that_is_no_length_is_refused(served, length):
    status, _, value, _ = infer(
        served, one(tensor("FP32", [1], [1])), headers={HEADER_LENGTH: length}
    )
    assert (status, HEADER_LENGTH in value["error"]) == (400, True)


@pytest.mark.parametrize("body", [b"{", b"[1]", b"\xff", b"[" * 100_000, b"", b'"x"'])
def test_body_that_is_no_json_object_is_refused(served, body):
    headers = {"Content-Type": "application/json"}
    status, _, answer = served.request("POST", "/v2/models/echo/infer", body, headers)
    assert (status, "error" in json.loads(answer)) == (400, True)


def test_output_that_has_no_form_in_json_is_refused_and_says_how_to_ask(served):
    data = b"\x01\x00\x00\x00\xff"
    for datatype, blob in (("BYTES", data), ("FP16", b"\x00\x3c")):
        asked = one(tensor(datatype, [1], binary_data_size=len(blob)))
        status, _, value, _ = infer(served, asked, blob)
        assert (status, "binary" in value["error"]) == (400, True)


def test_output_too_large_for_json_is_refused_and_says_how_to_ask(served):
    data = bytes(4 * 2**20 + 1)
    asked = one(tensor("UINT8", [len(data)], binary_data_size=len(data)))
    status, _, value, _ = infer(served, asked, data)
    assert (status, "binary_data" in value["error"]) == (400, True)


def test_failures_have_their_own_status(served):
    asked = one(tensor("FP32", [1], [1]))
    assert infer(served, asked, model="missing")[0] == 404
    assert infer(served, asked, model="several")[0] == 400
    assert infer(served, asked, model="away")[0] == 502
    status, told, value, _ = infer(served, asked, model="busy")
    assert (status, told["Retry-After"]) == (503, "3")
    assert value == {"error": "200 requests wait already; ask again in a moment"}


def test_headers_say_who_ran_it_and_ask_where(served):
    asked = one(tensor("FP32", [1], [1]))
    _, told, _, _ = infer(served, asked, headers={"X-Dreamer-Prefer": "peer"})
    assert (told["X-Dreamer-Where"], told["X-Dreamer-Node"]) == ("peer", "ef" * 32)
    assert "compute;dur=5.000" in told["Server-Timing"]
    assert served.node.inference.asked[-1][3].prefer == "peer"
    assert infer(served, asked, headers={"X-Dreamer-Prefer": "moon"})[0] == 400


def test_tcp_without_the_token_gets_nothing(served_by_tcp):
    asked = one(tensor("FP32", [1], [1]))
    status, _, value, _ = infer(served_by_tcp, asked, by_tcp=True)
    assert (status, "api-token" in value["error"]) == (401, True)
    headers = {"Authorization": "Bearer s3cret"}
    assert infer(served_by_tcp, asked, headers=headers, by_tcp=True)[0] == 200


def test_form_of_a_web_page_is_refused(served):
    asked = one(tensor("FP32", [1], [1]))
    assert infer(served, asked, headers={"Content-Type": "text/plain"})[0] == 415
    assert infer(served, asked, headers={"Origin": "https://evil.example"})[0] == 403


def test_requests_that_say_the_same_have_values_of_their_own(served):
    asked = one(tensor("UINT8", [2], binary_data_size=2))
    asked["parameters"] = {"binary_data_output": True}
    for data in (b"ab", b"cd"):
        assert infer(served, asked, data)[3] == data
    told = infer(served, asked, b"ab", model="other")[2]
    assert (infer(served, asked, b"abc")[0], "error" in told) == (400, True)
    numbers = [infer(served, one(tensor("INT8", [1], [n])))[2] for n in (1, 2, 1)]
    assert [value["outputs"][0]["data"] for value in numbers] == [[1], [2], [1]]
