"""Linear least squares row by row, and Gauss-Newton steps for the parameters common to all rows.

A basis is a list of fields, each of which is a term of the model on the pixels: a profile of a
source or a term of the background.

Normal matrices are inverted in three ways, because the fits treat degenerate rows differently:

* `invert_symmetric` returns 0 for matrices with a large condition number.
* `inverse_normal`, for optimal extraction, adds a small ridge to the diagonal if there are several
  terms, then calls `invert_symmetric`.
* `invert_ridge`, for `glue_lrs.measure`, scales the matrix to a unit diagonal before it adds the
  ridge. If two sources have the same position, the sum of their fluxes is still determined.

`solve_ridge` solves many small systems with the ridge of `invert_ridge`, several times as fast.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.linalg import cho_factor, cho_solve, solve_triangular
from scipy.optimize import nnls

from glue_lrs._utils.typing import Array, Mask
from glue_lrs.apertures.background_fit import MAX_CONDITION
from glue_lrs.errors import ProfileError

#: Ridge that is added to the diagonal of a normal matrix, as a fraction of the largest diagonal
#: entry. A source without a good pixel in a row gets a flux near 0 there, and the fluxes of the
#: other sources can still be determined.
_RIDGE = 1e-9


# --- fields --------------------------------------------------------------------------------------


def background_basis(columns: Array, order: int | None, rows: int) -> list[Array]:
    """Return the terms of a polynomial background.

    The terms are the powers of a coordinate that runs from -1 in the first column to 1 in the last.

    Parameters
    ----------
    columns : ndarray
        Column numbers, shape (column,).
    order : int or None
        Highest power. If None, there is no background and the list is empty.
    rows : int
        Number of rows.

    Returns
    -------
    list of ndarray
        ``order + 1`` terms, each of shape (row, column).
    """
    if order is None:
        return []
    half = max((columns[-1] - columns[0]) / 2.0, 1.0)
    x = (columns - (columns[0] + columns[-1]) / 2.0) / half
    return [np.broadcast_to(x**power, (rows, columns.size)) for power in range(order + 1)]


def residuals(data: Array, basis: Sequence[Array], coefficients: Array) -> Array:
    """Return the data minus a model, which is the sum of coefficients (row, term) times basis."""
    out = data.copy()
    for i, field in enumerate(basis):
        out -= coefficients[:, i, np.newaxis] * field
    return out


# --- normal matrices -----------------------------------------------------------------------------


def normal(basis: Sequence[Array], weighted: Sequence[Array]) -> Array:
    """Return the normal matrices of a linear fit, shape (..., p, p).

    The entries are the sums over columns of basis_i weighted_j, where `weighted` is the basis times
    the weights. Both are lists of p arrays of shape (..., column).
    """
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
    """Invert small symmetric positive definite matrices.

    Parameters
    ----------
    matrix : ndarray
        Matrices to invert, shape (..., p, p).

    Returns
    -------
    inverse : ndarray
        Inverse matrices, shape (..., p, p). Matrices whose condition number is 1e10 or more have an
        inverse of 0.
    solvable : ndarray of bool
        Whether the condition number of each matrix is below 1e10, shape (...).
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
    """Return the inverses of normal matrices (row, p, p).

    If p is at least `ridge_from`, a ridge is added to the diagonal of `matrix` in place.
    """
    diagonal = np.arange(matrix.shape[-1])
    if diagonal.size >= ridge_from:
        largest = matrix[:, diagonal, diagonal].max(axis=1, keepdims=True)
        matrix[:, diagonal, diagonal] += _RIDGE * largest
    return invert_symmetric(matrix)[0]


def invert_ridge(matrix: Array) -> Array:
    """Return the inverses of normal matrices (row, p, p) that are regularised by a ridge.

    Parameters whose diagonal entry is 0, because no good pixel constrains them, get the value 0.
    """
    size = matrix.shape[-1]
    diagonal = np.einsum("rii->ri", matrix)
    scale = np.where(diagonal > 0, 1.0 / np.sqrt(np.where(diagonal > 0, diagonal, 1.0)), 0.0)
    regular = matrix * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]
    regular += np.eye(size) * np.where(diagonal > 0, _RIDGE, 1.0)[:, np.newaxis, :]
    inverse = np.asarray(np.linalg.inv(regular), dtype=float)
    return inverse * scale[:, :, np.newaxis] * scale[:, np.newaxis, :]


