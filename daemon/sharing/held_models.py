"""What a reference means on this node: by what a room calls it, else by its id in the store."""

from __future__ import annotations

from dreamer.daemon.room.keeper import RoomKeeper
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import AmbiguousError, DreamerError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry_limits import REF_MIN_PREFIX_DIGITS


async def find_held(
    keeper: RoomKeeper, store: Store, ref: str, room: str | None
) -> tuple[ManifestId, str]:
    """Return the id and name of a model.

    A room that this node has left names its models no more, yet they are still here.

    Raises:
        NoMatchError: nothing has that name.
        AmbiguousError: several models have it.
        DreamerError: no room that can be asked has it, and one can't be asked.
    """
    try:
        _, model = await keeper.find(ref, room)
    except AmbiguousError:
        raise
    except DreamerError:
        if room is not None or len(ref) < REF_MIN_PREFIX_DIGITS:
            raise
        known = store.known()
        match [manifest_id for manifest_id in known if manifest_id.hex().startswith(ref)]:
            case []:
                raise
            case [only]:
                return only, short(only)
        raise AmbiguousError(
            f"several models here begin with {ref!r:.80}: give more digits"
        ) from None
    return model.manifest_id, model.name
