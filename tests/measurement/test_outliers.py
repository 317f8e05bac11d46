"""Deviations of outliers, judged by the rows beside them."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.measurement.outliers import deviations

ROW, COLUMN = 15, 5
#: Part of the flux in each column.
PROFILE = np.exp(-0.5 * ((np.arange(11) - COLUMN) / 1.5) ** 2)


def found(
    excess: np.ndarray,
    flux: np.ndarray | float = 100.0,
    background: np.ndarray | float = 2.0,
    kept: np.ndarray | None = None,
    row: int = ROW,
) -> float:
    """Deviation of the middle pixel of a row.

    The data are the fitted source and background, and an `excess`.
    """
    sources = np.broadcast_to(flux, 31)[:, np.newaxis] * PROFILE
    model = sources + background
    kept = np.ones(sources.shape, dtype=bool) if kept is None else kept
    kept[row, COLUMN] = False
    places = np.array([row]), np.array([COLUMN])
    (value,) = deviations(model + excess, model, sources, kept, places)
    return float(value)


def of_misfit(misfit: np.ndarray | float, own: float, row: int = ROW) -> np.ndarray:
    """An excess that the middle column has in all rows, but `own` in one row."""
    excess = np.zeros((31, 11))
    excess[:, COLUMN] = misfit
    excess[row, COLUMN] = own
    return excess


@pytest.mark.parametrize(
    ("misfit", "own", "expected"),
    [
        (0.0, 40.0, 40.0),  # a cosmic ray
        (0.0, -70.0, -70.0),  # a dead pixel
        (30.0, 50.0, 20.0),  # on top of a misfit
        (30.0, 30.0, 0.0),  # the misfit itself
        (30.0, 20.0, 0.0),  # above the fit, but below the neighbours
        (-30.0, 20.0, 20.0),  # the fit is closer than the neighbours
    ],
)
def test_a_misfit_is_no_outlier(misfit: float, own: float, expected: float) -> None:
    assert found(of_misfit(misfit, own)) == pytest.approx(expected, abs=1e-9)


def test_a_misfit_of_a_bright_source_is_proportional_to_its_flux() -> None:
    """Each row is scaled without the column of the misfit, beside which the background is steep."""
    flux = np.linspace(80.0, 150.0, 31)
    flux[ROW] = 200.0
    excess = of_misfit(0.3 * flux, 0.3 * 200.0 + 25.0)
    background = 500.0 + 100.0 * np.arange(11)
    assert found(excess, flux, background) == pytest.approx(25.0, abs=1e-9)


def test_a_misfit_of_a_faint_source_is_not_scaled() -> None:
    """The flux of the rows scatters by more than a quarter of its mean, as noise does."""
    flux = np.linspace(0.5, 10.0, 31)
    flux[ROW] = 20.0
    kept, excess = np.ones((31, 11), dtype=bool), of_misfit(5.0, 30.0)
    kept[3, 2], excess[3, 2] = False, np.nan  # a lost pixel
    assert found(excess, flux, kept=kept) == pytest.approx(25.0, abs=1e-9)


@pytest.mark.parametrize(("number", "expected"), [(4, 50.0), (5, 20.0)])
def test_the_fit_counts_if_few_neighbours_are_kept(number: int, expected: float) -> None:
    kept = np.ones((31, 11), dtype=bool)
    kept[:, COLUMN] = False
    kept[ROW + 1 : ROW + 1 + number, COLUMN] = True
    assert found(of_misfit(30.0, 50.0), kept=kept) == pytest.approx(expected, abs=1e-9)


def test_wide_outliers_without_neighbours_are_a_misfit() -> None:
    """Three adjacent columns in all rows are as wide as a profile, two are not."""
    sources = np.tile(100.0 * PROFILE, (31, 1))
    for width, expected in ((2, 50.0), (3, 0.0)):
        kept = np.ones(sources.shape, dtype=bool)
        kept[:, 4 : 4 + width] = False
        data = sources + np.where(kept, 0.0, 50.0)
        assert deviations(data, sources, sources, kept, np.nonzero(~kept)) == pytest.approx(
            np.full(31 * width, expected)
        )


def test_rows_that_are_missing_before_the_first_are_not_compared() -> None:
    """The first row does not count for them, nor do rows that are more than fifteen away."""
    excess = of_misfit(30.0, 50.0, row=1)
    excess[17:, COLUMN] = 1000.0
    background = np.full((31, 11), 2.0)
    background[:2] += np.arange(11) * 10.0  # as a misfit changes the fit of its row
    of_fit = background - 2.0  # which the data do not have
    # The fit is 50 too high there, and the neighbours have 30.
    value = found(excess - of_fit, background=background, row=1)
    assert value == pytest.approx(0.0, abs=1e-9)
    excess[1, COLUMN] = 90.0
    value = found(excess - of_fit, background=background, row=1)
    assert value == pytest.approx(40.0, abs=1e-9)
    excess[1, COLUMN] = -10.0
    value = found(excess - of_fit, background=background, row=1)
    assert value == pytest.approx(-40.0, abs=1e-9)


def test_a_row_without_the_core_of_the_source_is_not_compared() -> None:
    """Its wings say nothing about the flux."""
    kept = np.ones((31, 11), dtype=bool)
    excess = of_misfit(30.0, 50.0)
    odd = np.arange(31) % 2 == 0  # not the row of the outlier
    kept[odd, 3:8] = False
    kept[odd, COLUMN] = True
    excess[odd, :3] = 1000.0
    excess[odd, COLUMN] = -60.0
    assert found(excess, kept=kept) == pytest.approx(20.0, abs=1e-9)
