import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, replace
from random import Random

import pytest

from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.protocol.errors import (
    ConflictError,
    ForbiddenError,
    InputError,
    LocalError,
    RemoteError,
)
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.changes import Author, MoveAlias, Publish, RemoveAlias, Withdraw
from dreamer.protocol.registry.document import Document, Published, parse
from dreamer.protocol.registry.records import sign
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.statements import ModelEntry
from dreamer.protocol.registry_limits import REGISTRY_CAS_ATTEMPTS, REGISTRY_MAX_SERIAL_GAP
from dreamer.protocol.rooms.keys import SigningKey

ROOM = RoomId(b"R" * 32)
NOW = 1_800_000_000.0


@dataclass(frozen=True)
class Publisher:
    node_id: NodeId
    roles: Sequence[str] = ("publisher",)


def trusting(room, chain, now):
    return Publisher(NodeId(bytes.fromhex(chain[0])))


class MemoryStore:
    """Keeps every version, and yields between read and write so that writers collide."""

    def __init__(self) -> None:
        self.versions: list[bytes] = []
        self.conflicts = 0

    async def read(self):
        await asyncio.sleep(0)
        return (self.versions[-1], str(len(self.versions))) if self.versions else None

    async def write(self, data, etag, /):
        await asyncio.sleep(0)
        if (etag or "0") != str(len(self.versions)):
            self.conflicts += 1
            raise ConflictError("somebody else was first")
        self.versions.append(data)
        return str(len(self.versions))


class ManyRivals(MemoryStore):
    """Somebody else is always first."""

    async def write(self, data, etag, /):
        self.conflicts += 1
        raise ConflictError("somebody else was first")


def client(store, number=1, pauses=None, **options):
    key = SigningKey(bytes([number]) * 32)

    async def note(seconds):
        if pauses is not None:
            pauses.append(seconds)
        else:
            await asyncio.sleep(seconds / 10)

    return RegistryClient(
        ROOM,
        store,
        Author(key, [key.public.hex()]),
        options.pop("verify_member", trusting),
        rng=Random(number),
        sleep=note,
        **{"clock": lambda: NOW, **options},
    )


def entry(number):
    return ModelEntry(ManifestId(bytes([number]) * 32), f"m{number}", 1, 1, "files")


async def test_eight_writers_at_once_lose_no_change():
    store = MemoryStore()

    async def write(number):
        one = client(store, number)
        await one.change(Publish(entry(number)), MoveAlias(f"a{number}", entry(number).manifest_id))
        await one.change(MoveAlias("newest", entry(number).manifest_id))

    await asyncio.gather(*(write(number) for number in range(1, 9)))
    registry = (await client(store).refresh()).registry
    assert len(registry.models) == 8
    assert set(registry.aliases) == {*(f"a{number}" for number in range(1, 9)), "newest"}
    assert len(registry.history["newest"]) == 8
    assert len(store.versions) == 16
    assert store.conflicts > 0


async def test_calls_on_one_client_do_not_see_each_other_as_old():
    store = MemoryStore()
    one = client(store)
    changes = [one.change(Publish(entry(number))) for number in range(1, 6)]
    await asyncio.gather(*changes, *(one.refresh() for _ in range(5)))
    assert len((await one.refresh()).registry.models) == 5
    assert store.conflicts == 0


async def test_change_that_changes_nothing_writes_nothing():
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    await one.change(MoveAlias("prod", entry(1).manifest_id))
    assert len(store.versions) == 1


async def test_own_change_is_known_at_once_without_asking():
    one = client(MemoryStore())
    assert one.known is None
    await one.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    assert one.known.registry.aliases == {"prod": entry(1).manifest_id}
    await one.change(RemoveAlias("prod"))
    assert one.known.registry.aliases == {}


async def test_endless_conflicts_end_with_what_to_do():
    store, pauses = ManyRivals(), []
    with pytest.raises(ConflictError, match="run it again"):
        await client(store, pauses=pauses).change(Publish(entry(1)))
    assert store.conflicts == len(pauses) == REGISTRY_CAS_ATTEMPTS
    assert max(pauses) <= 2.0


async def test_store_that_goes_back_in_time_is_refused():
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)))
    await one.change(Publish(entry(2)))
    store.versions.pop()
    with pytest.raises(ForbiddenError, match="old registry"):
        await one.refresh()
    assert len((await one.recall()).registry.models) == 2


