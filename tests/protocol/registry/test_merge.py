"""Two documents that went their own ways become one, the same on every node."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations

import pytest

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.registry.changes import ChangeTags, MoveAlias, Publish, RemoveAlias
from dreamer.protocol.registry.document import Document, Published, parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.sift import sift
from dreamer.protocol.registry_limits import (
    ALIAS_HISTORY_MAX,
    REGISTRY_MAX_CHAINS_PER_MEMBER,
    REGISTRY_MAX_SERIAL_GAP,
)

A, B, C = (ManifestId(bytes([number]) * 32) for number in (1, 2, 3))


@pytest.fixture
def base(room):
    """A document with model A, which three members have."""
    return room.change(room.empty(), Publish(room.entry(1)), MoveAlias("prod", A))


@pytest.fixture
def merged(room):
    """Merges documents, each into the result so far; returns what is to be believed."""

    def run(first, *others):
        document = first.document
        for other in others:
            document = merge(document, other.document, room.verify_member, room.now)
        return room.verify(document)

    return run


def test_what_either_published_is_in_it(room, base, merged):
    by_one = room.change(base, Publish(room.entry(2)), author=room.author(2))
    by_other = room.change(base, Publish(room.entry(3)), author=room.author(3))
    found = merged(by_one, by_other)
    assert set(found.registry.models) == {A, B, C}
    assert found.serial == 2
    assert found.reports == ()


def test_a_change_after_the_merge_is_the_next_one(room, base, merged):
    found = merged(base, room.change(base, Publish(room.entry(2)), author=room.author(2)))
    after = room.change(found, MoveAlias("prod", B))
    assert (after.serial, after.registry.aliases["prod"]) == (3, B)


def test_every_order_gives_the_same_document(room, base, merged):
    branches = [
        room.change(
            base,
            Publish(room.entry(number)),
            MoveAlias("prod", ManifestId(bytes([number]) * 32)),
            ChangeTags(A, add=("good",)),
            author=room.author(number),
        )
        for number in (2, 3, 4)
    ]
    results = {merged(*order).document.encode() for order in permutations(branches)}
    assert len(results) == 1


def test_merging_again_changes_nothing(room, base):
    other = room.change(base, Publish(room.entry(2)), author=room.author(2))
    once = merge(base.document, other.document, room.verify_member, room.now)
    again = merge(once, other.document, room.verify_member, room.now)
    assert again is once
    assert merge(once, base.document, room.verify_member, room.now) is once


def test_the_later_change_of_a_thing_counts(room, base, merged):
    removed = room.change(base, RemoveAlias("prod"))
    tagged = room.change(base, ChangeTags(A, add=("good",)))
    untagged = room.change(tagged, ChangeTags(A, remove=("good",)))
    assert merged(base, removed).registry.aliases == {}
    assert merged(removed, base).registry.aliases == {}
    assert merged(tagged, untagged).registry.models[A].tags == ()
    assert merged(untagged, tagged).registry.models[A].tags == ()


def test_what_cannot_be_believed_is_not_taken_over(room, base, merged):
    stranger = room.author(9, "member")
    forged = sign(room.entry(1, "forged"), room.id, stranger.key, room.now, 50)
    theirs = replace(
        base.document,
        models={**base.document.models, A: Published(forged), B: Published(forged)},
        members={**base.document.members, stranger.key.public: (stranger.chain,)},
    )
    assert merge(base.document, theirs, room.verify_member, room.now) is base.document


def test_what_is_believed_displaces_what_is_not(room, base):
    stranger = room.author(9, "member")
    forged = sign(room.entry(1, "forged"), room.id, stranger.key, room.now, 50)
    ours = replace(base.document, models={A: Published(forged)})
    found = merge(ours, base.document, room.verify_member, room.now)
    assert found.models[A].entry == base.document.models[A].entry


def test_what_is_too_early_for_us_stays_ours(room, base):
    ahead = room.change(base, Publish(room.entry(2)), author=room.author(2), now=room.now + 1e5)
    other = room.change(base, Publish(room.entry(3)), author=room.author(3))
    found = merge(ahead.document, other.document, room.verify_member, room.now)
    assert set(found.models) == {A, B, C}


def test_chains_that_nothing_rests_on_are_not_taken_over(room, base):
    author = room.author(2)
    other = room.change(base, Publish(room.entry(2)), author=author).document
    node = author.key.public
    junk = [[node.hex(), room.now + 1e6, "member", str(number)] for number in range(3)]
    stuffed = replace(other, members={**other.members, node: (*junk, author.chain)})
    found = merge(base.document, stuffed, room.verify_member, room.now)
    assert found.members[node] == (author.chain,)


def test_what_a_member_said_keeps_its_proof_however_many_chains_come(room, base):
    node = room.author(1).key.public
    chains = [
        room.author(1, "publisher", not_after=room.now + 1e6 + number) for number in range(1, 6)
    ]
    ours = base.document
    for number, author in enumerate(chains, 2):
        theirs = room.change(base, Publish(room.entry(number)), author=author).document
        ours = merge(ours, theirs, room.verify_member, room.now)
    assert len(ours.members[node]) == REGISTRY_MAX_CHAINS_PER_MEMBER
    assert ours.members[node][0] == base.document.members[node][0]
    assert A in room.verify(ours).registry.models


def test_the_history_of_an_alias_is_bounded(room, base, merged):
    one, other = base, base
    for number in range(ALIAS_HISTORY_MAX):
        one = room.change(one, MoveAlias("a", A) if number % 2 else MoveAlias("b", A))
        one = room.change(one, RemoveAlias("a" if number % 2 else "b"))
    found = merged(other, one)
    assert all(len(moves) <= ALIAS_HISTORY_MAX for moves in found.document.aliases.values())
    assert found.registry.aliases == one.registry.aliases


def test_a_merged_document_is_read_back(room, base, merged):
    found = merged(base, room.change(base, Publish(room.entry(2)), author=room.author(2)))
    assert parse(found.document.encode(), room.id) == found.document


def test_an_empty_document_takes_all(room, base):
    found = merge(Document(room.id), base.document, room.verify_member, room.now)
    assert room.verify(found).registry == base.registry


def test_sifting_keeps_all_that_is_believed(room, base):
    tagged = room.change(base, ChangeTags(A, add=("x",)))
    untagged = room.change(tagged, ChangeTags(A, remove=("x",)))
    assert sift(untagged.document, room.verify_member, room.now) == untagged.document


def test_a_leap_that_only_forged_records_bridge_displaces_nothing(room, base, merged):
    author, gap = room.author(2), REGISTRY_MAX_SERIAL_GAP
    leap = sign(room.entry(1, "leap"), room.id, author.key, room.now, 2 * gap)
    bridge = replace(sign(room.entry(2), room.id, author.key, room.now, gap), signature=b"x" * 64)
    theirs = replace(
        base.document,
        members={**base.document.members, author.key.public: (author.chain,)},
        models={A: Published(leap), B: Published(bridge)},
    )
    found = merge(base.document, theirs, room.verify_member, room.now)
    assert room.verify(found).registry == base.registry
