"""Which worker gets a request, and where a model's next worker goes."""

from __future__ import annotations

import pytest

from dreamer.protocol.assignment import ANY_GPU, Assignment, DevicePlace, Load, assign, place


@pytest.mark.parametrize(
    ("loads", "how", "last", "expected"),
    [
        ([], "least-loaded", 0, None),
        ([(1, 4, 4), (2, 4, 4)], "least-loaded", 0, None),
        ([(1, 3, 4), (2, 1, 4), (3, 2, 4)], "least-loaded", 2, 2),
        ([(1, 1, 4), (2, 1, 8)], "least-loaded", 0, 2),
        ([(2, 0, 4), (1, 0, 4)], "least-loaded", 1, 1),
        ([(1, 0, 4), (2, 3, 4), (3, 0, 4)], "round-robin", 1, 2),
        ([(1, 0, 4), (2, 4, 4), (3, 0, 4)], "round-robin", 1, 3),
        ([(1, 0, 4), (2, 0, 4)], "round-robin", 2, 1),
        ([(1, 4, 4), (2, 0, 4)], "round-robin", 2, 2),
        ([(1, 4, 4)], "round-robin", 0, None),
    ],
)
def test_worker_of_the_next_request(
    loads: list[tuple[int, int, int]], how: Assignment, last: int, expected: int | None
) -> None:
    assert assign([Load(*load) for load in loads], how, last) == expected


CPU = DevicePlace("cpu", None, 0, 3)


def gpu(number: int, of_model: int = 0, workers: int = 0, free: int = 0) -> DevicePlace:
    return DevicePlace(f"cuda:{number}", number, of_model, workers, free)


@pytest.mark.parametrize(
    ("devices", "per_device", "preferred", "wanted", "expected"),
    [
        ([CPU], 1, ANY_GPU, 10, "cpu"),
        ([DevicePlace("cpu", None, 1, 3)], 1, ANY_GPU, 10, None),
        ([CPU], 1, 0, 10, "cpu"),
        ([gpu(0), gpu(1)], 4, ANY_GPU, 10, "cuda:0"),
        ([gpu(0, of_model=1), gpu(1)], 4, ANY_GPU, 10, "cuda:1"),
        ([gpu(0, workers=2), gpu(1, workers=1)], 4, ANY_GPU, 10, "cuda:1"),
        ([gpu(0, free=20), gpu(1, free=30)], 4, ANY_GPU, 10, "cuda:1"),
        ([gpu(0, free=5), gpu(1, of_model=2, free=30)], 4, ANY_GPU, 10, "cuda:1"),
        ([gpu(0, free=5)], 4, ANY_GPU, 10, "cuda:0"),
        ([gpu(0), gpu(1, of_model=1, workers=7)], 4, 1, 10, "cuda:1"),
        ([gpu(0), gpu(1, of_model=4)], 4, 1, 10, None),
        ([gpu(0)], 4, 5, 10, "cuda:0"),
    ],
)
def test_device_of_the_next_worker(
    devices: list[DevicePlace], per_device: int, preferred: int, wanted: int, expected: str | None
) -> None:
    assert place(devices, per_device, preferred, wanted) == expected