@pytest.mark.parametrize("damage", [b"{}", b"[]", b'{"format":"dreamer-room/2"}', None])
async def test_change_puts_back_what_was_seen_where_a_document_is_unusable(damage, caplog):
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    older = store.versions[0]
    await one.change(Publish(entry(2)))
    store.versions.append(older if damage is None else damage)
    with pytest.raises((InputError, ForbiddenError)):
        await one.refresh()
    after = await one.change(Publish(entry(3)))
    assert len(after.registry.models) == 3
    # Another node, which saw nothing before, reads what it wrote.
    assert (await client(store, 2).refresh()).registry.aliases == {"prod": entry(1).manifest_id}
    assert "putting back" in caplog.text


async def test_change_loses_nothing_of_a_store_that_only_looks_old():
    store, elsewhere = MemoryStore(), MemoryStore()
    ahead = client(elsewhere, 2)
    await ahead.change(Publish(entry(1)))
    await ahead.change(Publish(entry(2)))
    # A member's copy, with more changes than the store has, came while that was away.
    one = client(store, seen=parse(elsewhere.versions[-1], ROOM))
    await client(store, 3).change(Publish(entry(3)))
    with pytest.raises(ForbiddenError, match="old registry"):
        await one.refresh()
    after = await one.change(Publish(entry(4)))
    assert {model.name for model in after.registry.models.values()} == {
        entry(number).name for number in (1, 2, 3, 4)
    }


async def test_copy_that_would_make_less_believed_is_not_stored():
    key, gap = SigningKey(b"\1" * 32), REGISTRY_MAX_SERIAL_GAP

    def document(*serials):
        records = [
            sign(entry(number), ROOM, key, NOW, serial) for number, serial in enumerate(serials, 1)
        ]
        models = {record.said.manifest_id: Published(record) for record in records}
        members = {NodeId(key.public): ([key.public.hex()],)}
        return replace(Document(ROOM), members=members, models=models, serial=max(serials))

    # Each bridges the leap of a member's serials with another record; the newer of both, nothing.
    store = MemoryStore()
    store.versions.append(document(1, gap, 2 * gap).encode())
    one = client(store)
    with pytest.raises(ForbiddenError):
        await one.learn(document(1, 2 * gap, gap).encode())
    assert len(store.versions) == 1
    assert len((await one.refresh()).registry.models) == 3


async def test_change_that_was_made_before_still_repairs_what_the_store_holds():
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    store.versions.append(b"{}")
    await one.change(MoveAlias("prod", entry(1).manifest_id))
    assert store.versions[-1] == store.versions[0]


def without(store, **tables) -> None:
    """Write what a member with a writer's role can: the document without others' records."""
    document = replace(parse(store.versions[-1], ROOM), **tables)
    # With a change of its own it is no older than what was seen.
    key = SigningKey(b"\x09" * 32)
    number = document.serial + 1
    record = sign(entry(9), ROOM, key, NOW, number)
    document = replace(
        document,
        serial=number,
        models={**document.models, record.said.manifest_id: Published(record)},
        members={**document.members, record.by: ([key.public.hex()],)},
    )
    store.versions.append(document.encode())


async def test_model_that_somebody_dropped_is_kept_told_of_and_put_back(caplog):
    store, kept = MemoryStore(), []
    one = client(store, keep=lambda data, etag: kept.append(data))
    await one.change(Publish(entry(1)), Publish(entry(2)), MoveAlias("prod", entry(1).manifest_id))
    without(store, models={}, aliases={})
    found = await one.refresh()
    assert (len(found.registry.models), list(found.registry.aliases)) == (3, ["prod"])
    assert {report.fault for report in found.reports} == {Fault.VANISHED}
    # Nobody has changed anything since, and a copy of it survives this node's end.
    assert await one.refresh() is found
    assert len(parse(kept[-1], ROOM).models) == 3
    # Whoever saw none of it knows nothing of it, until one who did has put it back.
    newcomer = client(store, 2)
    assert len((await newcomer.refresh()).registry.models) == 1
    await one.mend()
    again = await newcomer.refresh()
    assert (len(again.registry.models), again.reports) == (3, ())
    assert (await one.refresh()).reports == ()
    assert len(store.versions) == 3


