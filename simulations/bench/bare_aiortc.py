"""Bare aiortc between two processes: what the webrtc lane is measured against.

Usage: python -m dreamer.simulations.bench.bare_aiortc send|receive FD SIZE

Two data channels as a link has, 128 KiB messages, sender and receiver a process each with uvloop;
nothing is hashed and nothing written. The descriptions cross the socket FD; the receiver prints
the seconds from the first byte to the last.
"""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import time

import uvloop
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, RTCSessionDescription

MESSAGE_BYTES = 128 * 1024
QUEUED_BYTES = 2 * MESSAGE_BYTES


async def _send(fd: int, size: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    channel = pc.createDataChannel("bulk", ordered=False)
    opened, room = asyncio.Event(), asyncio.Event()
    channel.on("open", opened.set)
    channel.bufferedAmountLowThreshold = QUEUED_BYTES - MESSAGE_BYTES
    channel.on("bufferedamountlow", room.set)
    await pc.setLocalDescription(await pc.createOffer())
    writer.write(json.dumps(pc.localDescription.sdp).encode() + b"\n")
    answer = json.loads(await reader.readline())
    await pc.setRemoteDescription(RTCSessionDescription(answer, "answer"))
    await opened.wait()
    message = bytes(MESSAGE_BYTES)
    for _ in range(size // MESSAGE_BYTES):
        while channel.bufferedAmount >= QUEUED_BYTES:
            room.clear()
            await room.wait()
        channel.send(message)
    await reader.read()
    await pc.close()
    writer.close()


async def _receive(fd: int, size: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    pc = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    finished = asyncio.Event()
    received, started = 0, 0.0

    def take(data: bytes) -> None:
        nonlocal received, started
        started = started or time.monotonic()
        received += len(data)
        if received >= size // MESSAGE_BYTES * MESSAGE_BYTES:
            finished.set()

    def take_channel(channel: RTCDataChannel) -> None:
        channel.on("message", take)

    pc.on("datachannel", take_channel)
    offer = json.loads(await reader.readline())
    await pc.setRemoteDescription(RTCSessionDescription(offer, "offer"))
    await pc.setLocalDescription(await pc.createAnswer())
    writer.write(json.dumps(pc.localDescription.sdp).encode() + b"\n")
    await finished.wait()
    print(time.monotonic() - started, flush=True)
    writer.close()
    await pc.close()


if __name__ == "__main__":
    role, descriptor, total = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    uvloop.run((_send if role == "send" else _receive)(descriptor, total))
