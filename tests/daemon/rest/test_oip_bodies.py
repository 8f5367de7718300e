"""Bodies over HTTP: compressed, large, too large."""

import fcntl
import gzip
import json
import sys
import termios
import time
import zlib
from array import array

import pytest
from in_memory.oip import HEADER_LENGTH, infer, one, tensor


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_request_and_answer(served, coding):
    compress, restore = {
        "gzip": (gzip.compress, gzip.decompress),
        "deflate": (zlib.compress, zlib.decompress),
    }[coding]
    data = bytes(400_000)
    head = json.dumps(
        one(tensor("UINT8", [len(data)], binary_data_size=len(data)))
        | {"parameters": {"binary_data_output": True}}
    ).encode()
    headers = {
        HEADER_LENGTH: str(len(head)),
        "Content-Encoding": coding,
        "Accept-Encoding": coding,
    }
    status, told, body = served.request(
        "POST", "/v2/models/echo/infer", compress(head + data), headers
    )
    assert (status, told["Content-Encoding"]) == (200, coding)
    assert len(body) < 4000
    assert restore(body)[int(told[HEADER_LENGTH]) :] == data


def test_client_that_takes_any_coding_is_not_compressed_for(served):
    headers = {"Accept-Encoding": "gzip, deflate"}
    told = infer(served, one(tensor("FP32", [1], [1])), headers=headers)[1]
    assert "Content-Encoding" not in told


def test_json_beyond_its_bound_says_to_send_bytes(served):
    body = b'{"inputs":[' + b" " * (16 * 2**20) + b"]}"
    headers = {"Content-Type": "application/json"}
    status, _, answer = served.request("POST", "/v2/models/echo/infer", body, headers)
    assert (status, HEADER_LENGTH in json.loads(answer)["error"]) == (400, True)


def test_body_that_is_declared_too_large_is_refused_unread(served):
    headers = {"Content-Length": str(2**28 + 1), "Content-Type": "application/octet-stream"}
    connection = served.connection()
    connection.putrequest("POST", "/v2/models/echo/infer")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, "smaller batches" in json.loads(answer.read())["error"]) == (413, True)
    connection.close()


def test_compressed_bomb_is_refused_at_the_bound(served):
    stream = zlib.compressobj(9)
    bomb = b"".join(stream.compress(bytes(2**24)) for _ in range(17)) + stream.flush()
    headers = {"Content-Encoding": "deflate", "Content-Type": "application/octet-stream"}
    status, _, answer = served.request("POST", "/v2/models/echo/infer", bomb, headers)
    assert (status, "268435456" in json.loads(answer)["error"]) == (413, True)


def test_body_that_is_not_compressed_as_it_says_is_refused(served):
    headers = {"Content-Encoding": "gzip", "Content-Type": "application/octet-stream"}
    status, _, answer = served.request("POST", "/v2/models/echo/infer", b"plain", headers)
    assert (status, "error" in json.loads(answer)) == (400, True)


def test_batch_of_videos_comes_back_whole(served):
    data = bytes(range(256)) * (61 * 4096)
    asked = one(tensor("UINT8", [61, 2**20], binary_data_size=len(data)))
    asked["parameters"] = {"binary_data_output": True}
    status, _, _, rest = infer(served, asked, data)
    assert (status, rest == data) == (200, True)


def test_client_that_hangs_up_in_the_middle_of_a_large_answer_harms_nobody(served):
    data = bytes(20 * 2**20)
    asked = one(tensor("UINT8", [len(data)], binary_data_size=len(data)))
    asked["parameters"] = {"binary_data_output": True}
    head = json.dumps(asked).encode()
    connection = served.connection()
    connection.request(
        "POST", "/v2/models/echo/infer", head + data, {HEADER_LENGTH: str(len(head))}
    )
    with connection.getresponse() as answer:
        assert answer.read(100)
        connection.sock.close()
    connection.close()
    assert infer(served, asked, data)[3] == data


@pytest.mark.skipif(sys.platform != "linux", reason="how much a socket holds is the system's")
def test_answer_of_a_quarter_mebibyte_is_on_its_way_whole_before_it_is_read(served):
    size = 256 * 1024
    asked = one(tensor("UINT8", [size], binary_data_size=size))
    head = json.dumps(asked | {"parameters": {"binary_data_output": True}}).encode()
    connection = served.connection()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    connection.request("POST", "/v2/models/echo/infer", head + bytes(size), headers)
    waiting, deadline = array("i", [0]), time.monotonic() + 10
    while waiting[0] < size:
        assert time.monotonic() < deadline, f"only {waiting[0]} bytes came"
        fcntl.ioctl(connection.sock, termios.FIONREAD, waiting)
    connection.close()


def test_body_that_comes_in_pieces_is_put_together(served):
    data = bytes(range(256)) * 40
    head = json.dumps(
        one(tensor("UINT8", [len(data)], binary_data_size=len(data)))
        | {"parameters": {"binary_data_output": True}}
    ).encode()
    connection = served.connection()
    connection.putrequest("POST", "/v2/models/echo/infer")
    for name, value in (
        (HEADER_LENGTH, len(head)),
        ("Content-Length", len(head + data)),
        ("Content-Type", "application/octet-stream"),
    ):
        connection.putheader(name, str(value))
    connection.endheaders()
    for place in range(0, len(head + data), 1000):
        connection.send((head + data)[place : place + 1000])
    assert connection.getresponse().read().endswith(data)
    connection.close()
