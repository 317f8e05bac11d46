from __future__ import annotations

import time
import warnings
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from astropy.convolution import convolve
from astropy.utils.exceptions import AstropyUserWarning
from hypothesis import given
from hypothesis import strategies as st

from glue_lrs import Aperture, Background, Extract1D, LRSError, LRSWarning
from glue_lrs.apertures.background import check_smoothing
from glue_lrs.errors import ApertureError, ReferenceFileError
from tests.helpers.images import slit

COLUMNS = 24
X = np.linspace(-1.0, 1.0, COLUMNS)
WAVELENGTH = np.ones((6, COLUMNS))


def fit(background: Background, data: np.ndarray, invalid: np.ndarray | None = None) -> Any:
    """Fit all columns of the image, under an aperture that covers columns 10 to 13."""
    aperture = np.zeros(COLUMNS)
    aperture[10:14] = [0.5, 1.0, 1.0, 0.25]
    basis = np.vander(X, background.bkg_order + 1, increasing=True)
    region = background.weights(WAVELENGTH).full(WAVELENGTH.shape)[:1] != 0
    bad = np.isnan(data) if invalid is None else invalid
    return fit_result(background.fit(data, region, bad, X, aperture[np.newaxis] @ basis), aperture)


def fit_result(result: Any, aperture: np.ndarray) -> Any:
    return result, aperture


@given(order=st.integers(0, 4), seed=st.integers(0, 1000))
def test_a_polynomial_background_is_recovered(order: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(6, order + 1))
    data = truth @ np.vander(X, order + 1, increasing=True).T
    data[:, 8:16] += 100.0  # the source, outside the regions
    background = Background.from_edges((0.5, 6.5), (16.5, 22.5), bkg_order=order)
    result, _ = fit(background, data)
    np.testing.assert_allclose(result.coefficients, truth, atol=1e-9)


@pytest.mark.parametrize("kind", ["poly", "mean"])
@pytest.mark.parametrize("order", [0, 1, 2])
@pytest.mark.parametrize("holes", [False, True])
def test_the_response_is_the_derivative_of_the_summed_background(
    kind: str, order: int, holes: bool
) -> None:
    """The sum of K times the pixels is the background summed over the aperture."""
    rng = np.random.default_rng(order)
    data = rng.normal(size=(6, COLUMNS))
    if holes:
        data[2, 3], data[4, 17:20] = np.nan, np.nan
    background = Background.from_edges((0.5, 6.5), (16.5, 22.5), bkg_fit=kind, bkg_order=order)
    result, aperture = fit(background, data)
    summed = (result.coefficients @ np.vander(X, background.bkg_order + 1, increasing=True).T) @ (
        aperture
    )
    pixels = np.where(result.used, data, 0.0)
    np.testing.assert_allclose((result.response * pixels).sum(axis=1), summed, atol=1e-12)
    variance = rng.uniform(1, 2, data.shape)
    expected = (np.where(result.used, result.response, 0.0) ** 2 * variance).sum(axis=1)
    np.testing.assert_allclose(result.variance(variance.copy()), expected, rtol=1e-12)


