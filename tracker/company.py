"""What the tracker says of the other processes it works with: its workers, and its cluster."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from dreamer.tracker.public.elsewhere import Elsewhere


class Company:
    """The others, if there are any. One that goes on alone is ready all the same: it serves."""

    def __init__(
        self,
        elsewhere: Elsewhere | None = None,
        counts: Callable[[], Mapping[str, int]] | None = None,
        workers: Callable[[], int] | None = None,
    ) -> None:
        """``counts`` are those of all workers together, and ``workers`` how many serve."""
        self._elsewhere = elsewhere
        self._counts = counts
        self._workers = workers

    def added_to(self, counts: dict[str, int]) -> dict[str, int]:
        """Return this process' counts with those of the workers; what they share counts twice."""
        others = self._counts() if self._counts else {}
        return {name: count + others.get(name, 0) for name, count in counts.items()}

    def words(self) -> dict[str, str | int]:
        """Return what ``/ready`` says besides."""
        said: dict[str, str | int] = {}
        if self._elsewhere is not None:
            said["cluster"] = "joined" if self._elsewhere.joined else "alone: Redis can't be used"
            said["processes"] = 1 + len(self._elsewhere.processes())
        if self._workers is not None:
            said["workers"] = self._workers()
        return said

    def metrics(self) -> list[str]:
        """Return the lines of ``/metrics`` that only a tracker with company has."""
        lines: list[str] = []
        if self._elsewhere is not None:
            lines += _gauge(
                "cluster_joined", "1 while swarms are shared through Redis.", self._elsewhere.joined
            )
            lines += _gauge(
                "cluster_processes",
                "Processes that share swarms, with this one.",
                1 + len(self._elsewhere.processes()),
            )
        if self._workers is not None:
            lines += _gauge("workers", "Worker processes that serve.", self._workers())
        return lines


def _gauge(name: str, about: str, value: int) -> list[str]:
    full = f"dreamer_tracker_{name}"
    return [f"# HELP {full} {about}", f"# TYPE {full} gauge", f"{full} {int(value)}"]
