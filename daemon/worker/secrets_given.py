"""What a pod is given by its environment: an invitation, and perhaps an identity.

Both are secrets. They are taken out of the environment when they are read: every process that the
daemon starts would inherit them.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from pathlib import Path

from dreamer.daemon.identity import IDENTITY_DIR, write_private
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import from_hex
from dreamer.protocol.rooms.keys import SEED_BYTES

TOKEN_VARIABLE = "DREAMER_JOIN_TOKEN"  # noqa: S105 - a name
IDENTITY_VARIABLE = "DREAMER_IDENTITY"


class Invitation:
    """An invitation in a file, which may be replaced while the node runs, or one as it was given.

    ``file`` is empty if there is none.
    """

    def __init__(self, file: str, environ: MutableMapping[str, str]) -> None:
        self._file = file
        self._given = environ.pop(TOKEN_VARIABLE, "").strip()

    def read(self) -> str:
        """Return the invitation; empty if there is none. Touches the disk.

        Raises:
            InputError: the file can't be read.
        """
        if not self._file:
            return self._given
        try:
            return Path(self._file).expanduser().read_text(encoding="ascii").strip()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"the invitation in {self._file} can't be read: {error}") from error


def keep_given_identity(home: Path, environ: MutableMapping[str, str]) -> None:
    """Make the identity in DREAMER_IDENTITY, 64 hex digits, that of ``home``; if there is one.

    Raises:
        InputError: it is something else.
        LocalError: it can't be kept.
    """
    text = environ.pop(IDENTITY_VARIABLE, "").strip()
    if not text:
        return
    try:
        seed = from_hex(text, IDENTITY_VARIABLE, SEED_BYTES)
    except InputError:
        # Without the value, which the general message would repeat.
        raise InputError(
            f"{IDENTITY_VARIABLE} must be {2 * SEED_BYTES} lower-case hex digits, as in a node's "
            "identity/node.key"
        ) from None
    path = home / IDENTITY_DIR / "node.key"
    try:
        if path.exists() and path.read_bytes().strip() == seed.hex().encode():
            return
        if path.exists():
            raise LocalError(
                f"{IDENTITY_VARIABLE} names another node than {path}: leave it out, or move that "
                "file away"
            )
        write_private(path, seed.hex().encode())
    except OSError as error:
        raise LocalError(f"can't keep this node's key in {path}: {error}") from error
