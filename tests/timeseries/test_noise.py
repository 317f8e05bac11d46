"""Scatter and Allan deviation of light curves."""

from __future__ import annotations

import numpy as np
import pytest

from glue_lrs.timeseries import allan_deviation, point_scatter
from glue_lrs.timeseries.noise import neighbour_differences

NOISE = np.random.default_rng(1).normal(10.0, 0.1, 4000)


@pytest.mark.parametrize("number", [8, 40, 4000])
def test_scatter_is_the_standard_deviation_of_the_noise(number: int) -> None:
    found = [point_scatter(part) for part in NOISE.reshape(-1, number)]
    assert np.sqrt(np.mean(np.square(found))) == pytest.approx(0.1, rel=0.06)


def test_a_transit_and_outliers_are_no_scatter() -> None:
    transit = np.interp(np.arange(4000), [1000, 1100, 2900, 3000], [10.0, 0.0, 0.0, 10.0])
    values = NOISE + transit
    values[::100] += 3.0
    assert point_scatter(values) == pytest.approx(0.1, rel=0.1)


def test_scatter_about_a_line() -> None:
    time = np.sort(np.random.default_rng(2).uniform(0.0, 1.0, 4000))
    assert point_scatter(NOISE + 7.0 * time, time) == pytest.approx(0.1, rel=0.04)
    line = 2.0 + 7.0 * time
    assert point_scatter(line, time) < 1e-12


def test_nan_are_left_out() -> None:
    values = NOISE.copy()
    values[[0, 5, 6]] = np.nan
    assert point_scatter(values) == point_scatter(np.delete(NOISE, [0, 5, 6]))
    assert np.isnan(point_scatter([1.0, np.nan, 2.0]))


def test_differences_of_a_slope_are_zero() -> None:
    assert neighbour_differences(np.arange(9.0)).tolist() == [0.0] * 7


def test_allan_deviation_of_independent_noise_falls_with_the_square_root() -> None:
    number, deviation = allan_deviation(NOISE)
    assert number[:6].tolist() == [1, 2, 3, 4, 6, 8]
    assert number[-1] <= 800
    np.testing.assert_allclose(deviation[:10], 0.1 / np.sqrt(number[:10]), rtol=0.15)


def test_allan_deviation_is_that_of_all_pairs_of_neighbouring_means() -> None:
    values = np.cumsum(NOISE[:60] - 10.0)
    number, deviation = allan_deviation(values)
    for count, found in zip(number.astype(int), deviation, strict=True):
        pairs = [
            values[k : k + count].mean() - values[k + count : k + 2 * count].mean()
            for k in range(60 - 2 * count + 1)
        ]
        assert found == pytest.approx(np.sqrt(0.5 * np.mean(np.square(pairs))))
    assert deviation[-1] > 1.5 * deviation[0]  # a random walk


@pytest.mark.parametrize("values", [[], [1.0], [1.0, 2.0, np.nan, 3.0]])
def test_allan_deviation_of_few_points(values: list[float]) -> None:
    number, deviation = allan_deviation(values)
    assert number.size == deviation.size == 0
