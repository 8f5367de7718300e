"""Heads that are read without the web framework, and all that are left to it."""

from __future__ import annotations

import pytest
from in_memory.oip import HEADER_LENGTH
from in_memory.straight import head

from dreamer.daemon.rest.oip.heads import InferHead, read_head
from dreamer.daemon.surfaces.inference import RunOptions

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
