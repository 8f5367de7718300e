"""Against a real S3 API: what is sent, what is skipped, what comes back."""

import threading
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
from dreamer.daemon.origin.multipart import part_bytes
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.tally import UploadProgress
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.seek_table import table_bytes
from dreamer.protocol.errors import InputError, LocalError, StoppedError
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import GIB, MIB, ORIGIN_MAX_PARTS, ORIGIN_PART_BYTES

BUCKET = "team"


def ignore(progress: UploadProgress) -> None:
    pass


def upload(origin: Origin, node: Any) -> Any:
    return origin.upload(node.manifest.id, node.manifest, node.store, ignore, threading.Event())


def keys(s3: Any) -> list[str]:
    return [item["Key"] for item in s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])]


def test_pushed_model_is_pulled_from_the_origin_whole(
    origin: Origin, pusher: Any, puller: Any, stop: threading.Event
) -> None:
    report = upload(origin, pusher)
    assert report.sent_bytes + report.saved_bytes > pusher.manifest.size_bytes
    assert report.sent_bytes == report.stored_bytes
    assert report.saved_bytes > 1_000_000
    assert report.skipped_bytes == 0
    data = origin.fetch_object(Digest(pusher.manifest.id))
    assert manifests.parse(data) == pusher.manifest
    puller.store.put_object(pusher.manifest.id, data)
    outboard = origin.fetch_object(pusher.manifest.outboard)
    puller.store.put_object(pusher.manifest.outboard, outboard)
    verified: list[int] = []
    arrived: list[int] = []
    saved: list[int] = []
    with puller.open() as download:
        blocks = range(pusher.manifest.block_count)
        fetch_blocks(
            *(origin, download, blocks, stop, verified.append, pytest.fail, arrived.append),
            saved=saved.append,
        )
        for index in download.missing_files():
            download.finish_file(index)
    assert verified == list(blocks)
    # On the wire there was a seek table, and so much less of the text.
    table = table_bytes(pusher.manifest.files[-1].size_bytes)
    assert sum(arrived) + sum(saved) == pusher.manifest.size_bytes + table
    assert report.saved_bytes == sum(saved) - table
    assert puller.store.complete(pusher.manifest)


def test_content_that_is_there_is_not_sent_again(origin: Origin, pusher: Any, s3: Any) -> None:
    first = upload(origin, pusher)
    second = upload(origin, pusher)
    assert second.sent_bytes == 0
    assert second.skipped_bytes == first.sent_bytes
    cut_short = next(key for key in keys(s3) if "/files/" in key)
    size = s3.head_object(Bucket=BUCKET, Key=cut_short)["ContentLength"]
    s3.put_object(Bucket=BUCKET, Key=cut_short, Body=b"x" * (size + 1))
    assert upload(origin, pusher).sent_bytes == size


def test_progress_ends_at_the_total(origin: Origin, pusher: Any, stop: threading.Event) -> None:
    seen: list[UploadProgress] = []
    manifest = pusher.manifest
    origin.upload(manifest.id, manifest, pusher.store, seen.append, stop)
    last = seen[-1]
    assert (last.done, last.parts_done) == (last.total, last.parts_total)
    done = [(one.done, one.parts_done) for one in seen]
    assert sorted(done) == done


def test_stopped_upload_leaves_no_manifest_and_goes_on_with_its_parts(
    origin: Origin, pusher: Any, s3: Any, stop: threading.Event
) -> None:
    def halt(progress: UploadProgress) -> None:
        if progress.done > 8 * MIB:
            stop.set()

    manifest = pusher.manifest
    with pytest.raises(StoppedError):
        origin.upload(manifest.id, manifest, pusher.store, halt, stop)
    assert not [key for key in keys(s3) if "/objects/" in key]
    (begun,) = s3.list_multipart_uploads(Bucket=BUCKET)["Uploads"]
    there = s3.list_parts(Bucket=BUCKET, Key=begun["Key"], UploadId=begun["UploadId"])["Parts"]
    report = upload(origin, pusher)
    assert report.skipped_bytes >= sum(part["Size"] for part in there) > 0
    assert len([key for key in keys(s3) if "/objects/" in key]) == 2
    assert not s3.list_multipart_uploads(Bucket=BUCKET).get("Uploads")


def test_model_that_is_not_whole_is_not_uploaded(origin: Origin, pusher: Any, s3: Any) -> None:
    pusher.store.file(pusher.manifest.files[0].digest).unlink()
    with pytest.raises(LocalError, match="not whole"):
        upload(origin, pusher)
    assert keys(s3) == []


