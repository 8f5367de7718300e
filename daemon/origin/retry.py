"""Trying again, after a pause that doubles and is a little different each time."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from typing import TypeVar

from dreamer.daemon.origin.faults import OriginBusyError
from dreamer.daemon.store import stopping
from dreamer.protocol.limits import ORIGIN_ATTEMPTS, ORIGIN_RETRY_BASE_S, ORIGIN_RETRY_MAX_S

T = TypeVar("T")


class Retry:
    """How often and how fast to try again; ``base_s`` is the mean of the first pause.

    One serves all threads of an origin: when it asks to be left in peace, all of them wait.
    """

    def __init__(self, base_s: float = ORIGIN_RETRY_BASE_S) -> None:
        self._base_s = base_s
        self._not_before = 0.0

    def await_turn(self, stop: threading.Event) -> None:
        """Wait as long as the origin asked for, whoever it said that to.

        Raises:
            StoppedError: ``stop`` was set.
        """
        while (left_s := self._not_before - time.monotonic()) > 0:
            stop.wait(left_s)
            stopping.check(stop)

    def pause(self, failures: int, error: OriginBusyError, stop: threading.Event) -> None:
        """Wait after so many failures in a row; re-raise ``error`` when they were too many.

        Raises:
            StoppedError: ``stop`` was set.
        """
        if error.retry_after_s:
            self._not_before = time.monotonic() + error.retry_after_s
        if failures >= ORIGIN_ATTEMPTS:
            raise error
        # Nodes that failed together should not come back together.
        jitter = random.uniform(0.5, 1.5)  # noqa: S311
        # A sleep that can be cut short.
        stop.wait(min(ORIGIN_RETRY_MAX_S, self._base_s * 2 ** (failures - 1) * jitter))
        stopping.check(stop)

    def run(self, action: Callable[[], T], stop: threading.Event) -> T:
        """Return what ``action`` returns, trying again while the origin is busy.

        Raises:
            OriginError: of the last try.
            StoppedError: ``stop`` was set.
        """
        failures = 0
        while True:
            stopping.check(stop)
            self.await_turn(stop)
            try:
                return action()
            except OriginBusyError as error:
                failures += 1
                self.pause(failures, error, stop)
