"""Statistics of an extraction that the panel shows."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["ExtractionStatistics", "finite_median"]


@dataclass(frozen=True)
class ExtractionStatistics:
    """What matters while deciding where the edges go.

    Parameters
    ----------
    signal_to_noise : float
        Median of flux over error in the selected wavelength range; NaN where there is none.
    ratio : float
        Median of the flux over that of the comparison there; NaN without one.
    rows : int
        Rows in the range that are not masked.
    rows_masked : int
        Rows in the range that are masked: their flux does not count.
    rows_lost : int
        Those of `rows` in which bad pixels took some of the aperture.
    most_lost : float
        The greatest fraction of the aperture's weight that they took in one of these.
    limits : str
        The aperture's edges as inclusive limits (``xstart``, ``xstop``): whole pixels are whole
        numbers.
    edges : str
        The same as positions (``src_coeff``): pixel i reaches from i - 0.5 to i + 0.5.
    """

    signal_to_noise: float
    ratio: float
    rows: int
    rows_masked: int
    rows_lost: int
    most_lost: float
    limits: str
    edges: str


def finite_median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
