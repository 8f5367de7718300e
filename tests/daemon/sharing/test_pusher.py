"""Pushing into a room that has no origin: what may be published and what is refused."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dreamer.daemon.origin.tally import UploadReport
from dreamer.daemon.origins import Origins
from dreamer.daemon.ports import Progress, PushEvent, PushReceipt
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.sharing.pusher import Pusher, PusherParts
from dreamer.daemon.sharing.uploads import Uploads
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.errors import ForbiddenError, InputError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.view import Model
from dreamer.protocol.registry.view import Registry as View

ROOM = RoomId(b"r" * 32)
PATIENCE_S = 20.0


class Registry:
    """A room's registry that keeps what it is told."""

    def __init__(self) -> None:
        self.changes: list[Any] = []

    async def reach(self) -> None:
        """Be there."""

    async def change(self, *changes: Any) -> None:
        self.changes += changes


class Room:
    """A room in which this node has the given roles."""

    def __init__(self, *roles: str) -> None:
        self.room_id = ROOM
        self.registry = Registry()
        self.membership = SimpleNamespace(roles=roles)
        self.card = SimpleNamespace(name="lab", origin=None, trackers=())
        self.view = View()

    async def read_registry(self) -> View:
        """Return what is known: of none, for a registry that only listens."""
        return self.view


@pytest.fixture
def parts(tmp_path: Path) -> Iterator[PusherParts]:
    state = State(tmp_path / "state.db")
    store = Store(tmp_path / "models", state)
    origins = Origins()
    uploads = Uploads(store, state, origins, TaskSet())
    yield PusherParts(
        *(store, state, Library(), origins, Publicity(store), lambda room: None, uploads)
    )
    store.close()
    state.close()


@pytest.fixture
def pickled(tmp_path: Path) -> Path:
    """A model directory with a pickle in it."""
    directory = tmp_path / "tiny"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "weights.pkl").write_bytes(pickle.dumps({"layer": [1.0, 2.0]}))
    return directory


async def push(parts: PusherParts, room: Room, request: PushRequest) -> list[PushEvent]:
    async with asyncio.timeout(PATIENCE_S):
        return [event async for event in Pusher(parts).push(room, request)]


async def test_pickle_is_refused_and_the_way_out_is_named(
    parts: PusherParts, pickled: Path
) -> None:
    room = Room("publisher")
    with pytest.raises(InputError, match=r"weights\.pkl is a pickle.*--allow-pickle"):
        await push(parts, room, PushRequest(pickled, (), (), "tiny"))
    assert room.registry.changes == []


async def test_pickle_that_is_allowed_is_published(parts: PusherParts, pickled: Path) -> None:
    room = Room("publisher")
    request = PushRequest(pickled, ("prod",), ("old",), "tiny", allow_pickle=True)
    *progress, receipt = await push(parts, room, request)
    assert isinstance(receipt, PushReceipt)
    assert (receipt.files, receipt.aliases, receipt.tags) == (2, ("prod",), ("old",))
    assert all(isinstance(event, Progress) for event in progress)
    assert len(room.registry.changes) == 3
    assert parts.library.holds(ROOM, ManifestId(bytes.fromhex(receipt.manifest_id)))


@pytest.mark.parametrize(("named", "name"), [(False, "weights"), (True, "final")])
async def test_model_that_is_there_is_renamed_by_a_name_that_somebody_gave_it(
    parts: PusherParts, pickled: Path, named: bool, name: str
) -> None:
    room = Room("publisher")
    request = PushRequest(pickled, (), (), "weights", allow_pickle=True, named=False)
    first = (await push(parts, room, request))[-1]
    assert isinstance(first, PushReceipt)
    said = room.registry.changes[0].entry
    model = Model(said.manifest_id, "weights", 1, 2, "files", NodeId(b"n" * 32), 1.0)
    room.view = View(models={said.manifest_id: model})
    again = (await push(parts, room, replace(request, name="final", named=named)))[-1]
    assert isinstance(again, PushReceipt)
    assert (first.name, again.name) == ("weights", name)
    assert room.registry.changes[-1].entry.name == name


