"""Inferences on the socket without the web framework: the same answers, and who goes on if not."""

from __future__ import annotations

import json
import struct
import threading

import pytest
from in_memory.oip import HEADER_LENGTH, infer, one, tensor
from in_memory.served import ServedNode

from dreamer.daemon.rest.oip import straight
from dreamer.daemon.rest.oip.heads import InferHead, read_head
from dreamer.daemon.surfaces.inference import RunOptions

WAIT_S = 10.0
LINES = {
    "Host": "localhost",
    "Content-Type": "application/octet-stream",
    "Content-Length": "5",
}


def head(path: str = "/v2/models/echo/infer", **more: str | None) -> bytes:
    fields = LINES | {name.replace("_", "-"): value for name, value in more.items()}
    lines = [f"{name}: {value}" for name, value in fields.items() if value is not None]
    return "\r\n".join([f"POST {path} HTTP/1.1", *lines, "", ""]).encode()


def request(*values: float, model: str = "echo", **more: str | None) -> bytes:
    data = struct.pack(f"<{len(values)}f", *values)
    asked = one(tensor("FP32", [1, len(values)], binary_data_size=len(data)))
    text = json.dumps(asked | {"parameters": {"binary_data_output": True}}).encode()
    sizes = {"Content-Length": str(len(text + data)), HEADER_LENGTH: str(len(text))}
    return head(f"/v2/models/{model}/infer", **(sizes | more)) + text + data


