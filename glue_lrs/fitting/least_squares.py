"""Linear least squares, row by row."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from glue_lrs.apertures.background_fit import MAX_CONDITION

if TYPE_CHECKING:
    from glue_lrs._utils.typing import Array

__all__ = [
    "background_basis",
    "fit_rows",
    "gauss_newton",
    "inverse_normal",
    "invert_ridge",
    "invert_symmetric",
    "normal",
    "parameter_errors",
    "pulled_back",
    "row_coefficients",
    "solve_row_sums",
    "solve_rows",
]


def invert_symmetric(
    matrix: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Inverses of small symmetric positive matrices, 0 where the condition is 1e10 or more."""
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
    whole = np.where(finite, matrix, 0.0)
    eigenvalues: NDArray[np.float64] = np.asarray(np.linalg.eigvalsh(whole), dtype=np.float64)
    fine = np.less(eigenvalues[..., -1], MAX_CONDITION * eigenvalues[..., 0])
    whole[~fine] = np.eye(size)
    inverse = np.linalg.inv(whole)
    inverse[~fine] = 0.0
    return inverse, fine


def normal(
    basis: list[NDArray[np.float64]], weighted: list[NDArray[np.float64]]
) -> NDArray[np.float64]:
    """Normal matrices sum_c basis_i weighted_j, shape (..., p, p); symmetric by construction."""
    size = len(basis)
    shape = np.broadcast_shapes(basis[0].shape[:-1], weighted[0].shape[:-1])
    matrix = np.empty((*shape, size, size))
    for i in range(size):
        for j in range(i, size):
            matrix[..., i, j] = matrix[..., j, i] = np.einsum(
                "...c,...c->...", basis[i], weighted[j]
            )
    return matrix


def _steadied(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """A source that no pixel of a row sees must not take the others with it."""
    size = matrix.shape[-1]
    if size > 2:
        some = np.arange(size)
        matrix[:, some, some] += 1e-9 * matrix[:, some, some].max(axis=1, keepdims=True)
    return matrix


def fit_rows(
    basis: list[NDArray[np.float64]], weight: NDArray[np.float64], data: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients (row, p) of a fit of each row, and inverse normal matrices (row, p, p)."""
    weighted = [b * weight for b in basis]
    inverse, _ = invert_symmetric(_steadied(normal(basis, weighted)))
    vector = np.stack([np.einsum("rc,rc->r", b, data) for b in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def row_coefficients(
    basis: list[NDArray[np.float64]], weight: NDArray[np.float64], data: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Coefficients (row, p) of a fit of each row."""
    return fit_rows(basis, weight, data)[0]


def background_basis(
    columns: NDArray[np.float64], order: int | None, rows: int
) -> list[NDArray[np.float64]]:
    """Powers of a coordinate from -1 to 1 over the columns: none for an order of None."""
    if order is None:
        return []
    half = max((columns[-1] - columns[0]) / 2.0, 1.0)
    x = (columns - (columns[0] + columns[-1]) / 2.0) / half
    return [np.broadcast_to(x**power, (rows, columns.size)) for power in range(order + 1)]


def parameter_errors(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Standard deviations, shape (n,); NaN where there is none."""
    variance = np.diag(covariance)
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def gauss_newton(
    fields: list[NDArray[np.float64]],
    along: list[NDArray[np.float64]],
    basis: list[NDArray[np.float64]],
    weight: NDArray[np.float64],
    residual: NDArray[np.float64],
    values: NDArray[np.float64] | float = 0.0,
    hold: NDArray[np.float64] | float = 0.0,
    inverse: NDArray[np.float64] | None = None,
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Least squares of a residual with fields that are multiplied by polynomials along the rows.

    What a fit of the basis to each row would take off fields and residual is taken off.

    Parameters
    ----------
    fields, along : list of ndarray
        Fields (row, column), and the terms of the polynomial of each (row, term).
    basis : list of ndarray
        Fields (row, column) of which each row has its own multiples.
    weight, residual : ndarray
        Shape (row, column).
    values, hold : ndarray or float
        Coefficients so far and the inverse variances by which they are expected to be 0.
    inverse : ndarray, optional
        Inverse normal matrices of the basis, where a fit of it, with these weights, has left the
        residual.

    Returns
    -------
    change : ndarray
        The coefficients, all polynomials in a line, shape (n,).
    covariance : ndarray
        Shape (n, n).
    """
    weighted = np.stack(fields, axis=1) * weight[:, np.newaxis]
    gram = np.matmul(weighted, np.stack(fields, axis=2))
    across = np.matmul(weighted, np.stack(basis, axis=2))
    vector = np.matmul(weighted, residual[..., np.newaxis])[..., 0]
    if inverse is None:
        left, inverse = fit_rows(basis, weight, residual)
        vector -= np.einsum("rki,ri->rk", across, left)
    gram -= np.matmul(np.matmul(across, inverse), np.swapaxes(across, 1, 2))
    # From fields to their polynomials.
    field = np.repeat(np.arange(len(along)), [terms.shape[1] for terms in along])
    terms = np.concatenate(along, axis=1)
    products = gram[:, field[:, np.newaxis], field] * terms[:, :, np.newaxis]
    matrix = np.einsum("rij,rj->ij", products, terms)
    right = np.einsum("ri,ri->i", terms, vector[:, field])
    matrix.reshape(-1)[:: len(matrix) + 1] += 1e-12 * np.trace(matrix) + 1e-300 + hold
    covariance = np.linalg.inv(matrix)
    return covariance @ (right - values * hold), covariance


def solve_row_sums(
    matrix: NDArray[np.float64], vector: NDArray[np.float64], mix: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Coefficients and inverse normal matrices of terms that are made up of fields."""
    normal_matrix = mix @ matrix @ mix.T
    inverse = inverse_normal(normal_matrix)
    return np.einsum("rij,rj->ri", inverse, vector @ mix.T), inverse


def inverse_normal(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """Inverse; a source that no pixel of a row sees must not take the others with it."""
    some = np.arange(matrix.shape[-1])
    if some.size > 1:
        diagonal = matrix[:, some, some]
        matrix[:, some, some] += 1e-9 * diagonal.max(axis=1, keepdims=True)
    return invert_symmetric(matrix)[0]


def solve_rows(
    data: NDArray[np.float64], weight: NDArray[np.float64], basis: list[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fit each row: coefficients (row, term), inverse normal matrices (row, term, term)."""
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted))
    vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def invert_ridge(normal: Array) -> Array:
    """Inverses of the normal matrices; parameters that the row says nothing of stay at 0."""
    size = normal.shape[-1]
    diagonal = np.einsum("rii->ri", normal)
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    # Of two sources at one place only the sum is known: a trace of a ridge keeps it solvable.
    regular = normal * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    regular += np.eye(size) * np.where(diagonal > 0, 1e-9, 1.0)[:, np.newaxis, :]
    inverse = np.asarray(np.linalg.inv(regular), dtype=float)
    return inverse * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]


def pulled_back(curvature: Array, tangent: Array) -> Array:
    """Curvature in the parameters: a sum over rows of small products, which needs no threads."""
    return (np.swapaxes(tangent, 1, 2) @ (curvature @ tangent)).sum(axis=0)