def solve_ridge(matrix: Array, moments: Array) -> Array:
    """Return the coefficients for normal matrices (row, p, p) and moments (row, p).

    They are the products of the inverses from `invert_ridge` with the moments.
    """
    size = matrix.shape[-1]
    diagonal = matrix[:, range(size), range(size)]
    regular = diagonal > 0
    scale = np.sqrt(np.divide(1.0, diagonal, out=np.zeros_like(diagonal), where=regular))
    scaled = matrix * (scale[:, :, np.newaxis] * scale[:, np.newaxis, :])
    scaled[:, range(size), range(size)] += np.where(regular, _RIDGE, 1.0)
    found = np.linalg.solve(scaled, (scale * moments)[..., np.newaxis])[..., 0]
    return np.asarray(found * scale)


def fit_rows_ridge(basis: Array, weight: Array, data: Array) -> tuple[Array, Array, Array]:
    """Fit the basis to each row by weighted least squares with `invert_ridge`.

    Parameters
    ----------
    basis : ndarray
        Terms of the model, shape (row, column, term).
    weight, data : ndarray
        Weights and values of the pixels, shape (row, column).

    Returns
    -------
    coefficients, inverse, model : ndarray
        Fitted coefficients (row, term), inverse normal matrices (row, term, term), and model of the
        data (row, column).
    """
    weighted = np.swapaxes(basis * weight[..., np.newaxis], 1, 2)
    inverse = invert_ridge(weighted @ basis)
    coefficients = inverse @ (weighted @ data[..., np.newaxis])
    return coefficients[..., 0], inverse, (basis @ coefficients)[..., 0]


# --- fits of rows --------------------------------------------------------------------------------


def fit_rows(
    basis: Sequence[Array], weight: Array, data: Array, ridge_from: int = 3
) -> tuple[Array, Array]:
    """Fit a linear combination of the basis to each row by weighted least squares.

    Parameters
    ----------
    basis : list of ndarray
        Terms of the model, each of shape (row, column).
    weight, data : ndarray
        Weights and values of the pixels, shape (row, column).
    ridge_from : int
        Smallest number of terms for which a ridge is added to the normal matrices.

    Returns
    -------
    coefficients : ndarray
        Fitted coefficients, shape (row, term).
    inverse : ndarray
        Inverse normal matrices, shape (row, term, term).
    """
    weighted = [field * weight for field in basis]
    inverse = inverse_normal(normal(basis, weighted), ridge_from)
    vector = np.stack([np.einsum("rc,rc->r", field, data) for field in weighted], axis=-1)
    return np.einsum("rij,rj->ri", inverse, vector), inverse


def solve_row_sums(matrix: Array, vector: Array, mix: Array) -> tuple[Array, Array]:
    """Fit each row as `fit_rows` does, but from sums over columns that are already known.

    Parameters
    ----------
    matrix : ndarray
        Weighted sums over columns of the products of all pairs of fields, shape
        (row, field, field).
    vector : ndarray
        Weighted sums over columns of the products of fields and data, shape (row, field).
    mix : ndarray
        Coefficients that express each term of the model as a linear combination of the fields,
        shape (term, field).

    Returns
    -------
    coefficients, inverse : ndarray
        Fitted coefficients (row, term) and inverse normal matrices (row, term, term).
    """
    inverse = inverse_normal(mix @ matrix @ mix.T)
    return np.einsum("rij,rj->ri", inverse, vector @ mix.T), inverse


# --- parameters common to all rows ---------------------------------------------------------------


