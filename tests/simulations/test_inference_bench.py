"""The benchmark of inference: what it counts, and how it judges; the figures are the machine's."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from dreamer.simulations.bench.inference import Row
from dreamer.simulations.bench.serving.client import Streamed, _parsed, chat
from dreamer.simulations.bench.serving.contender import Contender
from dreamer.simulations.bench.serving.models import _GRAPHS, SHAPES, TENSOR_SIDE, _multiplications
from dreamer.simulations.bench.serving.rounds import _between
from dreamer.simulations.bench.serving.tensor_client import TensorClient


def chunk(text: str | None, **more: object) -> bytes:
    choices = [] if text is None else [{"delta": {"content": text}}]
    return b"data: " + json.dumps({"choices": choices, **more}).encode()


@pytest.mark.parametrize(
    ("row", "verdict"),
    [
        (Row("a", 0.9, low=0.9), "met"),
        (Row("a", 0.89, low=0.9), "MISSED"),
        (Row("a", 3.0, high=3.0), "met"),
        (Row("a", 3.01, high=3.0), "MISSED"),
    ],
)
def test_row_is_judged_by_its_bound(row: Row, verdict: str) -> None:
    assert row.verdict.split()[-1] == verdict
    assert row.line().endswith(verdict)


def test_row_without_a_bound_only_informs() -> None:
    assert Row("a", 1.0).verdict == ""


def test_rate_counts_tokens_after_the_first() -> None:
    lines = [chunk(""), chunk("a"), chunk("b"), chunk("c")]
    usage = {"completion_tokens": 3, "prompt_tokens": 9}
    parsed = _parsed(10.0, [11.0, 12.0, 13.0, 14.0, 15.0], [*lines, chunk(None, usage=usage)])
    assert parsed == Streamed(10.0, [12.0, 13.0, 14.0], "abc", 3, 9)
    assert (parsed.rate, parsed.first_token_s) == (1.0, 2.0)


def test_error_in_a_stream_fails_the_benchmark() -> None:
    with pytest.raises(RuntimeError, match="too many"):
        _parsed(0.0, [1.0], [b'data: {"error": "too many"}'])
    with pytest.raises(RuntimeError, match="without text"):
        _parsed(0.0, [1.0], [chunk("")])


def test_gaps_are_those_that_touch_the_window() -> None:
    assert _between([0.0, 1.0, 3.0, 6.0, 10.0], 2.0, 6.5) == [2.0, 3.0, 4.0]


def test_graph_of_tensors_gives_back_what_it_was_given_turned_round(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_multiplications(3), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    values = np.random.default_rng(0).random((1, TENSOR_SIDE, TENSOR_SIDE), np.float32)
    (given,) = session.run(None, {"x": values})
    np.testing.assert_allclose(given, values[..., ::-1])


@pytest.mark.parametrize("name", SHAPES)
def test_graph_of_the_benchmark_takes_what_it_is_given(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_GRAPHS[name](2), path)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {"x": np.ones(SHAPES[name], np.float32)})
    np.testing.assert_allclose(given, np.ones(SHAPES[name]), rtol=1e-4)


class OneAnswer:
    """Answers one connection with these pieces, whatever is asked."""

    def __init__(self, path: Path, *pieces: bytes, until: bytes = b"values") -> None:
        self._until = until
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(path))
        self._listening.listen()
        self.asked = b""
        self._thread = threading.Thread(target=self._serve, args=(pieces,))
        self._thread.start()

    def _serve(self, pieces: tuple[bytes, ...]) -> None:
        with self._listening, self._listening.accept()[0] as end:
            while not self.asked.endswith(self._until):
                self.asked += end.recv(65_536)
            for piece in pieces:
                end.sendall(piece)

    def join(self) -> None:
        self._thread.join(10.0)


HEAD = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: 99\r\nServer-Timing: "


def test_tensor_client_waits_for_the_whole_answer(tmp_path: Path) -> None:
    answer = HEAD + b"queue;dur=1.0, compute;dur=2.5\r\nContent-Length: 6\r\n\r\nanswer"
    server = OneAnswer(tmp_path / "s", answer[:20], answer[20:-3], answer[-3:])
    client = TensorClient(tmp_path / "s", "m", b"values", [1, 6])
    assert client.ask() == 0.0025
    server.join()
    assert server.asked.startswith(b"POST /v2/models/m/infer HTTP/1.1\r\n")
    client.close()


def test_tensor_client_tells_what_was_no_answer(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\nnever"
    server = OneAnswer(tmp_path / "s", refusal)
    client = TensorClient(tmp_path / "s", "m", b"values", [1, 6])
    with pytest.raises(RuntimeError, match="404"):
        client.ask()
    server.join()
    client.close()


@pytest.mark.parametrize("callers", [{}, {"callers": 2}])
def test_bare_graph_times_each_run_or_all_of_several_callers(
    callers: dict[str, int], tmp_path: Path
) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(_GRAPHS["vectors"](2), path)
    with Contender.of("bare_graph", str(path), "1") as bare:
        told = bare.ask(shape=SHAPES["vectors"], runs=3, **callers)
    if callers:
        assert told["seconds"] > 0
    else:
        assert len(told["times"]) == 3


def test_stream_is_stamped_as_it_comes_and_taken_apart_afterwards(tmp_path: Path) -> None:
    events = [
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": {"content": "b"}}]},
        {"choices": [], "usage": {"completion_tokens": 2, "prompt_tokens": 9}},
    ]
    said = [b"data: " + json.dumps(one).encode() + b"\n\n" for one in events]
    chunks = [b"%x\r\n%b\r\n" % (len(one), one) for one in (*said, b"data: [DONE]\n\n")]
    whole = b"HTTP/1.1 200 OK\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"
    # Cut in the middle of what an event begins with.
    cut = whole.index(b"data: {") + 3
    server = OneAnswer(tmp_path / "s", whole[:cut], whole[cut:], until=b"}")
    seen: list[float] = []
    streamed = chat(tmp_path / "s", "m", "Hello", 2, seen)
    server.join()
    assert (streamed.text, streamed.tokens, len(seen)) == ("ab", 2, 3)


def test_stream_that_is_refused_fails_the_benchmark(tmp_path: Path) -> None:
    refusal = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 4\r\n\r\nbusy"
    server = OneAnswer(tmp_path / "s", refusal, until=b"}")
    with pytest.raises(RuntimeError, match="503"):
        chat(tmp_path / "s", "m", "Hello", 2, [])
    server.join()
