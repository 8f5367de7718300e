"""One vector of many tokens', as sentence-transformers' Pooling module has it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Vectors = NDArray[np.float32]
Mask = NDArray[np.int64]

_LEAST = np.float32(1e-9)
"""Keeps what has no tokens from being divided by zero."""


def pool(tokens: Vectors, mask: Mask, modes: Sequence[str]) -> Vectors:
    """Return (batch, width x modes) of (batch, tokens, width); ``mask`` (batch, tokens) is 1 or 0.

    Several modes are put one after the other.
    """
    return np.concatenate([_pool(tokens, mask, mode) for mode in modes], axis=1)


def _pool(tokens: Vectors, mask: Mask, mode: str) -> Vectors:
    match mode:
        case "cls":
            return _at(tokens, np.argmax(mask, axis=1))
        case "lasttoken":
            return _at(tokens, mask.shape[1] - 1 - np.argmax(mask[:, ::-1], axis=1))
        case "max":
            hidden = np.where(mask[:, :, np.newaxis] > 0, tokens, np.float32(-1e9))
            return np.asarray(hidden.max(axis=1), np.float32)
        case "weightedmean":
            # Later tokens have seen more: GPT-like models weigh them by their place (SGPT).
            return _mean(tokens, mask * np.arange(1, mask.shape[1] + 1))
        case "mean_sqrt_len_tokens":
            total, weight = _sums(tokens, mask)
            return np.asarray(total / np.sqrt(weight), np.float32)
        case "mean":
            return _mean(tokens, mask)
    raise AssertionError(f"the layout let a pooling mode through: {mode}")


def _at(tokens: Vectors, places: NDArray[np.intp]) -> Vectors:
    return np.asarray(tokens[np.arange(len(tokens)), places])


def _mean(tokens: Vectors, weights: Mask) -> Vectors:
    total, weight = _sums(tokens, weights)
    return np.asarray(total / weight, np.float32)


def _sums(tokens: Vectors, weights: Mask) -> tuple[Vectors, Vectors]:
    shares = weights.astype(np.float32)
    total = np.einsum("bt,btd->bd", shares, tokens)
    return total, np.maximum(shares.sum(axis=1, keepdims=True), _LEAST)


def normalise(vectors: Vectors) -> Vectors:
    """Return vectors of length 1 (Euclidean)."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.asarray(vectors / np.maximum(lengths, np.float32(1e-12)), np.float32)
