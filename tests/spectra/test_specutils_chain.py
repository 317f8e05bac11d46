"""Analysis of extracted spectra with specutils, compared with NumPy and the true spectrum."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from astropy import constants
from astropy import units as u
from astropy.utils.exceptions import AstropyUserWarning
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from specutils import SpectralRegion, Spectrum
from specutils.analysis import centroid, equivalent_width, line_flux, snr, template_correlate
from specutils.fitting import find_lines_derivative, fit_generic_continuum
from specutils.manipulation import (
    FluxConservingResampler,
    LinearInterpolatedResampler,
    SplineInterpolatedResampler,
    box_smooth,
    extract_region,
    gaussian_smooth,
    median_smooth,
    trapezoid_smooth,
)

from glue_lrs.apertures.aperture import Aperture
from glue_lrs.extraction.extract1d import Extract1D
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import FIXED_SLIT

Array = NDArray[np.float64]

ROWS = 240
CENTRE, SIGMA, PEAK = 9.0, 0.15, 3e-3
#: Rows whose aperture is lost: both ends, a pair in the continuum, the flank of the line.
BAD = {"good": [], "bad": [0, 60, 61, 136, ROWS - 1]}
#: Descending, uneven, with a row on the line's centre.
WAVE = 14.0 - 9.0 * (np.arange(ROWS) / (ROWS - 1)) ** 0.9
WAVE = WAVE - (WAVE[np.argmin(np.abs(WAVE - CENTRE))] - CENTRE)
LINE = SpectralRegion(8 * u.um, 10 * u.um)
GRID = np.linspace(5.5, 13.0, 111) * u.um


def continuum(wave: Array) -> Array:
    return 2e-3 + 1e-4 * wave


def line(wave: Array, centre: float = CENTRE) -> Array:
    return PEAK * np.exp(-0.5 * ((wave - centre) / SIGMA) ** 2)


def extract(bad: list[int], centre: float = CENTRE) -> Spectrum:
    """The spectrum of a slit image without noise; all errors are 1% of the continuum."""
    width, area = 6, 2.86e-13
    per_pixel = 1.0 / (width * area * 1e6)
    flux = (continuum(WAVE) + line(WAVE, centre)) * per_pixel
    data = np.repeat(flux[:, np.newaxis], 12, axis=1)
    data[bad] = np.nan
    error = 0.01 * continuum(WAVE) * per_pixel * np.sqrt(width)
    image = SlitImage(
        data=data,
        var_rnoise=np.repeat(error[:, np.newaxis], 12, axis=1) ** 2,
        wavelength=np.repeat(WAVE[:, np.newaxis], 12, axis=1),
        unit=u.MJy / u.sr,
        exp_type=FIXED_SLIT,
        pixel_area=area,
    )
    return Extract1D(aperture=Aperture(xstart=3, xstop=8))(image)


@pytest.fixture(params=BAD)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def spectrum(kind: str) -> Spectrum:
    return extract(BAD[kind])


@pytest.fixture
def wave() -> Array:
    return WAVE[::-1]


@pytest.fixture
def good(kind: str) -> NDArray[np.bool_]:
    return ~np.isin(np.arange(ROWS), BAD[kind])[::-1]


@pytest.fixture
def flux(wave: Array, good: NDArray[np.bool_]) -> Array:
    """Expected flux: the true flux, interpolated linearly across bad rows."""
    truth = continuum(wave) + line(wave)
    return np.interp(wave, wave[good], truth[good])


@pytest.fixture
def error(wave: Array, good: NDArray[np.bool_]) -> Array:
    return np.interp(wave, wave[good], 0.01 * continuum(wave[good]))


@pytest.fixture
def bare(spectrum: Spectrum, wave: Array) -> Spectrum:
    """The spectrum without its continuum."""
    return spectrum - continuum(wave) * u.Jy


def edges(wave: Array) -> Array:
    middle = (wave[1:] + wave[:-1]) / 2
    return np.concatenate([[2 * wave[0] - middle[0]], middle, [2 * wave[-1] - middle[-1]]])


def test_the_spectrum_is_the_truth(
    spectrum: Spectrum, wave: Array, flux: Array, error: Array, good: NDArray[np.bool_]
) -> None:
    np.testing.assert_allclose(spectrum.spectral_axis.value, wave, rtol=1e-14)
    np.testing.assert_allclose(spectrum.flux.to_value(u.Jy), flux, rtol=1e-12)
    np.testing.assert_allclose(spectrum.uncertainty.quantity.to_value(u.Jy), error, rtol=1e-12)
    if good.all():
        assert spectrum.mask is None
    else:
        np.testing.assert_array_equal(spectrum.mask, ~good)


def test_line_flux(bare: Spectrum, wave: Array, error: Array) -> None:
    found = line_flux(bare, LINE)
    truth = np.sqrt(2 * np.pi) * PEAK * SIGMA
    assert found.to_value("Jy um") == pytest.approx(truth, rel=3e-3)
    inside = (wave >= 8) & (wave <= 10)
    widths = np.diff(edges(wave[inside]))
    expected = np.sqrt(np.sum((error[inside] * widths) ** 2))
    assert found.uncertainty.to_value("Jy um") == pytest.approx(expected, rel=1e-9)


def test_line_flux_of_everything(
    spectrum: Spectrum, wave: Array, flux: Array, good: NDArray[np.bool_]
) -> None:
    """specutils interpolates linearly across masked rows, with 0 beyond the good ones."""
    inside = np.zeros(ROWS, dtype=bool)
    inside[np.flatnonzero(good)[0] : np.flatnonzero(good)[-1] + 1] = True
    expected = np.sum(np.where(inside, flux, 0.0) * np.diff(edges(wave)))
    assert line_flux(spectrum).to_value("Jy um") == pytest.approx(expected, rel=1e-9)


def test_equivalent_width(
    spectrum: Spectrum, wave: Array, flux: Array, good: NDArray[np.bool_]
) -> None:
    normal = spectrum / (continuum(wave) * u.Jy)
    found = equivalent_width(normal, regions=LINE).to_value("um")
    truth = -np.sqrt(2 * np.pi) * PEAK * SIGMA / continuum(CENTRE)
    assert found == pytest.approx(truth, rel=0.01)
    inside = (wave >= 8) & (wave <= 10) & good  # masked rows are excluded
    x, y = wave[inside], flux[inside] / continuum(wave[inside])
    widths = np.diff(edges(x))
    expected = np.sum(widths) * (1 - np.sum(y * widths) / np.sum(widths))
    assert found == pytest.approx(expected, rel=1e-9)


def test_fit_generic_continuum(spectrum: Spectrum, wave: Array) -> None:
    with pytest.warns(AstropyUserWarning, match="Model is linear"):  # its own default fitter
        fitted = fit_generic_continuum(
            spectrum, exclude_regions=[SpectralRegion(7.8 * u.um, 10.2 * u.um)]
        )
    # The median filter uses 0 for the values beyond the ends.
    found = fitted(wave[5:-5] * u.um).to_value(u.Jy)
    np.testing.assert_allclose(found, continuum(wave[5:-5]), rtol=1e-3)


def test_linear_resampler(spectrum: Spectrum, wave: Array, flux: Array) -> None:
    found = LinearInterpolatedResampler()(spectrum, GRID)
    np.testing.assert_allclose(found.flux.value, np.interp(GRID.value, wave, flux), rtol=1e-12)
    assert np.isfinite(found.uncertainty.array).all()
    assert found.mask is None  # a resampler drops the mask


def test_flux_conserving_resampler(
    spectrum: Spectrum, wave: Array, flux: Array, error: Array
) -> None:
    found = FluxConservingResampler()(spectrum, GRID)
    old, new = edges(wave), edges(GRID.value)
    overlap = np.clip(
        np.minimum(new[1:, np.newaxis], old[1:]) - np.maximum(new[:-1, np.newaxis], old[:-1]),
        0,
        None,
    )
    np.testing.assert_allclose(found.flux.value, overlap @ flux / overlap.sum(axis=1), rtol=1e-10)
    integral = np.sum(found.flux.value * np.diff(new))
    assert integral == pytest.approx(np.sum(overlap @ flux), rel=1e-12)
    assert np.isfinite(found.uncertainty.array).all()
    assert (found.uncertainty.array > 0).all()
    assert found.mask is None


def test_spline_resampler(spectrum: Spectrum, wave: Array, flux: Array) -> None:
    found = SplineInterpolatedResampler()(spectrum, GRID)
    np.testing.assert_allclose(found.flux.value, CubicSpline(wave, flux)(GRID.value), rtol=1e-9)
    assert found.mask is None


def weights_of_gauss() -> Array:
    values = np.exp(-0.5 * (np.arange(-8, 9) / 2.0) ** 2)
    return values / values.sum()


@pytest.mark.parametrize(
    ("smooth", "weights"),
    [
        (lambda s: box_smooth(s, 5), np.full(5, 0.2)),
        (lambda s: gaussian_smooth(s, 2), weights_of_gauss()),
        (lambda s: trapezoid_smooth(s, 5), np.array([0.5, 1, 1, 1, 1, 1, 0.5]) / 6),
    ],
    ids=["box", "gaussian", "trapezoid"],
)
def test_smoothers(
    spectrum: Spectrum, flux: Array, smooth: Callable[[Spectrum], Spectrum], weights: Array
) -> None:
    found = smooth(spectrum)
    half = len(weights) // 2
    inside = slice(half, -half)
    expected = np.convolve(flux, weights, "valid")
    np.testing.assert_allclose(found.flux.value[inside], expected, rtol=1e-9)
    assert np.isfinite(found.uncertainty.array).all()
    if spectrum.mask is None:
        assert found.mask is None
    else:  # although the filled values are used
        np.testing.assert_array_equal(found.mask, spectrum.mask)


def test_median_smooth(spectrum: Spectrum, flux: Array) -> None:
    found = median_smooth(spectrum, 5)
    expected = np.median(np.lib.stride_tricks.sliding_window_view(flux, 5), axis=1)
    np.testing.assert_allclose(found.flux.value[2:-2], expected, rtol=1e-12)


# specutils divides 0 by 0 beyond the ends of the resampled spectrum and ignores the result; older
# versions of its dependencies warn about it
@pytest.mark.filterwarnings("ignore:invalid value encountered in divide:RuntimeWarning")
@pytest.mark.parametrize("redshift", [0.0, 0.02, -0.03])
def test_template_correlate(bare: Spectrum, wave: Array, redshift: float) -> None:
    template = extract([], CENTRE / (1 + redshift)) - continuum(wave) * u.Jy
    values, lags = template_correlate(bare, template)
    assert np.isfinite(values).all()
    found = lags[np.argmax(values)].to_value("km/s")
    step = np.min(np.diff(np.log(wave))) * constants.c.to_value("km/s")
    assert found == pytest.approx(redshift * constants.c.to_value("km/s"), abs=1.6 * step)


def test_extract_region(
    spectrum: Spectrum, wave: Array, flux: Array, error: Array, good: NDArray[np.bool_]
) -> None:
    found = extract_region(spectrum, LINE)
    inside = (wave >= 8) & (wave <= 10)
    np.testing.assert_allclose(found.spectral_axis.value, wave[inside], rtol=1e-14)
    np.testing.assert_allclose(found.flux.value, flux[inside], rtol=1e-12)
    np.testing.assert_allclose(found.uncertainty.array, error[inside], rtol=1e-12)
    if found.mask is not None:
        np.testing.assert_array_equal(found.mask, ~good[inside])


def test_centroid(bare: Spectrum, wave: Array, good: NDArray[np.bool_]) -> None:
    found = centroid(bare, LINE)
    inside = (wave >= 8) & (wave <= 10) & good  # masked rows are excluded
    truth = line(wave[inside])
    expected = np.sum(wave[inside] * truth) / np.sum(truth)
    assert found.to_value("um") == pytest.approx(expected, rel=1e-9)
    assert found.to_value("um") == pytest.approx(CENTRE, abs=0.01)
    sigma = 0.01 * continuum(wave[inside])
    spread = np.sqrt(np.sum((sigma * (wave[inside] - expected)) ** 2)) / np.sum(truth)
    assert found.uncertainty.to_value("um") == pytest.approx(spread, rel=1e-6)


def test_snr(spectrum: Spectrum, wave: Array, good: NDArray[np.bool_]) -> None:
    truth = (continuum(wave) + line(wave)) / (0.01 * continuum(wave))
    assert float(snr(spectrum)) == pytest.approx(np.mean(truth[good]), rel=1e-9)
    inside = (wave >= 11) & (wave <= 13) & good
    found = float(snr(spectrum, SpectralRegion(11 * u.um, 13 * u.um)))
    assert found == pytest.approx(np.mean(truth[inside]), rel=1e-9)
    assert found == pytest.approx(100.0, rel=1e-3)


def test_find_lines_derivative(bare: Spectrum, wave: Array) -> None:
    found = find_lines_derivative(bare, flux_threshold=1e-4 * u.Jy)
    assert found["line_type"].tolist() == ["emission"]
    assert found["line_center"][0].to_value("um") == pytest.approx(
        CENTRE, abs=1.01 * np.diff(wave).max()
    )  # specutils may find a neighbour of the highest row


def test_flux_units(spectrum: Spectrum, wave: Array, flux: Array, error: Array) -> None:
    found = spectrum.with_flux_unit("mJy")
    np.testing.assert_allclose(found.flux.value, 1e3 * flux, rtol=1e-12)
    np.testing.assert_allclose(found.uncertainty.quantity.to_value("mJy"), 1e3 * error, rtol=1e-12)
    found = spectrum.with_flux_unit("erg / (s cm2 AA)")
    # c / lambda^2 with c in angstrom a second, lambda in angstrom; 1 Jy is 1e-23 erg/s/cm2/Hz
    factor = 1e-23 * constants.c.to_value("AA/s") / (1e4 * wave) ** 2
    np.testing.assert_allclose(found.flux.value, factor * flux, rtol=1e-10)


def test_axis_units(spectrum: Spectrum, wave: Array, flux: Array) -> None:
    found = spectrum.with_spectral_axis_unit(u.GHz)
    expected = constants.c.to_value("um GHz") / wave
    np.testing.assert_allclose(found.spectral_axis.value, expected, rtol=1e-12)
    np.testing.assert_allclose(found.flux.value, flux, rtol=1e-12)
