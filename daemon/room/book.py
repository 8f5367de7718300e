"""The rooms this node belongs to, one secret file each below ``identity/rooms``.

Calls that write touch the disk for a moment: make them from a worker thread.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.identity import IDENTITY_DIR, NodeIdentity, read_private, write_private
from dreamer.protocol import canonical
from dreamer.protocol.errors import (
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    NoMatchError,
)
from dreamer.protocol.ids import RoomId, from_hex
from dreamer.protocol.limits import CHAIN_MAX_CERTIFICATES
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.card import (
    SECRET_BYTES,
    RegistryPlace,
    RoomCard,
    check_room_name,
    parse_card,
    tracker_base_url,
)
from dreamer.protocol.rooms.certificate import (
    ALL_ROLES,
    INVITE_ID_BYTES,
    REGISTRY_WRITERS,
    Role,
    invitation,
    node_certificate,
)
from dreamer.protocol.rooms.keys import SEED_BYTES, SigningKey
from dreamer.protocol.rooms.membership import (
    Chain,
    chain_to_json,
    parse_chain,
    verify_chain,
    verify_invitation,
)
from dreamer.protocol.rooms.token import JoinToken, decode_token


@dataclass(frozen=True)
class Membership:
    """A room, the chain that makes this node its member, and at the creator the room key's seed."""

    card: RoomCard
    chain: Chain
    room_seed: bytes | None = None

    def __repr__(self) -> str:
        return f"Membership({self.card!r}, roles={self.roles})"

    @property
    def roles(self) -> tuple[Role, ...]:
        """What this node may do in the room."""
        return self.chain[-1].roles

    @property
    def writes(self) -> bool:
        """Whether this node may write the room's registry."""
        return any(role in self.roles for role in REGISTRY_WRITERS)


