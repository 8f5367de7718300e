"""The GPUs of this machine and what workers take of their memory, as ``nvidia-smi`` tells.

dreamerd loads neither CUDA nor ONNX Runtime. It asks the driver's own program, in a process of its
own: a driver that hangs or crashes then does so there, which NVML inside the daemon would not
grant. Whether CUDA can really be used shows when a worker opens a model; its card says.
"""

from __future__ import annotations

import asyncio
import csv
import os
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata

from dreamer.protocol.inference_limits import GPU_MEMORY_INTERVAL_S, NVIDIA_SMI_TIMEOUT_S
from dreamer.protocol.limits import MIB

PROGRAM = "nvidia-smi"
CUDA_RUNTIMES = ("onnxruntime-gpu",)
"""Distributions of ONNX Runtime that hold its CUDA provider."""


@dataclass(frozen=True)
class Gpu:
    """A GPU. ``index`` is its place among those that CUDA shows to this process's children."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    used_share: float = 0.0
    """How much of the last moment it was computing, 0 to 1."""

    @property
    def device(self) -> str:
        """As ``LoadOptions.device`` has it."""
        return f"cuda:{self.index}"


class Devices:
    """What this machine has to run models on; ``refresh`` asks anew what is free."""

    def __init__(self, use_gpu: bool) -> None:
        self._use_gpu = use_gpu and has_cuda_runtime()
        self._asked_at = -GPU_MEMORY_INTERVAL_S
        self.gpus: list[Gpu] = []
        self._memory: dict[int, int] = {}

    async def refresh(self, max_age_s: float = GPU_MEMORY_INTERVAL_S) -> None:
        """Ask the driver, unless it was asked so lately or no GPU can be used."""
        if not self._use_gpu or time.monotonic() - self._asked_at < max_age_s:
            return
        self._asked_at = time.monotonic()
        self.gpus, self._memory = await asyncio.gather(
            find_gpus(os.environ), gpu_memory_of_processes()
        )

    def give_up(self) -> None:
        """Use no GPU from now on: ONNX Runtime can't."""
        self._use_gpu, self.gpus = False, []

    def gpu_memory(self, pid: int) -> int:
        """Return the GPU memory of a process when it was last asked for."""
        return self._memory.get(pid, 0)


def has_cuda_runtime() -> bool:
    """Say whether the ONNX Runtime that is installed could use a GPU, without importing it."""
    for name in CUDA_RUNTIMES:
        with suppress(metadata.PackageNotFoundError):
            metadata.version(name)
            return True
    return False


async def find_gpus(environ: Mapping[str, str]) -> list[Gpu]:
    """Return the GPUs that workers may use: none without a driver, or where CUDA hides them."""
    fields = "index,uuid,name,memory.total,memory.free,utilization.gpu"
    rows = await _query(f"--query-gpu={fields}")
    return visible(parse_gpus(rows), environ.get("CUDA_VISIBLE_DEVICES"))


async def gpu_memory_of_processes() -> dict[int, int]:
    """Return bytes of GPU memory by process id, where the driver tells.

    In a container the driver may name the host's ids, or none: then a process has 0 here.
    """
    return parse_processes(await _query("--query-compute-apps=pid,used_memory"))


def parse_gpus(rows: str) -> list[Gpu]:
    """Return the GPUs in a CSV answer without header and units (memory in MiB)."""
    found = []
    for row in csv.reader(rows.splitlines(), skipinitialspace=True):
        with suppress(ValueError):
            index, uuid, name, total, free, used = row
            share = float(used) / 100 if used.replace(".", "").isdecimal() else 0.0
            found.append(Gpu(int(index), uuid, name, int(total) * MIB, int(free) * MIB, share))
    return found


def parse_processes(rows: str) -> dict[int, int]:
    """Return bytes by process id in a CSV answer; one process may be on several GPUs."""
    held: dict[int, int] = {}
    for row in csv.reader(rows.splitlines(), skipinitialspace=True):
        # "[N/A]" where the driver doesn't know, as under Windows' display model.
        with suppress(ValueError):
            pid, used = row
            held[int(pid)] = held.get(int(pid), 0) + int(used) * MIB
    return held


def visible(gpus: list[Gpu], shown: str | None) -> list[Gpu]:
    """Return what CUDA_VISIBLE_DEVICES leaves, numbered as CUDA then does.

    It names indices or the beginnings of UUIDs, and ends at the first that means nothing (CUDA C++
    Programming Guide, environment variables). Workers count in PCI order, as nvidia-smi does.
    """
    if shown is None:
        return gpus
    found: list[Gpu] = []
    for word in (part.strip() for part in shown.split(",")):
        match = [gpu for gpu in gpus if word and (str(gpu.index) == word or _named(gpu, word))]
        if len(match) != 1:
            break
        one = match[0]
        found.append(
            Gpu(len(found), one.uuid, one.name, one.total_bytes, one.free_bytes, one.used_share)
        )
    return found


def _named(gpu: Gpu, word: str) -> bool:
    return word.startswith("GPU-") and gpu.uuid.startswith(word)


async def _query(question: str) -> str:
    """Return what the program prints; nothing if there is none, or it fails or hangs."""
    if (program := shutil.which(PROGRAM)) is None:
        return ""
    process = await asyncio.create_subprocess_exec(
        program, question, "--format=csv,noheader,nounits",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )  # fmt: skip
    try:
        async with asyncio.timeout(NVIDIA_SMI_TIMEOUT_S):
            answer, _ = await process.communicate()
    except TimeoutError:
        return ""
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    return answer.decode(errors="replace") if process.returncode == 0 else ""
