"""A machine's store of models: the one unused for longest goes first."""

from __future__ import annotations

from dreamer.simulations.costs.shelf import Version


class Cache:
    """Holds versions of models up to a size. What is larger than all of it is not kept."""

    def __init__(self, size_bytes: float) -> None:
        self._size_bytes = size_bytes
        self._held: dict[Version, None] = {}
        self.held_bytes = 0

    def __contains__(self, version: Version) -> bool:
        return version in self._held

    def use(self, version: Version) -> bool:
        """Use a version, which is then here; return whether it was before."""
        if version in self._held:
            # A dict keeps the order of insertion: the first is the one unused for longest.
            self._held[version] = self._held.pop(version)
            return True
        self._keep(version)
        return False

    def _keep(self, version: Version) -> None:
        if version.size_bytes > self._size_bytes:
            return
        while self.held_bytes + version.size_bytes > self._size_bytes:
            oldest = next(iter(self._held))
            del self._held[oldest]
            self.held_bytes -= oldest.size_bytes
        self._held[version] = None
        self.held_bytes += version.size_bytes