class RoomBook:
    """This node's memberships, kept on disk, and the acts that make them."""

    def __init__(
        self,
        home: Path,
        identity: NodeIdentity,
        draw: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        """Read the memberships below ``home``; ``draw`` yields that many random bytes.

        Raises:
            LocalError: a membership file is damaged, open to others, or can't be read.
        """
        self._directory = home / IDENTITY_DIR / "rooms"
        self._identity = identity
        self._draw = draw
        loaded = [self._load(path) for path in sorted(self._directory.glob("*.json"))]
        self._by_id: dict[RoomId, Membership] = {each.card.room_id: each for each in loaded}

    def create(
        self,
        name: str,
        trackers: Sequence[str],
        origin: str | None,
        endpoint_url: str | None,
        now: float,
        registry: RegistryPlace = RegistryPlace.TRACKER,
    ) -> Membership:
        """Make a room whose key this node holds, and become its first member, with every role.

        Raises:
            InputError: the name is taken or malformed, or a URL is.
            LocalError: it can't be saved.
        """
        check_room_name(name)
        self._check_name_free(name, None)
        seed = self._draw(SEED_BYTES)
        room_key = SigningKey(seed)
        room_id = RoomId(room_key.public)
        # The same tracker named twice would be joined twice.
        bases = tuple(dict.fromkeys(map(tracker_base_url, trackers)))
        secret = self._draw(SECRET_BYTES)
        card = RoomCard(room_id, name, bases, origin, endpoint_url, secret, registry)
        own = node_certificate(room_id, self._identity.node_id, ALL_ROLES, now, room_key)
        membership = Membership(card, (own,), seed)
        self.add(membership)
        return membership

    def invite(
        self, name: str, roles: Sequence[str], expires_s: float, uses: int, now: float
    ) -> str:
        """Return a join token that admits ``uses`` nodes with these roles within ``expires_s``.

        Raises:
            NoMatchError: no room is called that.
            InputError: the roles, time or uses are out of bounds.
            ForbiddenError: this node may not invite.
        """
        membership = self.get(name)
        issuer, upper = self._inviter(membership)
        seed = self._draw(SEED_BYTES)
        invited = invitation(
            membership.card.room_id,
            SigningKey(seed),
            roles,
            now,
            expires_s,
            uses,
            self._draw(INVITE_ID_BYTES),
            issuer,
        )
        return JoinToken(membership.card, (*upper, invited), seed).encode()

    def accept(self, token: str, now: float) -> Membership:
        """Return the membership that a join token gives this node; ``add`` saves it.

        The tracker has its say in between: it knows whether the invitation was used before.

        Raises:
            InputError: it isn't a whole token, or the room or its name is already here.
            ForbiddenError: the invitation has expired or breaks a rule.
        """
        decoded = decode_token(token)
        card = decoded.card
        invited = verify_invitation(card.room_id, decoded.chain, now)
        known = self._by_id.get(card.room_id)
        # The room's key is nowhere else: a membership from a token would overwrite it.
        if known is not None and known.room_seed is not None:
            raise InputError(f"this node made room {card.name}: it is a member already")
        self._check_name_free(card.name, card.room_id)
        own = node_certificate(
            card.room_id, self._identity.node_id, invited.roles, now, SigningKey(decoded.seed)
        )
        chain = (*decoded.chain, own)
        verify_chain(card.room_id, chain, now)
        return Membership(card, chain)

    def add(self, membership: Membership) -> None:
        """Save a membership, in place of an earlier one of the same room.

        Raises:
            InputError: another room here has that name.
            LocalError: it can't be saved.
        """
        room_id = membership.card.room_id
        self._check_name_free(membership.card.name, room_id)
        path = self._path(room_id)
        try:
            write_private(path, _dump(membership))
        except OSError as error:
            raise LocalError(f"can't save the room in {path}: {error}") from error
        self._by_id[room_id] = membership

    def remove(self, name_or_id: str) -> Membership:
        """Forget a room and return what was known of it.

        Raises:
            NoMatchError: no room is called that.
            LocalError: its file can't be removed.
        """
        membership = self.get(name_or_id)
        path = self._path(membership.card.room_id)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise LocalError(f"can't remove {path}: {error}") from error
        del self._by_id[membership.card.room_id]
        return membership

    def get(self, name_or_id: str) -> Membership:
        """Return the room of that name, or of that id in hex.

        Raises:
            NoMatchError: there is none; the message lists the rooms there are.
        """
        for room_id, membership in self._by_id.items():
            if name_or_id in (membership.card.name, room_id.hex()):
                return membership
        names = ", ".join(each.card.name for each in self.list())
        known = f"the rooms are: {names}" if names else "make one or join one with a token first"
        raise NoMatchError(f"no room is called {name_or_id!r:.80}; {known}")

    def list(self) -> list[Membership]:
        """Return every membership, by the room's name."""
        return sorted(self._by_id.values(), key=lambda membership: membership.card.name)

    def _inviter(self, membership: Membership) -> tuple[SigningKey, Chain]:
        if membership.room_seed is not None:
            return SigningKey(membership.room_seed), ()
        if Role.ADMIN not in membership.roles:
            raise ForbiddenError(
                f"only admins may invite to room {membership.card.name}: ask one of them"
            )
        # The invitation and the guest's own certificate are still to come.
        if len(membership.chain) + 2 > CHAIN_MAX_CERTIFICATES:
            raise ForbiddenError(
                "this node was invited by an invited admin and can't invite further: "
                "ask an admin whom the room's creator invited"
            )
        return self._identity.key, membership.chain

    def _check_name_free(self, name: str, room_id: RoomId | None) -> None:
        for known in self._by_id.values():
            if known.card.name == name and known.card.room_id != room_id:
                raise InputError(
                    f"a room called {name} is here already: choose another name, or leave it first"
                )

    def _path(self, room_id: RoomId) -> Path:
        return self._directory / f"{room_id.hex()}.json"

    def _load(self, path: Path) -> Membership:
        try:
            membership = _parse(read_private(path))
            if membership.card.room_id.hex() != path.stem:
                raise InputError("it holds another room")
        except LocalError:
            raise
        except (DreamerError, OSError) as error:
            raise LocalError(
                f"{path} can't be used ({error}): restore it, or remove it and join again"
            ) from error
        return membership


def _dump(membership: Membership) -> bytes:
    seed = membership.room_seed
    return canonical.dumps(
        {
            "card": membership.card.to_json(),
            "chain": chain_to_json(membership.chain),
            "room_seed": None if seed is None else seed.hex(),
        }
    )


def _parse(data: bytes) -> Membership:
    said = fields.exact(canonical.loads(data), ("card", "chain", "room_seed"), "a membership")
    seed = said["room_seed"]
    return Membership(
        card=parse_card(said["card"]),
        chain=parse_chain(said["chain"]),
        room_seed=None if seed is None else from_hex(seed, "a room key's seed", SEED_BYTES),
    )
