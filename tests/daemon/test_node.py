"""What a node answers when one of its rooms can't, or is no more."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.node import DreamerNode
from dreamer.daemon.room.model_infos import ModelInfos
from dreamer.protocol.errors import AmbiguousError, LocalError, NoMatchError, RemoteError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.view import Model, Registry

HERE = [ManifestId(bytes.fromhex(each * 32)) for each in ("aa", "ab", "cc")]


class Room:
    """A session whose registry holds one model, or fails."""

    def __init__(self, name: str, failure: Exception | None = None) -> None:
        self.card = SimpleNamespace(name=name)
        self.room_id = RoomId(name.encode().ljust(32))
        self.failure = failure
        self.removed: list[str] = []

    async def read_registry(self) -> Registry:
        if self.failure:
            raise self.failure
        model = Model(HERE[0], f"of-{self.card.name}", 1, 1, "files", NodeId(b"n" * 32), 1.0)
        return Registry({model.manifest_id: model})

    async def holders(self, manifest_id):
        return []

    async def remove_member(self, ref: str) -> NodeId:
        self.removed.append(ref)
        return NodeId(b"n" * 32)


class Rooms:
    """The rooms kept; nothing is found in any."""

    def __init__(self, *sessions: Room) -> None:
        self.sessions = list(sessions)

    def some(self, room):
        return [one for one in self.sessions if room in (None, one.card.name)]

    def get(self, room):
        return self.some(room)[0]

    async def find(self, ref, room):
        raise NoMatchError(f"{ref} is in no room")


class Parts:
    """Notes what is removed."""

    def __init__(self) -> None:
        self.forgotten: list[ManifestId] = []
        self.pulling = False

    def node(self, *rooms: Room) -> DreamerNode:
        async def evict(key):
            return None

        state = SimpleNamespace(drop_model=lambda _: None, model=lambda _: None)
        library = SimpleNamespace(find=lambda *_: None, withdraw_everywhere=lambda _: None)
        kept = Rooms(*rooms)
        store = SimpleNamespace(
            known=lambda: HERE, forget=self._forget, require_removable=lambda _: None
        )
        return DreamerNode(
            name="us",
            identity=SimpleNamespace(node_id=NodeId(b"u" * 32)),
            store=store,
            state=state,
            library=library,
            rooms_kept=kept,
            puller=SimpleNamespace(is_pulling=lambda _: self.pulling),
            pusher=None,
            inference=None,
            pool=SimpleNamespace(evict=evict),
            transport=None,
            relays=None,
            lane_bytes=None,
            costs=None,
            cost_metrics=None,
            reports=None,
            loop_lag=None,
            seeding=None,
            uploads=SimpleNamespace(holds=lambda _: False),
            torrent_writer=None,
            topologies=None,
            infos=ModelInfos(kept, library, state),
            catalogue=None,
            readiness=None,
            caches=None,
            retention=None,
            offload_rules=None,
            started_at=0.0,
            tracker_url=None,
        )

    def _forget(self, manifest_id):
        self.forgotten.append(manifest_id)
        return 5


@pytest.fixture
def parts() -> Parts:
    return Parts()


async def test_models_of_a_room_that_answers_are_listed_beside_one_that_does_not(
    parts, caplog
) -> None:
    away = RemoteError("the tracker of one is away")
    node = parts.node(Room("one", away), Room("two"))
    assert [model.name for model in await node.models(None)] == ["of-two"]
    assert "the tracker of one is away" in caplog.text
    with pytest.raises(RemoteError, match="away"):
        await node.models("one")


async def test_models_fail_when_no_room_answers(parts) -> None:
    node = parts.node(Room("one", RemoteError("away")), Room("two", LocalError("full")))
    with pytest.raises(RemoteError, match="away"):
        await node.models(None)
    assert await parts.node().models(None) == []


@pytest.mark.parametrize("ref", [HERE[2].hex(), "cccc"])
async def test_copy_of_a_model_whose_room_was_left_is_removed_by_its_id(parts, ref) -> None:
    assert await parts.node().remove(ref, None) == 5
    assert parts.forgotten == [HERE[2]]


@pytest.mark.parametrize(("ref", "room"), [("ccc", None), ("dddd", None), ("cccc", "lab")])
async def test_nothing_is_removed_for_what_is_no_id_of_a_model_here(parts, ref, room) -> None:
    with pytest.raises(NoMatchError, match="no room"):
        await parts.node().remove(ref, room)
    assert parts.forgotten == []


async def test_start_of_several_ids_removes_none_of_them(parts, monkeypatch) -> None:
    twins = [ManifestId(b"\xaa" * 31 + last) for last in (b"1", b"2")]
    monkeypatch.setitem(globals(), "HERE", twins)
    with pytest.raises(AmbiguousError, match="more digits"):
        await parts.node().remove("aaaa", None)
    assert parts.forgotten == []


async def test_copy_that_is_being_pulled_is_not_removed(parts) -> None:
    parts.pulling = True
    with pytest.raises(LocalError, match="being pulled"):
        await parts.node().remove("cccc", None)


async def test_member_is_removed_from_the_room_that_was_named(parts) -> None:
    one, two = Room("one"), Room("two")
    assert await parts.node(one, two).remove_member("two", "abcdef12") == "6e" * 32
    assert (one.removed, two.removed) == ([], ["abcdef12"])
