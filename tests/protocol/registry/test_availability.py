"""Where models lie: what uploaders say of the bucket and nodes of their own caches."""

from __future__ import annotations

import pytest

from dreamer.protocol.canonical import dumps, loads
from dreamer.protocol.errors import ForbiddenError, InputError, NoMatchError
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.availability import NodeReport, Stored
from dreamer.protocol.registry.changes import Publish, ReportNode, SayStored, Withdraw
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry_limits import (
    CACHED_ID_BYTES,
    REPORT_MAX_CELLS,
    REPORT_MAX_COUNTERS,
    REPORT_MAX_MODELS,
    REPORT_MAX_MONTHS,
    REPORT_NAME_MAX_CHARS,
)

A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))
USAGE = {"2026-10": {"direct": 5, "origin-down": 0}, "2026-11": {"origin-down": 7, "requests": 2}}
HERE = Stored(A, "https://s3.example.org/bucket/models", 1000, 700)


@pytest.fixture
def state(room):
    return room.change(room.empty(), *(Publish(room.entry(number)) for number in (1, 2)))


def test_stored_model_says_where(room, state):
    after = room.change(state, SayStored(HERE), author=room.author(5, "worker"))
    again = room.verify(parse(after.document.encode(), room.id))
    assert again == after
    assert (again.registry.models[A].stored, again.registry.models[B].stored) == (HERE, None)
    assert after.reports == ()
    assert room.change(after, SayStored(HERE)).document is after.document


def test_model_removed_from_the_bucket_is_stored_no_more(room, state):
    stored = room.change(state, SayStored(HERE))
    after = room.change(stored, SayStored(Stored(A, None)))
    assert after.registry.models[A].stored is None
    assert room.change(after, SayStored(Stored(A, None))).document is after.document
    assert room.change(state, SayStored(Stored(A, None))).document is state.document


def test_model_published_anew_is_still_stored(room, state):
    stored = room.change(state, SayStored(HERE))
    assert room.change(stored, Publish(room.entry(1, "new"))).registry.models[A].stored == HERE


def test_model_that_is_not_in_the_room_is_stored_nowhere(room, state):
    with pytest.raises(NoMatchError):
        room.change(state, SayStored(Stored(C, "s3://bucket")))


def test_plain_member_says_nothing_of_the_bucket(room, state):
    author = room.author(4, "member")
    with pytest.raises(ForbiddenError, match="publisher or admin or worker"):
        room.change(state, SayStored(HERE), author=author)
    after = room.put(state, HERE, author)
    assert after.registry.models[A].stored is None
    assert Fault.NO_RIGHT in [report.fault for report in after.reports]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "ftp://host/x",
        "javascript:alert(1)",
        "https://user:secret@host/x",
        "https://host/x?X-Amz-Signature=abc",
        "https://host/x#part",
        "https://host/a b",
        "https://host/\x1b[31m",
        "s3://" + "x" * 2000,
    ],
)
def test_url_that_gives_away_or_misleads_is_refused(url):
    with pytest.raises(InputError) as raised:
        Stored(A, url)
    assert "Signature" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_what_nodes_report_is_in_the_view(room, state):
    one, two = room.author(4, "member"), room.author(5, "worker")
    after = room.change(
        state, ReportNode(NodeReport(((A, True), (B, False)), USAGE, "gpu-1")), author=one
    )
    after = room.change(after, ReportNode(NodeReport(((A, False),))), author=two, now=room.now + 9)
    again = room.verify(parse(after.document.encode(), room.id), room.now + 9)
    assert again == after
    first, second = one.key.public, two.key.public
    assert dict(again.registry.models[A].cached_on) == {first: True, second: False}
    assert again.registry.models[B].cached_on == ((first, False),)
    report = again.registry.reports[first]
    assert report.usage == {
        "2026-10": {"direct": 5},
        "2026-11": {"origin-down": 7, "requests": 2},
    }
    assert (report.name, again.registry.reported_at[second]) == ("gpu-1", room.now + 9)
    assert again.reports == ()


def test_newest_report_of_a_node_counts(room, state):
    state = room.change(state, ReportNode(NodeReport(((A, True),))))
    after = room.change(state, ReportNode(NodeReport(((B, True),))))
    assert len(after.document.reports) == 1
    assert after.registry.models[A].cached_on == ()
    assert len(after.registry.models[B].cached_on) == 1


def test_report_that_says_the_same_changes_nothing(room, state):
    state = room.change(state, ReportNode(NodeReport(((A, True), (B, True)), USAGE)))
    same = NodeReport(((B, True), (C, True), (A, True)), {**USAGE, "2026-09": {"direct": 0}})
    assert room.change(state, ReportNode(same)).document is state.document


