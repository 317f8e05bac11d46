"""Measurements of simulated scenes agree with the truth within correct errors.

The yardstick for positions is the Cramer-Rao bound of the scene: the least standard deviation that
any unbiased estimate can have, with everything but the position known. It is worked out here from
the scene's own truth.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
from scipy.optimize import brentq

from glue_lrs import Aperture, Extract1D, LRSError
from glue_lrs.errors import MeasurementError, ProductError, ReferenceFileError, SourceError
from glue_lrs.extraction.optimal import OptimalExtractor
from glue_lrs.image.slit_image import SlitImage
from glue_lrs.instrument import expected_fwhm
from glue_lrs.measurement.curve_of_growth import curve_of_growth, measure_with_growth
from glue_lrs.measurement.measure import aperture_at_source, measure
from glue_lrs.measurement.measurement import Measurement
from glue_lrs.measurement.report import measurement_dict, measurement_report
from glue_lrs.simulation.optics import PIXEL_AREA, PIXEL_SCALE, PSF
from glue_lrs.simulation.scene import Scene
from glue_lrs.simulation.spectra import Source
from glue_lrs.simulation.truth import Simulated, Truth

pytestmark = pytest.mark.slow

#: Signal to noise of the median row of a nod-subtracted s2d, and the flux in Jy that gives it.
FLUX = {3: 3.8e-6, 30: 4.42e-5, 300: 1.245e-3}
#: The same for the small images, which have long wavelengths only.
SMALL_FLUX = {3: 1.3e-5, 30: 1.53e-4, 300: 4.58e-3}
#: Rows and columns of the small images, which are measured quickly.
SMALL = (130, 45)


def made(snr: int, seed: int, small: bool = False, **changes: Any) -> Scene:
    """A scene with 2% bad pixels and a flat error that allows the signal to noise."""
    level = (SMALL_FLUX if small else FLUX)[snr]
    values: dict[str, Any] = {
        "sources": (Source(flux=lambda wave: level * (wave / 7.0) ** -1),),
        "bad_fraction": 0.02,
        "flat_error": 2e-4 if snr > 100 else 0.003,
        "seed": seed,
    }
    return Scene(**values | changes)


def hit(image: SlitImage, number: int, seed: int) -> SlitImage:
    """The image with unflagged cosmic rays."""
    rng = np.random.default_rng([seed, 1])
    rows, columns = (rng.integers(1, size - 1, number) for size in image.shape)
    data = image.data.copy()
    assert image.err is not None
    data[rows, columns] += rng.uniform(10, 1000, number) * np.nanmedian(image.err)
    return replace(image, data=data)


def profile_at(truth: Truth, columns: int, shift: float = 0.0) -> np.ndarray:
    """Light of the target, displaced by `shift` columns, in each pixel for unit flux."""
    edges = np.arange(columns + 1) - 0.5
    x = (edges - truth.column[:, np.newaxis] - shift) * PIXEL_SCALE
    below = truth.psf.cumulative(x, truth.wavelength[:, np.newaxis], truth.halo)
    return np.diff(below, axis=1)


def bound(simulated: Simulated) -> tuple[float, float]:
    """Cramer-Rao bound of the position in columns, and signal to noise of the median row."""
    truth, image = simulated.truth, simulated.image
    variance = truth.var_poisson + truth.var_rnoise + truth.var_flat
    good = np.isfinite(image.data) & np.isfinite(variance)
    if image.dq is not None:
        good &= (image.dq & 1) == 0
    flux = (truth.flux / (PIXEL_AREA * 1e6))[:, np.newaxis]
    step, columns = 1e-4, image.shape[1]
    slope = flux * (profile_at(truth, columns, step) - profile_at(truth, columns, -step))
    slope /= 2 * step
    light = flux * profile_at(truth, columns)
    with np.errstate(invalid="ignore"):
        information = np.where(good, slope**2 / variance, 0.0).sum()
        snr = np.sqrt(np.where(good, light**2 / variance, 0.0).sum(axis=1))
    return 1.0 / np.sqrt(information), float(np.median(snr[snr > 0]))


def true_fwhm(psf: PSF, wavelength: float, halo: float) -> float:
    """FWHM of core and halo together in arcsec."""

    def density(x: float) -> float:
        low, high = (float(psf.cumulative(x + d, wavelength, halo)) for d in (-1e-5, 1e-5))
        return (high - low) / 2e-5

    return 2.0 * brentq(lambda x: density(x) - density(0.0) / 2.0, 0.02, 1.0)


@dataclass(frozen=True)
class Trial:
    """A measurement of a scene and its difference from the truth."""

    found: Measurement
    truth: Truth
    bound: float

    @property
    def difference(self) -> float:
        """Measured minus true position in columns."""
        return self.found.column - float(self.truth.column[self.found.row])

    @property
    def centroid_pulls(self) -> np.ndarray:
        known = np.flatnonzero(np.isfinite(self.truth.column))
        true = np.interp(self.found.band_rows, known, self.truth.column[known])
        return (self.found.target.centroid - true) / self.found.target.centroid_error

    @property
    def width_pulls(self) -> np.ndarray:
        true = [true_fwhm(self.truth.psf, w, self.truth.halo) for w in self.found.bands]
        return (self.found.fwhm - np.array(true)) / self.found.fwhm_error


@pytest.fixture(scope="module")
def trials() -> dict[int, list[Trial]]:
    """Many small images at each signal to noise, bad pixels and cosmic rays in all of them."""
    out: dict[int, list[Trial]] = {}
    for snr in FLUX:
        out[snr] = []
        for seed in range(36):
            error = np.random.default_rng(seed).uniform(-0.5, 0.5) * PIXEL_SCALE
            simulated = made(snr, seed, True, pointing_error=error).s2d(nod=1, shape=SMALL)
            found = measure(hit(simulated.image, 15, seed))
            out[snr].append(Trial(found, simulated.truth, bound(simulated)[0]))
    return out


@pytest.mark.parametrize("snr", FLUX)
def test_the_position_is_as_good_as_it_can_be(trials: dict[int, list[Trial]], snr: int) -> None:
    ratios = np.array([trial.difference / trial.bound for trial in trials[snr]])
    assert np.sqrt(np.mean(ratios**2)) < 1.2
    errors = np.array([trial.found.column_error / trial.bound for trial in trials[snr]])
    # The other free parameters increase the error only slightly, and it includes them.
    assert 0.95 < errors.mean() < 1.1


def test_errors_match_the_scatter(trials: dict[int, list[Trial]]) -> None:
    every = [trial for group in trials.values() for trial in group]
    position = np.array([trial.difference / trial.found.column_error for trial in every])
    assert 0.83 < position.std() < 1.17  # 108 values: 1 +- 0.07
    for pulls in (
        np.concatenate([trial.centroid_pulls for trial in every]),
        np.concatenate([trial.width_pulls for trial in every]),
    ):
        assert pulls.size > 800
        assert 0.95 < pulls.std() < 1.05
        assert abs(pulls.mean()) < 0.15
        assert np.abs(pulls).max() < 5.0


@pytest.mark.parametrize("snr", FLUX)
def test_outliers_are_not_taken_for_sources(trials: dict[int, list[Trial]], snr: int) -> None:
    for trial in trials[snr]:
        assert [source.kind for source in trial.found.sources] == ["target", "negative"]
        assert 5 <= trial.found.rejected <= 20  # 15 cosmic rays, some of them on bad pixels
        assert trial.found.noise_factor == 1.0
        negative = trial.found.others[0]
        true = float(trial.truth.negative[0][trial.found.row])
        assert abs(negative.column - true) < 5 * negative.column_error
        assert abs(negative.flux_ratio + 1.0) < 6 * negative.flux_ratio_error + 0.002


@pytest.mark.parametrize("snr", FLUX)
def test_a_full_s2d(snr: int) -> None:
    simulated = made(snr, 5, pointing_error=0.02).s2d(nod=2)
    least, reached = bound(simulated)
    assert reached == pytest.approx(snr, rel=0.15)
    image = hit(simulated.image, 40, 5)
    planes = {name: getattr(image, name).copy() for name in ("data", "err", "var_poisson")}
    trial = Trial(measure(image), simulated.truth, least)
    for name, plane in planes.items():
        np.testing.assert_array_equal(getattr(image, name), plane)  # inputs are never changed
    found = trial.found
    assert abs(trial.difference) < 4 * least
    assert 0.95 < found.column_error / least < 1.1
    assert np.abs(trial.centroid_pulls).max() < 5
    assert np.abs(trial.width_pulls).max() < 5
    for wave in (5.0, 7.5, 10.0, 12.0):
        width, error = found.width(wave)
        assert abs(width - true_fwhm(simulated.truth.psf, wave, 0.05)) < 5 * error
    assert found.agrees
    assert found.bend == 0.0


def test_the_curved_trace_of_an_unresampled_image() -> None:
    simulated = made(30, 1, pointing_error=0.03).cal(nod=2)
    found = measure(simulated.image)
    truth = simulated.truth.column
    known = np.isfinite(truth)
    np.testing.assert_array_equal(np.isfinite(found.trace), known)
    assert np.ptp(truth[known]) > 1.5
    away = (found.trace - truth)[known]
    assert np.abs(away).max() < 5 * found.column_error
    assert [source.kind for source in found.sources] == ["target", "negative"]
    terms, variable = found.center()
    assert variable == "pixel"
    rows = np.flatnonzero(known)
    assert np.abs(np.polynomial.polynomial.polyval(rows, terms) - found.trace[rows]).max() < 2e-3


def test_a_trace_that_leaves_the_wcs() -> None:
    """Half a column of tilt and bend that is not in the WCS."""
    simulated = made(300, 2).s2d(nod=1, subtract_nod=False)
    straight = measure(simulated.image)
    rows = np.arange(387)
    bend = 0.25 * (rows - 193) / 193 + 0.15 * ((rows - 193) / 193) ** 2
    data, planes = np.empty_like(simulated.image.data), {}
    truth = simulated.truth
    light = (truth.flux / (PIXEL_AREA * 1e6))[:, np.newaxis]
    moved = replace(truth, column=truth.column + bend)
    data = simulated.image.data + light * (profile_at(moved, 45) - profile_at(truth, 45))
    found = measure(replace(simulated.image, data=data, **planes))
    assert straight.bend == 0.0
    assert found.bend == pytest.approx(np.ptp(bend), abs=0.02)
    away = found.trace - moved.column
    assert np.nanmax(np.abs(away)) < 0.01


def test_both_negative_traces_of_a_combined_image() -> None:
    simulated = made(30, 3).combined()
    found = measure(simulated.image)
    assert [source.kind for source in found.sources] == ["target", "negative", "negative"]
    assert abs(found.column - simulated.truth.column[found.row]) < 4 * found.column_error
    columns = sorted(source.column for source in found.others)
    expected = sorted(float(trace[found.row]) for trace in simulated.truth.negative)
    np.testing.assert_allclose(columns, expected, atol=0.02)


@pytest.mark.parametrize("ratio", [1.0, 0.3])
@pytest.mark.parametrize("apart", [2.0, 3.0, 4.0, 6.0])
def test_blends_are_two_sources(apart: float, ratio: float) -> None:
    level = FLUX[30]
    sources = (
        Source(flux=lambda wave: level * (wave / 7.0) ** -1),
        Source(
            flux=lambda wave: ratio * level * (wave / 7.0) ** -0.5, position=apart * PIXEL_SCALE
        ),
    )
    simulated = made(30, 4, sources=sources, pointing_error=0.03).s2d(nod=1)
    found = measure(hit(simulated.image, 40, 4))
    positive = sorted(
        (source for source in found.sources if not source.negative), key=lambda s: s.column
    )
    assert len(positive) == 2
    assert len(found.sources) == 4
    true = float(simulated.truth.column[found.row])
    for source, column in zip(positive, (true, true + apart), strict=True):
        assert abs(source.column - column) < 4 * source.column_error
        assert source.column_error < 0.05
    assert positive[0].kind == "target"  # the source at the header's position
    if apart < 6.0:
        assert any("box contains flux from both" in note for note in found.notes)


@pytest.mark.parametrize("halo", [0.0, 0.12])
def test_one_source_stays_one(halo: float) -> None:
    level = FLUX[300]
    source = Source(flux=lambda wave: level * (wave / 7.0) ** -1, halo=halo)
    simulated = made(300, 6, sources=(source,), background=5.0).s2d(nod=1, subtract_nod=False)
    found = measure(simulated.image)
    assert [s.kind for s in found.sources] == ["target"]
    assert abs(found.column - simulated.truth.column[found.row]) < 4 * found.column_error
    assert found.point_spread.halo == pytest.approx(halo, abs=0.03)


@pytest.mark.parametrize("snr", [30, 300])
def test_a_broad_source_is_no_blend(snr: int) -> None:
    broad = PSF(fwhm=tuple(1.5 * width for width in (0.29, 0.30, 0.36, 0.42)))
    found = measure(made(snr, 7, psf=broad, background=5.0).s2d(nod=1, subtract_nod=False).image)
    assert [s.kind for s in found.sources] == ["target"]
    good = np.isfinite(found.fwhm)
    expected = expected_fwhm(found.bands[good])
    true = np.array([true_fwhm(broad, band, 0.05) for band in found.bands[good]]) / expected
    mean = np.average(true, weights=(expected / found.fwhm_error[good]) ** 2)
    assert found.width_ratio[0] == pytest.approx(mean, abs=0.02)
    assert any("times as wide as a point source" in note for note in found.notes)


@pytest.mark.parametrize("error", [np.inf, np.nan, 0.0])
def test_widths_without_errors_have_no_mean(error: float) -> None:
    found = measure(made(300, 6).s2d(nod=1, subtract_nod=False).image)
    unknown = replace(found, fwhm_error=np.full_like(found.fwhm, error))
    assert np.isnan(unknown.width_ratio).all()
    assert measurement_dict(unknown)["width"] == {"ratio": None, "ratio_error": None}
    assert "width: nan times the expected one" in measurement_report(unknown)


@pytest.mark.parametrize("off", [0.4, 1.2])
def test_the_headers_position_is_compared(off: float) -> None:
    found = measure(made(30, 8, pointing_error=off * PIXEL_SCALE).s2d(nod=1).image)
    assert found.offset == pytest.approx(off, abs=0.02)
    assert found.agrees == (off < 0.5)
    notes = [note for note in found.notes if "from the header position" in note]
    assert len(notes) == (off > 0.5)
    assert ("DISAGREES" in found.report()) == (off > 0.5)
    strict = measure(made(30, 8, pointing_error=off * PIXEL_SCALE).s2d(nod=1).image, tolerance=0.1)
    assert not strict.agrees


def test_a_nan_at_the_peak_moves_nothing() -> None:
    simulated = made(30, 9, bad_fraction=0.0).s2d(nod=1)
    complete = measure(simulated.image)
    data = simulated.image.data.copy()
    data[100:300, round(complete.column)] = np.nan
    with_gap = measure(replace(simulated.image, data=data))
    assert abs(with_gap.column - simulated.truth.column[193]) < 4 * with_gap.column_error
    # The peak contains little information about the position.
    assert with_gap.column_error > 0.99 * complete.column_error


def test_the_shift_of_each_integration() -> None:
    shifts = np.random.default_rng(3).normal(0.0, 0.03, 16)
    shifts -= shifts.mean()
    images = [
        made(300, 100 + n, True, pointing_error=shift * PIXEL_SCALE, flat_error=0.0)
        .s2d(nod=1, subtract_nod=False, shape=SMALL)
        .image
        for n, shift in enumerate(shifts)
    ]
    names = ("data", "err", "var_poisson", "var_rnoise", "var_flat")
    planes = {name: np.stack([getattr(image, name) for image in images]) for name in names}
    found = measure(replace(images[0], kind="calints", **planes))
    assert found.shift is not None
    assert found.shift_error is not None
    pulls = (found.shift - shifts) / found.shift_error
    assert 0.6 < pulls.std() < 1.4
    assert np.corrcoef(found.shift, shifts)[0, 1] > 0.99
    assert measure(replace(images[0], kind="calints", **planes), integrations=False).shift is None


def test_a_stack_is_its_mean() -> None:
    simulated = made(30, 10).calints(6)
    found = measure(simulated.image)
    truth = simulated.truth.column
    assert [s.kind for s in found.sources] == ["target"]
    assert np.nanmax(np.abs(found.trace - truth)) < 6 * found.column_error + 1e-3
    assert found.expected is None
    assert "SLITLESS" in (found.why_not or "")
    assert found.shift is not None
    assert np.abs(found.shift / found.shift_error).max() < 4


def test_without_wcs_and_variances(make_image: Callable[..., SlitImage]) -> None:
    rng = np.random.default_rng(2)
    columns = np.arange(30)
    light = 40.0 * np.exp(-0.5 * ((columns - 14.3) / 1.4) ** 2)
    bare = make_image(
        (90, 30),
        data=rng.normal(10.0, 1.0, (90, 30)) + light,
        **dict.fromkeys(("err", "var_poisson", "var_rnoise", "var_flat")),
    )
    found = measure(bare)
    assert len(found.sources) == 1
    assert abs(found.column - 14.3) < 5 * found.column_error
    assert found.column_error < 0.02
    assert found.why_not is not None
    assert "not known" in found.report()


def test_correlated_noise_makes_errors_larger() -> None:
    """Resampling correlates the noise of neighbours, which the variances do not include."""
    image = made(30, 11, bad_fraction=0.0).s2d(nod=1, subtract_nod=False).image
    data = image.data.astype(float)
    mixed = 0.25 * (
        data + np.roll(data, 1, 0) + np.roll(data, 1, 1) + np.roll(data, (1, 1), (0, 1))
    )
    planes = {name: getattr(image, name) / 4 for name in ("var_poisson", "var_rnoise", "var_flat")}
    found = measure(replace(image, data=mixed, err=image.err / 2, **planes))
    # The noise of four pixels is the same: the sum of correlations is 4, its root 2.
    assert found.noise_factor == pytest.approx(2.0, abs=0.2)
    assert "times those of independent noise" in found.report()


def test_no_source_is_an_error(make_image: Callable[..., SlitImage]) -> None:
    with pytest.raises(SourceError, match="no source above 5 standard deviations in columns 0 to"):
        measure(make_image((90, 30)))


@pytest.mark.parametrize("seed", [2, 3])
def test_a_pattern_of_the_columns_is_no_source(seed: int) -> None:
    """As in real pixels of the sky, without a flat field. A faint source is still found."""
    pattern = 1.0 + 0.01 * np.random.default_rng(seed).normal(size=72)

    def sky(flux: float) -> SlitImage:
        scene = Scene(seed=seed, sources=(Source(flux=flux),))
        image = scene.calints(n_int=1).image.integration(0)
        return replace(image, data=image.data * pattern)

    with pytest.raises(SourceError, match="no source above 5 standard deviations"):
        measure(sky(1e-12))
    assert measure(sky(1e-5)).column == pytest.approx(35.64, abs=0.05)


def test_a_negative_trace_alone_is_an_error() -> None:
    image = made(30, 12).s2d(nod=1, subtract_nod=False).image
    with pytest.raises(SourceError, match="only negative traces"):
        measure(replace(image, data=-image.data))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bands": 0}, "bands is 0, expected a whole number of 1"),
        ({"max_sources": 1.5}, "max_sources is 1.5, expected"),
        ({"tolerance": -1.0}, "tolerance is -1.0, expected"),
        ({"pixel_scale": np.nan}, "pixel_scale is nan, expected"),
    ],
)
def test_parameters_are_checked(
    make_image: Callable[..., SlitImage], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(LRSError, match=message):
        measure(make_image(), **changes)


def test_an_image_without_data_is_an_error(make_image: Callable[..., SlitImage]) -> None:
    with pytest.raises(MeasurementError, match="5 columns hold data: 600 NaN in SCI of 600 pixels"):
        measure(make_image(data=np.full((30, 20), np.nan)))
    with pytest.raises(MeasurementError, match="0 rows and 0 columns have a wavelength"):
        measure(make_image(wavelength=np.full((30, 20), np.nan, dtype=np.float32)))


def test_report_table_and_json() -> None:
    found = measure(made(30, 13).s2d(nod=1).image)
    text = found.report()
    assert f"{found.column:.2f}" in text
    assert "negative" in text
    assert len(found.table) == found.bands.size
    assert found.table["fwhm"].unit == "arcsec"
    assert list(found.source_table["kind"]) == ["target", "negative"]
    stored = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert stored["sources"][0]["column"] == found.column
    assert stored["header"]["agrees"] is True
    assert len(stored["bands"]["fwhm"]) == found.bands.size
    assert "target at column 1" in repr(found)


def test_the_model_is_the_image(trials: dict[int, list[Trial]]) -> None:
    simulated = made(300, 14, background=3.0, bad_fraction=0.0).s2d(nod=1)
    found = measure(simulated.image)
    model = found.model()
    true = simulated.truth.data - simulated.truth.background
    inner = np.s_[1:-1, 1:-1]
    assert np.abs((model - true)[inner]).max() < 0.01 * np.nanmax(true)
    alone = found.model(found.target)
    assert alone.min() > -1e-3 * alone.max()
    np.testing.assert_allclose(model, alone + found.model(*found.others))


def test_apertures_from_a_measurement() -> None:
    simulated = made(30, 15, pointing_error=0.4 * PIXEL_SCALE).s2d(nod=1)
    found = measure(simulated.image)
    box = found.box(8.0)
    edges = Aperture.from_edges(found.column - 4.0, found.column + 4.0)
    assert box.src_coeff is not None
    assert edges.src_coeff is not None
    np.testing.assert_allclose(box.src_coeff, edges.src_coeff, rtol=1e-12)
    assert box == aperture_at_source(simulated.image, 8.0)
    flux = Extract1D(aperture=box).run(simulated.image).columns["FLUX"]
    assert np.nanmedian(flux) > 0.9 * np.nanmedian(simulated.truth.flux)
    tapered = found.tapered(3.0)
    assert tapered.independent_var == "wavelength"
    assert tapered.src_coeff is not None
    lower, upper = (np.polynomial.polynomial.polyval(10.0, e) for e in tapered.src_coeff)
    assert (lower + upper) / 2 == pytest.approx(found.column, abs=1e-3)
    assert upper - lower == pytest.approx(
        3.0 * found.width(10.0)[0] / PIXEL_SCALE, abs=0.5
    )  # a line
    regions = found.clear_regions()
    for low, high in regions:
        for source in found.sources:
            assert high < source.column - 4.0 or low > source.column + 4.0
    background = found.background(bkg_fit="median")
    assert background is not None
    assert background.bkg_fit == "median"


def test_along_a_curved_trace() -> None:
    simulated = made(30, 16).cal(nod=1, full_frame=False)
    aperture = aperture_at_source(simulated.image, 7.0)
    limits = aperture.regions(simulated.image.wavelength)[0]
    middle = np.broadcast_to((limits.lower + limits.upper) / 2, (387, 1))[:, 0]
    known = np.isfinite(simulated.truth.column)
    np.testing.assert_allclose(middle[known], simulated.truth.column[known], atol=0.01)
    tapered = measure(simulated.image).tapered()
    limits = tapered.regions(simulated.image.wavelength)[0]
    rows = np.flatnonzero(known)
    columns = np.round(simulated.truth.column[rows]).astype(int)
    middle = np.broadcast_to((limits.lower + limits.upper) / 2, simulated.image.shape)
    middle = middle[rows, columns]
    np.testing.assert_allclose(middle, simulated.truth.column[rows], atol=0.03)


# --- tapered apertures -------------------------------------------------------------------------

NOTEBOOK = ((5.0, 7.5, 10.0, 12.0), (0.29, 0.30, 0.36, 0.42))


def test_the_notebooks_tapered_aperture_is_one_call() -> None:
    aperture = Aperture.tapered(NOTEBOOK, 3, center=30.5)
    half = np.array([2.445618715370405, 0.2579519802996102])
    middle = np.array([30.5, 0.0])
    assert aperture.independent_var == "wavelength"
    np.testing.assert_allclose(aperture.src_coeff, [middle - half, middle + half], rtol=1e-13)
    waves = np.linspace(5.0, 14.0, 91)
    expected = Aperture.tapered((waves, expected_fwhm(waves)), center=30.5)
    default = Aperture.tapered(center=30.5)
    np.testing.assert_allclose(default.src_coeff, expected.src_coeff, rtol=0.01)


def test_tapered_follows_a_trace() -> None:
    wave = np.linspace(14.0, 4.0, 300)
    trace = 20.0 + 0.3 * np.sin(wave / 3.0)
    trace[:5] = np.nan
    aperture = Aperture.tapered(0.33, 2.0, center=trace, wavelength=wave, ystart=3)
    assert aperture.src_coeff is not None
    lower, upper = (np.polynomial.polynomial.polyval(wave, e) for e in aperture.src_coeff)
    np.testing.assert_allclose(((lower + upper) / 2)[5:], trace[5:], atol=0.01)
    np.testing.assert_allclose(upper - lower, 6.0, atol=1e-9)
    assert aperture.ystart == 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"n": 0.0}, "n is 0.0, expected a number greater than 0"),
        ({"order": -1}, "order is -1, expected a whole number"),
        ({"fwhm": ((5.0, 6.0), (0.3,))}, "2 wavelengths and 1 widths"),
        ({"fwhm": ((5.0, 6.0), (0.3, -0.3))}, "widths greater than 0"),
        ({"fwhm": "wide"}, "fwhm is 'wide', expected a number"),
        ({"center": np.zeros(3)}, "wavelength is missing"),
        ({"center": np.zeros(3), "wavelength": np.ones(4)}, "shape"),
        ({"center": "here"}, "center"),
    ],
)
def test_tapered_checks_its_parameters(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ReferenceFileError, match=message):
        Aperture.tapered(**{"center": 30.0} | values)


def test_a_width_at_the_source_is_checked(make_image: Callable[..., SlitImage]) -> None:
    with pytest.raises(ReferenceFileError, match=r"width is 0\.5, expected at least 1"):
        aperture_at_source(make_image(), 0.5)


def test_a_spectrum_of_two_axes_is_an_image() -> None:
    """A spectrum read with format="lrs-s2d" is equivalent to the image; others are errors."""
    image = made(30, 15).s2d(nod=1).image
    spectrum = image.to_spectrum()
    assert measure(spectrum).column == measure(image).column
    assert aperture_at_source(spectrum, 8.0) == aperture_at_source(image, 8.0)
    found, curve, _ = measure_with_growth(spectrum)
    assert found.column == measure(image).column
    np.testing.assert_array_equal(curve.widths, curve_of_growth(spectrum, found).widths)
    for call in (
        measure,
        measure_with_growth,
        OptimalExtractor().run,
        lambda x: aperture_at_source(x, 8.0),
    ):
        with pytest.raises(
            ProductError, match="the image is a int, expected a SlitImage or a Spectrum, or"
        ):
            call(3)  # type: ignore[operator]
