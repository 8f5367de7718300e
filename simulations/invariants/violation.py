"""Something that must never be, and was."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """``at_s``: virtual seconds; ``node``: whose fault it is, or nobody's (empty)."""

    at_s: float
    node: str
    invariant: str
    words: str

    def __str__(self) -> str:
        who = f"{self.node} " if self.node else ""
        return f"{self.invariant}: at {self.at_s:.3f} s {who}{self.words}"


class BrokenError(Exception):
    """Ends a run at its first violation, while what led to it can still be looked at."""

    def __init__(self, violation: Violation) -> None:
        super().__init__(str(violation))
        self.violation = violation
