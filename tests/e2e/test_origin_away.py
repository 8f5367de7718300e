"""An origin that goes away: peers go on, pushes queue, and what was queued is finished later.

And no log of a node or tracker ever holds a signature, however much is logged.
"""

from __future__ import annotations

import json
from contextlib import ExitStack
from typing import Any

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import NO_S3_CREDENTIALS, S3_CREDENTIALS, Node, tracker, until
from dreamer.simulations.s3_proxy import Passed, S3Proxy, s3_proxy

pytestmark = pytest.mark.e2e

BUCKET = "models"
MIB = 2**20
Answer = tuple[int, dict[str, str], bytes]


def error(code: str) -> bytes:
    return f"<Error><Code>{code}</Code></Error>".encode()


AWAY: dict[str, tuple[Answer, str]] = {
    "network": ((503, {}, b""), "can't be reached|busy"),
    "credentials": ((403, {}, error("ExpiredToken")), "good no longer"),
    "bucket": ((404, {}, error("NoSuchBucket")), "the bucket isn't there"),
}


@pytest.fixture
def proxy(bucket: str) -> Any:
    with s3_proxy(bucket) as proxy:
        yield proxy


def room_with_origin(node: Node, team: Any, name: str, endpoint: str) -> None:
    place = ("--origin", f"s3://{BUCKET}/{team.root.name}-{name}", "--endpoint-url", endpoint)
    node.dreamer("room", "create", name, "--tracker", team.tracker, *place)


def queue(node: Node) -> Any:
    return Dreamer(node.home).status()["uploads"]["queue"]


@pytest.mark.parametrize("why", AWAY)
def test_push_is_published_and_its_upload_waits_until_the_origin_is_back(
    team: Any, proxy: S3Proxy, watch: Any, why: str
) -> None:
    a, b = team.node(f"A{why}"), team.node(f"B{why}")
    room_with_origin(a, team, why, proxy.url)
    team.join(b, a, why)
    answer, words = AWAY[why]
    # To HEAD, S3 answers with no body and so with no code; to that of a bucket that is gone, as to
    # that of a key that is not there.
    head = (503 if why == "network" else 404, {}, b"")
    proxy.answer = lambda request: head if request.method == "HEAD" else answer
    source = team.model(f"model-{why}", 3 * MIB)
    pushed = a.dreamer("push", str(source), "--room", why, "--alias", "now")
    assert pushed["origin_state"] == "queued"
    assert any(word in pushed["origin_error"] for word in words.split("|")), pushed["origin_error"]
    assert watch.moved(b.dreamer("pull", "now", "--room", why)) == 3 * MIB
    (waits,) = queue(a)
    assert waits["left_bytes"] >= 3 * MIB
    assert waits["attempts"] >= 1
    # What a person sees.
    said = a.try_dreamer("push", str(source), "--room", why, "--no-wait")
    assert "origin: queued" in said.out
    shown = a.try_dreamer("status").out
    assert "attempts" in shown
    assert waits["error"][:30] in shown
    # Over a restart, too.
    a.process.stop()
    a.start()
    until(lambda: len(queue(a)) == 1, "the queue of the last daemon")
    proxy.answer = lambda request: None
    done = a.dreamer("push", str(source), "--room", why, "--wait-origin")
    assert done["origin_state"] == "stored"
    assert queue(a) == []
    (model,) = Dreamer(a.home).models()
    assert model.origin is not None


def test_push_that_waits_for_nothing_ends_before_its_upload(team: Any, proxy: S3Proxy) -> None:
    a = team.node("Anowait")
    room_with_origin(a, team, "nowait", proxy.url)
    held: list[Passed] = []
    proxy.answer = lambda request: held.append(request) or (503, {"Retry-After": "1"}, b"")
    source = team.model("nowait", MIB)
    pushed = a.dreamer("push", str(source), "--room", "nowait", "--no-wait")
    assert (pushed["origin_state"], pushed["uploaded"]) == ("queued", 0)
    proxy.answer = lambda request: None
    until(lambda: queue(a) == [], "the upload")
    refused = a.try_dreamer("push", str(source), "--room", "nowait", "--no-wait", "--wait-origin")
    assert "contradict" in refused.err


def test_model_that_waits_for_its_upload_is_not_removed(team: Any, proxy: S3Proxy) -> None:
    a = team.node("Akeeps")
    room_with_origin(a, team, "keeps", proxy.url)
    proxy.answer = lambda request: (503, {}, b"")
    source = team.model("keeps", MIB)
    a.dreamer("push", str(source), "--room", "keeps", "--alias", "kept", "--no-wait")
    refused = a.try_dreamer("rm", "kept", "--room", "keeps")
    assert refused.status != 0
    assert "not uploaded yet" in refused.err


def test_signatures_are_in_no_log_however_much_is_logged(
    team: Any, proxy: S3Proxy, watch: Any
) -> None:
    """Everything at level debug: uploads, resumed and failed, and pulls by signed URLs."""
    loud = {"DREAMER_LOG_LEVEL": "debug"}
    place = f"s3://{BUCKET}/loud"
    with ExitStack() as stack:
        a = team.node("Aloud", env={**NO_S3_CREDENTIALS, **loud})
        b = team.node("Bloud", env={**NO_S3_CREDENTIALS, **loud})
        data = team.root / "loud-tracker"
        with tracker(data) as url:
            options = ("--origin", place, "--endpoint-url", proxy.url)
            room = a.dreamer("room", "create", "loud", "--tracker", url, *options)
            listen = url.removeprefix("http://")
        table = {room["room_id"]: {"url": place, "endpoint_url": proxy.url}}
        env = {**S3_CREDENTIALS, "DREAMER_TRACKER_ORIGINS": json.dumps(table), **loud}
        stack.enter_context(tracker(data, listen, env=env))
        until(lambda: Dreamer(a.home).rooms()[0].connected, "the return to the tracker")
        team.join(b, a, "loud")
        failures = [500, 403, 409, 400]
        proxy.answer = lambda request: (
            (failures.pop(), {}, error("Whatever"))
            if failures and request.method in ("PUT", "POST")
            else None
        )
        source = team.model("loud", 20 * MIB, 5)
        a.dreamer("push", str(source), "--room", "loud", "--alias", "loud", "--wait-origin")
        assert failures == []
        a.process.stop()
        b.dreamer("pull", "loud", "--room", "loud", "--output", str(team.root / "got-loud"))
        assert watch.content(team.root / "got-loud") == watch.content(source)
        signed = [one for one in proxy.passed if "X-Amz-Signature" in one.query]
        assert len(signed) > 10
        logs = [a.process.log, b.process.log, team.root / "loud-tracker.log"]
        for log in logs:
            said = log.read_text()
            assert "DEBUG" in said or log == logs[-1]
            assert "X-Amz-Signature" not in said
            for one in signed:
                assert one.query["X-Amz-Signature"][0] not in said
