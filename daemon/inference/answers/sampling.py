"""Chooses a token by its logits. The order of things is llama.cpp's:

1. ``logit_bias`` is added; what a grammar forbids is at minus infinity already.
2. ``repetition_penalty`` over the last ``repeat_last_n`` tokens of prompt and answer: positive
   logits are divided by it, others multiplied (Keskar et al. 2019, CTRL).
3. ``frequency_penalty`` times how often the answer has the token, and ``presence_penalty`` once
   if it has it, are taken off (OpenAI's definition).
4. At temperature 0 the likeliest token is taken; ties go to the lowest id.
5. ``top_k``, then ``top_p`` (the fewest likeliest tokens with that much of what is left), then
   ``min_p`` (at least that part of the likeliest one's probability).
6. What is left is drawn from at ``temperature``.

The random number of a place is a function of the seed and the place alone, so an answer that is
continued elsewhere draws what it would have drawn here.
"""

from __future__ import annotations

import math
import secrets
from collections import Counter, deque
from collections.abc import Iterable
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.protocol.errors import LocalError

Logits = NDArray[np.float32]
Ids = NDArray[np.int64]
Weights = NDArray[np.float32]

# A nucleus is looked for among so many of the likeliest tokens before all are sorted.
_NUCLEUS_GUESSES = (128, 2048)

# Summing in rows first: a running sum over a whole vocabulary takes twenty times longer.
_ROW = 256


class Sampler:
    """Chooses the tokens of one answer; it must ``see`` all that came before."""

    def __init__(self, sampling: Sampling) -> None:
        """Choose by these options; without a seed one is drawn."""
        self._sampling = sampling
        self._seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self._window: deque[int] = deque()
        self._in_window: Counter[int] = Counter()
        self._in_answer: Counter[int] = Counter()
        self._penalises = _penalises(sampling)

    def see(self, token: int, *, answer: bool) -> None:
        """Take note of a token of the prompt or the answer."""
        if not self._penalises:
            return
        if answer:
            self._in_answer[token] += 1
        self._window.append(token)
        self._in_window[token] += 1
        if 0 <= self._sampling.repeat_last_n < len(self._window):
            left = self._window.popleft()
            self._in_window[left] -= 1
            if not self._in_window[left]:
                del self._in_window[left]

    def choose(self, logits: Logits, place: int) -> int:
        """Return the token for this place of the answer, counted from 0.

        Raises:
            LocalError: the model's numbers are none, or no token is allowed.
        """
        sampling = self._sampling
        if self._penalises or sampling.logit_bias:
            logits = self._adjusted(logits)
        best = int(logits.argmax())
        if not math.isfinite(logits[best]):
            raise LocalError(
                "the model computed no usable probabilities; pull it again or try another one"
            )
        if sampling.temperature == 0:
            return best
        ids = kept(logits, sampling)
        left = logits if ids is None else logits[ids]
        place_of = pick(_weights(left, sampling.temperature), uniform(self._seed, place))
        return place_of if ids is None else int(ids[place_of])

    def _adjusted(self, logits: Logits) -> Logits:
        """Return a copy with bias and penalties."""
        sampling, logits = self._sampling, logits.astype(np.float32)
        for token, bias in sampling.logit_bias:
            if token < len(logits):
                logits[token] += bias
        if sampling.repetition_penalty != 1 and self._in_window:
            seen = _ids(self._in_window)
            values = logits[seen]
            by = np.float32(sampling.repetition_penalty)
            logits[seen] = np.where(values > 0, values / by, values * by)
        if self._in_answer:
            counts = np.fromiter(self._in_answer.values(), np.float32, len(self._in_answer))
            taken = counts * np.float32(sampling.frequency_penalty)
            logits[_ids(self._in_answer)] -= taken + np.float32(sampling.presence_penalty)
        return logits


