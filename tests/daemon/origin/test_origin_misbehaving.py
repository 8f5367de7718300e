"""Against a server that fails as told: what is tried again, from where, and what is given up."""

import threading
import time
from typing import Any

import pytest

from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginMissingError,
    OriginRangeError,
    OriginRefusedError,
)
from dreamer.daemon.origin.fetch import fetch_blocks
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.retry import Retry
from dreamer.protocol.errors import StoppedError
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES, ORIGIN_ATTEMPTS

DIGEST = Digest(b"d" * 32)
CONTENT = bytes(range(256)) * 5000


def read(origin: Origin) -> bytes:
    return b"".join(origin.read(DIGEST, 256, len(CONTENT) - 256))


@pytest.mark.parametrize("word", ["500", "503", "429", "reset", "cut:0"])
def test_passing_failure_is_tried_again(bad_origin: Origin, misbehaviour: Any, word: str) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = [word] * (ORIGIN_ATTEMPTS - 1)
    assert read(bad_origin) == CONTENT[256:]
    assert len(misbehaviour.requests) == ORIGIN_ATTEMPTS


@pytest.mark.parametrize("word", ["500", "503", "429", "reset", "cut:0"])
def test_lasting_failure_is_given_up(bad_origin: Origin, misbehaviour: Any, word: str) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = [word] * ORIGIN_ATTEMPTS
    with pytest.raises(OriginBusyError):
        read(bad_origin)
    assert len(misbehaviour.requests) == ORIGIN_ATTEMPTS


def test_body_cut_short_is_taken_up_where_it_ended(bad_origin: Origin, misbehaviour: Any) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = ["cut:300000", "503", "cut:400000"]
    assert read(bad_origin) == CONTENT[256:]
    starts = [int(asked[len("bytes=") :].split("-")[0]) for asked in misbehaviour.requests]
    assert starts[0] == 256
    assert starts[1] == starts[2] > 256
    assert starts[3] > starts[2]


def test_server_that_brings_a_block_each_time_is_slow_not_broken(
    bad_origin: Origin, misbehaviour: Any
) -> None:
    misbehaviour.content = bytes(BLOCK_BYTES * 2 * (ORIGIN_ATTEMPTS + 2))
    misbehaviour.script = [f"cut:{2 * BLOCK_BYTES}"] * (ORIGIN_ATTEMPTS + 1)
    data = b"".join(bad_origin.read(DIGEST, 0, len(misbehaviour.content)))
    assert data == misbehaviour.content


@pytest.mark.parametrize(
    ("word", "error"),
    [
        ("401", OriginRefusedError),
        ("403", OriginRefusedError),
        ("404", OriginMissingError),
        ("416", OriginRangeError),
    ],
)
def test_refusal_is_not_tried_again(
    bad_origin: Origin, misbehaviour: Any, word: str, error: type[OriginError]
) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = [word]
    with pytest.raises(error):
        read(bad_origin)
    assert len(misbehaviour.requests) == 1


def test_server_that_ignores_ranges_is_refused(bad_origin: Origin, misbehaviour: Any) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = ["whole"]
    with pytest.raises(OriginError, match="Range"):
        read(bad_origin)


def test_server_that_answers_with_another_range_is_refused(
    bad_origin: Origin, misbehaviour: Any
) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = ["other"]
    with pytest.raises(OriginError, match="Range"):
        read(bad_origin)
    assert len(misbehaviour.requests) == 1


@pytest.mark.parametrize("word", ["301", "302", "307"])
def test_redirection_is_not_followed(bad_origin: Origin, misbehaviour: Any, word: str) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = [word]
    with pytest.raises(OriginError):
        read(bad_origin)
    # boto3 asks the same server which region the bucket is in.
    assert not any("elsewhere" in path for path in misbehaviour.paths)


def test_body_that_hangs_is_asked_for_again_where_it_hung(
    bad_origin: Origin, misbehaviour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("bucket", "signed_requests"):
        monkeypatch.setattr(f"dreamer.daemon.origin.{module}.ORIGIN_BODY_TIMEOUT_S", 0.2)
    misbehaviour.content = CONTENT
    misbehaviour.script = ["hang:300000"]
    assert read(bad_origin) == CONTENT[256:]
    starts = [int(asked[len("bytes=") :].split("-")[0]) for asked in misbehaviour.requests]
    assert len(starts) == 2
    assert 256 < starts[1] <= 256 + 300_000


@pytest.mark.parametrize("word", ["429:1", "503:1"])
def test_server_that_asks_to_be_left_in_peace_is(
    bad_origin: Origin, misbehaviour: Any, word: str
) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = [word]
    assert read(bad_origin) == CONTENT[256:]
    first, second = misbehaviour.times
    assert second - first >= 0.95


def test_peace_that_one_thread_was_asked_for_holds_for_all(stop: threading.Event) -> None:
    retry = Retry(base_s=0.0)
    began = time.monotonic()
    with pytest.raises(OriginBusyError):
        retry.pause(ORIGIN_ATTEMPTS, OriginBusyError("busy", retry_after_s=0.3), stop)
    assert retry.run(time.monotonic, stop) >= began + 0.3
    stop.set()
    retry = Retry(base_s=0.0)
    with pytest.raises(OriginBusyError):
        retry.pause(ORIGIN_ATTEMPTS, OriginBusyError("busy", retry_after_s=100.0), stop)
    with pytest.raises(StoppedError):
        retry.await_turn(stop)


def test_whole_answer_to_a_request_for_the_whole_is_fine(
    bad_origin: Origin, misbehaviour: Any
) -> None:
    misbehaviour.content = CONTENT
    misbehaviour.script = ["whole"]
    assert b"".join(bad_origin.read(DIGEST, 0, len(CONTENT))) == CONTENT


def test_stopping_ends_the_pause_between_tries(misbehaviour: Any, stop: threading.Event) -> None:
    origin = Origin("s3://team/p", misbehaviour.url, retry_base_s=1000.0)
    misbehaviour.content = CONTENT
    misbehaviour.script = ["503"]
    # The pause is capped at some seconds; a stop set before it must not wait at all.
    stop.set()
    with pytest.raises(StoppedError):
        list(origin.read(DIGEST, 0, 10, stop))
    origin.close()


def test_check_that_was_stopped_asks_no_more(misbehaviour: Any, stop: threading.Event) -> None:
    origin = Origin("s3://team/p", misbehaviour.url, retry_base_s=1000.0)
    stop.set()
    with pytest.raises(StoppedError):
        origin.check(stop)
    origin.close()


def test_blocks_before_a_failure_are_kept(
    bad_origin: Origin, misbehaviour: Any, puller: Any, contents: Any, stop: threading.Event
) -> None:
    index = next(i for i, e in enumerate(puller.manifest.files) if e.path == "sub/weights")
    blocks = puller.manifest.layout.blocks_of_file(index)
    misbehaviour.content = contents["sub/weights"]
    # Twice: a URL that was good before may have expired, so a new one is tried.
    misbehaviour.script = [f"cut:{BLOCK_BYTES + 5}", "403", "403"]
    verified: list[int] = []
    with puller.open() as download:
        with pytest.raises(OriginRefusedError):
            fetch_blocks(bad_origin, download, blocks, stop, verified.append, pytest.fail)
        assert verified == [blocks[0]]
        misbehaviour.script = ["wrong"]
        rejected: list[int] = []
        fetch_blocks(bad_origin, download, blocks[1:], stop, pytest.fail, rejected.append)
        assert rejected == list(blocks[1:])
