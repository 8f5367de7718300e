"""The protocol's gRPC service over a node in memory, and a client made of nothing but grpcio."""

import grpc
import pytest
from in_memory.node import MemoryNode

from dreamer.daemon.grpc_api.messages import SERVICE, message
from dreamer.daemon.grpc_api.serving import serving_grpc
from dreamer.daemon.open_inference.serving import OpenInference

TOKEN = "s3cret"


class GrpcNode:
    """A node that is served at a Unix socket, and by TCP with the token ``s3cret``."""

    def __init__(self, home) -> None:
        self.node = MemoryNode()
        self.oip = OpenInference(self.node.inference)
        self.socket = home / "run" / "grpc.sock"
        self.tcp = None

    @property
    def inference(self):
        return self.node.inference

    def serving(self, **options):
        tcp = {"tcp": ("127.0.0.1", 0), "token": TOKEN, "drain_s": 0.05} | options
        return serving_grpc(self.oip, self.node.readiness, self.socket, **tcp)

    async def call(self, method, metadata=None, *, by_tcp=False, **fields):
        """Return the answer of one call, or raise ``grpc.aio.AioRpcError``."""
        async with self.channel(by_tcp=by_tcp) as channel:
            stub = channel.unary_unary(
                f"/{SERVICE}/{method}",
                request_serializer=lambda given: given.SerializeToString(),
                response_deserializer=message(f"{method}Response").FromString,
            )
            return await stub(message(f"{method}Request")(**fields), metadata=metadata, timeout=20)

    def channel(self, *, by_tcp=False):
        where = f"127.0.0.1:{self.tcp[1]}" if by_tcp else f"unix:{self.socket}"
        bound = 2**28
        return grpc.aio.insecure_channel(
            where,
            options=[
                ("grpc.max_receive_message_length", bound),
                ("grpc.max_send_message_length", bound),
            ],
        )

    async def failure(self, method, metadata=None, **fields):
        """Return how a call failed: its code's name, what was said, and the trailers."""
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await self.call(method, metadata, **fields)
        error = failed.value
        return error.code().name, error.details(), dict(error.trailing_metadata() or ())

    def stream(self, channel):
        """Return a stream of inferences."""
        return channel.stream_stream(
            f"/{SERVICE}/ModelStreamInfer",
            request_serializer=lambda given: given.SerializeToString(),
            response_deserializer=message("ModelStreamInferResponse").FromString,
        )(timeout=20)


@pytest.fixture
async def grpc_node(tmp_path):
    made = GrpcNode(tmp_path)
    async with made.serving() as made.tcp:
        yield made