class Client:
    """A connection of which every byte is ours."""

    def __init__(self, served: ServedNode) -> None:
        self.end = served.connection().sock
        self._got = b""

    def send(self, data: bytes) -> None:
        self.end.sendall(data)

    def answer(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._got:
            self._more()
        told, _, self._got = self._got.partition(b"\r\n\r\n")
        first, *lines = told.decode().split("\r\n")
        headers = dict(line.split(": ", 1) for line in lines)
        while len(self._got) < int(headers["Content-Length"]):
            self._more()
        size = int(headers["Content-Length"])
        body, self._got = self._got[:size], self._got[size:]
        return int(first.split()[1]), headers, body

    def values(self) -> tuple[float, ...]:
        status, headers, body = self.answer()
        assert status == 200, body
        data = body[int(headers[HEADER_LENGTH]) :]
        return struct.unpack(f"<{len(data) // 4}f", data)

    def ended(self) -> bool:
        return self.end.recv(1) == b""

    def _more(self) -> None:
        came = self.end.recv(65_536)
        assert came, f"the connection ended after {self._got!r}"
        self._got += came


@pytest.fixture
def client(served):
    made = Client(served)
    yield made
    made.end.close()


def by_framework(headers: dict[str, str]) -> bool:
    return "Server" in headers


# Heads

PLAIN = InferHead("/v2/models/echo/infer", "echo", "", RunOptions(), 5, None)


def test_plain_head_is_read() -> None:
    assert read_head(head()) == PLAIN
    assert read_head(head(User_Agent="x", Accept="*/*", Connection="Keep-Alive")) == PLAIN
    told = read_head(
        head(
            "/v2/models/a.b@lab/versions/1f/infer", X_Dreamer_Prefer="Local", **{HEADER_LENGTH: "3"}
        )
    )
    assert told is not None
    assert (told.model, told.version, told.header_length) == ("a.b@lab", "1f", "3")
    assert told.options == RunOptions("local")


@pytest.mark.parametrize(
    "other",
    [
        head().replace(b"POST", b"GET"),
        head().replace(b"HTTP/1.1", b"HTTP/1.0"),
        head("/v2/models/echo/generate"),
        head("/v2/models/a/b/infer"),
        head("/v2/models/a%20b/infer"),
        head("/v2/models/echo/infer?x=1"),
        head(Host="evil.example"),
        head(Host="localhost@evil.example"),
        head(Host=None),
        head(Origin="http://localhost"),
        head(Origin="null"),
        head(Content_Type=None),
        head(Content_Type="text/plain"),
        head(Content_Type="application/json; charset=utf-8"),
        head(Content_Length=None),
        head(Content_Length="+5"),
        head(Content_Length="5, 5"),
        head(Content_Length="99999999999"),
        head(Content_Encoding="gzip"),
        head(Accept_Encoding="gzip"),
        head(Transfer_Encoding="chunked"),
        head(Expect="100-continue"),
        head(Connection="close"),
        head(Connection="upgrade", Upgrade="websocket"),
        head(X_Dreamer_Prefer="nowhere"),
        head(X_Other="1"),
        head(User_Agent="a\x00b"),
        head(User_Agent="ä"),
        head().replace(b"Host: ", b"Host : "),
        head().replace(b"\r\nContent-Type", b"\r\n Content-Type"),
        head().replace(b"\r\n\r\n", b"\r\nContent-Length: 6\r\n\r\n"),
        head().replace(b"\r\n", b"\n"),
    ],
    ids=lambda other: other.decode("latin-1")[:400].replace("\r\n", "|"),
)
def test_any_other_head_is_left_to_the_framework(other: bytes) -> None:
    assert read_head(other) is None


# Answers


def test_inference_takes_no_framework(client) -> None:
    client.send(request(1.0, 2.0))
    status, headers, body = client.answer()
    assert (status, by_framework(headers)) == (200, False)
    assert body.endswith(struct.pack("<2f", 1.0, 2.0))
    assert headers["X-Dreamer-Where"] == "peer"
    assert headers["Server-Timing"].startswith("queue;dur=10.000, ")
    assert "Date" in headers


def test_answers_are_the_same_as_the_frameworks(served_by_tcp) -> None:
    asked = one(tensor("FP32", [1, 2], [0.5, float("nan")])) | {"id": "7"}
    token = {"Authorization": "Bearer s3cret"}
    for model in ("echo", "tiny", "missing", "busy", "away"):
        ours = infer(served_by_tcp, asked, model=model)
        theirs = infer(served_by_tcp, asked, model=model, headers=token, by_tcp=True)
        assert (ours[0], ours[3]) == (theirs[0], theirs[3])
        assert str(ours[2]) == str(theirs[2])
        said = [{**one[1]} for one in (ours, theirs)]
        assert (by_framework(said[0]), by_framework(said[1])) == (False, True)
        for headers in said:
            headers.pop("Date")
            headers.pop("Server", None)
        assert said[0] == said[1]


def test_requests_that_come_together_are_answered_in_their_order(client) -> None:
    client.send(b"".join(request(float(number)) for number in range(200)))
    assert [client.values() for _ in range(200)] == [(float(number),) for number in range(200)]


@pytest.mark.parametrize("cut", [1, 16, 100, 300, -1])
def test_request_that_comes_in_two_pieces_is_answered(client, cut: int) -> None:
    whole = request(3.0, 4.0)
    client.send(whole[:cut])
    # Whatever has come of it by now; the next test has each byte come by itself.
    client.send(whole[cut:])
    assert client.values() == (3.0, 4.0)


def test_request_that_comes_byte_by_byte_is_answered(client) -> None:
    for byte in request(5.0):
        client.send(bytes([byte]))
    assert client.values() == (5.0,)


def test_large_tensors_and_small_ones_follow_each_other(client) -> None:
    for size in (1, 60_000, 2, 100_000, 3):
        client.send(request(*([1.5] * size)))
        assert client.values() == (1.5,) * size


@pytest.mark.parametrize(
    ("body", "words"), [(b"{", "not JSON"), (b"[]", "must be a JSON object"), (b"{}", "inputs")]
)
def test_body_that_is_wrong_is_refused_and_the_next_answered(client, body, words) -> None:
    client.send(head(Content_Length=str(len(body))) + body + request(1.0))
    status, headers, told = client.answer()
    assert (status, by_framework(headers), words in json.loads(told)["error"]) == (400, False, True)
    assert client.values() == (1.0,)


def test_bug_is_told_and_logged(client, served, caplog) -> None:
    async def broken(*_: object) -> None:
        raise KeyError("ours")

    served.node.inference.infer = broken
    client.send(request(1.0))
    status, _, body = client.answer()
    assert (status, "see its log" in json.loads(body)["error"]) == (500, True)
    assert "failed by a bug of ours" in caplog.text


# The framework goes on


def test_what_is_no_inference_is_the_frameworks_from_there_on(client) -> None:
    client.send(request(1.0))
    assert not by_framework(client.answer()[1])
    client.send(b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    status, headers, body = client.answer()
    assert (status, by_framework(headers), json.loads(body)) == (200, True, {"live": True})
    client.send(request(2.0))
    assert client.values() == (2.0,)


def test_request_behind_an_inference_waits_for_it(client) -> None:
    client.send(request(1.0) + b"GET /v2/health/live HTTP/1.1\r\nHost: localhost\r\n\r\n")
    assert client.values() == (1.0,)
    assert json.loads(client.answer()[2]) == {"live": True}


@pytest.mark.parametrize("more", [{"Origin": "http://evil.example"}, {"Host": "evil.example"}])
def test_page_is_kept_out_on_a_connection_that_was_let_in(client, more) -> None:
    client.send(request(1.0))
    client.values()
    client.send(request(1.0, **more))
    assert client.answer()[0] == 403


def test_garbage_is_refused_by_the_framework(client) -> None:
    client.send(b"\x16\x03\x01 what is this\r\n\r\n")
    assert client.answer()[0] == 400


def test_head_without_an_end_is_refused_by_the_framework(client) -> None:
    client.send(b"POST /v2/models/echo/infer HTTP/1.1\r\nX: " + b"y" * 20_000 + b"\r\n\r\n")
    assert client.answer()[0] == 400


def test_body_that_is_large_is_the_frameworks(client) -> None:
    client.send(request(*([1.0] * 300_000)))
    status, headers, body = client.answer()
    assert (status, by_framework(headers), len(body) > 1_200_000) == (200, True, True)


def test_half_a_request_is_handed_over_after_a_while(served, monkeypatch) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.05)
    handed, hand_over = threading.Event(), straight.StraightConnection._hand_over

    def hand_over_and_say(connection: straight.StraightConnection) -> None:
        hand_over(connection)
        handed.set()

    monkeypatch.setattr(straight.StraightConnection, "_hand_over", hand_over_and_say)
    client, whole = Client(served), request(1.0)
    client.send(whole[:-1])
    assert handed.wait(WAIT_S)
    client.send(whole[-1:])
    status, headers, _ = client.answer()
    assert (status, by_framework(headers)) == (200, True)
    client.end.close()


# The end


def test_client_that_says_nothing_for_long_is_left(served, monkeypatch) -> None:
    monkeypatch.setattr(straight, "OIP_BODY_STALL_S", 0.02)
    monkeypatch.setattr(straight, "OIP_STRAIGHT_IDLE_S", 0.05)
    client = Client(served)
    client.send(request(1.0))
    assert client.values() == (1.0,)
    assert client.ended()
    client.end.close()


def text(model: str) -> bytes:
    body = json.dumps(one(tensor("BYTES", [1], ["Hi"], name="text_input"))).encode()
    return head(f"/v2/models/{model}/infer", Content_Length=str(len(body))) + body


def test_client_that_hangs_up_ends_what_it_asked(client, served) -> None:
    client.send(text("silent"))
    assert served.node.inference.begun.wait(WAIT_S)
    client.end.close()
    assert served.node.inference.cancelled.wait(WAIT_S)


def test_client_that_reads_nothing_is_cut_off(served, monkeypatch) -> None:
    monkeypatch.setattr(straight, "REST_STALLED_CLIENT_TIMEOUT_S", 0.05)
    client, whole = Client(served), request(*([1.0] * 200_000))
    with pytest.raises(OSError, match=r"pipe|reset"):
        client.send(whole * 100)
    client.end.close()


def test_stopping_ends_idle_clients_and_what_takes_too_long(tmp_path) -> None:
    served = ServedNode(tmp_path / "home").start()
    idle, busy = Client(served), Client(served)
    idle.send(request(1.0))
    idle.values()
    busy.send(text("silent"))
    assert served.node.inference.begun.wait(WAIT_S)
    served.stop()
    assert served.node.inference.cancelled.is_set()
    assert idle.ended()
    with pytest.raises((ConnectionError, AssertionError)):
        busy.answer()
    for client in (idle, busy):
        client.end.close()
