"""What an entry says of a model beyond its name: notes, provenance, files, and when it ends."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.canonical import dumps, loads
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, Publish
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.provenance import Provenance
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import AliasMove, ModelEntry, TagChange
from dreamer.protocol.registry.storage import Storage
from dreamer.protocol.registry_limits import (
    CONFIG_MAX_ENTRIES,
    CONFIG_VALUE_MAX_CHARS,
    LIFETIME_MAX_DAYS,
    METRICS_MAX_PER_MODEL,
    NOTES_MAX_CHARS,
    PARENTS_MAX_PER_MODEL,
    STORAGE_LISTED_MAX_FILES,
)

A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))

PROVENANCE = Provenance(
    trained_by="Ada, job 17",
    trained_at=1_799_000_000,
    parents=(B, C),
    config={"lr": 3e-4, "layers": 24, "amp": True, "dataset": "librispeech"},
    config_digest=Digest(b"c" * 32),
    metrics={"val_loss": 0.029, "wer/test-clean": 3},
)
STORAGE = Storage.of([("config.json", 10), ("weights/model.safetensors", 990)])


def full(room):
    return replace(
        room.entry(1),
        notes="Second try.\n\tSlower, but it converges: 二",
        provenance=PROVENANCE,
        storage=STORAGE,
        expires_at=int(room.now) + 60,
        lifetime_days=1,
    )


def test_everything_said_of_a_model_survives_the_document(room):
    entry = full(room)
    before = room.change(room.empty(), Publish(entry))
    again = room.verify(parse(before.document.encode(), room.id))
    assert again == before
    assert again.reports == ()
    model = again.registry.models[A]
    assert model.notes == entry.notes
    assert (model.provenance, model.storage) == (PROVENANCE, STORAGE)
    assert (model.expires_at, model.lifetime_days) == (entry.expires_at, 1)
    assert (model.parents, model.metrics["val_loss"]) == ((B, C), 0.029)
    assert model.config["amp"] is True


def test_empty_parts_leave_no_trace_in_what_is_signed(room):
    bare = room.change(room.empty(), Publish(room.entry(1))).document.encode()
    for word in (b"notes", b"provenance", b"storage", b"expires", b"lifetime", b"reports"):
        assert word not in bare


@pytest.mark.parametrize(
    ("said", "signature"),
    [
        (
            ModelEntry(A, "model", 1000, 3, "decoder"),
            "b33b4e446b02ad9e55ef55694de94f84422c9871ae963d596c85325d6e7b673b"
            "b9b3d2ed9df952202b0ad37762f82696430552a857dc2ee719ccd46e709b6d0e",
        ),
        (
            AliasMove("prod", A),
            "a91ad4045a898ec3c6716d76202e22816ba93020576343f0f7cabbc3ca5a4cf4"
            "3e9b1f0b7908261f7a86a39aae8f4b799faad113a5669d2abea218b25683fd02",
        ),
        (
            AliasMove("prod", None),
            "6d8061ffc447f254430409d1268aa108c1c1c2a3c6059d1f157d148dd98a3552"
            "4dcde8879ec8a1efeb6111723aebf4bd5aa95416d4cb71a407b94d88087b4e07",
        ),
        (
            TagChange(A, "good", on=True),
            "82c41eeb8007b0d65782b013270d2511aeb05c87b59d985899522395083257f9"
            "f90b820b97176058d3868e64b1a0df09c7a0ddc2c2e053b6fbe20fd5c8f4240e",
        ),
    ],
)
def test_what_was_signed_before_there_were_optional_fields_is_valid(room, said, signature):
    record = sign(said, room.id, room.author(1).key, room.now, 1)
    # Ed25519 has one signature for one text: this one was made by the first version.
    assert record.signature.hex() == signature


def test_unknown_parts_of_provenance_and_storage_are_kept(room):
    extended = replace(
        room.entry(1),
        provenance=replace(PROVENANCE, extra={"seed": 7}),
        storage=replace(STORAGE, extra={"packed": True}),
    )
    before = room.change(room.empty(), Publish(extended))
    read = room.verify(parse(before.document.encode(), room.id))
    after = room.change(read, MoveAlias("prod", A))
    entry = loads(after.document.encode())["models"][A.hex()]["entry"]
    assert (entry["provenance"]["seed"], entry["storage"]["packed"]) == (7, True)
    assert after.reports == ()


def test_storage_lists_the_largest_files_and_counts_the_others():
    files = [(f"shard-{number:03}", number) for number in range(100)]
    storage = Storage.of(files)
    assert len(storage.files) == STORAGE_LISTED_MAX_FILES
    assert storage.files[0] == ("shard-084", 84)
    assert storage.files[-1] == ("shard-099", 99)
    assert (storage.total_bytes, storage.left_out) == (sum(range(100)), 84)


@pytest.mark.parametrize(
    "wrong",
    [
        {"trained_by": "A\x1b[31m"},
        {"trained_by": "x" * 129},
        {"trained_at": -1.0},
        {"trained_at": float("nan")},
        {"trained_at": True},
        {"parents": (B, B)},
        {"parents": tuple(ManifestId(bytes([n]) * 32) for n in range(PARENTS_MAX_PER_MODEL + 1))},
        {"config": {f"k{number}": 1 for number in range(CONFIG_MAX_ENTRIES + 1)}},
        {"config": {"text": "x" * (CONFIG_VALUE_MAX_CHARS + 1)}},
        {"config": {"many": [1, 2]}},
        {"config": {"none": None}},
        {"config": {"": 1}},
        {"config": {"a b": 1}},
        {"config": {f"long{number}": "x" * 256 for number in range(40)}},
        {"metrics": {"loss": float("inf")}},
        {"metrics": {"loss": "low"}},
        {"metrics": {"loss": True}},
        {"metrics": {"loss": 2**60}},
        {"metrics": {f"m{number}": 1.0 for number in range(METRICS_MAX_PER_MODEL + 1)}},
    ],
)
def test_provenance_out_of_bounds_is_refused(wrong):
    with pytest.raises(InputError):
        replace(PROVENANCE, **wrong)


@pytest.mark.parametrize(
    ("files", "total", "left_out"),
    [
        ([("../escape", 1)], 1, 0),
        ([("/absolute", 1)], 1, 0),
        ([("a\nb", 1)], 1, 0),
        ([("a", -1)], 1, 0),
        ([("a", True)], 1, 0),
        ([("a", 1)], -1, 0),
        ([("a", 1)], 1, 2**60),
        ([(f"f{number}", 1) for number in range(STORAGE_LISTED_MAX_FILES + 1)], 1, 0),
    ],
)
def test_storage_that_no_manifest_could_have_is_refused(files, total, left_out):
    with pytest.raises(InputError):
        Storage(tuple(files), total, left_out)


@pytest.mark.parametrize(
    "wrong",
    [
        {"notes": "x" * (NOTES_MAX_CHARS + 1)},
        {"notes": "bell\a"},
        {"provenance": replace(PROVENANCE, parents=(A,))},
        {"expires_at": 1.5},
        {"expires_at": -1},
        {"lifetime_days": 1},
        {"expires_at": 1, "lifetime_days": 0},
        {"expires_at": 1, "lifetime_days": LIFETIME_MAX_DAYS + 1},
    ],
)
def test_entry_out_of_bounds_is_refused(room, wrong):
    with pytest.raises(InputError):
        replace(room.entry(1), **wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"notes": 5},
        {"provenance": []},
        {"provenance": {"parents": "all"}},
        {"provenance": {"parents": ["xyz"]}},
        {"provenance": {"metrics": [1]}},
        {"storage": {}},
        {"storage": {"files": [["a"]], "total_bytes": 1, "left_out": 0}},
        {"storage": {"files": [["a", "1"]], "total_bytes": 1, "left_out": 0}},
        {"storage": {"files": {}, "total_bytes": 1, "left_out": 0}},
        {"expires_at": "never"},
        {"torrent": {"magnet": 1}},
    ],
)
def test_entry_that_cannot_be_read_is_left_out_and_reported(room, change):
    stored = room.change(room.empty(), Publish(room.entry(1)), Publish(room.entry(2)))
    value = loads(stored.document.encode())
    value["models"][A.hex()]["entry"].update(change)
    after = room.verify(parse(dumps(value), room.id))
    assert list(after.registry.models) == [B]
    assert [report.fault for report in after.reports] == [Fault.MALFORMED]


def expiring(room, seconds, number=1):
    entry = room.entry(number)
    return replace(entry, expires_at=int(room.now) + seconds, lifetime_days=1)


def test_expired_model_is_gone_and_its_aliases_mean_nothing(room):
    state = room.change(
        room.empty(), Publish(expiring(room, 60)), Publish(room.entry(2)), MoveAlias("tmp", A)
    )
    before, after = state.as_of(room.now + 59), state.as_of(room.now + 60)
    assert before is state
    assert list(after.registry.models) == [B]
    assert (after.registry.aliases, after.registry.dangling) == ({}, {"tmp": A})
    assert list(after.registry.expired) == [A]
    assert after.as_of(room.now + 61) is after
    # Whoever reads the document then sees the same, and no fault in it.
    assert room.verify(state.document, room.now + 60) == after


def test_expired_model_takes_no_alias_until_it_is_published_again(room):
    state = room.change(room.empty(), Publish(expiring(room, 60)))
    later = room.now + 61
    with pytest.raises(Exception, match="expired: push it again"):
        room.change(state, MoveAlias("tmp", A), now=later)
    again = room.change(state, Publish(expiring(room, 600)), MoveAlias("tmp", A), now=later)
    assert again.registry.aliases == {"tmp": A}


def test_upload_that_is_over_already_is_refused(room):
    with pytest.raises(InputError, match="expired already"):
        room.change(room.empty(), Publish(expiring(room, 0)))


def test_upload_for_a_time_never_shortens_the_life_of_what_is_there(room):
    lasting = room.change(room.empty(), Publish(room.entry(1)), ChangeTags(A, add=("good",)))
    assert room.change(lasting, Publish(expiring(room, 60))).document is lasting.document
    longer = room.change(room.empty(), Publish(expiring(room, 600)))
    assert room.change(longer, Publish(expiring(room, 60))).document is longer.document
    assert room.change(longer, Publish(expiring(room, 900))).registry.models[A].expires_at == (
        int(room.now) + 900
    )
    assert room.change(longer, Publish(room.entry(1))).registry.models[A].expires_at is None
