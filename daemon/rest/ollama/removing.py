"""What ``ollama rm`` means in a room: what is this node's own goes, what is the room's stays.

A room's aliases are for everybody. So a name goes only if this node gave it (by ``copy`` or
``create``), the copy on this disk goes once no name that stays is this node's, and the room's
entry goes only of a model that this node published and nobody else has.
"""

from __future__ import annotations

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.ollama import names
from dreamer.daemon.rest.ollama.names import Found
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.surfaces.catalogue import ModelInfo
from dreamer.protocol.errors import NoMatchError


async def remove(node: Node, shelf: Shelf, found: Found) -> bool:
    """Remove a model as its name is removed; say whether there was anything to remove.

    Raises:
        LocalError: the copy is pinned, being pulled, or in use.
        ForbiddenError: this node may not change the room's names any more.
    """
    servable = found.servable
    own = [alias for alias in servable.aliases if await _is_own(node, servable.room, alias)]
    said = names.parse(found.ref)
    # A model is found by its own name as well, which its alias spells as an alias can.
    named = next((one for one in (said.said, said.alias) if one in own), "")
    if named and len(own) > 1:
        # The other names are copies, in Ollama's words: the model stays for them.
        await node.remove_alias(servable.room, named)
        return True
    info = await shelf.info(servable)
    if servable.here:
        await node.remove(servable.manifest_id, servable.room)
    if named:
        await node.remove_alias(servable.room, named)
    elif not servable.here:
        return False
    if info is not None and await _is_all_ours(node, info, set(own)):
        await node.catalogue.withdraw(servable.room, servable.manifest_id)
    return True


async def _is_own(node: Node, room: str, alias: str) -> bool:
    """Say whether this node was the last to set an alias."""
    try:
        moves = (await node.catalogue.alias(room, alias)).moves
    except NoMatchError:
        return False
    return bool(moves) and moves[-1].by == await _own_id(node)


async def _is_all_ours(node: Node, info: ModelInfo, own_aliases: set[str]) -> bool:
    """Say whether a model was published from here, has no other's name, and nobody else has it."""
    me = await _own_id(node)
    elsewhere = info.on_nodes - info.local > 0 or any(one.node_id != me for one in info.cached_on)
    others_named = set(info.aliases) - own_aliases
    return info.published_by == me and not (elsewhere or others_named or info.origin)


async def _own_id(node: Node) -> str:
    return str((await node.status())["node_id"])
