"""Carries out the steps of a collection, one command after the other."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.garbage.collect import Asking, T
from dreamer.protocol.garbage.commands import Command


def drive(steps: Asking[T], answer: Callable[[Command], Any]) -> T:
    """Return what the steps return, each command answered by ``answer``.

    Raises:
        DreamerError: what the steps raise, or ``answer`` did.
    """
    go_on: Callable[[], Command] = partial(next, steps)
    while True:
        try:
            command = go_on()
        except StopIteration as ended:
            returned: T = ended.value
            return returned
        try:
            go_on = partial(steps.send, answer(command))
        except DreamerError as error:
            # The steps may have something left to do, such as taking off a mark; then they raise.
            go_on = partial(steps.throw, error)
