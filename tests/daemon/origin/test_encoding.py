"""Files as zstd: which ones, that others can read them, and frames that lie."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import zstandard

from dreamer.daemon.origin.encoding import decode_block, encode, worth_encoding
from dreamer.daemon.origin.faults import OriginMissingError
from dreamer.daemon.origin.fetch import fetch_blocks
from dreamer.daemon.origin.origin import Origin
from dreamer.protocol.content.seek_table import parse_table, table_bytes
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES, MIB

TEXT = "".join(f'{{"token": {number}}}\n' for number in range(150_000)).encode()


def written(place: Path, data: bytes) -> Path:
    place.write_bytes(data)
    return place


@pytest.mark.parametrize(
    ("data", "worth"),
    [
        (TEXT, True),
        (TEXT[:2000], False),
        (b"\0" * BLOCK_BYTES, False),
        (random.Random(1).randbytes(BLOCK_BYTES), False),
        (bytes(byte or 1 for byte in random.Random(1).randbytes(BLOCK_BYTES)), False),
        (b"", False),
    ],
    ids=["text", "small", "zeros", "noise", "noise without zeros", "empty"],
)
def test_text_that_shrinks_is_worth_it(tmp_path: Path, data: bytes, worth: bool) -> None:
    assert worth_encoding(written(tmp_path / "file", data), len(data)) is worth


def test_encoded_file_is_read_block_by_block_and_by_any_decoder(tmp_path: Path) -> None:
    plain, target = written(tmp_path / "plain", TEXT), tmp_path / "encoded"
    size = encode(plain, len(TEXT), target, threading.Event())
    data = target.read_bytes()
    assert len(data) == size < len(TEXT) / 2
    table = parse_table(data[-table_bytes(len(TEXT)) :], len(TEXT), size)
    blocks = [TEXT[at : at + BLOCK_BYTES] for at in range(0, len(TEXT), BLOCK_BYTES)]
    for number, block in enumerate(blocks):
        start, length = table.frame(number)
        assert decode_block(data[start : start + length], len(block)) == block
    # The table is a skippable frame: a decoder that knows nothing of it reads the file.
    with zstandard.ZstdDecompressor().stream_reader(data, read_across_frames=True) as reader:
        assert reader.read() == TEXT


def test_same_file_is_encoded_the_same_way_every_time(tmp_path: Path) -> None:
    """By another process, too: what an upload left at the store must fit."""
    plain = written(tmp_path / "plain", TEXT)
    encode(plain, len(TEXT), tmp_path / "here", threading.Event())
    code = (
        "import sys, threading; from pathlib import Path; "
        "from dreamer.daemon.origin.encoding import encode; "
        "encode(Path(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), threading.Event())"
    )
    argv = [sys.executable, "-c", code, str(plain), str(len(TEXT)), str(tmp_path / "there")]
    subprocess.run(argv, check=True, timeout=30, env=os.environ)
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


@pytest.mark.parametrize(
    "frame",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"no frame at all", id="no frame"),
        pytest.param(zstandard.compress(b"x" * 99), id="smaller"),
        pytest.param(zstandard.compress(b"x" * 101), id="larger"),
        pytest.param(zstandard.compress(bytes(1024 * MIB // 8)), id="bomb"),
        pytest.param(zstandard.compress(b"x" * 100)[:-3], id="cut short"),
        pytest.param(zstandard.compress(b"x" * 100) + b"more", id="more behind it"),
        pytest.param(zstandard.ZstdCompressor().compressobj().compress(b"x" * 100), id="no size"),
    ],
)
def test_frame_that_is_not_of_its_block_is_refused_and_takes_no_memory(frame: bytes) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(RemoteProtocolError):
            decode_block(frame, 100)
        assert tracemalloc.get_traced_memory()[1] < MIB
    finally:
        tracemalloc.stop()


def entry_of(node: Any, path: str) -> Any:
    return next(entry for entry in node.manifest.files if entry.path == path)


def upload(origin: Origin, node: Any, *, encoded: bool = True) -> Any:
    return origin.upload(
        *(node.manifest.id, node.manifest, node.store, lambda progress: None, threading.Event()),
        encoded=encoded,
    )


def fetched(origin: Origin, node: Any, path: str, blocks: slice = slice(None)) -> Any:
    """Fetch blocks of one file; return those verified, those rejected, and the bytes it took."""
    index = next(i for i, entry in enumerate(node.manifest.files) if entry.path == path)
    verified: list[int] = []
    rejected: list[int] = []
    arrived: list[int] = []
    wanted = node.manifest.layout.blocks_of_file(index)
    with node.open() as download:
        fetch_blocks(
            *(origin, download, wanted[blocks], threading.Event()),
            *(verified.append, rejected.append, arrived.append),
        )
    first = wanted.start
    return [one - first for one in verified], [one - first for one in rejected], sum(arrived)


def test_one_block_of_an_encoded_file_takes_one_frame(
    origin: Origin, pusher: Any, puller: Any
) -> None:
    upload(origin, pusher)
    entry = entry_of(pusher, "words.csv")
    table = origin.forms.table(entry, threading.Event())
    assert table_bytes(entry.size_bytes) + table.frame(1)[1] < entry.size_bytes / 10
    assert fetched(origin, puller, "words.csv", slice(1, 2)) == ([1], [], table.frame(1)[1])


def test_form_is_asked_for_once(s3_url: str, s3: Any, pusher: Any, puller: Any) -> None:
    with closing(Origin("s3://team/p", s3_url, 0.001)) as first:
        upload(first, pusher)
    asked: list[str] = []

    class Meter:
        def requested(self, kind: str, key: str, up_bytes: int) -> None:
            asked.append(key)

        def received(self, key: str, size_bytes: int) -> None:
            pass

    with closing(Origin("s3://team/p", s3_url, 0.001, meter=Meter())) as origin:
        for number in range(3):
            fetched(origin, puller, "words.csv", slice(number, number + 1))
    # Its size, its table, and three frames.
    assert [key[-4:] for key in asked] == [".zst"] * 5


@pytest.mark.parametrize("path", ["words.csv", "sub/weights"])
def test_file_is_found_in_the_form_that_is_there(
    origin: Origin, pusher: Any, puller: Any, path: str
) -> None:
    # As older nodes left it: nothing is encoded.
    assert upload(origin, pusher, encoded=False).saved_bytes == 0
    verified, rejected, size = fetched(origin, puller, path)
    assert rejected == []
    assert len(verified) == 3
    assert size == entry_of(pusher, path).size_bytes
    # And it is not sent again in the other form.
    assert upload(origin, pusher).sent_bytes == 0


def test_file_that_is_there_encoded_is_sent_plain_where_it_must_be(
    origin: Origin, pusher: Any
) -> None:
    upload(origin, pusher)
    report = upload(origin, pusher, encoded=False)
    assert report.sent_bytes == entry_of(pusher, "words.csv").size_bytes


def test_file_in_no_form_is_missing_by_its_own_name(
    origin: Origin, pusher: Any, puller: Any
) -> None:
    digest = entry_of(pusher, "words.csv").digest.hex()
    with pytest.raises(OriginMissingError, match=f"{digest}: not there"):
        fetched(origin, puller, "words.csv")


def test_damaged_frame_is_rejected_and_the_others_are_kept(
    origin: Origin, pusher: Any, puller: Any, s3: Any
) -> None:
    upload(origin, pusher)
    entry = entry_of(pusher, "words.csv")
    key = origin.address.encoded_key(entry.digest)
    data = bytearray(s3.get_object(Bucket="team", Key=key)["Body"].read())
    start, length = origin.forms.table(entry, threading.Event()).frame(1)
    data[start + length // 2] ^= 1
    s3.put_object(Bucket="team", Key=key, Body=bytes(data))
    verified, rejected, _ = fetched(origin, puller, "words.csv")
    assert (verified, rejected) == ([0, 2], [1])


@pytest.mark.parametrize("garbage", [b"", b"short", bytes(100_000)])
def test_encoded_form_that_is_garbage_counts_for_nothing(
    origin: Origin, pusher: Any, puller: Any, s3: Any, garbage: bytes
) -> None:
    entry = entry_of(pusher, "words.csv")
    key = origin.address.encoded_key(entry.digest)
    s3.put_object(Bucket="team", Key=key, Body=garbage)
    upload(origin, pusher)
    assert fetched(origin, puller, "words.csv")[:2] == ([0, 1, 2], [])


def test_frames_of_other_content_are_rejected(
    origin: Origin, pusher: Any, puller: Any, s3: Any, tmp_path: Path
) -> None:
    """A table and frames that fit in every way, of other text."""
    entry = entry_of(pusher, "words.csv")
    other = written(tmp_path / "other", b"x" * entry.size_bytes)
    encode(other, entry.size_bytes, tmp_path / "encoded", threading.Event())
    key = origin.address.encoded_key(entry.digest)
    s3.put_object(Bucket="team", Key=key, Body=(tmp_path / "encoded").read_bytes())
    verified, rejected, _ = fetched(origin, puller, "words.csv")
    assert (verified, rejected) == ([], [0, 1, 2])
