"""Dreamer for Python programs: talks to the ``dreamerd`` of this machine, blocking, typed.

>>> from dreamer.daemon.client import Dreamer
>>> model = Dreamer().pull("production", room="lab")  # a pathlib.Path
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

from dreamer.daemon.clients.caches import CachesClient
from dreamer.daemon.clients.catalogue import CatalogueClient
from dreamer.daemon.clients.costs import CostsClient
from dreamer.daemon.clients.inference import InferenceClient
from dreamer.daemon.clients.offload_rules import OffloadRulesClient
from dreamer.daemon.clients.readiness import ReadinessClient
from dreamer.daemon.clients.retention import RetentionClient
from dreamer.daemon.places import find_home
from dreamer.daemon.ports import (
    MeetingText,
    PeerInfo,
    Progress,
    PullEvent,
    PullReceipt,
    PushEvent,
    PushReceipt,
    RoomInfo,
    TorrentFileEvent,
    TorrentReceipt,
)
from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.daemon.surfaces.inference import Prefer, RunEnded, RunEvent, RunStarted, RunText
from dreamer.daemon.surfaces.pushing import OriginWait
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.limits import INVITE_DEFAULT_TTL_S
from dreamer.protocol.registry_limits import QUERY_MAX_CHARS

P = TypeVar("P", bound=PushReceipt | PullReceipt | TorrentReceipt)

ProgressCallback = Callable[[Progress], None]

_ONLY_ROOM = "-"


class Dreamer:
    """The daemon of one home; by default DREAMER_HOME, else the user's own.

    Every call raises a DreamerError whose message says what to do: LocalError when no daemon runs.
    Calls are independent of each other and may be made from several threads.
    """

    def __init__(self, home: str | Path | None = None) -> None:
        self.home = find_home(home, os.environ)
        self._caller = Caller(self.home)
        self.readiness = ReadinessClient(self._caller)
        self.costs = CostsClient(self._caller)
        self.catalogue = CatalogueClient(self._caller)
        self.caches = CachesClient(self._caller)
        self.retention = RetentionClient(self._caller)
        self.offload_rules = OffloadRulesClient(self._caller)
        self.inference = InferenceClient(self._caller)

    def status(self) -> dict[str, Any]:
        """Return what the node says of itself: id, name, version, rooms, store, inference."""
        return self._caller.request("GET", "/status")

    def rooms(self) -> list[RoomInfo]:
        """Return the rooms this node is in."""
        return [
            from_json(RoomInfo, room) for room in self._caller.request("GET", "/rooms")["rooms"]
        ]

    def create_room(
        self,
        name: str,
        trackers: Sequence[str],
        origin: str | None = None,
        endpoint_url: str | None = None,
        no_tracker: bool = False,
        registry: str = "tracker",
    ) -> RoomInfo:
        """Make a room; ``origin`` is ``s3://BUCKET/PREFIX``.

        With ``no_tracker`` its nodes meet by ``offer_link`` and ``take_meeting_text`` alone. Its
        ``registry`` is kept at the ``tracker`` or at the ``origin``.
        """
        body = {
            "name": name,
            "trackers": list(trackers),
            "origin": origin,
            "endpoint_url": endpoint_url,
            "no_tracker": no_tracker,
            "registry": registry,
        }
        return from_json(RoomInfo, self._caller.request("POST", "/rooms", body))

    def invite(
        self,
        room: str,
        roles: Sequence[str] = (),
        expires_s: float = INVITE_DEFAULT_TTL_S,
        uses: int = 1,
    ) -> str:
        """Return a join token; without ``roles`` it grants ``member`` and ``publisher``."""
        body: Json = {"expires_s": expires_s, "uses": uses}
        if roles:
            body["roles"] = list(roles)
        return str(self._caller.request("POST", f"/rooms/{_part(room)}/invite", body)["token"])

    def join_room(self, token: str) -> RoomInfo:
        """Redeem a join token."""
        return from_json(RoomInfo, self._caller.request("POST", "/rooms/join", {"token": token}))

    def leave_room(self, room: str) -> None:
        """Forget a room; what was pulled stays."""
        self._caller.request("DELETE", f"/rooms/{_part(room)}")

    def remove_member(self, room: str, node: str) -> str:
        """End a node's membership of a room, by its id or the start of it; return the whole id."""
        path = f"/rooms/{_part(room)}/members/{_part(node)}"
        return str(self._caller.request("DELETE", path)["removed"])

    def offer_link(self, room: str | None = None) -> MeetingText:
        """Return a text that lets a node of the room link to this one with no tracker."""
        return from_json(
            MeetingText, self._caller.request("POST", "/connect/offer", {"room": room})
        )

    def take_meeting_text(self, text: str) -> MeetingText | PeerInfo:
        """Answer another node's offer, or take its answer: then wait for the link."""
        found = self._caller.request("POST", "/connect/answer", {"text": text})
        if "linked" in found:
            return from_json(PeerInfo, found["linked"])
        return from_json(MeetingText, found["answer"])

    def models(self, room: str | None = None, query: str = "") -> list[ModelInfo]:
        """Return the models of one room, or of all; with a query, those that it means."""
        if len(query) > QUERY_MAX_CHARS:
            # It goes into the request's first line, which has a bound of its own.
            raise InputError(f"a query has {QUERY_MAX_CHARS} characters at most")
        asked = {key: value for key, value in (("room", room), ("query", query)) if value}
        found = self._caller.request("GET", f"/models?{urlencode(asked)}")["models"]
        return [from_json(ModelInfo, model) for model in found]

    def peers(self, room: str | None = None) -> list[PeerInfo]:
        """Return the members present in one room, or in all."""
        found = self._caller.request("GET", f"/peers{_query(room)}")["peers"]
        return [from_json(PeerInfo, peer) for peer in found]

    def topology(self, room: str | None = None) -> Json:
        """Return a room as this node knows it: what ``dreamer-sim whatif`` reads.

        ``protocol.topology.from_json`` makes values of it.
        """
        return self._caller.request("GET", f"/rooms/{_part(room)}/topology")

    def set_alias(
        self, alias: str, ref: str, room: str | None = None, expected: str | None = None
    ) -> ModelInfo:
        """Make ``alias`` mean the model ``ref``; only if it means ``expected``, if that is given.

        ``expected`` "none": only if it means nothing. Else a ConflictError.
        """
        path = f"/rooms/{_part(room)}/aliases/{_part(alias)}"
        body = {"ref": ref, "expected": expected}
        return from_json(ModelInfo, self._caller.request("PUT", path, body))

    def remove_alias(self, alias: str, room: str | None = None) -> None:
        """Remove an alias."""
        self._caller.request("DELETE", f"/rooms/{_part(room)}/aliases/{_part(alias)}")

    def change_tags(
        self,
        ref: str,
        add: Sequence[str] = (),
        remove: Sequence[str] = (),
        room: str | None = None,
    ) -> ModelInfo:
        """Add and remove tags of a model."""
        path = f"/rooms/{_part(room)}/models/{_part(ref)}/tags"
        body = {"add": list(add), "remove": list(remove)}
        return from_json(ModelInfo, self._caller.request("POST", path, body))

    def remove(self, ref: str, room: str | None = None) -> int:
        """Remove this machine's copy of a model; return the bytes freed."""
        return int(
            self._caller.request("DELETE", f"/models/{_part(ref)}{_query(room)}")["freed_bytes"]
        )

    def push(
        self,
        path: str | Path,
        room: str,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        name: str | None = None,
        progress: ProgressCallback | None = None,
        allow_pickle: bool = False,
        public: bool = False,
        notes: str | None = None,
        provenance: Json | None = None,
        trained_from: Sequence[str] = (),
        wait: OriginWait = "try",
    ) -> PushReceipt:
        """Publish a file or directory to a room, and wait for it.

        ``allow_pickle`` lets through files that can run any code when something loads them.
        ``public`` gives it to any BitTorrent client, too. ``provenance`` may have ``trained_by``,
        ``trained_at`` (epoch seconds), ``config``, ``config_digest`` and ``metrics``;
        ``trained_from`` are references to models of the room. ``wait``: for the first attempt of
        the upload to the room's origin (``try``), until it is ``done``, or not (``no``); the node
        goes on with it by itself.
        """
        events = self.push_events(
            *(path, room, aliases, tags, name, allow_pickle, public),
            *(notes, provenance, trained_from, wait),
        )
        return _receipt(events, progress)

    def push_events(
        self,
        path: str | Path,
        room: str,
        aliases: Sequence[str] = (),
        tags: Sequence[str] = (),
        name: str | None = None,
        allow_pickle: bool = False,
        public: bool = False,
        notes: str | None = None,
        provenance: Json | None = None,
        trained_from: Sequence[str] = (),
        wait: OriginWait = "try",
    ) -> Generator[PushEvent, None, None]:
        """Publish, yielding progress and at last the receipt; closing it cancels the work."""
        body = {
            "path": _absolute(path),
            "room": room,
            "aliases": list(aliases),
            "tags": list(tags),
            "name": name,
            "allow_pickle": allow_pickle,
            "public": public,
            "notes": notes,
            "provenance": provenance,
            "trained_from": list(trained_from),
            "wait": wait,
        }
        kinds = {"progress": Progress, "receipt": PushReceipt}
        return self._caller.events("/push", body, kinds)

    def pull(
        self,
        ref: str,
        room: str | None = None,
        output: str | Path | None = None,
        progress: ProgressCallback | None = None,
    ) -> Path:
        """Fetch a model; return the directory (or file) it is in."""
        return Path(_receipt(self.pull_events(ref, room, output), progress).path)

    def pull_events(
        self, ref: str, room: str | None = None, output: str | Path | None = None
    ) -> Generator[PullEvent, None, None]:
        """Fetch, yielding progress and at last the receipt; closing it cancels the work."""
        target = None if output is None else _absolute(output)
        kinds = {"progress": Progress, "receipt": PullReceipt}
        return self._caller.events("/pull", {"ref": ref, "room": room, "output": target}, kinds)

    def torrent(
        self,
        ref: str,
        room: str | None = None,
        output: str | Path | None = None,
        progress: ProgressCallback | None = None,
    ) -> TorrentReceipt:
        """Write the torrent file of a model that is whole here; return its hashes and magnet link.

        ``output`` is the file; by default it is beside the model's directory. Nothing is seeded.
        """
        return _receipt(self.torrent_events(ref, room, output), progress)

    def torrent_events(
        self, ref: str, room: str | None = None, output: str | Path | None = None
    ) -> Generator[TorrentFileEvent, None, None]:
        """Write a torrent file, yielding progress and at last the receipt."""
        target = None if output is None else _absolute(output)
        kinds = {"progress": Progress, "receipt": TorrentReceipt}
        return self._caller.events("/torrent", {"ref": ref, "room": room, "output": target}, kinds)

    def run(
        self,
        ref: str,
        prompt: str,
        room: str | None = None,
        max_tokens: int = 256,
        where: Prefer = "auto",
        **options: Any,
    ) -> Iterator[str]:
        """Generate text, yielding it piece by piece; here, or on a peer that serves the model.

        ``options`` are ``temperature``, ``top_p``, ``seed`` and ``stop`` (a list of texts).
        """
        with closing(self.run_events(ref, prompt, room, max_tokens, where, **options)) as events:
            for event in events:
                if isinstance(event, RunText):
                    yield event.text

    def run_events(
        self,
        ref: str,
        prompt: str,
        room: str | None = None,
        max_tokens: int = 256,
        where: Prefer = "auto",
        **options: Any,
    ) -> Generator[RunEvent, None, None]:
        """Generate text: who runs it, the text, how it ended; closing it stops the generation.

        Who runs it is told again when another node goes on with an answer.
        """
        body = {
            "ref": ref,
            "prompt": prompt,
            "room": room,
            "max_tokens": max_tokens,
            "where": where,
            **options,
        }
        kinds = {"started": RunStarted, "text": RunText, "ended": RunEnded}
        return self._caller.events("/run", body, kinds)


def _receipt(events: Generator[Progress | P, None, None], progress: ProgressCallback | None) -> P:
    with closing(events):
        for event in events:
            if not isinstance(event, Progress):
                return event
            if progress is not None:
                progress(event)
    raise LocalError("dreamerd ended its work without a receipt: see its log")


def _absolute(path: str | Path) -> str:
    # The daemon has a working directory of its own.
    return str(Path(path).expanduser().absolute())


def _part(name: str | None) -> str:
    if name == "":
        raise InputError("an empty text names nothing: give a room, an alias or a reference")
    return quote(name or _ONLY_ROOM, safe="")


def _query(room: str | None) -> str:
    return f"?{urlencode({'room': room})}" if room else ""
