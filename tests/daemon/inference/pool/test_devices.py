"""What nvidia-smi says of GPUs and processes, and which of them CUDA shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from dreamer.daemon.inference.pool import devices
from dreamer.daemon.inference.pool.devices import (
    Devices,
    Gpu,
    find_gpus,
    gpu_memory_of_processes,
    parse_gpus,
    parse_processes,
    visible,
)
from dreamer.protocol.limits import MIB

# As `nvidia-smi --query-gpu=index,uuid,name,memory.total,memory.free,utilization.gpu
# --format=csv,noheader,nounits` prints it.
ROWS = """\
0, GPU-5ad3c5c7-0001, NVIDIA H200, 143771, 143000, 0
1, GPU-77e1a2b4-0002, NVIDIA H200, 143771, 20000, 93
"""
PROCESSES = "4242, 1536\n4242, 512\n777, [N/A]\n"


def test_rows_become_gpus() -> None:
    first, second = parse_gpus(ROWS)
    assert first == Gpu(0, "GPU-5ad3c5c7-0001", "NVIDIA H200", 143771 * MIB, 143000 * MIB, 0.0)
    assert (second.device, second.used_share) == ("cuda:1", 0.93)


@pytest.mark.parametrize(
    "rows",
    ["", "No devices were found\n", "0, GPU-1, name, [N/A], [N/A], 5\n", "a, b, c, d, e, f\n"],
)
def test_what_is_no_gpu_is_left_out(rows: str) -> None:
    assert parse_gpus(rows) == []


def test_a_gpu_that_tells_no_load_is_a_gpu() -> None:
    (gpu,) = parse_gpus("0, GPU-1, Tesla M60, 8000, 7000, [N/A]\n")
    assert gpu.used_share == 0


def test_memory_of_a_process_on_several_gpus_is_added() -> None:
    assert parse_processes(PROCESSES) == {4242: 2048 * MIB}


@pytest.mark.parametrize(
    ("shown", "names"),
    [
        (None, ["GPU-5ad3c5c7-0001", "GPU-77e1a2b4-0002"]),
        ("0,1", ["GPU-5ad3c5c7-0001", "GPU-77e1a2b4-0002"]),
        ("1,0", ["GPU-77e1a2b4-0002", "GPU-5ad3c5c7-0001"]),
        ("GPU-77e", ["GPU-77e1a2b4-0002"]),
        ("1", ["GPU-77e1a2b4-0002"]),
        ("0,-1,1", ["GPU-5ad3c5c7-0001"]),
        ("0,7,1", ["GPU-5ad3c5c7-0001"]),
        ("", []),
        ("-1", []),
        ("NoDevFiles", []),
    ],
)
def test_gpus_that_cuda_shows_are_numbered_as_it_does(shown: str | None, names: list[str]) -> None:
    found = visible(parse_gpus(ROWS), shown)
    assert [gpu.uuid for gpu in found] == names
    assert [gpu.index for gpu in found] == list(range(len(names)))


def program(folder: Path, body: str) -> None:
    path = folder / "nvidia-smi"
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)


async def test_the_drivers_program_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path, f"case $1 in --query-gpu=*) printf '{ROWS}';; *) printf '{PROCESSES}';; esac")
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert len(await find_gpus({"CUDA_VISIBLE_DEVICES": "1"})) == 1
    assert await gpu_memory_of_processes() == {4242: 2048 * MIB}
    monkeypatch.setattr(devices, "has_cuda_runtime", lambda: True)
    known = Devices(use_gpu=True)
    await known.refresh()
    assert [gpu.device for gpu in known.gpus] == ["cuda:0", "cuda:1"]
    assert known.gpu_memory(4242) == 2048 * MIB
    assert known.gpu_memory(1) == 0


@pytest.mark.parametrize("body", ["exit 9", "exec sleep 600"])
async def test_a_driver_that_fails_or_hangs_means_no_gpu(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    monkeypatch.setattr(devices, "NVIDIA_SMI_TIMEOUT_S", 0.2)
    program(tmp_path, body)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert await find_gpus({}) == []


async def test_without_the_cuda_runtime_nobody_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(environ: object) -> list[Gpu]:
        raise AssertionError("asked")

    monkeypatch.setattr(devices, "find_gpus", never)
    monkeypatch.setattr(devices, "has_cuda_runtime", lambda: False)
    known = Devices(use_gpu=True)
    await known.refresh()
    assert known.gpus == []
