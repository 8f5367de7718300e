"""gRPC beside REST in a real daemon: what it opens, what it says when it can't, how it ends."""

from __future__ import annotations

import asyncio
import socket
import stat
import subprocess
import time

import grpc
import pytest

from dreamer.daemon.grpc_api.messages import SERVICE, message
from dreamer.simulations.loopback import Node, free_port, program, tracker
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

WAIT_S = 60.0
STOP_S = 10.0


@pytest.fixture
def node(tmp_path):
    """A daemon with gRPC on its socket alone that holds a model which runs."""
    with (
        tracker(tmp_path / "tracker") as url,
        Node(tmp_path / "node", env={"DREAMER_API_GRPC_LISTEN": "unix"}) as one,
    ):
        one.dreamer("room", "create", "lab", "--tracker", url)
        write_tiny_gguf(tmp_path / "tiny.gguf")
        directory = tmp_path / "talker"
        one.dreamer("import", str(tmp_path / "tiny.gguf"), "--output", str(directory))
        one.dreamer("push", str(directory), "--room", "lab", "--alias", "talker")
        yield one


async def test_daemon_ends_in_the_middle_of_a_stream(node):
    path = node.home / "run" / "grpc.sock"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    request = message("ModelInferRequest")(model_name="talker")
    text = request.inputs.add(name="text_input", datatype="BYTES", shape=[1])
    text.contents.bytes_contents.append(b"hello")
    request.parameters["stream"].bool_param = True
    request.parameters["max_tokens"].int64_param = 30
    async with grpc.aio.insecure_channel(f"unix:{path}") as channel:
        # The client never ends its side: the stream is open for as long as there is a server.
        stream = channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda given: given.SerializeToString(),
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )()
        await stream.write(request)
        assert (await stream.read()).error_message == ""
        began = time.monotonic()
        node.process.terminate()
        # What it is told depends on who closes the socket first; but it is told, and soon.
        with pytest.raises(grpc.aio.AioRpcError):
            await _to_the_end(stream)
    assert await asyncio.to_thread(node.process.wait) == 0
    assert time.monotonic() - began < STOP_S
    assert not path.exists()
    assert "Traceback" not in node.process.log.read_text()


async def _to_the_end(stream):
    while await stream.read() is not grpc.aio.EOF:
        pass


@pytest.mark.parametrize("listen", ["0.0.0.0:8001", "tcp", "127.0.0.1"])
def test_address_that_is_no_loopback_is_refused(tmp_path, listen):
    done = start(tmp_path / "home", listen)
    assert done.returncode == 1
    assert "grpc_listen" in done.stderr
    assert "loopback" in done.stderr


def test_port_that_is_taken_is_said_in_one_line(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = start(tmp_path / "home", f"127.0.0.1:{taken.getsockname()[1]}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].endswith("change [api] grpc_listen")
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "home" / "run" / "grpc.sock").exists()


def start(home, listen):
    """Run a daemon that can't start."""
    return subprocess.run(
        [program("dreamerd"), "--home", str(home)],
        env={"DREAMER_API_GRPC_LISTEN": listen, "PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        check=False,
    )


def test_two_daemons_do_not_share_a_port(tmp_path):
    listen = f"127.0.0.1:{free_port()}"
    with Node(tmp_path / "one", env={"DREAMER_API_GRPC_LISTEN": listen}):
        done = start(tmp_path / "two", listen)
    assert done.returncode == 1
    assert "grpc_listen" in done.stderr
