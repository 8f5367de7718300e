"""iroh's Python bindings: one QUIC stream of raw bytes, BLAKE3 and ``pwrite`` as in the bare loop.

Usage: python -m dreamer.simulations.bench.contenders.iroh_stream give|take SOURCE|TARGET SIZE

The bindings copy what is sent byte by byte in a Python loop; that is replaced here by one
``memmove``, or it would be a hundred times slower. No relay, no discovery: the address is handed
over. The taker prints the seconds from its first read to the last verified byte, flushed.
"""

from __future__ import annotations

import asyncio
import ctypes
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import Any

from blake3 import blake3

from dreamer.simulations.bench.contenders.ends import MissingError, Run, started, usage

ALPN = b"dreamer-bench"
BLOCK_BYTES = 1024 * 1024
WINDOW_BYTES = 16 * 1024 * 1024


class IrohStream:
    """The contender."""

    name = "iroh"

    def run(self, source: Path, scratch: Path) -> Run:
        """Move a file.

        Raises:
            MissingError: the bindings are not installed.
        """
        if importlib.util.find_spec("iroh") is None:
            raise MissingError("its Python bindings are not installed (extra dev)")
        size = str(source.stat().st_size)
        with source.open("rb") as file:
            blocks = iter(lambda: file.read(BLOCK_BYTES), b"")
            hashes = b"".join(blake3(block).digest() for block in blocks)
        argv = [sys.executable, "-m", __spec__.name if __spec__ else __name__]
        log = scratch / "iroh.log"
        with (
            started([*argv, "give", str(source), size], log=log) as giver,
            started([*argv, "take", str(scratch / "target"), size], log=log) as taker,
        ):
            assert giver.stdin is not None
            assert giver.stdout is not None
            assert taker.stdin is not None
            assert taker.stdout is not None
            taker.stdin.write(giver.stdout.readline() + hashes.hex() + "\n")
            taker.stdin.flush()
            seconds = taker.stdout.readline()
            if not seconds:
                raise RuntimeError(f"iroh failed: {log.read_text()[-2000:]}")
            taken = usage(taker)
            giver.stdin.close()
            return Run(float(seconds), usage(giver), taken)


def _patched() -> Any:
    """Return the bindings, with what they copy byte by byte copied at once."""
    import iroh
    from iroh import iroh_ffi

    def write(self: Any, value: bytes) -> None:
        size = len(value)
        with self._reserve(size):
            start = ctypes.addressof(self.rbuf.data.contents) + self.rbuf.len
            ctypes.memmove(start, bytes(value), size)

    builder: Any = iroh_ffi._UniffiRustBufferBuilder
    builder.write = write
    return iroh


async def _endpoint(iroh: Any) -> Any:
    return await iroh.Endpoint.bind(
        iroh.EndpointOptions(
            preset=iroh.preset_minimal(),
            bind_addr="127.0.0.1:0",
            alpns=[ALPN],
            relay_mode=iroh.RelayMode.disabled(),
        )
    )


async def give(source: Path, size: int) -> None:
    """Send the file to the first who connects; prints id and port."""
    endpoint = await _endpoint(_patched())
    print(endpoint.id().to_bytes().hex(), endpoint.bound_sockets()[0], flush=True)
    incoming = await endpoint.accept_next()
    connection = await (await incoming.accept()).connect()
    stream = await connection.open_uni()
    fd = os.open(source, os.O_RDONLY)
    for offset in range(0, size, BLOCK_BYTES):
        await stream.write_all(os.pread(fd, BLOCK_BYTES, offset))
    await stream.finish()
    os.close(fd)
    await asyncio.to_thread(sys.stdin.read)
    await endpoint.close()


async def take(target: Path, size: int) -> None:
    """Connect to whom stdin names and write what comes."""
    iroh = _patched()
    identity, address = sys.stdin.readline().split()
    hashes = bytes.fromhex(sys.stdin.readline())
    endpoint = await _endpoint(iroh)
    peer = iroh.EndpointAddr(iroh.EndpointId.from_bytes(bytes.fromhex(identity)), None, [address])
    fd = os.open(target, os.O_RDWR | os.O_CREAT, 0o600)
    os.posix_fallocate(fd, 0, size)
    connection = await endpoint.connect(peer, ALPN)
    connection.set_receive_window(WINDOW_BYTES)
    stream = await connection.accept_uni()
    begun = time.monotonic()
    for number, offset in enumerate(range(0, size, BLOCK_BYTES)):
        block = await stream.read_exact(min(BLOCK_BYTES, size - offset))
        if blake3(block).digest() != hashes[number * 32 : number * 32 + 32]:
            raise SystemExit("a block came in damaged")
        os.pwrite(fd, block, offset)
    os.fsync(fd)
    print(time.monotonic() - begun, flush=True)
    os.close(fd)
    await endpoint.close()


if __name__ == "__main__":
    role, place, total = sys.argv[1:]
    asyncio.run((give if role == "give" else take)(Path(place), int(total)))
