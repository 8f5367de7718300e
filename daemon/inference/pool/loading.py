"""Loads models: how much memory one will take, on which device, in which worker."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from dreamer.daemon.inference.load_options import CPU, LoadOptions
from dreamer.daemon.inference.pool.card import Card
from dreamer.daemon.inference.pool.devices import Devices
from dreamer.daemon.inference.pool.process import WorkerLostError, WorkerProcess
from dreamer.daemon.inference.pool.seat import ModelWorker, Seat
from dreamer.daemon.inference.pool.settings import PoolSettings
from dreamer.daemon.inference.pool.spares import Spares
from dreamer.daemon.inference.pool.statistics import Durations
from dreamer.protocol.assignment import ANY_GPU, DevicePlace, place
from dreamer.protocol.errors import LocalError
from dreamer.protocol.inference_limits import INFERENCE_WORKER_BASE_BYTES
from dreamer.protocol.residency import Resident, fits

log = logging.getLogger(__name__)


class Loading:
    """Starts workers and has them open models."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self.devices = Devices(settings.use_gpu)
        self.spares = Spares(settings.spare_workers, settings.silence_timeout_s)
        self.durations = Durations()
        self._processes: list[WorkerProcess] = []
        self._begun = False
        self._gpu_has_run = False
        self.names_of: Callable[[str], tuple[str, ...]] = lambda manifest_id: ()
        """What a model is called, by its id: for the GPU that it prefers."""
        self.workers_on: Callable[[str], int] = lambda device: 0
        """How many workers all models have on a device."""

    def begin(self) -> None:
        """Get ready for a first request; a call after the first does nothing."""
        if not self._begun:
            self._begun = True
            self.spares.keep()

    async def expected_bytes(self, seat: Seat) -> int:
        """Return what the model will take: what it took before, else by the size of its files."""
        if seat.memory_bytes:
            return seat.memory_bytes
        return await asyncio.to_thread(_files_bytes, seat.model_dir) + INFERENCE_WORKER_BASE_BYTES

    def may_grow(self, seat: Seat, residents: Sequence[Resident]) -> bool:
        """Say whether a model that is loaded may have one worker more without another's leaving."""
        if self.device_for(seat, 0) is None:
            return False
        each_bytes = seat.memory_bytes // max(1, len(seat.workers))
        others = [one for one in residents if one.manifest_id != seat.manifest_id]
        return fits(others, [], seat.memory_bytes + each_bytes, self._settings.bounds)

    def device_for(self, seat: Seat, wanted_bytes: int) -> str | None:
        """Return where the model's next worker goes; None if it has all it may have."""
        gpus = self.devices.gpus
        preferred = ANY_GPU
        if gpus:
            names = self.names_of(seat.manifest_id)
            preferred = self._settings.gpu_of(seat.manifest_id, names)
        mine = [one.card.device for one in seat.workers if one.takes_requests]
        places = [
            DevicePlace(
                *(gpu.device, gpu.index, mine.count(gpu.device)),
                *(self.workers_on(gpu.device), gpu.free_bytes),
            )
            for gpu in gpus
        ] or [DevicePlace(CPU, None, mine.count(CPU), self.workers_on(CPU))]
        per_device = self._settings.workers_on(gpu=bool(gpus))
        return place(places, per_device, preferred, wanted_bytes)

    async def start_worker(self, seat: Seat, wanted_bytes: int) -> ModelWorker:
        """Load the model in a worker.

        Raises:
            InputError, ForbiddenError: the model can't be run.
            LocalError: no worker can be started, or it died, or took too long.
        """
        await self.devices.refresh(max_age_s=0.0)
        device = self.device_for(seat, wanted_bytes)
        if device is None:
            raise LocalError("the model has as many workers as it may have")
        try:
            return await self._open(seat, device)
        except LocalError as error:
            # CUDA may be installed and not be of use: then the CPU does what it can.
            if device == CPU or self._gpu_has_run or isinstance(error, WorkerLostError):
                raise
            log.warning("models run on the CPU until dreamerd starts anew: %s", error)
            self.devices.give_up()
            return await self._open(seat, CPU)

    async def _open(self, seat: Seat, device: str) -> ModelWorker:
        began = time.monotonic()
        process = await self.spares.take()
        self._processes = [one for one in self._processes if not one.gone] + [process]
        try:
            size_bytes = await asyncio.to_thread(_files_bytes, seat.model_dir)
            timeout_s = self._settings.load_timeout_of(size_bytes)
            fields = await process.open(seat.model_dir, self._options(device), timeout_s)
            seat.card = card = Card.from_fields(fields)
        except BaseException:
            await process.kill()
            raise
        finally:
            self._begun = True
            self.spares.keep()
        self._gpu_has_run |= card.device != CPU
        ready = time.monotonic()
        seat.tally.loaded(ready - began)
        self.durations.load.add(ready - began)
        return ModelWorker(seat.next_number(), process, card, began, ready)

    async def close(self) -> None:
        """End every worker, whoever has it, and wait until all are gone."""
        await asyncio.gather(self.spares.close(), *(one.kill() for one in self._processes))

    def _options(self, device: str) -> LoadOptions:
        settings = self._settings
        on_gpu = device != CPU
        return LoadOptions(
            threads=settings.threads_on(on_gpu),
            device=device,
            memory_bytes=settings.memory_bytes,
            gpu_memory_bytes=settings.gpu_memory_bytes,
            slots=settings.slots,
            prefix_cache_bytes=settings.prefix_cache_bytes,
        )


def _files_bytes(directory: Path) -> int:
    """Return the size of a model's files; none where they can't be read, which loading will say."""
    try:
        return sum(one.stat().st_size for one in directory.rglob("*") if one.is_file())
    except OSError:
        return 0
