"""Frames between a pool and its worker: what goes in comes out, and nonsense is refused."""

from __future__ import annotations

import io
from dataclasses import asdict, fields, replace

import pytest

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.requests import GenerateRequest, Message, Text, TokenLogprob
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.inference.tensors import Embedded, EmbedRequest, Inferred, InferRequest, Tensor
from dreamer.daemon.inference.tools import ToolCall, Tools
from dreamer.protocol.errors import InputError, LocalProtocolError

EVERYTHING = GenerateRequest(
    messages=(
        Message("system", "be brief"),
        Message("user", "grüß"),
        Message("assistant", "", (ToolCall("f", '{"x": 1}', "call_1"),)),
        Message("tool", "2", tool_call_id="call_1", name="f"),
    ),
    raw_prompt=None,
    prompt_ids=(5, 6),
    max_tokens=17,
    token_ids_so_far=(1, 2, 3),
    sampling=Sampling(0.7, 0.9, 40, 0.1, 1.1, 64, 0.5, -0.5, 2**63, ((7, -100.0), (8, 1.5))),
    stop=("\n\n", "END"),
    grammar=Grammar("schema", '{"type": "object"}'),
    logprobs=3,
    tools=Tools("[]", "required", "f", parallel=False),
    context=99,
    truncate=True,
    open_ended=True,
    thinking=False,
)
VECTOR = Tensor("vectors", "FP32", (2, 2), bytes(range(16)))


def through(kind: str, given: channel.Fields) -> channel.Fields:
    """Return the fields of a frame as the other side reads them."""
    stream = io.BytesIO(b"".join(bytes(piece) for piece in channel.encode(kind, given)))
    frame = channel.read(stream)
    assert frame is not None
    assert frame[0] == kind
    assert stream.read() == b""
    return frame[1]


@pytest.mark.parametrize(
    "request_",
    [EVERYTHING, GenerateRequest(raw_prompt="on it goes"), GenerateRequest(messages=())],
)
def test_every_field_of_a_generation_arrives(request_: GenerateRequest) -> None:
    assert channel.request_from(through("generate", channel.request_fields(request_))) == request_


def test_no_field_is_left_at_its_default_above() -> None:
    plain = GenerateRequest()
    same = [f.name for f in fields(plain) if getattr(plain, f.name) == getattr(EVERYTHING, f.name)]
    # A prompt arrives as the message that it is; a raw prompt is tried by itself.
    assert same == ["prompt", "raw_prompt"]


def test_prompt_arrives_as_one_message_of_the_user() -> None:
    arrived = channel.request_from(
        through("generate", channel.request_fields(GenerateRequest(prompt="hello")))
    )
    assert arrived.messages == (Message("user", "hello"),)


def test_piece_of_text_arrives_with_its_logprobs() -> None:
    piece = Text("ab", (1, 2), (TokenLogprob(1, "a", -0.5, ((1, "a", -0.5), (9, "z", -2.0))),))
    assert channel.text_from(through("text", {"id": 4, **asdict(piece)})) == piece


def test_card_may_tell_its_kind() -> None:
    assert through("ready", {"id": 0, "kind": "tensor"}) == {"id": 0, "kind": "tensor"}


def test_tensors_arrive_without_being_packed() -> None:
    words = Tensor("words", "BYTES", (1,), memoryview(b"\x01\x00\x00\x00a"))
    empty = Tensor("none", "FP32", (0, 3), b"")
    request = InferRequest((VECTOR, words, empty), ("y",))
    arrived = channel.infer_from(through("infer", {"id": 1, **channel.infer_fields(request)}))
    assert arrived.outputs == ("y",)
    assert [bytes(one.data) for one in arrived.inputs] == [
        bytes(one.data) for one in request.inputs
    ]
    assert [replace(one, data=b"") for one in arrived.inputs] == [
        replace(one, data=b"") for one in request.inputs
    ]
    inferred = through("inferred", channel.inferred_fields(Inferred((VECTOR,), compute_s=0.5)))
    assert channel.inferred_from(inferred).compute_s == 0.5


def test_texts_and_vectors_arrive() -> None:
    request = EmbedRequest(("a", "b"), truncate=False, dimensions=2)
    assert channel.embed_from(through("embed", channel.embed_fields(request))) == request
    told = channel.embedded_from(
        through("embedded", channel.embedded_fields(Embedded(VECTOR, 7, compute_s=0.25)))
    )
    assert (told.prompt_tokens, told.compute_s, bytes(told.vectors.data)) == (7, 0.25, VECTOR.data)


def test_other_side_that_is_gone_is_no_frame() -> None:
    whole = b"".join(bytes(piece) for piece in channel.encode("x", {"parts": [b"abc"]}))
    assert all(channel.read(io.BytesIO(whole[:end])) is None for end in range(len(whole)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        b"\x80",
        b"\x81\xa5frame",
        b"\xa1x",
        b"\x82\xa5frame\xa1x\xaapart_bytes\x91\x07",
    ],
)
def test_what_is_no_frame_is_refused(body: bytes) -> None:
    with pytest.raises(LocalProtocolError):
        channel.decode(body, b"")


def test_frame_that_says_it_is_huge_is_refused_unread() -> None:
    with pytest.raises(LocalProtocolError):
        channel.sizes(channel.HEADER.pack(2**31, 0))
    with pytest.raises(LocalProtocolError):
        channel.sizes(channel.HEADER.pack(1, 2**40))


def test_too_much_at_once_is_refused_before_it_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(channel, "INFERENCE_TENSORS_MAX_BYTES", 15)
    with pytest.raises(InputError, match="split the batch"):
        channel.encode("infer", channel.infer_fields(InferRequest((VECTOR,))))


FRAMES = [
    ("text", {"id": 1, "text": "a"}),
    ("inferred", {"id": 2, "parts": [b"abc", b""]}),
    ("inferred", {"id": 3, "parts": [bytes(100_000)]}),
    ("done", {"id": 4}),
]
WRITTEN = b"".join(bytes(piece) for frame in FRAMES for piece in channel.encode(*frame))


def fed(pieces: list[bytes]) -> list[tuple[str, channel.Fields]]:
    buffer = channel.FrameBuffer()
    return [frame for piece in pieces for frame in buffer.feed(piece)]


@pytest.mark.parametrize("size", [1, 7, 12, 4096, 65_536, len(WRITTEN)])
def test_frames_are_put_together_however_they_come(size: int) -> None:
    pieces = [WRITTEN[place : place + size] for place in range(0, len(WRITTEN), size)]
    assert fed(pieces) == FRAMES


def test_tensors_of_a_frame_that_comes_whole_are_not_copied() -> None:
    whole = b"".join(bytes(piece) for piece in channel.encode(*FRAMES[2]))
    ((_, fields_),) = fed([whole])
    assert fields_["parts"][0].obj is whole


def test_frames_before_what_is_none_are_given() -> None:
    frames = channel.FrameBuffer().feed(WRITTEN + b"\xff" * channel.HEADER.size)
    assert [next(frames) for _ in FRAMES] == FRAMES
    with pytest.raises(LocalProtocolError):
        next(frames)
