"""All invariants, in the order in which they are looked at."""

from __future__ import annotations

from dreamer.simulations.invariants.asking import CalledOff, InFlight, Links, NothingTwice
from dreamer.simulations.invariants.disk import Disk
from dreamer.simulations.invariants.finishing import Finishes
from dreamer.simulations.invariants.invariant import Invariant
from dreamer.simulations.invariants.origin import OriginSpared
from dreamer.simulations.invariants.pipes import Pipes
from dreamer.simulations.invariants.rates import DownRate, UpRate
from dreamer.simulations.invariants.relays import RelayBudgets
from dreamer.simulations.invariants.serving import ServedOnce, UploadSlots
from dreamer.simulations.invariants.verified import Verified

EVERY: tuple[type[Invariant], ...] = (
    *(Verified, NothingTwice, CalledOff, InFlight, Links),
    *(ServedOnce, UploadSlots, UpRate, DownRate, RelayBudgets, Disk, Pipes),
    *(OriginSpared, Finishes),
)
