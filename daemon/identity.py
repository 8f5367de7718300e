"""This node's own key, which is its name: made once, kept in ``identity/node.key`` mode 0600."""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path

from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.keys import SEED_BYTES, SigningKey

IDENTITY_DIR = "identity"


@dataclass(frozen=True)
class NodeIdentity:
    """The key pair of a node."""

    key: SigningKey

    @property
    def node_id(self) -> NodeId:
        """The node's public key, 32 bytes."""
        return NodeId(self.key.public)

    @classmethod
    def load_or_create(cls, home: Path) -> NodeIdentity:
        """Return the identity kept below ``home``, made now if there is none. Touches the disk.

        Raises:
            LocalError: the key file is damaged or open to others, or can't be read or made.
        """
        path = home / IDENTITY_DIR / "node.key"
        try:
            if not path.exists():
                _create(path)
            seed = bytes.fromhex(read_private(path).decode("ascii"))
            if len(seed) != SEED_BYTES:
                raise ValueError("wrong length")
        except ValueError as error:
            raise LocalError(
                f"{path} is damaged: restore it from a backup, or move it away to become a new node"
            ) from error
        except OSError as error:
            raise LocalError(f"can't keep this node's key in {path}: {error}") from error
        return cls(SigningKey(seed))


def read_private(path: Path) -> bytes:
    """Return the content of a secret file.

    Raises:
        LocalError: other users of the machine can read or change it.
        OSError: it can't be read.
    """
    # The mode of what was opened, not of what the path names by then.
    with path.open("rb") as file:
        if os.name == "posix" and stat.S_IMODE(os.fstat(file.fileno()).st_mode) & 0o077:
            raise LocalError(f"{path} is a secret but open to other users: run chmod 600 '{path}'")
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Put a secret file in place whole or not at all, mode 0600, its directory 0700.

    Raises:
        OSError: it can't be written.
    """
    draft = _draft(path, data)
    draft.replace(path)
    _sync_directory(path.parent)


def _create(path: Path) -> None:
    draft = _draft(path, secrets.token_bytes(SEED_BYTES).hex().encode())
    try:
        # A hard link never replaces a file: when two processes start at once, one key wins.
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    _sync_directory(path.parent)


def _draft(path: Path, data: bytes) -> Path:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    # The mode is given at creation: set afterwards, the secret would be open for a moment.
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        # A rename may reach the disk before the data does, and leave an empty key after a crash.
        os.fsync(file.fileno())
    return draft


def _sync_directory(directory: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
