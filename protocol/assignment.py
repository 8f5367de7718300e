"""Which worker gets the next request, and on which device a model gets one worker more.

Pure choices over what is known at the moment. A model has at most so many workers on a device; it
begins with one, and another is started when all slots of those that are there are taken.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Assignment = Literal["least-loaded", "round-robin"]

ANY_GPU = -1


@dataclass(frozen=True)
class Load:
    """A worker of the model: its number (they rise), and how many of its slots are taken."""

    number: int
    running: int
    slots: int

    @property
    def free(self) -> bool:
        """Whether it can take a request."""
        return self.running < self.slots


@dataclass(frozen=True)
class DevicePlace:
    """A device: the model's workers there, all workers there, and bytes free (0: not known).

    ``gpu`` is the GPU's number, None for the CPU.
    """

    device: str
    gpu: int | None
    of_model: int
    workers: int
    free_bytes: int = 0


def assign(workers: Sequence[Load], how: Assignment, last: int) -> int | None:
    """Return the number of the worker that gets a request; None: it waits.

    ``last`` is the worker that got the one before. Round-robin passes over workers that are full.
    """
    free = [worker for worker in workers if worker.free]
    if not free:
        return None
    if how == "round-robin":
        return min(free, key=lambda worker: (worker.number <= last, worker.number)).number
    return min(free, key=lambda w: (w.running / w.slots, w.running, w.number)).number


def place(
    devices: Sequence[DevicePlace], per_device: int, preferred_gpu: int, wanted_bytes: int
) -> str | None:
    """Return the device of the model's next worker; None where it has all it may have.

    A preferred GPU that is there is the only choice; one that is not there is no reason to refuse.
    Otherwise devices on which the model fits go first, then those with fewer workers of it, of all
    models, then the one with most memory free.
    """
    if any(one.gpu == preferred_gpu for one in devices):
        devices = [one for one in devices if one.gpu == preferred_gpu]
    open_ = [one for one in devices if one.of_model < per_device]
    if not open_:
        return None

    def rank(one: DevicePlace) -> tuple[bool, int, int, int, str]:
        lacks = 0 < one.free_bytes < wanted_bytes
        return (lacks, one.of_model, one.workers, -one.free_bytes, one.device)

    return min(open_, key=rank).device