def gauss_newton(
    fields: Sequence[Array],
    along: Sequence[Array],
    basis: Sequence[Array],
    weight: Array,
    residual: Array,
    values: Array | float = 0.0,
    precision: Array | float = 0.0,
    inverse: Array | None = None,
) -> tuple[Array, Array]:
    """Return a Gauss-Newton step for parameters that are common to all rows.

    The step fits the residual with the derivatives of the model. Each derivative is multiplied by a
    polynomial along the rows, whose coefficients are the parameters. The basis, whose coefficients
    are free in each row, is projected out of the derivatives and the residual (Kaufman 1975).

    Parameters
    ----------
    fields : list of ndarray
        Derivatives of the model, each of shape (row, column).
    along : list of ndarray
        Terms of the polynomial along the rows for each derivative, each of shape (row, term).
    basis : list of ndarray
        Terms of the model with free coefficients in each row, each of shape (row, column).
    weight, residual : ndarray
        Weights of the pixels, and data minus the present model, shape (row, column).
    values, precision : ndarray or float
        Gaussian prior: present parameters minus their expected values, and inverse variances of the
        prior.
    inverse : ndarray, optional
        Inverse normal matrices of the basis. They may be given only if the residual comes from a
        fit of the basis with the same weights. If None, the basis is fitted to the residual first.

    Returns
    -------
    change : ndarray
        Changes of the parameters of all polynomials, concatenated, shape (n,).
    covariance : ndarray
        Covariance matrix of the parameters, shape (n, n).
    """
    weighted = np.stack(fields, axis=1) * weight[:, np.newaxis]
    gram = np.matmul(weighted, np.stack(fields, axis=2))
    across = np.matmul(weighted, np.stack(basis, axis=2))
    vector = np.matmul(weighted, residual[..., np.newaxis])[..., 0]
    if inverse is None:
        coefficients, inverse = fit_rows(basis, weight, residual)
        vector -= np.einsum("rki,ri->rk", across, coefficients)
    gram -= np.matmul(np.matmul(across, inverse), np.swapaxes(across, 1, 2))
    # Convert the sums for the derivatives in each row to sums for the coefficients of the
    # polynomials along the rows.
    field = np.repeat(np.arange(len(along)), [terms.shape[1] for terms in along])
    terms = np.concatenate(along, axis=1)
    products = gram[:, field[:, np.newaxis], field] * terms[:, :, np.newaxis]
    matrix = np.einsum("rij,rj->ij", products, terms)
    right = np.einsum("ri,ri->i", terms, vector[:, field])
    matrix.reshape(-1)[:: len(matrix) + 1] += 1e-12 * np.trace(matrix) + 1e-300 + precision
    covariance = np.linalg.inv(matrix)
    return covariance @ (right - values * precision), covariance


def common_normal(
    blocks: Sequence[tuple[Array, Array]], basis: Sequence[Array], weight: Array, inverse: Array
) -> Array:
    """Return the normal matrix of parameters that are common to all rows.

    Parameters
    ----------
    blocks : sequence of (ndarray, ndarray)
        Derivatives of the model: fields on the pixels, shape (row, field, column), and terms along
        the rows, shape (row, term). The derivative with respect to each parameter is the product of
        a field and a term; the parameters are sorted by field, then by term.
    basis : sequence of ndarray
        Terms of the model with free coefficients in each row, each of shape (row, column). They are
        projected out (Kaufman 1975).
    weight : ndarray
        Weights of the pixels, shape (row, column).
    inverse : ndarray
        Inverse normal matrices of the basis, shape (row, term, term).

    Returns
    -------
    ndarray
        Normal matrix, shape (n, n).
    """
    root = np.sqrt(weight)[:, np.newaxis]
    fields = np.concatenate([block[0] for block in blocks], axis=1) * root
    terms = np.stack(basis, axis=1) * root
    across = np.matmul(fields, np.swapaxes(terms, 1, 2))
    gram = np.matmul(fields, np.swapaxes(fields, 1, 2))
    gram -= np.matmul(np.matmul(across, inverse), np.swapaxes(across, 1, 2))
    ends = np.cumsum([0, *(block[0].shape[1] for block in blocks)])
    rows, matrix = len(weight), []
    for i, (_, along) in enumerate(blocks):
        line = []
        for j, (_, other) in enumerate(blocks):
            products = gram[:, ends[i] : ends[i + 1], ends[j] : ends[j + 1]]
            size = products.shape[1:]
            pairs = along[:, :, np.newaxis] * other[:, np.newaxis, :]
            total = products.reshape(rows, -1).T @ pairs.reshape(rows, -1)
            total = total.reshape(*size, along.shape[1], other.shape[1]).transpose(0, 2, 1, 3)
            line.append(total.reshape(size[0] * along.shape[1], -1))
        matrix.append(np.concatenate(line, axis=1))
    return np.concatenate(matrix)


