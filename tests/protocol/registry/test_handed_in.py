"""Reports of members that may not write the registry: what is entered for them, and what is not."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from dreamer.protocol.canonical import dumps
from dreamer.protocol.errors import ConflictError, ForbiddenError, InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.limits import CLOCK_SKEW_S
from dreamer.protocol.registry import handed_in
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.changes import Publish, ReportNode, apply
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.fitting import fit
from dreamer.protocol.registry.handed_in import HandedIn, enter, parse_handed_in
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry_limits import (
    CACHED_ID_BYTES,
    HANDED_IN_MAX_BYTES,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
    REGISTRY_MAX_SERIAL_GAP,
    REPORT_MAX_CELLS,
    REPORT_MAX_MODELS,
)
from dreamer.protocol.rooms.card import RegistryPlace

A = ManifestId(bytes([1]) * 32)
NOW = 1_800_000_000.0
HELD = NodeReport(((A[:CACHED_ID_BYTES], True),), {"2026-11": {"direct-down": 5}}, "bench")


@pytest.fixture
def state(room):
    return room.change(room.empty(), *(Publish(room.entry(number)) for number in (1, 2)))


@pytest.fixture
def plain(room):
    return room.author(4, "member")


def node_of(author) -> NodeId:
    return NodeId(author.key.public)


def handed_by(state, author, said=HELD, now=NOW) -> HandedIn:
    """What a node hands in that has read ``state``."""
    made = apply(state, [ReportNode(said)], author, now)
    return HandedIn(made.reports[node_of(author)], author.chain)


def entered(room, state, handed, author, now=NOW):
    return enter(state.document, handed, node_of(author), room.verify_member, now)


def test_report_of_a_plain_member_is_entered_and_believed(room, state, plain):
    after = room.verify(entered(room, state, handed_by(state, plain), plain))
    assert after.reports == ()
    assert after.registry.models[A].cached_on == ((node_of(plain), True),)
    assert after.registry.reports[node_of(plain)] == HELD
    assert after.serial == state.serial + 1
    assert room.verify(parse(after.document.encode(), room.id)) == after


def test_nothing_else_changes(room, state, plain):
    after = entered(room, state, handed_by(state, plain), plain)
    node = node_of(plain)
    assert after.reports.keys() - {node} == state.document.reports.keys()
    assert after.members == {**state.document.members, node: (plain.chain,)}
    before = state.document
    assert replace(after, reports={}, members=before.members, serial=before.serial) == before


def test_the_same_report_again_changes_nothing(room, state, plain):
    handed = handed_by(state, plain)
    after = room.verify(entered(room, state, handed, plain))
    assert entered(room, after, handed, plain) is after.document


def test_what_the_document_was_changed_by_meanwhile_stays(room, state, plain):
    handed = handed_by(state, plain)
    state = room.change(state, Publish(room.entry(3)))
    state = room.change(state, Publish(room.entry(5)))
    after = room.verify(entered(room, state, handed, plain))
    assert after.reports == ()
    assert (len(after.registry.models), after.serial) == (4, state.serial)
    assert after.registry.models[A].cached_on == ((node_of(plain), True),)


def test_an_older_report_replaces_no_newer_one(room, state, plain):
    old = handed_by(state, plain)
    state = room.verify(entered(room, state, old, plain))
    newer = handed_by(state, plain, NodeReport(name="bench"))
    state = room.verify(entered(room, state, newer, plain))
    assert state.registry.models[A].cached_on == ()
    with pytest.raises(ConflictError, match="newer report"):
        entered(room, state, old, plain)


@pytest.mark.parametrize("ahead", [5, 2 * REGISTRY_MAX_SERIAL_GAP])
def test_a_forged_report_in_its_place_keeps_nobody_from_reporting(room, state, plain, ahead):
    handed = handed_by(state, plain)
    forged = sign(NodeReport(name="x"), room.id, room.author(1).key, NOW, state.serial + ahead)
    forged = replace(forged, by=node_of(plain))
    state = room.verify(replace(state.document, reports={node_of(plain): forged}))
    after = room.verify(entered(room, state, handed, plain))
    assert after.registry.reports[node_of(plain)] == HELD


def test_a_member_reports_for_no_other(room, state, plain):
    other = room.author(5, "member")
    handed = handed_by(state, other)
    with pytest.raises(ForbiddenError, match="own node alone"):
        entered(room, state, handed, plain)


def test_what_another_key_signed_is_refused(room, state, plain):
    handed = handed_by(state, room.author(5, "member"))
    forged = replace(handed.report, by=node_of(plain))
    with pytest.raises(ForbiddenError):
        entered(room, state, HandedIn(forged, plain.chain), plain)


def test_what_was_changed_after_it_was_signed_is_refused(room, state, plain):
    handed = handed_by(state, plain)
    changed = replace(handed.report, said=NodeReport(name="other"))
    with pytest.raises(ForbiddenError):
        entered(room, state, replace(handed, report=changed), plain)


def test_report_for_another_room_is_refused(room, state, plain):
    report = sign(HELD, RoomId(b"E" * 32), plain.key, NOW, state.last_serial + 1)
    with pytest.raises(ForbiddenError, match="this room"):
        entered(room, state, HandedIn(report, plain.chain), plain)


def test_chain_that_proves_another_or_has_ended_is_refused(room, state, plain):
    handed = handed_by(state, plain)
    for chain in (room.author(5, "member").chain, room.author(4, "stranger").chain):
        with pytest.raises(ForbiddenError, match="membership"):
            entered(room, state, replace(handed, chain=chain), plain)
    ended = room.author(4, "member", not_after=NOW - 1)
    with pytest.raises(ForbiddenError, match="expired"):
        entered(room, state, replace(handed, chain=ended.chain), plain)


def test_no_report_uses_up_the_numbers(room, state, plain):
    for ahead in (2, 1000, 10**9, 2**52):
        report = sign(HELD, room.id, plain.key, NOW, state.last_serial + ahead)
        with pytest.raises(ConflictError, match="newer registry"):
            entered(room, state, HandedIn(report, plain.chain), plain)


def test_report_of_the_future_waits(room, state, plain):
    handed = handed_by(state, plain, now=NOW + 2 * CLOCK_SKEW_S)
    with pytest.raises(ConflictError, match="clock"):
        entered(room, state, handed, plain)
    assert entered(room, state, handed, plain, now=NOW + 2 * CLOCK_SKEW_S).reports


def test_chains_of_one_member_are_bounded(room, state):
    for number in range(REGISTRY_MAX_CHAINS_PER_MEMBER + 2):
        author = room.author(4, "member", not_after=NOW + 1000 + number)
        said = NodeReport(name=f"n{number}")
        state = room.verify(entered(room, state, handed_by(state, author, said), author))
    chains = state.document.members[node_of(author)]
    assert (len(chains), chains[-1]) == (REGISTRY_MAX_CHAINS_PER_MEMBER, author.chain)


def test_a_full_document_keeps_its_models_and_refuses(room, state, plain, monkeypatch):
    handed = handed_by(state, plain)
    size = len(state.document.encode())
    monkeypatch.setattr(handed_in, "fit", partial(fit, max_bytes=size))
    with pytest.raises(InputError, match="full"):
        entered(room, state, handed, plain)


def test_what_travels_comes_back(room, state, plain):
    handed = replace(handed_by(state, plain), kept=RegistryPlace.ORIGIN)
    assert parse_handed_in(dumps(handed.to_json())) == handed


def test_the_longest_report_there_can_be_fits(room, state, plain):
    cached = tuple((bytes([n // 256, n % 256]) * 6, bool(n % 2)) for n in range(REPORT_MAX_MODELS))
    counters = {f"{n:02d}" + "c" * 30: 2**53 - 1 for n in range(32)}
    months = REPORT_MAX_CELLS // len(counters)
    usage = {f"2026-{month + 1:02d}": counters for month in range(months)}
    report = sign(NodeReport(cached, usage, "n" * 64), room.id, plain.key, NOW, 10**9)
    certificate = {"sig": "a" * 128, "more": "b" * 1200}
    data = dumps(HandedIn(report, [certificate] * 4).to_json())
    assert len(data) <= HANDED_IN_MAX_BYTES


@pytest.mark.parametrize(
    "change",
    [
        lambda sent: sent.pop("report"),
        lambda sent: sent.pop("chain"),
        lambda sent: sent.update(chain={}),
        lambda sent: sent.update(kept="elsewhere"),
        lambda sent: sent.update(more=1),
        lambda sent: sent["report"].update(kind="model"),
        lambda sent: sent["report"].update(serves="!"),
        lambda sent: sent["report"].update(pad="x" * HANDED_IN_MAX_BYTES),
    ],
)
def test_what_is_no_report_is_refused(room, state, plain, change):
    sent = handed_by(state, plain).to_json()
    change(sent)
    with pytest.raises(InputError):
        parse_handed_in(dumps(sent))