def test_tampered_object_is_refused(origin: Origin, pusher: Any, s3: Any) -> None:
    upload(origin, pusher)
    key = f"some/prefix/objects/{pusher.manifest.id.hex()}"
    data = s3.get_object(Bucket=BUCKET, Key=key)["Body"].read()
    s3.put_object(Bucket=BUCKET, Key=key, Body=data.replace(b"config", b"konfig"))
    with pytest.raises(OriginError, match="damaged"):
        origin.fetch_object(Digest(pusher.manifest.id))


def test_tampered_block_is_rejected_and_not_kept(
    origin: Origin, pusher: Any, puller: Any, s3: Any, stop: threading.Event
) -> None:
    upload(origin, pusher)
    weights = pusher.manifest.files[-2]
    key = f"some/prefix/files/{weights.digest.hex()}"
    data = bytearray(s3.get_object(Bucket=BUCKET, Key=key)["Body"].read())
    data[MIB + 7] ^= 1
    s3.put_object(Bucket=BUCKET, Key=key, Body=bytes(data))
    blocks = pusher.manifest.layout.blocks_of_file(len(pusher.manifest.files) - 2)
    verified: list[int] = []
    rejected: list[int] = []
    with puller.open() as download:
        fetch_blocks(origin, download, blocks, stop, verified.append, rejected.append)
    assert verified == [blocks[0], blocks[2]]
    assert rejected == [blocks[1]]
    with puller.open() as again:
        assert again.present == 1 << blocks[0] | 1 << blocks[2]


def test_fetching_stops_when_told(
    origin: Origin, pusher: Any, puller: Any, stop: threading.Event
) -> None:
    upload(origin, pusher)
    blocks = range(pusher.manifest.block_count)
    with puller.open() as download, pytest.raises(StoppedError):
        fetch_blocks(origin, download, blocks, stop, lambda block: stop.set(), pytest.fail)


def test_what_is_not_there_is_told_apart(origin: Origin, s3_url: str, s3: Any) -> None:
    with pytest.raises(OriginMissingError, match="not there"):
        origin.fetch_object(Digest(b"x" * 32))
    with pytest.raises(OriginMissingError, match="not there"):
        list(origin.read(Digest(b"x" * 32), 0, 1))
    digest = Digest(b"y" * 32)
    s3.put_object(Bucket=BUCKET, Key=f"some/prefix/files/{digest.hex()}", Body=b"abc")
    with pytest.raises(OriginRangeError, match="shorter"):
        list(origin.read(digest, 10, 5))
    with pytest.raises(OriginError, match="other bytes"):
        list(origin.read(digest, 1, 5))
    assert b"".join(origin.read(digest, 1, 2)) == b"bc"


def test_check_passes_when_the_bucket_lets_us_in(origin: Origin) -> None:
    origin.check()


def test_check_names_a_missing_bucket(s3_url: str) -> None:
    origin = Origin("s3://no-such-bucket/x", s3_url, retry_base_s=0.001)
    with pytest.raises(OriginMissingError, match=r"no-such-bucket.*check the bucket"):
        origin.check()
    origin.close()


def test_check_names_the_variables_of_missing_credentials(
    s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    origin = Origin(f"s3://{BUCKET}", s3_url, retry_base_s=0.001)
    with pytest.raises(OriginRefusedError, match=r"AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"):
        origin.check()
    origin.close()


def test_check_names_an_endpoint_that_is_away() -> None:
    origin = Origin(f"s3://{BUCKET}", "http://127.0.0.1:1", retry_base_s=0.001)
    with pytest.raises(OriginBusyError, match="check the endpoint"):
        origin.check()
    origin.close()


@pytest.mark.parametrize(
    ("url", "endpoint"),
    [
        ("http://bucket/x", None),
        ("s3://", None),
        ("s3://UPPER/x", None),
        ("s3://bucket/x?y", None),
        ("s3://bucket", "ftp://host"),
        ("s3://bucket", "https://user:pass@host"),
        ("s3://bucket", "host:9000"),
    ],
)
def test_address_of_another_form_is_refused(url: str, endpoint: str | None) -> None:
    with pytest.raises(InputError, match=r"s3://BUCKET|https://HOST"):
        Origin(url, endpoint)


@pytest.mark.parametrize("size_bytes", [17 * MIB, 80 * GIB, 5000 * GIB])
def test_parts_stay_within_the_limits_of_s3(size_bytes: int) -> None:
    size = part_bytes(size_bytes)
    assert size >= ORIGIN_PART_BYTES
    assert -(-size_bytes // size) <= ORIGIN_MAX_PARTS