def common_gradient(blocks: Sequence[tuple[Array, Array]], weight: Array, residual: Array) -> Array:
    """Return half the negative gradient of chi-square for the parameters of `common_normal`.

    Parameters
    ----------
    blocks, weight
        See `common_normal`.
    residual : ndarray
        Data minus the fit of the basis, shape (row, column).

    Returns
    -------
    ndarray
        Right-hand side of the normal equations, shape (n,).
    """
    weighted = (weight * residual)[..., np.newaxis]
    parts = [(np.matmul(field, weighted)[..., 0].T @ along).ravel() for field, along in blocks]
    return np.concatenate(parts)


def no_profile() -> ProfileError:
    """Return the exception for pixels that are too few or too bad to fit a profile."""
    return ProfileError(
        "no profile can be fitted, expected more good pixels and fewer outliers; give a profile "
        "fitted to another image"
    )


def cholesky(matrix: Array) -> tuple[Array, bool]:
    """Return the Cholesky factor of a normal matrix, in the form that `cho_solve` of SciPy takes.

    Raises
    ------
    ProfileError
        If the matrix is not positive definite, or not finite.
    """
    try:
        return cho_factor(matrix)
    except (np.linalg.LinAlgError, ValueError):
        raise no_profile() from None


def solve_limited(matrix: Array, vector: Array, least: Array) -> Array:
    """Solve normal equations for parameters some of which have a lower limit.

    The parameters without a limit are eliminated. The others follow from a non-negative least
    squares fit (Lawson & Hanson 1974).

    Parameters
    ----------
    matrix, vector : ndarray
        Normal matrix (n, n), positive definite, and right-hand side (n,).
    least : ndarray
        Smallest value of each parameter, -inf if there is none, shape (n,).

    Returns
    -------
    ndarray
        Parameters within the limits for which chi-square is smallest, shape (n,).

    Raises
    ------
    ProfileError
        If the matrix is not positive definite, or not finite.
    """
    out = np.asarray(cho_solve(cholesky(matrix), vector), dtype=float)
    if not (out < least).any():
        return out
    limited = np.isfinite(least)
    rest = cholesky(matrix[np.ix_(~limited, ~limited)])
    across = matrix[np.ix_(~limited, limited)]
    follow = cho_solve(rest, across)
    factor, _ = cholesky(matrix[np.ix_(limited, limited)] - across.T @ follow)
    factor = np.triu(factor)
    target = solve_triangular(factor, vector[limited] - follow.T @ vector[~limited], trans=1)
    out[limited] = nnls(factor, target - factor @ least[limited])[0] + least[limited]
    out[~limited] = cho_solve(rest, vector[~limited]) - follow @ out[limited]
    return out


def parameter_errors(covariance: Array) -> Array:
    """Return the 1-sigma errors of parameters, shape (n,); NaN if a variance is not positive."""
    variance = np.diag(covariance)
    return np.sqrt(np.where(variance > 0, variance, np.nan))


def project_curvature(curvature: Array, tangent: Array) -> Array:
    """Return the curvature of chi-square for the common parameters, shape (k, k).

    It is the sum over rows of tangent^T curvature tangent.

    Parameters
    ----------
    curvature : ndarray
        Curvature of chi-square for the p parameters of each row, shape (row, p, p).
    tangent : ndarray
        Derivatives of the parameters of each row with respect to the k common parameters, shape
        (row, p, k).
    """
    # Many small matrix products are summed because one large product would start BLAS threads.
    return (np.swapaxes(tangent, 1, 2) @ (curvature @ tangent)).sum(axis=0)
