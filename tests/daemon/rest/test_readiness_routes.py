"""``/health``, ``/ready`` and the probe's own port: what whoever starts and stops a daemon asks."""

from __future__ import annotations

import json
from contextlib import asynccontextmanager, closing
from types import SimpleNamespace

import aiohttp
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.rest.serve import probing
from dreamer.daemon.surfaces.readiness import ReadyInfo
from dreamer.protocol.errors import LocalError

WAIT_S = 10.0


def ask(served, path, *, by_tcp=False, headers=None):
    with closing(served.connection(by_tcp=by_tcp)) as connection:
        connection.request("GET", path, headers=headers or {})
        with closing(connection.getresponse()) as answer:
            return answer.status, json.loads(answer.read())


def test_ready_is_200_once_the_node_is_ready_and_503_before(served):
    served.node.readiness.ready = False
    status, said = ask(served, "/ready")
    assert (status, said["ready"]) == (503, False)
    assert said["waiting_for"] == ["prod: fetching, 2 of 5 bytes are here"]
    assert said["preload"][0]["total"] == 5
    served.node.readiness.ready = True
    assert ask(served, "/ready")[0] == 200


def test_health_answers_also_while_the_node_is_not_ready(served):
    served.node.readiness.ready = False
    assert ask(served, "/health") == (200, {"alive": True})


def test_probes_by_tcp_need_no_token_and_hear_no_names(served_by_tcp):
    served_by_tcp.node.readiness.ready = False
    assert ask(served_by_tcp, "/health", by_tcp=True) == (200, {"alive": True})
    assert ask(served_by_tcp, "/ready", by_tcp=True) == (503, {"ready": False})
    wrong = {"Authorization": "Bearer wrong"}
    assert ask(served_by_tcp, "/ready", by_tcp=True, headers=wrong) == (503, {"ready": False})
    right = {"Authorization": "Bearer s3cret"}
    assert ask(served_by_tcp, "/ready", by_tcp=True, headers=right)[1]["waiting_for"]


def test_everything_else_still_needs_the_token(served_by_tcp):
    for path in ("/dreamer/v1/readiness", "/ready/", "/metrics", "//ready", "/health/../metrics"):
        assert ask(served_by_tcp, path, by_tcp=True)[0] == 401, path


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_pages_of_other_sites_may_not_ask(served_by_tcp, path):
    for headers in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
        assert ask(served_by_tcp, path, by_tcp=True, headers=headers)[0] == 403


def test_client_reads_and_waits(served):
    client = Dreamer(served.home).readiness
    served.node.readiness.ready = False
    found = client.info()
    assert (found.ready, found.preload[0].ref, found.preload[0].done) == (False, "prod", 2)
    assert not client.wait(0.0).ready
    served.node.readiness.ready = True
    assert client.wait(WAIT_S).ready


def test_client_waits_for_no_daemon_longer_than_it_is_told(tmp_path):
    with pytest.raises(LocalError, match="no dreamerd is running"):
        Dreamer(tmp_path).readiness.wait(0.0)


@asynccontextmanager
async def probed():
    info = SimpleNamespace(now=ReadyInfo(False, ("secret-model: not there",)))
    readiness = SimpleNamespace(info=lambda: info.now)
    async with (
        probing(readiness, "127.0.0.1:0") as (host, port),
        aiohttp.ClientSession(f"http://{host}:{port}") as http,
    ):
        yield info, http


async def test_probe_port_answers_anybody_in_one_word():
    async with probed() as (info, http):
        # The kubelet's Host is the pod's address.
        host = {"Host": "10.1.2.3:8472"}
        async with http.get("/ready", headers=host) as answer:
            assert (answer.status, await answer.text()) == (503, "waiting\n")
        async with http.get("/health", headers=host) as answer:
            assert (answer.status, await answer.text()) == (200, "alive\n")
        info.now = ReadyInfo(True)
        async with http.get("/ready", headers=host) as answer:
            assert (answer.status, await answer.text()) == (200, "ready\n")


async def test_probe_port_knows_nothing_else():
    async with probed() as (_, http):
        for path in ("/", "/metrics", "/dreamer/v1/status", "/dreamer/v1/readiness"):
            async with http.get(path) as answer:
                assert answer.status == 404
        async with http.post("/ready", data=b"x" * 10_000) as answer:
            assert answer.status == 405


async def test_probe_port_that_is_taken_is_said_with_its_setting():
    async with probing(SimpleNamespace(), "127.0.0.1:0") as (host, port):
        with pytest.raises(LocalError, match=r"\[api\] probe_listen"):
            async with probing(SimpleNamespace(), f"{host}:{port}"):
                raise AssertionError("it was free")
