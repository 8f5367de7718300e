import pytest
from rich.console import Console

from dreamer.daemon.cli import tables
from dreamer.daemon.ports import LANES, PullReceipt, PushReceipt

MIB = 2**20


def shown(*, resumed=0, **moved):
    lanes = {lane: moved.get(lane, 0) for lane in LANES}
    receipt = PullReceipt(
        "ab" * 32, "abababab", "tiny", "/models/tiny", 8 * MIB, 0.01, lanes, {}, resumed, {}
    )
    console = Console(width=200)
    with console.capture() as captured:
        console.print(tables.pull_receipt(receipt))
    return captured.get().splitlines()


@pytest.mark.parametrize("held", [{"cache": 8 * MIB}, {"resumed": 8 * MIB}])
def test_pull_of_what_is_here_says_that_nothing_moved(held):
    assert shown(**held) == [
        "tiny abababab is at /models/tiny",
        "already here, nothing moved",
    ]


def test_what_the_store_had_is_not_counted_as_moved():
    lines = shown(cache=3 * MIB, webrtc=4 * MIB, resumed=MIB)
    assert lines[-1] == "4.0 MiB moved in 0.0 s, 4.0 MiB were here already"
    assert [line.split()[0] for line in lines[1:-1]] == ["lane", "cache", "webrtc"]


def test_what_compression_saved_is_said():
    lanes = {**dict.fromkeys(LANES, 0), "origin": 3 * MIB}
    receipt = PullReceipt(
        *("ab" * 32, "abababab", "tiny", "/models/tiny", 8 * MIB, 0.01, lanes, {}, 0, {}),
        saved=5 * MIB,
    )
    assert printed(tables.pull_receipt(receipt))[-1] == (
        "3.0 MiB moved in 0.0 s, 5.0 MiB saved by compression"
    )


def printed(what):
    console = Console(width=200)
    with console.capture() as captured:
        console.print(what)
    return captured.get().splitlines()


@pytest.mark.parametrize(
    ("state", "error", "lines"),
    [
        ("stored", "", ["uploaded 3.0 MiB to s3://team/p, 1.0 MiB saved by compression"]),
        (
            "queued",
            "the bucket is away; try again later",
            [
                "origin: queued (the bucket is away; try again later)",
                "this node uploads it by itself; 'dreamer status' says how far it is",
            ],
        ),
        (
            "queued",
            "",
            [
                "origin: queued",
                "this node uploads it by itself; 'dreamer status' says how far it is",
            ],
        ),
    ],
)
def test_push_says_how_its_upload_stands(state, error, lines):
    receipt = PushReceipt(
        *("ab" * 32, "abababab", "tiny", "lab", 4 * MIB, 1, (), (), 0.5, 3 * MIB, "s3://team/p"),
        saved=MIB,
        origin_state=state,
        origin_error=error,
    )
    assert printed(tables.push_receipt(receipt))[2:] == lines
