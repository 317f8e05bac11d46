"""Linear least squares row by row, and Gauss-Newton steps of what the rows share.

Normal matrices are inverted in two ways, as the two fits treat degenerate rows differently:
`invert_symmetric` (optimal extraction, pipeline extraction) gives 0 for matrices of a large
condition number, `invert_ridge` (`glue_lrs.measure`) scales them to a unit diagonal and adds a
ridge, so that of two sources at one place the sum is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from glue_lrs.apertures.background_fit import MAX_CONDITION

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array, Mask

__all__ = [
    "background_basis",
    "fit_rows",
    "gauss_newton",
    "inverse_normal",
    "invert_ridge",
    "invert_symmetric",
    "normal",
    "parameter_errors",
    "project_curvature",
    "residuals",
    "solve_row_sums",
]

#: Ridge over the largest diagonal element of a normal matrix: a source without a good pixel in a
#: row gets a flux near 0 there, and the matrix stays solvable for the others.
_RIDGE = 1e-9


# --- fields --------------------------------------------------------------------------------------


def background_basis(columns: Array, order: int | None, rows: int) -> list[Array]:
    """Return powers of a coordinate from -1 to 1 across the columns.

    Parameters
    ----------
    columns : ndarray
        Column numbers, shape (column,).
    order : int or None
        Highest power; None: no background.
    rows : int
        Number of rows.

    Returns
    -------
    list of ndarray
        ``order + 1`` fields, each of shape (row, column).
    """
    if order is None:
        return []
    half = max((columns[-1] - columns[0]) / 2.0, 1.0)
    x = (columns - (columns[0] + columns[-1]) / 2.0) / half
    return [np.broadcast_to(x**power, (rows, columns.size)) for power in range(order + 1)]


def residuals(data: Array, basis: Sequence[Array], coefficients: Array) -> Array:
    """Return data less the fit of a basis with coefficients (row, term)."""
    out = data.copy()
    for i, field in enumerate(basis):
        out -= coefficients[:, i, np.newaxis] * field
    return out


# --- normal matrices -----------------------------------------------------------------------------


def normal(basis: list[Array], weighted: list[Array]) -> Array:
    """Return normal matrices sum_c basis_i weighted_j, shape (..., p, p), symmetric."""
    size = len(basis)
    shape = np.broadcast_shapes(basis[0].shape[:-1], weighted[0].shape[:-1])
    matrix = np.empty((*shape, size, size))
    for i in range(size):
        for j in range(i, size):
            matrix[..., i, j] = matrix[..., j, i] = np.einsum(
                "...c,...c->...", basis[i], weighted[j]
            )
    return matrix


def invert_symmetric(matrix: Array) -> tuple[Array, Mask]:
    """Invert small symmetric positive matrices.

    Parameters
    ----------
    matrix : ndarray
        Shape (..., p, p).

    Returns
    -------
    inverse : ndarray
        Shape (..., p, p), 0 where the condition number is 1e10 or more.
    solvable : ndarray of bool
        Where it is not, shape (...).
    """
    size = matrix.shape[-1]
    if size == 1:
        solvable = np.greater(matrix[..., 0, 0], 0.0)
        inverse = np.zeros_like(matrix)
        np.divide(1.0, matrix, out=inverse, where=matrix > 0)
        return inverse, solvable
    if size == 2:
        a, b, d = matrix[..., 0, 0], matrix[..., 0, 1], matrix[..., 1, 1]
        determinant = a * d - b * b
        largest = 0.5 * (a + d + np.sqrt((a - d) ** 2 + 4.0 * b * b))
        # smallest eigenvalue = determinant / largest
        solvable = np.greater(determinant * MAX_CONDITION, largest**2)
        factor = np.divide(1.0, determinant, out=np.zeros_like(a), where=solvable)
        inverse = np.empty_like(matrix)
        inverse[..., 0, 0], inverse[..., 1, 1] = d * factor, a * factor
        inverse[..., 0, 1] = inverse[..., 1, 0] = -b * factor
        return inverse, solvable
    finite = np.isfinite(matrix).all(axis=(-1, -2), keepdims=True)
    matrix = np.where(finite, matrix, 0.0)
    eigenvalues: Array = np.asarray(np.linalg.eigvalsh(matrix), dtype=np.float64)
    solvable = np.less(eigenvalues[..., -1], MAX_CONDITION * eigenvalues[..., 0])
    matrix[~solvable] = np.eye(size)
    inverse = np.asarray(np.linalg.inv(matrix), dtype=np.float64)
    inverse[~solvable] = 0.0
    return inverse, solvable


def inverse_normal(matrix: Array, ridge_from: int = 2) -> Array:
    """Invert normal matrices (row, p, p) with a ridge where p is `ridge_from` or more.

    The ridge is added in place.
    """
    diagonal = np.arange(matrix.shape[-1])
    if diagonal.size >= ridge_from:
        largest = matrix[:, diagonal, diagonal].max(axis=1, keepdims=True)
        matrix[:, diagonal, diagonal] += _RIDGE * largest
    return invert_symmetric(matrix)[0]


def invert_ridge(matrix: Array) -> Array:
    """Invert normal matrices (row, p, p); parameters without information stay at 0."""
    size = matrix.shape[-1]
    diagonal = np.einsum("rii->ri", matrix)
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    regular = matrix * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    regular += np.eye(size) * np.where(diagonal > 0, _RIDGE, 1.0)[:, np.newaxis, :]
    inverse = np.asarray(np.linalg.inv(regular), dtype=float)
    return inverse * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]


# --- fits of rows --------------------------------------------------------------------------------


def fit_rows(
    basis: list[Array], weight: Array, data: Array, ridge_from: int = 3
) -> tuple[Array, Array]:
    """Fit a basis to each row.

    Parameters
    ----------
    basis : list of ndarray
        Fields, each of shape (row, column).
    weight, data : ndarray
        Shape (row, column).
    ridge_from : int
        Number of terms from which on a ridge is added to the normal matrices.

    Returns
    -------
    coefficients : ndarray
        Shape (row, term).
    inverse : ndarray
        Inverse normal matrices, shape (row, term, term).
    """
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted), ridge_from)
    vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def solve_row_sums(matrix: Array, vector: Array, mix: Array) -> tuple[Array, Array]:
    """Fit each row from its sums over columns.

    Parameters
    ----------
    matrix : ndarray
        Weighted products of all pairs of fields, shape (row, field, field).
    vector : ndarray
        Weighted products of fields and data, shape (row, field).
    mix : ndarray
        Terms as linear combinations of the fields, shape (term, field).

    Returns
    -------
    coefficients, inverse : ndarray
        As of `fit_rows`.
    """
    inverse = inverse_normal(mix @ matrix @ mix.T)
    return np.einsum("rij,rj->ri", inverse, vector @ mix.T), inverse


# --- parameters that the rows share --------------------------------------------------------------


def gauss_newton(
    fields: list[Array],
    along: list[Array],
    basis: list[Array],
    weight: Array,
    residual: Array,
    values: Array | float = 0.0,
    precision: Array | float = 0.0,
    inverse: Array | None = None,
) -> tuple[Array, Array]:
    """Fit a residual with fields times polynomials along the rows: a Gauss-Newton step.

    The basis, whose coefficients are free in each row, is projected out of fields and residual
    (Kaufman 1975).

    Parameters
    ----------
    fields, along : list of ndarray
        Derivatives of the model (row, column), and the terms of the polynomial of each
        (row, term).
    basis : list of ndarray
        Fields (row, column) with free coefficients in each row.
    weight, residual : ndarray
        Shape (row, column).
    values, precision : ndarray or float
        Gaussian prior: the parameters so far, as deviations from what is expected, and inverse
        variances.
    inverse : ndarray, optional
        Inverse normal matrices of the basis, where the residual is that of a fit of the basis with
        these weights.

    Returns
    -------
    change : ndarray
        The parameters of all polynomials, concatenated, shape (n,).
    covariance : ndarray
        Shape (n, n).
    """
    weighted = np.stack(fields, axis=1) * weight[:, np.newaxis]
    gram = np.matmul(weighted, np.stack(fields, axis=2))
    across = np.matmul(weighted, np.stack(basis, axis=2))
    vector = np.matmul(weighted, residual[..., np.newaxis])[..., 0]
    if inverse is None:
        coefficients, inverse = fit_rows(basis, weight, residual)
        vector -= np.einsum("rki,ri->rk", across, coefficients)
    gram -= np.matmul(np.matmul(across, inverse), np.swapaxes(across, 1, 2))
    # From fields to their polynomials.
    field = np.repeat(np.arange(len(along)), [terms.shape[1] for terms in along])
    terms = np.concatenate(along, axis=1)
    products = gram[:, field[:, np.newaxis], field] * terms[:, :, np.newaxis]
    matrix = np.einsum("rij,rj->ij", products, terms)
    right = np.einsum("ri,ri->i", terms, vector[:, field])
    matrix.reshape(-1)[:: len(matrix) + 1] += 1e-12 * np.trace(matrix) + 1e-300 + precision
    covariance = np.linalg.inv(matrix)
    return covariance @ (right - values * precision), covariance


def parameter_errors(covariance: Array) -> Array:
    """Return standard deviations, shape (n,); NaN where the variance is not positive."""
    variance = np.diag(covariance)
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def project_curvature(curvature: Array, tangent: Array) -> Array:
    """Return the curvature of chi-square in the shared parameters, shape (k, k).

    Parameters
    ----------
    curvature : ndarray
        Curvature in the parameters of each row, shape (row, p, p).
    tangent : ndarray
        Derivatives of the parameters of each row in the shared ones, shape (row, p, k).
    """
    # A sum of small products; one large product would start BLAS threads.
    return (np.swapaxes(tangent, 1, 2) @ (curvature @ tangent)).sum(axis=0)
