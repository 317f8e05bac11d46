"""Polynomials through traces."""

from __future__ import annotations

import numpy as np
from numpy.polynomial.polynomial import Polynomial, polyval
from numpy.typing import ArrayLike, NDArray

from glue_lrs.errors import ReferenceFileError

__all__ = ["trace_terms"]


def trace_terms(center: ArrayLike, wavelength: ArrayLike | None) -> NDArray[np.float64]:
    """A trace as a polynomial of the wavelength that is right to 0.01 column."""
    trace = np.asarray(center, dtype=float)
    if wavelength is None:
        raise ReferenceFileError("wavelength is missing, expected that of each row of the trace")
    waves = np.asarray(wavelength, dtype=float)
    known = np.isfinite(trace) & np.isfinite(waves) if trace.shape == waves.shape else None
    if trace.ndim != 1 or known is None or known.sum() < 2:
        raise ReferenceFileError(
            f"center has shape {trace.shape} and wavelength {waves.shape}, expected a number, or a "
            "column and a wavelength for each row"
        )
    terms = trace[known].mean(keepdims=True)
    for degree in range(10):
        terms = Polynomial.fit(waves[known], trace[known], degree).convert().coef
        if np.abs(polyval(waves[known], terms) - trace[known]).max() < 0.01:
            break
    return terms
