"""Handlers of rooms, members, models, aliases and tags: short requests with JSON answers."""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.body import (
    ChangeTags,
    CreateRoom,
    Invite,
    JoinRoom,
    SetAlias,
    read_body,
)
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.errors import InputError

ONLY_ROOM = "-"
"""In a path: the one room this node is in."""


class RoomHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.get("/status", self.status),
            web.get("/rooms", self.rooms),
            web.post("/rooms", self.create),
            web.post("/rooms/join", self.join),
            web.delete("/rooms/{room}", self.leave),
            web.post("/rooms/{room}/invite", self.invite),
            web.get("/rooms/{room}/topology", self.topology),
            web.delete("/rooms/{room}/members/{node}", self.remove_member),
            web.put("/rooms/{room}/aliases/{alias}", self.set_alias),
            web.delete("/rooms/{room}/aliases/{alias}", self.remove_alias),
            web.post("/rooms/{room}/models/{ref}/tags", self.change_tags),
            web.get("/models", self.models),
            web.delete("/models/{ref}", self.remove),
            web.get("/peers", self.peers),
        ]

    async def status(self, request: web.Request) -> web.Response:
        """``GET status``."""
        return web.json_response(await self._node.status())

    async def rooms(self, request: web.Request) -> web.Response:
        """``GET rooms``."""
        return web.json_response({"rooms": [to_json(room) for room in self._node.rooms()]})

    async def create(self, request: web.Request) -> web.Response:
        """``POST rooms``."""
        body = await read_body(request, CreateRoom)
        made = await self._node.create_room(
            *(body.name, list(body.trackers), body.origin, body.endpoint_url),
            *(body.no_tracker, body.registry),
        )
        return web.json_response(to_json(made), status=201)

    async def join(self, request: web.Request) -> web.Response:
        """``POST rooms/join``."""
        body = await read_body(request, JoinRoom)
        return web.json_response(to_json(await self._node.join_room(body.token)))

    async def leave(self, request: web.Request) -> web.Response:
        """``DELETE rooms/{room}``."""
        room = request.match_info["room"]
        await self._node.leave_room(room)
        return web.json_response({"left": room})

    async def invite(self, request: web.Request) -> web.Response:
        """``POST rooms/{room}/invite``."""
        body = await read_body(request, Invite)
        token = await self._node.invite(
            request.match_info["room"], list(body.roles), body.expires_s, body.uses
        )
        return web.json_response({"token": token})

    async def remove_member(self, request: web.Request) -> web.Response:
        """``DELETE rooms/{room}/members/{node}``."""
        room, node = request.match_info["room"], request.match_info["node"]
        return web.json_response({"removed": await self._node.remove_member(room, node)})

    async def set_alias(self, request: web.Request) -> web.Response:
        """``PUT rooms/{room}/aliases/{alias}``."""
        body = await read_body(request, SetAlias)
        alias = request.match_info["alias"]
        model = await self._node.set_alias(room_in_path(request), alias, body.ref, body.expected)
        return web.json_response(to_json(model))

    async def remove_alias(self, request: web.Request) -> web.Response:
        """``DELETE rooms/{room}/aliases/{alias}``."""
        alias = request.match_info["alias"]
        await self._node.remove_alias(room_in_path(request), alias)
        return web.json_response({"removed": alias})

    async def change_tags(self, request: web.Request) -> web.Response:
        """``POST rooms/{room}/models/{ref}/tags``."""
        body = await read_body(request, ChangeTags)
        model = await self._node.change_tags(
            room_in_path(request), request.match_info["ref"], list(body.add), list(body.remove)
        )
        return web.json_response(to_json(model))

    async def models(self, request: web.Request) -> web.Response:
        """``GET models?room=&query=``."""
        asked = _in_query(request, "room", "query")
        models = await self._node.models(asked.get("room"), asked.get("query", ""))
        return web.json_response({"models": [to_json(model) for model in models]})

    async def remove(self, request: web.Request) -> web.Response:
        """``DELETE models/{ref}?room=``."""
        ref = request.match_info["ref"]
        freed = await self._node.remove(ref, _room_in_query(request))
        return web.json_response({"freed_bytes": freed})

    async def topology(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/topology``."""
        return web.json_response(await self._node.topology(room_in_path(request)))

    async def peers(self, request: web.Request) -> web.Response:
        """``GET peers?room=``."""
        peers = await self._node.peers(_room_in_query(request))
        return web.json_response({"peers": [to_json(peer) for peer in peers]})


def room_in_path(request: web.Request) -> str | None:
    """Return the room that a path names; None for the only one this node is in."""
    room = request.match_info["room"]
    return None if room == ONLY_ROOM else room


def _room_in_query(request: web.Request) -> str | None:
    return _in_query(request, "room").get("room")


def _in_query(request: web.Request, *known: str) -> dict[str, str]:
    for key in request.query:
        if key not in known:
            raise InputError(f"unknown query field {key!r:.80}; it can be: {', '.join(known)}")
    return dict(request.query)
