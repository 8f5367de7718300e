"""A frame that names no request: its worker is not understood, and nothing of it escapes."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Iterator
from typing import Any

import msgpack
import pytest

from dreamer.daemon.inference import channel
from dreamer.daemon.inference.pool.process import Exchange, WorkerLostError, WorkerProcess
from dreamer.daemon.inference.pool.tensor_transport import PoolTensors

STDOUT = 1


class Process(asyncio.SubprocessTransport):
    """A process that can be killed, and has no pipes."""

    def __init__(self) -> None:
        super().__init__()
        self.killed = False

    def get_pipe_transport(self, fd: int) -> None:
        return None

    def kill(self) -> None:
        self.killed = True


@pytest.fixture
def tensors() -> Iterator[PoolTensors]:
    made = PoolTensors()
    yield made
    made.close()


@pytest.mark.parametrize("named", [{}, {"id": None}, {"id": "1"}, {"id": [1]}, {"id": {}}])
async def test_frame_that_names_no_request_ends_the_worker(
    tensors: PoolTensors, named: dict[str, Any]
) -> None:
    worker, process = WorkerProcess(tensors, 1.0), Process()
    worker._pipes.connection_made(process)
    exchange = worker._exchanges[1] = Exchange(worker, 1)
    body = msgpack.packb({**named, "frame": "inferred"})
    good = b"".join(bytes(piece) for piece in channel.encode("text", {"id": 1}))
    worker._pipes.pipe_data_received(STDOUT, good + struct.pack(">IQ", len(body), 0) + body + good)
    assert await exchange.next() == ("text", {"id": 1})
    with pytest.raises(WorkerLostError, match="named no request"):
        await exchange.next()
    assert process.killed
