"""What a change takes for granted of an alias: compare and swap, as it reads in a registry."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import Enum
from typing import Final

from dreamer.protocol.errors import StaleError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.statements import AliasMove


class Unconditional(Enum):
    """The type of ``ANY``."""

    ANY = "any"


ANY: Final = Unconditional.ANY
"""Whatever the alias means now."""

Expected = ManifestId | None | Unconditional
"""The model that an alias must mean for a change to be made; None: it must mean nothing."""


def stale_alias(
    alias: str, expected: ManifestId | None, now: ManifestId | None, last: Record[AliasMove] | None
) -> StaleError:
    """Return the error that says what an alias means instead, and who moved it ``last``, when."""
    wanted = "nothing" if expected is None else short(expected)
    means = "nothing" if now is None else short(now)
    moved = ""
    if last is not None:
        when = datetime.fromtimestamp(last.at, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
        moved = f"; node {short(last.by)} moved it at {when}"
    return StaleError(
        f"alias {alias!r} means {means} now, not {wanted}{moved}: nothing was changed; look at it "
        "with 'dreamer models', then move it from what it means now"
    )
