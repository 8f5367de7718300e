"""Which member may have which run a model: what the room's admins say, then the node's owner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dreamer.protocol.errors import ForbiddenError

OffloadRules = Mapping[str, tuple[str, ...]]
"""By the role of who asks, the roles of those that may be asked (``RoomPolicy.offload``)."""


def room_allows(rules: OffloadRules | None, asker: Iterable[str], server: Iterable[str]) -> bool:
    """Return whether a room's rules let members of these roles ask one of those; None: no rule."""
    if rules is None:
        return True
    servers = tuple(server)
    return any(role in servers for asking in asker for role in rules.get(asking, ()))


def check_asked(
    rules: OffloadRules | None,
    asker: tuple[str, ...],
    server: tuple[str, ...],
    serves: bool,
    serve_roles: tuple[str, ...],
) -> None:
    """Make sure that this node, whose roles are ``server``, may run something for ``asker``.

    ``serves`` and ``serve_roles`` (none: all) are what the node's owner has set.

    Raises:
        ForbiddenError: it may not; the message says by whose rule.
    """
    if not serves:
        raise ForbiddenError("this node does not run models for others")
    if serve_roles and not any(role in serve_roles for role in asker):
        raise ForbiddenError(
            f"this node runs models only for the roles {_listed(serve_roles)}, and you are "
            f"{_listed(asker)}: its owner sets [offload] serve_roles"
        )
    if not room_allows(rules, asker, server):
        raise ForbiddenError(
            f"the room's rules do not let {_listed(asker)} have {_listed(server)} run models: "
            "an admin changes them with 'dreamer room offload'"
        )


def _listed(roles: tuple[str, ...]) -> str:
    return " and ".join(roles) or "none"