@given(seed=st.integers(0, 500), share=st.floats(0.0, 0.9))
def test_the_median_excludes_bad_pixels(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    data = rng.normal(size=(6, COLUMNS)).astype(np.float32)
    data[rng.random(data.shape) < share] = np.nan
    background = Background.from_edges((1.0, 6.0), (16.0, 22.5), bkg_fit="median")
    result, aperture = fit(background, data)
    inside = np.r_[2:6, 17:23]  # full pixels only
    for row, level, empty in zip(data[:, inside], result.level, result.empty, strict=True):
        assert empty == np.isnan(row).all()
        if not empty:
            assert level == np.median(row[~np.isnan(row)])
    count = result.used.sum(axis=1)
    np.testing.assert_allclose(
        result.variance(np.ones(data.shape)) * np.maximum(count, 1),
        np.where(count > 0, (1.2 * aperture.sum()) ** 2, 0.0),
        rtol=1e-12,
    )


def test_rows_without_valid_pixels_have_no_background() -> None:
    data = np.ones((6, COLUMNS))
    data[2] = np.nan
    for order in (0, 1):
        result, _ = fit(Background.from_edges((0.5, 6.5), bkg_order=order), data)
        assert result.empty.tolist() == [False, False, True, False, False, False]
        assert result.coefficients[2].tolist() == [0.0] * (order + 1)


@pytest.mark.parametrize("length", [3, 5, 9])
def test_smoothing_is_astropys_convolution(length: int) -> None:
    rng = np.random.default_rng(length)
    data = rng.normal(5.0, 1.0, (40, 7)).astype(np.float32)
    data[rng.random(data.shape) < 0.2] = np.nan
    data[10:22, 3] = np.nan
    background = Background.from_edges((0.5, 6.5), smoothing_length=length)
    kernel = np.ones((length, 1)) / length
    with pytest.warns(AstropyUserWarning, match="A contiguous region of NaN"):
        expected = convolve(data, kernel, boundary="extend")
    np.testing.assert_array_equal(background.smooth(data), expected)
    stack = np.stack([data, data[::-1]])
    np.testing.assert_array_equal(background.smooth(stack)[0], background.smooth(data))


def test_a_lone_bad_neighbour_does_not_spread_when_smoothing() -> None:
    data = np.ones((20, 3))
    data[7, 1] = np.inf
    smooth = Background.from_edges((0.5, 2.5), smoothing_length=3).smooth(data)
    assert np.isinf(smooth[6:9, 1]).all()
    assert np.isfinite(np.delete(smooth, [6, 7, 8], axis=0)).all()


def test_regions_off_the_image() -> None:
    with pytest.raises(LRSError, match=r"no background region .* has a pixel on the image"):
        Background.from_edges((-9.5, -3.5), (30.5, 40.5)).weights(WAVELENGTH)
    with pytest.warns(LRSWarning, match=r"region 31.00 to 40.00 has no pixel on the image"):
        weights = Background.from_edges((0.5, 3.5), (30.5, 40.5)).weights(WAVELENGTH)
    assert weights.values.sum() == 3.0
    with pytest.warns(LRSWarning, match=r"region 21.00 to 40.00 reaches beyond the image"):
        Background.from_edges((20.5, 40.5)).weights(WAVELENGTH)


def test_a_taper_beyond_the_image_warns_even_without_wavelengths() -> None:
    wavelength = np.full((40, 30), np.nan)
    wavelength[5:35, 4:26] = np.linspace(5.0, 12.0, 30)[:, np.newaxis]
    taper = Background(bkg_coeff=((20.0, 0.1), (24.0, 1.5)), independent_var="wavelength")
    with pytest.warns(LRSWarning, match=r"the background region .* reaches beyond the image"):
        weights = taper.weights(wavelength)
    assert not weights.empty


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"bkg_fit": "medain"}, "bkg_fit is 'medain', expected 'mean', 'median', 'poly'"),
        ({"bkg_order": -1}, "bkg_order is -1, expected a whole number of 0 or more"),
        ({"bkg_order": 1.5}, "bkg_order is 1.5, expected a whole number of 0 or more"),
        ({"bkg_order": "1"}, "bkg_order is '1', expected a number"),
        ({"smoothing_length": None}, "smoothing_length is null, expected a number"),
        ({"bkg_coeff": None}, "bkg_coeff is missing"),
        ({"bkg_coeff": [[4.5], [4.9]]}, "bkg_coeff region 1 goes from 4.5 to 4.9"),
    ],
)
def test_errors_name_the_parameter(values: dict[str, Any], message: str) -> None:
    with pytest.raises(LRSError, match=message):
        Background(**{"bkg_coeff": [[0.5], [4.5]]} | values)


@pytest.mark.parametrize(("requested", "used"), [(4, 3), (2, 0), (-5, 0), (4.6, 5), (1, 0)])
def test_smoothing_lengths_that_the_pipeline_changes_warn(requested: float, used: int) -> None:
    with pytest.warns(LRSWarning, match=f"smoothing_length is {requested:g}.*{used} is used"):
        assert check_smoothing(requested) == used


def test_mean_is_a_polynomial_of_order_0() -> None:
    background = Background.from_edges((0.5, 4.5), bkg_fit="mean", bkg_order=3)
    assert (background.bkg_fit, background.bkg_order) == ("poly", 0)


def test_order() -> None:
    """Only a polynomial has an order."""
    edges = ((1.0,), (5.0,))
    assert Background(bkg_coeff=edges, bkg_order=2).order == 2
    assert Background(bkg_coeff=edges, bkg_order=2, bkg_fit="median").order == 0
    assert Background(bkg_coeff=edges, bkg_fit="mean").order == 0  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"bkg_order": 101}, "bkg_order is 101, expected at most 100"),
        ({"bkg_order": 10**7}, "bkg_order is 10000000, expected at most 100"),
        ({"smoothing_length": 10**9 + 1}, "smoothing_length is 1000000001, expected at most 2047"),
        ({"bkg_coeff": [[1.0], [3.0]] * 1001}, "bkg_coeff has 2002 edges, expected at most 2000"),
        (
            {"bkg_coeff": [[1.0] * 102, [3.0]]},
            r"bkg_coeff\[0\] has 102 coefficients, expected at most 101",
        ),
        ({"bkg_coeff": [[1e16], [3e16]]}, r"bkg_coeff\[0\] is 1e\+16, expected at most 1e\+15"),
    ],
)
def test_values_that_would_take_all_time_or_memory(keys: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message):
        Background(**{"bkg_coeff": [[1.0], [3.0]], **keys})


def test_smoothing_over_more_rows_than_an_image_has() -> None:
    wavelength = np.broadcast_to(np.linspace(5.0, 14.0, 20)[:, np.newaxis], (20, 30))
    regions = Background.from_edges((1.5, 5.5), smoothing_length=39)
    assert not regions.weights(wavelength).empty
    longer = replace(regions, smoothing_length=41)
    with pytest.raises(ApertureError, match="is 41, expected at most 39 for an image of 20 rows"):
        longer.weights(wavelength)


def test_the_largest_values_that_are_accepted_are_fast() -> None:
    image = slit()
    regions = [[20.5] + [0.0] * 100, [24.5]] * 1000
    start = time.process_time()
    for keys in ({"bkg_order": 100}, {"bkg_coeff": regions}, {"smoothing_length": 79}):
        operator = Extract1D(
            aperture=Aperture(xstart=9, xstop=16),
            background=Background(**{"bkg_coeff": [[20.5], [28.5]], **keys}),
            use_source_posn=False,
        )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            assert np.isfinite(operator.run(image).columns["FLUX"]).any()
    assert time.process_time() - start < 20.0
