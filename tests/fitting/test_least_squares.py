"""Least squares row by row, and for parameters common to all rows, against plain ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import lsq_linear

from glue_lrs.fitting.least_squares import (
    background_basis,
    common_gradient,
    common_normal,
    fit_rows,
    invert_ridge,
    invert_symmetric,
    residuals,
    solve_limited,
    solve_ridge,
)


@pytest.mark.parametrize("order", [None, 0, 1])
def test_common_parameters_equal_a_plain_least_squares(order: int | None) -> None:
    """The plain fit has the fluxes and the background of each row among its unknowns."""
    rng = np.random.default_rng(1)
    rows, columns = 40, np.arange(2.0, 35.0)
    data, weight = rng.normal(size=(rows, 33)), rng.random((rows, 33))
    basis = [rng.random((rows, 33)), *background_basis(columns, order, rows)]
    blocks = [
        (rng.normal(size=(rows, n, 33)), rng.normal(size=(rows, m))) for n, m in ((2, 1), (3, 4))
    ]
    coefficients, inverse = fit_rows(basis, weight, data)
    residual = residuals(data, basis, coefficients)
    matrix = common_normal(blocks, basis, weight, inverse)
    gradient = common_gradient(blocks, weight, residual)
    plain = [np.einsum("rnc,rm->rcnm", *block).reshape(rows * 33, -1) for block in blocks]
    in_rows = np.zeros((rows, 33, rows, len(basis)))
    for i, field in enumerate(basis):
        in_rows[np.arange(rows), :, np.arange(rows), i] = field
    design = np.concatenate([*plain, in_rows.reshape(rows * 33, -1)], axis=1)
    root = np.sqrt(weight.reshape(-1, 1))
    expected = np.linalg.lstsq(design * root, (data.reshape(-1, 1) * root)[:, 0], rcond=None)[0]
    np.testing.assert_allclose(
        np.linalg.solve(matrix, gradient), expected[: len(gradient)], atol=1e-9
    )


def test_systems_without_a_solution_give_zero() -> None:
    for size in (1, 2, 3, 4):
        rng = np.random.default_rng(size)
        vectors = rng.normal(size=(5, 6, size))
        matrix = np.einsum("rci,rcj->rij", vectors, vectors)
        matrix[2] = 0.0
        if size > 1:
            matrix[3, :, 1] = matrix[3, :, 0]
            matrix[3, 1, :] = matrix[3, 0, :]
        inverse, solvable = invert_symmetric(matrix)
        good = [0, 1, 4] if size > 1 else [0, 1, 3, 4]
        assert np.flatnonzero(solvable).tolist() == good
        assert not inverse[~solvable].any()
        np.testing.assert_allclose(
            inverse[good] @ matrix[good],
            np.broadcast_to(np.eye(size), (len(good), size, size)),
            atol=1e-6,
        )


@pytest.mark.parametrize("terms", [1, 2, 3])
def test_fits_of_rows_equal_plain_least_squares(terms: int) -> None:
    rng = np.random.default_rng(terms)
    basis = list(rng.normal(size=(terms, 7, 20)))
    weight, data = rng.random((7, 20)), rng.normal(size=(7, 20))
    coefficients, inverse = fit_rows(basis, weight, data)
    for row in range(7):
        root = np.sqrt(weight[row])
        design = np.stack([field[row] for field in basis], axis=1) * root[:, np.newaxis]
        expected = np.linalg.lstsq(design, data[row] * root, rcond=None)[0]
        np.testing.assert_allclose(coefficients[row], expected, atol=1e-7)
        np.testing.assert_allclose(inverse[row], np.linalg.inv(design.T @ design), rtol=1e-6)


def test_a_ridge_gives_the_sum_of_coincident_sources() -> None:
    rng = np.random.default_rng(1)
    source, data = rng.random((3, 20)), rng.normal(size=(3, 20))
    basis = np.stack([source, source, np.zeros_like(source)], axis=-1)
    transposed = np.swapaxes(basis, 1, 2)
    inverse = invert_ridge(transposed @ basis)
    found = (inverse @ (transposed @ data[..., np.newaxis]))[..., 0]
    expected = (source * data).sum(axis=1) / (source**2).sum(axis=1)
    np.testing.assert_allclose(found[:, 0] + found[:, 1], expected, rtol=1e-6)
    assert not found[:, 2].any()


@pytest.mark.parametrize("seed", range(5))
def test_limited_parameters(seed: int) -> None:
    """Without an active limit it is the usual solution, and otherwise that of SciPy."""
    rng = np.random.default_rng(seed)
    design, data = rng.normal(size=(30, 9)), rng.normal(size=30)
    matrix, vector = design.T @ design, design.T @ data
    free = np.linalg.solve(matrix, vector)
    least = np.full(9, -np.inf)
    least[2:6] = free[2:6] - 0.1
    np.testing.assert_allclose(solve_limited(matrix, vector, least), free)
    least[2:6] += [0.3, 0.0, 0.2, 0.0]
    found = solve_limited(matrix, vector, least)
    assert (found >= least - 1e-12).all()
    expected = lsq_linear(design, data, (least, np.inf), tol=1e-12).x
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_solutions_are_those_of_the_inverses() -> None:
    """Also without information about a parameter, or of the difference of two of them."""
    rng = np.random.default_rng(6)
    vectors = rng.normal(size=(5, 30, 4)) * [1.0, 1e3, 1e-3, 1.0]
    vectors[2] = 0.0
    vectors[3, :, 1] = 0.0
    matrix, moments = np.einsum("rci,rcj->rij", vectors, vectors), rng.normal(size=(5, 4))
    moments *= np.einsum("rii->ri", matrix) > 0
    expected = (invert_ridge(matrix) @ moments[..., np.newaxis])[..., 0]
    np.testing.assert_allclose(solve_ridge(matrix, moments), expected, rtol=1e-9)
    assert not solve_ridge(matrix, moments)[2].any()