def test_models_that_the_room_has_not_are_left_out_of_a_report(room, state):
    after = room.change(state, ReportNode(NodeReport(((A, True), (C, True)))))
    assert after.registry.reports[room.author(1).key.public].cached == (
        (A[:CACHED_ID_BYTES], True),
    )
    gone = room.change(after, Withdraw(A))
    assert gone.reports == ()


def test_node_speaks_for_itself_only(room, state):
    state = room.change(state, ReportNode(NodeReport(((A, True),))))
    value = loads(state.document.encode())
    me, other = room.author(1).key.public.hex(), room.author(2).key.public.hex()
    value["reports"][other] = value["reports"].pop(me)
    after = room.verify(parse(dumps(value), room.id))
    assert (after.registry.reports, after.registry.models[A].cached_on) == ({}, ())
    assert Fault.MISPLACED in [report.fault for report in after.reports]


def test_stranger_reports_nothing(room, state):
    stranger = room.author(9, "member", not_after=room.now - 1)
    with pytest.raises(ForbiddenError, match="expired"):
        room.change(state, ReportNode(NodeReport(((A, True),))), author=stranger)
    assert room.put(state, NodeReport(((A, True),)), stranger).registry.reports == {}


def test_two_models_that_begin_alike_are_told_by_nobody(room, state):
    twin = ManifestId(A[:CACHED_ID_BYTES] + b"x" * 20)
    entry = Publish(type(room.entry(1))(twin, "twin", 1, 1, "files"))
    after = room.change(state, entry, ReportNode(NodeReport(((A, True), (B, True)))))
    models = after.registry.models
    assert (models[A].cached_on, models[twin].cached_on) == ((), ())
    assert len(models[B].cached_on) == 1


def test_report_keeps_the_latest_months():
    usage = {f"{year}-{month:02}": {"a": 1} for year in (2025, 2026) for month in range(1, 13)}
    kept = sorted(NodeReport(usage=usage).usage)
    assert (len(kept), kept[0], kept[-1]) == (REPORT_MAX_MONTHS, "2025-12", "2026-12")


def test_report_of_many_counters_keeps_fewer_months():
    counters = {f"c{number}": 1 for number in range(REPORT_MAX_COUNTERS)}
    usage = {f"2026-{month:02}": counters for month in range(1, 13)}
    kept = sorted(NodeReport(usage=usage).usage)
    assert kept == [f"2026-{month:02}" for month in range(8, 13)]
    assert len(kept) * REPORT_MAX_COUNTERS <= REPORT_MAX_CELLS


@pytest.mark.parametrize(
    "wrong",
    [
        {"cached": ((b"short", True),)},
        {"cached": tuple((n.to_bytes(32, "big"), True) for n in range(1))
         + tuple((n.to_bytes(2, "big") * 16, True) for n in range(REPORT_MAX_MODELS + 1))},
        {"usage": {"2026-13": {"a": 1}}},
        {"usage": {"November": {"a": 1}}},
        {"usage": {"2026-11": {"A b": 1}}},
        {"usage": {"2026-11": {"a": -1}}},
        {"usage": {"2026-11": {"a": 1.5}}},
        {"usage": {"2026-11": {"a": True}}},
        {"usage": {"2026-11": {"a": 2**60}}},
        {"usage": {"2026-11": {f"c{n}": 1 for n in range(REPORT_MAX_COUNTERS + 1)}}},
        {"name": "x" * (REPORT_NAME_MAX_CHARS + 1)},
        {"name": "a\nb"},
    ],
)  # fmt: skip
def test_report_out_of_bounds_is_refused(wrong):
    with pytest.raises(InputError):
        NodeReport(**wrong)


@pytest.mark.parametrize(
    "change",
    [
        {"serves": "***"},
        {"serves": "AAAA"},
        {"serves": 5},
        {"keeps": [1]},
        {"usage": []},
        {"usage": {"columns": ["a"], "months": {"2026-11": [1, 2]}}},
        {"usage": {"columns": ["a"], "months": {"2026-11": ["1"]}}},
        {"usage": {"columns": [1], "months": {}}},
        {"usage": {"columns": ["a"], "months": {"2026-11": [1]}, "rows": 1}},
        {"name": None, "kind": "tag"},
    ],
)
def test_report_that_cannot_be_read_is_left_out_and_the_rest_stays(room, state, change):
    state = room.change(state, ReportNode(NodeReport(((A, True),), USAGE)))
    value = loads(state.document.encode())
    value["reports"][room.author(1).key.public.hex()].update(change)
    after = room.verify(parse(dumps(value), room.id))
    assert after.registry.reports == {}
    assert list(after.registry.models) == [A, B]
    assert Fault.MALFORMED in [report.fault for report in after.reports]