def kept(logits: Logits, sampling: Sampling) -> Ids | None:
    """Return which tokens are left to draw from, by rising id; None is all of them."""
    ids: Ids | None = None
    left = logits
    if 0 < sampling.top_k < len(left):
        ids = top(left, sampling.top_k)
        left = left[ids]
    if sampling.top_p < 1:
        chosen = top(left, nucleus_size(left, sampling.top_p))
        ids = chosen if ids is None else ids[chosen]
        left = logits[ids]
    if sampling.min_p > 0:
        chosen = np.flatnonzero(left >= left.max() + np.float32(math.log(sampling.min_p)))
        ids = chosen if ids is None else ids[chosen]
    return ids


def top(logits: Logits, count: int) -> Ids:
    """Return the ``count`` likeliest tokens by rising id; of equals, the lower ids."""
    if count >= len(logits):
        return np.arange(len(logits))
    lowest = np.partition(logits, len(logits) - count)[len(logits) - count]
    ids = np.flatnonzero(logits >= lowest)
    if len(ids) > count:
        equal = np.flatnonzero(logits[ids] == lowest)
        ids = np.delete(ids, equal[count - len(ids) :])
    return ids


def likeliest(logits: Logits, count: int) -> Ids:
    """Return the ``count`` likeliest tokens, best first, ties by rising id."""
    ids = top(logits, count)
    return ids[np.argsort(-logits[ids], kind="stable")]


def nucleus_size(logits: Logits, top_p: float) -> int:
    """Return how few of the likeliest tokens have the part ``top_p`` of the probability."""
    best = logits.max()
    wanted = top_p * float(np.exp(logits - best).sum(dtype=np.float64))
    for guess in (*_NUCLEUS_GUESSES, len(logits)):
        some = logits
        if guess < len(logits):
            some = np.partition(logits, len(logits) - guess)[-guess:]
        falling = np.exp(np.sort(some)[::-1] - best)
        if guess >= len(logits) or falling.sum(dtype=np.float64) > wanted:
            break
    return _reaches(falling, wanted, "left") + 1


def uniform(seed: int, place: int) -> float:
    """Return the random number of a place, 0 up to but not 1."""
    # Philox is a function of key and counter (Salmon et al. 2011); numpy keeps its streams.
    bits = np.random.Philox(key=seed & (2**64 - 1), counter=place).random_raw()
    return (int(bits) >> 11) * 2.0**-53


def pick(weights: Weights, at: float) -> int:
    """Return the index at which the running sum passes the part ``at`` of the whole sum."""
    return _reaches(weights, at * float(weights.sum(dtype=np.float64)), "right")


def _reaches(weights: Weights, target: float, side: Literal["left", "right"]) -> int:
    """Return where the running sum reaches (``left``) or passes (``right``) a target."""
    start = 0
    if len(weights) > 2 * _ROW:
        rows = np.add.reduceat(weights, np.arange(0, len(weights), _ROW), dtype=np.float64)
        sums = rows.cumsum()
        row = _place(sums, target, side)
        # Out of the same sums, so that it can't come out below 0, where weights of 0 may stand.
        start, target = row * _ROW, target - float(sums[row - 1] if row else 0)
        weights = weights[start : start + _ROW]
    return start + _place(weights.cumsum(dtype=np.float64), target, side)


def _place(sums: NDArray[np.float64], target: float, side: Literal["left", "right"]) -> int:
    # Rounding may put the target past the very end: the last that has any weight is meant.
    end = int(sums.searchsorted(sums[-1], side="left"))
    return min(int(sums.searchsorted(target, side=side)), end)


def _weights(logits: Logits, temperature: float) -> Weights:
    # In this order nothing overflows: the best is 0, the others go to minus infinity at most.
    with np.errstate(over="ignore", under="ignore"):
        colder: Weights = (logits - logits.max()) / np.float32(max(temperature, _COLDEST))
        return np.exp(colder)


# Below this float32 has no room to divide in, and the likeliest token is all there is.
_COLDEST = 1e-30


def _penalises(sampling: Sampling) -> bool:
    repeats = sampling.repetition_penalty != 1 and sampling.repeat_last_n != 0
    return repeats or bool(sampling.presence_penalty or sampling.frequency_penalty)


def _ids(tokens: Iterable[int]) -> Ids:
    return np.fromiter(tokens, np.int64)
