"""What was found wrong in a registry: each fault is ignored, and named once to people."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from dreamer.protocol.ids import SHORT_ID_DIGITS


class Fault(Enum):
    """Why a record is ignored."""

    MALFORMED = "malformed"
    MISPLACED = "stands where it does not belong"
    WRONG_SIGNATURE = "wrong signature: changed after it was signed"
    NOT_A_MEMBER = "its author is not a member"
    NO_RIGHT = "its author's role does not allow it"
    PROTECTED = "the alias is protected from its author's role"
    FROM_THE_FUTURE = "dated in the future: check the clocks"
    SERIAL_JUMP = "its number is far ahead of all others"
    DANGLING = "names a model that is not in the room"
    VANISHED = "was dropped from the document without a signed end: kept as it was seen"
    SERIAL = "the document's serial is not the one of its newest signed change"


@dataclass(frozen=True)
class Report:
    """One fault and where it is."""

    where: str
    fault: Fault
    detail: str = ""

    def concerns(self, ref: str) -> bool:
        """Return whether the fault is in what a person calls ``ref``: an alias, tag or id."""
        words = self.where.split()
        return ref.removeprefix("tag:") in words or ref[:SHORT_ID_DIGITS] in words

    def __str__(self) -> str:
        line = f"{self.where}: {self.fault.value}"
        return f"{line} ({self.detail})" if self.detail else line
