"""Parameters of the traces: positions of sources, distances between nods, and a polynomial.

All traces in an image are parallel, so that the polynomial in the row is the same for all. In each
nod, the negative traces have the same separations as the sources, so that a nod adds only one
parameter, its distance.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from glue_lrs._utils.typing import Array

#: Standard deviation in columns of the prior on the coefficients of the trace polynomial in blends.
#: It is small because the flux of a neighbour may look like a bend of the trace, so that the curve
#: of the WCS must be preferred.
TRACE_PRIOR = 0.05

#: Signal-to-noise ratios of the source above which the trace polynomial has an additional term.
TRACE_SNR = (60.0, 200.0, 3000.0)

#: Squared signal-to-noise ratio of a trace polynomial, divided by its number of coefficients, above
#: which the polynomial is significant.
_SIGNIFICANT = 6.0


def count_passed(value: float, limits: Sequence[float]) -> int:
    """Return the number of limits that a value exceeds.

    For a signal-to-noise ratio and the limits `TRACE_SNR`, this is the order of the trace
    polynomial.
    """
    return sum(value > limit for limit in limits)


def is_significant(terms: Array, covariance: Array) -> bool:
    """Return whether a trace polynomial is significant.

    A polynomial that is only noise would bias the fluxes of blended sources.

    Parameters
    ----------
    terms, covariance : ndarray
        Coefficients of the polynomial (n,), and their covariance (n, n).
    """
    return bool(terms @ np.linalg.solve(covariance, terms) > _SIGNIFICANT * terms.size)


def position_matrix(count: int, positives: int) -> Array:
    """Return the derivatives of the trace positions with respect to their parameters.

    The parameters are the position of each source, then the distance of each nod.

    Parameters
    ----------
    count : int
        Number of traces. The sources come first, followed for each nod by the negative traces of
        all sources.
    positives : int
        Number of sources, not counting negative traces.

    Returns
    -------
    ndarray
        Derivatives, which are 0 or 1, shape (parameter, trace).
    """
    nods = count // positives - 1
    matrix = np.zeros((positives + nods, count))
    for nod in range(nods + 1):
        traces = np.arange(positives) + nod * positives
        matrix[np.arange(positives), traces] = 1.0
        if nod:
            matrix[positives + nod - 1, traces] = 1.0
    return matrix
