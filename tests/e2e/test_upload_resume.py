"""A daemon that is killed in the midst of an upload: the next one goes on by itself.

Real daemons, real stores, and a proxy between them that counts what passes. What is sent twice is
at most what was on its way when the daemon died.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.limits import ORIGIN_PARALLEL_REQUESTS, ORIGIN_PART_BYTES
from dreamer.simulations.loopback import (
    NO_S3_CREDENTIALS,
    S3_CREDENTIALS,
    Process,
    tracker,
    until,
)
from dreamer.simulations.s3_proxy import Passed, S3Proxy, s3_proxy

pytestmark = pytest.mark.e2e

BUCKET = "models"
MIB = 2**20
PARTS = list(range(1, 9))


@pytest.fixture
def rclone(program: Any, tmp_path: Path) -> Iterator[str]:
    """rclone's S3 server, which checks signatures; its bucket is a folder."""
    (tmp_path / "data" / BUCKET).mkdir(parents=True)
    keys = f"{S3_CREDENTIALS['AWS_ACCESS_KEY_ID']},{S3_CREDENTIALS['AWS_SECRET_ACCESS_KEY']}"
    argv = [program("rclone"), "serve", "s3", str(tmp_path / "data"), "--addr", "127.0.0.1:0"]
    env = {"RCLONE_CONFIG": str(tmp_path / "none")}
    with Process([*argv, "--auth-key", keys], tmp_path / "rclone.log", env) as process:
        yield process.start(r"Starting s3 server on \[(http://\S+?)/?\]").group(1)


@pytest.fixture(params=["moto", pytest.param("rclone", marks=pytest.mark.interop)])
def proxy(request: Any, bucket: str) -> Iterator[S3Proxy]:
    upstream = bucket if request.param == "moto" else request.getfixturevalue("rclone")
    with s3_proxy(upstream) as proxy:
        yield proxy


class HeldUp:
    """Lets ``count`` parts through and holds the others until the daemon is dead."""

    def __init__(self, count: int) -> None:
        self.left = count
        self.held: list[Passed] = []
        self.lock = threading.Lock()
        self.dead = threading.Event()

    def __call__(self, request: Passed, body: bytes) -> bytes:
        if request.part is None or self.dead.is_set():
            return body
        with self.lock:
            self.left -= 1
            if self.left >= 0:
                return body
            self.held.append(request)
        self.dead.wait(60)
        # It must not reach the store after all, by us.
        raise ConnectionError("its sender is dead")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("how", ["credentials", "urls"])
def test_upload_goes_on_after_kill_9_with_the_parts_that_are_left(
    team: Any, proxy: S3Proxy, watch: Any, how: str, request: Any
) -> None:
    # The paths of Unix sockets must be short.
    name = "".join(word[0] for word in (request.node.callspec.id.split("-")))
    own = S3_CREDENTIALS if how == "credentials" else NO_S3_CREDENTIALS
    source = team.model(f"big-{name}", 64 * MIB)
    words = "".join(f"{number},word\n" for number in range(300_000))
    (source / "words.csv").write_text(words)
    place = f"s3://{BUCKET}/{name}"
    with ExitStack() as stack:
        a, b = team.node(f"A{name}", env=own), team.node(f"B{name}", env=own)
        data = team.root / f"tracker-{name}"
        with tracker(data) as url:
            options = ("--origin", place, "--endpoint-url", proxy.url)
            room = a.dreamer("room", "create", "lab", "--tracker", url, *options)
            listen = url.removeprefix("http://")
        table = {room["room_id"]: {"url": place, "endpoint_url": proxy.url}}
        env = {**S3_CREDENTIALS, "DREAMER_TRACKER_ORIGINS": json.dumps(table)}
        stack.enter_context(tracker(data, listen, env=env))
        until(lambda: Dreamer(a.home).rooms()[0].connected, "the return to the tracker")
        team.join(b, a, "lab")

        gate = HeldUp(3)
        proxy.change = gate
        with a.begin("push", str(source), "--room", "lab", "--alias", "big") as pushing:
            until(lambda: len(gate.held) == ORIGIN_PARALLEL_REQUESTS, "parts on their way")
            until(lambda: len(proxy.sent_parts()) == 3, "three parts at the store")
            in_flight = sum(one.body_bytes for one in gate.held)
            sent_before = proxy.sent_parts()
            a.process.kill()
            gate.dead.set()
            pushing.communicate(timeout=60)

        a.start()
        until(lambda: not a.dreamer("status")["uploads"]["queue"], "the end of the upload", 60)
        again = [number for number in proxy.sent_parts() if proxy.sent_parts().count(number) > 1]
        assert again == []
        assert sorted(proxy.sent_parts()) == PARTS
        assert len(sent_before) == 3
        assert in_flight <= ORIGIN_PARALLEL_REQUESTS * ORIGIN_PART_BYTES
        # For the table in docs/origins.md: pytest -rP shows it.
        print(f"{request.node.callspec.id}: {len(again)} parts twice, {in_flight} bytes in flight")
        (model,) = Dreamer(a.home).models()
        assert model.origin == place
        a.process.stop()
        pulled = b.dreamer("pull", "big", "--output", str(team.root / f"got-{name}"))
        assert watch.content(team.root / f"got-{name}") == watch.content(source)
        assert pulled["saved"] > len(words) / 2
        assert pulled["bytes"]["origin"] + pulled["saved"] == 64 * MIB + len(words)
        for node in (a, b):
            assert "X-Amz-Signature" not in node.process.log.read_text()
