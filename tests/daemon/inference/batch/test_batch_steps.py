"""Inputs of batched steps stay bound and are written in place: nothing of earlier rows is left."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from dreamer.daemon.inference.batch.cache import SharedCache
from dreamer.daemon.inference.batch.graph import TOKEN_INPUTS
from dreamer.daemon.inference.batch.step import Step

TEXTS = (tuple(range(10, 75)), tuple(range(90, 95)), tuple(range(120, 250)))


@pytest.fixture
def cache(tiny_model: Path, batching: Any) -> SharedCache:
    return SharedCache(batching(tiny_model).runner.graph, 2, 256)


def stepped(cache: SharedCache, texts: tuple[tuple[int, ...], ...]) -> np.ndarray[Any, Any]:
    """Return the logits of a step of rows that have read these texts."""
    for place, text in enumerate(texts):
        cache.copy_in(place, [])
        cache.read(place, text, 0)
    return cache.decode([7] * len(texts), [len(text) for text in texts]).copy()


def test_a_place_taken_by_another_row_computes_that_row_alone(
    cache: SharedCache, tiny_model: Path, batching: Any
) -> None:
    graph = batching(tiny_model).runner.graph
    for texts in ((0, 1), (1, 0), (1, 1), (2, 1), (1, 2), (0, 0)):
        chosen = tuple(TEXTS[one] for one in texts)
        expected = stepped(SharedCache(graph, 2, 256), chosen)
        assert np.array_equal(stepped(cache, chosen), expected), texts


def test_a_step_that_is_taken_again_gives_the_same(cache: SharedCache) -> None:
    first = stepped(cache, TEXTS[:2])
    lengths = [len(text) for text in TEXTS[:2]]
    cache.decode([9, 9], [length + 1 for length in lengths])
    assert np.array_equal(cache.decode([7, 7], lengths), first)


class Bound:
    """A binding that notes the shapes of what is bound to it."""

    def __init__(self) -> None:
        self.shapes: dict[str, tuple[int, ...]] = {}

    def bind_input(
        self, name: str, device: str, number: int, kind: Any, shape: tuple[int, ...], pointer: int
    ) -> None:
        self.shapes[name] = tuple(shape)

    def bind_output(self, name: str, *where: Any) -> None:
        pass


@pytest.mark.parametrize(("capacity", "columns"), [(256, 64), (40, 40)])
def test_inputs_are_never_bound_empty(capacity: int, columns: int) -> None:
    # A device that copies what is bound may not take an array of no bytes.
    bound = Bound()
    graph: Any = SimpleNamespace(
        vocabulary=5,
        logits_element=np.float32,
        token_inputs=TOKEN_INPUTS,
        session=SimpleNamespace(io_binding=lambda: bound),
    )
    buffer: Any = SimpleNamespace(capacity=capacity, bind=lambda binding, first, rows: None)
    Step(graph, buffer, 3)
    assert set(bound.shapes) == set(TOKEN_INPUTS)
    assert all(np.prod(shape) > 0 for shape in bound.shapes.values())
    assert bound.shapes["attention_mask"] == (3, columns)
