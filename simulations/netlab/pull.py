"""A pull that runs while the network is tormented; what came, and how long nothing came."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import Progress, PullReceipt
from dreamer.protocol.errors import DreamerError
from dreamer.simulations.loopback import LoopbackError, until


class Pull:
    """One pull in a thread of its own, as an application does it.

    ``seen`` holds the seconds after which each phase was first told; ``first_s``, ``all_s``: when
    the first block, and every block, had come. Progress is told every 0.2 s. ``began_at``: epoch.
    """

    def __init__(self, home: Path, ref: str, output: Path) -> None:
        self.fetched = 0
        self.longest_pause_s = 0.0
        self._receipt: PullReceipt | None = None
        self._error: DreamerError | None = None
        self._came_at = self._started_at = time.monotonic()
        self.began_at = time.time()
        self.seconds = 0.0
        self.seen: dict[str, float] = {}
        self.first_s: float | None = None
        self.all_s: float | None = None
        work = (Dreamer(home), ref, output)
        self._thread = threading.Thread(target=self._run, args=work, daemon=True)
        self._thread.start()

    def reached(self, size: int, timeout_s: float) -> None:
        """Wait until ``size`` bytes have come.

        Raises:
            LoopbackError: they did not within ``timeout_s``, or the pull has failed.
        """

        def there() -> bool:
            if self._error is not None:
                raise LoopbackError(f"the pull failed: {self._error}")
            return self.fetched >= size or not self._thread.is_alive()

        until(there, f"{size} bytes", timeout_s)

    def receipt(self, timeout_s: float) -> PullReceipt:
        """Wait for the end.

        Raises:
            LoopbackError: it takes longer than ``timeout_s``, or the pull has failed.
        """
        self._thread.join(timeout_s)
        if self._receipt is None:
            why = self._error or f"no end within {timeout_s} s; {self.fetched} bytes came"
            raise LoopbackError(f"the pull failed: {why}")
        return self._receipt

    def _run(self, client: Dreamer, ref: str, output: Path) -> None:
        try:
            for event in client.pull_events(ref, output=output):
                if isinstance(event, Progress):
                    self._count(event)
                else:
                    self.seconds = time.monotonic() - self._started_at
                    self._receipt = event
        except DreamerError as error:
            self._error = error

    def _count(self, progress: Progress) -> None:
        fetched = sum(progress.by_lane.values())
        now = time.monotonic()
        passed = now - self._started_at
        self.seen.setdefault(progress.phase, passed)
        if self.first_s is None and fetched:
            self.first_s = passed
        if self.all_s is None and fetched and progress.done == progress.total:
            self.all_s = passed
        if fetched > self.fetched:
            # What comes before the first byte is linking, not a pause.
            if self.fetched:
                self.longest_pause_s = max(self.longest_pause_s, now - self._came_at)
            self.fetched, self._came_at = fetched, now
