"""Polynomial approximation of traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.polynomial.polynomial import Polynomial, polyval
from numpy.typing import ArrayLike

from glue_lrs.errors import ReferenceFileError

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

#: Maximum deviation of the polynomial from the trace in columns.
_TOLERANCE = 0.01

#: Highest degree of the polynomial.
_MAX_DEGREE = 9


def trace_terms(center: ArrayLike, wavelength: ArrayLike | None) -> Array:
    """Approximate a trace by a polynomial of the wavelength.

    The polynomial has the lowest degree for which it deviates from the trace by less than 0.01
    columns in all rows, or degree 9 if no degree suffices.

    Parameters
    ----------
    center : array_like
        Column of the trace in each row, shape (row,). Rows in which the column or the wavelength is
        NaN are ignored.
    wavelength : array_like
        Wavelength of each row in micron, shape (row,).

    Returns
    -------
    ndarray
        Coefficients of the polynomial, constant term first.

    Raises
    ------
    ReferenceFileError
        If `center` and `wavelength` have different shapes, or if fewer than two rows are finite.
    """
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
    for degree in range(_MAX_DEGREE + 1):
        terms = Polynomial.fit(waves[known], trace[known], degree).convert().coef
        if np.abs(polyval(waves[known], terms) - trace[known]).max() < _TOLERANCE:
            break
    return terms