async def test_of_many_who_find_something_dropped_one_puts_it_back():
    store = MemoryStore()
    await client(store).change(Publish(entry(1)))
    several = [client(store, number) for number in range(2, 8)]
    for one in several:
        await one.refresh()
    without(store, models={})
    for one in several:
        await one.refresh()
    await asyncio.gather(*(one.mend() for one in several))
    assert len((await client(store, 9).refresh()).registry.models) == 2
    assert len(store.versions) == 3


async def test_document_that_is_older_than_what_was_seen_is_put_back_by_who_saw_more():
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)))
    await one.change(Publish(entry(2)))
    store.versions.append(store.versions[0])
    with pytest.raises(ForbiddenError, match="old registry"):
        await one.refresh()
    await one.mend()
    assert len((await client(store, 2).refresh()).registry.models) == 2
    assert len((await one.refresh()).registry.models) == 2


async def test_any_change_puts_back_what_was_dropped_with_it():
    store = MemoryStore()
    one = client(store)
    await one.change(Publish(entry(1)))
    without(store, models={})
    await one.change(Publish(entry(2)))
    assert len((await client(store, 2).refresh()).registry.models) == 3


async def test_who_may_not_write_keeps_what_was_dropped_and_writes_nothing():
    # Whether anybody takes its reports is another thing: in a room without trackers nobody does.
    store = MemoryStore()
    await client(store).change(Publish(entry(1)))
    plain = client(store, 2, writes=False)
    await plain.refresh()
    without(store, models={})
    assert len((await plain.refresh()).registry.models) == 2
    await plain.mend()
    assert len(store.versions) == 2


async def test_model_that_was_withdrawn_stays_so():
    store = MemoryStore()
    reader = client(store, 2)
    await client(store).change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    await reader.refresh()
    await client(store).change(RemoveAlias("prod"), Withdraw(entry(1).manifest_id))
    found = await reader.refresh()
    assert (dict(found.registry.models), found.reports) == ({}, ())
    await reader.mend()
    assert len(store.versions) == 2


async def test_unusable_document_is_not_kept_as_the_newest_one_seen():
    store, kept = MemoryStore(), []
    one = client(store, keep=lambda data, etag: kept.append((data, etag)))
    await one.change(Publish(entry(1)))
    store.versions.append(b"{}")
    with pytest.raises(InputError):
        await one.refresh()
    assert kept == [(store.versions[0], "1")]


async def test_change_counts_even_if_no_copy_of_it_can_be_kept(caplog):
    def full(data, etag):
        raise LocalError("the disk is full")

    after = await client(MemoryStore(), keep=full).change(Publish(entry(1)))
    assert len(after.registry.models) == 1
    assert "the disk is full" in caplog.text


async def test_unchanged_document_is_verified_once_until_a_membership_ends():
    store, checks = MemoryStore(), []
    await client(store).change(Publish(entry(1)))

    def counting(room, chain, now):
        checks.append(now)
        if len(checks) > 2:
            raise ForbiddenError("it was revoked meanwhile")
        return trusting(room, chain, now)

    one = client(store, verify_member=counting)
    first = await one.refresh()
    assert await one.refresh() is first
    assert await one.recall() is first
    assert len(checks) == 2
    one.doubt()
    assert (await one.refresh()).registry.models == {}


async def test_record_that_was_too_early_is_believed_once_its_time_has_come():
    store, now = MemoryStore(), [NOW]
    await client(store, clock=lambda: NOW + 1000.0).change(Publish(entry(1)))
    one = client(store, clock=lambda: now[0])
    assert (await one.refresh()).registry.models == {}
    now[0] += 1000.0
    assert len((await one.refresh()).registry.models) == 1


async def test_document_seen_before_a_restart_guards_against_an_older_one():
    store = MemoryStore()
    seen = (await client(store).change(Publish(entry(1)))).document
    store.versions.clear()
    with pytest.raises(ForbiddenError, match="old registry"):
        await client(store, seen=seen).refresh()


async def test_failure_of_the_store_passes_through_and_the_next_call_works():
    class Away(MemoryStore):
        away = True

        async def read(self):
            if self.away:
                raise RemoteError("the tracker is away")
            return await super().read()

    store = Away()
    one = client(store)
    with pytest.raises(RemoteError, match="away"):
        await one.refresh()
    store.away = False
    await one.change(Publish(entry(1)), MoveAlias("prod", entry(1).manifest_id))
    assert (await one.change(RemoveAlias("prod"))).registry.aliases == {}
