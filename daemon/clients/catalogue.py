"""The client's facet of registries: aliases and their histories, lineages, watching."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from urllib.parse import quote

from dreamer.daemon.rest.caller import Caller
from dreamer.daemon.rest.json_form import from_json
from dreamer.daemon.surfaces.catalogue import AliasInfo, LineageInfo, ModelInfo, ModelList
from dreamer.protocol.errors import InputError

_ONLY_ROOM = "-"


class CatalogueClient:
    """See ``surfaces.catalogue.Catalogue`` for each call; a room of None is the only one."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller

    def watch(
        self, query: str = "", room: str | None = None
    ) -> Generator[tuple[ModelInfo, ...], None, None]:
        """Yield the models that a query means, at once and whenever that changes, until closed."""
        body = {"room": room, "query": query}
        for found in self._caller.events(
            "/models/watch", body, {"models": ModelList}, endless=True
        ):
            yield found.models

    def show(self, ref: str, room: str | None = None) -> ModelInfo:
        """Return one model."""
        return from_json(ModelInfo, self._caller.request("GET", _model(room, ref)))

    def aliases(self, room: str | None = None) -> list[AliasInfo]:
        """Return every alias of a room, those that were removed too."""
        found = self._caller.request("GET", f"{_room(room)}/aliases")["aliases"]
        return [from_json(AliasInfo, alias) for alias in found]

    def alias(self, alias: str, room: str | None = None) -> AliasInfo:
        """Return an alias and its history."""
        path = f"{_room(room)}/aliases/{_part(alias)}"
        return from_json(AliasInfo, self._caller.request("GET", path))

    def promote(self, source: str, target: str, room: str | None = None) -> AliasInfo:
        """Make the alias ``target`` mean what ``source`` means."""
        body = {"source": source, "target": target}
        return from_json(AliasInfo, self._caller.request("POST", f"{_room(room)}/promote", body))

    def protect(self, alias: str, roles: Sequence[str], room: str | None = None) -> AliasInfo:
        """Let only these roles, and admins, move an alias; no roles end its protection."""
        path = f"{_room(room)}/aliases/{_part(alias)}/protection"
        return from_json(AliasInfo, self._caller.request("PUT", path, {"roles": list(roles)}))

    def lineage(self, ref: str, room: str | None = None) -> LineageInfo:
        """Return what a model was trained from and what came of it."""
        return from_json(LineageInfo, self._caller.request("GET", f"{_model(room, ref)}/lineage"))

    def note(self, ref: str, notes: str, room: str | None = None) -> ModelInfo:
        """Replace a model's notes."""
        path = f"{_model(room, ref)}/notes"
        return from_json(ModelInfo, self._caller.request("PUT", path, {"notes": notes}))

    def withdraw(self, ref: str, room: str | None = None) -> str:
        """Take a model out of the room's registry; return its id. Copies stay where they are."""
        return str(self._caller.request("DELETE", _model(room, ref))["withdrawn"])


def _room(room: str | None) -> str:
    return f"/rooms/{_part(_ONLY_ROOM if room is None else room)}"


def _model(room: str | None, ref: str) -> str:
    return f"{_room(room)}/models/{_part(ref)}"


def _part(name: str) -> str:
    # An empty part would be another path.
    if not name:
        raise InputError("an empty text names nothing: give a room, an alias or a reference")
    return quote(name, safe="")
