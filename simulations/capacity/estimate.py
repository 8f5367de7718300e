"""A figure from several seeds: its mean, and how sure it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# Two-sided 95% points of Student's t for 1 to 30 degrees of freedom (Abramowitz and Stegun,
# table 26.10); beyond that the normal distribution's.
_STUDENT_T = (
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228,
    2.201, 2.179, 2.160, 2.145, 2.131, 2.120, 2.110, 2.101, 2.093, 2.086,
    2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
)  # fmt: skip
_NORMAL = 1.960


@dataclass(frozen=True)
class Estimate:
    """A mean over independent runs and the half-width of its 95% confidence interval (0 for a
    single run, of which nothing can be said)."""

    mean: float
    within: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Estimate:
        """Return the estimate from one value a run."""
        count = len(values)
        mean = math.fsum(values) / count
        if count == 1:
            return cls(mean, 0.0)
        variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
        t = _STUDENT_T[count - 2] if count - 2 < len(_STUDENT_T) else _NORMAL
        return cls(mean, t * math.sqrt(variance / count))

    def shown(self, scale: float = 1.0, digits: int = 1) -> str:
        """Return it for a table: ``12.3 ± 0.4``."""
        return f"{self.mean * scale:.{digits}f} ± {self.within * scale:.{digits}f}"


def quantile(ordered: Sequence[float], share: float) -> float:
    """Return a quantile of sorted values by nearest rank; 0 of none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
