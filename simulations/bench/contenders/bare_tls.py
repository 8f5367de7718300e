"""The least that a direct lane can be: a TLS 1.3 socket, BLAKE3 and ``pwrite``, two processes.

Usage: python -m dreamer.simulations.bench.contenders.bare_tls send|receive FD SOURCE|TARGET SIZE

The sender reads blocks from a file, the receiver verifies each against its hash, which it was
given before, and writes it in place. No requests, no planner, one connection, a thread each. The
receiver prints the seconds from reserving room on disk, as a download does, to the last verified
byte, whole file flushed.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
import time
from pathlib import Path

from blake3 import blake3

from dreamer.daemon.direct.certificate import (
    dialling_context,
    make_certificate,
    serving_context,
)
from dreamer.simulations.bench.contenders.ends import Run, started, usage

BLOCK_BYTES = 1024 * 1024
SOCKET_TIMEOUT_S = 120.0


class BareTls:
    """The contender."""

    name = "bare TLS loop"

    def run(self, source: Path, scratch: Path) -> Run:
        """Move a file; the hashes are made before the clock starts."""
        size = source.stat().st_size
        with source.open("rb") as file:
            blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
            hashes = b"".join(blake3(block).digest() for block in blocks)
        argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        with socket.create_server(("127.0.0.1", 0)) as listener:
            fd = listener.fileno()
            giving = [*argv, "send", str(fd), str(source), str(size)]
            taking = [*argv, "receive", str(fd), str(scratch / "target"), str(size)]
            with started(giving, [fd]) as giver, started(taking, [fd]) as taker:
                assert taker.stdin is not None
                assert taker.stdout is not None
                taker.stdin.write(hashes.hex() + "\n")
                taker.stdin.flush()
                seconds = float(taker.stdout.readline())
                return Run(seconds, usage(giver), usage(taker))


def send(fd: int, source: Path, size: int) -> None:
    """Accept one connection on the listening socket and send the file's blocks."""
    with socket.socket(fileno=fd) as listener:
        plain, _ = listener.accept()
    with serving_context(make_certificate()).wrap_socket(plain, server_side=True) as sock:
        sock.settimeout(SOCKET_TIMEOUT_S)
        block = memoryview(bytearray(BLOCK_BYTES))
        file = os.open(source, os.O_RDONLY)
        for offset in range(0, size, BLOCK_BYTES):
            count = os.preadv(file, [block], offset)
            sock.sendall(block[:count])
        os.close(file)
        sock.recv(1)


def receive(fd: int, target: Path, size: int) -> None:
    """Connect to the port that ``fd`` listens on and write what comes."""
    with socket.socket(fileno=fd) as listener:
        address = listener.getsockname()
    hashes = bytes.fromhex(sys.stdin.readline())
    started = time.monotonic()
    file = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(file, 0, size)
    block = memoryview(bytearray(BLOCK_BYTES))
    with dialling_context().wrap_socket(socket.create_connection(address)) as sock:
        sock.settimeout(SOCKET_TIMEOUT_S)
        for number, offset in enumerate(range(0, size, BLOCK_BYTES)):
            data = block[: min(BLOCK_BYTES, size - offset)]
            _read_exactly(sock, data)
            if blake3(data).digest() != hashes[number * 32 : number * 32 + 32]:
                raise SystemExit("a block came in damaged")
            os.pwrite(file, data, offset)
        os.fsync(file)
        print(time.monotonic() - started, flush=True)
    os.close(file)


def _read_exactly(sock: ssl.SSLSocket, data: memoryview) -> None:
    got = 0
    while got < len(data):
        count = sock.recv_into(data[got:])
        if not count:
            raise SystemExit("the sender has gone")
        got += count


if __name__ == "__main__":
    role, descriptor, place, total = sys.argv[1:]
    (send if role == "send" else receive)(int(descriptor), Path(place), int(total))
