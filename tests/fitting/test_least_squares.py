"""Least squares row by row, and the sums of the spline correction, against plain ones."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.fitting.least_squares import (
    background_basis,
    fit_rows,
    invert_ridge,
    invert_symmetric,
)
from glue_lrs.fitting.spline_correction import fit_spline, spline_prior
from glue_lrs.profiles.empirical import splines


@pytest.mark.parametrize("order", [None, 0, 1])
def test_bands_of_the_normal_matrix_equal_a_plain_least_squares(order: int | None) -> None:
    rng = np.random.default_rng(1)
    rows, knots, terms = 40, 21, 3
    columns = np.arange(2.0, 35.0)
    residual, weight = rng.normal(size=(rows, 33)), rng.random((rows, 33))
    bands = np.polynomial.legendre.legvander(np.linspace(-1, 1, rows), terms - 1)
    background = background_basis(columns, order, rows)
    for count in (1, 2, 3):
        traces = 5 + 18 * rng.random((count, 1)) + 0.05 * np.arange(rows)
        flux = rng.normal(3, 1, (count, rows))
        found, _ = fit_spline(residual, weight, traces, flux, columns, bands, knots, background)
        design = np.zeros((rows, 33, knots + 8))
        for trace, f in zip(traces, flux, strict=True):
            first, parts = splines(columns - trace[:, None], knots)
            for j, part in enumerate(parts):
                design[np.arange(rows)[:, None], np.arange(33), first + j] += part * f[:, None]
        plain = np.einsum("rck,rm->rckm", design[:, :, 4:-4], bands).reshape(-1, knots * terms)
        # The background of each row is free.
        levels = np.zeros((rows, 33, rows, len(background)))
        for i, field in enumerate(background):
            levels[np.arange(rows), :, np.arange(rows), i] = field
        plain = np.concatenate([plain, levels.reshape(rows * 33, -1)], axis=1)
        matrix = (plain * weight.reshape(-1, 1)).T @ plain
        spline = np.arange(knots * terms)
        matrix[spline, spline] += np.repeat(spline_prior(knots), terms) ** -2
        expected = np.linalg.solve(matrix, plain.T @ (weight * residual).ravel())
        np.testing.assert_allclose(found.ravel(), expected[: spline.size], atol=1e-12)


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
