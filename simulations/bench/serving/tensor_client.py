"""A client of ``/v2`` that takes next to no processor time: one socket, one request's bytes.

``http.client`` makes the request anew each time and reads the answer's headers as a mail's, on the
cores that it shares with what is measured.
"""

from __future__ import annotations

import json
import re
import socket
from pathlib import Path

from dreamer.simulations.bench.serving.client import BINARY_HEADER, TIMEOUT_S

_LENGTH = re.compile(rb"\r\nContent-Length: (\d+)")
_COMPUTED = re.compile(rb"compute;dur=([0-9.]+)")
_END = b"\r\n\r\n"
_BUFFER_BYTES = 1 << 20


class TensorClient:
    """Asks a graph with an FP32 input ``x`` the same again and again, in binary."""

    def __init__(self, path: Path, model: str, values: bytes, shape: list[int]) -> None:
        """Connect to the socket at ``path``."""
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.settimeout(TIMEOUT_S)
        self._socket.connect(str(path))
        self._request = (_head(model, values, shape), values)
        self._answer = bytearray(_BUFFER_BYTES)

    def ask(self) -> float:
        """Ask once; return the seconds that the node's worker computed.

        Raises:
            RuntimeError: it was no answer.
        """
        size = sum(len(part) for part in self._request)
        if (sent := self._socket.sendmsg(self._request)) < size:
            self._socket.sendall(b"".join(self._request)[sent:])
        got, view = 0, memoryview(self._answer)
        while (end := self._answer.find(_END, 0, got)) < 0:
            got += self._received(view[got:])
        head = bytes(view[:end])
        length, computed = _LENGTH.search(head), _COMPUTED.search(head)
        if length is None or computed is None:
            raise RuntimeError(bytes(view[:got]).decode(errors="replace")[:500])
        while got < end + len(_END) + int(length[1]):
            got += self._received(view[got:])
        return float(computed[1]) / 1000

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()

    def _received(self, into: memoryview) -> int:
        if not (count := self._socket.recv_into(into)):
            raise RuntimeError("the node closed the connection")
        return count


def _head(model: str, values: bytes, shape: list[int]) -> bytes:
    described = {
        "name": "x",
        "datatype": "FP32",
        "shape": shape,
        "parameters": {"binary_data_size": len(values)},
    }
    asked = {"inputs": [described], "parameters": {"binary_data_output": True}}
    text = json.dumps(asked).encode()
    lines = (
        f"POST /v2/models/{model}/infer HTTP/1.1",
        "Host: localhost",
        "Content-Type: application/octet-stream",
        f"{BINARY_HEADER}: {len(text)}",
        f"Content-Length: {len(text) + len(values)}",
    )
    return "\r\n".join(lines).encode() + _END + text