async def test_member_without_the_role_may_not_publish(parts: PusherParts, pickled: Path) -> None:
    with pytest.raises(ForbiddenError, match="role publisher"):
        await push(parts, Room("member"), PushRequest(pickled, (), (), "tiny", True))


@pytest.mark.parametrize("asked", [False, True])
async def test_push_into_a_room_that_is_public_is_public(
    parts: PusherParts, pickled: Path, asked: bool
) -> None:
    room = Room("publisher")
    open_to_all = replace(parts, public_rooms=frozenset({ROOM}))
    request = PushRequest(pickled, (), (), "tiny", allow_pickle=True, public=asked)
    receipt = (await push(open_to_all, room, request))[-1]
    assert isinstance(receipt, PushReceipt)
    assert room.registry.changes[0].entry.torrent.magnet == receipt.magnet
    assert receipt.magnet.startswith("magnet:?xt=urn:btih:")
    assert Path(receipt.torrent).is_file()


async def test_push_into_any_other_room_is_public_only_when_asked(
    parts: PusherParts, pickled: Path
) -> None:
    room = Room("publisher")
    elsewhere = replace(parts, public_rooms=frozenset({RoomId(b"o" * 32)}))
    request = PushRequest(pickled, (), (), "tiny", allow_pickle=True)
    receipt = (await push(elsewhere, room, request))[-1]
    assert isinstance(receipt, PushReceipt)
    assert (receipt.magnet, receipt.torrent) == ("", "")
    assert room.registry.changes[0].entry.torrent is None


async def test_node_without_torrents_publishes_nothing_into_a_public_room(
    parts: PusherParts, pickled: Path
) -> None:
    room = Room("publisher")
    without = replace(
        parts,
        publicity=Publicity(parts.store, enabled=False),
        public_rooms=frozenset({ROOM}),
    )
    with pytest.raises(InputError, match="public_rooms"):
        await push(without, room, PushRequest(pickled, (), (), "tiny", allow_pickle=True))
    assert room.registry.changes == []


class Sent:
    """An upload that ends at once; notes what the registry said while it was under way."""

    def __init__(self, room: Room, report: UploadReport | None) -> None:
        self.room = room
        self.job = SimpleNamespace(
            report=report, item=SimpleNamespace(error="" if report else "away")
        )
        self.waited = ""
        self.named: list[str] = []

    def keep(self, item: Any) -> bool:
        return True

    def holds(self, manifest_id: ManifestId) -> bool:
        return True

    def begin(self, item: Any, session: Any) -> Any:
        return self.job

    async def follow(self, job: Any, wait: str) -> Any:
        self.waited = wait
        self.named = [type(change).__name__ for change in self.room.registry.changes]
        yield Progress("upload", 1, 1)


async def pushed_to_an_origin(
    parts: PusherParts, pickled: Path, report: UploadReport | None, *, shares: bool
) -> tuple[Sent, list[str]]:
    room = Room("publisher")
    room.card.origin = "s3://bucket/lab"
    sent = Sent(room, report)
    request = PushRequest(pickled, ("prod",), ("old",), "tiny", allow_pickle=True)
    await push(replace(parts, uploads=sent, shares=shares), room, request)
    return sent, [type(change).__name__ for change in room.registry.changes]


async def test_names_from_a_node_that_shares_nothing_move_once_the_content_is_stored(
    parts: PusherParts, pickled: Path
) -> None:
    sent, said = await pushed_to_an_origin(parts, pickled, UploadReport(1, 0), shares=False)
    assert (sent.waited, sent.named) == ("done", ["Publish"])
    assert said == ["Publish", "MoveAlias", "ChangeTags"]


async def test_names_of_what_was_never_stored_do_not_move(
    parts: PusherParts, pickled: Path
) -> None:
    _, said = await pushed_to_an_origin(parts, pickled, None, shares=False)
    assert said == ["Publish"]


async def test_names_from_a_node_that_shares_move_at_once(
    parts: PusherParts, pickled: Path
) -> None:
    sent, _ = await pushed_to_an_origin(parts, pickled, None, shares=True)
    assert (sent.waited, sent.named) == ("try", ["Publish", "MoveAlias", "ChangeTags"])
