"""Initial sources of an optimal extraction: all sources, each with its negative traces."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from glue_lrs.errors import LRSWarning, ProductError, ReferenceFileError, SourceError
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.extraction.optimal_result import OptimalResult
from glue_lrs.fitting.cutout import Cutout
from glue_lrs.fitting.initial_sources import BlendDiagnostics, initial_sources
from glue_lrs.fitting.options import FitOptions
from glue_lrs.fitting.source_fit import SourceFit
from glue_lrs.measurement.measure import measure
from glue_lrs.profiles import EmpiricalProfile
from glue_lrs.profiles.shape_modes import shape_modes
from glue_lrs.simulation.optics import PIXEL_SCALE, PSF
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated

THROW = 17.9  # columns


def made(
    others: dict[float, float],
    seed: int = 0,
    how: Callable[[Scene], Simulated] = lambda scene: scene.s2d(1),
) -> Simulated:
    """A source of 1 mJy, and others: their flux in mJy by their distance in columns."""
    sources = [Source(flux=1e-3, halo=0.05)]
    sources += [
        Source(flux=flux * 1e-3, position=apart * PIXEL_SCALE, halo=0.05)
        for apart, flux in others.items()
    ]
    return how(Scene(sources=tuple(sources), seed=seed, bad_fraction=0.02))


def bias(result: OptimalResult, simulated: Simulated) -> float:
    extraction = result.extractions[0]
    rows = slice(extraction.keywords["EXTRYSTR"] - 1, extraction.keywords["EXTRYSTP"])
    flux, error = extraction.columns["FLUX"], extraction.columns["FLUX_ERROR"]
    known = np.isfinite(flux)
    off = (flux / simulated.truth.flux[rows] - 1.0)[known]
    return float(np.average(off, weights=(simulated.truth.flux[rows] / error)[known] ** 2))


@pytest.mark.parametrize("apart", [2.0, 4.0, 6.0, 8.0])
@pytest.mark.parametrize("seed", [0, 1])
def test_negative_traces_of_like_sources(apart: float, seed: int) -> None:
    """Negative traces of equal sources have equal depths: their distances identify them."""
    simulated = made({apart: 1.0}, seed)
    first = simulated.truth.column[190]
    operator = OptimalExtractor(position=(13.0, 13.0 + apart))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)  # on close sources
        result = operator.fit(simulated.image)
    np.testing.assert_allclose(
        result.traces[:, 190], first + np.array([0.0, apart, THROW, THROW + apart]), atol=0.05
    )
    assert abs(bias(result, simulated)) < 0.003


@pytest.mark.slow
@pytest.mark.parametrize(
    ("apart", "flux"), [(2.0, 1.0), (3.0, 0.5), (5.0, 1.0), (6.0, 0.03), (8.0, 10.0), (10.0, 0.09)]
)
def test_sources_that_are_not_requested(apart: float, flux: float) -> None:
    """Their light would become part of the profile, and of the flux."""
    simulated = made({apart: flux})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LRSWarning)
        result = OptimalExtractor().fit(simulated.image)
    assert len(result.extractions) == 1  # that of the target
    np.testing.assert_allclose(result.traces[0], simulated.truth.column, atol=0.05)
    assert abs(bias(result, simulated)) < 0.003
    residual = result.normalised_residual()
    assert np.nanstd(residual) < 1.3


@pytest.mark.slow
@pytest.mark.parametrize("how", ["cal", "calints", "combined"])
def test_a_neighbour_in_other_products(how: str) -> None:
    products: dict[str, Callable[[Scene], Simulated]] = {
        "cal": lambda s: s.cal(1, full_frame=False),
        "calints": lambda s: s.calints(4),
        "combined": lambda s: s.combined(),
    }
    simulated = made({7.0: 0.2}, how=products[how])
    result = OptimalExtractor().fit(simulated.image)
    known = np.isfinite(result.traces[0]) & np.isfinite(simulated.truth.column)
    assert np.abs(result.traces[0] - simulated.truth.column)[known].max() < 0.05
    assert np.abs(result.traces[1] - result.traces[0] - 7.0)[known].max() < 0.1


def test_a_single_source_needs_no_careful_search() -> None:
    for how in (lambda s: s.s2d(1), lambda s: s.cal(1, full_frame=False), lambda s: s.calints(4)):
        cutout = Cutout.from_image(made({}, how=how).image)
        start = initial_sources(FitOptions(), cutout, cutout.mean())
        assert not start.careful
        assert start.positives == 1
        assert start.target_found


def test_a_position_without_a_source_raises_an_error() -> None:
    image = made({}).image
    for column in (-3.0, 21.0):
        asked = OptimalExtractor(position=column)
        with pytest.raises(
            SourceError, match=rf"no source at column {column:.2f}.* at column 13.0"
        ):
            asked.fit(image)
    with pytest.raises(SourceError, match=r"no source at column 16.00, the nearest source is at"):
        OptimalExtractor(position=16.0).fit(image)


def test_a_fixed_position_is_that_of_the_header() -> None:
    simulated = made({})
    image = simulated.image
    result = OptimalExtractor(fit_position=False).fit(image)
    assert result.traces[0, 190] == pytest.approx(13.0454, abs=1e-3)
    assert np.isnan(result.position_errors[0])
    provenance = result.extractions[0].provenance
    assert provenance is not None
    assert provenance["position"]["column_error"] is None
    asked = OptimalExtractor(fit_position=False, position=20.5).fit(image)
    assert asked.traces[0, 190] == 20.5


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flux", "others", "seed"),
    [
        (1e-3, {5.0: 1.0}, 0),
        (1e-3, {8.0: 10.0}, 2),
        (1.2e-4, {-2.8: 0.053, 5.0: 6.2}, 12),
        (1.2e-3, {-5.2: 0.126, 4.5: 9.145}, 16),
        (6e-3, {7.6: 0.106, 4.3: 1.217}, 2),
    ],
)
def test_bright_blends_are_measured(flux: float, others: dict[float, float], seed: int) -> None:
    """Light of sources not yet found must neither shape the profile nor be rejected."""
    sources = [Source(flux=flux, halo=0.05)]
    sources += [
        Source(flux=flux * part, position=apart * PIXEL_SCALE, halo=0.05)
        for apart, part in others.items()
    ]
    simulated = Scene(sources=tuple(sources), seed=seed, bad_fraction=0.02).s2d(1)
    true = simulated.truth.column[190] + np.array([0.0, *others])
    found = measure(simulated.image, max_sources=8)
    columns = [source.column for source in found.sources if source.kind != "negative"]
    np.testing.assert_allclose(np.sort(columns), np.sort(true), atol=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("stretch", [1.0, 1.2])
def test_a_point_source_causes_no_warning(stretch: float) -> None:
    psf = PSF(fwhm=tuple(stretch * width for width in PSF().fwhm))
    for flux in (1e-5, 1e-3):
        image = Scene(psf=psf, sources=(Source(flux=flux),), seed=4).s2d(1).image
        OptimalExtractor().fit(image)  # a warning is an error in the tests


@pytest.mark.slow
def test_a_broad_source_causes_a_warning() -> None:
    psf = PSF(fwhm=tuple(1.4 * width for width in PSF().fwhm))
    image = Scene(psf=psf, sources=(Source(flux=2e-3),), seed=3).s2d(1).image
    text = r"is 1\.6\d times as wide as a point source should be: the flux includes"
    with pytest.warns(LRSWarning, match=text):
        result = OptimalExtractor().fit(image)
    assert result.positive.tolist() == [True, False]
    assert any("1.6" in one.text for one in result.extractions[0].findings)


def test_an_asymmetric_profile_causes_a_warning() -> None:
    """A companion that is too close to be separated."""
    odd = np.zeros((shape_modes().number, 1))
    odd[np.flatnonzero(~shape_modes().even)[0]] = 1.5
    profile = EmpiricalProfile(domain=(4.0, 14.0), coefficients=odd)
    fit = SourceFit(profile, np.zeros((1, 5)), 1000.0, 1.0, 1.0, np.zeros(1))
    found = BlendDiagnostics.from_fit(fit).warning
    assert found is not None
    assert "of the light on one side only" in found
    assert (
        BlendDiagnostics.from_fit(replace(fit, signal_to_noise=10.0)).warning is None
    )  # it may be noise


def test_noise_next_to_a_bright_negative_trace_is_no_source() -> None:
    simulated = Scene(sources=(Source(flux=2e-3),), seed=2).s2d(1)
    data = simulated.image.data.copy()
    data[:, :24] -= np.nan_to_num(simulated.image.data - 0.0)[:, :24]  # remove the source
    rng = np.random.default_rng(1)
    noise = np.sqrt(np.nanmedian(simulated.image.var_rnoise))
    data[:, 1:24] += rng.normal(0.0, noise, (len(data), 23)).astype(np.float32)
    image = replace(simulated.image, data=data)
    with pytest.warns(LRSWarning, match="no source was found; the position is fixed"):
        result = OptimalExtractor().fit(image)
    assert result.traces[0, 193] == pytest.approx(simulated.truth.column[193], abs=0.01)
    assert np.isnan(result.position_errors).all()


def test_pixels_of_negative_variance_do_not_count() -> None:
    simulated = Scene(sources=(Source(flux=1e-3),), seed=2).s2d(1)
    variance = simulated.image.var_rnoise.copy()
    variance[100:110, 12] = -1e9
    data = simulated.image.data.copy()
    data[100:110, 12] = 1e6
    one = OptimalExtractor().run(replace(simulated.image, data=data, var_rnoise=variance))
    data[100:110, 12] = np.nan
    other = OptimalExtractor().run(replace(simulated.image, data=data))
    np.testing.assert_allclose(one.columns["FLUX"], other.columns["FLUX"], rtol=1e-9)
    with pytest.raises(ProductError, match="every pixel is NaN, flagged, or has no usable"):
        OptimalExtractor().run(replace(simulated.image, var_rnoise=np.full_like(variance, -1e9)))


@pytest.mark.slow
@pytest.mark.parametrize("fraction", [0.25, 0.3, 0.36])
def test_a_companion_of_one_image_alone_is_found(fraction: float) -> None:
    """Two columns away, and without a negative trace: many pixels disagree with one source."""
    simulated = Scene(sources=(Source(flux=2e-4),), seed=1, bad_fraction=0.005).s2d(1)
    bright = np.where(np.arange(simulated.image.shape[1]) < 22, simulated.image.data, 0.0)
    data = simulated.image.data + fraction * np.nan_to_num(np.roll(bright, 2, axis=1))
    result = OptimalExtractor().fit(replace(simulated.image, data=data.astype(np.float32)))
    assert result.positive.tolist()[:2] == [True, True]
    assert result.traces[1, 193] - result.traces[0, 193] == pytest.approx(2.0, abs=0.1)
    assert abs(bias(result, simulated)) < 0.01


def test_many_rejected_pixels_cause_a_warning() -> None:
    simulated = Scene(sources=(Source(flux=1e-3),), seed=1).s2d(1)
    hit = np.random.default_rng(1).random(simulated.image.shape) < 0.12
    data = np.where(hit, 1e4, simulated.image.data).astype(np.float32)
    with pytest.warns(LRSWarning, match=r"\d+% of the pixels on the source were rejected"):
        OptimalExtractor(position=13.05).fit(replace(simulated.image, data=data))


def test_header_and_data_may_differ_by_half_a_column() -> None:
    for error, reported in ((0.04, False), (0.08, True)):  # arcsec
        simulated = Scene(pointing_error=error, sources=(Source(flux=1e-3),), seed=1).s2d(1)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # an info is no warning
            found = OptimalExtractor().run(simulated.image).findings
        assert any(one.kind == "header_off" for one in found) is reported
        assert measure(simulated.image).agrees is not reported


def test_positions_that_coincide_raise_an_error() -> None:
    with pytest.raises(ReferenceFileError, match=r"position is \[13.0, 13.2\], expected columns"):
        OptimalExtractor(position=[13.0, 13.2])


@pytest.mark.filterwarnings("ignore:.*of the pixels on the source were rejected")
def test_a_background_as_narrow_as_the_source_causes_a_warning() -> None:
    image = Scene(sources=(Source(flux=1e-3),), seed=1).s2d(1).image
    with pytest.warns(LRSWarning, match="a background of order 8 can fit the source"):
        OptimalExtractor(bkg_order=8).fit(image)
    OptimalExtractor(bkg_order=2).fit(image)
