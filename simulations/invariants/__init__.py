"""What must hold after every event of every simulated run, however the machines behave."""

from dreamer.simulations.invariants.violation import BrokenError, Violation
from dreamer.simulations.invariants.watch import Watch

__all__ = ["BrokenError", "Violation", "Watch"]
