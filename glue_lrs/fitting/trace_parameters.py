"""Parameters of traces: positions of sources, distances of nods, and a common polynomial.

All traces of an image are parallel. The negative traces of a nod have the separations of their
sources, so that each nod adds one parameter.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

__all__ = [
    "TRACE_PRIOR",
    "is_significant",
    "position_derivatives",
    "position_matrix",
    "trace_order_for",
    "width_order_for",
]

#: Prior of the trace polynomial in blends: standard deviation of its coefficients in columns. The
#: light of a neighbour looks like a bend of the trace, which only the WCS can exclude.
TRACE_PRIOR = 0.05

#: Signal-to-noise ratios of the source above which the polynomials of trace and width have one more
#: term.
_TRACE_SNR, _WIDTH_SNR = (60.0, 200.0, 3000.0), (60.0, 300.0)

#: Squared signal-to-noise ratio per coefficient above which a trace polynomial is significant.
_SIGNIFICANT = 6.0


def trace_order_for(signal_to_noise: float) -> int:
    """Return the order of the trace polynomial that the signal-to-noise ratio allows."""
    return sum(signal_to_noise > limit for limit in _TRACE_SNR)


def width_order_for(signal_to_noise: float) -> int:
    """Return the order of the width polynomial that the signal-to-noise ratio allows."""
    return sum(signal_to_noise > limit for limit in _WIDTH_SNR)


def is_significant(terms: Array, covariance: Array) -> bool:
    """Return whether a trace polynomial is more than noise, which would bias blended sources."""
    return bool(terms @ np.linalg.solve(covariance, terms) > _SIGNIFICANT * terms.size)


def position_matrix(count: int, positives: int) -> Array:
    """Return the derivatives of trace positions in their parameters, shape (parameter, trace).

    Parameters
    ----------
    count : int
        Number of traces: the sources, then a negative trace of each for each nod.
    positives : int
        Number of sources.

    Returns
    -------
    ndarray
        0 or 1. The parameters are the position of each source, then the distance of each nod.
    """
    nods = count // positives - 1
    matrix = np.zeros((positives + nods, count))
    for nod in range(nods + 1):
        traces = np.arange(positives) + nod * positives
        matrix[np.arange(positives), traces] = 1.0
        if nod:
            matrix[positives + nod - 1, traces] = 1.0
    return matrix


def position_derivatives(derivatives: list[Array], matrix: Array) -> list[Array]:
    """Return the derivatives of the model in the parameters of `position_matrix`.

    Parameters
    ----------
    derivatives : list of ndarray
        Derivative of the model in the position of each trace, each of shape (row, column).
    matrix : ndarray
        Shape (parameter, trace).
    """
    return [
        np.sum([field for field, part in zip(derivatives, row, strict=True) if part], axis=0)
        for row in matrix
    ]
