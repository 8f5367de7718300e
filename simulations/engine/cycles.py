"""How often Python looks for cycles of objects that nobody needs any more."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

LOOKED_FOR_EVERY = (20_000, 10, 5)
"""New objects until the youngest are gone through; so many of that until older ones are, twice."""


@contextmanager
def looked_for_rarely() -> Iterator[None]:
    """Have cycles looked for rarely: a run makes few, and a million objects would be gone through.

    Not never: a study runs thousands of scenarios one after the other, and each world is a cycle.
    """
    before = gc.get_threshold()
    gc.set_threshold(*LOOKED_FOR_EVERY)
    try:
        yield
    finally:
        gc.set_threshold(*before)
