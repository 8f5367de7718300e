"""The head of an inference as programs write it, read without a web framework.

Only what is plain is read, by rules that are narrower than HTTP's: whatever else a head may say
(another call, a header that changes what the body is, a page's ``Origin``) is left to the
framework, which has all the rules. So nothing is decided here that is not decided there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import cast, get_args

from dreamer.daemon.rest.guard import addressed_here
from dreamer.daemon.rest.inference_headers import PREFER_HEADER
from dreamer.daemon.rest.oip.asked import HEADER_LENGTH
from dreamer.daemon.surfaces.inference import Prefer, RunOptions

HEAD_END = b"\r\n\r\n"
HEAD_BEGINS = b"POST /v2/models/"
HEAD_MAX_BYTES = 2048

_KEPT_HEADS = 64
# No byte of a name has to be unquoted, and none ends it early.
_LINE = re.compile(
    rb"POST (?P<path>/v2/models/(?P<model>[\w.@-]+)(?:/versions/(?P<version>[\w.-]+))?/infer)"
    rb" HTTP/1\.1"
)
_FIELD = re.compile(rb"([A-Za-z-]+):[ \t]*([\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)[ \t]*")
_IGNORED = ("accept", "user-agent", "authorization")
"""They change nothing of an inference on the socket."""

_PLAIN = {
    "content-type": ("application/json", "application/octet-stream"),
    "connection": ("keep-alive",),
    # Whoever wants it compressed names one coding alone.
    "accept-encoding": (
        "identity",
        "gzip, deflate",
        "gzip, deflate, br",
        "gzip, deflate, br, zstd",
    ),
    PREFER_HEADER.lower(): get_args(Prefer),
}
"""What these may say here."""


@dataclass(frozen=True)
class InferHead:
    """What one asks: a model and version, how to run it, and how many bytes follow.

    ``header_length`` is the binary extension's, as it stands there.
    """

    path: str
    model: str
    version: str
    options: RunOptions
    body_bytes: int
    header_length: str | None


def may_begin_head(came: bytes) -> bool:
    """Say whether bytes without ``HEAD_END`` may be the start of one of these."""
    if len(came) >= HEAD_MAX_BYTES or not HEAD_BEGINS.startswith(came[: len(HEAD_BEGINS)]):
        return False
    # An empty line ends a head with bare LFs as well (RFC 9112, 2.2): no more of it will come.
    return b"\n\n" not in came and b"\n\r\n" not in came


@lru_cache(_KEPT_HEADS)
def read_head(head: bytes) -> InferHead | None:
    """Return what a head up to and with its empty line asks; None if it is not one of these."""
    first, *lines = head.removesuffix(HEAD_END).split(b"\r\n")
    line = _LINE.fullmatch(first)
    fields = _fields(lines)
    if line is None or fields is None or not addressed_here(fields.get("host", "")):
        return None
    length = fields.get("content-length", "")
    if "content-type" not in fields or not re.fullmatch(r"[0-9]{1,10}", length):
        return None
    prefer = cast(Prefer, fields.get(PREFER_HEADER.lower(), "auto"))
    return InferHead(
        line["path"].decode(),
        line["model"].decode(),
        (line["version"] or b"").decode(),
        RunOptions(prefer),
        int(length),
        fields.get(HEADER_LENGTH.lower()),
    )


def _fields(lines: list[bytes]) -> dict[str, str] | None:
    """Return the headers by their names in small letters; None if there are any but plain ones."""
    found: dict[str, str] = {}
    for line in lines:
        field = _FIELD.fullmatch(line)
        if field is None:
            return None
        name, value = field[1].decode().lower(), field[2].decode()
        if name in found or not _plain(name, value):
            return None
        found[name] = value.lower() if name in _PLAIN else value
    return found


def _plain(name: str, value: str) -> bool:
    if name in _PLAIN:
        return value.lower() in _PLAIN[name]
    return name in ("host", "content-length", HEADER_LENGTH.lower(), *_IGNORED)
