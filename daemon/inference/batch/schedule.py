"""Whose prompt is read next, how much of it, and whether rows take a step after that.

Pure: what steps took comes in. While rows decode, a chunk may delay them by at most
``BATCH_READ_SHARE`` of a step's own time; when none does, chunks are large. Of several prompts the
one with the least left is read, so that a short one needn't wait for a long one, but every other
time the one that waits longest: that one gets half of the reading, whoever comes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.protocol.inference_limits import (
    BATCH_CHUNK_OVERHEAD_TOKENS,
    BATCH_CHUNK_TOKENS,
    BATCH_READ_SHARE,
    BATCH_TIMES_WEIGHT,
    INFERENCE_PREFILL_CHUNK_TOKENS,
)

_CLOCK_RESOLUTION_S = 1e-6


@dataclass(frozen=True)
class Reading:
    """A prompt of which ``left`` tokens, at least one, are still to be read."""

    row: int
    left: int


@dataclass(frozen=True)
class Plan:
    """Read ``tokens`` of the row's prompt; then let the others take a step if ``decode``."""

    row: int
    tokens: int
    decode: bool


class Schedule:
    """Decides each step. With ``fixed_chunk`` every chunk but a prompt's last has that size.

    Some graphs compute other bits for other chunks: then what is read may not depend on who else
    is there. ``fixed_chunk`` 0 leaves the size open, but for 1, which is read otherwise.
    """

    def __init__(self, fixed_chunk: int = 0) -> None:
        self._fixed = fixed_chunk
        self._turn = 0
        self._decode_s: dict[int, float] = {}
        self._read_s: dict[int, float] = {}

    def plan(self, reading: Sequence[Reading], decoding: int) -> Plan:
        """Decide on a chunk of one of these prompts, which are in order of arrival.

        ``decoding`` counts the rows that wait meanwhile.
        """
        self._turn += 1
        shortest = min(reading, key=lambda one: one.left)
        chosen = reading[0] if self._turn % 2 else shortest
        most = self._affordable(decoding) if decoding else INFERENCE_PREFILL_CHUNK_TOKENS
        tokens = self._fixed or most
        return Plan(chosen.row, _cut(chosen.left, tokens, self._fixed), decode=decoding > 0)

    def decoded(self, rows: int, seconds: float) -> None:
        """Hear what a batched step of ``rows`` took."""
        _mix(self._decode_s, rows, seconds)

    def read(self, tokens: int, seconds: float) -> None:
        """Hear what a chunk took."""
        _mix(self._read_s, _size_class(tokens), seconds)

    def _affordable(self, decoding: int) -> int:
        """Return the largest chunk whose time is bearable between two steps of these rows."""
        step_s = _nearest(self._decode_s, decoding)
        if step_s is None or not self._read_s:
            return BATCH_CHUNK_TOKENS[0]
        bearable_s = step_s * BATCH_READ_SHARE
        fitting = [one for one in BATCH_CHUNK_TOKENS if self._expected_s(one) <= bearable_s]
        return max(fitting, default=BATCH_CHUNK_TOKENS[0])

    def _expected_s(self, tokens: int) -> float:
        """Return what a chunk should take, by the nearest size that was measured.

        Going through the weights at all takes as long as so many tokens more.
        """
        known = min(self._read_s, key=lambda size: max(size / tokens, tokens / size))
        fixed = BATCH_CHUNK_OVERHEAD_TOKENS
        return self._read_s[known] * (fixed + tokens) / (fixed + known)


def _cut(left: int, tokens: int, fixed: int) -> int:
    """Return how many of ``left`` to read; without leaving a single one behind."""
    if not fixed and left - tokens == 1:
        return left if tokens < 3 else tokens - 1
    return min(left, tokens)


def _size_class(tokens: int) -> int:
    return max((one for one in BATCH_CHUNK_TOKENS if one <= tokens), default=BATCH_CHUNK_TOKENS[0])


def _mix(times: dict[int, float], key: int, seconds: float) -> None:
    """Take a measurement into the moving mean; one that stands far out counts as twice it.

    What changes a machine's speed changes it for all sizes, so those not measured follow.
    """
    seconds = max(seconds, _CLOCK_RESOLUTION_S)
    known = times.setdefault(key, seconds)
    mixed = known + BATCH_TIMES_WEIGHT * (min(seconds, 2 * known) - known)
    for size in times:
        times[size] *= mixed / known


def _nearest(times: dict[int, float], key: int) -> float | None:
    if not times:
        return None
    return times[min(times, key=lambda known: abs(known - key))]
